"""What this room keeps beside the pool's claims and places: consents to contrast, and what an operation is."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.text import T, Text

HOW: dict[str, Text] = {
    "spoken": T("口头同意（须有见证人）", "By word of mouth, before a witness"),
    "signed": T("纸面签字（上传扫描件）", "Signed on paper (scan attached)"),
}


class ContrastConsent(ScopedModel):
    """A patient's consent to an examination with contrast, taken where the patient is (a township, as a rule).

    ``scan`` is sealed. A consent holds for one item and for as long as the rules say; it can be taken back.
    """

    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    item = models.CharField(max_length=40)
    case_id = models.BigIntegerField(null=True, blank=True)
    version = models.CharField(max_length=20)
    how = models.CharField(max_length=8)
    witness = models.CharField(max_length=80, blank=True)
    scan = models.BinaryField(null=True, blank=True)
    scan_type = models.CharField(max_length=40, blank=True)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    account_id = models.BigIntegerField(null=True, blank=True)
    taken_by = models.CharField(max_length=80)
    at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="places_consent_how", condition=Q(how__in=list(HOW))),
            models.CheckConstraint(
                name="places_consent_proof",
                condition=(Q(how="spoken") & ~Q(witness="")) | (Q(how="signed") & Q(scan__isnull=False)),
            ),
        ]
        indexes = [models.Index(fields=["person", "item", "at"], name="places_consent_person")]

    def __str__(self) -> str:
        return f"{self.person_id} {self.item}"


class Operation(ScopedModel):
    """What a theatre is claimed for. The claim lasts longer than the operation: the turnover is part of it."""

    claim = models.OneToOneField("pool.Claim", models.CASCADE, primary_key=True, related_name="operation")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    procedure = models.CharField(max_length=120)
    team = models.CharField(max_length=300)
    ends_at = models.DateTimeField()
    made_by = models.CharField(max_length=80)

    scope_institutions: ClassVar[tuple[str, ...]] = ("institution_id",)

    def __str__(self) -> str:
        return f"{self.claim_id} {self.procedure}"
