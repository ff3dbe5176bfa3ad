"""Systems that speak HL7 v2 with us, and every message that goes to one (what comes in: :mod:`lianxin.exchange.feeds`)."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

REFUSED, WAITING, SENT, HELD = "refused", "waiting", "sent", "held"
STATES = (REFUSED, WAITING, SENT, HELD)


class Peer(models.Model):
    """A system on the other side, known by MSH-3 and MSH-4; ``client`` is on whose behalf it acts (switch that off to shut it out).

    ``addresses``: networks it may call from; ``fingerprint``: SHA-256 of the certificate it must show.  ``default_system``: the
    system of patient numbers it sends without an assigning authority.  ``reuses_ids``: its MSH-10 begin anew now and then.
    Outbound: ``host`` (none: nothing is sent), what it wants to hear (``wants``), and up to which LinkEvent and which
    change of the record (``told_rid``) it was told; ``enhanced``: it answers twice, CA and then AA.
    """

    name = models.CharField(max_length=120, unique=True)
    application = models.CharField(max_length=180)
    facility = models.CharField(max_length=180, blank=True)
    client = models.ForeignKey("access.Client", on_delete=models.PROTECT, related_name="+")
    default_system = models.CharField(max_length=200, blank=True)
    addresses = models.JSONField(default=list)
    fingerprint = models.CharField(max_length=64, blank=True)
    codec = models.CharField(max_length=20, blank=True)
    reuses_ids = models.BooleanField(default=False)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()

    host = models.CharField(max_length=200, blank=True)
    port = models.IntegerField(default=2575)
    tls = models.BooleanField(default=False)
    version = models.CharField(max_length=8, default="2.5")
    wants = ArrayField(models.CharField(max_length=10), default=list)
    told_event = models.BigIntegerField(default=0)
    told_rid = models.BigIntegerField(default=0)
    enhanced = models.BooleanField(default=False)
    paused = models.BooleanField(default=False)
    failures = models.IntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True)
    heard_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["application", "facility"], name="peer_once"),
            models.CheckConstraint(condition=Q(port__gte=1) & Q(port__lte=65535), name="peer_port"),
        ]

    def __str__(self) -> str:
        return self.name


class V2Message(models.Model):
    """One message to a receiver with its answer, as they were (sealed).

    ``waiting``, ``sent`` (the receiver accepted it), ``refused`` (it answered AE or AR), ``held`` (a person set it aside); ``id``
    is its place in the order of its receiver.  It tells of a change of identity (``event_id``) or of the record (``rid``);
    ``content`` is the digest of what a person's data were, so that the same is not told twice; ``again_at``: the receiver could not
    take it just now and is asked again then.
    """

    peer = models.ForeignKey(Peer, on_delete=models.PROTECT, related_name="messages")
    control_id = models.CharField(max_length=199)
    kind = models.CharField(max_length=20)
    body = models.BinaryField()
    answer = models.BinaryField(null=True)
    code = models.CharField(max_length=2, blank=True)
    error = models.TextField(blank=True)
    state = models.CharField(max_length=8)
    person_id = models.BigIntegerField(null=True)
    event_id = models.BigIntegerField(null=True)
    rid = models.BigIntegerField(null=True)
    content = models.BinaryField(max_length=16, null=True)
    again_at = models.DateTimeField(null=True)
    attempts = models.IntegerField(default=0)
    at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=STATES), name="v2message_state"),
            models.UniqueConstraint(
                fields=["peer", "event_id", "kind", "person_id"],
                condition=Q(event_id__isnull=False),
                name="v2message_told_once",
            ),
            models.UniqueConstraint(
                fields=["peer", "rid", "kind"], condition=Q(rid__isnull=False), name="v2message_change_once"
            ),
        ]
        indexes = [
            models.Index(fields=["peer", "id"], condition=Q(state=WAITING), name="v2message_waiting"),
            models.Index(fields=["peer", "-at"], name="v2message_recent"),
            models.Index(
                fields=["peer", "person_id", "-id"],
                condition=Q(content__isnull=False),
                name="v2message_content",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.control_id}"
