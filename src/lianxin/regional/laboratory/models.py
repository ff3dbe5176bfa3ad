"""Rows of the laboratory beside its case: tubes, boxes with their temperatures, results by attempt, verifications, controls.

The case (``duty.Case``) says where a piece of work stands; these rows hold what must never break in the database: one tube in force per
piece of work, one result in force per analyte, nobody verifies a result twice, a verified value never changes, what a device sent is
taken once.
"""

from __future__ import annotations

import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.policy import Setting

TUBES = ("planned", "collected", "packed", "sent", "received", "refused", "stored", "disposed", "void")
"""A tube: planned (label printed), collected, packed into a box, sent, received, then refused or stored and disposed; void: the work was
cancelled before it was used."""
OUT = ("refused", "void")
BOXES = ("open", "sealed", "taken", "received")
SOURCES = ("hand", "v2", "astm", "calc")
RESULTS = ("current", "earlier", "retracted")


class Specimen(ScopedModel):
    """A tube with its bar code. A tube that was refused is kept; the next one of the same work has the next ``attempt``.

    ``number`` is what the bar code says: the accession number, with ``-2`` and so on from the second tube.
    """

    number = models.CharField(max_length=20, unique=True)
    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="specimens")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    centre_of = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    kind = models.CharField(max_length=12)
    attempt = models.SmallIntegerField(default=1)
    state = models.CharField(max_length=10, default="planned")
    container = models.CharField(max_length=20, blank=True)
    volume_ml = models.DecimalField(max_digits=6, decimal_places=1, null=True, blank=True)
    identity = models.CharField(max_length=8, blank=True)
    fasting = models.BooleanField(null=True, blank=True)
    collected_at = models.DateTimeField(null=True, blank=True)
    collected_by = models.BigIntegerField(null=True, blank=True)
    collector = models.CharField(max_length=40, blank=True)
    box = models.ForeignKey("laboratory.Box", models.PROTECT, null=True, blank=True, related_name="tubes")
    received_at = models.DateTimeField(null=True, blank=True)
    received_by = models.BigIntegerField(null=True, blank=True)
    refused = models.CharField(max_length=16, blank=True)
    note = models.CharField(max_length=300, blank=True)
    position = models.CharField(max_length=40, blank=True)
    keep_until = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.BigIntegerField(null=True, blank=True)

    scope_institutions = ("institution_id", "centre_of_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_specimen_state", condition=Q(state__in=TUBES)),
            models.CheckConstraint(
                name="laboratory_specimen_collected",
                condition=Q(state__in=["planned", *OUT]) | Q(collected_at__isnull=False),
            ),
            models.CheckConstraint(
                name="laboratory_specimen_refused", condition=Q(state="refused") ^ Q(refused="")
            ),
            models.CheckConstraint(
                name="laboratory_specimen_boxed",
                condition=~Q(state__in=["packed", "sent"]) | Q(box__isnull=False),
            ),
            models.CheckConstraint(
                name="laboratory_specimen_received",
                condition=~Q(state__in=["received", "stored", "disposed"]) | Q(received_at__isnull=False),
            ),
            models.CheckConstraint(
                name="laboratory_specimen_order",
                condition=Q(received_at__isnull=True) | Q(received_at__gte=F("collected_at")),
            ),
            models.UniqueConstraint(fields=["reading", "attempt"], name="laboratory_specimen_attempt"),
            models.UniqueConstraint(
                fields=["reading"], condition=~Q(state__in=OUT), name="laboratory_specimen_one_live"
            ),
        ]
        indexes = [
            models.Index(fields=["institution", "state"], name="laboratory_specimen_at"),
            models.Index(fields=["centre_of", "keep_until"], condition=Q(state__in=["received", "stored"]), name="laboratory_specimen_kept"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.number


class Work(ScopedModel):
    """The laboratory's side of a piece of work: which tube is measured (its own, or one that was kept, for tests added later), how many
    must verify, what was known of the person when it was taken, and how the report went out.
    """

    reading = models.OneToOneField(
        "reading.Reading", models.PROTECT, primary_key=True, related_name="laboratory"
    )
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    specimen = models.ForeignKey(Specimen, models.PROTECT, related_name="works")
    added = models.BooleanField(default=False)
    pregnant_weeks = models.SmallIntegerField(null=True, blank=True)
    required = models.SmallIntegerField(default=1)
    received_at = models.DateTimeField(null=True, blank=True)
    resulted_at = models.DateTimeField(null=True, blank=True)
    verified_at = models.DateTimeField(null=True, blank=True)
    auto = models.BooleanField(default=False)
    why_not = models.JSONField(default=list)
    refusals = models.SmallIntegerField(default=0)
    version = models.SmallIntegerField(default=0)

    scope_institutions = ("reading__orderer_id", "reading__performer_id", "reading__centre_of_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_work_required", condition=Q(required__in=[1, 2])),
            models.CheckConstraint(
                name="laboratory_work_pregnant",
                condition=Q(pregnant_weeks__isnull=True) | Q(pregnant_weeks__gte=0, pregnant_weeks__lte=45),
            ),
        ]

    def __str__(self) -> str:
        return str(self.reading_id)


class Box(ScopedModel):
    """A transport box: packed and sealed here, taken by a driver, received there. Tubes may be put in only while it is open."""

    number = models.CharField(max_length=20, unique=True)
    sender = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    destination = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    state = models.CharField(max_length=10, default="open")
    low = models.DecimalField(max_digits=4, decimal_places=1, default=2)
    high = models.DecimalField(max_digits=4, decimal_places=1, default=8)
    opened_at = models.DateTimeField()
    opened_by = models.BigIntegerField(null=True, blank=True)
    sealed_at = models.DateTimeField(null=True, blank=True)
    taken_at = models.DateTimeField(null=True, blank=True)
    taken_by = models.CharField(max_length=40, blank=True)
    received_at = models.DateTimeField(null=True, blank=True)
    received_by = models.BigIntegerField(null=True, blank=True)

    scope_person = ""
    scope_institutions = ("sender_id", "destination_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_box_state", condition=Q(state__in=BOXES)),
            models.CheckConstraint(name="laboratory_box_range", condition=Q(high__gt=F("low"))),
            models.CheckConstraint(
                name="laboratory_box_times",
                condition=(Q(state="open") | Q(sealed_at__isnull=False))
                & (~Q(state="received") | Q(received_at__isnull=False)),
            ),
        ]
        indexes = [
            models.Index(fields=["sender", "state"], name="laboratory_box_sender"),
            models.Index(fields=["destination", "state"], name="laboratory_box_destination"),
        ]

    def __str__(self) -> str:
        return self.number


