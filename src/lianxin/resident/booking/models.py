"""Rows of appointments: the appointment beside its case, who waits, what is still to be remembered, who has stayed away.

State, version, owner and due time of an appointment live in ``duty.Case``; the number itself is the pool's ``Place``. The database
holds what must never break: a person waits once for a session, an offer is backed by a held number, a reminder of a kind is sent once
for one time.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.policy import Setting
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

SOURCES: dict[str, Text] = {
    "resident": T("居民", "Resident"),
    "staff": T("机构代约", "Staff"),
    "fhir": T("FHIR 接口", "FHIR"),
    "v2": T("医院系统", "The hospital's system"),
}
"""By which door a booking came."""
WAITS: dict[str, Text] = {
    "waiting": T("候补中", "Waiting"),
    "offered": T("待确认", "A number is offered"),
    "taken": T("已预约", "Taken"),
    "declined": T("已放弃", "Declined"),
    "left": T("已退出", "Left"),
    "lapsed": T("未按时确认", "Not answered in time"),
    "over": T("已结束", "Over"),
}
WAITING = ("waiting", "offered")


class Appointment(ScopedModel):
    """One visit that was asked for: which number of which session, for whom, by which door. ``case.state`` says where it stands.

    ``place`` is the number it has (or had, once cancelled). ``booked_at`` is when the patient first asked: it is kept through every
    change, so nobody loses their turn because a session was stopped. ``missed_at``: when they did not come; ``waived``: that does not count
    against them (excused, or an appeal was granted).
    """

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="appointment")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    session = models.ForeignKey("pool.Session", models.PROTECT, related_name="+")
    place = models.ForeignKey("pool.Place", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    booker = models.ForeignKey("network.Institution", models.PROTECT, null=True, blank=True, related_name="+")
    account_id = models.BigIntegerField(null=True, blank=True)
    channel = models.CharField(max_length=12)
    source = models.CharField(max_length=10)
    item = models.CharField(max_length=40, blank=True, db_default="")
    specialty = models.CharField(max_length=20, blank=True)
    day = models.DateField()
    at = models.DateTimeField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    fee_fen = models.IntegerField(default=0)
    note = models.CharField(max_length=400, blank=True)
    live = models.BooleanField(default=True)
    booked_at = models.DateTimeField()
    moves = models.IntegerField(default=0)
    missed_at = models.DateTimeField(null=True, blank=True)
    waived = models.BooleanField(default=False, db_default=False)
    reason = models.CharField(max_length=200, blank=True)

    scope_institutions = ("institution_id", "booker_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="booking_appointment_source", condition=Q(source__in=list(SOURCES))),
            models.CheckConstraint(
                name="booking_appointment_figures",
                condition=Q(fee_fen__gte=0, moves__gte=0, ends_at__gt=F("starts_at")),
            ),
            models.UniqueConstraint(
                fields=["place"], condition=Q(live=True), name="booking_appointment_one_per_place"
            ),
        ]
        indexes = [
            models.Index(fields=["person", "at"], name="booking_appointment_person"),
            models.Index(fields=["session"], name="booking_appointment_session"),
            models.Index(fields=["ends_at"], condition=Q(live=True), name="booking_appointment_coming"),
            models.Index(
                fields=["institution", "day"],
                condition=Q(missed_at__isnull=False),
                name="booking_appointment_missed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case_id} {self.at:%Y-%m-%d %H:%M}"

    @property
    def fee(self) -> Money:
        """What the visit costs."""
        return Money(self.fee_fen)

    @property
    def number(self) -> str:
        """The case's number."""
        return self.case.number


