"""The R4 tables in memory: elements of each type, search parameters, required codes (see scripts/gen_fhir_tables.py)."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

DATA = Path(__file__).parent / "data"

# Types that belong to no patient: everybody who may use the door may read them.
OPEN_TYPES = frozenset(
    [
        "Organization",
        "Practitioner",
        "PractitionerRole",
        "Location",
        "HealthcareService",
        "Schedule",
        "Slot",
        "Medication",
        "Endpoint",
        "CodeSystem",
        "ValueSet",
        "ConceptMap",
        "NamingSystem",
        "StructureDefinition",
        "SearchParameter",
        "OperationDefinition",
        "CapabilityStatement",
        "ImplementationGuide",
        "PlanDefinition",
        "ActivityDefinition",
        "Questionnaire",
        "Library",
        "Measure",
        "OrganizationAffiliation",
        "Substance",
        "DeviceDefinition",
        "InsurancePlan",
    ]
)


@dataclass(frozen=True)
class Param:
    """A search parameter of one type."""

    number: int
    code: str
    kind: str
    paths: tuple[str, ...]
    targets: tuple[str, ...]
    components: tuple[tuple[str, str], ...] = field(default=())


@cache
def _read(name: str) -> dict[str, Any]:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


@cache
def types() -> frozenset[str]:
    """Names of every R4 resource type."""
    return frozenset(_read("structures.json")["resources"])


@cache
def type_number(rtype: str) -> int:
    """A small stable number of a resource type (0: unknown)."""
    names = _read("structures.json")["resources"]
    return names.index(rtype) + 1 if rtype in names else 0


def elements(type_name: str) -> dict[str, list[Any]]:
    """Elements of a resource, data type or backbone path: name -> [min, max (0 = many), type text, codes?]."""
    return _read("elements.json").get(type_name, {})


def is_complex(type_name: str) -> bool:
    """Whether a type name has elements of its own."""
    return type_name in _read("elements.json")


def codes(name: str) -> frozenset[str]:
    """Codes of a required value set."""
    return frozenset(_read("structures.json")["codes"][name])


@cache
def summary(rtype: str) -> frozenset[str]:
    """Top-level members shown under ``_summary=true`` (choices spelled out)."""
    shown = {"resourceType", "id", "meta"}
    for name in _read("structures.json")["summary"].get(rtype, []):
        if name.endswith("[x]"):
            stem = name.removesuffix("[x]")
            shown |= {
                stem + k[0].upper() + k[1:]
                for k in (t.partition("(")[0] for t in elements(rtype)[name][2].split("|"))
            }
        else:
            shown.add(name)
    return frozenset(shown)


@cache
def mandatory(rtype: str) -> frozenset[str]:
    """Top-level members a type always has."""
    return frozenset(name for name, row in elements(rtype).items() if row[0])


@cache
def primitives() -> dict[str, re.Pattern[str]]:
    """Compiled formats of the primitive types."""
    return {k: re.compile(v or r"[\s\S]*") for k, v in _read("structures.json")["primitives"].items()}


_Fn = TypeVar("_Fn", bound=Callable[..., Any])
_clear: list[Callable[[], None]] = []
_added: dict[str, dict[str, tuple[Param, bool]]] = {}


def kept(fn: _Fn) -> _Fn:
    """Like ``functools.cache``, for what is worked out from the search parameters: forgotten when a site's own change."""
    found = cache(fn)
    _clear.append(found.cache_clear)
    return found  # type: ignore[return-value]


def add(own: dict[str, dict[str, tuple[Param, bool]]]) -> None:
    """Take over the search parameters a site added: type -> code -> (parameter, ready to be searched)."""
    _added.clear()
    _added.update(own)
    for forget in _clear:
        forget()


@kept
def indexed(rtype: str) -> dict[str, Param]:
    """Search parameters that are written for a type: those of :func:`params`, and added ones still being filled."""
    return {**params(rtype), **{code: param for code, (param, _) in _added.get(rtype, {}).items()}}


