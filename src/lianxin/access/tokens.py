"""Bearer tokens of machine clients: opaque, 32 random bytes, only the SM3 hash kept; SMART scopes v1 and v2.

``system/*.rs``, ``user/Observation.cruds``, ``system/Patient.read``, ``system/*.*``; v2 query limits (``?category=…``) are
refused rather than ignored. Checking is cached 30 seconds per process, so a revocation holds everywhere within 30 seconds.
"""

from __future__ import annotations

import datetime as dt
import re
import secrets
import threading
import time
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.models import Client, Token
from lianxin.access.scope import Scope, scope_for_client
from lianxin.access.seal import sm3
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

CACHE_SECONDS = 30.0
_CACHE_SIZE = 10_000
_SCOPE = re.compile(r"(system|user)/(\*|[A-Z][A-Za-z]{1,60})\.(\*|read|write|c?r?u?d?s?)")
_V1 = {"read": "rs", "write": "cud", "*": "cruds"}

_cache: dict[bytes, tuple[float, dt.datetime, Scope]] = {}
_lock = threading.Lock()


def parse(text: str) -> tuple[str, ...]:
    """Normalise a SMART scope string to ``("system/Patient.rs", …)``; raises :class:`Invalid` naming the bad part."""
    parts = text.split()
    out = []
    for part in parts:
        match = _SCOPE.fullmatch(part)
        if not match or not match[3]:
            raise Invalid(
                {
                    "scope": T(
                        "授权范围“{part}”无法识别,应形如 system/*.rs 或 system/Patient.read。",
                        "The scope “{part}” is not understood; write it like system/*.rs or system/Patient.read.",
                    ).format(part=part)
                }
            )
        out.append(f"{match[1]}/{match[2]}.{_V1.get(match[3], match[3])}")
    if not out:
        raise Invalid({"scope": T("请给出授权范围,如 system/*.rs。", "Give a scope, such as system/*.rs.")})
    return tuple(dict.fromkeys(out))


def allows(scope: Scope, resource_type: str, letter: str) -> bool:
    """Whether ``scope`` may ``letter`` (c, r, u, d or s) resources of a type.

    A client by its SMART scopes; a person by role: clinical roles read and search, those who write care also create and
    update; the platform itself everything.
    """
    if scope.client_id is None:
        if scope.everything:
            return True
        return scope.clinical if letter in "rs" else letter in "cu" and scope.may("write_care")
    for part in scope.smart:
        name, _, letters = part.partition("/")[2].partition(".")
        if letter in letters and name in ("*", resource_type):
            return True
    return False


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
                        "没有代码为“{code}”的机构,请核对机构代码。",
                        "No institution has the code “{code}”; check it.",
                    ).format(code=institution_code)
                }
            )
    client, _ = Client.objects.get_or_create(name=client_name, defaults={"institution": institution})
    if client.institution_id != (institution.pk if institution else None):
        raise Invalid(
            {
                "client": T(
                    "客户端“{name}”已属于另一机构,请换一个名称。",
                    "The client “{name}” already belongs to another institution; choose another name.",
                ).format(name=client_name)
            }
        )
    bearer = secrets.token_urlsafe(32)
    now = clock.now()
    Token.objects.create(
        client=client,
        hash=sm3(bearer.encode()),
        scope=" ".join(parsed),
        created_at=now,
        expires_at=now + dt.timedelta(hours=hours),
    )
    by = scope or Scope.system("token issued")
    audit.write(by, "admin", what=f"client {client_name}", detail={"did": "token", "scope": " ".join(parsed)})
    return bearer


@transaction.atomic
def revoke(scope: Scope, client_name: str) -> int:
    """Revoke every token of a client (permission ``manage_accounts``); holds everywhere within 30 seconds."""
    scope.demand("manage_accounts")
    count = Token.objects.filter(client__name=client_name, revoked_at__isnull=True).update(
        revoked_at=clock.now()
    )
    audit.write(scope, "admin", what=f"client {client_name}", detail={"did": "revoked", "tokens": count})
    forget()
    return count


def forget() -> None:
    """Empty this process's cache of checked tokens."""
    with _lock:
        _cache.clear()


def scope_for_token(bearer: str, *, cursor: Any = None) -> Scope | None:
    """The scope of a live token, or None. ``cursor``: any cursor to ask with (the FHIR door has its own pool)."""
    if not 20 <= len(bearer) <= 200 or not bearer.isascii():
        return None
    digest = sm3(bearer.encode())
    held = _cache.get(digest)
    if held and time.monotonic() < held[0]:
        return held[2] if clock.now() < held[1] else None
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
    cur.execute(
        "SELECT c.id, c.name, c.institution_id, t.scope, t.expires_at,"
        " CASE WHEN i.kind IN ('township', 'community') THEN ARRAY(SELECT v.id FROM network_institution v"
        " WHERE v.parent_id = i.id AND v.kind = 'village') ELSE '{}' END"
        " FROM access_token t JOIN access_client c ON c.id = t.client_id"
        " LEFT JOIN network_institution i ON i.id = c.institution_id"
        " WHERE t.hash = %s AND t.revoked_at IS NULL AND t.expires_at > %s AND c.active",
        [digest, clock.now()],
    )
    row = cur.fetchone()
    if row is None:
        return None
    client_id, name, institution_id, smart, expires_at, villages = row
    return expires_at, scope_for_client(client_id, name, institution_id, tuple(smart.split()), villages)
