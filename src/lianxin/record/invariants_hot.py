"""Invariants written as plain Python: those that nearly every write meets, and those where FHIRPath's three values get in the way.

``fn(value, scene) -> bool`` on the JSON object the rule stands on.  Where an official expression compares dates or
quantities whose order cannot be told (different precision, units that do not convert), the rule is not broken.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lianxin.record.fhirpath_values import compare_moments, compare_quantities, frozen

if TYPE_CHECKING:
    from lianxin.record.invariants import Scene

Value = dict[str, Any]
Test = Callable[[Any, "Scene"], bool]
VALUES_OF_OBSERVATION = ("valueQuantity", "valueCodeableConcept", "valueString", "valueBoolean", "valueInteger", "valueRange", "valueRatio", "valueSampledData", "valueTime", "valueDateTime", "valuePeriod")  # fmt: skip


def has(value: Value, name: str) -> bool:
    """``name.exists()`` of an element that is no choice."""
    return name in value or "_" + name in value


def _valued(value: Value) -> bool:
    return any(has(value, name) for name in VALUES_OF_OBSERVATION)


def period(value: Value, scene: "Scene") -> bool:
    """per-1: the start is not after the end."""
    start, end = value.get("start"), value.get("end")
    if start is None or end is None or (start <= end and len(start) == len(end) and start[19:] == end[19:]):
        return True
    order = compare_moments(start, end)
    return order is None or order <= 0


def in_range(value: Value, scene: "Scene") -> bool:
    """rng-2: the low is not above the high."""
    low, high = value.get("low"), value.get("high")
    order = compare_quantities(low, high) if low and high else None
    return order is None or order <= 0


def reference(value: Value, scene: "Scene") -> bool:
    """ref-1: ``#id`` is a contained resource of the outermost resource; ``#`` is that resource itself."""
    text = value.get("reference")
    return type(text) is not str or text[:1] != "#" or text == "#" or text[1:] in scene.contained


def contained_used(value: Value, scene: "Scene") -> bool:
    """dom-3: each contained resource is referred to from within the resource, or refers to the resource."""
    inner = value.get("contained")
    if not inner:
        return True
    used: set[str] = set()
    _fragments(value, used)
    return all("#" + str(one.get("id")) in used or _back(one) for one in inner if type(one) is dict)


def _fragments(value: Any, into: set[str]) -> None:
    if type(value) is dict:
        for one in value.values():
            _fragments(one, into)
    elif type(value) is list:
        for one in value:
            _fragments(one, into)
    elif type(value) is str and value[:1] == "#":
        into.add(value)


def _back(value: Any) -> bool:
    used: set[str] = set()
    _fragments(value, used)
    return "#" in used


def _plain_contained(value: Value, scene: "Scene") -> bool:
    return not any(
        has(one["meta"], "versionId") or has(one["meta"], "lastUpdated")
        for one in value.get("contained", ())
        if type(one.get("meta")) is dict
    )


def _unlabelled_contained(value: Value, scene: "Scene") -> bool:
    return not any(one.get("meta", {}).get("security") for one in value.get("contained", ()))


def component_codes(value: Value, scene: "Scene") -> bool:
    """obs-7: with a value, no component has the observation's own code."""
    if "component" not in value or not _valued(value):
        return True
    own = {frozen(coding) for coding in scene.resource.get("code", {}).get("coding", ())}
    return not any(
        frozen(coding) in own
        for part in value["component"]
        for coding in part.get("code", {}).get("coding", ())
    )


def link_ids(value: Value, scene: "Scene") -> bool:
    """que-2: every linkId is there once."""
    seen: set[str] = set()
    todo = list(value.get("item", ()))
    while todo:
        item = todo.pop()
        link = item.get("linkId")
        if link is not None and link in seen:
            return False
        seen.add(link)
        todo += item.get("item", ())
    return True


def _begins(elements: list[Value], first: str, head: str) -> bool:
    return all(str(one.get("path", "")).startswith(head + ".") for one in elements[1:]) and (
        not elements or elements[0].get("path") == first
    )


def snapshot_paths(value: Value, scene: "Scene") -> bool:
    """sdf-8: the first path is the type (of no logical model), the others stand below it."""
    elements = value.get("element", [])
    first = str(elements[0].get("path", "")) if elements else ""
    logical = scene.resource.get("kind") == "logical"
    return _begins(elements, first if logical else str(scene.resource.get("type")), first)


