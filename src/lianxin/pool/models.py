"""What can be taken: counted sessions with numbers, and exclusive resources claimed for a time.

*Counted* (号源, examination places of a device): one row per session; the counters live in it and move only by conditional UPDATE
(see ``booking``). *Exclusive* (a bed, a theatre, a device, a room): a claim holds a resource for a range of time, and an exclusion
constraint keeps two live claims apart (see ``exclusive``). The CHECKs, uniques and exclusions below make overbooking impossible
whatever the code does.

Quotas are nested limits, village ⊂ township ⊂ county ⊂ public: ``reserved_township`` places are kept from everybody below the
township's rank until ``release_township``, and so on. Release needs no job, it is part of the predicate.
"""

from __future__ import annotations

import datetime as dt

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, RangeOperators
from django.db import models
from django.db.models import F, Func, Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

TIERS: dict[str, Text] = {
    "public": T("公开号源", "Public"),
    "county": T("县级号源", "County"),
    "township": T("乡镇号源", "Township"),
    "village": T("村级号源", "Village"),
}
"""Channels by rank: each may take what is kept for it and for those before it."""
CHANNELS = TIERS
RANK: dict[str, int] = {name: n for n, name in enumerate(TIERS)}
KINDS: dict[str, Text] = {
    "clinic": T("门诊", "Clinic"),
    "exam": T("检查", "Examination"),
}
OWNERS: dict[str, Text] = {
    "platform": T("平台", "Platform"),
    "hospital": T("医院系统", "The hospital's system"),
}
"""Who has the last word about a session's numbers."""
STATES: dict[str, Text] = {
    "held": T("暂留", "Held"),
    "booked": T("已预约", "Booked"),
    "arrived": T("已到诊", "Arrived"),
    "fulfilled": T("已就诊", "Seen"),
    "no_show": T("爽约", "No-show"),
    "cancelled": T("已取消", "Cancelled"),
}
RESOURCES: dict[str, Text] = {
    "bed": T("床位", "Bed"),
    "device": T("设备", "Device"),
    "theatre": T("手术间", "Operating theatre"),
    "room": T("房间", "Room"),
}
SEXES: dict[str, Text] = {"any": T("不限", "Any"), "male": T("男", "Male"), "female": T("女", "Female")}
AGES: dict[str, Text] = {"any": T("不限", "Any"), "adult": T("成人", "Adult"), "child": T("儿童", "Child")}
GRADES: dict[str, Text] = {
    "general": T("普通", "General"),
    "single": T("单人", "Single"),
    "hdu": T("抢救/监护", "High dependency"),
    "icu": T("重症", "Intensive care"),
}
ISOLATIONS: dict[str, Text] = {
    "": T("无", "None"),
    "contact": T("接触隔离", "Contact"),
    "droplet": T("飞沫隔离", "Droplet"),
    "airborne": T("空气隔离（负压）", "Airborne (negative pressure)"),
}
CLAIMS: dict[str, Text] = {
    "held": T("暂留", "Held"),
    "assigned": T("已分配", "Assigned"),
    "occupied": T("使用中", "Occupied"),
    "cleaning": T("清洁中", "Being cleaned"),
    "blocked": T("停用", "Out of use"),
    "ended": T("已结束", "Ended"),
    "cancelled": T("已取消", "Cancelled"),
}
LIVE_CLAIMS = ("held", "assigned", "occupied", "cleaning", "blocked")
OF_A_PATIENT = ("held", "assigned", "occupied")


class Resource(models.Model):
    """Something exclusive: a bed of a ward, a device, a theatre, a room. ``items``: examination items a device can do."""

    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    department = models.ForeignKey(
        "network.Department", models.PROTECT, null=True, blank=True, related_name="+"
    )
    kind = models.CharField(max_length=10)
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    active = models.BooleanField(default=True)
    sex = models.CharField(max_length=8, default="any")
    age = models.CharField(max_length=8, default="any")
    grade = models.CharField(max_length=10, default="general")
    isolation = models.CharField(max_length=10, blank=True)
    modality = models.CharField(max_length=16, blank=True)
    items = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    clean_minutes = models.IntegerField(default=30)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "kind", "code"], name="pool_resource_once"),
            models.CheckConstraint(name="pool_resource_kind", condition=Q(kind__in=list(RESOURCES))),
            models.CheckConstraint(name="pool_resource_sex", condition=Q(sex__in=list(SEXES))),
            models.CheckConstraint(name="pool_resource_age", condition=Q(age__in=list(AGES))),
            models.CheckConstraint(name="pool_resource_grade", condition=Q(grade__in=list(GRADES))),
            models.CheckConstraint(
                name="pool_resource_isolation", condition=Q(isolation__in=list(ISOLATIONS))
            ),
            models.CheckConstraint(name="pool_resource_cleaning", condition=Q(clean_minutes__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.code}"

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)


