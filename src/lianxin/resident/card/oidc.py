"""Signing in with an outside provider: OpenID Connect, authorization code with PKCE (RFC 7636), state and nonce, the ID token verified.

Providers are rows. The token endpoint and the keys are asked for under the rules of outgoing calls (checked addresses, no redirects);
an ID token is believed when its signature is of the provider's published keys, and issuer, audience, times and nonce fit.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import IntegrityError, transaction
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from lianxin.access import audit, seal
from lianxin.access.errors import AccessError
from lianxin.access.models import Account
from lianxin.access.scope import scope_for_account
from lianxin.exchange.smart import fetching
from lianxin.resident.card import accounts
from lianxin.resident.card.models import OutsideIdentity, Phone, Provider
from lianxin.resident.sms import phones, signed
from lianxin.standards import clock
from lianxin.standards.text import T

ALGORITHMS = ["RS256", "PS256", "ES256", "ES384", "EdDSA"]
SECONDS = 8.0
SKEW = 60
WAITS = 600
"""Seconds a sign-in may take at the provider."""
KEPT = 300.0
_keys: dict[str, tuple[float, KeySet]] = {}
_guard = threading.Lock()


class NotSignedIn(AccessError):
    """The provider's answer cannot be used; ``why`` is for the audit."""

    def __init__(self, why: str) -> None:
        super().__init__(
            T(
                "第三方登录没有完成，请重试或改用手机验证码。",
                "Signing in there did not work; try again, or use a code to your phone.",
            )
        )
        self.why = why


@dataclass(frozen=True)
class Asked:
    """What is remembered in the session until the provider answers."""

    provider: str
    state: str
    nonce: str
    verifier: str
    back: str
    at: int

    def kept(self) -> dict[str, Any]:
        """For the session."""
        return dict(vars(self))


def start(provider: Provider, redirect_uri: str, back: str) -> tuple[str, Asked]:
    """The address to send the browser to, and what to remember."""
    asked = Asked(
        provider.key,
        secrets.token_urlsafe(24),
        secrets.token_urlsafe(24),
        secrets.token_urlsafe(48),
        back,
        int(clock.now().timestamp()),
    )
    challenge = base64.urlsafe_b64encode(hashlib.sha256(asked.verifier.encode()).digest()).rstrip(b"=")
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid profile phone" if provider.phones else "openid profile",
        "state": asked.state,
        "nonce": asked.nonce,
        "code_challenge": challenge.decode(),
        "code_challenge_method": "S256",
    }
    joint = "&" if "?" in provider.authorize_url else "?"
    return provider.authorize_url + joint + urlencode(query), asked


def finish(provider: Provider, asked: Asked, state: str, code: str, redirect_uri: str) -> dict[str, Any]:
    """The verified claims of the ID token; raises :class:`NotSignedIn`."""
    if asked.provider != provider.key or not hmac.compare_digest(asked.state.encode(), state.encode()):
        raise NotSignedIn("state")
    if not 0 <= clock.now().timestamp() - asked.at <= WAITS:
        raise NotSignedIn("too late")
    if not code or len(code) > 2000:
        raise NotSignedIn("no code")
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "client_id": provider.client_id,
        "code_verifier": asked.verifier,
    }
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
        "User-Agent": "Lianxin",
    }
    if provider.secret_sealed:
        pair = f"{provider.client_id}:{seal.unseal(provider.secret_sealed)}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
    try:
        answer = signed.send(provider.token_url, headers, urlencode(form).encode(), SECONDS)
    except signed.NoAnswer as why:
        raise NotSignedIn(f"token: {why}") from None
    token = answer.body.get("id_token")
    if answer.status != 200 or not isinstance(token, str):
        raise NotSignedIn(f"token: HTTP {answer.status}")
    return verified(provider, token, asked.nonce)