class Temperature(models.Model):
    """A reading of the logger in a box, °C. Never changed; the same moment twice is the same reading."""

    box = models.ForeignKey(Box, models.PROTECT, related_name="temperatures")
    at = models.DateTimeField()
    celsius = models.DecimalField(max_digits=4, decimal_places=1)
    by = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["box", "at"], name="laboratory_temperature_once")]
        triggers = [
            pgtrigger.Protect(name="logged_stands", operation=pgtrigger.Update | pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.box_id} {self.celsius} °C"


class Analyser(models.Model):
    """A device of a laboratory: how its test codes are called here (``tests``: its code → analyte) and the address it talks on.

    ``v2_name`` is the sending application of its HL7 v2 messages (MSH-3) or the instrument they name (OBX-18).
    """

    code = models.CharField(max_length=20)
    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    protocol = models.CharField(max_length=6, default="astm")
    v2_name = models.CharField(max_length=60, blank=True)
    tests = models.JSONField(default=dict)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "code"], name="laboratory_analyser_once"),
            models.CheckConstraint(
                name="laboratory_analyser_protocol", condition=Q(protocol__in=["astm", "v2", "hand"])
            ),
        ]

    def __str__(self) -> str:
        return self.code


class Result(ScopedModel):
    """A measured value by attempt. ``current``: the one the report takes; earlier attempts and retracted values are kept.

    ``flag`` is the interpretation (HL7 table 0078: N L H LL HH A); ``low``/``high``/``range_text`` the reference range it was judged by;
    ``device_flags`` what the device said of it; ``key`` names what it came with, so that the same message is taken once.
    """

    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="results")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    specimen = models.ForeignKey(Specimen, models.PROTECT, related_name="results")
    analyte = models.CharField(max_length=20)
    attempt = models.SmallIntegerField()
    state = models.CharField(max_length=10, default="current")
    comparator = models.CharField(max_length=2, blank=True)
    value = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    text = models.CharField(max_length=40, blank=True)
    unit = models.CharField(max_length=24, blank=True)
    sent = models.CharField(max_length=80, blank=True)
    flag = models.CharField(max_length=2, blank=True)
    low = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    high = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    range_text = models.CharField(max_length=40, blank=True)
    method = models.CharField(max_length=60, blank=True)
    device = models.CharField(max_length=20, blank=True)
    device_flags = models.CharField(max_length=40, blank=True)
    source = models.CharField(max_length=4)
    key = models.CharField(max_length=80, blank=True)
    delta = models.JSONField(default=dict)
    account_id = models.BigIntegerField(null=True, blank=True)
    at = models.DateTimeField()
    measured_at = models.DateTimeField()
    why = models.CharField(max_length=200, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_result_state", condition=Q(state__in=RESULTS)),
            models.CheckConstraint(name="laboratory_result_source", condition=Q(source__in=SOURCES)),
            models.CheckConstraint(
                name="laboratory_result_said", condition=Q(value__isnull=False) | ~Q(text="")
            ),
            models.UniqueConstraint(
                fields=["reading", "analyte", "attempt"], name="laboratory_result_attempt"
            ),
            models.UniqueConstraint(
                fields=["reading", "analyte"], condition=Q(state="current"), name="laboratory_result_current"
            ),
            models.UniqueConstraint(
                fields=["reading", "analyte", "key"],
                condition=~Q(key=""),
                name="laboratory_result_taken_once",
            ),
        ]
        indexes = [
            models.Index(fields=["person", "analyte", "-measured_at"], condition=Q(state="current"), name="laboratory_result_person"),
            models.Index(fields=["institution", "analyte", "at"], name="laboratory_result_at"),
        ]  # fmt: skip
        triggers = [
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
            pgtrigger.Protect(
                name="value_stands",
                operation=pgtrigger.UpdateOf("analyte", "attempt", "comparator", "value", "text", "unit", "sent", "flag", "low", "high", "range_text", "device", "source", "key"),
            ),
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.reading_id} {self.analyte} #{self.attempt}"


