"""Conditions of conditional create, update, patch and delete: found under a lock, so that two at once see one another.

A condition is told apart by its parameters in any order and any percent-encoding.  Take the locks of a request in one call of
:func:`hold`, before any other lock and before searching: the search then runs in a new statement and sees what the last holder wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from lianxin.access.scope import Scope
from lianxin.record import search, store
from lianxin.record.problems import Problem, refuse
from lianxin.record.store import Result

RESULT_ONLY = frozenset(
    {
        "_count",
        "_sort",
        "_include",
        "_revinclude",
        "_include:iterate",
        "_revinclude:iterate",
        "_total",
        "_summary",
        "_elements",
        "_format",
        "_pretty",
        "_cursor",
        "_contained",
        "_containedType",
        "_maxresults",
        "_score",
    }
)  # fmt: skip - parameters that say how to answer, not what to find


@dataclass(frozen=True)
class Condition:
    """A search that should find one resource of a type; ``query`` is its normal form."""

    rtype: str
    query: str

    @property
    def identifiers(self) -> list[str]:
        """Names to lock for the identifiers it asks for: conditions that add other parameters must wait for one another too."""
        pairs = parse_qsl(self.query, keep_blank_values=True)
        values = {v.rpartition("|")[2] for n, given in pairs if n == "identifier" for v in given.split(",")}
        return [f"{self.rtype}#{value}" for value in sorted(values)]

    @property
    def lock(self) -> str:
        """The name to lock (the same that ``store.apply`` locks for a conditional create)."""
        return f"{self.rtype}?{self.query}"


def condition(rtype: str, query: str, place: str = "") -> Condition:
    """A condition from a query (``identifier=a|b``, also ``Type?…``); 412 when it would find anything."""
    try:
        pairs = parse_qsl(
            query.rpartition("?")[2], keep_blank_values=True, errors="strict", max_num_fields=100
        )
    except ValueError:
        raise refuse(
            400, "invalid", "条件不是合法的查询串", "the condition is not a valid query", place
        ) from None
    if any("\x00" in n or "\x00" in v for n, v in pairs):
        raise refuse(400, "invalid", "条件中不能有 U+0000", "the condition must not contain U+0000", place)
    pairs = sorted((n, v) for n, v in pairs if n not in RESULT_ONLY and v != "")
    if not pairs:
        raise refuse(
            412,
            "required",
            "条件为空，请给出查询参数",
            "the condition is empty; give search parameters",
            place,
        )
    return Condition(rtype, urlencode(pairs))


def hold(cur: Any, conditions: Sequence[Condition], keys: Sequence[str] = ()) -> None:
    """Lock conditions and resources (``Type/id``) until the transaction ends."""
    names = [name for c in conditions for name in (c.lock, *c.identifiers)]
    store.lock(cur, [*names, *keys])


def several(place: str = "") -> Problem:
    """412: more than one resource matches."""
    return refuse(
        412,
        "multiple-matches",
        "条件匹配到多个资源，请把条件写得更精确",
        "the condition matches several resources; make it more exact",
        place,
    )


def one(cur: Any, scope: Scope, wanted: Condition, place: str = "") -> Result | None:
    """The one match that the scope may see, None when there is none; 412 when there are several."""
    found = search.match(cur, scope, wanted.rtype, wanted.query, limit=2)
    if len(found) > 1:
        raise several(place)
    return found[0] if found else None


def up_to(cur: Any, scope: Scope, wanted: Condition, limit: int, place: str = "") -> list[Result]:
    """At most ``limit`` matches (of a conditional delete); 412 when there are more."""
    found = search.match(cur, scope, wanted.rtype, wanted.query, limit=limit + 1)
    if len(found) <= limit:
        return found
    if limit == 1:
        raise several(place)
    raise refuse(
        412,
        "multiple-matches",
        f"条件匹配到的资源超过 {limit} 个，请缩小范围",
        f"the condition matches more than {limit} resources; narrow it",
        place,
    )


def target(cur: Any, scope: Scope, wanted: Condition, given_id: str | None, place: str = "") -> str | None:
    """The id that a conditional update goes to, None to create: one match is updated (its id, if given, must be that one);
    none creates, under the given id if there is one and it is free."""
    found = one(cur, scope, wanted, place)
    if found is not None:
        if given_id not in (None, found.id):
            raise refuse(
                400,
                "value",
                f"条件匹配到 {found.id}，与资源的 id 不同",
                f"the condition matches {found.id}, which is not the resource's id",
                f"{wanted.rtype}.id",
            )
        return found.id
    if given_id is not None:
        there = store.read(cur, scope, wanted.rtype, given_id)
        if there is not None and not there.deleted:
            raise refuse(
                409,
                "conflict",
                f"{wanted.rtype}/{given_id} 已存在，但不符合条件",
                f"{wanted.rtype}/{given_id} exists, but does not match the condition",
                f"{wanted.rtype}.id",
            )
    return given_id