def verified(provider: Provider, token: str, nonce: str) -> dict[str, Any]:
    """The claims of an ID token (OpenID Connect Core 3.1.3.7); raises :class:`NotSignedIn`."""
    try:
        decoded = jwt.decode(token, _key_set(provider, again=False), algorithms=ALGORITHMS)
    except (JoseError, ValueError):
        try:  # the provider may have changed its keys
            decoded = jwt.decode(token, _key_set(provider, again=True), algorithms=ALGORITHMS)
        except (JoseError, ValueError) as wrong:
            raise NotSignedIn(f"signature: {type(wrong).__name__}") from None
    claims = decoded.claims
    now = int(clock.now().timestamp())
    audience = claims.get("aud")
    for why, fits in (
        ("issuer", claims.get("iss") == provider.issuer),
        ("audience", audience == provider.client_id or audience == [provider.client_id]),
        ("expired", isinstance(claims.get("exp"), int) and now < claims["exp"] + SKEW),
        ("issued", isinstance(claims.get("iat"), int) and claims["iat"] <= now + SKEW),
        ("nonce", hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode())),
        ("subject", isinstance(claims.get("sub"), str) and 0 < len(claims["sub"]) <= 255),
    ):
        if not fits:
            raise NotSignedIn(why)
    return dict(claims)


def _key_set(provider: Provider, *, again: bool) -> KeySet:
    with _guard:
        held = _keys.get(provider.jwks_url)
    if held is not None and not again and time.monotonic() - held[0] < KEPT:
        return held[1]
    try:
        found = KeySet.import_key_set(json.loads(fetching.fetch(provider.jwks_url, SECONDS, 64 * 1024)))
    except fetching.NotFetched as why:
        raise NotSignedIn(f"keys: {why}") from None
    except (ValueError, JoseError, KeyError, TypeError) as wrong:
        raise NotSignedIn(f"keys: {type(wrong).__name__}") from None
    with _guard:
        _keys[provider.jwks_url] = (time.monotonic(), found)
    return found


def account_of(provider: Provider, claims: dict[str, Any], signed_in: Account | None) -> Account:
    """The account of who the provider says it is: linked before, the one signed in now, that of the proven phone, or a new one.

    Raises :class:`NotSignedIn` for an identity that is another account's while somebody is signed in, and for a closed account.
    """
    subject = claims["sub"]
    try:
        with transaction.atomic():
            row = (
                OutsideIdentity.objects.select_related("account")
                .filter(provider=provider, subject=subject)
                .first()
            )
            if row is not None:
                if signed_in is not None and row.account_id != signed_in.pk:
                    raise NotSignedIn("linked to another account")
                account = row.account
            else:
                account = signed_in or _by_phone(provider, claims) or accounts.make(_name(claims))
                OutsideIdentity.objects.create(
                    provider=provider, subject=subject, account=account, since=clock.now()
                )
                audit.write(
                    scope_for_account(account),
                    "create",
                    what=f"account {account.username}",
                    detail={"linked": provider.key},
                )
    except IntegrityError:  # two answers at once, or this account has another identity there
        row = (
            OutsideIdentity.objects.select_related("account")
            .filter(provider=provider, subject=subject)
            .first()
        )
        if row is None or (signed_in is not None and row.account_id != signed_in.pk):
            raise NotSignedIn("another identity is linked") from None
        account = row.account
    if not account.is_active or not account.resident:
        raise NotSignedIn("closed")
    audit.write(
        scope_for_account(account), "login", what=f"account {account.username}", detail={"how": provider.key}
    )
    return account


def _by_phone(provider: Provider, claims: dict[str, Any]) -> Account | None:
    if not (provider.phones and claims.get("phone_number_verified") is True):
        return None
    try:
        number = phones.mobile(str(claims.get("phone_number", "")))
    except phones.NotAPhone:
        return None
    account = accounts.of_phone(number)
    # An account that has this provider's other identity is not the one.
    taken = OutsideIdentity.objects.filter(provider=provider, account=account).exists()
    return None if taken else Phone.objects.get(account=account).account


def _name(claims: dict[str, Any]) -> str:
    given = str(claims.get("name") or "").replace("\x00", "").strip()
    return given[:40] or "居民"


def forget() -> None:
    """Drop fetched keys (tests)."""
    with _guard:
        _keys.clear()
