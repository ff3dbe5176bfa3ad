"""The ledger's rows: a case, its parties, what is owed, what was done.

The database holds the invariants: an open case has an owner and a due time (I1), one open duty per kind and case, one act
per (case, version), acts and anchors cannot be changed or deleted, a key is used once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.duty.machine import PRIORITIES
from lianxin.standards.text import Text

if TYPE_CHECKING:
    from lianxin.index.models import Person

APPEND_ONLY = [
    pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete),
]


class Case(ScopedModel):
    """One request of an institution to another, moving through a machine's table. Changed by the kernel only.

    ``person`` is null only in cases of a machine that is not ``personal``.
    """

    number = models.CharField(max_length=32, unique=True)
    kind = models.CharField(max_length=40)
    person = models.ForeignKey("index.Person", models.PROTECT, null=True, blank=True, related_name="+")
    state = models.CharField(max_length=40)
    facts = models.JSONField(default=dict)
    version = models.IntegerField(default=0)
    owner_institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    owner_role = models.CharField(max_length=20, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    priority = models.CharField(max_length=12, default="routine")
    pathway_start = models.DateTimeField()
    opened_at = models.DateTimeField()
    changed_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    terminal = models.BooleanField(default=False)
    head_seq = models.IntegerField(default=0)
    head_hash = models.BinaryField(default=b"")

    scope_institutions = ("party_rows__institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="duty_case_open_has_owner_and_due",
                condition=Q(terminal=True)
                | (Q(owner_institution__isnull=False) & Q(due_at__isnull=False) & ~Q(owner_role="")),
            ),
            models.CheckConstraint(
                name="duty_case_terminal_is_closed",
                condition=Q(terminal=True, closed_at__isnull=False)
                | Q(terminal=False, closed_at__isnull=True),
            ),
            models.CheckConstraint(name="duty_case_head_is_version", condition=Q(head_seq=F("version"))),
            models.CheckConstraint(name="duty_case_priority", condition=Q(priority__in=list(PRIORITIES))),
        ]
        indexes = [
            models.Index(fields=["kind", "state"]),
            models.Index(
                fields=["owner_institution", "due_at"],
                condition=Q(terminal=False),
                name="duty_case_open_owner",
            ),
            models.Index(fields=["opened_at"]),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def patient_id(self) -> int:
        """The person the case is about; TypeError in a case about nobody."""
        if self.person_id is None:
            raise TypeError(f"{self.number} is about nobody")
        return self.person_id

    @property
    def patient(self) -> Person:
        """The person the case is about; TypeError in a case about nobody."""
        if self.person is None:
            raise TypeError(f"{self.number} is about nobody")
        return self.person

    @property
    def priority_label(self) -> Text:
        """Priority in words."""
        return PRIORITIES[self.priority]


class CaseParty(models.Model):
    """An institution plays a part in a case from one act to another (``until_seq`` null: still)."""

    case = models.ForeignKey(Case, models.PROTECT, related_name="party_rows")
    part = models.CharField(max_length=24)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    since_seq = models.IntegerField()
    until_seq = models.IntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["case", "part"], condition=Q(until_seq__isnull=True), name="duty_caseparty_live"
            )
        ]

    def __str__(self) -> str:
        return f"{self.case_id} {self.part} {self.institution_id}"


class Act(models.Model):
    """What was done: one row per version of a case, chained by SM3 from the case's first act; never changed."""

    case = models.ForeignKey(Case, models.PROTECT, related_name="acts", db_index=False)
    seq = models.IntegerField()
    move = models.CharField(max_length=40)
    from_state = models.CharField(max_length=40, blank=True)
    to_state = models.CharField(max_length=40)
    account_id = models.BigIntegerField(null=True)
    client_id = models.BigIntegerField(null=True)
    practitioner_id = models.BigIntegerField(null=True)
    institution = models.ForeignKey("network.Institution", models.PROTECT, null=True, related_name="+")
    actor = models.CharField(max_length=80, blank=True)
    role = models.CharField(max_length=20, blank=True)
    at = models.DateTimeField(db_index=True)
    form = models.JSONField()
    outcome = models.JSONField()
    key = models.CharField(max_length=120, unique=True)
    request_hash = models.BinaryField()
    prev_hash = models.BinaryField()
    hash = models.BinaryField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["case", "seq"], name="duty_act_seq")]
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.case_id}#{self.seq} {self.move}"


