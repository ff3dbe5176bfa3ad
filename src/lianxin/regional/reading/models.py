"""Rows of reading work: what can be ordered, one piece of work beside its case, the queue in front of readers, reports by version.

State, version, owner and due time live in ``duty.Case``. The database holds what must never break: one open seat of a kind per piece of
work, a claimed seat has its holder, token and lease, a signed report never changes, one live report version per seat.
"""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.policy import Setting
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

CENTRES: dict[str, Text] = {
    "imaging": T("影像", "Imaging"),
    "ecg": T("心电", "ECG"),
    "laboratory": T("检验", "Laboratory"),
    "pathology": T("病理", "Pathology"),
}
SEATS: dict[str, Text] = {
    "first": T("初读", "First reading"),
    "approve": T("审核", "Approval"),
    "second": T("双读", "Second reading"),
    "arbitrate": T("仲裁", "Arbitration"),
}
"""Chairs of one piece of work: who writes, who approves a junior's report, who reads blind a second time, who decides between two."""
ENTRY_STATES = ("waiting", "claimed", "done", "withdrawn")
OPEN_ENTRIES = ("waiting", "claimed")
RANKS = {"emergency": 0, "urgent": 1, "routine": 2}
SCORES: dict[str, Text] = {
    "1": T("一致", "Concur"),
    "2a": T("可理解的漏误，无临床意义", "Understandable miss, not significant"),
    "2b": T("可理解的漏误，有临床意义", "Understandable miss, significant"),
    "3a": T("多数情况应当发现，无临床意义", "Should be made most times, not significant"),
    "3b": T("多数情况应当发现，有临床意义", "Should be made most times, significant"),
}
"""RADPEER scores (American College of Radiology, 2016)."""
ARBITRATED = ("2b", "3a", "3b")


class Item(models.Model):
    """Something that can be ordered: an examination, a recording, a panel of tests, a pathology service.

    ``group`` is the code of the group within which results are recognised between institutions ("": none). ``double_read``: every such
    study is read twice. An imaging item that can be booked has the code of its ``pool.ExamItem``.
    """

    code = models.CharField(max_length=40, unique=True)
    centre = models.CharField(max_length=12)
    modality = models.CharField(max_length=16)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    body_part = models.CharField(max_length=40, blank=True)
    specimen = models.CharField(max_length=40, blank=True)
    loinc = models.CharField(max_length=20, blank=True)
    group = models.CharField(max_length=40, blank=True)
    fee_fen = models.IntegerField(default=0)
    double_read = models.BooleanField(default=False)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="reading_item_centre", condition=Q(centre__in=list(CENTRES))),
            models.CheckConstraint(name="reading_item_fee", condition=Q(fee_fen__gte=0)),
        ]
        indexes = [models.Index(fields=["group"], name="reading_item_group")]

    def __str__(self) -> str:
        return self.code

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)

    @property
    def fee(self) -> Money:
        """What it costs."""
        return Money(self.fee_fen)


