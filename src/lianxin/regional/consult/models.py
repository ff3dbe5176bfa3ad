"""Rows of consultations: what is asked, with which materials and consent, who is asked, what they say, what it costs.

State, owner and due time live in ``duty.Case``. The database holds what must never break: an opinion that was signed stands (a change is a
new version), one live host, a seat is an expert or a department, one consent, the shares of a fee never negative.
"""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.policy import Setting
from lianxin.regional.consult.outreach.models import Assignment as Assignment
from lianxin.regional.consult.outreach.models import Attendance as Attendance
from lianxin.regional.consult.outreach.models import Day as Day
from lianxin.regional.consult.outreach.models import Learning as Learning
from lianxin.regional.consult.outreach.models import Lesson as Lesson
from lianxin.regional.consult.outreach.models import Seen as Seen
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

MODES: dict[str, Text] = {
    "immediate": T("即时会诊", "Immediate"),
    "booked": T("预约会诊", "Booked"),
}
HOW: dict[str, Text] = {
    "signed": T("患者签署知情同意书", "Form signed by the patient"),
    "guardian": T("监护人或近亲属签署", "Form signed by a guardian or close relative"),
    "spoken": T("口头同意，有见证人", "Spoken, before a witness"),
    "emergency": T("抢救无法取得，负责人批准", "Emergency: not obtainable, approved by who is responsible"),
}
"""How the patient agreed. The last is 《民法典》 art. 1220: rescue when neither patient nor relatives can be asked."""
SEATS: dict[str, Text] = {
    "invited": T("已邀请", "Invited"),
    "accepted": T("已接受", "Accepted"),
    "given": T("已出具意见", "Opinion given"),
    "left": T("未参加", "Not taking part"),
}
MOST_SEATS, MOST_LIVE = 12, 6
SIDES: dict[str, Text] = {
    "requester": T("申请方", "Requester"),
    "expert": T("专家方", "Experts"),
}
SHARES: dict[str, Text] = {
    "expert": T("专家劳务", "Expert"),
    "institution": T("专家所在机构", "Expert's institution"),
    "requester": T("申请机构", "Requesting institution"),
    "desk": T("会诊中心", "Consultation desk"),
}


class Expert(models.Model):
    """Somebody (or a department's rota) who may be asked: specialty, fee, how many at a time, when.

    ``hours``: [[weekday 1–7, "08:00", "12:00"], …], empty: at any working time. ``outside``: of an upper hospital that is no member.
    """

    practitioner = models.ForeignKey("network.Practitioner", models.CASCADE, related_name="+")
    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    department = models.ForeignKey(
        "network.Department", models.SET_NULL, null=True, blank=True, related_name="+"
    )
    specialty = models.CharField(max_length=20, blank=True)
    good_at = models.CharField(max_length=200, blank=True)
    fee_fen = models.IntegerField(default=0)
    most_open = models.SmallIntegerField(default=3)
    hours = models.JSONField(default=list, blank=True)
    outside = models.BooleanField(default=False)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["practitioner", "institution"], name="consult_expert_once"),
            models.CheckConstraint(name="consult_expert_fee", condition=Q(fee_fen__gte=0, most_open__gte=1)),
        ]
        indexes = [
            models.Index(fields=["specialty"], condition=Q(active=True), name="consult_expert_specialty")
        ]

    def __str__(self) -> str:
        return f"{self.practitioner_id}@{self.institution_id}"

    @property
    def fee(self) -> Money:
        """What one consultation of theirs costs."""
        return Money(self.fee_fen)


