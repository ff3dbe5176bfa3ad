"""Accounts, machine clients, who may reach which patient, consent, and the audit chain.

``person_id`` columns are plain numbers here because the index room (people) stands above this one; its first migration
adds the foreign keys. Append-only tables are guarded by triggers in the migration (see :mod:`lianxin.access.audit`).
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from lianxin.network.models import Institution, Post, Practitioner
from lianxin.standards import clock


class AccountManager(BaseUserManager["Account"]):
    """Makes accounts; there is no super-user: administrators are posts (see :mod:`lianxin.access.policies`)."""

    def create_user(self, username: str, password: str | None = None, **fields: Any) -> Account:
        """Create and save an account; without a password nobody can sign in to it."""
        account = self.model(username=username.strip(), **fields)
        account.set_password(password)
        account.save(using=self._db)
        return account


class Account(AbstractBaseUser):
    """One human being's sign-in. What it may do comes from the posts of its practitioner; a ``resident``'s from :class:`ActsFor`."""

    username = models.CharField(max_length=60, unique=True)
    name = models.CharField(max_length=120)
    practitioner = models.ForeignKey(
        Practitioner, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts"
    )
    is_active = models.BooleanField(default=True)
    resident = models.BooleanField(default=False, db_default=False)
    failed_count = models.PositiveSmallIntegerField(default=0)
    locked_until = models.DateTimeField(null=True, blank=True)
    must_change_password = models.BooleanField(default=False)
    password_changed_at = models.DateTimeField(null=True, blank=True)
    language = models.CharField(max_length=10, default="zh-hans")
    created_at = models.DateTimeField(default=clock.now)

    USERNAME_FIELD = "username"
    REQUIRED_FIELDS = ["name"]
    is_staff = False

    objects = AccountManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("username"), name="access_account_username_ci"),
            models.CheckConstraint(
                condition=Q(resident=False) | Q(practitioner__isnull=True),
                name="access_account_resident_no_post",
            ),
        ]
        ordering = ["username"]

    def __str__(self) -> str:
        return self.username

    def get_full_name(self) -> str:
        """The person's name (Django and django-otp ask for it)."""
        return self.name

    def get_short_name(self) -> str:
        """The person's name."""
        return self.name


def client_key() -> str:
    """A public client identifier nobody else has (it is no secret)."""
    return f"lx-{secrets.token_hex(8)}"


class Client(models.Model):
    """A machine that calls the doors: an institution's own system, or a platform-wide one (no institution).

    ``key`` is the ``client_id`` of OAuth. A ``backend`` asks for tokens by itself; an ``app`` is opened by a person (SMART App
    Launch). It proves itself by ``jwks`` or ``jwks_url`` (a signed assertion) or by a secret; an app with none of them is public.
    ``validation``: what it writes must keep R4's rules and the profiles it claims (``strict``), or is stored with warnings
    (``warn``); what is not structurally R4 is refused either way.  ``vendor``: who makes the system.
    """

    KINDS = ("backend", "app")
    VALIDATIONS = ("strict", "warn")

    name = models.CharField(max_length=120, unique=True)
    institution = models.ForeignKey(Institution, null=True, blank=True, on_delete=models.PROTECT)
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=clock.now)
    key = models.CharField(max_length=80, unique=True, default=client_key)
    kind = models.CharField(max_length=8, default="backend")
    scope = models.TextField(blank=True)
    jwks = models.JSONField(null=True, blank=True)
    jwks_url = models.URLField(max_length=500, blank=True)
    secret_hash = models.BinaryField(max_length=32, null=True, blank=True)
    redirect_uris = models.JSONField(default=list, blank=True)
    launch_url = models.URLField(max_length=500, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    validation = models.CharField(max_length=6, default="strict", db_default="strict")
    vendor = models.CharField(max_length=120, blank=True, db_default="")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=("backend", "app")), name="access_client_kind"),
            models.CheckConstraint(
                condition=Q(validation__in=("strict", "warn")), name="access_client_validation"
            ),
            models.CheckConstraint(
                condition=Q(jwks__isnull=True) | Q(jwks_url=""), name="access_client_one_key_source"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public(self) -> bool:
        """Whether it has nothing to prove itself with (then PKCE alone protects its codes)."""
        return self.jwks is None and not self.jwks_url and self.secret_hash is None


class Grant(models.Model):
    """What one person allowed one app, in one post, once: the root of a code and of all tokens that follow from it."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="grants")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="+")
    scope = models.TextField()
    person_id = models.BigIntegerField(null=True, blank=True)
    context = models.JSONField(default=dict, blank=True)
    session = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    code_hash = models.BinaryField(max_length=32, unique=True)
    code_expires_at = models.DateTimeField()
    code_used_at = models.DateTimeField(null=True, blank=True)
    redirect_uri = models.CharField(max_length=500)
    challenge = models.CharField(max_length=128)
    nonce = models.CharField(max_length=200, blank=True)

    def __str__(self) -> str:
        return f"{self.client_id}:{self.account_id}"


class Token(models.Model):
    """A bearer token of a client; only its SM3 hash is kept. With ``grant``: on behalf of the person who allowed it."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="tokens")
    hash = models.BinaryField(max_length=32, unique=True)
    scope = models.TextField()
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(db_index=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    grant = models.ForeignKey(Grant, null=True, blank=True, on_delete=models.CASCADE, related_name="tokens")

    def __str__(self) -> str:
        return f"{self.client_id}:{self.scope}"


class RefreshToken(models.Model):
    """A refresh token: good for one use; a second use of it revokes its whole grant."""

    grant = models.ForeignKey(Grant, on_delete=models.CASCADE, related_name="refresh_tokens")
    hash = models.BinaryField(max_length=32, unique=True)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.grant_id}"


class Launch(models.Model):
    """An app opened from a person's page: the context waits here until the app asks for it, minutes at most."""

    hash = models.BinaryField(max_length=32, unique=True)
    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="+")
    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="+")
    person_id = models.BigIntegerField()
    encounter = models.CharField(max_length=64, blank=True)
    expires_at = models.DateTimeField(db_index=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.client_id}:{self.account_id}"