class Reading(ScopedModel):
    """One piece of work of a shared centre: ordered for a person here, acquired there, read at the centre.

    ``orderer`` asks, ``performer`` acquires (images, recording, specimen), ``centre_of`` is the institution that reads. ``origin`` is the
    township (or hospital) that the fairness between members counts. ``accession`` is DICOM's accession number and the bar code of a
    specimen. Times are the first time something happened, but ``claimed_at`` and ``signed_at``, which follow the last signed report.
    ``double`` says why the study is read twice.
    """

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="reading")
    requisition = models.CharField(max_length=32, db_index=True)
    accession = models.CharField(max_length=16, unique=True)
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    centre = models.CharField(max_length=12)
    modality = models.CharField(max_length=16)
    orderer = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    performer = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    centre_of = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    origin = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    account_id = models.BigIntegerField(null=True, blank=True)
    diagnosis_code = models.CharField(max_length=20, blank=True)
    diagnosis = models.CharField(max_length=120, blank=True)
    indication = models.CharField(max_length=600, blank=True)
    source = models.CharField(max_length=10, default="staff")
    study_uid = models.CharField(max_length=64, blank=True)
    device = models.CharField(max_length=60, blank=True)
    facts = models.JSONField(default=dict)
    double = models.CharField(max_length=12, blank=True)
    retakes = models.IntegerField(default=0)
    live = models.BooleanField(default=True)
    ordered_at = models.DateTimeField()
    checked_in_at = models.DateTimeField(null=True, blank=True)
    acquired_at = models.DateTimeField(null=True, blank=True)
    queued_at = models.DateTimeField(null=True, blank=True)
    claimed_at = models.DateTimeField(null=True, blank=True)
    signed_at = models.DateTimeField(null=True, blank=True)
    issued_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    report_due_at = models.DateTimeField()

    scope_institutions = ("orderer_id", "performer_id", "centre_of_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="reading_reading_centre", condition=Q(centre__in=list(CENTRES))),
            models.CheckConstraint(
                name="reading_reading_double",
                condition=Q(double__in=["", "selected", "random", "new_reader"]),
            ),
            models.UniqueConstraint(
                fields=["study_uid"], condition=~Q(study_uid=""), name="reading_reading_study"
            ),
        ]
        indexes = [
            models.Index(fields=["person", "-ordered_at"], name="reading_reading_person"),
            models.Index(fields=["performer", "centre"], condition=Q(live=True), name="reading_reading_performer"),
            models.Index(fields=["centre_of", "centre"], condition=Q(live=True), name="reading_reading_centre_live"),
            models.Index(fields=["orderer", "-ordered_at"], name="reading_reading_orderer"),
            models.Index(fields=["centre_of", "centre", "issued_at"], name="reading_reading_issued"),
            models.Index(fields=["centre_of", "centre", "ordered_at"], name="reading_reading_asked"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.accession

    @property
    def number(self) -> str:
        """The case's number."""
        return self.case.number


class Ordered(models.Model):
    """An item of a piece of work (a specimen may carry several panels). ``active`` False: taken off before it was done."""

    reading = models.ForeignKey(Reading, models.PROTECT, related_name="ordered")
    item = models.ForeignKey(Item, models.PROTECT, related_name="+")
    fee_fen = models.IntegerField()
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reading", "item"], name="reading_ordered_once"),
            models.CheckConstraint(name="reading_ordered_fee", condition=Q(fee_fen__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.reading_id} {self.item_id}"


class Entry(ScopedModel):
    """A seat of a piece of work in the queue of its centre. Order: ``rank``, then ``round``, then ``due_at``, then id.

    ``round`` is the round of deficit round robin in which it is its origin's turn (see ``fairness``). ``excluded`` are accounts that may
    not sit here (a blind second reader has not seen the first); ``only`` is the expert it was handed to. A claim is a lease: ``token`` is
    DICOM's Transaction UID on the wire, and after ``lease_until`` the seat may be taken by anybody again.
    """

    reading = models.ForeignKey(Reading, models.PROTECT, related_name="entries")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    centre = models.CharField(max_length=12)
    modality = models.CharField(max_length=16)
    seat = models.CharField(max_length=10)
    rank = models.SmallIntegerField()
    round = models.BigIntegerField()
    due_at = models.DateTimeField()
    origin = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    state = models.CharField(max_length=10, default="waiting")
    excluded = ArrayField(models.BigIntegerField(), default=list)
    only = models.BigIntegerField(null=True, blank=True)
    account_id = models.BigIntegerField(null=True, blank=True)
    token = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    entered_at = models.DateTimeField()
    claimed_at = models.DateTimeField(null=True, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="reading_entry_state", condition=Q(state__in=ENTRY_STATES)),
            models.CheckConstraint(name="reading_entry_seat", condition=Q(seat__in=list(SEATS))),
            models.CheckConstraint(
                name="reading_entry_claim",
                condition=Q(
                    state="claimed", account_id__isnull=False, token__isnull=False, lease_until__isnull=False
                )
                | (~Q(state="claimed") & Q(token__isnull=True, lease_until__isnull=True)),
            ),
            models.UniqueConstraint(
                fields=["reading", "seat"], condition=Q(state__in=OPEN_ENTRIES), name="reading_entry_one_open"
            ),
        ]
        indexes = [
            models.Index(fields=["institution", "centre", "rank", "round", "due_at", "id"], condition=Q(state="waiting"), name="reading_entry_queue"),
            models.Index(fields=["account_id"], condition=Q(state="claimed"), name="reading_entry_mine"),
            models.Index(fields=["lease_until"], condition=Q(state="claimed"), name="reading_entry_lease"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.reading_id} {self.seat} {self.state}"


class ClaimEvent(models.Model):
    """What happened to a seat: claimed, renewed after a lapse, given back, lapsed, handed over, done. Never changed."""

    entry_id = models.BigIntegerField(db_index=True)
    at = models.DateTimeField()
    what = models.CharField(max_length=10)
    account_id = models.BigIntegerField(null=True, blank=True)
    to_account_id = models.BigIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        triggers = [
            pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.entry_id} {self.what}"


class Turn(models.Model):
    """Where deficit round robin stands in one queue (institution, centre, rank): ``round`` now being served, and by origin below."""

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    centre = models.CharField(max_length=12)
    rank = models.SmallIntegerField()
    round = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "centre", "rank"], name="reading_turn_once")
        ]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.centre} {self.rank}: {self.round}"


