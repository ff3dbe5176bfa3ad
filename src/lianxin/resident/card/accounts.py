"""Residents' accounts: signing in with a phone and a six-digit code; the account is made at the first sign-in.

Nothing said here depends on whether a number is known: a code is sent to whatever number is given, and a wrong code, a used one,
one that ran out and none at all get the same sentence. A code is good for five minutes, five tries and one use; only the newest
of a number counts; of it only a keyed digest is stored.
"""

from __future__ import annotations

import datetime as dt
import hmac
import secrets
import uuid

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from lianxin.access import audit, seal
from lianxin.access.errors import Invalid
from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.facts import phone_blind
from lianxin.resident import sms
from lianxin.resident.card import limits
from lianxin.resident.card.models import LoginCode, Phone
from lianxin.resident.sms import phones
from lianxin.standards import clock
from lianxin.standards.text import T

LIFE = dt.timedelta(minutes=5)
TRIES = 5
AGAIN = 60
"""Seconds until another code may be asked for."""

WRONG = T(
    "验证码不对或已过期，请核对后重新输入，或重新获取。",
    "The code is wrong or has expired; check it, or ask for a new one.",
)


def request_code(phone: str, address: str, language: str = "zh-hans") -> str:
    """Send a sign-in code to ``phone``; returns the number as it is kept. Raises NotAPhone or :class:`limits.TooMany`.

    Limits per number, per network address and over all are held under one lock, so that a burst cannot pass them together.
    """
    number = phones.mobile(phone)
    blind, place = phone_blind(number), limits.who("address", address)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"code:{blind.hex()}"])
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"place:{place.hex()}"])
        now = clock.now()
        _hold("code_per_phone_minute", now, blind=blind)
        _hold("code_per_phone_day", now, blind=blind)
        _hold("code_per_address", now, address=place)
        _hold("code_overall", now)
        code = f"{secrets.randbelow(1_000_000):06d}"
        key = uuid.uuid4().hex
        LoginCode.objects.create(
            blind=blind,
            address=place,
            digest=_digest(number, code),
            created_at=now,
            expires_at=now + LIFE,
        )
        sms.send(number, "login_code", {"code": code}, f"login:{key}", language=language)
    return number


def _hold(name: str, now: dt.datetime, **which: bytes) -> None:
    limit = limits.limits()[name]
    times = list(
        LoginCode.objects.filter(created_at__gt=now - limit.window, **which)
        .order_by("-created_at")
        .values_list("created_at", flat=True)[: limit.most]
    )
    if len(times) >= limit.most:
        raise limits.TooMany(times[-1] + limit.window - now)


def _digest(number: str, code: str) -> bytes:
    return seal.blind(f"{number}:{code}", "login-code")


def prove(phone: str, code: str, address: str) -> str:
    """Check a code; returns the number it was sent to. Raises :class:`Invalid` (one sentence for every reason) or TooMany.

    A try is counted before the code is looked at and in a transaction of its own, so that no crowd of requests gets more.
    """
    number = phones.mobile(phone)
    blind, place = phone_blind(number), limits.who("address", address)
    limits.check("wrong_login_per_phone", "login", blind)
    limits.check("wrong_login_per_address", "login", place)
    now = clock.now()
    row = LoginCode.objects.filter(blind=blind).order_by("-created_at", "-pk").first()
    given = _digest(number, code.strip()[:20])
    right = False
    if row is not None:
        mine = LoginCode.objects.filter(pk=row.pk, used_at__isnull=True, expires_at__gt=now, tries__lt=TRIES)
        counted = mine.update(tries=F("tries") + 1)
        fits = hmac.compare_digest(bytes(row.digest), given)
        right = bool(counted and fits) and bool(
            LoginCode.objects.filter(pk=row.pk, used_at__isnull=True).update(used_at=now)
        )
    else:
        hmac.compare_digest(given, _digest(number, "none"))
    if not right:
        limits.failed("login", blind, place)
        audit.write(None, "login_failed", what="resident code", outcome="refused")
        raise Invalid({"code": WRONG})
    return number


def sign_in(phone: str, code: str, address: str) -> Account:
    """The account of the number, made now when it is the first time. Raises as :func:`prove`; a closed account as a wrong code."""
    number = prove(phone, code, address)
    account = of_phone(number)
    if not account.is_active:
        audit.write(_scope(account), "login_failed", what=f"account {account.username}", outcome="refused")
        raise Invalid({"code": WRONG})
    audit.write(_scope(account), "login", what=f"account {account.username}", detail={"how": "phone code"})
    return account


def of_phone(number: str) -> Account:
    """The account that signs in with a number (proven by the caller); two first sign-ins at once make one."""
    blind = phone_blind(number)
    known = Phone.objects.filter(blind=blind).select_related("account").first()
    if known is not None:
        return known.account
    try:
        with transaction.atomic():
            account = make(phones.masked(number))
            Phone.objects.create(
                account=account, sealed=seal.seal(number), blind=blind, tail=number[-4:], since=clock.now()
            )
            return account
    except IntegrityError:
        return Phone.objects.select_related("account").get(blind=blind).account


def make(name: str) -> Account:
    """A resident's account without a password: only a code or an outside provider opens it."""
    account = Account.objects.create_user(f"m-{secrets.token_hex(8)}", None, name=name, resident=True)
    audit.write(_scope(account), "create", what=f"account {account.username}", detail={"did": "resident"})
    return account


def number_of(account: Account) -> str:
    """The mobile number of an account, or ""."""
    row = Phone.objects.filter(account=account).first()
    return seal.unseal(row.sealed) if row else ""


def sign_out_everywhere(account: Account) -> None:
    """End every session of the account on every phone."""
    account.set_unusable_password()
    account.save(update_fields=["password"])
    audit.write(_scope(account), "logout", what=f"account {account.username}", detail={"how": "everywhere"})


def _scope(account: Account) -> Scope:
    return scope_for_account(account)
