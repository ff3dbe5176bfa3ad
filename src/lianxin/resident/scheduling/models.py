"""Rows of this room: what of the pool is published, the hospitals' booking systems, whose the sessions are, and what they are asked.

State of a booking lives in its case (``resident.booking``); here is only how far a hospital's system has been asked about it.
"""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from lianxin.access import seal
from lianxin.access.scoped import ScopedModel
from lianxin.pool.models import KINDS, OWNERS
from lianxin.standards.text import T, Text

WAYS: dict[str, Text] = {
    "fhir": T("FHIR R4 预约接口", "FHIR R4 scheduling"),
    "v2": T("HL7 v2 SRM（MLLP）", "HL7 v2 SRM over MLLP"),
}
ASKED: dict[str, Text] = {
    "waiting": T("待询问医院系统", "The hospital's system is to be asked"),
    "asking": T("正在询问", "Being asked"),
    "confirmed": T("医院系统已确认", "Confirmed by the hospital's system"),
    "refused": T("医院系统未接受", "Refused by the hospital's system"),
    "undoing": T("待通知医院系统退号", "The hospital's system is to be told of the cancellation"),
    "undone": T("医院系统已退号", "Cancelled at the hospital's system"),
    "closed": T("已由人工办结", "Settled by a person"),
}
OPEN = ("waiting", "asking", "undoing")
LONGEST = 120
"""Seconds that a booking may wait for a hospital's answer before it is its desk's duty (as in the NHS e-Referral Service)."""


def kept(text: Text) -> str:
    """Words in both languages as they are stored."""
    return f"{text.zh}\x1f{text.en}"


def told(stored: str) -> Text:
    """Stored words; those of one language (a hospital's own) stand for both."""
    zh, _, en = stored.partition("\x1f")
    return Text(zh, en or zh)


class Projection(models.Model):
    """What of the pool is published in the record, with the status it was given; triggers set ``due`` when that may have changed.

    ``next_at``: when time alone changes it (a hold runs out, a bed is closed from then on).
    """

    KINDS: ClassVar = ("session", "resource", "place")

    kind = models.CharField(max_length=8)
    target_id = models.BigIntegerField()
    status = models.CharField(max_length=20, blank=True)
    due = models.BooleanField(default=False)
    next_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["kind", "target_id"], name="scheduling_projection_once"),
            models.CheckConstraint(
                name="scheduling_projection_kind", condition=Q(kind__in=["session", "resource", "place"])
            ),
        ]
        indexes = [
            models.Index(fields=["kind"], condition=Q(due=True), name="scheduling_projection_due"),
            models.Index(
                fields=["next_at"], condition=Q(next_at__isnull=False), name="scheduling_projection_next"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target_id} {self.status}"


class BookingSystem(models.Model):
    """A hospital's own booking system: where it is, how it is spoken to, and how that went.

    ``secret`` is sealed (a bearer token). ``seconds``: how long one call may take. ``asks_by_key``: it can be asked whether it knows a
    booking; one that cannot must answer the same message alike. ``pulled_to``: up to which change its sessions were read;
    ``whole_at``: when its whole list was read last (only that shows what has vanished).
    """

    name = models.CharField(max_length=120, unique=True)
    institution = models.OneToOneField("network.Institution", models.PROTECT, related_name="+")
    way = models.CharField(max_length=4)
    url = models.CharField(max_length=300, blank=True)
    secret = models.TextField(blank=True)
    host = models.CharField(max_length=200, blank=True)
    port = models.IntegerField(default=2575)
    tls = models.BooleanField(default=False)
    application = models.CharField(max_length=180, blank=True)
    facility = models.CharField(max_length=180, blank=True)
    version = models.CharField(max_length=8, default="2.5")
    seconds = models.IntegerField(default=10)
    asks_by_key = models.BooleanField(default=True)
    pulls = models.BooleanField(default=False)
    pull_minutes = models.IntegerField(default=5)
    days = models.IntegerField(default=28)
    active = models.BooleanField(default=True)
    paused = models.BooleanField(default=False)
    created_at = models.DateTimeField()
    failures = models.IntegerField(default=0)
    not_before = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    heard_at = models.DateTimeField(null=True, blank=True)
    pulled_to = models.CharField(max_length=40, blank=True)
    pulled_at = models.DateTimeField(null=True, blank=True)
    whole_at = models.DateTimeField(null=True, blank=True)
    pull_error = models.TextField(blank=True)
    held_back = models.IntegerField(default=0)
    lets_vanish = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.CheckConstraint(name="scheduling_system_way", condition=Q(way__in=list(WAYS))),
            models.CheckConstraint(
                name="scheduling_system_figures",
                condition=Q(seconds__gte=1, seconds__lte=LONGEST, pull_minutes__gte=1, days__gte=1)
                & Q(days__lte=366, port__gte=1, port__lte=65535, held_back__gte=0),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def last_error_told(self) -> Text:
        """Why the last call failed."""
        return told(self.last_error)

    @property
    def pull_error_told(self) -> Text:
        """Why its sessions could not be read."""
        return told(self.pull_error)

    @property
    def bearer(self) -> str:
        """The token it is called with, opened."""
        return seal.unseal(self.secret)


class OwnerRule(models.Model):
    """Whose word is the last about sessions of a hospital: the first rule that fits, most particular first; none fits: the platform's.

    An empty part fits everything.
    """

    system = models.ForeignKey(BookingSystem, models.CASCADE, related_name="rules")
    department = models.ForeignKey(
        "network.Department", models.CASCADE, null=True, blank=True, related_name="+"
    )
    clinic_type = models.CharField(max_length=20, blank=True)
    kind = models.CharField(max_length=20, blank=True)
    owner = models.CharField(max_length=8)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["system", "department", "clinic_type", "kind"],
                nulls_distinct=False,
                name="scheduling_rule_once",
            ),
            models.CheckConstraint(name="scheduling_rule_owner", condition=Q(owner__in=list(OWNERS))),
            models.CheckConstraint(name="scheduling_rule_kind", condition=Q(kind__in=["", *KINDS])),
        ]

    def __str__(self) -> str:
        return f"{self.department_id or '*'} {self.clinic_type or '*'} {self.kind or '*'} → {self.owner}"

    @property
    def weight(self) -> tuple[bool, bool, bool]:
        """How particular it is: a department before a clinic type before a kind."""
        return (self.department_id is not None, bool(self.clinic_type), bool(self.kind))


