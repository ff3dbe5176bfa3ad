"""Every piece that came in by any door, as it came, with what became of it; and what was found wrong with it."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

HL7V2, CDA, TABLE, SETTLEMENT = "hl7v2", "cda", "table", "settlement"
DOORS = (HL7V2, CDA, TABLE, SETTLEMENT)

TAKEN, REFUSED, QUARANTINED, DROPPED = "taken", "refused", "quarantined", "dropped"
STATES = (TAKEN, REFUSED, QUARANTINED, DROPPED)

REFUSE, QUARANTINE, WARN = "refuse", "quarantine", "warn"
SEVERITIES = (REFUSE, QUARANTINE, WARN)
COMPLETENESS, TIMELINESS, CONSISTENCY, UNIQUENESS, VALIDITY = (
    "completeness", "timeliness", "consistency", "uniqueness", "validity",
)  # fmt: skip
DIMENSIONS = (COMPLETENESS, TIMELINESS, CONSISTENCY, UNIQUENESS, VALIDITY)

OPEN, TOLD, MENDED, WAIVED = "open", "sent", "mended", "waived"
FINDING_STATES = (OPEN, TOLD, MENDED, WAIVED)


class Arrival(models.Model):
    """One piece as it came (sealed), with its answer, its reason when it was not taken, and the resources it became.

    ``sender``: whose ``control_id`` it is ("peer:7", "client:3", "account:9", "source:2"; "" unknown).  ``same``: the digest by
    which a repetition is known.  ``taken``: stored in the record.  ``refused``: the sender was told no.  ``quarantined``: kept
    and answered as accepted, not in the record until somebody releases it.  ``dropped``: a person set it aside.
    ``resources``: what it became, each "Type/id/version".  ``error``: code and place, Chinese, English, a line each.
    """

    door = models.CharField(max_length=10)
    sender = models.CharField(max_length=40, blank=True)
    institution = models.ForeignKey(
        "network.Institution", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    client = models.ForeignKey(
        "access.Client", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    peer = models.ForeignKey(
        "exchange.Peer", null=True, on_delete=models.PROTECT, related_name="arrivals", db_index=False
    )
    kind = models.CharField(max_length=60)
    control_id = models.CharField(max_length=199, blank=True)
    same = models.BinaryField(max_length=16)
    body = models.BinaryField()
    answer = models.BinaryField(null=True)
    state = models.CharField(max_length=11)
    code = models.CharField(max_length=2, blank=True)
    error = models.TextField(blank=True)
    mapping = models.CharField(max_length=80, blank=True)
    person_id = models.BigIntegerField(null=True)
    resources = ArrayField(models.TextField(), default=list)
    attempts = models.IntegerField(default=1)
    sent_at = models.DateTimeField(null=True)
    at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(door__in=DOORS), name="arrival_door"),
            models.CheckConstraint(condition=Q(state__in=STATES), name="arrival_state"),
            models.CheckConstraint(
                condition=Q(state="taken") | Q(resources=[]), name="arrival_resources_of_taken"
            ),
        ]
        indexes = [
            models.Index(fields=["sender", "control_id"], name="arrival_control_id"),
            models.Index(fields=["institution", "-at"], name="arrival_institution"),
            models.Index(fields=["-at", "-id"], name="arrival_recent"),
            models.Index(fields=["peer", "-at"], condition=Q(peer__isnull=False), name="arrival_peer"),
            models.Index(fields=["state", "-at"], condition=~Q(state="taken"), name="arrival_not_taken"),
            models.Index(fields=["done_at"], condition=Q(attempts__gt=1), name="arrival_tried_again"),
            GinIndex(fields=["resources"], name="arrival_resources"),
        ]

    def __str__(self) -> str:
        return f"{self.door} {self.kind} {self.control_id}"


class Finding(models.Model):
    """One thing wrong with an arrival. It says where and why, never the value: that is read in the arrival.

    ``sent``: the sender owes its mending (``case_id``); ``mended``: what was sent again is right; ``waived``: it is accepted as it is.
    """

    arrival = models.ForeignKey(Arrival, on_delete=models.CASCADE, related_name="findings")
    institution = models.ForeignKey(
        "network.Institution", null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    door = models.CharField(max_length=10)
    kind = models.CharField(max_length=60)
    day = models.DateField()
    rule = models.CharField(max_length=60)
    dimension = models.CharField(max_length=12)
    severity = models.CharField(max_length=10)
    place = models.CharField(max_length=200, blank=True)
    zh = models.TextField()
    en = models.TextField()
    state = models.CharField(max_length=6, default=OPEN)
    case_id = models.BigIntegerField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(dimension__in=DIMENSIONS), name="finding_dimension"),
            models.CheckConstraint(condition=Q(severity__in=SEVERITIES), name="finding_severity"),
            models.CheckConstraint(condition=Q(state__in=FINDING_STATES), name="finding_state"),
        ]
        indexes = [
            models.Index(fields=["institution", "day"], name="finding_institution"),
            models.Index(fields=["rule", "day"], name="finding_rule"),
            models.Index(fields=["case_id"], condition=Q(case_id__isnull=False), name="finding_case"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.place}"