class Assertion(models.Model):
    """A signed client assertion that was accepted: its ``jti`` is refused until it would have expired anyway."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="+")
    jti = models.BinaryField(max_length=32)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client", "jti"], name="access_assertion_once")]

    def __str__(self) -> str:
        return f"{self.client_id}"


class SigningKey(models.Model):
    """A key of ours that signs identity tokens; the private half is sealed."""

    kid = models.CharField(max_length=64, unique=True)
    algorithm = models.CharField(max_length=8)
    private = models.TextField()
    created_at = models.DateTimeField(default=clock.now)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["algorithm"], condition=Q(retired_at__isnull=True), name="access_signing_key_one_live"
            )
        ]

    def __str__(self) -> str:
        return self.kid


class Relationship(models.Model):
    """Why an institution may open a person's record, from when to when. Rows are ended, never deleted."""

    KINDS = ("home", "contract", "encounter", "duty", "registration", "break_glass")

    person_id = models.BigIntegerField()
    # Not held against the institution's row, which every grant would lock: whoever grants has the institution, and a trigger
    # refuses to delete one that is named (migration 0008).
    institution = models.ForeignKey(
        Institution, on_delete=models.PROTECT, db_index=False, db_constraint=False, related_name="+"
    )
    kind = models.CharField(max_length=12)
    source = models.CharField(max_length=80)
    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.PROTECT, db_index=False, related_name="+"
    )
    since = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["person_id", "institution", "kind", "source"],
                include=["since", "until", "account"],
                name="access_relationship_once",
            ),
            models.CheckConstraint(
                condition=Q(
                    kind__in=("home", "contract", "encounter", "duty", "registration", "break_glass")
                ),
                name="access_relationship_kind",
            ),
            models.CheckConstraint(
                condition=Q(until__isnull=True) | Q(until__gte=F("since")), name="access_relationship_period"
            ),
            models.CheckConstraint(
                condition=~Q(kind="break_glass") | Q(account__isnull=False, until__isnull=False),
                name="access_relationship_break_glass_is_personal",
            ),
        ]
        indexes = [
            models.Index(fields=["institution", "person_id"], name="access_rel_institution"),
            models.Index(
                fields=["source"],
                condition=~Q(kind__in=("home", "registration")),
                name="access_rel_source",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.institution_id}→{self.person_id} {self.kind}"

    def live(self, at: dt.datetime | None = None) -> bool:
        """Whether it holds at ``at`` (default now)."""
        at = at or clock.now()
        return self.since <= at and (self.until is None or at < self.until)


class ActsFor(models.Model):
    """For whom a resident's account may act: themselves once their identity is bound, a child or ward, or somebody who asked them to.

    Rows are ended, never deleted. One person is bound to one account as themselves.
    """

    RELATIONS = ("self", "guardian", "delegate")

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="acts_for")
    person_id = models.BigIntegerField(db_index=True)
    relation = models.CharField(max_length=10)
    since = models.DateTimeField(default=clock.now)
    until = models.DateTimeField(null=True, blank=True)
    evidence = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(relation__in=("self", "guardian", "delegate")), name="access_actsfor_relation"
            ),
            models.CheckConstraint(
                condition=Q(until__isnull=True) | Q(until__gte=F("since")), name="access_actsfor_period"
            ),
            models.UniqueConstraint(
                fields=["account", "person_id"], condition=Q(until__isnull=True), name="access_actsfor_once"
            ),
            models.UniqueConstraint(
                fields=["account"],
                condition=Q(until__isnull=True, relation="self"),
                name="access_actsfor_one_self",
            ),
            models.UniqueConstraint(
                fields=["person_id"],
                condition=Q(until__isnull=True, relation="self"),
                name="access_actsfor_self_of_one",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.account_id} for {self.person_id} {self.relation}"


