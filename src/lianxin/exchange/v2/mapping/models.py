"""What is laid over a built-in mapping: versions, from draft over active to retired, and the messages they are tried on."""

from django.db import models
from django.db.models import Q

DRAFT, ACTIVE, RETIRED = "draft", "active", "retired"
STATES = (DRAFT, ACTIVE, RETIRED)


class MappingVersion(models.Model):
    """One version of what is laid over the built-in mapping ``kind`` (ORU, ADT …): for everybody, or for one sender.

    ``body`` is the YAML; ``why`` what its editor says about it; ``based_on`` the version it was made from (going back makes a new
    version of an old text).  There is one active version for a kind and sender at most, and one draft.
    """

    kind = models.CharField(max_length=10)
    peer = models.ForeignKey("exchange.Peer", null=True, on_delete=models.PROTECT, related_name="+")
    version = models.IntegerField()
    state = models.CharField(max_length=7, default=DRAFT)
    body = models.TextField()
    why = models.CharField(max_length=500, blank=True)
    based_on = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="+")
    by = models.ForeignKey("access.Account", null=True, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()
    activated_by = models.ForeignKey("access.Account", null=True, on_delete=models.PROTECT, related_name="+")
    activated_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)
    changed_at = models.DateTimeField(db_index=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "peer", "version"], nulls_distinct=False, name="mappingversion_number"
            ),
            models.UniqueConstraint(
                fields=["kind", "peer"],
                condition=Q(state="active"),
                nulls_distinct=False,
                name="mappingversion_one_active",
            ),
            models.UniqueConstraint(
                fields=["kind", "peer"],
                condition=Q(state="draft"),
                nulls_distinct=False,
                name="mappingversion_one_draft",
            ),
            models.CheckConstraint(condition=Q(state__in=STATES), name="mappingversion_state"),
            models.CheckConstraint(condition=Q(version__gte=1), name="mappingversion_from_one"),
            models.CheckConstraint(
                condition=Q(state=DRAFT, activated_at__isnull=True) | Q(state__in=(ACTIVE, RETIRED)),
                name="mappingversion_activated",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"


class MappingSample(models.Model):
    """A message a mapping is tried on (sealed: it may be a real one); every one must pass before a version is activated."""

    kind = models.CharField(max_length=10)
    peer = models.ForeignKey("exchange.Peer", null=True, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120)
    body = models.BinaryField()
    by = models.ForeignKey("access.Account", null=True, on_delete=models.PROTECT, related_name="+")
    made_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "peer", "name"], nulls_distinct=False, name="mappingsample_name"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