class Question(ScopedModel):
    """One booking of a hospital-owned session, and how far that hospital's system was asked about it.

    Written before the first call and after every answer; ``key`` goes with every call, so that a repetition is known as one.
    ``tries`` counts calls that may have reached it; ``until`` is when a call under way is given up for lost.
    """

    system = models.ForeignKey(BookingSystem, models.PROTECT, related_name="questions")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    case_number = models.CharField(max_length=40)
    place = models.OneToOneField("pool.Place", models.PROTECT, related_name="+")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    key = models.CharField(max_length=80, unique=True)
    state = models.CharField(max_length=10)
    theirs = models.CharField(max_length=120, blank=True)
    tries = models.IntegerField(default=0)
    made_at = models.DateTimeField()
    again_at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=400, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="scheduling_question_state", condition=Q(state__in=list(ASKED))),
            models.CheckConstraint(name="scheduling_question_tries", condition=Q(tries__gte=0)),
            models.CheckConstraint(
                name="scheduling_question_asking", condition=~Q(state="asking") | Q(until__isnull=False)
            ),
        ]
        indexes = [
            models.Index(
                fields=["system", "again_at"], condition=Q(state__in=OPEN), name="scheduling_question_open"
            ),
            models.Index(fields=["case_number"], name="scheduling_question_case"),
            models.Index(fields=["system", "-made_at"], name="scheduling_question_recent"),
        ]

    def __str__(self) -> str:
        return f"{self.case_number} {self.state}"

    @property
    def state_label(self) -> Text:
        """State in words."""
        return ASKED[self.state]

    @property
    def error_told(self) -> Text:
        """Why it is not settled, or what the hospital said."""
        return told(self.error)


class Number(ScopedModel):
    """A booking by the numbers of the system that made it over HL7 v2 or FHIR: the same number again is the same booking."""

    source = models.CharField(max_length=80)
    kind = models.CharField(max_length=8)
    value = models.CharField(max_length=200)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    case_number = models.CharField(max_length=40)
    made_at = models.DateTimeField()

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source", "kind", "value"], name="scheduling_number_once")
        ]
        indexes = [models.Index(fields=["case_number"], name="scheduling_number_case")]

    def __str__(self) -> str:
        return f"{self.kind} {self.value}"


class Note(models.Model):
    """Something of a synchronisation that somebody should know: a difference that was not taken over, people who need another number."""

    KINDS: ClassVar[dict[str, Text]] = {
        "ours": T("平台号源，同步不改动", "The platform's own: not changed by synchronisation"),
        "clash": T("与平台场次重合，未导入", "Coincides with a session of the platform: not taken over"),
        "cut": T("号源减少，已约患者转待改约", "Fewer numbers: patients are offered others"),
        "moved": T("场次改时，已约患者转待改约", "Another time: patients are offered others"),
        "vanished": T("场次已撤，按停诊处理", "No longer there: treated as stopped"),
        "stopped": T("医院停诊", "Stopped by the hospital"),
        "unknown": T("科室或医生未登记，未导入", "Unknown department or doctor: not taken over"),
        "bad": T("内容不合要求，未导入", "Not usable: not taken over"),
    }

    system = models.ForeignKey(BookingSystem, models.CASCADE, related_name="notes")
    kind = models.CharField(max_length=8)
    external_id = models.CharField(max_length=80, blank=True)
    session_id = models.BigIntegerField(null=True, blank=True)
    text = models.CharField(max_length=300)
    people = models.IntegerField(default=0)
    at = models.DateTimeField()
    seen_at = models.DateTimeField()
    times = models.IntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["system", "kind", "external_id", "text"], name="scheduling_note_once"
            ),
            models.CheckConstraint(
                name="scheduling_note_figures", condition=Q(people__gte=0, times__gte=1, seen_at__gte=F("at"))
            ),
        ]
        indexes = [models.Index(fields=["system", "-seen_at"], name="scheduling_note_recent")]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_id}"

    @property
    def told(self) -> Text:
        """What it is about."""
        return told(self.text)

    @property
    def label(self) -> Text:
        """What happened, in words."""
        return self.KINDS[self.kind]