class Consult(ScopedModel):
    """One consultation. ``back`` is where the case stood when more was asked for; times are the last time something happened.

    ``room`` is the unguessable name of the video room and ``room_until`` when its links end; both are empty without video.
    """

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="consult")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    requester = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    desk = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    account_id = models.BigIntegerField(null=True, blank=True)
    mode = models.CharField(max_length=10)
    specialty = models.CharField(max_length=20, blank=True)
    diagnosis_code = models.CharField(max_length=20, blank=True)
    diagnosis = models.CharField(max_length=120)
    history = models.TextField(blank=True)
    question = models.TextField()
    phone = models.CharField(max_length=40, blank=True)
    back = models.CharField(max_length=12, blank=True)
    scheduled_at = models.DateTimeField(null=True, blank=True)
    room = models.CharField(max_length=80, blank=True)
    room_until = models.DateTimeField(null=True, blank=True)
    fee_fen = models.IntegerField(default=0)
    missed = models.SmallIntegerField(default=0)
    action = models.CharField(max_length=20, blank=True)
    action_note = models.CharField(max_length=600, blank=True)
    live = models.BooleanField(default=True)
    requested_at = models.DateTimeField()
    assigned_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    begun_at = models.DateTimeField(null=True, blank=True)
    concluded_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("requester_id", "desk_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="consult_consult_mode", condition=Q(mode__in=list(MODES))),
            models.CheckConstraint(name="consult_consult_question", condition=~Q(question="") & ~Q(diagnosis="")),
            models.CheckConstraint(name="consult_consult_fee", condition=Q(fee_fen__gte=0)),
            models.CheckConstraint(name="consult_consult_room", condition=Q(room="") | Q(room_until__isnull=False)),
            models.UniqueConstraint(fields=["room"], condition=~Q(room=""), name="consult_consult_room_once"),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["person", "-requested_at"], name="consult_consult_person"),
            models.Index(fields=["requester", "-requested_at"], name="consult_consult_requester"),
            models.Index(fields=["desk", "-requested_at"], name="consult_consult_desk"),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    @property
    def number(self) -> str:
        """The case's number."""
        return str(self.case.number)

    @property
    def mode_label(self) -> Text:
        """Immediate or booked, in words."""
        return MODES[self.mode]

    @property
    def fee(self) -> Money:
        """What the consultation costs."""
        return Money(self.fee_fen)


class Seat(ScopedModel):
    """A place at the table: an expert, or a department whose doctor on duty takes it (``practitioner`` is set when somebody does).

    The part that its institution plays in the case is ``seat<number>``; the live host's also ``host``.
    """

    consult = models.ForeignKey(Consult, models.PROTECT, related_name="seats")
    number = models.SmallIntegerField()
    host = models.BooleanField(default=False)
    expert = models.ForeignKey(Expert, models.PROTECT, null=True, blank=True, related_name="seats")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    department = models.ForeignKey(
        "network.Department", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    state = models.CharField(max_length=10, default="invited")
    reason = models.CharField(max_length=300, blank=True)
    fee_fen = models.IntegerField(default=0)
    invited_at = models.DateTimeField()
    answered_at = models.DateTimeField(null=True, blank=True)

    scope_person = "consult__person_id"
    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["consult", "number"], name="consult_seat_once"),
            models.UniqueConstraint(fields=["consult"], condition=Q(host=True) & ~Q(state="left"), name="consult_seat_one_host"),
            models.UniqueConstraint(fields=["consult", "expert"], condition=~Q(state="left"), name="consult_seat_expert_once"),
            models.CheckConstraint(name="consult_seat_state", condition=Q(state__in=list(SEATS))),
            models.CheckConstraint(name="consult_seat_number", condition=Q(number__gte=1, number__lte=MOST_SEATS)),
            models.CheckConstraint(name="consult_seat_who", condition=Q(expert__isnull=False) | Q(department__isnull=False)),
            models.CheckConstraint(name="consult_seat_fee", condition=Q(fee_fen__gte=0)),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.consult_id} {self.number} {self.state}"

    @property
    def part(self) -> str:
        """The part its institution plays in the case."""
        return f"seat{self.number}"

    @property
    def state_label(self) -> Text:
        """Its state in words."""
        return SEATS[self.state]


class Material(ScopedModel):
    """Something of the person's record laid before the experts: a reference ("DiagnosticReport/…"), its title and source as chosen."""

    consult = models.ForeignKey(Consult, models.PROTECT, related_name="materials")
    ref = models.CharField(max_length=120)
    title = models.CharField(max_length=200)
    source = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField(null=True, blank=True)
    added_at = models.DateTimeField()
    account_id = models.BigIntegerField(null=True, blank=True)

    scope_person = "consult__person_id"

    class Meta:
        constraints = [models.UniqueConstraint(fields=["consult", "ref"], name="consult_material_once")]

    def __str__(self) -> str:
        return self.ref


