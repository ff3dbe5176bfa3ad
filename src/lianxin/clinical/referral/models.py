"""What a referral keeps beside its case: intent, legs, letters, conversation, follow-up, and the policy data it runs on.

State, version, owner and due time live in ``duty.Case``; these tables hold the clinical content and the three side facts
(information asked, booking, cancellation asked). The database holds what must never break: one open referral of a person per
specialty and direction, legs that form a path without repeats, no booking left on an ended referral.
"""

from __future__ import annotations

import datetime as dt
from typing import ClassVar

from django.db import models
from django.db.models import F, Q

from lianxin.access.scope import Scope
from lianxin.access.scoped import ScopedManager, ScopedModel
from lianxin.standards import clock

MAX_HOPS = 3


class Direction(models.TextChoices):
    UP = "up", "上转"
    DOWN = "down", "下转"
    ACROSS = "across", "平级转诊"


class Priority(models.TextChoices):
    ROUTINE = "routine", "常规"
    URGENT = "urgent", "优先"
    EMERGENCY = "emergency", "急诊"


class ReferralManager(ScopedManager):
    """Referrals within a scope; one never sent is nobody's business but its writer's (and an emergency's receiver)."""

    def within(self, scope: Scope | None) -> models.QuerySet:
        """Rows that ``scope`` may see."""
        rows = super().within(scope)
        if scope is None or scope.everything:
            return rows
        mine = scope.institution_ids | scope.oversight_ids
        return rows.filter(
            Q(submitted_at__isnull=False) | Q(emergency=True) | Q(from_institution_id__in=mine)
        )


