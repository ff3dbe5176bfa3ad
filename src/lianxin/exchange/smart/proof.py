"""Which client calls, and its proof: a signed assertion (RFC 7523, SMART 5.2), a secret, or, for public apps, only its name."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from django.db import connection
from joserfc import jwt
from joserfc.errors import JoseError

from lianxin.access import audit, clients
from lianxin.access.models import Assertion, Client
from lianxin.access.scope import Scope
from lianxin.access.seal import sm3
from lianxin.exchange.smart import keys
from lianxin.exchange.smart.addresses import Addresses
from lianxin.exchange.smart.errors import OAuthError, invalid_client
from lianxin.standards import clock

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ALGORITHMS = ["RS384", "ES384"]
LIFE = 300  # seconds an assertion may be valid for
LEEWAY = 30  # seconds two clocks may differ
MAX_ASSERTION = 16_000


def client_of(
    form: Mapping[str, str], authorization: str, addresses: Addresses, *, public: bool = False
) -> Client:
    """The client of a request to the token, introspection or revocation address, proved by exactly one method.

    ``public``: an app without keys or secret may name itself. Raises :class:`OAuthError`.
    """
    assertion, secret = form.get("client_assertion", ""), form.get("client_secret", "")
    basic = authorization[:6].lower() == "basic "
    if bool(assertion) + bool(secret) + basic > 1:
        raise OAuthError("invalid_request", "use one way of client authentication only")
    if assertion:
        return _by_assertion(form, assertion, addresses)
    key = form.get("client_id", "")
    if basic:
        key, secret = _basic(authorization[6:])
        if form.get("client_id", key) != key:
            raise OAuthError("invalid_request", "client_id differs from the Authorization header")
    client = _live(key)
    if secret or basic:
        held = bytes(client.secret_hash) if client.secret_hash is not None else b""
        if not held or not hmac.compare_digest(held, sm3(secret.encode())):
            raise _failed(client, "the secret is wrong")
    elif not (public and client.public and client.kind == "app"):
        raise invalid_client("the client must authenticate: send client_assertion, or its secret")
    clients.touch(client)
    return client


def _live(key: str) -> Client:
    client = Client.objects.filter(key=key, active=True).first() if key and "\x00" not in key else None
    if client is None:
        raise invalid_client("no such client, or it is disabled")
    return client


def _failed(client: Client, why: str) -> OAuthError:
    by = Scope(client_id=client.pk, institution_id=client.institution_id, name=client.name)
    audit.write(by, "login_failed", what=f"client {client.name}", detail={"why": why}, outcome="refused")
    return invalid_client(why)


def _basic(value: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise invalid_client("the Authorization header cannot be read") from None
    key, _, secret = text.partition(":")
    return unquote_plus(key), unquote_plus(secret)


def _by_assertion(form: Mapping[str, str], assertion: str, addresses: Addresses) -> Client:
    if form.get("client_assertion_type") != JWT_BEARER:
        raise OAuthError("invalid_request", f"client_assertion_type must be {JWT_BEARER}")
    header, claims = _unverified(assertion)
    key = claims.get("iss")
    if type(key) is not str or claims.get("sub") != key or form.get("client_id", key) != key:
        raise invalid_client("iss and sub of the assertion must both be the client_id")
    client = _live(key)
    kid = header.get("kid")
    if header.get("alg") not in ALGORITHMS or type(kid) is not str or header.get("typ", "JWT") != "JWT":
        raise _failed(
            client, f"the assertion's header needs typ JWT, a kid, and alg one of {', '.join(ALGORITHMS)}"
        )
    if "jku" in header and header["jku"] != client.jwks_url:
        raise _failed(client, "jku is not the registered JWKS address")
    try:
        ours = [k for k in keys.of_client(client, kid).keys if k.kid == kid]
        if len(ours) != 1:
            raise _failed(client, "no registered key has this kid")
        claims = jwt.decode(assertion, ours[0], algorithms=ALGORITHMS).claims
    except JoseError:
        raise _failed(client, "the assertion's signature is wrong") from None
    _timely(client, claims, addresses)
    clients.touch(client)
    return client


def _unverified(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims before anything is proved: only to find out whose keys to check with."""
    parts = assertion.split(".")
    if len(assertion) > MAX_ASSERTION or len(parts) != 3:
        raise invalid_client("the assertion is no signed JWT")
    found = []
    for part in parts[:2]:
        try:
            one = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        except (ValueError, RecursionError):
            raise invalid_client("the assertion is no signed JWT") from None
        if type(one) is not dict:
            raise invalid_client("the assertion is no signed JWT")
        found.append(one)
    return found[0], found[1]


def _timely(client: Client, claims: dict[str, Any], addresses: Addresses) -> None:
    """Audience, life and single use of a verified assertion."""
    audience = claims.get("aud")
    if addresses.auth("token") not in (audience if isinstance(audience, list) else [audience]):
        raise _failed(client, f"aud must be {addresses.auth('token')}")
    now = clock.now().timestamp()
    times: dict[str, Any] = {name: claims.get(name) for name in ("exp", "iat", "nbf") if name in claims}
    if any(type(value) not in (int, float) for value in times.values()) or "exp" not in times:
        raise _failed(client, "exp must be given, in seconds since 1970")
    if times["exp"] <= now - LEEWAY:
        raise _failed(client, "the assertion has expired")
    if times["exp"] > now + LIFE + LEEWAY:
        raise _failed(client, "exp may be at most five minutes ahead")
    if max(times.get("iat", 0), times.get("nbf", 0)) > now + LEEWAY:
        raise _failed(client, "the assertion is from the future")
    jti = claims.get("jti")
    if type(jti) is not str or not 0 < len(jti) <= 500:
        raise _failed(client, "jti must be given, a text used only once")
    until = clock.now() + dt.timedelta(seconds=LIFE + 2 * LEEWAY)
    with connection.cursor() as cur:
        cur.execute(
            "INSERT INTO access_assertion (client_id, jti, expires_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [client.pk, sm3(jti.encode()), until],
        )
        if not cur.rowcount:
            raise _failed(client, "this assertion was used before")


def tidy() -> int:
    """Forget assertions that would be refused for their age anyway (a chore of the ticker)."""
    return Assertion.objects.filter(expires_at__lt=clock.now()).delete()[0]