class Deficit(models.Model):
    """How much work an origin has put into which round of one queue."""

    turn = models.ForeignKey(Turn, models.CASCADE, related_name="deficits")
    origin = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    round = models.BigIntegerField()
    used = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["turn", "origin"], name="reading_deficit_once"),
            models.CheckConstraint(name="reading_deficit_used", condition=Q(used__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.turn_id} {self.origin_id}: {self.round}"


class Report(ScopedModel):
    """A report by version: ``findings`` (what is seen) and ``conclusion`` (what the physician makes of it) are kept apart, as the rules of
    mutual recognition ask (《医疗机构检查检验结果互认管理办法》 2022, art. 2).

    A draft is its author's and is saved while typing; signed it never changes: an amendment is a new version that names its reason.
    ``structured`` holds the template's fields, ``measurements`` and ``key_images`` what was measured and marked in the viewer.
    ``completed_at`` is when a blind second reader said their own report is whole: from then on it stands and the first is shown to them.
    """

    reading = models.ForeignKey(Reading, models.PROTECT, related_name="reports")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    seat = models.CharField(max_length=10)
    version = models.IntegerField()
    state = models.CharField(max_length=10, default="draft")
    account_id = models.BigIntegerField()
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    approver = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    template = models.CharField(max_length=40, blank=True)
    findings = models.TextField(blank=True)
    conclusion = models.TextField(blank=True)
    structured = models.JSONField(default=dict)
    measurements = models.JSONField(default=list)
    key_images = models.JSONField(default=list)
    positive = models.BooleanField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    saved_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)
    signed_at = models.DateTimeField(null=True, blank=True)

    scope_person = "reading__person_id"
    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="reading_report_state", condition=Q(state__in=["draft", "proposed", "signed", "dropped"])
            ),
            models.CheckConstraint(
                name="reading_report_signed",
                condition=~Q(state="signed") | (Q(signed_at__isnull=False) & ~Q(conclusion="")),
            ),
            models.UniqueConstraint(fields=["reading", "seat", "version"], name="reading_report_version"),
            models.UniqueConstraint(
                fields=["reading", "seat"], condition=Q(state__in=["draft", "proposed"]), name="reading_report_one_draft"
            ),
        ]  # fmt: skip
        triggers = [
            pgtrigger.Protect(name="signed_stands", operation=pgtrigger.Update, condition=pgtrigger.Q(old__state="signed")),
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.reading_id} {self.seat} v{self.version}"


