"""Which entries of a section or organizer belong together: the families of ``data/families.tsv``, blood pressures, laboratory items.

Vendors put the parts of one diagnosis side by side, into an organizer, or one below the other.  Parts are joined while they
stand in one container and no part comes twice; in a section the names they bear must also speak of the same thing
(出院诊断-西医诊断名称 and 出院诊断-西医诊断编码 do, 入院诊断编码 does not).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lianxin.exchange.cda import families
from lianxin.exchange.cda.kinds import plain
from lianxin.exchange.cda.laboratory import LABORATORY
from lianxin.exchange.cda.measures import measure_of
from lianxin.exchange.cda.model import Entry

NEEDS = {
    "diagnosis": ("code", "name"), "chinese": ("code", "name"), "allergy": ("name",), "procedure": ("code", "name"),
    "drug": ("name",), "vaccine": ("code", "name"), "order": ("name",), "referral": ("reason",), "plan": ("name", "next"),
    "laboratory": ("item", "name", "value"), "measure": (),
}  # fmt: skip
"""A family makes a resource only when one of these parts is there."""
_TAIL = re.compile(r"(?:疾病|诊断)?(?:编码|代码|名称|日期时间|日期|开始日期)$")
ALLERGIES = "48765-2"
_PLANNED = ("拟", "计划")


@dataclass
class Single:
    """An entry by itself."""

    entry: Entry


@dataclass
class Group:
    """Entries that make up one resource: (part, entry) in order."""

    family: str
    resource: str
    role: str
    parts: list[tuple[str, Entry]] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        """Its entries in order."""
        return [entry for _, entry in self.parts]

    @property
    def needs(self) -> tuple[str, ...]:
        """The parts one of which has to be there."""
        return NEEDS[self.family]

    def has(self, part: str) -> bool:
        """Whether a part is taken."""
        return any(name == part for name, _ in self.parts)


def role_of(label: str) -> str:
    """What the name of an element speaks of, apart from saying that it is a name or a code."""
    return plain(_TAIL.sub("", label.replace("中药", "中医")))


def _place(entry: Entry, section: str, kind: str) -> tuple[str, str, str] | None:
    """Family, resource and part of an entry, or None."""
    if entry.tag != "observation" or not entry.element or not any(entry.values):
        return None
    if part := LABORATORY.get(entry.element):
        return "laboratory", "Observation", part
    measure = measure_of(entry.element, entry.label)
    if measure:
        return ("measure", measure.group, measure.element) if measure.group else None
    row = families.row_for(entry.element, section, kind)
    if row is None or (
        row.value
        and row.value != entry.values[0].type
        and not (row.value == "ST" and entry.values[0].type == "ED")
    ):
        return None
    if row.family == "procedure" and entry.label.startswith(_PLANNED):
        return None
    return row.family, row.resource, row.part


def arranged(entries: list[Entry], section: str, kind: str, *, inside: bool) -> Iterator[Single | Group]:
    """The entries in order, those of a family joined (a group stands where its first entry stood)."""
    entries = [one for e in entries for one in _hoisted(e, section, kind)]
    places = [_place(e, section, kind) for e in entries]
    counts = Counter((p[0], p[2]) for p in places if p)
    out: list[Single | Group] = []
    current: dict[str, list[Group]] = {}
    for entry, place in zip(entries, places, strict=True):
        if place is None:
            out.append(Single(entry))
            continue
        family, resource, part = place
        once = all(n == 1 for (f, _), n in counts.items() if f == family)
        role = (
            ""
            if (inside and once)
            or family in ("laboratory", "measure", "drug", "vaccine", "order", "referral")
            else role_of(entry.label)
        )
        if family == "plan" or family == "allergy":
            role = entry.element
        found = next((g for g in current.get(family, ()) if g.role == role and not g.has(part)), None)
        if found is None:
            found = Group(family, resource, role)
            out.append(found)
            current.setdefault(family, []).insert(0, found)
            if family in ("laboratory", "measure", "drug", "vaccine", "order"):
                current[family] = [found]
        found.parts.append((part, entry))
        _children(found, entry, section, kind)
    for one in out:
        if isinstance(one, Group) and not _enough(one):
            yield from (Single(e) for e in one.entries if not any(e in up.parts for up in one.entries))
        else:
            yield one


def _hoisted(entry: Entry, section: str, kind: str) -> list[Entry]:
    """An entry, and behind it the allergens that hang below it (templates put them below the flag that there are any)."""
    if not entry.parts or section != ALLERGIES:
        return [entry]
    out = [
        p
        for p in entry.parts
        if not p.parts and (place := _place(p, section, kind)) and place[0] == "allergy"
    ]
    return [replace(entry, parts=[p for p in entry.parts if p not in out]), *out] if out else [entry]


def _children(group: Group, entry: Entry, section: str, kind: str) -> None:
    """Parts of the same family that hang below one of its entries join it."""
    for part in entry.parts:
        below = _place(part, section, kind)
        if below and below[0] == group.family and not group.has(below[2]) and not part.parts:
            group.parts.append((below[2], part))


def _enough(group: Group) -> bool:
    return not group.needs or any(group.has(part) for part in group.needs)
