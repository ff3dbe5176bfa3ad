"""The document registry: every version of every clinical document that came in or was issued, once."""

from django.db import models
from django.db.models import Q

IN, OUT = "in", "out"
CURRENT, SUPERSEDED = "current", "superseded"


class RegisteredDocument(models.Model):
    """One version of a document. Its words stand in the record: ``reference`` is the DocumentReference's id, ``binary`` its bytes'.

    ``key``: the
    record's key of the DocumentReference, which knows the person behind it even after people were joined.  ``number``: root^extension of ClinicalDocument/id; ``series``: what all versions share (setId, else the number);
    ``replaces``: the number or series of the document this one replaces, known here or not.  ``made``: the clinical resources
    that were read out of it, each "Type/id", so that a later version can take them back.
    """

    institution = models.ForeignKey(
        "network.Institution", on_delete=models.PROTECT, related_name="+", db_index=False
    )
    way = models.CharField(max_length=3, default=IN)
    number = models.CharField(max_length=300)
    series = models.CharField(max_length=300)
    version = models.BigIntegerField(default=1)
    replaces = models.CharField(max_length=300, blank=True)
    status = models.CharField(max_length=10, default=CURRENT)
    family = models.CharField(max_length=20)
    kind = models.CharField(max_length=60)
    title = models.CharField(max_length=200, blank=True)
    reference = models.CharField(max_length=64, unique=True)
    key = models.BigIntegerField(unique=True)
    binary = models.CharField(max_length=64)
    made = models.JSONField(default=list)
    digest = models.BinaryField(max_length=32)
    size = models.IntegerField()
    confidential = models.BooleanField(default=False)
    written = models.DateTimeField(null=True)
    at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["institution", "number", "version"], name="document_once"),
            models.UniqueConstraint(
                fields=["institution", "series"], condition=Q(status="current"), name="document_one_current"
            ),
            models.CheckConstraint(condition=Q(status__in=(CURRENT, SUPERSEDED)), name="document_status"),
            models.CheckConstraint(condition=Q(way__in=(IN, OUT)), name="document_way"),
            models.CheckConstraint(condition=Q(version__gte=0), name="document_version"),
        ]
        indexes = [
            models.Index(fields=["institution", "-at", "-id"], name="document_institution"),
            models.Index(fields=["-at", "-id"], name="document_recent"),
            models.Index(
                fields=["institution", "replaces"], condition=~Q(replaces=""), name="document_replaces"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.number} v{self.version}"
