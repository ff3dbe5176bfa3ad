"""Rows of sterile supply: kinds of set, sets with their turns through the centre, loads of a steriliser, what was opened on whom, recalls.

A set's state changes by one conditional statement (``scan``) and never by saving a row; the database refuses states that lack what they
need: nothing is sterilised without a load, nothing released without an expiry, no load released whose indicators did not pass.
"""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.duty.models import APPEND_ONLY
from lianxin.network.policy import Setting
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

STATES: dict[str, Text] = {
    "used": T("使用后待回收", "Used"),
    "received": T("已回收", "Received"),
    "washed": T("已清洗", "Washed"),
    "inspected": T("已检查", "Inspected"),
    "packed": T("已包装", "Packed"),
    "sterilised": T("已灭菌待放行", "Sterilised, not released"),
    "released": T("已放行", "Released"),
    "sent": T("运送中", "On its way"),
    "stored": T("在库可用", "In store"),
    "opened": T("已开包使用", "Opened"),
    "recalled": T("已召回", "Recalled"),
    "lost": T("遗失", "Lost"),
}
LOADED = ("sterilised", "released", "sent", "stored", "opened", "recalled")
DATED = ("released", "sent", "stored", "opened")
LOAD_STATES: dict[str, Text] = {
    "running": T("灭菌中", "Running"),
    "waiting": T("待判读", "Waiting for indicators"),
    "released": T("已放行", "Released"),
    "emergency": T("紧急放行，待生物监测", "Emergency release, BI pending"),
    "failed": T("不合格", "Failed"),
}
INDICATORS: dict[str, Text] = {
    "physical": T("物理监测", "Physical record"),
    "chemical": T("化学监测（包外、PCD）", "Chemical indicator"),
    "biological": T("生物监测", "Biological indicator"),
}
RECALL_KINDS: dict[str, Text] = {
    "load": T("按灭菌批次", "By load"),
    "set": T("按器械包", "By set"),
    "period": T("按灭菌器与时段", "By steriliser and period"),
}


class SetType(models.Model):
    """A kind of set: what is in it, whether an implant is (then only after the biological indicator), what one turn costs."""

    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    contents = models.JSONField(default=list)
    implant = models.BooleanField(default=False)
    cost_fen = models.IntegerField(default=0)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [models.CheckConstraint(name="sterile_settype_cost", condition=Q(cost_fen__gte=0))]
        ordering = ["code"]

    def __str__(self) -> str:
        return self.code

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)

    @property
    def cost(self) -> Money:
        """What one turn through the centre costs."""
        return Money(self.cost_fen)

    @property
    def pieces(self) -> int:
        """How many instruments are in it."""
        return sum(int(line["count"]) for line in self.contents)


class Steriliser(models.Model):
    """A steriliser of a centre; ``bowie_dick``: a pre-vacuum steam one, tested with an empty Bowie-Dick cycle before each day's first load."""

    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    code = models.CharField(max_length=20)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    programs = models.JSONField(default=list)
    bowie_dick = models.BooleanField(default=True)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "code"], name="sterile_steriliser_once")
        ]
        ordering = ["institution_id", "code"]

    def __str__(self) -> str:
        return self.code

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)


