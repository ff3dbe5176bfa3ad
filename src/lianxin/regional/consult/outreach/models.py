"""Rows of outreach and teaching: who is sent where, the days worked with the patients seen, lessons, and cases learned from.

Patients are only referred to (an Encounter of the record, a case of the ledger); a day counts once the township has confirmed it.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "clinic": T("坐诊", "Clinic"),
    "round": T("查房", "Ward round"),
    "teaching": T("带教", "Teaching"),
    "operation": T("手术指导", "Operations"),
}
DAYS: dict[str, Text] = {
    "recorded": T("待基层确认", "To be confirmed"),
    "confirmed": T("已确认", "Confirmed"),
    "disputed": T("有异议", "Disputed"),
}
SOURCES: dict[str, Text] = {
    "referral": T("转诊", "Referral"),
    "consult": T("会诊", "Consultation"),
    "reading": T("诊断", "Reading"),
}
LEARNING: dict[str, Text] = {
    "offered": T("待学习", "To be learned from"),
    "reflected": T("已完成", "Done"),
    "skipped": T("不学习", "Passed over"),
}


class Assignment(models.Model):
    """An upper doctor sent to a lower institution for a period: what for, on which weekdays (1 Monday … 7 Sunday)."""

    practitioner = models.ForeignKey("network.Practitioner", models.PROTECT, related_name="+")
    from_institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    to_institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    department = models.ForeignKey(
        "network.Department", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    kinds = ArrayField(models.CharField(max_length=10), default=list)
    weekdays = ArrayField(models.SmallIntegerField(), default=list)
    since = models.DateField()
    until = models.DateField()
    note = models.CharField(max_length=300, blank=True)
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()
    ended_on = models.DateField(null=True, blank=True)
    ended_why = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="consult_assignment_lasts", condition=Q(until__gte=F("since"))),
            models.CheckConstraint(name="consult_assignment_elsewhere", condition=~Q(from_institution=F("to_institution"))),
            models.CheckConstraint(name="consult_assignment_kinds", condition=Q(kinds__contained_by=list(KINDS), kinds__len__gte=1)),
            models.CheckConstraint(name="consult_assignment_weekdays", condition=Q(weekdays__contained_by=[1, 2, 3, 4, 5, 6, 7])),
        ]  # fmt: skip
        indexes = [models.Index(fields=["to_institution", "since"], name="consult_assignment_to")]

    def __str__(self) -> str:
        return f"{self.practitioner_id} → {self.to_institution_id}"


class Day(models.Model):
    """A day (or half) worked at the township. ``state``: the township confirms it or says what is wrong; only confirmed days count."""

    assignment = models.ForeignKey(Assignment, models.PROTECT, related_name="days")
    on = models.DateField()
    kind = models.CharField(max_length=10)
    minutes = models.SmallIntegerField()
    note = models.CharField(max_length=600, blank=True)
    state = models.CharField(max_length=10, default="recorded")
    recorded_by = models.CharField(max_length=80)
    recorded_at = models.DateTimeField()
    answered_by = models.CharField(max_length=80, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    answer = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["assignment", "on", "kind"], name="consult_day_once"),
            models.CheckConstraint(name="consult_day_kind", condition=Q(kind__in=list(KINDS))),
            models.CheckConstraint(name="consult_day_state", condition=Q(state__in=list(DAYS))),
            models.CheckConstraint(name="consult_day_minutes", condition=Q(minutes__gte=15, minutes__lte=720)),
            models.CheckConstraint(
                name="consult_day_answered",
                condition=Q(state="recorded", answered_at__isnull=True) | (~Q(state="recorded") & Q(answered_at__isnull=False)),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.assignment_id} {self.on} {self.kind}"

    @property
    def kind_label(self) -> Text:
        """What was done, in words."""
        return KINDS[self.kind]

    @property
    def state_label(self) -> Text:
        """Where it stands, in words."""
        return DAYS[self.state]


class Seen(ScopedModel):
    """A patient seen on such a day, by reference to the Encounter of the record or the case it belongs to."""

    day = models.ForeignKey(Day, models.CASCADE, related_name="seen")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    ref = models.CharField(max_length=120)
    note = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "ref"], name="consult_seen_once")]

    def __str__(self) -> str:
        return self.ref


class Lesson(models.Model):
    """A teaching session held by an upper doctor: topic, day, length."""

    assignment = models.ForeignKey(Assignment, models.PROTECT, null=True, blank=True, related_name="lessons")
    teacher = models.ForeignKey("network.Practitioner", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    topic = models.CharField(max_length=120)
    on = models.DateField()
    minutes = models.SmallIntegerField()
    made_by = models.CharField(max_length=80)
    made_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["teacher", "institution", "on", "topic"], name="consult_lesson_once"
            ),
            models.CheckConstraint(
                name="consult_lesson_minutes", condition=Q(minutes__gte=15, minutes__lte=720)
            ),
        ]

    def __str__(self) -> str:
        return self.topic


class Attendance(models.Model):
    """Who took part, and the credit it gives (tenths of a credit) by the rule in force that day."""

    lesson = models.ForeignKey(Lesson, models.CASCADE, related_name="attendances")
    practitioner = models.ForeignKey("network.Practitioner", models.PROTECT, related_name="+")
    tenths = models.SmallIntegerField()
    rule = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lesson", "practitioner"], name="consult_attendance_once"),
            models.CheckConstraint(name="consult_attendance_tenths", condition=Q(tenths__gte=0)),
        ]

    def __str__(self) -> str:
        return f"{self.lesson_id} {self.practitioner_id}"


class Learning(ScopedModel):
    """A case that a grassroots doctor sent up and that came back with an opinion: something to learn from, once, for credit."""

    practitioner = models.ForeignKey("network.Practitioner", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    case = models.ForeignKey("duty.Case", models.PROTECT, related_name="+")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    kind = models.CharField(max_length=10)
    state = models.CharField(max_length=10, default="offered")
    came_at = models.DateTimeField()
    reflection = models.TextField(blank=True)
    agreed = models.CharField(max_length=10, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)
    tenths = models.SmallIntegerField(default=0)
    rule = models.CharField(max_length=200, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["practitioner", "case"], name="consult_learning_once"),
            models.CheckConstraint(name="consult_learning_kind", condition=Q(kind__in=list(SOURCES))),
            models.CheckConstraint(name="consult_learning_state", condition=Q(state__in=list(LEARNING))),
            models.CheckConstraint(name="consult_learning_tenths", condition=Q(tenths__gte=0)),
            models.CheckConstraint(
                name="consult_learning_done",
                condition=~Q(state="reflected") | (Q(done_at__isnull=False) & ~Q(reflection="")),
            ),
        ]
        indexes = [models.Index(fields=["practitioner", "-came_at"], name="consult_learning_mine")]

    def __str__(self) -> str:
        return f"{self.practitioner_id} {self.case_id}"

    @property
    def kind_label(self) -> Text:
        """From what, in words."""
        return SOURCES[self.kind]

    @property
    def state_label(self) -> Text:
        """Where it stands, in words."""
        return LEARNING[self.state]

    @property
    def credit(self) -> str:
        """Credits with one decimal."""
        return f"{self.tenths // 10}.{self.tenths % 10}"
