"""From a resource to its index rows: which values each search parameter finds, and whose record it belongs to."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lianxin.record import definitions, values
from lianxin.record.keys import IMPLIED_SYSTEM, PATIENTS, blind_key, code_key, ref_key, system_key
from lianxin.record.paths import Unsupported, compile_path, walk

RELATIVE = re.compile(
    r"^(?:https?://[^?#]+/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$"
)
LIMIT = 2000  # index rows of one parameter of one resource


@dataclass(slots=True)
class Rows:
    """Index rows of one resource, without its rid."""

    tokens: list[tuple[int, int, int]] = field(default_factory=list)  # tok, sys, pid
    refs: list[tuple[int, int, int]] = field(default_factory=list)  # target, pid, type number
    dates: list[tuple[str, str, int]] = field(default_factory=list)  # lo, hi, pid
    quantities: list[tuple[int, int, int, int, str, str]] = field(
        default_factory=list
    )  # unit, name, sys, pid, lo, hi
    strings: list[tuple[int, int, str, str | None]] = field(default_factory=list)  # pid, kind, val, raw


Emit = Callable[[Any, int, Rows, bool], None]


def split_reference(text: str) -> tuple[str, str] | None:
    """(type, id) of a literal reference, relative or absolute, version removed; None for anything else."""
    match = RELATIVE.match(text)
    if match and match[1] in definitions.types():
        return match[1], match[2]
    return None


def _text(v: Any, pid: int, rows: Rows) -> None:
    if type(v) is not str or not v:
        return
    folded = values.fold(v)
    rows.strings.append((pid, 0, folded, None if folded == v else v))
    if not v.isascii():
        for reading in values.readings(v):
            rows.strings.append((pid, 1, reading, None))


def _string_human_name(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    parts = [v.get("text"), v.get("family"), *v.get("given", ()), *v.get("prefix", ()), *v.get("suffix", ())]
    family, given = v.get("family"), v.get("given") or ()
    if family and values.HAN.search(family) and not v.get("text"):
        parts.append(family + "".join(g for g in given if g))
    for part in dict.fromkeys(parts):
        _text(part, pid, rows)


def _string_address(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    parts = [v.get(k) for k in ("text", "city", "district", "state", "country", "postalCode")] + list(
        v.get("line", ())
    )
    for part in dict.fromkeys(parts):
        _text(part, pid, rows)


def _string(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    _text(v, pid, rows)


def _token_code(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str:
        rows.tokens.append((code_key(v), IMPLIED_SYSTEM, pid))


def _token_string(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str:
        rows.tokens.append((code_key(v), 0, pid))


def _token_boolean(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) is bool:
        rows.tokens.append((code_key("true" if v else "false"), IMPLIED_SYSTEM, pid))


def _token_coding(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    code = v.get("code")
    if code:
        rows.tokens.append((code_key(code), system_key(v.get("system") or ""), pid))


def _token_concept(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    for coding in v.get("coding", ()):
        code = coding.get("code")
        if code:
            rows.tokens.append((code_key(code), system_key(coding.get("system") or ""), pid))


def _token_identifier(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    value = v.get("value")
    if value:
        key = blind_key(value) if sealed else code_key(value)
        rows.tokens.append((key, system_key(v.get("system") or ""), pid))


def _token_contact(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    value = v.get("value")
    if value:
        rows.tokens.append((blind_key(value) if sealed else code_key(value), 0, pid))


def _date(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str:
        low, high = values.date_texts(v)
        rows.dates.append((low, high, pid))


def _date_period(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    start, end = v.get("start"), v.get("end")
    if start or end:
        low = values.date_texts(start)[0] if start else values.FIRST
        high = values.date_texts(end)[1] if end else values.LAST
        rows.dates.append((low, high, pid))


def _date_timing(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    events = [values.date_range(e) for e in v.get("event", ()) if type(e) is str]
    if events:
        rows.dates.append((min(e[0] for e in events).isoformat(), max(e[1] for e in events).isoformat(), pid))
    bounds = v.get("repeat", {}).get("boundsPeriod")
    if bounds:
        _date_period(bounds, pid, rows, sealed)


def _number(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) in (int, float):
        text = repr(v)
        rows.quantities.append((0, 0, 0, pid, text, text))


def _quantity(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    value = v.get("value")
    if value is None:
        return
    code, unit = v.get("code") or v.get("currency") or "", v.get("unit") or ""
    system = v.get("system") or ("urn:iso:std:iso:4217" if "currency" in v else "")
    low = high = repr(value)
    if v.get("comparator") in ("<", "<="):
        low = "-Infinity"
    elif v.get("comparator") in (">", ">="):
        high = "Infinity"
    rows.quantities.append(
        (code_key(code) if code else 0, code_key(unit) if unit else 0, system_key(system), pid, low, high)
    )


def _quantity_range(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    low, high = v.get("low", {}), v.get("high", {})
    some = low or high
    code, unit = some.get("code") or "", some.get("unit") or ""
    rows.quantities.append(
        (
            code_key(code) if code else 0,
            code_key(unit) if unit else 0,
            system_key(some.get("system") or ""),
            pid,
            repr(low["value"]) if "value" in low else "-Infinity",
            repr(high["value"]) if "value" in high else "Infinity",
        )
    )


def _uri(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str and v:
        rows.tokens.append((code_key(v), 0, pid))
        if "|" in v:
            rows.tokens.append((code_key(v.partition("|")[0]), 0, pid))


def _ref_canonical(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str and v:
        for text in {v, v.partition("|")[0]}:
            rows.refs.append((ref_key(text), pid, 0))


def _ref(v: Any, pid: int, rows: Rows, sealed: bool) -> None:
    text = v.get("reference")
    if text and text[0] != "#":
        found = split_reference(text)
        if found:
            rows.refs.append((ref_key(f"{found[0]}/{found[1]}"), pid, definitions.type_number(found[0])))
        else:
            rows.refs.append((ref_key(text), pid, 0))
    identifier = v.get("identifier")
    if identifier and identifier.get("value"):
        rows.tokens.append((blind_key(identifier["value"]), system_key(identifier.get("system") or ""), pid))


EMITTERS: dict[str, dict[str, Emit]] = {
    "token": {
        "code": _token_code, "boolean": _token_boolean, "string": _token_string, "id": _token_string, "uri": _token_string,
        "canonical": _token_string, "url": _token_string, "Coding": _token_coding, "CodeableConcept": _token_concept,
        "Identifier": _token_identifier, "ContactPoint": _token_contact,
    },
    "string": {"string": _string, "markdown": _string, "HumanName": _string_human_name, "Address": _string_address},
    "date": {"date": _date, "dateTime": _date, "instant": _date, "Period": _date_period, "Timing": _date_timing},
    "number": dict.fromkeys(("integer", "decimal", "positiveInt", "unsignedInt"), _number),
    "quantity": {"Quantity": _quantity, "Age": _quantity, "Duration": _quantity, "Money": _quantity, "Range": _quantity_range,
                 "Distance": _quantity, "Count": _quantity, "SimpleQuantity": _quantity},
    "uri": dict.fromkeys(("uri", "url", "canonical", "oid", "uuid"), _uri),
    "reference": {"Reference": _ref, "canonical": _ref_canonical, "uri": _ref_canonical},
}  # fmt: skip


@cache
def plan(rtype: str) -> dict[str, tuple[tuple[Emit, int, tuple[Any, ...]], ...]]:
    """First key -> what to emit from the values below it."""
    made: dict[str, list[tuple[Emit, int, tuple[Any, ...]]]] = {}
    for code, param in definitions.params(rtype).items():
        if (
            code not in supported(rtype)
            or param.kind == "composite"
            or definitions.stored_number(rtype, code)[0] != param.number
        ):
            continue
        for path in param.paths:
            for leaf in compile_path(rtype, path):
                emit = EMITTERS[param.kind].get(leaf.type)
                if emit is not None:
                    made.setdefault(leaf.steps[0], []).append((emit, param.number, leaf.steps[1:]))
    return {k: tuple(v) for k, v in made.items()}


@cache
def supported(rtype: str) -> frozenset[str]:
    """Codes of the parameters that are indexed, and so can be searched."""
    good = set()
    for code, param in definitions.params(rtype).items():
        try:
            leaves = [leaf for path in param.paths for leaf in compile_path(rtype, path)]
        except Unsupported:
            continue
        if param.kind == "composite":
            if all(leaf.steps == () for leaf in leaves) and all(
                c[0] in definitions.params(rtype) for c in param.components
            ):
                good.add(code)
        elif any(leaf.type in EMITTERS.get(param.kind, {}) for leaf in leaves):
            good.add(code)
    return frozenset(good)


def index_rows(resource: dict[str, Any]) -> Rows:
    """Every index row of a (valid) resource."""
    rtype = resource["resourceType"]
    rows = Rows()
    steps = plan(rtype)
    sealed = rtype in PATIENTS
    for key, value in resource.items():
        for emit, number, rest in steps.get(key, ()):
            if rest:
                found = (
                    walk(value, rest)
                    if type(value) is not list
                    else [w for v in value for w in walk(v, rest)]
                )
                for one in found[:LIMIT]:
                    emit(one, number, rows, sealed)
            elif type(value) is list:
                for one in value[:LIMIT]:
                    if one is not None:
                        emit(one, number, rows, sealed)
            else:
                emit(value, number, rows, sealed)
    if rtype in ("Patient",) and "deceasedDateTime" in resource:
        rows.tokens.append((code_key("true"), IMPLIED_SYSTEM, definitions.params(rtype)["deceased"].number))
    return rows


@cache
def _patient_paths(rtype: str) -> tuple[tuple[Any, ...], ...]:
    table = definitions.params(rtype)
    for code in ("patient", "subject", "beneficiary", "individual", "for"):
        param = table.get(code)
        if (
            param is not None
            and param.kind == "reference"
            and (not param.targets or "Patient" in param.targets)
        ):
            return tuple(
                leaf.steps
                for path in param.paths
                for leaf in compile_path(rtype, path)
                if leaf.type == "Reference"
            )
    return ()


def patient_of(resource: dict[str, Any]) -> tuple[str, str] | None:
    """(id of the patient the resource belongs to, reference element's path), from its subject/patient/beneficiary reference."""
    rtype = resource["resourceType"]
    if rtype == "Patient":
        return (resource["id"], "Patient.id")
    for steps in _patient_paths(rtype):
        for value in walk(resource, steps):
            found = split_reference(value.get("reference") or "") if type(value) is dict else None
            if found and found[0] == "Patient":
                return found[1], ".".join([rtype, *[s for s in steps if type(s) is str]])
    return None


@cache
def _time_paths(rtype: str) -> tuple[tuple[tuple[Any, ...], str], ...]:
    own = {
        "Condition": ("onset-date", "recorded-date"), "MedicationRequest": ("authoredon",), "Task": ("authored-on",),
        "ServiceRequest": ("authored",), "EpisodeOfCare": ("date",), "Claim": ("created",), "ExplanationOfBenefit": ("created",),
        "ImagingStudy": ("started",), "Communication": ("sent",), "Immunization": ("date",), "Provenance": ("recorded",),
        "MedicationDispense": ("whenhandedover", "whenprepared"), "MedicationAdministration": ("effective-time",),
        "MedicationStatement": ("effective",), "QuestionnaireResponse": ("authored",),
    }  # fmt: skip
    table = definitions.params(rtype)
    leaves = []
    for code in (*own.get(rtype, ()), "date"):
        if code in table and code in supported(rtype):
            leaves += [(leaf.steps, leaf.type) for p in table[code].paths for leaf in compile_path(rtype, p)]
    return tuple(leaves)


def clinical_time(resource: dict[str, Any]) -> str | None:
    """The time a resource speaks of (start of its main date), as ISO text; None when it has none."""
    for steps, kind in _time_paths(resource["resourceType"]):
        for value in walk(resource, steps):
            if kind == "Period":
                value = value.get("start") or value.get("end")
            if type(value) is str:
                return values.date_texts(value)[0]
    return None