class Claim(ScopedModel):
    """A resource held, used or out of use for a range of time; of nobody while it is cleaned or out of use.

    ``during`` is half open; an occupied claim ends when it is expected to, and is prolonged or cut when it does otherwise.
    """

    resource = models.ForeignKey(Resource, models.PROTECT, related_name="claims", db_index=False)
    kind = models.CharField(max_length=10)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    person = models.ForeignKey("index.Person", models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=10)
    during = DateTimeRangeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    key = models.CharField(max_length=120, unique=True)
    case_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    made_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            ExclusionConstraint(
                name="pool_claim_one_at_a_time",
                expressions=[("resource", RangeOperators.EQUAL), ("during", RangeOperators.OVERLAPS)],
                condition=Q(state__in=LIVE_CLAIMS),
            ),
            ExclusionConstraint(
                name="pool_claim_one_per_person",
                expressions=[
                    ("person", RangeOperators.EQUAL),
                    ("kind", RangeOperators.EQUAL),
                    ("during", RangeOperators.OVERLAPS),
                ],
                condition=Q(state__in=OF_A_PATIENT),
            ),
            models.CheckConstraint(name="pool_claim_state", condition=Q(state__in=list(CLAIMS))),
            models.CheckConstraint(
                name="pool_claim_hold_expires",
                condition=Q(state="held", expires_at__isnull=False)
                | (~Q(state="held") & Q(expires_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="pool_claim_of_somebody",
                condition=~Q(state__in=OF_A_PATIENT) | Q(person__isnull=False),
            ),
            models.CheckConstraint(name="pool_claim_lasts", condition=Q(during__isempty=False)),
        ]
        indexes = [
            models.Index(fields=["expires_at"], condition=Q(state="held"), name="pool_claim_holds"),
        ]

    def __str__(self) -> str:
        return f"{self.resource_id} {self.state}"

    @property
    def state_label(self) -> Text:
        """State in words."""
        return CLAIMS[self.state]


class ExamItem(models.Model):
    """An examination that can be booked: how long it takes, how to prepare, whether contrast needs the patient's consent."""

    code = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    modality = models.CharField(max_length=16)
    minutes = models.IntegerField()
    fasting_hours = models.IntegerField(default=0)
    preparation = models.CharField(max_length=400, blank=True)
    preparation_en = models.CharField(max_length=600, blank=True)
    contrast = models.BooleanField(default=False)
    fee_fen = models.IntegerField(default=0)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="pool_item_figures", condition=Q(minutes__gt=0, fasting_hours__gte=0, fee_fen__gte=0)
            )
        ]

    def __str__(self) -> str:
        return self.code

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)


