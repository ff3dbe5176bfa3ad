"""Bearer tokens: opaque, 32 random bytes, only the SM3 hash kept; what they may reach is their SMART scopes (see ``access.smart``).

A token belongs to a client. A machine's own token acts for the client's institution (none: the whole platform); a token with a
grant acts for the person who allowed it, in the post that person acted from, and never reaches more than that person does.
Checking is cached 30 seconds per process, so a revocation, an ended post or a disabled account holds everywhere within 30 seconds.
"""

from __future__ import annotations

import datetime as dt
import secrets
import threading
import time
from functools import lru_cache
from typing import Any

from django.db import close_old_connections, connection, transaction

from lianxin.access import audit, sharing, smart
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Client, Grant, RefreshToken, Token
from lianxin.access.scope import Scope, scope_for_account, scope_for_client
from lianxin.access.seal import sm3
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

CACHE_SECONDS = 30.0
_CACHE_SIZE = 10_000
_USED = dt.timedelta(minutes=5)  # how exactly a client's last use is kept

_cache: dict[bytes, tuple[float, dt.datetime, Scope]] = {}
_lock = threading.Lock()


def parse(text: str) -> tuple[str, ...]:
    """Normalise the scope string of a machine's token; raises :class:`Invalid` naming the bad part."""
    return smart.parse(text, ("system", "user"))


def allows(scope: Scope, resource_type: str, letter: str) -> bool:
    """Whether ``scope`` may ``letter`` (c, r, u, d or s) resources of a type (query limits are for the search conditions).

    A machine by its SMART scopes; a person by role: clinical roles read and search, those who write care also create and
    update; an app that a person opened needs both; the platform itself everything.
    """
    if scope.client_id is not None and not _granted(scope.smart, resource_type, letter):
        return False
    if scope.machine or scope.everything:
        return True
    return (
        scope.clinical or bool(scope.resident_ids)
        if letter in "rs"
        else letter in "cu" and scope.may("write_care")
    )


@lru_cache(maxsize=16384)
def _granted(given: tuple[str, ...], resource_type: str, letter: str) -> bool:
    return bool(smart.matching(given, resource_type, letter))


@transaction.atomic
def issue(
    client_name: str,
    smart_scope: str,
    institution_code: str | None = None,
    hours: float = 24 * 365,
    *,
    scope: Scope | None = None,
) -> str:
    """Make (or find) the client and return a new bearer token, shown this once.

    Raises :class:`Invalid` for an unknown institution, a scope not understood, or a client that belongs elsewhere.
    """
    parsed = parse(smart_scope)
    institution = None
    if institution_code:
        institution = Institution.objects.filter(code=institution_code).first()
        if institution is None:
            raise Invalid(
                {
                    "institution": T(
                        "没有代码为“{code}”的机构，请核对机构代码。",
                        "No institution has the code “{code}”; check it.",
                    ).format(code=institution_code)
                }
            )
    client, _ = Client.objects.get_or_create(name=client_name, defaults={"institution": institution})
    if client.institution_id != (institution.pk if institution else None):
        raise Invalid(
            {
                "client": T(
                    "客户端“{name}”已属于另一机构，请换一个名称。",
                    "The client “{name}” already belongs to another institution; choose another name.",
                ).format(name=client_name)
            }
        )
    bearer = mint(client, parsed, dt.timedelta(hours=hours))
    by = scope or Scope.system("token issued")
    audit.write(by, "admin", what=f"client {client_name}", detail={"did": "token", "scope": " ".join(parsed)})
    return bearer


def mint(client: Client, scopes: tuple[str, ...], life: dt.timedelta, grant: Grant | None = None) -> str:
    """A new bearer token, valid for ``life`` from now (the caller has decided that the client may have it)."""
    bearer = secrets.token_urlsafe(32)
    now = clock.now()
    Token.objects.create(
        client=client,
        hash=sm3(bearer.encode()),
        scope=" ".join(scopes),
        created_at=now,
        expires_at=now + life,
        grant=grant,
    )
    return bearer


@transaction.atomic
def revoke(scope: Scope, client_name: str) -> int:
    """Revoke every token and grant of a client (permission ``manage_accounts``); holds everywhere within 30 seconds."""
    scope.demand("manage_accounts")
    now = clock.now()
    count = Token.objects.filter(client__name=client_name, revoked_at__isnull=True).update(revoked_at=now)
    Grant.objects.filter(client__name=client_name, revoked_at__isnull=True).update(revoked_at=now)
    audit.write(scope, "admin", what=f"client {client_name}", detail={"did": "revoked", "tokens": count})
    forget()
    return count