class Referral(ScopedModel):
    """One referral: the clinical intent, edited only by the referrer; its state is ``case.state``."""

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="referral")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="referrals")
    consortium = models.ForeignKey("network.Consortium", models.PROTECT, null=True, blank=True)
    direction = models.CharField(max_length=8, choices=Direction.choices, default=Direction.UP)
    emergency = models.BooleanField(default=False)
    parent = models.ForeignKey("self", models.PROTECT, null=True, blank=True, related_name="children")
    from_institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="referrals_out")
    from_department = models.ForeignKey(
        "network.Department", models.PROTECT, null=True, blank=True, related_name="+"
    )
    from_practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    to_institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="referrals_in"
    )
    to_department = models.ForeignKey(
        "network.Department", models.PROTECT, null=True, blank=True, related_name="+"
    )
    specialty = models.CharField(max_length=32, blank=True)
    diagnosis_code = models.CharField(max_length=32, blank=True)
    diagnosis_name = models.CharField(max_length=200, blank=True)
    priority = models.CharField(max_length=12, choices=Priority.choices, default=Priority.ROUTINE)
    reason_code = models.CharField(max_length=40, blank=True)
    reason = models.TextField(blank=True)
    pack = models.JSONField(default=dict, blank=True)
    answer = models.JSONField(default=dict, blank=True)
    override_reason = models.TextField(blank=True)
    consent_id = models.BigIntegerField(null=True, blank=True)

    live = models.BooleanField(default=False)  # sent and not yet ended: counts for the duplicate guard
    info = models.CharField(max_length=8, default="none")
    info_asked_at = models.DateTimeField(null=True, blank=True)
    booking = models.CharField(max_length=12, default="none")
    cancel = models.CharField(max_length=8, default="none")
    place = models.ForeignKey("pool.Place", models.PROTECT, null=True, blank=True, related_name="+")
    appointment_at = models.DateTimeField(null=True, blank=True)
    appointment_end = models.DateTimeField(null=True, blank=True)
    appointment_note = models.CharField(max_length=200, blank=True)
    hops = models.PositiveSmallIntegerField(default=0)
    reschedules = models.PositiveSmallIntegerField(default=0)
    no_shows = models.PositiveSmallIntegerField(default=0)

    submitted_at = models.DateTimeField(null=True, blank=True)
    visit_kind = models.CharField(max_length=12, blank=True)
    visit_number = models.CharField(max_length=40, blank=True)
    arrived_at = models.DateTimeField(null=True, blank=True)
    care_started_at = models.DateTimeField(null=True, blank=True)
    discharged_at = models.DateTimeField(null=True, blank=True)
    down_proposal = models.JSONField(default=dict, blank=True)
    backfilled = models.JSONField(default=list, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_code = models.CharField(max_length=40, blank=True)
    end_text = models.TextField(blank=True)

    scope_person: ClassVar[str] = "person_id"
    scope_institutions: ClassVar[tuple[str, ...]] = ("from_institution_id", "to_institution_id")

    objects: ClassVar[ReferralManager] = ReferralManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                # A patient going on down from one place to the next has two open: the second follows the first (parent).
                fields=["person", "specialty", "direction", "emergency", "parent"],
                condition=Q(live=True),
                nulls_distinct=False,
                name="referral_one_open_per_specialty",
            ),
            models.CheckConstraint(
                condition=Q(hops__gte=0, hops__lte=MAX_HOPS), name="referral_hops_at_most_3"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(booking="none", live=False, info="none", cancel="none"),
                name="referral_ended_keeps_no_booking",
            ),
            models.CheckConstraint(
                condition=Q(direction__in=Direction.values, priority__in=Priority.values),
                name="referral_known_direction",
            ),
            models.CheckConstraint(
                condition=Q(info__in=["none", "asked"], cancel__in=["none", "asked"])
                & Q(booking__in=["none", "waitlisted", "held", "booked"]),
                name="referral_known_side_facts",
            ),
            models.CheckConstraint(
                condition=~Q(to_institution=F("from_institution")), name="referral_not_to_itself"
            ),
        ]
        indexes = [
            models.Index(fields=["from_institution", "submitted_at"], name="referral_from_idx"),
            models.Index(fields=["to_institution", "submitted_at"], name="referral_to_idx"),
            models.Index(fields=["person"], name="referral_person_idx"),
            models.Index(
                fields=["appointment_end"], condition=Q(booking="booked"), name="referral_booked_idx"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.case_id} {self.direction} {self.diagnosis_name}"

    @property
    def number(self) -> str:
        """The case number, printed and encoded in the QR code."""
        return self.case.number

    @property
    def state(self) -> str:
        """Main state of the case."""
        return self.case.state


class Leg(ScopedModel):
    """One offer to one receiver (FHIR Task). A redirect ends a leg and opens the next; no receiver is asked twice (I5)."""

    referral = models.ForeignKey(Referral, models.CASCADE, related_name="legs")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    number = models.PositiveSmallIntegerField()
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    department = models.ForeignKey(
        "network.Department", models.PROTECT, null=True, blank=True, related_name="+"
    )
    status = models.CharField(max_length=12, default="open")
    opened_at = models.DateTimeField()
    received_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    end_code = models.CharField(max_length=40, blank=True)
    end_text = models.TextField(blank=True)

    scope_person: ClassVar[str] = "person_id"
    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["referral", "number"], name="leg_number_once"),
            models.UniqueConstraint(fields=["referral", "institution"], name="leg_path_without_repeats"),
            models.UniqueConstraint(fields=["referral"], condition=Q(status="open"), name="leg_one_open"),
            models.CheckConstraint(
                condition=Q(number__gte=1, number__lte=MAX_HOPS + 1), name="leg_at_most_3_hops"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["open", "redirected", "returned", "cancelled", "completed"]),
                name="leg_known_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.referral_id}-{self.number}"


class Letter(ScopedModel):
    """A document sent on a referral: interim note, outcome letter, advice, ward round, discharge pack."""

    referral = models.ForeignKey(Referral, models.CASCADE, related_name="letters")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    leg = models.ForeignKey(Leg, models.PROTECT, null=True, blank=True, related_name="+")
    number = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=12)  # interim | outcome | advice | ward_round
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    author = models.CharField(max_length=80, blank=True)
    content = models.JSONField(default=dict)
    sent_at = models.DateTimeField()
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=80, blank=True)
    medication_reconciled = models.BooleanField(default=False)
    disputed_at = models.DateTimeField(null=True, blank=True)
    dispute_reason = models.TextField(blank=True)

    scope_person: ClassVar[str] = "person_id"
    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["referral", "number"], name="letter_number_once"),
            models.CheckConstraint(
                condition=Q(kind__in=["interim", "outcome", "advice", "ward_round"]), name="letter_known_kind"
            ),
            models.CheckConstraint(
                condition=Q(acknowledged_at=None) | ~Q(kind="outcome") | Q(medication_reconciled=True),
                name="letter_acknowledged_with_reconciliation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.referral_id} {self.kind} {self.number}"


class Message(ScopedModel):
    """One line of the conversation between referrer and receiver (question, answer, or a note that a move left)."""

    referral = models.ForeignKey(Referral, models.CASCADE, related_name="messages")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    number = models.PositiveSmallIntegerField()
    kind = models.CharField(max_length=12)  # question | answer | note
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    author = models.CharField(max_length=80, blank=True)
    code = models.CharField(max_length=40, blank=True)
    text = models.TextField()
    at = models.DateTimeField()

    scope_person: ClassVar[str] = "person_id"
    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["referral", "number"], name="message_number_once")]

    def __str__(self) -> str:
        return f"{self.referral_id} {self.kind} {self.number}"


