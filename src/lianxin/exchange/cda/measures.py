"""Data elements that are measurements LOINC knows too (``data/measures.tsv``): one table for reading and writing."""

from __future__ import annotations

from dataclasses import dataclass

from lianxin.exchange.cda.elements import bare
from lianxin.exchange.cda.kinds import rows

LOINC = "http://loinc.org"


@dataclass(frozen=True)
class Measure:
    """One element: only under ``names`` it is this measurement. ``group``: LOINC code of the observation it is a part of."""

    element: str
    names: frozenset[str]
    first: str
    loinc: str
    display: str
    unit: str
    ucum: str
    category: str
    group: str


MEASURES: dict[str, Measure] = {}
for _row in rows("measures.tsv"):
    _names = _row["names"].split(";")
    MEASURES[_row["element"]] = Measure(
        _row["element"], frozenset(bare(n) for n in _names), _names[0], _row["loinc"], _row["display"], _row["unit"], _row["ucum"],
        _row["category"], _row["group"],
    )  # fmt: skip
BY_LOINC: dict[str, list[Measure]] = {}
for _measure in MEASURES.values():
    BY_LOINC.setdefault(_measure.loinc, []).append(_measure)
GROUPS = {"85354-9": ("Blood pressure panel", "血压")}


def measure_of(element: str, label: str) -> Measure | None:
    """The measurement an element is under the name it bears, or None."""
    found = MEASURES.get(element)
    return found if found and (not label or bare(label) in found.names) else None