class BreakGlass(models.Model):
    """An emergency opening of a record without a relationship: reason, time limit, later review."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="+")
    person_id = models.BigIntegerField(db_index=True)
    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, related_name="+")
    reason = models.TextField()
    opened_at = models.DateTimeField()
    until = models.DateTimeField()
    reviewer = models.ForeignKey(Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    reviewed_at = models.DateTimeField(null=True, blank=True)
    verdict = models.CharField(max_length=12, blank=True)
    note = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(until__gt=F("opened_at")), name="access_break_glass_limited"),
            models.CheckConstraint(
                condition=Q(reviewed_at__isnull=True, verdict="")
                | Q(reviewed_at__isnull=False, verdict__in=("justified", "unjustified")),
                name="access_break_glass_verdict",
            ),
            models.CheckConstraint(
                condition=Q(reviewer__isnull=True) | ~Q(reviewer=F("account")),
                name="access_break_glass_not_own_review",
            ),
        ]
        indexes = [
            models.Index(
                fields=["opened_at"], condition=Q(reviewed_at__isnull=True), name="access_break_glass_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.account_id}→{self.person_id}"


class Consent(models.Model):
    """A person's word on one purpose, for one institution or all of them (PIPL art. 29): an agreement, or a refusal.

    A refusal (``decision`` "deny", kind "share") keeps what ``source`` sent (None: any other institution) from ``institution``
    (None: from all others), whole or only what is marked confidential (``sensitive``). See :mod:`lianxin.access.sharing`.
    """

    person_id = models.BigIntegerField()
    kind = models.CharField(max_length=24)
    purpose = models.CharField(max_length=200, blank=True)
    institution = models.ForeignKey(
        Institution, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    text_version = models.CharField(max_length=40)
    evidence = models.CharField(max_length=200)
    given_at = models.DateTimeField()
    recorded_by = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    withdrawn_reason = models.CharField(max_length=200, blank=True)
    decision = models.CharField(max_length=6, default="permit")
    source = models.ForeignKey(Institution, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    sensitive = models.BooleanField(default=False)

    class Meta:
        indexes = [
            models.Index(fields=["person_id", "kind"], name="access_consent_person"),
            models.Index(
                fields=["person_id"],
                condition=Q(decision="deny", withdrawn_at__isnull=True),
                name="access_consent_denied",
            ),
            models.Index(
                fields=["person_id", "institution"],
                condition=Q(decision="permit", kind="share", withdrawn_at__isnull=True),
                name="access_consent_shared",
            ),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(decision__in=("permit", "deny")), name="access_consent_decision"
            ),
            models.CheckConstraint(
                condition=Q(decision="deny", kind="share")
                | Q(decision="permit", source__isnull=True, sensitive=False),
                name="access_consent_refusal_is_of_sharing",
            ),
            models.CheckConstraint(
                condition=Q(withdrawn_at__isnull=True) | Q(withdrawn_at__gte=F("given_at")),
                name="access_consent_period",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person_id} {self.kind}"


class AuditEvent(models.Model):
    """One thing that happened. Append-only; ``digest`` is the SM3 of its content (see :mod:`lianxin.access.audit`)."""

    at = models.DateTimeField()
    action = models.CharField(max_length=16)
    outcome = models.CharField(max_length=8)
    account_id = models.BigIntegerField(null=True)
    client_id = models.BigIntegerField(null=True)
    practitioner_id = models.BigIntegerField(null=True)
    institution_id = models.BigIntegerField(null=True)
    person_id = models.BigIntegerField(null=True)
    what = models.TextField()
    detail = models.TextField()
    digest = models.BinaryField(max_length=32)

    class Meta:
        indexes = [
            models.Index(
                fields=["person_id", "at"], condition=Q(person_id__isnull=False), name="access_audit_person"
            ),
            models.Index(
                fields=["account_id", "at"],
                condition=Q(account_id__isnull=False),
                name="access_audit_account",
            ),
            BrinIndex(fields=["at"], name="access_audit_at"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.action} {self.what}"


class ChainLink(models.Model):
    """The place of an event, or of a batch, in its shard's chain: ``hash = SM3(previous hash ‖ digest ‖ seq ‖ event id)``.

    ``more`` are the other events of a batch; its digest is that of :func:`lianxin.access.audit.batch_digest`.
    """

    shard = models.SmallIntegerField()
    seq = models.BigIntegerField()
    event_id = models.BigIntegerField(unique=True)
    more = ArrayField(models.BigIntegerField(), null=True)
    hash = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["shard", "seq"], name="access_chain_one_at_a_place")]

    def __str__(self) -> str:
        return f"{self.shard}/{self.seq}"


class ChainHead(models.Model):
    """The last link of a shard; its row lock is the sequencer."""

    shard = models.SmallIntegerField(primary_key=True)
    seq = models.BigIntegerField(default=0)
    hash = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return f"{self.shard}/{self.seq}"


class ChainAnchor(models.Model):
    """A day's end of a shard's chain, authenticated with a key outside the database."""

    day = models.DateField()
    shard = models.SmallIntegerField()
    seq = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)
    mac = models.BinaryField(max_length=32)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "shard"], name="access_anchor_once_a_day")]

    def __str__(self) -> str:
        return f"{self.day} {self.shard}/{self.seq}"