class Agreed(ScopedModel):
    """The patient's consent to this consultation: who gave it, how, when, before whom. ``scan`` (the signed form) is sealed."""

    consult = models.OneToOneField(Consult, models.PROTECT, primary_key=True, related_name="agreed")
    how = models.CharField(max_length=10)
    given_by = models.CharField(max_length=80)
    relation = models.CharField(max_length=40, blank=True)
    witness = models.CharField(max_length=80, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    taken_by = models.CharField(max_length=80)
    account_id = models.BigIntegerField(null=True, blank=True)
    scan = models.BinaryField(null=True, blank=True)
    scan_type = models.CharField(max_length=40, blank=True)
    at = models.DateTimeField()

    scope_person = "consult__person_id"

    class Meta:
        constraints = [
            models.CheckConstraint(name="consult_agreed_how", condition=Q(how__in=list(HOW))),
            models.CheckConstraint(
                name="consult_agreed_proof",
                condition=Q(how="signed")
                | (Q(how="guardian") & ~Q(relation=""))
                | (Q(how="spoken") & ~Q(witness=""))
                | (Q(how="emergency") & ~Q(witness="") & ~Q(reason="")),
            ),
        ]
        triggers = [pgtrigger.Protect(name="kept", operation=pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.consult_id} {self.how}"

    @property
    def how_label(self) -> Text:
        """How, in words."""
        return HOW[self.how]


class Opinion(ScopedModel):
    """A signed opinion: of one seat, or (``seat`` null) the host's summary. Never changed: a correction is the next version, with its reason."""

    consult = models.ForeignKey(Consult, models.PROTECT, related_name="opinions")
    seat = models.ForeignKey(Seat, models.PROTECT, null=True, blank=True, related_name="opinions")
    version = models.SmallIntegerField()
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    author = models.CharField(max_length=80)
    account_id = models.BigIntegerField(null=True, blank=True)
    impression = models.TextField()
    advice = models.TextField()
    reason = models.CharField(max_length=300, blank=True)
    signed_at = models.DateTimeField()

    scope_person = "consult__person_id"
    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["consult", "seat", "version"], nulls_distinct=False, name="consult_opinion_version"),
            models.CheckConstraint(name="consult_opinion_words", condition=~Q(impression="") & ~Q(advice="")),
            models.CheckConstraint(name="consult_opinion_reason", condition=Q(version=1) | ~Q(reason="")),
        ]  # fmt: skip
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.consult_id} {self.seat_id or 'summary'} v{self.version}"


class Draft(ScopedModel):
    """What somebody has typed and not signed: theirs alone."""

    consult = models.ForeignKey(Consult, models.CASCADE, related_name="drafts")
    account_id = models.BigIntegerField()
    kind = models.CharField(max_length=8)
    content = models.JSONField(default=dict)
    saved_at = models.DateTimeField()

    scope_person = "consult__person_id"

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["consult", "account_id", "kind"], name="consult_draft_once"),
            models.CheckConstraint(name="consult_draft_kind", condition=Q(kind__in=["opinion", "summary"])),
        ]

    def __str__(self) -> str:
        return f"{self.consult_id} {self.kind}"


class Share(ScopedModel):
    """A part of a consultation's fee: who is to have it and by which rule. Written once, when the consultation is done."""

    consult = models.ForeignKey(Consult, models.PROTECT, related_name="shares")
    seat = models.ForeignKey(Seat, models.PROTECT, null=True, blank=True, related_name="+", db_index=False)
    kind = models.CharField(max_length=12)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    fen = models.IntegerField()
    rule = models.CharField(max_length=300)
    at = models.DateTimeField()

    scope_person = "consult__person_id"
    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["consult", "seat", "kind"], nulls_distinct=False, name="consult_share_once"),
            models.CheckConstraint(name="consult_share_kind", condition=Q(kind__in=list(SHARES))),
            models.CheckConstraint(name="consult_share_fen", condition=Q(fen__gte=0)),
        ]  # fmt: skip
        triggers = [pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.consult_id} {self.kind} {self.fen}"

    @property
    def kind_label(self) -> Text:
        """Which part, in words."""
        return SHARES[self.kind]

    @property
    def money(self) -> Money:
        """How much."""
        return Money(self.fen)


class Evaluation(ScopedModel):
    """How one side found the other: 1–5 with tags and a line; one for each side and institution."""

    consult = models.ForeignKey(Consult, models.PROTECT, related_name="evaluations")
    side = models.CharField(max_length=10)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    account_id = models.BigIntegerField(null=True, blank=True)
    score = models.SmallIntegerField()
    tags = ArrayField(models.CharField(max_length=20), default=list)
    note = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField()

    scope_person = "consult__person_id"
    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["consult", "side", "institution"], name="consult_evaluation_once"
            ),
            models.CheckConstraint(name="consult_evaluation_side", condition=Q(side__in=list(SIDES))),
            models.CheckConstraint(name="consult_evaluation_score", condition=Q(score__gte=1, score__lte=5)),
        ]

    def __str__(self) -> str:
        return f"{self.consult_id} {self.side} {self.score}"

    @property
    def side_label(self) -> Text:
        """Which side, in words."""
        return SIDES[self.side]


class Policy(Setting):
    """A setting of consultations or outreach from a day on: for everybody or one consortium, with the document it comes from."""