class Review(ScopedModel):
    """Two readings of one study compared: the RADPEER score, and what an arbiter decided when they differ in what matters."""

    reading = models.OneToOneField(Reading, models.PROTECT, primary_key=True, related_name="review")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    first = models.ForeignKey(Report, models.PROTECT, related_name="+", db_index=False)
    second = models.ForeignKey(Report, models.PROTECT, related_name="+", db_index=False)
    score = models.CharField(max_length=2)
    note = models.CharField(max_length=600, blank=True)
    arbiter_id = models.BigIntegerField(null=True, blank=True)
    decided = models.CharField(max_length=8, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    at = models.DateTimeField()

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="reading_review_score", condition=Q(score__in=list(SCORES))),
            models.CheckConstraint(name="reading_review_two", condition=~Q(first=F("second"))),
            models.CheckConstraint(
                name="reading_review_decided", condition=Q(decided__in=["", "first", "second", "own"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.reading_id} {self.score}"


class Amendment(ScopedModel):
    """A report that was amended after whoever asked had acknowledged it: its own small case, until they have looked again.

    One open case per piece of work: what is amended meanwhile is another version of the same case.
    """

    case = models.OneToOneField(
        "duty.Case", models.PROTECT, primary_key=True, related_name="report_amendment"
    )
    reading = models.ForeignKey(Reading, models.PROTECT, related_name="amendments")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    orderer = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    centre_of = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    report = models.ForeignKey(Report, models.PROTECT, related_name="+", db_index=False)
    live = models.BooleanField(default=True)
    at = models.DateTimeField()

    scope_institutions = ("orderer_id", "centre_of_id")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["reading"], condition=Q(live=True), name="reading_amendment_one_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.reading_id} {self.at:%Y-%m-%d}"


class Reader(models.Model):
    """Somebody who reads at a centre: which modalities, how many at a time, whether what they write needs approval.

    ``open_now`` counts the seats they hold now; the claim is conditional on it (see ``queue``).
    ``new``: every study of theirs is read twice until they concur often enough (counted from ``new_since``). ``expert``: hard studies may
    be handed to them.
    """

    account = models.ForeignKey("access.Account", models.CASCADE, related_name="+")
    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    centre = models.CharField(max_length=12)
    modalities = ArrayField(models.CharField(max_length=16), default=list)
    most_open = models.SmallIntegerField(default=3)
    open_now = models.SmallIntegerField(default=0)
    signs = models.BooleanField(default=True)
    approves = models.BooleanField(default=False)
    expert = models.BooleanField(default=False)
    new = models.BooleanField(default=False)
    new_since = models.DateTimeField(null=True, blank=True)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "institution", "centre"], name="reading_reader_once"),
            models.CheckConstraint(
                name="reading_reader_open", condition=Q(most_open__gte=1, open_now__gte=0)
            ),
            models.CheckConstraint(name="reading_reader_centre", condition=Q(centre__in=list(CENTRES))),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} {self.centre}"


class Shift(models.Model):
    """Who is on duty at a centre from when to when; ``kind`` read, approve or oncall."""

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    centre = models.CharField(max_length=12)
    account = models.ForeignKey("access.Account", models.CASCADE, related_name="+")
    kind = models.CharField(max_length=8, default="read")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="reading_shift_lasts", condition=Q(ends_at__gt=F("starts_at"))),
            models.CheckConstraint(
                name="reading_shift_kind", condition=Q(kind__in=["read", "approve", "oncall"])
            ),
            models.UniqueConstraint(
                fields=["account", "centre", "kind", "starts_at"], name="reading_shift_once"
            ),
            ExclusionConstraint(
                name="reading_shift_apart",
                expressions=[
                    ("account", "="),
                    ("centre", "="),
                    ("kind", "="),
                    (Func(F("starts_at"), F("ends_at"), function="tstzrange"), RangeOperators.OVERLAPS),
                ],
            ),
        ]
        indexes = [models.Index(fields=["institution", "centre", "starts_at"], name="reading_shift_when")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.starts_at:%Y-%m-%d %H:%M}"


class Template(models.Model):
    """A report template of a centre (``account`` null) or of one reader: text of both parts and the structured fields it asks for."""

    code = models.CharField(max_length=40)
    institution = models.ForeignKey(
        "network.Institution", models.CASCADE, null=True, blank=True, related_name="+"
    )
    account = models.ForeignKey("access.Account", models.CASCADE, null=True, blank=True, related_name="+")
    centre = models.CharField(max_length=12)
    modality = models.CharField(max_length=16, blank=True)
    body_part = models.CharField(max_length=40, blank=True)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    findings = models.TextField(blank=True)
    conclusion = models.TextField(blank=True)
    fields = models.JSONField(default=list)
    phrases = models.JSONField(default=list)
    positive = models.BooleanField(default=False)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["code", "institution", "account"], nulls_distinct=False, name="reading_template_once"
            )
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)


class Policy(Setting):
    """A setting of the centres from a day on: for everybody or one consortium, with the document it comes from."""
