"""Collecting what an operation answers with: resources that others refer to, time limits, searchset pages."""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from lianxin.access import tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import shape
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.http import Incoming
from lianxin.record import definitions, extract, search, text, values
from lianxin.record.problems import refuse
from lianxin.record.store import Result

REFERENCE = re.compile(r'"reference"\s*:\s*"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[^"]*)?"')
MOST_REFERENCED = 1000
CHUNK = 100  # ids in one search


def references(results: Iterable[Result]) -> dict[str, set[str]]:
    """Type -> ids of what some resources refer to (relative references), without the resources themselves."""
    found: dict[str, set[str]] = {}
    own = set()
    for one in results:
        own.add((one.rtype, one.id))
        for rtype, rid in REFERENCE.findall(one.body):
            if rtype in definitions.types():
                found.setdefault(rtype, set()).add(rid)
    for rtype, rid in own:
        found.get(rtype, set()).discard(rid)
    return found


def by_ids(cur: Any, scope: Scope, wanted: dict[str, set[str]]) -> list[Result]:
    """The resources of some ids that the scope and the token allow, at most 1,000."""
    found: list[Result] = []
    for rtype in sorted(wanted):
        if not tokens.allows(scope, rtype, "r"):
            continue
        ids = sorted(wanted[rtype])
        for at in range(0, len(ids), CHUNK):
            some = ids[at : at + CHUNK]
            page = search.search(cur, scope, rtype, [("_id", ",".join(some)), ("_count", str(CHUNK))])
            found += page.entries
            if len(found) >= MOST_REFERENCED:
                return found[:MOST_REFERENCED]
    return found


def instant(asked: Request, name: str) -> tuple[datetime, datetime] | None:
    """The range of a date argument, None when it is not given; 400 when it is no date."""
    given = asked.argument(name)
    if not given:
        return None
    try:
        return values.date_range(given.replace(" ", "+"))
    except (ValueError, OverflowError):
        raise refuse(400, "invalid", f"{name} 不是合法的日期", f"{name} is not a valid date", name) from None


def number(asked: Request, name: str, default: int, most: int) -> int:
    """A whole-number argument between 0 and ``most``."""
    given = asked.argument(name, int)
    if given is None:
        return default
    if given < 0:
        raise refuse(400, "invalid", f"{name} 应为非负整数", f"{name} must be 0 or more", name)
    return min(given, most)


def types(asked: Request, name: str = "_type") -> list[str]:
    """The resource types of an argument; 400 naming one that is unknown."""
    given = [t.strip() for v in asked.arguments.get(name, []) for t in str(v).split(",") if t.strip()]
    for one in given:
        if one not in definitions.types():
            raise refuse(
                400, "invalid", f"未知的资源类型 {one[:60]}", f"unknown resource type {one[:60]}", name
            )
    return given


def spoken_of(result: Result) -> datetime | None:
    """The time a resource speaks of; None when it has none."""
    at = extract.clinical_time(text.parse(result.body.encode()))
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def shaper(asked: Request) -> Incoming:
    """A request that ``shape.shown`` can read ``_elements`` and ``_summary`` from."""
    params = [(n, v) for n in ("_elements", "_summary") for v in map(str, asked.arguments.get(n, []))]
    return Incoming("GET", [], params, {}, asked.base)


def searchset(
    asked: Request,
    path: str,
    entries: Sequence[Result],
    included: Sequence[Result] = (),
    *,
    following: str | None = None,
    total: int | None = None,
) -> Response:
    """A searchset of an operation; ``following`` is the cursor of the next page (its link can be called with GET)."""
    where = f"{asked.base}/{path}"
    given = [
        (n, str(v))
        for n, vs in asked.arguments.items()
        for v in vs
        if n != "_cursor" and type(v) in (str, int)
    ]
    cursor = [("_cursor", str(v)) for v in asked.arguments.get("_cursor", [])]
    own = [*given, *cursor]
    links = [shape.link("self", f"{where}?{shape.query(own)}" if own else where)]
    if following:
        links.append(shape.link("next", f"{where}?{shape.query([*given, ('_cursor', following)])}"))
    shaped = shaper(asked)
    texts = [
        shape.entry_text(asked.base, e, shape.shown(shaped, e.rtype, e.body), mode)
        for mode, some in (("match", entries), ("include", included))
        for e in some
    ]
    return Response(200, shape.bundle_text("searchset", texts, links, total))
