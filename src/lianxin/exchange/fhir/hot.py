"""The door's busiest requests, answered in as few steps as possible: a plain read, a plain create.

Plain: no conditions, preferences, formats or narrowing asked for, a token whose scopes set no limits, nothing that an upper
room has taken.  Whatever is not plain, and everything that is to be refused, goes to the whole door (:mod:`door`), which
decides alone; this file only ever says yes to what that would have said yes to.  Statements run on the thread's own
connection, planned once (:func:`lianxin.access.connections.steady`); events of the audit go through the journal.
"""

import gzip
import io
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import psycopg

from lianxin.access import audit, connections, journal, smart, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import door, handlers, http, shape
from lianxin.record import bodies, create, custom, definitions, persons, validate, visible
from lianxin.record.keys import ref_key
from lianxin.record.problems import Problem
from lianxin.standards import clock

PLAIN_ACCEPTS = frozenset(
    [
        "",
        "*/*",
        "application/fhir+json",
        "application/json",
        "application/fhir+json, application/json",
        "application/json, */*",
    ]
)
UNUSUAL = (
    "HTTP_PREFER", "HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_NONE_EXIST", "HTTP_ORIGIN",
    "HTTP_CONTENT_ENCODING", "HTTP_X_SECURITY_CONTEXT", "HTTP_IDEMPOTENCY_KEY",
)  # fmt: skip
SCOPES = 1000  # token scopes whose SQL is kept
READ = "SELECT r.rtype, r.id, r.version, r.updated, r.body, r.person_id, r.deleted FROM record_resource r WHERE r.key = %s AND "
OWN = READ + "r.institution_id = ANY(%s::bigint[])"

Answer = tuple[str, list[tuple[str, str]], bytes]
_conditions: dict[int, tuple[Scope, dict[str, tuple[str, list[Any]] | None]]] = {}


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """WSGI entry of everything below /fhir."""
    try:
        answer = _quick(environ)
    except Exception as error:  # a bad body, which cannot be read twice, or a database that is not there: told as the door tells it
        return http.finish(None, door.failed(error), start_response, environ)
    if answer is None:
        return door.application(environ, start_response)
    status, headers, body = answer
    if len(body) > http.GZIP_FROM and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "").lower():
        body = gzip.compress(body, 1)
        headers.append(("Content-Encoding", "gzip"))
    headers.append(("Content-Length", str(len(body))))
    start_response(status, headers)
    return [body]


def _quick(environ: dict[str, Any]) -> Answer | None:
    """The answer to a plain request; None: the door is to decide."""
    parts = environ["PATH_INFO"].split("/")
    if (
        len(parts) not in (3, 4)
        or environ.get("QUERY_STRING")
        or parts[1] != "fhir"
        or parts[2] not in definitions.types()
    ):
        return None
    if environ.get("HTTP_ACCEPT", "") not in PLAIN_ACCEPTS or not environ.keys().isdisjoint(UNUSUAL):
        return None
    method, rtype = environ["REQUEST_METHOD"], parts[2]
    if method == "GET" and len(parts) == 4 and parts[3]:
        return _asked(environ, lambda scope: _read(scope, rtype, parts[3]))
    if method == "POST" and len(parts) == 3 and handlers.write_handler(rtype) is None:
        return _asked(environ, lambda scope: _create(environ, scope, rtype))
    return None


def _asked(environ: dict[str, Any], work: Callable[[Scope], Answer | None]) -> Answer | None:
    kind, _, bearer = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if kind not in ("Bearer", "bearer"):
        return None
    custom.refresh()
    scope = connections.steady(lambda cur: tokens.scope_for_token(bearer.strip(), cursor=cur))
    if scope is None:
        return None
    address = audit.origin.set(environ.get("REMOTE_ADDR", ""))
    try:
        return work(scope)
    finally:
        audit.origin.reset(address)


def _seen(scope: Scope, rtype: str) -> tuple[str, list[Any]]:
    """The condition of what the scope may see of a type, with its values ready to be sent; made once for each scope."""
    kept = _conditions.get(id(scope))
    if kept is None or kept[0] is not scope:
        if len(_conditions) >= SCOPES:
            _conditions.clear()
        kept = _conditions[id(scope)] = (scope, {})
    found = kept[1].get(rtype)
    if found is None:
        text, args = visible.condition(scope, "r", rtype)
        found = kept[1][rtype] = (READ + text, connections.sent(args))
    text, args = found
    now = clock.now()
    return text, [now if type(a) is datetime else a for a in args]


def _read(scope: Scope, rtype: str, rid: str) -> Answer | None:
    """``GET Type/id``."""
    if (
        not tokens.allows(scope, rtype, "r")
        or rtype == "Binary"
        or (rtype == "Patient" and persons.is_number(rid))
    ):
        return None
    key = ref_key(f"{rtype}/{rid}")

    def work(cur: Any) -> Any:
        if visible.own_source_suffices(scope, rtype):  # half the cost of asking for relationships too
            cur.execute(OWN, [key, "{" + ",".join(map(str, scope.institution_ids)) + "}"], prepare=True)
            if row := cur.fetchone():
                return row
        text, args = _seen(scope, rtype)
        cur.execute(text, [key, *args], prepare=True)
        return cur.fetchone()

    row = connections.steady(work)
    if row is None or row[0] != rtype or row[1] != rid or row[6]:
        return None
    _, _, version, updated, stored, person_id, _ = row
    body = bodies.unpack(stored)
    if person_id is not None or rtype not in definitions.OPEN_TYPES:
        journal.keep(
            [audit.entry(scope, "read", person_id=person_id, what=f"{rtype}/{rid}/_history/{version}")]
        )
    return "200 OK", _headers(version, updated), body


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _headers(version: int, updated: datetime) -> list[tuple[str, str]]:
    return [
        ("ETag", shape.etag(version)),
        ("Last-Modified", _http_date(int(updated.timestamp()))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Content-Type", http.CONTENT_TYPE),
        ("Vary", "Accept, Accept-Encoding"),
    ]


def _create(environ: dict[str, Any], scope: Scope, rtype: str) -> Answer | None:
    """``POST Type`` of something valid, about a patient the writer may write about."""
    if rtype == "Binary":  # may come in any content type
        return None
    if not tokens.allows(scope, rtype, "c") or all(
        p.limited for p in smart.matching(scope.smart, rtype, "c")
    ):
        return None
    http.check_type(environ)
    raw = http.read_body(environ, http.MAX_RESOURCE)
    environ["wsgi.input"] = io.BytesIO(raw)  # the door reads it again when it is to decide
    try:
        resource = validate.accept(raw)
        if resource.get("resourceType") != rtype:
            return None
        validate.rules(resource, raw, strict=scope.strict)
        done = connections.steady(lambda cur: create.create(cur, scope, rtype, resource, raw), again=False)
    except (Problem, ValueError, OverflowError, psycopg.DataError):
        return None
    if done is None:
        return None
    where = f"{http.base(environ)}/{rtype}/{done.id}/_history/1"
    headers = [*_headers(1, done.updated), ("Location", where), ("Content-Location", where)]
    return "201 Created", headers, done.body.encode()
