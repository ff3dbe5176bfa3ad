"""People: one row per human being as the platform knows them, the registrations it was known from, and what was decided.

Reading goes through :mod:`lianxin.index.registry` (which masks and audits); these models are mechanism tables, so
``Person.objects`` is scoped like all patient data.
"""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.indexes import HashIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Greatest, Least

from lianxin.access.models import Account
from lianxin.access.scoped import ScopedModel
from lianxin.network.models import Institution


class Person(ScopedModel):
    """One human being. ``number`` (主索引号) and ``card_number`` (电子健康卡号) never change and are never used again.

    Both come from one serial: whoever looks for a card number asks for ``numbers.number_of_card`` of it.
    """

    scope_person: ClassVar[str] = "id"

    number = models.CharField(max_length=10)
    card_number = models.CharField(max_length=16)
    status = models.CharField(max_length=8, default="active")
    merged_into = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, db_index=False, related_name="absorbed"
    )
    name = models.CharField(max_length=200)
    sex = models.CharField(max_length=8, default="unknown")
    birth_date = models.DateField(null=True, blank=True)
    id_type = models.CharField(max_length=8, blank=True)
    id_sealed = models.TextField(blank=True)
    id_blind = models.BinaryField(max_length=16, null=True)
    phone_sealed = models.TextField(blank=True)
    phone_blind = models.BinaryField(max_length=16, null=True)
    phone_tail = models.CharField(max_length=4, blank=True)
    address = models.CharField(max_length=300, blank=True)
    division = models.CharField(max_length=12, blank=True)
    village = models.CharField(max_length=80, blank=True)
    home_institution = models.ForeignKey(
        Institution,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        db_index=False,
        db_constraint=False,
        related_name="+",
    )
    pinyin = models.CharField(max_length=400)
    initials = models.CharField(max_length=120)
    deceased_on = models.DateField(null=True, blank=True)
    version = models.IntegerField(default=1)
    contact_source_id = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["number"], name="index_person_number"),
            # Few and short: the server reads every check anew for each statement that writes a row (some 5 µs each).
            models.CheckConstraint(
                condition=Q(sex__in=("male", "female", "unknown", "other")), name="index_person_sex"
            ),
            models.CheckConstraint(
                condition=Q(merged_into__isnull=True) & ~Q(status="merged")
                | Q(status="merged", merged_into__isnull=False) & ~Q(merged_into=F("id")),
                name="index_person_status",
            ),
        ]
        indexes = [
            HashIndex(fields=["id_blind"], condition=Q(id_blind__isnull=False), name="index_person_id_blind"),
            HashIndex(
                fields=["phone_blind"], condition=Q(phone_blind__isnull=False), name="index_person_phone"
            ),
            models.Index(fields=["phone_tail"], condition=~Q(phone_tail=""), name="index_person_tail"),
            models.Index(fields=["name"], opclasses=["text_pattern_ops"], name="index_person_name"),
            models.Index(fields=["pinyin"], opclasses=["text_pattern_ops"], name="index_person_pinyin"),
            models.Index(
                fields=["merged_into"], condition=Q(merged_into__isnull=False), name="index_person_merged"
            ),
            models.Index(fields=["initials"], opclasses=["text_pattern_ops"], name="index_person_initials"),
            models.Index(
                fields=["home_institution", "initials"],
                opclasses=["int8_ops", "text_pattern_ops"],
                condition=Q(home_institution__isnull=False),
                name="index_person_home",
            ),
        ]

    def __str__(self) -> str:
        return self.number


class SourceRecord(ScopedModel):
    """What one system of one institution says about a person, as last received."""

    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    # The engine knows the institutions: asking the database would lock the institution's row for every registration. That none
    # which is named goes is kept by a trigger on theirs (migration 0011).
    institution = models.ForeignKey(
        Institution, on_delete=models.PROTECT, db_index=False, db_constraint=False, related_name="+"
    )
    system = models.CharField(max_length=200)
    local_id = models.CharField(max_length=200)
    patient_id = models.CharField(max_length=64, null=True, blank=True)
    person = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="sources")
    payload = models.BinaryField()
    payload_hash = models.BinaryField(max_length=8)
    received_at = models.DateTimeField()
    version = models.IntegerField(default=1)
    disputed = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["institution", "system", "local_id"], name="index_source_once"),
            models.UniqueConstraint(
                fields=["patient_id"], condition=Q(patient_id__isnull=False), name="index_source_patient"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.system} {self.local_id}"


class LinkEvent(models.Model):
    """A decision about who is who, with what is needed to undo it. Append-only but for ``undone_by``.

    ``decision``: for what the index decided by itself, the figures that led to it (:mod:`lianxin.index.decisions`).
    """

    person_id = models.BigIntegerField(db_index=True)
    source_id = models.BigIntegerField(null=True)
    kind = models.CharField(max_length=10)
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)
    reason = models.CharField(max_length=300, blank=True)
    account_id = models.BigIntegerField(null=True)
    client_id = models.BigIntegerField(null=True)
    at = models.DateTimeField()
    undone_by = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, db_index=False)
    decision = models.BinaryField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["undone_by"], condition=Q(undone_by__isnull=False), name="index_event_undone_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.person_id}"


