"""Rows of this room: what a doctor asked for in one go, whatever it was split into."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.text import T, Text

SOURCES: dict[str, Text] = {
    "staff": T("页面", "Pages"),
    "fhir": T("FHIR 接口", "FHIR"),
    "v2": T("HL7 v2 接口", "HL7 v2"),
}


class Requisition(ScopedModel):
    """One request: for whom, by whom, which items. Its pieces of work carry its ``number``, and so do decisions about recognition.

    ``placer`` is the sender's own order number (``client_id`` names the sender); the same number again is the same request. ``key`` is
    the request's idempotency key.
    """

    number = models.CharField(max_length=32, unique=True)
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    practitioner = models.ForeignKey(
        "network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    account_id = models.BigIntegerField(null=True, blank=True)
    client_id = models.BigIntegerField(null=True, blank=True)
    placer = models.CharField(max_length=80, blank=True)
    source = models.CharField(max_length=8, default="staff")
    priority = models.CharField(max_length=10, default="routine")
    items = ArrayField(models.CharField(max_length=40))
    recognised = ArrayField(models.CharField(max_length=40), default=list)
    indication = models.CharField(max_length=600)
    diagnosis = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField()
    key = models.CharField(max_length=160, unique=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="ordering_requisition_source", condition=Q(source__in=list(SOURCES))),
            models.CheckConstraint(name="ordering_requisition_items", condition=~Q(items=[])),
            models.UniqueConstraint(
                fields=["client_id", "placer"], condition=~Q(placer=""), name="ordering_requisition_placer"
            ),
        ]
        indexes = [models.Index(fields=["institution", "-at"], name="ordering_requisition_when")]

    def __str__(self) -> str:
        return self.number