@kept
def params(rtype: str) -> dict[str, Param]:
    """Search parameters of a type by code (``_id`` and ``_lastUpdated`` are the engine's own)."""
    added = {code: param for code, (param, ready) in _added.get(rtype, {}).items() if ready}
    return added | {
        code: Param(
            row[0],
            code,
            row[1],
            tuple(row[2]),
            tuple(row[3]),
            tuple((a, b) for a, b in (row[4] if len(row) > 4 else [])),
        )
        for code, row in _read("search.json").get(rtype, {}).items()
    }


def compartments() -> dict[str, dict[str, list[str]]]:
    """The compartments: kind -> type -> codes of the parameters that lead to it."""
    return _read("compartments.json")


@cache
def base_path(path: str) -> str:
    """A reference path without its ``resolve() is`` filter: two parameters with one base share index rows."""
    return re.sub(r"\.where\(resolve\(\) is \w+\)$", "", path)


@dataclass(frozen=True)
class Source:
    """Where a parameter's values are indexed: the number of the rows, and the only target type that counts ("": any)."""

    number: int
    only: str = ""


def _only(path: str) -> str:
    found = re.search(r"resolve\(\) is (\w+)", path)
    return found[1] if found else ""


def _shape(param: Param) -> tuple[str, ...]:
    return tuple(expression for _, expression in param.components)


@kept
def sources(rtype: str, code: str) -> tuple[Source, ...]:
    """Where the values of a parameter are: mostly under its own number.

    A parameter that is another of its type narrowed to one target (``patient`` = ``subject`` where it is a Patient), or the
    union of others (``combo-code`` = ``code`` or ``component-code``), has no rows of its own: it reads theirs.
    """
    param = indexed(rtype)[code]
    mine = frozenset((base_path(p), _only(p)) for p in param.paths)
    narrow = next(iter(mine))[1] if len({only for _, only in mine}) == 1 else ""
    bases = frozenset((path, "") for path, _ in mine)
    others: list[tuple[frozenset[tuple[str, str]], Param, str]] = []
    wider: list[tuple[frozenset[tuple[str, str]], Param, str]] = []
    for other in params(rtype).values():
        if other.kind != param.kind or other.code == code or _shape(other) != _shape(param):
            continue
        theirs = frozenset((base_path(p), _only(p)) for p in other.paths)
        if theirs == mine:
            if other.number < param.number:
                return sources(rtype, other.code)
        elif theirs < mine:
            others.append((theirs, other, ""))
        elif narrow and theirs <= bases:
            wider.append((theirs, other, narrow))
    for parts, whole in ((others, mine), (wider, bases)):
        left = set(whole)
        found: list[Source] = []
        for theirs, other, only in sorted(parts, key=lambda o: (-len(o[0]), o[1].number)):
            if theirs & left:
                left -= theirs
                found += [Source(s.number, only or s.only) for s in sources(rtype, other.code)]
        if not left:
            return tuple(dict.fromkeys(found))
    return (Source(param.number),)


_MAIN_DATES = {
    "Condition": "onset-date", "MedicationRequest": "authoredon", "Task": "authored-on", "ServiceRequest": "authored",
    "Communication": "sent", "MedicationDispense": "whenhandedover", "MedicationAdministration": "effective-time",
    "MedicationStatement": "effective", "ChargeItem": "occurrence", "ClaimResponse": "created", "DeviceRequest": "authored-on",
    "Goal": "start-date", "DetectedIssue": "identified", "VisionPrescription": "datewritten",
    "Patient": "", "Person": "", "RelatedPerson": "", "Medication": "", "Substance": "",
}  # fmt: skip
_MAIN_ORDER = ("date", "effective", "created", "authored", "issued", "recorded", "started", "period", "start", "collected",
               "datetime", "timestamp")  # fmt: skip


@cache
def main_date(rtype: str) -> str | None:
    """The date parameter whose range stands in the resource's own row (``at``, ``till``); None when the type has none."""
    table = params(rtype)
    wanted = _MAIN_DATES.get(rtype)
    if wanted is not None:
        return wanted if wanted in table else None
    return next((c for c in _MAIN_ORDER if c in table and table[c].kind == "date"), None)