class Load(models.Model):
    """One cycle of a steriliser with its record. Indicators are null until read; ``kind`` "bowie_dick" is the day's test, without sets."""

    number = models.CharField(max_length=32, unique=True)
    key = models.CharField(max_length=120, unique=True)
    steriliser = models.ForeignKey(Steriliser, models.PROTECT, related_name="loads")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=10, default="load")
    program = models.CharField(max_length=40)
    parameters = models.JSONField(default=dict)
    state = models.CharField(max_length=10, default="running")
    implant = models.BooleanField(default=False)
    physical = models.BooleanField(null=True, blank=True)
    chemical = models.BooleanField(null=True, blank=True)
    biological = models.BooleanField(null=True, blank=True)
    day = models.DateField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    judged_at = models.DateTimeField(null=True, blank=True)
    judged_by = models.CharField(max_length=80, blank=True)
    biological_at = models.DateTimeField(null=True, blank=True)
    emergency_reason = models.CharField(max_length=300, blank=True)
    failure = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=80)

    class Meta:
        constraints = [
            models.CheckConstraint(name="sterile_load_state", condition=Q(state__in=list(LOAD_STATES))),
            models.CheckConstraint(name="sterile_load_kind", condition=Q(kind__in=["load", "bowie_dick"])),
            models.CheckConstraint(
                name="sterile_load_released_only_when_passed",
                condition=~Q(state="released")
                | (
                    Q(chemical=True)
                    & (Q(kind="bowie_dick") | Q(physical=True))
                    & (Q(implant=False) | Q(biological=True))
                    & (Q(biological__isnull=True) | Q(biological=True))
                ),
            ),
            models.CheckConstraint(
                name="sterile_load_emergency_has_reason",
                condition=~Q(state="emergency")
                | (Q(physical=True, chemical=True, biological__isnull=True) & ~Q(emergency_reason="")),
            ),
            models.CheckConstraint(
                name="sterile_load_failed_has_reason", condition=~Q(state="failed") | ~Q(failure="")
            ),
        ]
        indexes = [
            models.Index(fields=["steriliser", "started_at"], name="sterile_load_when"),
            models.Index(fields=["institution", "-started_at"], name="sterile_load_centre"),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def state_label(self) -> Text:
        """Its state in words."""
        return LOAD_STATES[self.state]


class Set(models.Model):
    """One set of instruments with its code on the label (``code``: QR; ``udi``: as the maker wrote it).

    ``owner`` is whose it is, ``holder`` where it is now, ``turn`` counts its rounds through the centre, ``load`` and ``expires_on`` belong to
    the present turn, ``asked`` is the request it is packed for.
    """

    code = models.CharField(max_length=40, unique=True)
    udi = models.CharField(max_length=120, blank=True)
    type = models.ForeignKey(SetType, models.PROTECT, related_name="sets")
    owner = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    holder = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    centre = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    state = models.CharField(max_length=10, default="used")
    turn = models.IntegerField(default=1)
    load = models.ForeignKey(
        Load, models.PROTECT, null=True, blank=True, related_name="present", db_index=False
    )
    material = models.CharField(max_length=20, blank=True)
    packed_by = models.CharField(max_length=80, blank=True)
    expires_on = models.DateField(null=True, blank=True)
    asked_id = models.BigIntegerField(null=True, blank=True)
    changed_at = models.DateTimeField()
    incomplete = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="sterile_set_state", condition=Q(state__in=list(STATES))),
            models.CheckConstraint(
                name="sterile_set_loaded", condition=~Q(state__in=LOADED) | (Q(load__isnull=False) & ~Q(material=""))
            ),
            models.CheckConstraint(
                name="sterile_set_dated", condition=~Q(state__in=DATED) | Q(expires_on__isnull=False)
            ),
            models.CheckConstraint(name="sterile_set_turn", condition=Q(turn__gte=1)),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["holder", "state"], name="sterile_set_holder"),
            models.Index(fields=["centre", "state"], name="sterile_set_centre"),
            models.Index(fields=["load"], condition=Q(load__isnull=False), name="sterile_set_load"),
            models.Index(fields=["asked_id"], condition=Q(asked_id__isnull=False), name="sterile_set_asked"),
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def state_label(self) -> Text:
        """Its state in words."""
        return STATES[self.state]


class Instrument(models.Model):
    """An instrument of a set with its own mark; ``active`` False: lost, broken or replaced."""

    set = models.ForeignKey(Set, models.PROTECT, related_name="instruments")
    udi = models.CharField(max_length=120, unique=True)
    name = models.CharField(max_length=80)
    active = models.BooleanField(default=True)
    note = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return self.udi


class Turn(models.Model):
    """One round of a set through a load: what a recall looks for. Never changed, so it names the load however often the set came back since."""

    set = models.ForeignKey(Set, models.PROTECT, related_name="turns", db_index=False)
    turn = models.IntegerField()
    load = models.ForeignKey(Load, models.PROTECT, related_name="turns")
    packed_by = models.CharField(max_length=80)
    material = models.CharField(max_length=20)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["set", "turn", "load"], name="sterile_turn_once")]
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.set_id}#{self.turn}"


