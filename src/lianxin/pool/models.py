"""Counted resources: sessions with numbers, and the places taken in them.

The counters live in the session's row and move only by conditional UPDATE (see ``booking``); the CHECKs and partial
uniques below make overbooking impossible whatever the code does.
"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

CHANNELS: dict[str, Text] = {
    "open": T("公开号源", "Open"),
    "grassroots": T("基层号源", "Grassroots"),
    "referral": T("转诊号源", "Referral"),
}
STATES: dict[str, Text] = {
    "held": T("暂留", "Held"),
    "booked": T("已预约", "Booked"),
    "arrived": T("已到诊", "Arrived"),
    "fulfilled": T("已就诊", "Seen"),
    "no_show": T("爽约", "No-show"),
    "cancelled": T("已取消", "Cancelled"),
}


class Session(models.Model):
    """A clinic (or other counted) session: ``capacity`` numbers, ``reserved`` of them for the grassroots until ``release_at``."""

    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    department = models.ForeignKey("network.Department", models.PROTECT, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    specialty = models.CharField(max_length=20, blank=True)
    kind = models.CharField(max_length=20, default="clinic")
    clinic_type = models.CharField(max_length=20, default="普通")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    capacity = models.IntegerField()
    reserved = models.IntegerField(default=0)
    taken_open = models.IntegerField(default=0)
    taken_reserved = models.IntegerField(default=0)
    arrived = models.IntegerField(default=0)
    no_shows = models.IntegerField(default=0)
    fulfilled = models.IntegerField(default=0)
    release_at = models.DateTimeField()
    fee_fen = models.IntegerField(default=0)
    status = models.CharField(max_length=8, default="open")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="pool_session_never_overbooked",
                condition=Q(taken_open__gte=0)
                & Q(taken_reserved__gte=0)
                & Q(capacity__gte=F("taken_open") + F("taken_reserved")),
            ),
            models.CheckConstraint(
                name="pool_session_reserved_within_capacity",
                condition=Q(reserved__gte=0, reserved__lte=F("capacity")),
            ),
            models.CheckConstraint(
                name="pool_session_ends_after_start", condition=Q(ends_at__gt=F("starts_at"))
            ),
            models.CheckConstraint(name="pool_session_fee", condition=Q(fee_fen__gte=0)),
            models.CheckConstraint(
                name="pool_session_counters",
                condition=Q(arrived__gte=0)
                & Q(no_shows__gte=0)
                & Q(fulfilled__gte=0)
                & Q(arrived__lte=F("taken_open") + F("taken_reserved") - F("no_shows"))
                & Q(fulfilled__lte=F("arrived")),
            ),
            models.CheckConstraint(name="pool_session_status", condition=Q(status__in=["open", "stopped"])),
            models.UniqueConstraint(
                fields=["department", "practitioner", "kind", "clinic_type", "starts_at"],
                nulls_distinct=False,
                name="pool_session_once",
            ),
        ]
        indexes = [
            models.Index(fields=["institution", "specialty", "starts_at"], name="pool_session_find"),
            models.Index(fields=["specialty", "starts_at"], name="pool_session_specialty"),
        ]

    def __str__(self) -> str:
        return f"{self.department_id} {self.starts_at:%Y-%m-%d %H:%M}"

    @property
    def fee(self) -> Money:
        """The fee of one number."""
        return Money(self.fee_fen)


class Place(ScopedModel):
    """One number of a session, held or taken by one patient."""

    session = models.ForeignKey(Session, models.PROTECT, related_name="places", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    seat_no = models.IntegerField()
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    channel = models.CharField(max_length=12)
    state = models.CharField(max_length=10)
    expires_at = models.DateTimeField(null=True, blank=True)
    key = models.CharField(max_length=120, unique=True)
    case_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    made_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "seat_no"], condition=~Q(state="cancelled"), name="pool_place_one_per_seat"
            ),
            models.UniqueConstraint(
                fields=["session", "person"],
                condition=~Q(state="cancelled"),
                name="pool_place_one_per_person",
            ),
            models.CheckConstraint(name="pool_place_channel", condition=Q(channel__in=list(CHANNELS))),
            models.CheckConstraint(name="pool_place_state", condition=Q(state__in=list(STATES))),
            models.CheckConstraint(
                name="pool_place_hold_expires",
                condition=Q(state="held", expires_at__isnull=False)
                | (~Q(state="held") & Q(expires_at__isnull=True)),
            ),
            models.CheckConstraint(name="pool_place_seat", condition=Q(seat_no__gte=1)),
        ]
        indexes = [
            models.Index(
                fields=["session", "expires_at"], condition=Q(state="held"), name="pool_place_holds"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.session_id}/{self.seat_no} {self.state}"

    @property
    def state_label(self) -> Text:
        """State in words."""
        return STATES[self.state]


class Template(models.Model):
    """A weekly pattern from which sessions are made (``schedule.make_sessions``). ``weekday`` 0 is Monday."""

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    department = models.ForeignKey("network.Department", models.CASCADE, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.CASCADE, null=True, blank=True, related_name="+"
    )
    kind = models.CharField(max_length=20, default="clinic")
    clinic_type = models.CharField(max_length=20, default="普通")
    weekday = models.IntegerField()
    start = models.TimeField()
    end = models.TimeField()
    capacity = models.IntegerField()
    reserved = models.IntegerField(default=0)
    fee_fen = models.IntegerField(default=0)
    since = models.DateField()
    until = models.DateField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="pool_template_weekday", condition=Q(weekday__gte=0, weekday__lte=6)),
            models.CheckConstraint(name="pool_template_times", condition=Q(end__gt=F("start"))),
            models.CheckConstraint(
                name="pool_template_capacity",
                condition=Q(capacity__gt=0, reserved__gte=0, reserved__lte=F("capacity")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.department_id} {self.weekday} {self.start}"
