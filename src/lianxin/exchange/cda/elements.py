"""The data elements of WS/T 363 (DE…) as the documents use them, from ``data/elements_*.tsv``.

A row says where an element stands in a kind of document (section) and of what type it is.  Vendors write wrong codes, their
own codes, or the name only: :func:`understand` finds out which element is meant.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from lianxin.exchange.cda.kinds import plain, rows

SYSTEM = "2.16.156.10011.2.2.1"
"""OID of WS/T 363 (卫生信息数据元目录)."""
LOINC = "2.16.840.1.113883.6.1"
DE = re.compile(r"DE\d{2,3}\.\d{1,2}\.\d{3}\.\d{2}(?:\.\d+)?")


@dataclass(frozen=True)
class Element:
    """One row: an element in a section of a kind. ``section``: code, or the Chinese title of a section without one."""

    kind: str
    section_code: str
    section: str
    code: str
    name: str
    type: str
    value_set: str

    @property
    def key(self) -> str:
        """The section as it is looked up."""
        return self.section_code or titled(self.section)


def titled(name: str) -> str:
    """The key of a section that has no code: its title, without what every title ends with."""
    return plain(name).removesuffix("章节")


ALIASES = {row["written"]: row["meant"] for row in rows("aliases.tsv")}
BY_KIND: dict[str, list[Element]] = defaultdict(list)
BY_CODE: dict[str, list[Element]] = defaultdict(list)
for _table in ("elements_500.tsv", "elements_483.tsv"):
    for _row in rows(_table):
        _one = Element(
            _row["kind"], _row["section_code"], _row["section"], _row["element"], _row["name"], _row["type"], _row["value_set"],
        )  # fmt: skip
        BY_KIND[_one.kind].append(_one)
        BY_CODE[_one.code].append(_one)

TITLES: dict[str, str] = {row["code"]: row["zh"] for row in rows("sections.tsv")}
"""Chinese titles of the sections known by a LOINC code."""
_CODES = {plain(zh): code for code, zh in TITLES.items()}
_NAMES: dict[str, set[str]] = defaultdict(set)
_IN_KIND: dict[tuple[str, str], list[Element]] = defaultdict(list)
_UNITS = re.compile(r"[(（][^()（）]*[)）]$")


def bare(name: str) -> str:
    """A name without the unit behind it in brackets, for comparing."""
    return plain(_UNITS.sub("", name.strip()))


_SECTIONS: dict[str, str] = {}
"""Section names in use to their codes: the Chinese titles and LOINC's names."""

for _elements in BY_KIND.values():
    for _one in _elements:
        _SECTIONS.setdefault(titled(_one.section), _one.key)
        _NAMES[bare(_one.name)].add(_one.code)
        _IN_KIND[_one.kind, bare(_one.name)].append(_one)


_SECTIONS.update(_CODES)


def section_key(code: str, system: str, *names: str) -> str:
    """What a section is known by: its LOINC code, else that of a section of this name, else the name, else the code."""
    if code in TITLES or (code and system == LOINC):
        return code
    for name in names:
        if name and (found := _SECTIONS.get(titled(name))):
            return found
    return next((titled(name) for name in names if name and titled(name)), "") or code


def canonical(code: str) -> str:
    """A written code as the element it means ("" when it is none)."""
    code = code.strip().upper()
    if code in ALIASES:
        return ALIASES[code]
    return code if DE.fullmatch(code) else ""


def understand(kind: str, section: str, code: str, system: str, name: str) -> str:
    """Which element is meant by what stands in an entry's code ("" when it is unknown).

    A DE code is believed; else the name is looked up in the section, the kind, and everywhere (when it means one thing only).
    """
    if code and (found := canonical(code)):
        return found
    if not name or system in (LOINC, "2.16.840.1.113883.6.96"):
        return ""
    wanted = bare(name)
    here = _IN_KIND.get((kind, wanted))
    if here:
        return next((one.code for one in here if one.key == section), here[0].code)
    everywhere = _NAMES.get(wanted, ())
    return next(iter(everywhere)) if len(everywhere) == 1 else ""


def name_of(code: str, kind: str = "") -> str:
    """The usual name of an element (in a kind first), "" when it is unknown."""
    known = BY_CODE.get(code)
    if not known:
        return ""
    return next((one.name for one in known if one.kind == kind), min((one.name for one in known), key=len))