class Followup(ScopedModel):
    """A follow-up duty at the township or family doctor: opened when a patient comes back down, never without an owner."""

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="followup")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="followups")
    referral = models.ForeignKey(Referral, models.PROTECT, null=True, blank=True, related_name="followups")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="followups")
    origin_institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+"
    )
    kind = models.CharField(max_length=16, default="rehab")  # rehab | chronic | review
    plan = models.JSONField(default=dict, blank=True)
    next_due = models.DateTimeField(null=True, blank=True)
    contacts = models.PositiveSmallIntegerField(default=0)
    attempts = models.PositiveSmallIntegerField(default=0)
    reschedules = models.PositiveSmallIntegerField(default=0)
    end_code = models.CharField(max_length=40, blank=True)
    end_text = models.TextField(blank=True)

    scope_person: ClassVar[str] = "person_id"
    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    def __str__(self) -> str:
        return f"{self.case_id} {self.kind}"


class FollowupContact(ScopedModel):
    """One contact (or failed attempt) of a follow-up, with the few measures that matter."""

    followup = models.ForeignKey(Followup, models.CASCADE, related_name="contact_rows")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    number = models.PositiveSmallIntegerField()
    mode = models.CharField(max_length=12)  # home | clinic | phone | video | failed
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+"
    )
    author = models.CharField(max_length=80, blank=True)
    content = models.JSONField(default=dict)
    at = models.DateTimeField()

    scope_person: ClassVar[str] = "person_id"

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["followup", "number"], name="contact_number_once")]

    def __str__(self) -> str:
        return f"{self.followup_id} {self.mode} {self.number}"


class Effective(models.Model):
    """A row of policy with the days on which it holds and the document it comes from."""

    effective_from = models.DateField()
    effective_to = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=300, blank=True)

    class Meta:
        abstract = True

    @classmethod
    def on(cls, day: dt.date | None = None) -> models.QuerySet:
        """Rows in force on ``day`` (default: today by the house clock)."""
        day = day or clock.today()
        return cls._default_manager.filter(effective_from__lte=day).filter(
            Q(effective_to=None) | Q(effective_to__gt=day)
        )


class Policy(Effective):
    """A named setting (a clock, a count, a code list): one value per consortium and period; no consortium = the default."""

    name = models.CharField(max_length=60)
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    value = models.JSONField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name", "consortium", "effective_from"], nulls_distinct=False, name="policy_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class Catalogue(Effective):
    """A disease catalogue of a consortium: what the grassroots see first, what county and township treat, what stays in."""

    code = models.CharField(max_length=40)
    title = models.CharField(max_length=100)
    title_en = models.CharField(max_length=120, blank=True)
    kind = models.CharField(max_length=16)  # first_visit | two_level | keep_in
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    version = models.CharField(max_length=20)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["code", "version", "consortium"], nulls_distinct=False, name="catalogue_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.title} {self.version}"


class CatalogueRule(models.Model):
    """One disease of a catalogue: ICD-10 range, tiers that treat it, conditions to go up or down, pack and evidence."""

    catalogue = models.ForeignKey(Catalogue, models.CASCADE, related_name="rules")
    code = models.CharField(max_length=40)
    name = models.CharField(max_length=120)
    name_en = models.CharField(max_length=160, blank=True)
    icd_from = models.CharField(max_length=10)
    icd_to = models.CharField(max_length=10)
    tiers_allowed = models.JSONField(default=list)
    must_refer_when = models.JSONField(default=list)  # [{when, zh, en, emergency, source}]
    may_down_when = models.JSONField(default=list)
    pack = models.CharField(max_length=40, blank=True)
    specialty = models.CharField(max_length=32, blank=True)
    evidence = models.CharField(max_length=300)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["catalogue", "code"], name="catalogue_rule_once")]
        indexes = [models.Index(fields=["icd_from", "icd_to"], name="catalogue_icd_idx")]

    def __str__(self) -> str:
        return f"{self.code} {self.name}"
