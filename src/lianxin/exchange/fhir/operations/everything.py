"""Patient/$everything and Encounter/$everything: all that is known of a patient or a contact, within what the caller may see."""

from typing import Any

from lianxin.access import connections, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.operations import gather
from lianxin.record import definitions, search, store
from lianxin.record.problems import refuse
from lianxin.record.store import Result

DEFINITIONS = "http://hl7.org/fhir/OperationDefinition"
PAGE = 1000
MOST = 5000


def register() -> None:
    """Offer both operations."""
    handlers.register_operation(
        "Patient", "everything", patient, affects_state=False, type_level=False,
        definition=f"{DEFINITIONS}/Patient-everything",
    )  # fmt: skip
    handlers.register_operation(
        "Encounter", "everything", encounter, affects_state=False, type_level=False,
        definition=f"{DEFINITIONS}/Encounter-everything",
    )  # fmt: skip


def patient(scope: Scope, asked: Request) -> Response:
    """``Patient/{id}/$everything``: start, end (care dates), _since, _type, _count; pages by cursor."""
    rid = asked.id or ""
    count = max(1, gather.number(asked, "_count", PAGE, MOST))
    wanted = gather.types(asked)
    keep = _Filter(asked)

    def work(cur: Any) -> search.Page | None:
        page: search.Page | None = None
        entries: list[Result] = []
        cursor = asked.argument("_cursor") or ""
        while True:
            found = search.everything(
                cur, scope, rid, count=max(1, count - len(entries)), cursor=cursor, types=wanted
            )
            if found is None:
                break
            allowed = [e for e in found.entries if tokens.allows(scope, e.rtype, "r") and keep(e)]
            entries += allowed
            included = page.included if page else []
            page = found
            known = {(e.rtype, e.id) for e in included}
            page.included = included + [
                e
                for e in found.included
                if tokens.allows(scope, e.rtype, "r") and (e.rtype, e.id) not in known
            ]
            cursor = found.next or ""
            if not cursor or len(entries) >= count:
                break
        if page is not None:
            page.entries = entries
            if wanted:
                page.included = [e for e in page.included if e.rtype in wanted]
            gate.note(cur, scope, "read", entries, f"Patient/{rid}/$everything")
        return page

    page = connections.reading(work)
    if page is None:
        raise gate.absent("Patient", rid)
    whole = page.next is None and not asked.argument("_cursor")
    return gather.searchset(
        asked, f"Patient/{rid}/$everything", page.entries, page.included, following=page.next,
        total=len(page.entries) if whole else None,
    )  # fmt: skip


class _Filter:
    """Which resources of a record are asked for: by care date (``start``, ``end``) and by change (``_since``)."""

    def __init__(self, asked: Request) -> None:
        start, end, since = (gather.instant(asked, name) for name in ("start", "end", "_since"))
        self.start, self.end, self.since = start and start[0], end and end[1], since and since[0]

    def __call__(self, one: Result) -> bool:
        if self.since and one.updated < self.since:
            return False
        if not (self.start or self.end) or one.rtype == "Patient":
            return True
        at = gather.spoken_of(one)
        if at is None:
            return True  # it speaks of no time: it belongs to all of them
        return not ((self.start and at < self.start) or (self.end and at >= self.end))


def encounter(scope: Scope, asked: Request) -> Response:
    """``Encounter/{id}/$everything``: the contact, what names it, and what these refer to; _since, _type, _count; pages."""
    rid = asked.id or ""
    count = max(1, gather.number(asked, "_count", PAGE, MOST))
    wanted = gather.types(asked)
    keep = _Filter(asked)
    at = asked.argument("_cursor") or "0"
    if not at.isdigit() or len(at) > 6:
        raise refuse(400, "invalid", "翻页标记无效", "the page cursor is not valid", "_cursor")

    def work(cur: Any) -> list[Result] | None:
        found = store.read(cur, scope, "Encounter", rid)
        if found is None:
            return None
        if found.deleted:
            raise gate.gone("Encounter", rid)
        results = [found, *_naming(cur, scope, rid)]
        results += gather.by_ids(cur, scope, gather.references(results))
        results = [r for r in results if (not wanted or r.rtype in wanted) and keep(r)]
        results = results[int(at) :]
        gate.note(cur, scope, "read", results[:count], f"Encounter/{rid}/$everything")
        return results

    results = connections.reading(work)
    if results is None:
        raise gate.absent("Encounter", rid)
    following = str(int(at) + count) if len(results) > count else None
    total = len(results) if at == "0" and following is None else None
    return gather.searchset(
        asked, f"Encounter/{rid}/$everything", results[:count], following=following, total=total
    )


def _naming(cur: Any, scope: Scope, rid: str) -> list[Result]:
    """What refers to an Encounter, type by type."""
    found: list[Result] = []
    for rtype in sorted(definitions.types()):
        if not tokens.allows(scope, rtype, "r"):
            continue
        table = definitions.params(rtype)
        for name in ("encounter", "context"):
            param = table.get(name)
            if param is None or param.kind != "reference" or "Encounter" not in param.targets:
                continue
            page = search.search(cur, scope, rtype, [(name, f"Encounter/{rid}"), ("_count", str(PAGE))])
            found += page.entries
            break
    return found[:MOST]