class Verification(models.Model):
    """Somebody vouches for a result: level 1 the technical verification, level 2 the second. Nobody does both for one result.

    By rule (``rule``): the account is the one that set the rule in force. Never changed.
    """

    result = models.ForeignKey(Result, models.PROTECT, related_name="verifications")
    level = models.SmallIntegerField()
    account_id = models.BigIntegerField()
    rule = models.ForeignKey(
        "laboratory.AutoRule", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_verification_level", condition=Q(level__in=[1, 2])),
            models.UniqueConstraint(fields=["result", "level"], name="laboratory_verification_level_once"),
            models.UniqueConstraint(
                fields=["result", "account_id"], name="laboratory_verification_never_twice"
            ),
        ]
        triggers = [pgtrigger.Protect(name="stands", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.result_id} {self.level}"


class Stray(ScopedModel):
    """What a device sent that belongs to no work waiting here: kept, shown, never attached. ``payload`` as it was understood."""

    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    analyser = models.ForeignKey(Analyser, models.PROTECT, null=True, blank=True, related_name="+")
    sample = models.CharField(max_length=40)
    reason = models.CharField(max_length=16)
    payload = models.JSONField()
    key = models.CharField(max_length=80, unique=True)
    at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.BigIntegerField(null=True, blank=True)
    note = models.CharField(max_length=200, blank=True)

    scope_person = ""
    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="laboratory_stray_closed", condition=Q(closed_at__isnull=True) | ~Q(note="")
            )
        ]
        indexes = [
            models.Index(fields=["institution", "-at"], condition=Q(closed_at__isnull=True), name="laboratory_stray_open")
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.sample} {self.reason}"


