"""Observation/$lastn: the last observations of each kind for one patient."""

from typing import Any

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.operations import gather
from lianxin.record import search, text
from lianxin.record.problems import refuse
from lianxin.record.store import Result

PAGE = 1000
MOST = 20_000  # observations looked at
MOST_EACH = 100
OWN = (
    "max",
    "_count",
    "_sort",
    "_cursor",
    "_elements",
    "_summary",
    "_format",
    "_pretty",
    "_total",
    "_include",
    "_revinclude",
)


def register() -> None:
    """Offer the operation."""
    handlers.register_operation(
        "Observation", "lastn", lastn, affects_state=False, instance=False, letter="s",
        definition="http://hl7.org/fhir/OperationDefinition/Observation-lastn",
    )  # fmt: skip


def lastn(scope: Scope, asked: Request) -> Response:
    """The newest ``max`` (1) observations of each code that the other arguments, search parameters, find.

    Codes that share a coding are one kind.  A patient, and a code or a category, must be given.
    """
    most = gather.number(asked, "max", 1, MOST_EACH)
    if most == 0:
        raise refuse(400, "invalid", "max 应为正整数", "max must be 1 or more", "max")
    given = [(n, str(v)) for n, vs in asked.arguments.items() for v in vs if n not in OWN]
    names = {n.partition(":")[0].partition(".")[0] for n, _ in given}
    if not names & {"patient", "subject"} or not names & {"code", "category"}:
        raise refuse(
            400,
            "required",
            "请给出 patient（或 subject），以及 code 或 category",
            "give patient (or subject), and code or category",
        )

    def work(cur: Any) -> list[Result]:
        groups: list[_Group] = []
        known: dict[str, _Group] = {}
        looked, cursor = 0, ""
        while True:
            page = search.search(
                cur, scope, "Observation", [*given, ("_sort", "-date"), ("_count", str(PAGE)),
                                            *([("_cursor", cursor)] if cursor else [])], strict=True,
            )  # fmt: skip
            for one in page.entries:
                _sort_in(one, groups, known, most)
            looked += len(page.entries)
            cursor = page.next or ""
            if not cursor:
                break
            if looked >= MOST:
                raise refuse(
                    422,
                    "too-costly",
                    "观察结果过多，请用 date 或 code 缩小范围",
                    "too many observations; narrow by date or code",
                )
        found = [one for group in groups if not group.merged for one in group.results[:most]]
        gate.note(cur, scope, "search", found, "Observation/$lastn")
        return found

    found = connections.reading(work)
    return gather.searchset(asked, "Observation/$lastn", found, total=len(found))


class _Group:
    """Observations of one kind, newest first."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.merged = False


def _kinds(result: Result) -> list[str]:
    """What an observation's code says: its codings, else its text."""
    code = text.parse(result.body.encode()).get("code") or {}
    codings = [f"{c.get('system', '')}|{c['code']}" for c in code.get("coding", []) if c.get("code")]
    return codings or [f"text:{code.get('text', '')}"]


def _sort_in(result: Result, groups: list[_Group], known: dict[str, _Group], most: int) -> None:
    kinds = _kinds(result)
    mine = list({id(known[k]): known[k] for k in kinds if k in known}.values())
    if not mine:
        mine = [_Group()]
        groups.append(mine[0])
    first, *others = mine
    for other in others:  # this observation ties two kinds together
        other.merged = True
        first.results = _newest([*first.results, *other.results], most)
        for kind, group in known.items():
            if group is other:
                known[kind] = first
    if len(first.results) < most:
        first.results.append(result)
    for kind in kinds:
        known[kind] = first


def _newest(results: list[Result], most: int) -> list[Result]:
    return sorted(results, key=lambda r: str(gather.spoken_of(r) or ""), reverse=True)[:most]
