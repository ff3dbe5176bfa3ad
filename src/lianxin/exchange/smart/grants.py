"""Codes, access tokens, refresh tokens and identity tokens: making them, exchanging them, asking about them, ending them."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from joserfc import jwt

from lianxin.access import audit, smart, tokens
from lianxin.access.models import Account, Client, Grant, RefreshToken, Token
from lianxin.access.scope import Scope
from lianxin.access.seal import sm3
from lianxin.exchange.smart import keys, wanted
from lianxin.exchange.smart.addresses import Addresses
from lianxin.exchange.smart.errors import OAuthError
from lianxin.network.models import Post
from lianxin.standards import clock

BACKEND_LIFE = dt.timedelta(minutes=5)
APP_LIFE = dt.timedelta(hours=1)
CODE_LIFE = dt.timedelta(minutes=1)
ONLINE_LIFE = dt.timedelta(hours=12)
OFFLINE_LIFE = dt.timedelta(days=90)
CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


@dataclass
class Wish:
    """An authorization a person is about to allow: everything the app sent that has been checked."""

    client: Client
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    nonce: str = ""
    person_id: int | None = None
    context: dict[str, Any] = field(default_factory=dict)


def backend_token(client: Client, text: str) -> dict[str, Any]:
    """The answer to ``grant_type=client_credentials``."""
    if client.kind != "backend":
        raise OAuthError("unauthorized_client", "an app gets its tokens by the authorization code flow")
    scopes = wanted.of_backend(client, text)
    by = Scope(client_id=client.pk, institution_id=client.institution_id, name=client.name)
    with transaction.atomic():
        bearer = tokens.mint(client, scopes, BACKEND_LIFE)
        audit.write(by, "login", what=f"client {client.name}", detail={"scope": " ".join(scopes)})
    return _answer(bearer, BACKEND_LIFE, scopes)


def allow(wish: Wish, account: Account, post: Post, session: str) -> str:
    """The person has agreed: keep the grant and return the code for the app."""
    code = secrets.token_urlsafe(32)
    now = clock.now()
    life = (
        OFFLINE_LIFE
        if "offline_access" in wish.scopes
        else ONLINE_LIFE
        if "online_access" in wish.scopes
        else APP_LIFE
    )
    with transaction.atomic():
        made = Grant.objects.create(
            client=wish.client,
            account=account,
            post=post,
            scope=" ".join(wish.scopes),
            person_id=wish.person_id,
            context=wish.context,
            session=_session_mark(session),
            created_at=now,
            expires_at=now + life,
            code_hash=sm3(code.encode()),
            code_expires_at=now + CODE_LIFE,
            redirect_uri=wish.redirect_uri,
            challenge=wish.challenge,
            nonce=wish.nonce,
        )
        by = Scope(
            account_id=account.pk,
            client_id=wish.client.pk,
            institution_id=post.institution_id,
            name=account.name,
        )
        audit.write(
            by, "admin", person_id=wish.person_id, what=f"app {wish.client.name}",
            detail={"did": "allowed", "scope": made.scope, "grant": made.pk},
        )  # fmt: skip
    return code


def _session_mark(session: str | None) -> str:
    """What is kept of a session key: enough to know the session again, not to use it."""
    return sm3(session.encode()).hex() if session else ""


def signed_out(sender: Any, request: Any, **more: Any) -> None:
    """Receiver of Django's ``user_logged_out``: what was allowed for as long as the person is signed in ends now."""
    mark = _session_mark(request.session.session_key)
    if mark:
        for grant in Grant.objects.filter(session=mark, revoked_at__isnull=True):
            if "offline_access" not in grant.scope.split():
                tokens.revoke_grant(grant.pk)