class Duty(ScopedModel):
    """Something an institution's role (or one person) owes, mostly a patient, by a time, until an act ends it."""

    case = models.ForeignKey(Case, models.PROTECT, related_name="duties")
    person = models.ForeignKey("index.Person", models.PROTECT, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=40)
    label_zh = models.CharField(max_length=80)
    label_en = models.CharField(max_length=120)
    party = models.CharField(max_length=24)
    owner_institution = models.ForeignKey(
        "network.Institution", models.PROTECT, related_name="+", db_index=False
    )
    owner_role = models.CharField(max_length=20)
    owner_account = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, blank=True, related_name="+"
    )
    button = models.CharField(max_length=40)
    clock = models.CharField(max_length=40, blank=True)
    spec = models.CharField(max_length=12, blank=True)
    since = models.CharField(max_length=8, default="now")
    opened_seq = models.IntegerField()
    opened_at = models.DateTimeField()
    due_at = models.DateTimeField()
    paused_since = models.DateTimeField(null=True, blank=True)
    pause_until = models.DateTimeField(null=True, blank=True)
    paused_minutes = models.IntegerField(default=0)
    discharged_seq = models.IntegerField(null=True, blank=True)
    discharged_at = models.DateTimeField(null=True, blank=True)
    ended = models.CharField(max_length=10, blank=True)
    level = models.IntegerField(default=0)
    escalated_at = models.DateTimeField(null=True, blank=True)
    next_escalation_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("owner_institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["case", "kind"], condition=Q(ended=""), name="duty_duty_one_open"
            ),
            models.CheckConstraint(
                name="duty_duty_ended_by_an_act",
                condition=Q(ended="", discharged_seq__isnull=True, discharged_at__isnull=True)
                | Q(
                    ended__in=["done", "withdrawn"], discharged_seq__isnull=False, discharged_at__isnull=False
                ),
            ),
            models.CheckConstraint(
                name="duty_duty_pause",
                condition=Q(paused_since__isnull=True, pause_until__isnull=True)
                | Q(paused_since__isnull=False, pause_until__isnull=False),
            ),
        ]
        indexes = [
            models.Index(
                fields=["owner_institution", "owner_role", "due_at"],
                condition=Q(ended=""),
                name="duty_duty_worklist",
            ),
            models.Index(
                fields=["next_escalation_at"],
                condition=Q(ended="", next_escalation_at__isnull=False),
                name="duty_duty_escalation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case_id} {self.kind}"

    @property
    def label(self) -> Text:
        """What is owed, in words."""
        return Text(self.label_zh, self.label_en)


class Escalation(models.Model):
    """A step up the owner chain because a duty is late. It changes no state; one row per duty and level, never changed."""

    duty = models.ForeignKey(Duty, models.PROTECT, related_name="escalations", db_index=False)
    level = models.IntegerField()
    at = models.DateTimeField(db_index=True)
    due_at = models.DateTimeField()
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    role = models.CharField(max_length=20)
    account_id = models.BigIntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["duty", "level"], name="duty_escalation_once")]
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.duty_id} level {self.level}"


class Notice(models.Model):
    """A line for an institution's role (or one account) about a case."""

    case = models.ForeignKey(Case, models.PROTECT, related_name="notices")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    role = models.CharField(max_length=20, blank=True)
    account = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, null=True, blank=True, related_name="+"
    )
    text_zh = models.CharField(max_length=240)
    text_en = models.CharField(max_length=320)
    level = models.IntegerField(default=0)
    created_at = models.DateTimeField()
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["institution", "role"], condition=Q(read_at__isnull=True), name="duty_notice_unread"
            ),
            models.Index(fields=["institution", "-created_at"]),
        ]

    def __str__(self) -> str:
        return self.text_zh

    @property
    def text(self) -> Text:
        """The line in both languages."""
        return Text(self.text_zh, self.text_en)


class Outbox(models.Model):
    """An event waiting for its consumers, written in the transaction of the change it tells of."""

    topic = models.CharField(max_length=60)
    key = models.CharField(max_length=80)
    payload = models.JSONField()
    created_at = models.DateTimeField()
    attempts = models.IntegerField(default=0)
    not_before = models.DateTimeField()
    last_error = models.CharField(max_length=400, blank=True)
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["id"], condition=Q(done_at__isnull=True), name="duty_outbox_waiting"),
            models.Index(fields=["key", "id"], condition=Q(done_at__isnull=True), name="duty_outbox_order"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.topic} {self.key}"


class Anchor(models.Model):
    """A digest over every act written since the last anchor, chained: removing a whole case no longer goes unnoticed."""

    day = models.DateField(unique=True)
    after_act = models.BigIntegerField()
    upto_act = models.BigIntegerField()
    acts = models.IntegerField()
    made_at = models.DateTimeField()
    prev_hash = models.BinaryField()
    hash = models.BinaryField()

    class Meta:
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.day} {self.acts}"


class Chore(models.Model):
    """When a periodic chore last ran, and what went wrong."""

    name = models.CharField(max_length=60, primary_key=True)
    ran_at = models.DateTimeField()
    error = models.CharField(max_length=400, blank=True)

    def __str__(self) -> str:
        return self.name
