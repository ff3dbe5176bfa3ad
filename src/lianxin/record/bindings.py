"""Which value set each coded element of R4 is bound to, and the codes of the required ones (scripts/gen_validation_tables.py)."""

import json
from collections.abc import Iterator
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
    """Codes by system of a value set of R4's required bindings or of our own guide; None when it is neither."""
    from lianxin.record import profiles

    found = _tables()["sets"].get(value_set)
    if found is None:
        return profiles.listed(value_set)
    return {system: frozenset(codes) for system, codes in found.items()}


@cache
def currencies() -> frozenset[str]:
    """ISO 4217 codes."""
    return frozenset().union(*(codes(CURRENCIES) or {}).values())


def within(value_set: str, value: Any) -> bool | None:
    """Whether a code, Coding, CodeableConcept (any of its codings) or Quantity is in a value set; None when nobody here can say."""
    url = value_set.split("|")[0]
    pairs = list(coded(value))
    listed = codes(url)
    known = [_one(url, listed, system, code) for system, code in pairs]
    if True in known:
        return True
    return None if None in known else False


def _one(url: str, listed: dict[str, frozenset[str]] | None, system: str | None, code: str) -> bool | None:
    if listed is not None:
        return code in (listed.get(system, ()) if system is not None else frozenset().union(*listed.values()))
    from lianxin.record import terminology

    return terminology.member(url, system, code)


def coded(value: Any) -> Iterator[tuple[str | None, str]]:
    """(system, code) pairs of a coded value (a bare code has no system)."""
    if type(value) is str:
        yield None, value
    elif type(value) is dict:
        for coding in value.get("coding", [value]):
            if "code" in coding:
                yield coding.get("system", ""), coding["code"]
