"""What the settlements sum up to, for the rooms above (indicators, budget): only lines that are current, of batches that are accepted.

Cost follows the insured person, not the place: ``own`` is what members of the consortium cost, ``other`` the other institutions of
the county, ``outside``, ``pharmacy``, and ``unknown`` what nobody could place; ``excluded`` is the part of all of them that the
policy leaves out of the budget (A = own + other + outside − excluded, settlement.md).  A reversal counts −1 and its negative amounts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from lianxin.access import audit
from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.exchange.settlement.models import MONEY, PLACES
from lianxin.network.models import Consortium
from lianxin.standards.money import Money
from lianxin.standards.text import T

_PLACE = (
    "CASE WHEN p.place <> 'own' THEN p.place WHEN l.settled_on >= p.own_since AND (p.own_until IS NULL OR l.settled_on < p.own_until)"
    " THEN 'own' ELSE 'other' END"
)
DIMENSIONS = {
    "month": "to_char(l.settled_on, 'YYYY-MM')",
    "scheme": "l.scheme",
    "care": "l.care",
    "tier": "p.tier",
    "provider": "p.code",
    "institution": "coalesce(p.institution_id::text, '')",
    "home": "coalesce(coalesce(h.parent_id, h.id)::text, '')",
    "clinic": "coalesce(h.id::text, '')",
    "insured_place": "l.insured_place",
    "diagnosis": "l.diagnosis",
    "grouped": "l.grouped",
}
"""What figures can be told apart by. ``home``: the institution that looks after the insured person (a clinic's centre), "" while
nobody knows who it is; ``clinic``: the clinic itself."""


@dataclass
class Sums:
    """Sums of settlements. ``discharges``: inpatient ones; ``people``: different persons among those that are known."""

    count: int = 0
    discharges: int = 0
    people: int = 0
    amounts: dict[str, Money] = field(default_factory=lambda: {name: Money() for name in MONEY})

    def __getattr__(self, name: str) -> Money:
        try:
            return self.__dict__["amounts"][name]
        except KeyError:
            raise AttributeError(name) from None

    def add(self, other: Sums) -> None:
        """Add another's counts and amounts (people of both may be the same: they are not added)."""
        self.count += other.count
        self.discharges += other.discharges
        for name in MONEY:
            self.amounts[name] = self.amounts[name] + other.amounts[name]


@dataclass
class Figure:
    """The sums of one group (``key``: dimension -> value), by place, and of what is excluded."""

    key: dict[str, str]
    at: dict[str, Sums] = field(default_factory=lambda: {place: Sums() for place in PLACES})
    excluded: Sums = field(default_factory=Sums)

    def whole(self, *places: str) -> Sums:
        """The sum of some places (default: all of them)."""
        out = Sums()
        for place in places or PLACES:
            out.add(self.at[place])
        return out

    @property
    def actual(self) -> Money:
        """A of the budget's formulas: what the fund paid at own, other and outside institutions, less what is excluded."""
        return self.at["own"].fund + self.at["other"].fund + self.at["outside"].fund - self.excluded.fund


def figures(
    scope: Scope, consortium: Consortium, since: dt.date, until: dt.date, by: Sequence[str] = ("month",)
) -> list[Figure]:
    """Sums of what was settled from ``since`` to ``until`` (both days included), told apart ``by`` some of :data:`DIMENSIONS`.

    Raises NotPermitted unless ``scope`` oversees the consortium; KeyError for an unknown dimension.
    """
    demand(scope, consortium)
    columns = [DIMENSIONS[name] for name in by]
    amounts = ", ".join(f"coalesce(sum(l.{name}), 0)" for name in MONEY)
    heads = "".join(f"{column}, " for column in columns)
    people = (
        "LEFT JOIN index_person q ON q.id = l.person_id LEFT JOIN network_institution h ON h.id = q.home_institution_id "
        if {"home", "clinic"} & set(by)
        else ""
    )
    sign = "CASE WHEN l.reversal THEN -1 ELSE 1 END"
    query = (
        f"SELECT {heads}{_PLACE}, l.excluded AND p.place <> 'pharmacy', sum({sign}),"
        f" coalesce(sum({sign}) FILTER (WHERE l.care = 'inpatient'), 0), count(DISTINCT l.person_id), {amounts}"
        " FROM exchange_settlementline l JOIN exchange_settlementbatch b ON b.id = l.batch_id AND b.state = 'accepted'"
        f" JOIN exchange_settlementprovider p ON p.id = l.provider_id {people}"
        " WHERE l.consortium_id = %s AND l.current AND l.settled_on BETWEEN %s AND %s"
        f" GROUP BY {', '.join(str(n + 1) for n in range(len(columns) + 2))}"
    )
    out: dict[tuple[str, ...], Figure] = {}
    with connection.cursor() as cur:
        cur.execute(query, [consortium.pk, since, until])
        for row in cur.fetchall():
            key = tuple(row[: len(by)])
            one = out.setdefault(key, Figure(dict(zip(by, key, strict=True))))
            place, excluded, *numbers = row[len(by) :]
            sums = _sums(numbers)
            one.at[place].add(sums)
            one.at[place].people += sums.people
            if excluded:
                one.excluded.add(sums)
    audit.write(
        scope,
        "read",
        what=f"settlement figures {consortium.code}",
        detail={"by": list(by), "since": since, "until": until},
    )
    return [out[key] for key in sorted(out)]


def _sums(numbers: Sequence[Any]) -> Sums:
    count, discharges, people, *amounts = numbers
    return Sums(
        int(count),
        int(discharges),
        int(people),
        {n: Money(int(a)) for n, a in zip(MONEY, amounts, strict=True)},
    )


def oversees(scope: Scope, consortium: Consortium) -> bool:
    """Whether the figures and batches of a consortium are ``scope``'s to see: its office, and the platform itself."""
    return scope.everything or consortium.lead_id in scope.oversight_ids


def demand(scope: Scope, consortium: Consortium) -> None:
    """Raise NotPermitted unless :func:`oversees`."""
    if not oversees(scope, consortium):
        raise NotPermitted(
            T(
                "结算数据由医共体办查看，您当前岗位没有此权限。",
                "Settlements are seen by the consortium office; your present post does not include it.",
            )
        )