def by_code(client: Client, form: dict[str, str], addresses: Addresses) -> dict[str, Any]:
    """The answer to ``grant_type=authorization_code``; a code used twice revokes what came of it."""
    refused = OAuthError(
        "invalid_grant", "the code is unknown, expired, used, or was not given to this client"
    )
    why: str | None = None
    with transaction.atomic():
        grant = (
            Grant.objects.select_for_update(of=("self",))
            .select_related("account", "post", "client")
            .filter(code_hash=sm3(form.get("code", "").encode()), client=client)
            .first()
        )
        if grant is None:
            raise refused
        reused = grant.code_used_at is not None
        if reused:
            tokens.revoke_grant(grant.pk)
            _note(grant, "code used twice: revoked", "refused")
        else:
            now = clock.now()
            Grant.objects.filter(pk=grant.pk).update(code_used_at=now)
            why = _code_fault(grant, form, now)
            if why is None:
                scopes = tuple(grant.scope.split())
                return _issue(grant, scopes, addresses, fresh=True)
            tokens.revoke_grant(grant.pk)
    if reused:
        raise refused
    raise OAuthError("invalid_grant", why or "")


def _code_fault(grant: Grant, form: dict[str, str], now: dt.datetime) -> str | None:
    if grant.revoked_at is not None or grant.code_expires_at <= now:
        return "the code has expired; codes are good for one minute"
    if form.get("redirect_uri", "") != grant.redirect_uri:
        return "redirect_uri differs from the one of the authorization"
    verifier = form.get("code_verifier", "")
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    if not VERIFIER.fullmatch(verifier) or not hmac.compare_digest(digest, grant.challenge):
        return "code_verifier does not belong to the code_challenge"
    if tokens.scope_of_grant(grant, ()) is None:
        return "the person may no longer act in that post"
    return None


def by_refresh(client: Client, form: dict[str, str], addresses: Addresses) -> dict[str, Any]:
    """The answer to ``grant_type=refresh_token``: a new pair; a refresh token used twice revokes its whole grant."""
    refused = OAuthError("invalid_grant", "the refresh token is unknown, expired, used or revoked")
    with transaction.atomic():
        row = (
            RefreshToken.objects.select_for_update(of=("self",))
            .select_related("grant__account", "grant__post", "grant__client")
            .filter(hash=sm3(form.get("refresh_token", "").encode()), grant__client=client)
            .first()
        )
        if row is None:
            raise refused
        grant, now = row.grant, clock.now()
        if row.used_at is not None:
            if grant.revoked_at is None:
                tokens.revoke_grant(grant.pk)
                _note(grant, "refresh token used twice: revoked", "refused")
            ended = True
        else:
            ended = (
                grant.revoked_at is not None
                or row.expires_at <= now
                or tokens.scope_of_grant(grant, ()) is None
            )
        if not ended:
            scopes = _fewer(grant, form.get("scope", ""))
            RefreshToken.objects.filter(pk=row.pk).update(used_at=now)
            return _issue(grant, scopes, addresses, fresh=False)
    raise refused


def _fewer(grant: Grant, text: str) -> tuple[str, ...]:
    """The scopes of a refreshed token: those of the grant, or fewer when the app asks for fewer (RFC 6749, 6)."""
    given = tuple(grant.scope.split())
    if not text.strip():
        return given

    asked = {found[0] if (found := smart.understood(part)) else part for part in text.split()}
    kept = smart.narrowed(tuple(text.split()), given)
    if asked != set(kept):
        raise OAuthError("invalid_scope", "a refreshed token cannot have more than was allowed at first")
    return kept


def _issue(grant: Grant, scopes: tuple[str, ...], addresses: Addresses, *, fresh: bool) -> dict[str, Any]:
    now = clock.now()
    life = min(APP_LIFE, grant.expires_at - now)
    bearer = tokens.mint(grant.client, scopes, life, grant)
    answer = _answer(bearer, life, scopes)
    if set(wanted.REFRESH).intersection(grant.scope.split()):
        refresh = secrets.token_urlsafe(32)
        RefreshToken.objects.create(
            grant=grant, hash=sm3(refresh.encode()), created_at=now, expires_at=grant.expires_at
        )
        answer["refresh_token"] = refresh
    answer |= grant.context
    if "openid" in scopes:
        answer["id_token"] = identity(grant, scopes, addresses)
    _note(grant, "token" if fresh else "token refreshed", "ok")
    return answer


