"""Read, vread and history at the door."""

import base64
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, http, shape
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import store, text, values
from lianxin.record.problems import refuse
from lianxin.record.store import Result

HISTORY_COUNT = 50
HISTORY_MOST = 500
WALK = 20_000  # versions looked at for one ``_at``
VERSION_DIGITS = 9

Cursor = tuple[datetime, int, int]

Reader = Callable[[Any, Scope, str, Result | None], Result | None]
_readers: dict[str, Reader] = {}


def register_reader(rtype: str, fn: Reader) -> None:
    """Let ``fn(cursor, scope, id, found)`` have the last word on a read: what belongs to no patient by itself may belong to
    something that does (a Binary to its document)."""
    if _readers.setdefault(rtype, fn) is not fn:
        raise ValueError(f"reads of {rtype} are already taken")


def read(request: Incoming, scope: Scope, rtype: str, rid: str) -> Reply:
    """``GET Type/id``: 304 when the client has it, 410 when it was deleted."""
    gate.demand(scope, rtype, "r")
    handlers.freshen(rtype)

    def work(cur: Any) -> Result | None:
        found = store.read(cur, scope, rtype, rid)
        if rtype in _readers:
            found = _readers[rtype](cur, scope, rid, found)
        if found is not None:
            gate.note(cur, scope, "read", [found])
        return found

    return _answer(request, rtype, rid, connections.reading(work))


def vread(request: Incoming, scope: Scope, rtype: str, rid: str, version: str) -> Reply:
    """``GET Type/id/_history/version``: 410 for the version that is a deletion."""
    gate.demand(scope, rtype, "r")

    def work(cur: Any) -> Result | None:
        if not version.isdigit() or not version.isascii() or len(version) > VERSION_DIGITS:
            return None
        found = store.vread(cur, scope, rtype, rid, int(version))
        if found is not None:
            gate.note(cur, scope, "read", [found])
        return found

    return _answer(request, rtype, rid, connections.reading(work))


def _answer(request: Incoming, rtype: str, rid: str, result: Result | None) -> Reply:
    if result is None:
        raise gate.absent(rtype, rid)
    if result.deleted:
        raise gate.gone(rtype, rid)
    headers = shape.resource_headers(request, result)
    if shape.not_changed(request, result):
        return Reply(304, b"", headers, result)
    if rtype == "Binary" and not http.accepts(request.header("Accept")) and not request.param("_format"):
        return _native(request, result, headers)
    return Reply(200, shape.shown(request, rtype, result.body), headers, result)


def _native(request: Incoming, result: Result, headers: list[tuple[str, str]]) -> Reply:
    """The content of a Binary as it is, for a client that takes its type (and no JSON)."""
    resource = text.parse(result.body.encode())
    kind = str(resource.get("contentType", "application/octet-stream"))
    plain = kind.partition(";")[0].strip().lower()
    if not plain.isascii() or not http.accepts(
        request.header("Accept"), frozenset({plain, "*/*", plain.partition("/")[0] + "/*"})
    ):
        http.negotiate(request)
    content = base64.b64decode(str(resource.get("data", "")))
    guard = ("Content-Security-Policy", "sandbox; default-src 'none'")
    return Reply(200, content, [*headers, ("Content-Type", plain), guard])


def history(request: Incoming, scope: Scope, rtype: str | None, rid: str | None) -> Reply:
    """``_history`` of an instance, a type or the whole server: newest first, ``_since``, ``_at``, ``_count``, pages by cursor."""
    gate.demand(scope, rtype or "*", "r")
    count = max(1, gate.count_of(request, HISTORY_COUNT, HISTORY_MOST))
    since, before, window = _window(request)

    def work(cur: Any) -> tuple[list[Result], Cursor | None]:
        if window is not None:
            found = _current_in(cur, scope, rtype, rid, window, before, count)
        else:
            found = store.history(cur, scope, rtype, rid, count=count, since=since, before=before)
        gate.note(cur, scope, "read", found[0], f"{rtype or ''}/{rid or ''}/_history")
        return found

    versions, more = connections.reading(work)
    if rid is not None and not versions and before is None and since is None and window is None:
        raise gate.absent(rtype or "", rid)
    kept = [(n, v) for n, v in request.params if n != "_cursor"]
    where = request.here
    links = [shape.link("self", f"{where}?{shape.query(request.params)}" if request.params else where)]
    if more:
        mark = json.dumps([more[0].isoformat(), more[1], more[2]], separators=(",", ":"))
        links.append(shape.link("next", f"{where}?{shape.query([*kept, ('_cursor', mark)])}"))
    entries = [
        shape.history_entry(request.base, v, shape.shown(request, v.rtype, v.body) if v.body else "")
        for v in versions
    ]
    total = len(versions) if before is None and more is None else None
    return Reply(200, shape.bundle_text("history", entries, links, total))


def _window(request: Incoming) -> tuple[datetime | None, Cursor | None, tuple[datetime, datetime] | None]:
    """``_since``, ``_cursor`` and ``_at``; 400 naming the one that is wrong."""
    since, before, window, name = None, None, None, "_since"
    try:
        if request.param("_since"):
            since = values.date_range(request.param("_since").replace(" ", "+"))[0]
        name = "_at"
        if request.param("_at"):
            window = values.date_range(request.param("_at").replace(" ", "+"))
        name = "_cursor"
        if request.param("_cursor"):
            when, number, version = json.loads(request.param("_cursor"))
            before = (datetime.fromisoformat(when), int(number), int(version))
            if before[0].tzinfo is None or not (0 <= before[1] < 2**63 and 0 <= before[2] < 2**31):
                raise ValueError
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise refuse(400, "invalid", f"{name} 无效", f"{name} is not valid", name) from None
    if since is not None and window is not None:
        raise refuse(
            400, "invalid", "_since 与 _at 不能同时使用", "_since and _at cannot be used together", "_at"
        )
    return since, before, window


def _current_in(
    cur: Any,
    scope: Scope,
    rtype: str | None,
    rid: str | None,
    window: tuple[datetime, datetime],
    before: Cursor | None,
    count: int,
) -> tuple[list[Result], Cursor | None]:
    """Versions that were current at some moment of ``window``, newest first: replaced after its start, written before its end."""
    start, end = window
    found: list[Result] = []
    replaced: set[tuple[str, str]] = set()  # resources whose next version came before the window
    place: Cursor | None = (end, 0, 0)
    looked = 0
    while place is not None:
        versions, place = store.history(cur, scope, rtype, rid, count=HISTORY_MOST, before=place)
        for one in versions:
            key = (one.rtype, one.id)
            if key in replaced:
                continue
            if one.updated <= start:
                replaced.add(key)
            if before is None or (one.updated, one.rid, one.version) < before:
                found.append(one)
            if len(found) > count:
                last = found[count - 1]
                return found[:count], (last.updated, last.rid, last.version)
        looked += len(versions)
        if rid is not None and replaced:
            break
        if looked >= WALK:
            raise refuse(
                422,
                "too-costly",
                "_at 范围内的版本过多，请指定资源或缩小时间",
                "too many versions for _at; name one resource, or a time closer to now",
                "_at",
            )
    return found, None
