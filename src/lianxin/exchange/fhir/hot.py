"""The door's busiest requests, answered in as few steps as possible: a plain read, a plain create, one patient's coded results.

Plain: no conditions, preferences, formats or narrowing asked for, a token whose scopes set no limits, nothing that an upper
room has taken.  Whatever is not plain, and everything that is to be refused, goes to the whole door (:mod:`door`), which
decides alone; this file only ever says yes to what that would have said yes to.  Statements run on the thread's own
connection, planned once (:mod:`lianxin.access.statements`); events of the audit go through the journal.
"""

import gzip
import io
import re
from collections.abc import Callable
from datetime import datetime
from email.utils import formatdate
from functools import lru_cache
from typing import Any

import psycopg

from lianxin.access import audit, connections, journal, tokens
from lianxin.access.scope import Scope
from lianxin.access.statements import Statement, seconds, text, whole
from lianxin.exchange.fhir import door, handlers, http, shape
from lianxin.record import bodies, create, custom, definitions, persons, search_own, validate, visible
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
PLAIN_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Type", http.CONTENT_TYPE),
    ("Vary", "Accept, Accept-Encoding"),
)
LONGEST_QUERY = 2000
SCOPES = 1000  # token scopes whose SQL is kept
COLUMNS = "r.rtype, r.id, r.version, r.updated, r.body, r.person_id, r.deleted, r.institution_id"
READ = f"SELECT {COLUMNS} FROM record_resource r WHERE r.key = %s::bigint AND "
ROW = Statement(f"SELECT {COLUMNS} FROM record_resource r WHERE r.key = $1::bigint", 1)
PLAIN_QUERY = re.compile(
    r"[A-Za-z0-9_.\-~/:|,$=&]*"
)  # what needs no decoding, and reads in an address and in JSON as it is

Answer = tuple[str, list[tuple[str, str]], bytes]
_conditions: dict[int, tuple[Scope, dict[str, tuple[Statement, list[Any]]]]] = {}


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
    if len(parts) not in (3, 4) or parts[1] != "fhir" or parts[2] not in definitions.types():
        return None
    if environ.get("HTTP_ACCEPT", "") not in PLAIN_ACCEPTS or not environ.keys().isdisjoint(UNUSUAL):
        return None
    method, rtype, query = environ["REQUEST_METHOD"], parts[2], environ.get("QUERY_STRING")
    if method == "GET" and handlers.ages(rtype):
        return None
    if query:
        if (
            method != "GET"
            or len(parts) == 4
            or len(query) > LONGEST_QUERY
            or not PLAIN_QUERY.fullmatch(query)
        ):
            return None
        return _asked(environ, lambda scope: _search(environ, scope, rtype, query))
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
    bearer = bearer.strip()
    scope = tokens.held(bearer) or connections.steady(lambda cur: tokens.scope_for_token(bearer, cursor=cur))
    if scope is None:
        return None
    address = audit.origin.set(environ.get("REMOTE_ADDR", ""))
    try:
        return work(scope)
    finally:
        audit.origin.reset(address)


def _seen(scope: Scope, rtype: str) -> tuple[Statement, list[bytes | None]]:
    """The read of what the scope may see of a type, with its values ready to be sent; made once for each scope."""
    kept = _conditions.get(id(scope))
    if kept is None or kept[0] is not scope:
        if len(_conditions) >= SCOPES:
            _conditions.clear()
        kept = _conditions[id(scope)] = (scope, {})
    found = kept[1].get(rtype)
    if found is None:
        condition, args = visible.condition(scope, "r", rtype)
        found = kept[1][rtype] = (_statement(READ + condition), connections.sent(args))
    statement, args = found
    now = clock.now()
    return statement, [text(now if type(a) is datetime else a) for a in args]


@lru_cache(maxsize=100)
def _statement(sql: str) -> Statement:
    """One statement for all scopes that ask in the same words."""
    return Statement(sql, sql.count("%s"))