def revoke_grant(grant_id: int) -> None:
    """Revoke a grant with everything that came of it, in the caller's transaction."""
    now = clock.now()
    Grant.objects.filter(pk=grant_id, revoked_at__isnull=True).update(revoked_at=now)
    Token.objects.filter(grant_id=grant_id, revoked_at__isnull=True).update(revoked_at=now)
    transaction.on_commit(forget)


def tidy() -> int:
    """Delete tokens, grants and refresh tokens that ended more than a month ago; returns how many tokens (a chore of the ticker)."""
    old = clock.now() - dt.timedelta(days=31)
    RefreshToken.objects.filter(expires_at__lt=old).delete()
    count, _ = Token.objects.filter(expires_at__lt=old).delete()
    Grant.objects.filter(expires_at__lt=old, tokens__isnull=True).delete()
    return count


def forget() -> None:
    """Empty this process's cache of checked tokens."""
    with _lock:
        _cache.clear()


def held(bearer: str) -> Scope | None:
    """The scope of a token that was checked within the last 30 seconds; None: ask :func:`scope_for_token`."""
    kept = _cache.get(sm3(bearer.encode()))
    return kept[2] if kept and time.monotonic() < kept[0] and clock.now() < kept[1] else None


def scope_for_token(bearer: str, *, cursor: Any = None) -> Scope | None:
    """The scope of a live token, or None. ``cursor``: any cursor to ask with (the FHIR door has its own pool)."""
    if not 20 <= len(bearer) <= 200 or not bearer.isascii():
        return None
    digest = sm3(bearer.encode())
    kept = _cache.get(digest)
    if kept and time.monotonic() < kept[0]:
        return kept[2] if clock.now() < kept[1] else None
    if cursor is not None:
        found = _look_up(cursor, digest)
    else:
        with connection.cursor() as own:
            found = _look_up(own, digest)
    with _lock:
        _cache.pop(digest, None)
        if found is None:
            return None
        if len(_cache) >= _CACHE_SIZE:
            _cache.clear()
        _cache[digest] = (time.monotonic() + CACHE_SECONDS, *found)
    return found[1]


def _look_up(cur: Any, digest: bytes) -> tuple[dt.datetime, Scope] | None:
    now = clock.now()
    cur.execute(
        "SELECT c.id, c.name, c.institution_id, t.scope, t.expires_at,"
        " CASE WHEN i.kind IN ('township', 'community') THEN ARRAY(SELECT v.id FROM network_institution v"
        " WHERE v.parent_id = i.id AND v.kind = 'village') ELSE '{}' END, t.grant_id, c.last_used_at, c.validation"
        " FROM access_token t JOIN access_client c ON c.id = t.client_id"
        " LEFT JOIN network_institution i ON i.id = c.institution_id"
        " LEFT JOIN access_grant g ON g.id = t.grant_id"
        " WHERE t.hash = %s AND t.revoked_at IS NULL AND t.expires_at > %s AND c.active"
        " AND (t.grant_id IS NULL OR (g.revoked_at IS NULL AND g.expires_at > %s))",
        [digest, now, now],
    )
    row = cur.fetchone()
    if row is None:
        return None
    client_id, name, institution_id, given, expires_at, villages, grant_id, used, validation = row
    if used is None or now - used > _USED:
        cur.execute("UPDATE access_client SET last_used_at = %s WHERE id = %s", [now, client_id])
    scopes = tuple(given.split())
    if grant_id is not None:
        acting = _person_behind(grant_id, scopes)
        return (expires_at, acting) if acting is not None else None
    partners = (
        sharing.partners([institution_id, *villages], cursor=cur) if institution_id else frozenset[int]()
    )
    strict = validation != "warn"
    return expires_at, scope_for_client(client_id, name, institution_id, scopes, villages, partners, strict)


def _person_behind(grant_id: int, scopes: tuple[str, ...]) -> Scope | None:
    """The scope of whoever allowed the app, as it is now; None when the account or the post has ended."""
    close_old_connections()
    grant = Grant.objects.select_related("account", "post", "client").get(pk=grant_id)
    return scope_of_grant(grant, scopes)


def scope_of_grant(grant: Grant, scopes: tuple[str, ...]) -> Scope | None:
    """What an app with ``scopes`` reaches on behalf of the person who allowed it; None when that person may no longer act."""
    if not grant.account.is_active:
        return None
    try:
        person = scope_for_account(grant.account, grant.post)
    except NotPermitted:
        return None
    return Scope(
        account_id=person.account_id,
        client_id=grant.client_id,
        practitioner_id=person.practitioner_id,
        post_id=person.post_id,
        institution_id=person.institution_id,
        institution_ids=person.institution_ids,
        roles=person.roles,
        smart=scopes,
        name=person.name,
        partner_ids=person.partner_ids,
        person_id=grant.person_id,
        grant_id=grant.pk,
        strict=grant.client.validation != "warn",
    )