def differential_paths(value: Value, scene: "Scene") -> bool:
    """sdf-8a: the paths begin with the type and stay below the same root."""
    elements = value.get("element", [])
    first = str(elements[0].get("path", "")) if elements else ""
    if scene.resource.get("kind") != "logical" and not first.startswith(str(scene.resource.get("type"))):
        return False
    return _begins(elements, first, first.split(".")[0])


def _coded(value: Value, name: str, system: str, *codes: str) -> bool:
    """Whether a concept has a coding of a system with one of some codes."""
    concept = value.get(name)
    return concept is not None and any(
        coding.get("system") == system and coding.get("code") in codes for coding in concept.get("coding", ())
    )


ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
CONDITION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
ABATEMENTS = ("abatementDateTime", "abatementAge", "abatementPeriod", "abatementRange", "abatementString")
TYPE_CODE = re.compile(r"[a-zA-Z0-9.]+|http://hl7\.org/fhirpath/System\.[A-Z][A-Za-z]+")


def specified_types(value: Value, scene: "Scene") -> bool:
    """sdf-19: the specification's own models use its types (elements whose type code is only an extension are left out)."""
    if not str(value.get("url", "")).startswith("http://hl7.org/fhir/StructureDefinition"):
        return True
    return all(
        TYPE_CODE.fullmatch(str(kind["code"])) is not None
        for part in ("differential", "snapshot")
        for element in value.get(part, {}).get("element", ())
        for kind in element.get("type", ())
        if "code" in kind
    )


def _later(earlier: str, later: str) -> Test:
    def test(value: Value, scene: "Scene") -> bool:
        first, last = value.get(earlier), value.get(later)
        order = compare_moments(first, last) if first is not None and last is not None else None
        return order is None or order <= 0

    return test


def unversioned_url(value: Value, scene: "Scene") -> bool:
    """bdl-8: ``fullUrl`` names no version.  Its official expression is empty without a fullUrl, which must not refuse the entry."""
    return "/_history/" not in str(value.get("fullUrl", ""))


HOT: dict[str, Test] = {
    "Bundle.entry|bdl-8": unversioned_url,
    "Resource|dom-3": contained_used,
    "Resource|dom-4": _plain_contained,
    "Resource|dom-5": _unlabelled_contained,
    "Period|per-1": period,
    "Range|rng-2": in_range,
    "Reference|ref-1": reference,
    "Quantity|qty-3": lambda v, s: not has(v, "code") or has(v, "system"),
    "ContactPoint|cpt-2": lambda v, s: not has(v, "value") or has(v, "system"),
    "Attachment|att-1": lambda v, s: not has(v, "data") or has(v, "contentType"),
    "Observation|obs-6": lambda v, s: "dataAbsentReason" not in v or not _valued(v),
    "Observation|obs-7": component_codes,
    "Observation.referenceRange|obs-3": lambda v, s: "low" in v or "high" in v or has(v, "text"),
    "Organization|org-1": lambda v, s: "identifier" in v or has(v, "name"),
    "Patient.contact|pat-1": lambda v, s: any(k in v for k in ("name", "telecom", "address", "organization")),
    "Questionnaire|que-2": link_ids,
    "Condition|con-4": lambda v, s: (
        not any(has(v, name) for name in ABATEMENTS)
        or _coded(v, "clinicalStatus", CLINICAL, "resolved", "remission", "inactive")
    ),
    "Condition|con-5": lambda v, s: (
        "clinicalStatus" not in v or not _coded(v, "verificationStatus", CONDITION, "entered-in-error")
    ),
    "AllergyIntolerance|ait-1": lambda v, s: (
        "clinicalStatus" in v or _coded(v, "verificationStatus", ALLERGY, "entered-in-error")
    ),
    "AllergyIntolerance|ait-2": lambda v, s: (
        "clinicalStatus" not in v or not _coded(v, "verificationStatus", ALLERGY, "entered-in-error")
    ),
    "Organization.telecom|org-3": lambda v, s: v.get("use") != "home",
    "Organization.address|org-2": lambda v, s: v.get("use") != "home",
    # the official logical models have no base: the rule is meant for what can be instantiated
    "StructureDefinition|sdf-4": lambda v, s: (
        v.get("abstract") is True or v.get("kind") == "logical" or has(v, "baseDefinition")
    ),
    "StructureDefinition|sdf-19": specified_types,
    "StructureDefinition.snapshot|sdf-8": snapshot_paths,
    "StructureDefinition.differential|sdf-8a": differential_paths,
    "MedicationDispense|mdd-1": _later("whenPrepared", "whenHandedOver"),
    "Task|inv-1": _later("authoredOn", "lastModified"),
}
