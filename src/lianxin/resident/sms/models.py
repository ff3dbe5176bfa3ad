"""Rows of this room: messages as they were asked for, and the gateway they go through."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from lianxin.standards import clock


class Gateway(models.Model):
    """Through whom messages go: one row at most. ``kept``: nobody sends, the text stays readable for the demonstration."""

    KINDS = ("kept", "http")

    kind = models.CharField(max_length=8)
    url = models.URLField(max_length=300, blank=True)
    app_id = models.CharField(max_length=80, blank=True)
    secret_sealed = models.TextField(blank=True)
    one = models.BooleanField(default=True, unique=True)
    changed_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=("kept", "http")), name="sms_gateway_kind"),
            models.CheckConstraint(condition=Q(one=True), name="sms_gateway_one"),
            models.CheckConstraint(
                condition=Q(kind="kept") | ~Q(url="") & ~Q(secret_sealed=""), name="sms_gateway_whole"
            ),
        ]

    def __str__(self) -> str:
        return self.kind


class Message(models.Model):
    """One text message: stored first, then sent by a chore. ``text_sealed`` is emptied once a gateway has it.

    ``state``: waiting → sending → sent; failed (the gateway will never take it), expired (came to nothing in time), refused (over
    the number's daily limit). ``reference`` goes with every attempt, so that a gateway can tell a repetition.
    """

    STATES = ("waiting", "sending", "sent", "failed", "expired", "refused")

    key = models.CharField(max_length=120, unique=True)
    reference = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    template = models.CharField(max_length=40)
    phone_sealed = models.TextField()
    phone_blind = models.BinaryField(max_length=16)
    phone_tail = models.CharField(max_length=4)
    person_id = models.BigIntegerField(null=True, blank=True, db_index=True)
    text_sealed = models.TextField(blank=True)
    urgent = models.BooleanField(default=False)
    state = models.CharField(max_length=8, default="waiting")
    tries = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField()
    next_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    receipt = models.CharField(max_length=80, blank=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(state__in=("waiting", "sending", "sent", "failed", "expired", "refused")),
                name="sms_message_state",
            )
        ]
        indexes = [
            models.Index(
                fields=["next_at"], condition=Q(state__in=("waiting", "sending")), name="sms_message_due"
            ),
            models.Index(fields=["phone_blind", "created_at"], name="sms_message_phone"),
            models.Index(fields=["-created_at"], name="sms_message_latest"),
        ]

    def __str__(self) -> str:
        return f"{self.template} …{self.phone_tail} {self.state}"
