"""What the quality room keeps: rules set otherwise, marks of content, figures by day, weekly reports, problems, replays."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import Q


class RuleSetting(models.Model):
    """A rule set otherwise from a day on, for everybody, a consortium or an institution (the most particular counts).

    ``severity`` "" keeps the shipped one, "off" switches the rule off. ``thresholds``: numbers by name.
    """

    rule = models.CharField(max_length=60)
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+"
    )
    severity = models.CharField(max_length=10, blank=True)
    thresholds = models.JSONField(default=dict)
    effective_from = models.DateField()
    reason = models.CharField(max_length=400)
    made_by = models.CharField(max_length=80, blank=True)
    made_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "consortium", "institution", "effective_from"],
                nulls_distinct=False,
                name="rulesetting_once",
            ),
            models.CheckConstraint(
                condition=Q(severity__in=["", "off", "refuse", "quarantine", "warn"]),
                name="rulesetting_severity",
            ),
            models.CheckConstraint(
                condition=Q(consortium__isnull=True) | Q(institution__isnull=True),
                name="rulesetting_one_place",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.effective_from}"


class ContentMark(models.Model):
    """That some content (patient, codes, times, values) came, so that it is known when it comes under another number.

    ``mark`` is a digest of the content, ``ids`` of the numbers it bears, ``piece`` of the sender's control id.
    """

    pk = models.CompositePrimaryKey("institution_id", "mark")
    institution = models.ForeignKey(
        "network.Institution", on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    mark = models.BigIntegerField()
    ids = models.BigIntegerField()
    piece = models.BigIntegerField()
    control_id = models.CharField(max_length=199, blank=True)
    day = models.DateField()

    class Meta:
        app_label = "exchange"
        indexes = [BrinIndex(fields=["day"], name="contentmark_day")]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.mark}"


class QualityDay(models.Model):
    """What came on a day (``part``: hour of it, -1 the whole day) from an institution by vendor, door and kind, and how good it was.

    The five dimensions hold the sum of the worst finding's weight over arrivals (see ``scores``).
    """

    day = models.DateField()
    part = models.SmallIntegerField()
    institution = models.ForeignKey(
        "network.Institution", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    vendor = models.CharField(max_length=80, blank=True)
    door = models.CharField(max_length=10)
    kind = models.CharField(max_length=60)
    arrivals = models.IntegerField()
    taken = models.IntegerField()
    refused = models.IntegerField()
    quarantined = models.IntegerField()
    dropped = models.IntegerField()
    findings = models.IntegerField()
    late = models.IntegerField()
    timed = models.IntegerField()
    lag_seconds = models.BigIntegerField()
    lag_most = models.BigIntegerField()
    completeness = models.FloatField()
    timeliness = models.FloatField()
    consistency = models.FloatField()
    uniqueness = models.FloatField()
    validity = models.FloatField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(
                fields=["day", "part", "institution", "vendor", "door", "kind"],
                nulls_distinct=False,
                name="qualityday_once",
            )
        ]
        indexes = [models.Index(fields=["institution", "day"], name="qualityday_institution")]

    def __str__(self) -> str:
        return f"{self.day} {self.institution_id} {self.door} {self.kind}"


class QualityMark(models.Model):
    """Up to when arrivals have been counted into :class:`QualityDay` (one row)."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    counted = models.DateTimeField()

    class Meta:
        app_label = "exchange"

    def __str__(self) -> str:
        return self.counted.isoformat()


class WeeklyReport(models.Model):
    """The quality report of an institution for a week (``week`` is its Monday), as it was when it was made."""

    institution = models.ForeignKey("network.Institution", on_delete=models.PROTECT, related_name="+")
    week = models.DateField()
    content = models.JSONField()
    made_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [models.UniqueConstraint(fields=["institution", "week"], name="weeklyreport_once")]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.week}"


class DataProblem(models.Model):
    """What is wrong with an institution's data, a kind and rule and week at a time: the sender owes its mending.

    ``number`` of arrivals concerned; ``arrivals`` names them (the first thousand). ``mended`` how many were found right at the last look.
    ``rule`` is a rule of the gate or the code of a refusal of the door's own; ``live``: not closed.
    """

    case = models.OneToOneField(
        "duty.Case", on_delete=models.PROTECT, primary_key=True, related_name="data_problem"
    )
    institution = models.ForeignKey("network.Institution", on_delete=models.PROTECT, related_name="+")
    desk = models.ForeignKey("network.Institution", on_delete=models.PROTECT, related_name="+")
    door = models.CharField(max_length=10)
    kind = models.CharField(max_length=60)
    rule = models.CharField(max_length=60)
    severity = models.CharField(max_length=10)
    week = models.DateField()
    number = models.IntegerField(default=0)
    arrivals = ArrayField(models.BigIntegerField(), default=list)
    mended = models.IntegerField(default=0)
    replacements = models.JSONField(default=dict)
    live = models.BooleanField(default=True)
    note = models.CharField(max_length=500, blank=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(
                fields=["institution", "door", "kind", "rule", "week"],
                condition=Q(live=True),
                name="dataproblem_live_once",
            )
        ]
        indexes = [models.Index(fields=["institution", "week"], name="dataproblem_institution")]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.rule} {self.week}"


class Replay(models.Model):
    """Many arrivals taken once more, slice by slice, by the ticker. ``asked`` is the filter; ``last`` the arrival it stands at."""

    asked = models.JSONField()
    upto = models.BigIntegerField()
    institutions = ArrayField(models.BigIntegerField(), null=True)
    account_id = models.BigIntegerField(null=True)
    by = models.CharField(max_length=80, blank=True)
    total = models.IntegerField()
    done = models.IntegerField(default=0)
    taken = models.IntegerField(default=0)
    last = models.BigIntegerField(default=0)
    state = models.CharField(max_length=8, default="waiting")
    created_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=["waiting", "done", "stopped"]), name="replay_state")
        ]
        indexes = [models.Index(fields=["id"], condition=Q(state="waiting"), name="replay_waiting")]

    def __str__(self) -> str:
        return f"{self.pk} {self.state} {self.done}/{self.total}"
