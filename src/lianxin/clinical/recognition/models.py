"""Rows of mutual recognition: item groups, code maps, rules, quality assessments, recognisable results, decisions.

What may be recognised and by whom is data with effective dates and a source; a result is one narrow row that says where the result
itself is, never what it says. A decision is written once.
"""

from __future__ import annotations

import datetime as dt

import pgtrigger
from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.models import Named
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "ct": T("CT", "CT"),
    "mr": T("磁共振", "MRI"),
    "xray": T("X 线", "X-ray"),
    "ultrasound": T("超声", "Ultrasound"),
    "ecg": T("心电", "ECG"),
    "laboratory": T("检验", "Laboratory"),
}
SCOPES: dict[str, Text] = {
    "consortium": T("同一医共体（医联体）内", "Within one consortium"),
    "region": T("同一地区内", "Within one region"),
    "anywhere": T("不限地区", "Anywhere"),
}
LEVELS: dict[str, Text] = {
    "any": T("各级互认", "All levels"),
    "same": T("同级互认", "Same level"),
    "higher": T("同级互认，下级认上级", "Same level; lower recognises higher"),
}
MARKS: dict[str, Text] = {
    "national": T("全国", "National"),
    "province": T("省（自治区、直辖市）", "Province"),
    "city": T("市（州）", "Prefecture"),
    "county": T("县（市、区）", "County"),
    "consortium": T("医共体（医联体）", "Consortium"),
}
"""How far a mark reaches, widest first."""
VERDICTS: dict[str, Text] = {"recognised": T("采用", "Recognised"), "refused": T("未采用", "Not recognised")}
LIVE = "live"
WITHDRAWN = "withdrawn"


def in_force(day: dt.date, start: str = "effective_from", end: str = "effective_until") -> Q:
    """Condition "the row holds on ``day``" (the end day itself no longer)."""
    return Q(**{f"{start}__lte": day}) & (Q(**{f"{end}__isnull": True}) | Q(**{f"{end}__gt": day}))


def _period(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(
        name=name, condition=Q(effective_until__isnull=True) | Q(effective_until__gt=F("effective_from"))
    )


class Group(Named):
    """An item group: what counts as the same examination or test everywhere. ``covers`` are codes of groups that a result of this group
    also answers (a panel answers its analytes); ``price_fen`` is what a repetition avoided saves."""

    code = models.CharField(max_length=40, unique=True)
    kind = models.CharField(max_length=12)
    modality = models.CharField(max_length=16)
    price_fen = models.IntegerField(default=0)
    covers = models.JSONField(default=list, blank=True)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="recognition_group_kind", condition=Q(kind__in=list(KINDS))),
            models.CheckConstraint(name="recognition_group_price", condition=Q(price_fen__gte=0)),
        ]
        ordering = ["kind", "code"]

    @property
    def price(self) -> Money:
        """What a repetition costs."""
        return Money(self.price_fen)

    @property
    def kind_label(self) -> Text:
        """The kind in words."""
        return KINDS[self.kind]


class Term(models.Model):
    """How long a result of a group may stand for a new one, from a day on, for everybody or one consortium."""

    group = models.ForeignKey(Group, models.CASCADE, related_name="terms")
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    valid_days = models.SmallIntegerField()
    effective_from = models.DateField()
    source = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["group", "consortium", "effective_from"], nulls_distinct=False, name="recognition_term_once"
            ),
            models.CheckConstraint(name="recognition_term_days", condition=Q(valid_days__gte=1, valid_days__lte=3650)),
            models.CheckConstraint(name="recognition_term_sourced", condition=~Q(source="")),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.group_id}: {self.valid_days}"


class Code(models.Model):
    """A code by which results or orders of a group are known: LOINC, the platform's items, a hospital's own (``institution``)."""

    system = models.CharField(max_length=120)
    code = models.CharField(max_length=60)
    institution = models.ForeignKey(
        "network.Institution", models.CASCADE, null=True, blank=True, related_name="+"
    )
    group = models.ForeignKey(Group, models.CASCADE, related_name="codes")
    source = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["system", "code", "institution"], nulls_distinct=False, name="recognition_code_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.system}|{self.code}"


