"""Assigning authorities: whose numbers a system of identifiers holds, how HL7 v2 calls it, and who may be told of them."""

from django.db import models
from django.db.models import Q

OWN, PARTNERS, ALL = "own", "partners", "all"
SHARING = (OWN, PARTNERS, ALL)


class Domain(models.Model):
    """An identifier domain 标识域 of one institution: ``system`` in FHIR, ``namespace`` and ``oid`` in HL7 v2 (HD).

    ``sharing``: who is told of its numbers in an answer to a cross-reference query: nobody else (own), institutions of the
    same consortia (partners), or everybody who may see the person (all).
    """

    system = models.CharField(max_length=200)
    institution = models.ForeignKey("network.Institution", on_delete=models.PROTECT, related_name="+")
    namespace = models.CharField(max_length=60, blank=True)
    oid = models.CharField(max_length=120, blank=True)
    name = models.CharField(max_length=120, blank=True)
    sharing = models.CharField(max_length=8, default=PARTNERS)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["system", "institution"], name="domain_once"),
            models.CheckConstraint(condition=Q(sharing__in=SHARING), name="domain_sharing"),
        ]

    def __str__(self) -> str:
        return f"{self.system} ({self.institution_id})"