class Event(models.Model):
    """One scan: which set went from which state to which, where, by whom. Never changed; ``key`` names the request."""

    set = models.ForeignKey(Set, models.PROTECT, related_name="events", db_index=False)
    turn = models.IntegerField()
    move = models.CharField(max_length=12)
    from_state = models.CharField(max_length=10)
    to_state = models.CharField(max_length=10)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    load_id = models.BigIntegerField(null=True, blank=True)
    asked_id = models.BigIntegerField(null=True, blank=True)
    note = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=80)
    account_id = models.BigIntegerField(null=True, blank=True)
    at = models.DateTimeField()
    key = models.CharField(max_length=120, unique=True)

    class Meta:
        indexes = [
            models.Index(fields=["set", "at"], name="sterile_event_set"),
            models.Index(fields=["institution", "at"], name="sterile_event_where"),
        ]
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.set_id} {self.move}"


class Opened(ScopedModel):
    """A set opened on a person: the link that a recall follows to the patient. Never changed but for whose row it is (merges)."""

    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    set = models.ForeignKey(Set, models.PROTECT, related_name="opened", db_index=False)
    turn = models.IntegerField()
    load = models.ForeignKey(Load, models.PROTECT, related_name="opened")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    procedure = models.CharField(max_length=120)
    by = models.CharField(max_length=80)
    account_id = models.BigIntegerField(null=True, blank=True)
    practitioner_id = models.BigIntegerField(null=True, blank=True)
    at = models.DateTimeField()
    resource = models.CharField(max_length=64, unique=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["set", "turn"], name="sterile_opened_once")]
        indexes = [models.Index(fields=["institution", "-at"], name="sterile_opened_where")]
        triggers = [
            pgtrigger.ReadOnly(
                name="stands", fields=["set", "turn", "load", "institution", "at", "by", "procedure"]
            ),
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.set_id}#{self.turn}"


class Request(models.Model):
    """What an institution asks of the centre: sets by kind. State, owner and due time are the case's."""

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="sterile_request")
    asker = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    centre = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    needed_on = models.DateField()
    note = models.CharField(max_length=300, blank=True)
    courier = models.CharField(max_length=80, blank=True)
    box = models.CharField(max_length=40, blank=True)
    difference = models.CharField(max_length=400, blank=True)
    live = models.BooleanField(default=True)
    asked_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    received_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return str(self.pk)


class RequestLine(models.Model):
    """So many sets of a kind: asked for, sent, received."""

    request = models.ForeignKey(Request, models.PROTECT, related_name="lines")
    type = models.ForeignKey(SetType, models.PROTECT, related_name="+")
    asked = models.IntegerField()
    sent = models.IntegerField(default=0)
    received = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["request", "type"], name="sterile_requestline_once"),
            models.CheckConstraint(
                name="sterile_requestline_counts",
                condition=Q(asked__gte=1, asked__lte=999, sent__gte=0, received__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.request_id} {self.type_id} {self.asked}"


class Recall(models.Model):
    """A recall: why, and of what (a load, a set, a steriliser's loads of a period); its cases are the duties of holders and doctors."""

    kind = models.CharField(max_length=8)
    load = models.ForeignKey(Load, models.PROTECT, null=True, blank=True, related_name="recalls")
    set = models.ForeignKey(Set, models.PROTECT, null=True, blank=True, related_name="+")
    steriliser = models.ForeignKey(Steriliser, models.PROTECT, null=True, blank=True, related_name="+")
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    reason = models.CharField(max_length=300)
    by = models.CharField(max_length=80)
    at = models.DateTimeField()
    sets = models.IntegerField(default=0)
    patients = models.IntegerField(default=0)
    key = models.CharField(max_length=120, unique=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="sterile_recall_kind", condition=Q(kind__in=list(RECALL_KINDS))),
            models.CheckConstraint(name="sterile_recall_reason", condition=~Q(reason="")),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def kind_label(self) -> Text:
        """Of what, in words."""
        return RECALL_KINDS[self.kind]


class Duty(ScopedModel):
    """One case of a recall: an institution that holds sets of it (``person`` null), or a patient whom its doctor must contact."""

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="sterile_recall")
    recall = models.ForeignKey(Recall, models.PROTECT, related_name="duties")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    centre = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    person = models.ForeignKey("index.Person", models.PROTECT, null=True, blank=True, related_name="+")
    codes = models.JSONField(default=list)
    outcome = models.CharField(max_length=20, blank=True)
    note = models.CharField(max_length=600, blank=True)
    live = models.BooleanField(default=True)

    scope_institutions = ("institution_id", "centre_id")

    def __str__(self) -> str:
        return f"{self.recall_id} {self.institution_id}"


class Policy(Setting):
    """A setting of sterile supply from a day on: for everybody or one consortium, with the document it comes from."""