class Rule(models.Model):
    """Who recognises whose results. Of the rules in force that fit a result the one of lowest ``rank`` decides.

    ``consortium`` null: everybody's. ``kind`` or ``group`` narrow it to some items. ``region``: division prefix ("33", "3310") both ends
    lie in (scope region). ``marked``: only results with a mark that holds at the receiver. ``must``: a result with such a mark may only
    be refused with a reason; else refusing is free of it. ``allows`` False: such results are not recognised.
    """

    name = models.CharField(max_length=120)
    name_en = models.CharField(max_length=160, blank=True)
    rank = models.SmallIntegerField(default=100)
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    kind = models.CharField(max_length=12, blank=True)
    group = models.ForeignKey(Group, models.CASCADE, null=True, blank=True, related_name="+")
    scope = models.CharField(max_length=12)
    region = models.CharField(max_length=6, blank=True)
    level = models.CharField(max_length=8, default="any")
    marked = models.BooleanField(default=False)
    must = models.BooleanField(default=True)
    allows = models.BooleanField(default=True)
    effective_from = models.DateField()
    effective_until = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.CheckConstraint(name="recognition_rule_scope", condition=Q(scope__in=list(SCOPES))),
            models.CheckConstraint(name="recognition_rule_level", condition=Q(level__in=list(LEVELS))),
            models.CheckConstraint(name="recognition_rule_kind", condition=Q(kind__in=["", *KINDS])),
            models.CheckConstraint(
                name="recognition_rule_region",
                condition=~Q(scope="region") | Q(region__regex=r"^[0-9]{2}([0-9]{2}){0,2}$"),
            ),
            models.CheckConstraint(name="recognition_rule_sourced", condition=~Q(source="")),
            _period("recognition_rule_period"),
        ]
        ordering = ["rank", "pk"]

    def __str__(self) -> str:
        return self.name

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)

    @property
    def scope_label(self) -> Text:
        """How far it reaches, in words."""
        return SCOPES[self.scope]

    @property
    def level_label(self) -> Text:
        """Its level condition, in words."""
        return LEVELS[self.level]


class Assessment(models.Model):
    """An external quality assessment: an institution took part for a group (or a whole kind) and passed or failed. Only a pass gives a mark.

    ``reach`` is how far the mark holds, ``region`` the division it names ("" for national and consortium marks).
    """

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    group = models.ForeignKey(Group, models.CASCADE, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=12, blank=True)
    year = models.SmallIntegerField()
    organiser = models.CharField(max_length=120)
    reach = models.CharField(max_length=12)
    region = models.CharField(max_length=6, blank=True)
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    passed = models.BooleanField()
    effective_from = models.DateField()
    effective_until = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.CheckConstraint(name="recognition_assessment_reach", condition=Q(reach__in=list(MARKS))),
            models.CheckConstraint(
                name="recognition_assessment_what",
                condition=Q(group__isnull=False, kind="") | Q(group__isnull=True, kind__in=list(KINDS)),
            ),
            models.CheckConstraint(
                name="recognition_assessment_where",
                condition=Q(reach="national", region="", consortium=None)
                | Q(reach="consortium", region="", consortium__isnull=False)
                | (Q(reach__in=["province", "city", "county"], consortium=None) & Q(region__regex=r"^[0-9]{6}$")),
            ),
            models.CheckConstraint(name="recognition_assessment_sourced", condition=~Q(source="") & ~Q(organiser="")),
            models.UniqueConstraint(
                fields=["institution", "group", "kind", "year", "reach", "organiser"], nulls_distinct=False,
                name="recognition_assessment_once",
            ),
            _period("recognition_assessment_period"),
        ]  # fmt: skip
        indexes = [models.Index(fields=["institution", "group"], name="recognition_assess_who")]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.group_id or self.kind} {self.year}"

    @property
    def reach_label(self) -> Text:
        """How far its mark holds, in words."""
        return MARKS[self.reach]


class Result(ScopedModel):
    """One recognisable result: whose, of which group, made where and when, where it is kept (``ref``), under which mark.

    ``ref`` is "DiagnosticReport/…" (or Observation, ImagingStudy) in the record; ``key`` its hash. How long it stands is the group's
    term on the day of the question, so that a new term needs no row rewritten.
    """

    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    group = models.ForeignKey(Group, models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    at = models.DateTimeField()
    key = models.BigIntegerField()
    assessment = models.ForeignKey(
        Assessment, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False
    )
    state = models.CharField(max_length=9, default=LIVE)
    quality = models.CharField(max_length=8, blank=True)
    ref = models.CharField(max_length=90)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="recognition_result_state", condition=Q(state__in=[LIVE, WITHDRAWN])),
            models.CheckConstraint(
                name="recognition_result_quality", condition=Q(quality__in=["", "limited"])
            ),
            models.UniqueConstraint(fields=["key", "group"], name="recognition_result_once"),
        ]
        indexes = [
            models.Index(
                fields=["person", "group", "-at"], condition=Q(state="live"), name="recognition_result_find"
            )
        ]

    def __str__(self) -> str:
        return self.ref