class Control(models.Model):
    """A lot of control material for an analyte at a level on a device ("" any): target mean and standard deviation.

    A new lot is a new row; the old one is closed. ``allowed`` is the total error allowed, per cent, for the sigma metric.
    """

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    analyte = models.CharField(max_length=20)
    level = models.SmallIntegerField(default=1)
    lot = models.CharField(max_length=40)
    device = models.CharField(max_length=20, blank=True)
    mean = models.DecimalField(max_digits=14, decimal_places=4)
    sd = models.DecimalField(max_digits=14, decimal_places=4)
    allowed = models.DecimalField(max_digits=5, decimal_places=1, null=True, blank=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    set_by = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_control_sd", condition=Q(sd__gt=0)),
            models.CheckConstraint(name="laboratory_control_level", condition=Q(level__in=[1, 2, 3])),
            models.UniqueConstraint(
                fields=["institution", "analyte", "level", "device", "lot"], name="laboratory_control_lot"
            ),
            models.UniqueConstraint(
                fields=["institution", "analyte", "level", "device"],
                condition=Q(closed_at__isnull=True),
                name="laboratory_control_one_open",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.analyte} L{self.level} {self.lot}"


class Measure(models.Model):
    """A control measured: its deviation in standard deviations (``z``) and what the rules said. Never changed.

    Controls measured together have the same ``run``.
    """

    control = models.ForeignKey(Control, models.PROTECT, related_name="measures")
    run = models.CharField(max_length=40)
    at = models.DateTimeField()
    value = models.DecimalField(max_digits=14, decimal_places=4)
    z = models.FloatField()
    verdict = models.CharField(max_length=8)
    rules = ArrayField(models.CharField(max_length=6), default=list)
    account_id = models.BigIntegerField(null=True, blank=True)
    key = models.CharField(max_length=80, unique=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="laboratory_measure_verdict", condition=Q(verdict__in=["accept", "warn", "reject"])
            )
        ]
        indexes = [models.Index(fields=["control", "-at", "-id"], name="laboratory_measure_at")]
        triggers = [pgtrigger.Protect(name="stands", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.control_id} {self.z:+.2f}"


class Corrective(models.Model):
    """What was done about a rejected run: cause, action, who. It opens the gate for the analyte again. Never changed."""

    measure = models.OneToOneField(Measure, models.PROTECT, related_name="corrective")
    cause = models.CharField(max_length=16)
    action = models.CharField(max_length=300)
    account_id = models.BigIntegerField()
    at = models.DateTimeField()

    class Meta:
        constraints = [models.CheckConstraint(name="laboratory_corrective_said", condition=~Q(action=""))]
        triggers = [pgtrigger.Protect(name="stands", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.measure_id} {self.cause}"


class AutoRule(models.Model):
    """Whether results of an analyte ("*": all) may be verified by rule at a laboratory, within which limits, and who decided so.

    Each decision is a row; the last one is in force. ``low``/``high`` narrow the reference range; null: the reference range itself.
    """

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    analyte = models.CharField(max_length=20)
    on = models.BooleanField()
    low = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    high = models.DecimalField(max_digits=14, decimal_places=4, null=True, blank=True)
    account_id = models.BigIntegerField()
    set_by = models.CharField(max_length=40)
    at = models.DateTimeField()
    reason = models.CharField(max_length=200)

    class Meta:
        constraints = [
            models.CheckConstraint(name="laboratory_autorule_reason", condition=~Q(reason="")),
            models.CheckConstraint(
                name="laboratory_autorule_range",
                condition=Q(low__isnull=True) | Q(high__isnull=True) | Q(high__gt=F("low")),
            ),
        ]
        indexes = [models.Index(fields=["institution", "analyte", "-id"], name="laboratory_autorule_last")]
        triggers = [pgtrigger.Protect(name="stands", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.analyte} {self.on}"


class Policy(Setting):
    """A setting of the laboratories from a day on: for everybody or one consortium, with the document it comes from."""