class Waiting(ScopedModel):
    """Somebody waits for a number of a session, or (``session`` null) of any session of a department on a day.

    Order of service: ``rank`` (0: urgent for a clinical reason, entered by staff), then ``since``, then id. ``place`` is the number held for
    them while ``state`` is offered, until ``offer_until``.
    """

    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    department = models.ForeignKey("network.Department", models.PROTECT, related_name="+")
    session = models.ForeignKey("pool.Session", models.PROTECT, null=True, blank=True, related_name="+")
    day = models.DateField()
    kind = models.CharField(max_length=20, default="clinic")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    booker = models.ForeignKey("network.Institution", models.PROTECT, null=True, blank=True, related_name="+")
    account_id = models.BigIntegerField(null=True, blank=True)
    channel = models.CharField(max_length=12)
    source = models.CharField(max_length=10)
    item = models.CharField(max_length=40, blank=True, db_default="")
    rank = models.IntegerField(default=1)
    since = models.DateTimeField()
    state = models.CharField(max_length=10, default="waiting")
    place = models.ForeignKey("pool.Place", models.PROTECT, null=True, blank=True, related_name="+")
    offered_at = models.DateTimeField(null=True, blank=True)
    offer_until = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField()
    key = models.CharField(max_length=120, unique=True)

    scope_institutions = ("institution_id", "booker_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="booking_waiting_state", condition=Q(state__in=list(WAITS))),
            models.CheckConstraint(
                name="booking_waiting_offer",
                condition=~Q(state="offered") | Q(place__isnull=False, offer_until__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["person", "session"],
                condition=Q(state__in=WAITING, session__isnull=False),
                name="booking_waiting_once",
            ),
            models.UniqueConstraint(
                fields=["person", "department", "day", "kind"],
                condition=Q(state__in=WAITING, session__isnull=True),
                name="booking_waiting_day_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["department", "day", "rank", "since"],
                condition=Q(state__in=WAITING),
                name="booking_waiting_queue",
            ),
            models.Index(fields=["person"], name="booking_waiting_person"),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} {self.day} {self.state}"

    @property
    def state_label(self) -> Text:
        """State in words."""
        return WAITS[self.state]


class Reminder(models.Model):
    """A message owed before a visit; ``state`` due → sent, or void when the visit was moved or cancelled."""

    appointment = models.ForeignKey(Appointment, models.CASCADE, related_name="reminders", db_index=False)
    kind = models.CharField(max_length=12)
    visit_at = models.DateTimeField()
    due_at = models.DateTimeField()
    state = models.CharField(max_length=8, default="due")
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["appointment", "kind", "visit_at"],
                condition=~Q(state="void"),
                name="booking_reminder_once",
            ),
            models.CheckConstraint(
                name="booking_reminder_state", condition=Q(state__in=["due", "sent", "void"])
            ),
        ]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(state="due"), name="booking_reminder_due"),
        ]

    def __str__(self) -> str:
        return f"{self.appointment_id} {self.kind} {self.state}"


class Bar(ScopedModel):
    """Somebody may not take public numbers from ``since`` to ``until`` because visits were missed; lifted when an appeal is granted."""

    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    since = models.DateTimeField()
    until = models.DateTimeField()
    misses = models.IntegerField()
    reason = models.CharField(max_length=300)
    reason_en = models.CharField(max_length=400)
    lifted_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="booking_bar_lasts", condition=Q(until__gt=F("since"), misses__gte=1))
        ]
        indexes = [
            models.Index(
                fields=["person", "until"], condition=Q(lifted_at__isnull=True), name="booking_bar_live"
            )
        ]

    def __str__(self) -> str:
        return f"{self.person_id} {self.until:%Y-%m-%d}"

    @property
    def why(self) -> Text:
        """Why, in words."""
        return Text(self.reason, self.reason_en)


class Appeal(ScopedModel):
    """What somebody says against missed visits held against them, and what was decided about it."""

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="booking_appeal")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    judge = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    bar = models.ForeignKey(Bar, models.PROTECT, null=True, blank=True, related_name="appeals")
    text = models.CharField(max_length=1000)
    decision = models.CharField(max_length=10, blank=True)
    words = models.CharField(max_length=1000, blank=True)
    live = models.BooleanField(default=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("institution_id", "judge_id")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["person"], condition=Q(live=True), name="booking_appeal_one_open"
            ),
            models.CheckConstraint(
                name="booking_appeal_decision",
                condition=Q(decision__in=["", "granted", "refused", "withdrawn"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case_id} {self.decision or 'open'}"


class Policy(Setting):
    """A setting of booking from a day on: for everybody or one consortium, with the document it comes from."""