class Decision(ScopedModel):
    """What a doctor decided about a recognisable result at order time. Written once; ``key`` names the request.

    ``order`` is what was being ordered (requisition or the CDS client's order), ``number`` the work that was opened in spite of it.
    ``counted`` False: the reason is none of a refusal (98, 99), or the result was one's own. ``explanation`` is what the patient is told.
    """

    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    doctor = models.CharField(max_length=80, blank=True)
    result = models.ForeignKey(Result, models.PROTECT, related_name="decisions")
    made_by = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    made_at = models.DateTimeField()
    group = models.ForeignKey(Group, models.PROTECT, related_name="+", db_index=False)
    item = models.CharField(max_length=60)
    verdict = models.CharField(max_length=10)
    reason = models.CharField(max_length=2, blank=True)
    text = models.CharField(max_length=300, blank=True)
    explanation = models.CharField(max_length=600, blank=True)
    must = models.BooleanField(default=False)
    counted = models.BooleanField(default=True)
    own = models.BooleanField(default=False)
    mark = models.CharField(max_length=60, blank=True)
    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False)
    price_fen = models.IntegerField(default=0)
    order = models.CharField(max_length=80)
    number = models.CharField(max_length=40, blank=True)
    door = models.CharField(max_length=8)
    at = models.DateTimeField()
    key = models.CharField(max_length=160, unique=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="recognition_decision_verdict", condition=Q(verdict__in=list(VERDICTS))),
            models.CheckConstraint(
                name="recognition_decision_reason",
                condition=Q(verdict="recognised", reason="") | (Q(verdict="refused") & (~Q(reason="") | Q(must=False))),
            ),
            models.CheckConstraint(name="recognition_decision_door", condition=Q(door__in=["page", "cds", "fhir", "v2"])),
            models.CheckConstraint(name="recognition_decision_price", condition=Q(price_fen__gte=0)),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["institution", "at"], name="recognition_decision_when"),
            models.Index(fields=["order"], name="recognition_decision_order"),
        ]
        triggers = [
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="written_once",
                operation=pgtrigger.Update,
                condition=pgtrigger.Q(old__verdict__df=pgtrigger.F("new__verdict"))
                | pgtrigger.Q(old__reason__df=pgtrigger.F("new__reason"))
                | pgtrigger.Q(old__result_id__df=pgtrigger.F("new__result_id"))
                | pgtrigger.Q(old__price_fen__df=pgtrigger.F("new__price_fen"))
                | pgtrigger.Q(old__at__df=pgtrigger.F("new__at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.order} {self.verdict}"

    @property
    def verdict_label(self) -> Text:
        """The decision in words."""
        return VERDICTS[self.verdict]

    @property
    def price(self) -> Money:
        """What the examination costs."""
        return Money(self.price_fen)


class Follow(models.Model):
    """How far the record's log has been read (one row)."""

    rid = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.rid)


class Card(ScopedModel):
    """A CDS Hooks card that was shown, kept so that feedback knows what it is about; tidied away after a while."""

    uuid = models.UUIDField(unique=True)
    person = models.ForeignKey("index.Person", models.CASCADE, related_name="+")
    client_id = models.BigIntegerField()
    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+", db_index=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.CASCADE, null=True, blank=True, related_name="+", db_index=False
    )
    result = models.ForeignKey(Result, models.CASCADE, related_name="+", db_index=False)
    group = models.ForeignKey(Group, models.CASCADE, related_name="+", db_index=False)
    rule = models.ForeignKey(Rule, models.SET_NULL, null=True, blank=True, related_name="+", db_index=False)
    mark = models.CharField(max_length=60, blank=True)
    must = models.BooleanField()
    own = models.BooleanField()
    order = models.CharField(max_length=80)
    service = models.CharField(max_length=40)
    suggestion = models.UUIDField()
    at = models.DateTimeField(db_index=True)

    scope_institutions = ("institution_id",)

    def __str__(self) -> str:
        return str(self.uuid)
