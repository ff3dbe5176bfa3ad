"""Searches at the door: of a type, of the whole server, in a compartment; by GET and by POST _search."""

from typing import Any

from lianxin.access import connections, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, http, shape
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import search
from lianxin.record.problems import refuse

FORM = "application/x-www-form-urlencoded"


def form(request: Incoming) -> list[tuple[str, str]]:
    """The parameters of a POST _search: those of the address, then those of the form."""
    raw = request.body(http.MAX_QUERY)
    if raw and http.content_type(request.environ) != FORM:
        raise refuse(415, "not-supported", "_search 请用表单格式发送", f"send _search as {FORM}")
    try:
        return [*request.params, *http.pairs(raw.decode("utf-8"))]
    except UnicodeDecodeError:
        raise refuse(400, "invalid", "表单不是 UTF-8", "the form is not UTF-8") from None


def run(
    request: Incoming,
    scope: Scope,
    rtype: str | None,
    given: list[tuple[str, str]],
    compartment: tuple[str, str] | None = None,
) -> Reply:
    """A searchset; ``rtype`` None searches every type of ``_type`` (all that the token allows when it is not given)."""
    for one in _types(rtype, given):
        gate.demand(scope, one, "s")
        handlers.freshen(one if one != "*" else None)
    shaped = Incoming(request.method, request.path, given, request.environ, request.base)
    http.negotiate(shaped)
    narrowed = shape.narrows(shaped)
    strict = "handling=strict" in request.prefer
    where = "/".join([request.base, *(compartment or ()), *([rtype or "*"] if compartment or rtype else [])])

    def work(cur: Any) -> search.Page:
        page = search.search(cur, scope, rtype, given, strict=strict, compartment=compartment)
        page.included = [e for e in page.included if tokens.allows(scope, e.rtype, "r")]
        names = "&".join(sorted({n for n, _ in page.used}))
        gate.note(
            cur,
            scope,
            "search",
            [*page.entries, *page.included],
            f"{where[len(request.base) + 1 :]}?{names}"[:200],
        )
        return page

    # One patient's record has one good plan; other searches are planned for their values.
    about_one = rtype is not None and search.about_one(rtype, given)
    page = connections.steady(work) if about_one else connections.reading(work)
    used = [(n, v) for n, v in page.used if n not in ("_format", "_pretty")]
    kept = [(n, v) for n, v in given if n in ("_format", "_pretty")]
    links = [shape.link("self", _address(where, [*used, *kept]))]
    if page.next:
        links.append(shape.link("next", _address(where, [*used, *kept, ("_cursor", page.next)])))
    entries = [
        shape.entry_text(
            request.base, e, shape.shown(shaped, e.rtype, e.body) if narrowed else e.body, "match"
        )
        for e in page.entries
    ]
    entries += [shape.entry_text(request.base, e, e.body, "include") for e in page.included]
    if page.ignored:
        told = http.outcome_text(page.ignored).decode()
        entries.append(f'{{"resource":{told},"search":{{"mode":"outcome"}}}}')
    return Reply(200, shape.bundle_text("searchset", entries, links, page.total))


def _address(where: str, params: list[tuple[str, str]]) -> str:
    return f"{where}?{shape.query(params)}" if params else where


def _types(rtype: str | None, given: list[tuple[str, str]]) -> list[str]:
    """The types that a search will look at, for the token's scopes."""
    if rtype is not None:
        return [rtype]
    named = [t.strip() for n, v in given if n == "_type" for t in v.split(",") if t.strip()]
    return named or ["*"]
