"""Translation by concept maps (R4 ConceptMap, operation $translate)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lianxin.record.problems import refuse
from lianxin.record.terminology.concepts import dicts

NO_MATCH = frozenset({"unmatched", "disjoint"})
# Read backwards, a map says the contrary about width (R4 concept-map-equivalence).
TURNED = {"wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes"}
MOST = 1000
WORK = 1_000_000  # elements looked at for one code
DEEPEST = 5  # maps handing over to maps


@dataclass(frozen=True)
class Wanted:
    """What is to be translated, and where to."""

    system: str
    code: str
    target_system: str = ""
    source: str = ""
    target: str = ""
    reverse: bool = False
    dependencies: tuple[tuple[str, str], ...] = ()  # (property, value) known about the case at hand


@dataclass(frozen=True)
class Match:
    """One translation; ``comment`` is the map's remark; ``map`` its canonical url."""

    equivalence: str
    system: str
    code: str
    display: str = ""
    map: str = ""
    comment: str = ""
    products: list[dict[str, Any]] = field(default_factory=list)
    dependencies: list[dict[str, Any]] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether the code has a counterpart at all."""
        return self.equivalence not in NO_MATCH and bool(self.code)


def _sides(resource: dict[str, Any]) -> tuple[str, str]:
    """Source and target value set of a map."""
    return tuple(  # type: ignore[return-value]
        str(resource.get(f"{side}Canonical") or resource.get(f"{side}Uri") or "")
        for side in ("source", "target")
    )


def _fits(given: str, wanted: str) -> bool:
    return not wanted or given.partition("|")[0] == wanted.partition("|")[0]


def translate(
    maps: list[dict[str, Any]],
    wanted: Wanted,
    other: Callable[[str], dict[str, Any] | None] = lambda url: None,
    depth: int = 0,
) -> list[Match]:
    """Matches of every map in turn, at most 1,000; ``other`` finds the map that a map hands over to (``unmapped.url``)."""
    found: list[Match] = []
    looked = 0
    for resource in maps:
        source, target = _sides(resource)
        if wanted.reverse:
            source, target = target, source
        if not (_fits(source, wanted.source) and _fits(target, wanted.target)):
            continue
        name = str(resource.get("url") or "")
        for group in dicts(resource, "group"):
            looked += 1 + len(dicts(group, "element"))
            if looked > WORK:
                raise refuse(
                    422,
                    "too-costly",
                    "概念映射过多，请用 url 指定",
                    "there are too many concept maps; name one with url",
                    "url",
                )
            matches = _group(group, wanted, name)
            if matches is None:
                handed = other(str(group["unmapped"].get("url") or "")) if depth < DEEPEST else None
                matches = translate([handed], wanted, other, depth + 1) if handed else []
            found += matches
            if len(found) > MOST:
                return found[:MOST]
    return list({(m.equivalence, m.system, m.code, m.map): m for m in found}.values())


def _group(group: dict[str, Any], wanted: Wanted, name: str) -> list[Match] | None:
    """Matches of one group; None: it hands over to another map."""
    here, there = str(group.get("source") or ""), str(group.get("target") or "")
    if wanted.reverse:
        here, there = there, here
    if (here and wanted.system and here != wanted.system) or (
        wanted.target_system and there != wanted.target_system
    ):
        return []
    if wanted.reverse:
        return _backwards(group, wanted, there, name)
    found: list[Match] = []
    known = False
    for element in dicts(group, "element"):
        if element.get("code") != wanted.code:
            continue
        known = True
        for row in dicts(element, "target"):
            if not _holds(dicts(row, "dependsOn"), wanted):
                continue
            found.append(
                Match(
                    str(row.get("equivalence") or "equivalent"),
                    there,
                    str(row.get("code") or ""),
                    str(row.get("display") or ""),
                    name,
                    str(row.get("comment") or ""),
                    dicts(row, "product"),
                    dicts(row, "dependsOn"),
                )
            )
    return found if known else _unmapped(group, wanted, there, name)


def _holds(needs: list[dict[str, Any]], wanted: Wanted) -> bool:
    """Whether nothing known about the case contradicts what a target depends on."""
    known = dict(wanted.dependencies)
    return all(known.get(str(n.get("property")), n.get("value")) == n.get("value") for n in needs)


def _backwards(group: dict[str, Any], wanted: Wanted, there: str, name: str) -> list[Match]:
    found = []
    for element in dicts(group, "element"):
        for row in dicts(element, "target"):
            if row.get("code") == wanted.code:
                given = str(row.get("equivalence") or "equivalent")
                code, display = str(element.get("code") or ""), str(element.get("display") or "")
                found.append(
                    Match(TURNED.get(given, given), there, code, display, name, str(row.get("comment") or ""))
                )
    return found


def _unmapped(group: dict[str, Any], wanted: Wanted, there: str, name: str) -> list[Match] | None:
    """What the map says about codes it does not list; None: ask another map."""
    rule = group.get("unmapped")
    if not isinstance(rule, dict):
        return []
    if rule.get("mode") == "provided":
        return [Match("equal", there, wanted.code, "", name)]
    if rule.get("mode") == "fixed" and rule.get("code"):
        return [Match("inexact", there, str(rule["code"]), str(rule.get("display") or ""), name)]
    return None if rule.get("mode") == "other-map" else []