def _note(grant: Grant, did: str, outcome: str) -> None:
    by = Scope(
        account_id=grant.account_id, client_id=grant.client_id, institution_id=grant.post.institution_id,
        name=grant.account.name,
    )  # fmt: skip
    audit.write(
        by, "login", person_id=grant.person_id, what=f"app {grant.client.name}",
        detail={"did": did, "grant": grant.pk}, outcome=outcome,
    )  # fmt: skip


def _answer(bearer: str, life: dt.timedelta, scopes: tuple[str, ...]) -> dict[str, Any]:
    return {
        "access_token": bearer,
        "token_type": "bearer",
        "expires_in": int(life.total_seconds()),
        "scope": " ".join(scopes),
    }


def subject(account: Account) -> str:
    """The account's steady identifier in identity tokens: it tells nothing by itself."""
    return sm3(f"subject:{account.pk}".encode()).hex()[:32]


def fhir_user(account: Account, addresses: Addresses) -> str | None:
    """The Practitioner that stands for the account's person in the record."""
    if account.practitioner is None:
        return None
    return f"{addresses.fhir}/Practitioner/{account.practitioner.code}"


def identity(grant: Grant, scopes: tuple[str, ...], addresses: Addresses, algorithm: str = "RS256") -> str:
    """The identity token (OpenID Connect Core, 2)."""
    now = int(clock.now().timestamp())
    claims: dict[str, Any] = {
        "iss": addresses.issuer,
        "sub": subject(grant.account),
        "aud": grant.client.key,
        "iat": now,
        "exp": now + int(APP_LIFE.total_seconds()),
    }
    if grant.nonce:
        claims["nonce"] = grant.nonce
    if "profile" in scopes:
        claims["name"] = grant.account.name
    who = fhir_user(grant.account, addresses)
    if who and ("fhirUser" in scopes or "profile" in scopes):
        claims["fhirUser"] = who
        claims["profile"] = who
    key = keys.signing(algorithm)
    return jwt.encode({"alg": algorithm, "kid": key.kid, "typ": "JWT"}, claims, key, algorithms=[algorithm])


def introspect(client: Client, value: str, addresses: Addresses) -> dict[str, Any]:
    """RFC 7662: about a token of the asking client, or of any for a platform-wide backend (a resource server of ours)."""
    now = clock.now()
    row = (
        Token.objects.select_related("client", "grant__account__practitioner")
        .filter(hash=sm3(value.encode()), revoked_at__isnull=True, expires_at__gt=now, client__active=True)
        .first()
    )
    widely = client.kind == "backend" and client.institution_id is None
    if row is None or not (row.client_id == client.pk or widely) or tokens.scope_for_token(value) is None:
        return {"active": False}
    found: dict[str, Any] = {
        "active": True,
        "scope": row.scope,
        "client_id": row.client.key,
        "token_type": "bearer",
        "iat": int(row.created_at.timestamp()),
        "exp": int(row.expires_at.timestamp()),
        "iss": addresses.issuer,
        "aud": addresses.fhir,
        "sub": row.client.key,
    }
    if row.grant is not None:
        found |= row.grant.context | {"sub": subject(row.grant.account)}
        who = fhir_user(row.grant.account, addresses)
        if who:
            found["fhirUser"] = who
    return found


def revoke(client: Client, value: str) -> None:
    """RFC 7009: end a token of the client; with a refresh token everything that came of its grant ends."""
    digest = sm3(value.encode())
    with transaction.atomic():
        Token.objects.filter(hash=digest, client=client, revoked_at__isnull=True).update(
            revoked_at=clock.now()
        )
        refresh = RefreshToken.objects.filter(hash=digest, grant__client=client).first()
        if refresh is not None:
            tokens.revoke_grant(refresh.grant_id)
    tokens.forget()


FOLLOWING = ("access_grant", "access_launch", "access_consent")
"""What was allowed, launched, agreed and refused goes along when a whole person is merged, and back when that is undone."""


def forget_tokens(cursor: Any, patient_ids: list[str], from_person: int, to_person: int) -> None:
    """Registered with ``index.hooks``: whose data a token opens may have changed."""
    transaction.on_commit(tokens.forget)
