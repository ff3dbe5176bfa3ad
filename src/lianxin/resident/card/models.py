"""Rows of this room: residents' sign-ins, what binds an account to a person, cards and their codes, calls to the national service."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from lianxin.access.models import Account
from lianxin.network.models import Institution
from lianxin.standards import clock

# ------------------------------------------------------------------------------------------------------------- signing in


class Phone(models.Model):
    """The mobile number an account signs in with: one account for a number, one number for an account."""

    account = models.OneToOneField(Account, on_delete=models.PROTECT, related_name="phone")
    sealed = models.TextField()
    blind = models.BinaryField(max_length=16, unique=True)
    tail = models.CharField(max_length=4)
    since = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"…{self.tail}"


class LoginCode(models.Model):
    """A six-digit code sent to a number: only its keyed digest is kept. ``address``: digest of where it was asked from."""

    blind = models.BinaryField(max_length=16)
    address = models.BinaryField(max_length=16)
    digest = models.BinaryField(max_length=16)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    tries = models.PositiveSmallIntegerField(default=0)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            models.Index(fields=["blind", "created_at"], name="card_logincode_phone"),
            models.Index(fields=["address", "created_at"], name="card_logincode_address"),
            models.Index(fields=["created_at"], name="card_logincode_at"),
        ]

    def __str__(self) -> str:
        return f"{self.created_at:%Y-%m-%d %H:%M:%S}"


class Attempt(models.Model):
    """A try that did not succeed, counted against whoever makes too many: ``what`` login, bind or code; ``who`` a keyed digest."""

    what = models.CharField(max_length=8)
    who = models.BinaryField(max_length=16)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["what", "who", "at"], name="card_attempt_who")]

    def __str__(self) -> str:
        return f"{self.what} {self.at:%Y-%m-%d %H:%M:%S}"


class Provider(models.Model):
    """An outside identity provider (OpenID Connect) that residents may sign in with. The client secret is sealed.

    ``phones``: its ``phone_number`` with ``phone_number_verified`` is trusted to lead to the account of that number.
    """

    key = models.SlugField(max_length=30, unique=True)
    name = models.CharField(max_length=60)
    name_en = models.CharField(max_length=60, blank=True)
    issuer = models.URLField(max_length=300)
    client_id = models.CharField(max_length=120)
    secret_sealed = models.TextField(blank=True)
    authorize_url = models.URLField(max_length=300)
    token_url = models.URLField(max_length=300)
    jwks_url = models.URLField(max_length=300)
    phones = models.BooleanField(default=False)
    active = models.BooleanField(default=True)

    def __str__(self) -> str:
        return self.key


class OutsideIdentity(models.Model):
    """Somebody a provider knows, and the account here that is theirs."""

    provider = models.ForeignKey(Provider, on_delete=models.PROTECT, related_name="identities")
    subject = models.CharField(max_length=255)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="outside_identities")
    since = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "subject"], name="card_outside_once"),
            models.UniqueConstraint(fields=["provider", "account"], name="card_outside_one_each"),
        ]

    def __str__(self) -> str:
        return f"{self.provider_id} {self.account_id}"


class HandedCode(models.Model):
    """A code given from hand to hand: ``bind`` by a desk that has seen the person's document, ``delegate`` by the person."""

    KINDS = ("bind", "delegate")

    kind = models.CharField(max_length=8)
    person_id = models.BigIntegerField(db_index=True)
    digest = models.BinaryField(max_length=16, unique=True)
    made_by = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    institution = models.ForeignKey(
        Institution, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    evidence = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=("bind", "delegate")), name="card_handed_kind")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.person_id}"


# ------------------------------------------------------------------------------------------------------------------ cards


class Card(models.Model):
    """An e-health card given to a person. The card number is the person's and stays; each card has a serial of its own.

    At most one is active; a code made from any other is void. Rows are ended, never deleted.
    """

    STATES = ("active", "lost", "replaced", "closed")

    person_id = models.BigIntegerField(db_index=True)
    serial = models.BinaryField(max_length=8, unique=True)
    state = models.CharField(max_length=8, default="active")
    issued_at = models.DateTimeField()
    issued_by = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    institution = models.ForeignKey(
        Institution, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=200, blank=True)
    printed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["person_id"], condition=Q(state="active"), name="card_card_one_active"
            ),
            models.CheckConstraint(
                condition=Q(state__in=("active", "lost", "replaced", "closed")), name="card_card_state"
            ),
            models.CheckConstraint(
                condition=Q(state="active", ended_at__isnull=True)
                | ~Q(state="active") & Q(ended_at__gte=F("issued_at")),
                name="card_card_ended",
            ),
        ]
        indexes = [
            models.Index(fields=["ended_at"], condition=~Q(state="active"), name="card_card_revoked"),
        ]

    def __str__(self) -> str:
        return f"{bytes(self.serial).hex()} {self.state}"


class QrKey(models.Model):
    """A key (Ed25519) that signs card codes; the private half is sealed, the public half published."""

    kid = models.CharField(max_length=8, unique=True)
    private = models.TextField()
    public = models.BinaryField(max_length=32)
    created_at = models.DateTimeField(default=clock.now)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                models.Value(1), condition=Q(retired_at__isnull=True), name="card_qrkey_one_live"
            )
        ]

    def __str__(self) -> str:
        return self.kid


class Seen(models.Model):
    """A code that was read at a desk: the same code elsewhere is a copy."""

    nonce = models.BinaryField(max_length=8, unique=True)
    person_id = models.BigIntegerField()
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="+")
    account = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return f"{self.person_id} {self.at:%Y-%m-%d %H:%M:%S}"


# ------------------------------------------------------------------------------------------------- national card service


class Service(models.Model):
    """The national or provincial card service: one row at most; none, or not active: the platform's own cards stand alone."""

    one = models.BooleanField(default=True, unique=True)
    url = models.URLField(max_length=300)
    app_id = models.CharField(max_length=80)
    secret_sealed = models.TextField()
    active = models.BooleanField(default=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(one=True), name="card_service_one")]

    def __str__(self) -> str:
        return self.url


class ServiceCall(models.Model):
    """Something the service has to be told: kept until it has taken it. What it needs to know is read when it is told."""

    ACTS = ("apply", "lose", "close")
    STATES = ("waiting", "done", "refused")

    key = models.CharField(max_length=80, unique=True)
    act = models.CharField(max_length=8)
    person_id = models.BigIntegerField(db_index=True)
    state = models.CharField(max_length=8, default="waiting")
    tries = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now)
    next_at = models.DateTimeField(default=clock.now)
    answer = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(act__in=("apply", "lose", "close")), name="card_call_act"),
            models.CheckConstraint(
                condition=Q(state__in=("waiting", "done", "refused")), name="card_call_state"
            ),
        ]
        indexes = [models.Index(fields=["next_at"], condition=Q(state="waiting"), name="card_call_due")]

    def __str__(self) -> str:
        return f"{self.act} {self.person_id} {self.state}"


class ServiceCard(models.Model):
    """What the service calls a person: its own card number (加密主索引), stored once it was given."""

    person_id = models.BigIntegerField(unique=True)
    number = models.CharField(max_length=80)
    since = models.DateTimeField(default=clock.now)

    def __str__(self) -> str:
        return f"{self.person_id}"