def _read(scope: Scope, rtype: str, rid: str) -> Answer | None:
    """``GET Type/id``."""
    if (
        not tokens.allows(scope, rtype, "r")
        or rtype == "Binary"
        or (rtype == "Patient" and persons.is_number(rid))
    ):
        return None
    key = ref_key(f"{rtype}/{rid}")
    row = connections.steady(lambda cur: _row(cur, scope, rtype, key))
    if row is None or row[0] != rtype or row[1] != rid or row[6]:
        return None
    _, _, version, updated, stored, person_id, _ = row
    body = bodies.unpack(stored)
    if person_id is not None or rtype not in definitions.OPEN_TYPES:
        journal.keep(
            [audit.entry(scope, "read", person_id=person_id, what=f"{rtype}/{rid}/_history/{version}")]
        )
    return "200 OK", _headers(version, updated), body


_Row = tuple[str, str, int, int, bytes, int | None, bool]


def _row(cur: Any, scope: Scope, rtype: str, key: int) -> _Row | None:
    """The row of a key that the scope may see: type, id, version, time in seconds, body, person, whether it is deleted."""
    number = b"%d" % key
    if visible.own_source_suffices(scope, rtype):  # what its own institutions sent needs no further question
        found = ROW.row(cur, [number])
        if found is None:
            return None
        if found[7] is not None and whole(found[7]) in scope.institution_ids:
            return _decoded(found)
    statement, values = _seen(scope, rtype)
    found = statement.row(cur, [number, *values])
    return None if found is None else _decoded(found)


def _decoded(found: list[bytes | None]) -> _Row:
    kind, rid, version, updated, body, person, deleted, _ = found
    return (
        (kind or b"").decode(), (rid or b"").decode(), whole(version), seconds(updated), body or b"",
        None if person is None else whole(person), deleted == b"\x01",
    )  # fmt: skip


def _search(environ: dict[str, Any], scope: Scope, rtype: str, query: str) -> Answer | None:
    """``GET Type?patient=&code=`` of what the asker's own institution sent."""
    if not tokens.allows(scope, rtype, "s"):
        return None
    given = [(name, value) for name, _, value in [part.partition("=") for part in query.split("&") if part]]
    found = connections.steady(lambda cur: search_own.search(cur, scope, rtype, given))
    if found is None:
        return None
    base = http.base(environ)
    if found.entries:
        names = "&".join(sorted({name for name, _ in found.used}))
        count = len(found.entries)
        journal.keep(
            [audit.entry(scope, "search", person_id=found.person_id, what=f"{rtype}?{names}"[:200],
                         detail={rtype: count} if count > 1 else None)]
        )  # fmt: skip
    self = f"{base}/{rtype}?" + "&".join([f"{name}={value}" for name, value in found.used])
    start, end = f'{{"fullUrl":"{base}/{rtype}/'.encode(), b',"search":{"mode":"match"}}'
    entries = b",".join([b'%s%s","resource":%s%s' % (start, rid, body, end) for rid, body in found.entries])
    total = f'"total":{len(found.entries)},' if found.next is None else ""
    more = f',{{"relation":"next","url":"{self}&_cursor={found.next}"}}' if found.next else ""
    body = b'{"resourceType":"Bundle","type":"searchset",%s"link":[{"relation":"self","url":"%s"}%s]%s}' % (
        total.encode(), self.encode(), more.encode(), b',"entry":[%s]' % entries if entries else b"",
    )  # fmt: skip
    return "200 OK", [*PLAIN_HEADERS], body


@lru_cache(maxsize=4096)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _headers(version: int, updated: int) -> list[tuple[str, str]]:
    return [("ETag", shape.etag(version)), ("Last-Modified", _http_date(updated)), *PLAIN_HEADERS]


def _create(environ: dict[str, Any], scope: Scope, rtype: str) -> Answer | None:
    """``POST Type`` of something valid, about a patient the writer may write about."""
    if rtype == "Binary":  # may come in any content type
        return None
    if not tokens.allows(scope, rtype, "c") or not visible.unlimited(scope.smart, rtype, "c"):
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
    headers = [*_headers(1, int(done.updated.timestamp())), ("Location", where), ("Content-Location", where)]
    return "201 Created", headers, done.body.encode()
