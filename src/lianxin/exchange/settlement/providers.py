"""Where a provider stands for a consortium: by an institution's code or name, else by the rules of ``data/layout.yaml``, else by a person."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lianxin.exchange.settlement import layout
from lianxin.exchange.settlement.models import OTHER, OUTSIDE, OWN, UNKNOWN, SettlementProvider
from lianxin.network import directory
from lianxin.network.models import Consortium, Institution, Membership
from lianxin.standards import identifiers

_WORDS = re.compile(r"[\s（）()·\-]+")


@dataclass(frozen=True)
class Named:
    """A provider as a row names it."""

    code: str
    name: str = ""
    level: str = ""
    area: str = ""
    outside: bool = False


@dataclass
class Book:
    """The providers of a consortium, by code; unknown ones are recognised and written as they come."""

    consortium: Consortium
    known: dict[str, SettlementProvider] = field(default_factory=dict)
    _codes: dict[str, Institution] = field(default_factory=dict)
    _names: dict[str, Institution] = field(default_factory=dict)
    _members: dict[int, tuple[dt.date, dt.date | None]] = field(default_factory=dict)

    @classmethod
    def open(cls, consortium: Consortium) -> Book:
        """With everything that is known now."""
        book = cls(consortium, {p.code: p for p in SettlementProvider.objects.filter(consortium=consortium)})
        for one in Institution.objects.select_related("parent"):
            for code in (one.code, one.uscc):
                if code:
                    book._codes[code.upper()] = one
            for name in (one.name, one.short_name):
                if name:
                    book._names.setdefault(_plain(name), one)
        for m in Membership.objects.filter(consortium=consortium).order_by("since"):
            since = min(m.since, book._members.get(m.institution_id, (m.since, None))[0])
            book._members[m.institution_id] = (since, m.until)
        return book

    def take(self, found: Iterable[Named]) -> None:
        """Recognise and write those that are not known yet."""
        new = {one.code: one for one in found if one.code not in self.known}
        for one in new.values():
            made = self.recognise(one)
            self.known[one.code], _ = SettlementProvider.objects.get_or_create(
                consortium=self.consortium, code=one.code, defaults=made
            )

    def recognise(self, one: Named) -> dict[str, Any]:
        """Everything that is to be written of a provider."""
        told: dict[str, Any] = {"name": one.name[:200], "tier": _tier(one.level)}
        institution = self._codes.get(identifiers.normalise(one.code)) or self._codes.get(one.code.upper())
        how = "code"
        if institution is None and one.name:
            institution, how = self._names.get(_plain(one.name)), "name"
        if institution is not None:
            return {
                **told,
                "name": told["name"] or institution.name,
                **self.standing(institution),
                "how": how,
            }
        return {**told, "place": self._by_rule(one), "how": "rule"}

    def standing(self, institution: Institution) -> dict[str, Any]:
        """Place, tier and days of membership of an institution of the platform (a village clinic: of its centre)."""
        for one in (institution, *directory.ancestors(institution)):
            if one.pk in self._members:
                since, until = self._members[one.pk]
                return {
                    "place": OWN, "institution": institution, "tier": institution.tier, "own_since": since, "own_until": until,
                }  # fmt: skip
        place = OTHER if self._home(institution.division) else OUTSIDE if institution.division else UNKNOWN
        return {"place": place, "institution": institution, "tier": institution.tier, "own_since": None, "own_until": None}  # fmt: skip

    def _home(self, division: str) -> bool:
        own = self.consortium.division
        return bool(own and division) and (
            division[:6] == own or (own.endswith("00") and division[:4] == own[:4])
        )

    def _by_rule(self, one: Named) -> str:
        for rule in layout.data()["providers"]:
            area = one.area
            if "code" in rule:
                matched = re.search(rule["code"], one.code)
                if matched is None:
                    continue
                area = matched.group(1) if matched.groups() else area
            if "name" in rule and not re.search(rule["name"], one.name):
                continue
            if "place" in rule:
                return str(rule["place"])
            if one.outside:
                return OUTSIDE
            if area[:6].isdigit() and len(area) >= 6 and self.consortium.division:
                return OTHER if self._home(area) else OUTSIDE
        return UNKNOWN


def _plain(name: str) -> str:
    return _WORDS.sub("", name).casefold()


def _tier(level: str) -> str:
    return next(
        (str(r["tier"]) for r in layout.data()["levels"] if level and re.search(r["match"], level)), ""
    )