class ReviewItem(models.Model):
    """Two people who may be one (or a registration that no longer fits its person): a human decides, once.

    ``second``: the first answer waits for another person's agreement. ``unsure``: sent back to the institution, which brings it
    back to ``open`` when it knows more. Items are never re-pointed when people merge: readers follow ``merged_into``.
    """

    KINDS = ("same_id", "same_sound", "look_alike", "two_matches", "newborn", "link_lost", "id_changed")
    WAITING = ("open", "second")
    STATES = (*WAITING, "same", "different", "unsure")

    kind = models.CharField(max_length=16)
    person_a = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    person_b = models.ForeignKey(Person, on_delete=models.PROTECT, related_name="+")
    source = models.ForeignKey(
        SourceRecord, null=True, blank=True, on_delete=models.PROTECT, related_name="reviews"
    )
    reasons = models.JSONField(default=list)
    bits = models.FloatField(null=True)
    probability = models.FloatField(null=True)
    parts = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    model_version = models.CharField(max_length=64, blank=True, db_default="")
    priority = models.SmallIntegerField(db_default=0)
    state = models.CharField(max_length=10, default="open")
    opened_at = models.DateTimeField()
    assignee = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    taken_at = models.DateTimeField(null=True, blank=True)
    first_answer = models.CharField(max_length=10, blank=True, db_default="")
    first_by = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    first_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    decided_by = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.CharField(max_length=300, blank=True)
    event = models.ForeignKey(LinkEvent, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Least("person_a", "person_b"),
                Greatest("person_a", "person_b"),
                condition=~Q(person_a=F("person_b")),
                name="index_review_pair_once",
            ),
            models.UniqueConstraint(
                fields=["source", "kind"],
                condition=Q(state="open", source__isnull=False, person_a=F("person_b")),
                name="index_review_source_once",
            ),
            models.CheckConstraint(
                condition=Q(state__in=("open", "second", "same", "different", "unsure")),
                name="index_review_state",
            ),
            models.CheckConstraint(
                condition=~Q(state="second") | Q(first_by__isnull=False), name="index_review_second"
            ),
        ]
        indexes = [
            models.Index(
                F("priority").desc(),
                "opened_at",
                "id",
                condition=Q(state__in=("open", "second")),
                name="index_review_queue",
            ),
            models.Index(fields=["decided_by", "decided_at"], name="index_review_by"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.person_a_id}/{self.person_b_id}"


class Origin(models.Model):
    """A row that stands under another person than its own, because its person was merged: what an unmerge takes back.

    ``table_name``/``row_id``: any table that follows people (see :mod:`lianxin.index.hooks`); ``person_id``: whose it is when every
    merge is undone. ``made``: the row is only a stand-in made by a merge and goes when it is undone; ``yielded``: it gave way.
    """

    table_name = models.CharField(max_length=40)
    row_id = models.CharField(max_length=40)
    person_id = models.BigIntegerField(db_index=True)
    made = models.BooleanField(db_default=False)
    yielded = models.BooleanField(db_default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["table_name", "row_id"], name="index_origin_once")]

    def __str__(self) -> str:
        return f"{self.table_name} {self.row_id}"


class IndexModel(models.Model):
    """A version of the weights (:mod:`lianxin.index.match.model`), with how it was trained; at most one is active, and while
    none is, the one that ships is used."""

    version = models.CharField(max_length=60, unique=True)
    body = models.BinaryField()
    active = models.BooleanField(default=False)
    made_at = models.DateTimeField()
    made_by_id = models.BigIntegerField(null=True)
    training = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["active"], condition=Q(active=True), name="index_model_one_active"
            )
        ]

    def __str__(self) -> str:
        return self.version


class CrowdedKey(models.Model):
    """A key with so many people behind it that it tells nothing any more: it is neither stored nor looked up."""

    key = models.IntegerField(unique=True)
    people = models.IntegerField()
    since = models.DateTimeField()

    class Meta:
        db_table = "index_crowd"

    def __str__(self) -> str:
        return str(self.key)


class GenericValue(models.Model):
    """A value that says nothing about who somebody is: a phone on everybody, a doctor's own number. ``digest`` is keyed;
    ``epoch`` (of ``index_generic_epoch``) grows with every change, so that processes notice."""

    kind = models.CharField(max_length=8)
    digest = models.BinaryField(max_length=16)
    value_sealed = models.BinaryField()
    people = models.IntegerField()
    active = models.BooleanField(default=True)
    since = models.DateTimeField()
    epoch = models.BigIntegerField(db_index=True)

    class Meta:
        db_table = "index_generic"
        constraints = [models.UniqueConstraint(fields=["kind", "digest"], name="index_generic_once")]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


from lianxin.index.batch.models import Day, LoadedSlice, Proposal, ProposedChange  # noqa: E402, F401
from lianxin.index.sourcemodels import SourceFlag, SourceMark  # noqa: E402, F401
