"""Subscriptions, and the events kept for them until (and after) they are sent."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

REQUESTED, ACTIVE, ERROR, OFF = "requested", "active", "error", "off"
STATUSES = (REQUESTED, ACTIVE, ERROR, OFF)
PLAIN, TOPIC = "plain", "topic"  # R4 criteria, or a topic of the backport
EMPTY, ID_ONLY, FULL = "empty", "id-only", "full-resource"
WAITING, SENT, WITHHELD = "waiting", "sent", "withheld"


class Subscription(models.Model):
    """What a client wants to hear, where it listens, and how far it has come.

    The resource itself is in the record under the same id; this row is what matching and sending need of it. ``read_rid`` is
    the number of the last change that was matched; ``events`` the number of the last event.
    """

    fhir_id = models.CharField(max_length=64, unique=True)
    version = models.IntegerField()
    client = models.ForeignKey("access.Client", on_delete=models.PROTECT)
    smart = models.TextField()
    base = models.TextField()
    form = models.CharField(max_length=8)
    rtypes = ArrayField(models.TextField())
    criteria = models.TextField()
    filters = models.JSONField(default=list)
    endpoint = models.TextField()
    headers = models.TextField(blank=True)  # sealed JSON: they hold the receiver's credentials
    payload = models.CharField(max_length=100, blank=True)
    content = models.CharField(max_length=16)
    heartbeat = models.IntegerField(null=True)
    timeout = models.IntegerField()
    max_count = models.IntegerField()
    ends_at = models.DateTimeField(null=True)
    status = models.CharField(max_length=10)
    paused = models.BooleanField(default=False)
    error = models.TextField(blank=True)
    since_rid = models.BigIntegerField()
    read_rid = models.BigIntegerField()
    match_not_before = models.DateTimeField(null=True)
    events = models.BigIntegerField(default=0)
    batch_until = models.BigIntegerField(null=True)
    failures = models.IntegerField(default=0)
    failing_since = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    slow = models.BooleanField(default=False)
    last_error = models.TextField(blank=True)
    last_error_at = models.DateTimeField(null=True)
    heard_at = models.DateTimeField(null=True)
    lease = models.BigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(status__in=STATUSES), name="subscription_status"),
            models.CheckConstraint(condition=Q(form__in=(PLAIN, TOPIC)), name="subscription_form"),
            models.CheckConstraint(
                condition=Q(content__in=(EMPTY, ID_ONLY, FULL)), name="subscription_content"
            ),
            models.CheckConstraint(
                condition=Q(max_count__gte=1) & Q(timeout__gte=1), name="subscription_limits"
            ),
        ]

    def __str__(self) -> str:
        return f"Subscription/{self.fhir_id}"


class SubscriptionEvent(models.Model):
    """One change one subscription is told of. ``number`` counts without gaps; ``rid`` is the number of the version."""

    subscription = models.ForeignKey(Subscription, on_delete=models.CASCADE)
    number = models.BigIntegerField()
    rid = models.BigIntegerField()
    rtype = models.CharField(max_length=64)
    resource_id = models.CharField(max_length=64)
    version = models.IntegerField()
    interaction = models.CharField(max_length=6)
    person_id = models.BigIntegerField(null=True)
    happened_at = models.DateTimeField()
    status = models.CharField(max_length=8, default=WAITING)
    attempts = models.IntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    size = models.IntegerField(null=True)
    http_status = models.IntegerField(null=True)
    error = models.TextField(blank=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["subscription", "number"], name="subscriptionevent_number"),
            models.UniqueConstraint(fields=["subscription", "rid"], name="subscriptionevent_once"),
            models.CheckConstraint(
                condition=Q(status__in=(WAITING, SENT, WITHHELD)), name="subscriptionevent_status"
            ),
            models.CheckConstraint(
                condition=Q(interaction__in=("create", "update", "delete")),
                name="subscriptionevent_interaction",
            ),
        ]
        indexes = [
            models.Index(
                fields=["subscription", "number"],
                condition=Q(status=WAITING),
                name="subscriptionevent_waiting",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.rtype}/{self.resource_id} v{self.version}"
