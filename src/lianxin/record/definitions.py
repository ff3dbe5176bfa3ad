"""The R4 tables in memory: elements of each type, search parameters, required codes (see scripts/gen_fhir_tables.py)."""

import json
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

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


@cache
def params(rtype: str) -> dict[str, Param]:
    """Search parameters of a type by code (``_id`` and ``_lastUpdated`` are the engine's own)."""
    return {
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


@cache
def base_path(path: str) -> str:
    """A reference path without its ``resolve() is`` filter: two parameters with one base share index rows."""
    return re.sub(r"\.where\(resolve\(\) is \w+\)$", "", path)


@cache
def stored_number(rtype: str, code: str) -> tuple[int, str]:
    """(number of the rows, only this target type or ""): ``patient`` is ``subject`` narrowed to Patient where both exist."""
    param = params(rtype)[code]
    if param.kind == "reference" and len(param.paths) == 1 and "resolve()" in param.paths[0]:
        only = re.search(r"resolve\(\) is (\w+)", param.paths[0])
        for other in params(rtype).values():
            if (
                other.code != code
                and other.kind == "reference"
                and other.paths == (base_path(param.paths[0]),)
            ):
                return other.number, only.group(1) if only else ""
    return param.number, ""
