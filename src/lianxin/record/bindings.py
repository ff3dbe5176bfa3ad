"""Which value set each coded element of R4 is bound to, and the codes of the required ones (scripts/gen_validation_tables.py)."""

import json
from functools import cache
from typing import Any

from lianxin.record import definitions

CURRENCIES = "http://hl7.org/fhir/ValueSet/currencies"


@cache
def _tables() -> dict[str, Any]:
    return json.loads((definitions.DATA / "bindings.json").read_text(encoding="utf-8"))


def elements() -> dict[str, list[str]]:
    """``Type.element`` -> [strength, value set], without those of ``code`` elements that structures.json has."""
    return _tables()["elements"]


@cache
def codes(value_set: str) -> dict[str, frozenset[str]] | None:
    """Codes by system of a required value set; None when it cannot be listed."""
    found = _tables()["sets"].get(value_set)
    return None if found is None else {system: frozenset(codes) for system, codes in found.items()}


@cache
def currencies() -> frozenset[str]:
    """ISO 4217 codes."""
    return frozenset().union(*(codes(CURRENCIES) or {}).values())
