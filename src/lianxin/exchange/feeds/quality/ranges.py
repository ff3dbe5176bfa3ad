"""What values of observations can be, by code, name and unit (``data/quality_ranges.yaml``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.record import units
from lianxin.standards.text import T, Text

DATA = Path(__file__).parent.parent / "data" / "quality_ranges.yaml"
KEPT = 200  # units remembered for an observation: what senders write is theirs to invent

Limits = tuple[float, float, float, float]
"""Lowest and highest possible, lowest and highest usual."""


@dataclass
class Range:
    """The ranges of one observation by unit; ``own`` is the first, in which refusals speak."""

    name: Text
    own: str
    limits: dict[str, Limits]
    strange: set[str] = field(default_factory=set)

    def of(self, unit: str) -> Limits | None:
        """The ranges in ``unit`` (as the sender writes it), None when it measures something else."""
        found = self.limits.get(unit)
        if found is not None or unit in self.strange:
            return found
        found = self._converted(_aliases().get(unit, unit))
        if len(self.limits) + len(self.strange) < KEPT:
            if found is None:
                self.strange.add(unit)
            else:
                self.limits[unit] = found
        return found

    def _converted(self, unit: str) -> Limits | None:
        if unit in self.limits:
            return self.limits[unit]
        for given, limits in list(self.limits.items()):
            moved = [units.convert(Decimal(str(x)), given, unit) for x in limits]
            if None not in moved:
                low, high, odd_low, odd_high = (float(x) for x in moved if x is not None)
                return low, high, odd_low, odd_high
        return None


@cache
def _raw() -> dict[str, Any]:
    return yaml.load(DATA.read_text("utf-8"), yaml.CSafeLoader)


@cache
def _aliases() -> dict[str, str]:
    return {str(k): str(v) for k, v in _raw()["aliases"].items()}


@cache
def tables() -> tuple[dict[str, Range], dict[str, Range]]:
    """Ranges by code and by name (lower case); a code or name that stands twice is a mistake of the data."""
    codes: dict[str, Range] = {}
    names: dict[str, Range] = {}
    for key, row in _raw()["observations"].items():
        limits: dict[str, Limits] = {}
        for unit, (low, high, odd_low, odd_high) in row["units"].items():
            limits[str(unit)] = (float(low), float(high), float(odd_low), float(odd_high))
        one = Range(T(row["zh"], row["en"]), next(iter(limits)), limits)
        for table, given in ((codes, row["codes"]), (names, row["names"])):
            for name in given:
                text = str(name).lower() if table is names else str(name)
                if text in table:
                    raise ValueError(f"{key}: {text} stands twice")
                table[text] = one
    return codes, names


def of_code(concept: Any) -> Range | None:
    """The ranges of what a CodeableConcept names, by its codes, else by its names."""
    if not isinstance(concept, dict):
        return None
    codes, names = tables()
    codings = concept.get("coding")
    if isinstance(codings, list):
        for coding in codings:
            if isinstance(coding, dict):
                found = codes.get(coding.get("code", ""))
                if found is not None:
                    return found
        for coding in codings:
            if isinstance(coding, dict):
                found = names.get(str(coding.get("display", "")).lower())
                if found is not None:
                    return found
    text = concept.get("text")
    return names.get(text.strip().lower()) if isinstance(text, str) else None


def unit_of(quantity: dict[str, Any]) -> str:
    """The unit of a Quantity: its UCUM code, else as it is written."""
    code = quantity.get("code")
    if isinstance(code, str) and code and quantity.get("system") in (None, units.SYSTEM):
        return code
    unit = quantity.get("unit")
    return unit.strip() if isinstance(unit, str) else code if isinstance(code, str) else ""


def number_of(value: Any) -> float | None:
    """A JSON number (or Decimal) as a float; None when it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float | Decimal):
        try:
            return float(value)
        except (OverflowError, InvalidOperation):
            return None
    return None
