"""What batches leave behind: proposals with their changes, loads with how far they came, and a day's figures per institution."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from lianxin.access.models import Account
from lianxin.network.models import Institution


class Proposal(models.Model):
    """A new linkage of everybody held against the live index. Nothing changes until a person accepts it."""

    STATES = ("building", "ready", "applying", "applied", "refused", "undoing", "undone", "failed")

    model_version = models.CharField(max_length=64)
    engine = models.CharField(max_length=8, default="duckdb")
    state = models.CharField(max_length=8, default="building")
    made_at = models.DateTimeField()
    made_by = models.CharField(max_length=120, blank=True)
    figures = models.JSONField(default=dict)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        db_table = "index_proposal"
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    state__in=(
                        "building",
                        "ready",
                        "applying",
                        "applied",
                        "refused",
                        "undoing",
                        "undone",
                        "failed",
                    )
                ),
                name="index_proposal_state",
            ),
            models.UniqueConstraint(
                fields=["state"],
                condition=Q(state__in=("applying", "undoing")),
                name="index_proposal_one_at_work",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.model_version} {self.state}"


class ProposedChange(models.Model):
    """One difference: ``join`` (person_b turns out to be person_a), ``split`` (these sources of person_a are somebody else:
    person_b, or a new person), ``review`` (a human should look at the two)."""

    proposal = models.ForeignKey(Proposal, on_delete=models.CASCADE, related_name="changes")
    kind = models.CharField(max_length=8)
    person_a = models.BigIntegerField()
    person_b = models.BigIntegerField(null=True)
    sources = ArrayField(models.BigIntegerField(), default=list)
    bits = models.FloatField(default=0)
    probability = models.FloatField(default=0)
    parts = models.JSONField(default=list)
    reason = models.CharField(max_length=16, blank=True)
    records = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=8, default="open")
    event_ids = ArrayField(models.BigIntegerField(), default=list)
    why_not = models.CharField(max_length=300, blank=True)

    class Meta:
        db_table = "index_proposedchange"
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=("join", "split", "review")), name="index_proposedchange_kind"
            ),
            models.CheckConstraint(
                condition=Q(state__in=("open", "applied", "skipped", "undone")),
                name="index_proposedchange_state",
            ),
            models.CheckConstraint(
                condition=Q(person_b__isnull=True) | ~Q(person_a=F("person_b")),
                name="index_proposedchange_two",
            ),
        ]
        indexes = [models.Index(fields=["proposal", "state", "kind", "id"], name="index_proposedchange_turn")]

    def __str__(self) -> str:
        return f"{self.kind} {self.person_a} {self.person_b or ''}"


class LoadedSlice(models.Model):
    """A slice of a load that is in the tables, whole: written in the slice's own transaction."""

    load = models.BinaryField(max_length=32)
    number = models.PositiveIntegerField()
    rows = models.PositiveIntegerField()
    at = models.DateTimeField()

    class Meta:
        db_table = "index_loadedslice"
        constraints = [models.UniqueConstraint(fields=["load", "number"], name="index_loadedslice_once")]

    def __str__(self) -> str:
        return f"{self.number}: {self.rows}"


class Day(models.Model):
    """A day's figures of one institution's registrations. Rates are counts over ``sampled`` (the day's registrations, or as many
    of them as were opened)."""

    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, db_index=False, related_name="+")
    day = models.DateField()
    registrations = models.PositiveIntegerField(default=0)
    linked = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    reviews = models.PositiveIntegerField(default=0)
    suspected = models.PositiveIntegerField(default=0)
    doubles = models.PositiveIntegerField(default=0)
    people = models.PositiveIntegerField(default=0)
    alone = models.PositiveIntegerField(default=0)
    sampled = models.PositiveIntegerField(default=0)
    no_id = models.PositiveIntegerField(default=0)
    wrong_id = models.PositiveIntegerField(default=0)
    no_birth = models.PositiveIntegerField(default=0)
    no_phone = models.PositiveIntegerField(default=0)
    generic = models.PositiveIntegerField(default=0)
    nameless = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "index_day"
        constraints = [models.UniqueConstraint(fields=["institution", "day"], name="index_day_once")]
        indexes = [models.Index(fields=["day"], name="index_day_day")]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.day}"