class Session(models.Model):
    """A clinic or a device's session: ``capacity`` numbers (of an examination session: grid steps; an item takes several).

    ``opens_at``: from when its numbers may be taken at all. ``owner``: whose word is the last about them; ``external_id`` is the
    hospital's own number of the session. ``no_shows``, ``arrived`` and ``fulfilled`` count places, ``taken_*`` count numbers.
    """

    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    department = models.ForeignKey("network.Department", models.PROTECT, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    resource = models.ForeignKey(Resource, models.PROTECT, null=True, blank=True, related_name="+")
    template = models.ForeignKey("pool.Template", models.SET_NULL, null=True, blank=True, related_name="+")
    specialty = models.CharField(max_length=20, blank=True)
    kind = models.CharField(max_length=20, default="clinic")
    clinic_type = models.CharField(max_length=20, default="普通")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    opens_at = models.DateTimeField(default=clock.now)
    capacity = models.IntegerField()
    extra = models.IntegerField(default=0, db_default=0)
    reserved_county = models.IntegerField(default=0, db_default=0)
    reserved_township = models.IntegerField(default=0, db_default=0)
    reserved_village = models.IntegerField(default=0, db_default=0)
    release_county = models.DateTimeField(default=clock.now)
    release_township = models.DateTimeField(default=clock.now)
    release_village = models.DateTimeField(default=clock.now)
    taken_public = models.IntegerField(default=0, db_default=0)
    taken_county = models.IntegerField(default=0, db_default=0)
    taken_township = models.IntegerField(default=0, db_default=0)
    taken_village = models.IntegerField(default=0, db_default=0)
    arrived = models.IntegerField(default=0)
    no_shows = models.IntegerField(default=0)
    fulfilled = models.IntegerField(default=0)
    fee_fen = models.IntegerField(default=0)
    status = models.CharField(max_length=8, default="open")
    owner = models.CharField(max_length=8, default="platform", db_default="platform")
    external_id = models.CharField(max_length=80, blank=True, db_default="")

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="pool_session_never_overbooked",
                condition=Q(taken_public__gte=0)
                & Q(taken_county__gte=0)
                & Q(taken_township__gte=0)
                & Q(taken_village__gte=0)
                & Q(
                    capacity__gte=F("taken_public")
                    + F("taken_county")
                    + F("taken_township")
                    + F("taken_village")
                ),
            ),
            models.CheckConstraint(
                name="pool_session_quotas_nested",
                condition=Q(reserved_village__gte=0)
                & Q(reserved_township__gte=F("reserved_village"))
                & Q(reserved_county__gte=F("reserved_township"))
                & Q(capacity__gte=F("reserved_county")),
            ),
            models.CheckConstraint(
                name="pool_session_extra", condition=Q(extra__gte=0, extra__lte=F("capacity"))
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
                & Q(
                    arrived__lte=F("taken_public")
                    + F("taken_county")
                    + F("taken_township")
                    + F("taken_village")
                    - F("no_shows")
                )
                & Q(fulfilled__lte=F("arrived")),
            ),
            models.CheckConstraint(name="pool_session_status", condition=Q(status__in=["open", "stopped"])),
            models.CheckConstraint(name="pool_session_kind", condition=Q(kind__in=list(KINDS))),
            models.CheckConstraint(name="pool_session_owner", condition=Q(owner__in=list(OWNERS))),
            models.UniqueConstraint(
                fields=["department", "practitioner", "resource", "kind", "clinic_type", "starts_at"],
                nulls_distinct=False,
                name="pool_session_once",
            ),
            models.UniqueConstraint(
                fields=["institution", "external_id"],
                condition=~Q(external_id=""),
                name="pool_session_external_once",
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

    @property
    def taken(self) -> int:
        """Numbers taken, over all channels (holds that have run out included until somebody needs them)."""
        return self.taken_public + self.taken_county + self.taken_township + self.taken_village

    @property
    def planned(self) -> int:
        """Numbers of the plan, on whose grid the times lie: extra numbers (加号) come after them."""
        return self.capacity - self.extra

    def time_of(self, seat_no: int) -> dt.datetime:
        """When the number is expected to be called; an extra number at the end of the session."""
        planned = max(self.planned, 1)
        step = (self.ends_at - self.starts_at) / planned
        return self.starts_at + step * min(seat_no - 1, planned)


class Place(ScopedModel):
    """One number of a session (of an examination: ``units`` grid steps from ``seat_no``), held or taken by one patient.

    ``at``: when the patient is expected to be called. ``item``: the code of the examination.
    """

    session = models.ForeignKey(Session, models.PROTECT, related_name="places", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    seat_no = models.IntegerField()
    units = models.IntegerField(default=1, db_default=1)
    at = models.DateTimeField()
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    channel = models.CharField(max_length=12)
    state = models.CharField(max_length=10)
    expires_at = models.DateTimeField(null=True, blank=True)
    key = models.CharField(max_length=120, unique=True)
    case_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    item = models.CharField(max_length=40, blank=True, db_default="")
    made_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    reason = models.CharField(max_length=200, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["session", "seat_no"], condition=~Q(state="cancelled"), name="pool_place_one_per_seat"
            ),
            ExclusionConstraint(
                name="pool_place_steps_apart",
                expressions=[
                    ("session", RangeOperators.EQUAL),
                    (
                        Func(F("seat_no"), F("seat_no") + F("units"), function="int4range"),
                        RangeOperators.OVERLAPS,
                    ),
                ],
                condition=~Q(state="cancelled") & ~Q(item=""),
            ),
            models.UniqueConstraint(
                fields=["session", "person"],
                condition=~Q(state="cancelled"),
                name="pool_place_one_per_person",
            ),
            models.CheckConstraint(name="pool_place_channel", condition=Q(channel__in=list(TIERS))),
            models.CheckConstraint(name="pool_place_state", condition=Q(state__in=list(STATES))),
            models.CheckConstraint(
                name="pool_place_hold_expires",
                condition=Q(state="held", expires_at__isnull=False)
                | (~Q(state="held") & Q(expires_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="pool_place_seat", condition=Q(seat_no__gte=1, units__gte=1) & (Q(units=1) | ~Q(item=""))
            ),
        ]
        indexes = [
            models.Index(
                fields=["session", "expires_at"], condition=Q(state="held"), name="pool_place_holds"
            ),
            models.Index(fields=["expires_at"], condition=Q(state="held"), name="pool_place_lapsing"),
        ]

    def __str__(self) -> str:
        return f"{self.session_id}/{self.seat_no} {self.state}"

    @property
    def state_label(self) -> Text:
        """State in words."""
        return STATES[self.state]


class Template(models.Model):
    """A weekly pattern from which sessions are made (``schedule.make_sessions``). ``weekday`` 0 is Monday.

    ``weeks``: every week, or only odd or even ones of the ISO year. ``release``: when each tier's quota opens to those before it
    : how many days before its numbers may be taken.
    """

    WEEKS = {"": T("每周", "Every week"), "odd": T("单周", "Odd weeks"), "even": T("双周", "Even weeks")}

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    department = models.ForeignKey("network.Department", models.CASCADE, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.CASCADE, null=True, blank=True, related_name="+"
    )
    resource = models.ForeignKey(Resource, models.CASCADE, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=20, default="clinic")
    clinic_type = models.CharField(max_length=20, default="普通")
    weekday = models.IntegerField()
    weeks = models.CharField(max_length=4, blank=True, db_default="")
    start = models.TimeField()
    end = models.TimeField()
    capacity = models.IntegerField()
    reserved_county = models.IntegerField(default=0, db_default=0)
    reserved_township = models.IntegerField(default=0, db_default=0)
    reserved_village = models.IntegerField(default=0, db_default=0)
    release_days = models.IntegerField(default=1, db_default=1)
    release_time = models.TimeField(default=dt.time(17, 0), db_default=dt.time(17, 0))
    opens_days = models.IntegerField(default=14, db_default=14)
    opens_time = models.TimeField(default=dt.time(7, 0), db_default=dt.time(7, 0))
    holidays = models.BooleanField(default=False, db_default=False)
    fee_fen = models.IntegerField(default=0)
    since = models.DateField()
    until = models.DateField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="pool_template_weekday", condition=Q(weekday__gte=0, weekday__lte=6)),
            models.CheckConstraint(name="pool_template_weeks", condition=Q(weeks__in=["", "odd", "even"])),
            models.CheckConstraint(name="pool_template_times", condition=Q(end__gt=F("start"))),
            models.CheckConstraint(name="pool_template_kind", condition=Q(kind__in=list(KINDS))),
            models.CheckConstraint(
                name="pool_template_capacity",
                condition=Q(capacity__gt=0, reserved_village__gte=0)
                & Q(reserved_township__gte=F("reserved_village"))
                & Q(reserved_county__gte=F("reserved_township"))
                & Q(capacity__gte=F("reserved_county")),
            ),
            models.CheckConstraint(
                name="pool_template_days", condition=Q(release_days__gte=0, opens_days__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.department_id} {self.weekday} {self.start}"


class RosterChange(models.Model):
    """What differs from a template on one day: it is off, another doctor comes, or more or fewer numbers."""

    template = models.ForeignKey(Template, models.CASCADE, related_name="changes", db_index=False)
    day = models.DateField()
    off = models.BooleanField(default=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    capacity = models.IntegerField(null=True, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    account_id = models.BigIntegerField(null=True, blank=True)
    made_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["template", "day"], name="pool_rosterchange_once"),
            models.CheckConstraint(
                name="pool_rosterchange_capacity",
                condition=Q(capacity__isnull=True) | Q(capacity__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.template_id} {self.day}"


class TurnedAway(models.Model):
    """Somebody for whom a session had no number, once a day: who it was cannot be read (a keyed hash; gone when folded).

    Its own row for each person, so that thousands at once wait for nobody; no reference to the session, for it is written
    outside the refused transaction. ``demand.fold`` makes :class:`Demand` of it.
    """

    who = models.BinaryField(max_length=16)
    session_id = models.BigIntegerField()
    channel = models.CharField(max_length=12)
    units = models.IntegerField(default=1)
    day = models.DateField()
    first_at = models.DateTimeField()
    times = models.IntegerField(default=1)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["who", "channel"], name="pool_turnedaway_once"),
            models.CheckConstraint(name="pool_turnedaway_channel", condition=Q(channel__in=list(TIERS))),
        ]
        indexes = [models.Index(fields=["session_id"], name="pool_turnedaway_session")]

    def __str__(self) -> str:
        return f"{self.session_id} {self.channel} {self.day}"


class Demand(models.Model):
    """How many people a session turned away on a day, by channel: ``people``, how often they tried, the numbers they wanted.

    ``minutes``: when each came first, minutes after midnight (the back-test replays arrivals in their order).
    """

    session = models.ForeignKey(Session, models.CASCADE, related_name="demand", db_index=False)
    channel = models.CharField(max_length=12)
    day = models.DateField()
    people = models.IntegerField()
    times = models.IntegerField()
    units = models.IntegerField()
    minutes = ArrayField(models.SmallIntegerField(), default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["session", "channel", "day"], name="pool_demand_once"),
            models.CheckConstraint(name="pool_demand_channel", condition=Q(channel__in=list(TIERS))),
            models.CheckConstraint(
                name="pool_demand_figures",
                condition=Q(people__gte=1, times__gte=F("people"), units__gte=F("people")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.session_id} {self.channel} {self.day}: {self.people}"
