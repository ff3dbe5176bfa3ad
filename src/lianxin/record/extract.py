"""From a resource to what it can be found by: keys, side rows, its main date, and the patient it belongs to.

What is emitted for which parameter is compiled once per type from the official expressions (:mod:`lianxin.record.paths`);
the keys themselves are those of :mod:`lianxin.record.keys`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from lianxin.record import definitions, values
from lianxin.record.definitions import kept
from lianxin.record.keys import (
    CONFIDENTIAL,
    PATIENTS,
    blind,
    code_key32,
    key_below,
    key_code,
    key_of_type,
    key_pair,
    key_present,
    key_ref,
    key_ref_identifier,
    key_scoped,
    key_system,
    key_system_code,
    key_target,
    key_text,
    ref_key,
    system_key,
)
from lianxin.record.paths import Leaf, Unsupported, compile_path, walk

RELATIVE = re.compile(
    r"^(?:https?://[^?#]+/)?([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$"
)
UCUM = "http://unitsofmeasure.org"
LIMIT = 2000  # values of one parameter of one resource that are indexed

Date = tuple[str, str, int | None, int, int]  # lo, hi, ctx, number, item
Quantity = tuple[
    float, float | None, int | None, int, int, int, int, int
]  # lo, hi, ctx, code, name, sys, number, item
String = tuple[int | None, int, int, int, str, str | None]  # ctx, number, item, kind, val, raw


@dataclass(slots=True)
class Rows:
    """All that a resource is found by; ``texts`` (key, number, text) and ``units`` are words every resource shares."""

    keys: list[int] = field(default_factory=list)
    dates: list[Date] = field(default_factory=list)
    quantities: list[Quantity] = field(default_factory=list)
    strings: list[String] = field(default_factory=list)
    texts: list[tuple[int, int, str]] = field(default_factory=list)
    units: list[str] = field(default_factory=list)
    at: str | None = None
    till: str | None = None


Emit = Callable[[Any, int, Rows, bool], None]


@lru_cache(maxsize=100_000)
def split_reference(text: str) -> tuple[str, str] | None:
    """(type, id) of a literal reference, relative or absolute, version removed; None for anything else."""
    match = RELATIVE.match(text)
    if match and match[1] in definitions.types():
        return match[1], match[2]
    return None


def _text(v: Any, n: int, rows: Rows) -> None:
    if type(v) is not str or not v:
        return
    folded = values.fold(v)
    rows.strings.append((None, n, 0, 0, folded, None if folded == v else v))
    if not v.isascii():
        for reading in values.readings(v):
            rows.strings.append((None, n, 0, 1, reading, None))


def _string_human_name(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    parts = [v.get("text"), v.get("family"), *v.get("given", ()), *v.get("prefix", ()), *v.get("suffix", ())]
    family, given = v.get("family"), v.get("given") or ()
    if family and values.HAN.search(family) and not v.get("text"):
        parts.append(family + "".join(g for g in given if g))
    for part in dict.fromkeys(parts):
        _text(part, n, rows)


def _string_address(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    parts = [v.get(k) for k in ("text", "city", "district", "state", "country", "postalCode")]
    for part in dict.fromkeys([*parts, *v.get("line", ())]):
        _text(part, n, rows)


def _string(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    _text(v, n, rows)


@lru_cache(maxsize=50_000)
def _words(n: int, text: str) -> tuple[int, int, str]:
    folded = values.fold(text)
    return key_text(n, folded), n, folded


def _word(n: int, text: Any, rows: Rows) -> None:
    if type(text) is str and text:
        found = _words(n, text)
        rows.keys.append(found[0])
        rows.texts.append(found)


@lru_cache(maxsize=100_000)
def _coding(n: int, system: str, code: str) -> tuple[int, ...]:
    keys = []
    if code:
        keys += [key_code(n, code), key_system_code(n, system, code)]
    if system:
        keys.append(key_system(n, system))
    return tuple(keys)


def _token_code(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str:
        rows.keys.append(key_code(n, v))


def _token_boolean(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if type(v) is bool:
        rows.keys.append(key_code(n, "true" if v else "false"))


def _token_coding(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    get = v.get
    rows.keys += _coding(n, get("system") or "", get("code") or "")
    display = get("display")
    if display:
        _word(n, display, rows)


def _token_concept(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    for coding in v.get("coding", ()):
        _token_coding(coding, n, rows, sealed)
    text = v.get("text")
    if text:
        _word(n, text, rows)


def _token_identifier(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    value, system = v.get("value"), v.get("system") or ""
    if value and sealed:
        value = blind(value)
    rows.keys += (key_code(n, value), key_system_code(n, system, value)) if value else ()
    if system:
        rows.keys.append(key_system(n, system))
    kind = v.get("type")
    if kind:
        if value:
            for coding in kind.get("coding", ()):
                rows.keys.append(key_of_type(n, coding.get("system") or "", coding.get("code") or "", value))
        _word(n, kind.get("text"), rows)


def _token_contact(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    value = v.get("value")
    if value:
        rows.keys.append(key_code(n, blind(value) if sealed else value))


def _date(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str:
        low, high = values.date_texts(v)
        rows.dates.append((low, high, None, n, 0))


def _date_period(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    start, end = v.get("start"), v.get("end")
    if start or end:
        low = values.date_texts(start)[0] if start else values.FIRST
        high = values.date_texts(end)[1] if end else values.LAST
        rows.dates.append((low, high, None, n, 0))


def _date_timing(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    """Only the outer limits of a Timing count."""
    found = [values.date_texts(e) for e in v.get("event", ()) if type(e) is str]
    bounds = (v.get("repeat") or {}).get("boundsPeriod") or {}
    start, end = bounds.get("start"), bounds.get("end")
    if start or end:
        low = values.date_texts(start)[0] if start else values.FIRST
        found.append((low, values.date_texts(end)[1] if end else values.LAST))
    if found:
        low = min((e[0] for e in found), key=datetime.fromisoformat)
        high = max((e[1] for e in found), key=datetime.fromisoformat)
        rows.dates.append((low, high, None, n, 0))


def _number(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if type(v) in (int, float):
        rows.quantities.append((float(v), None, None, 0, 0, 0, n, 0))


def _unit(v: Any, rows: Rows) -> tuple[int, int, int]:
    code, unit = v.get("code") or v.get("currency") or "", v.get("unit") or ""
    system = v.get("system") or ("urn:iso:std:iso:4217" if "currency" in v else "")
    if system == UCUM and code:
        rows.units.append(code)
    return code_key32(code), code_key32(unit), system_key(system)


def _quantity(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    value = v.get("value")
    if value is None:
        return
    low, high = float(value), None
    comparator = v.get("comparator")
    if comparator in ("<", "<="):
        low, high = float("-inf"), low
    elif comparator in (">", ">="):
        high = float("inf")
    rows.quantities.append((low, high, None, *_unit(v, rows), n, 0))


def _quantity_range(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    low, high = v.get("low") or {}, v.get("high") or {}
    if "value" in low or "value" in high:
        first, last = float(low.get("value", "-inf")), float(high.get("value", "inf"))
        rows.quantities.append((first, last, None, *_unit(low or high, rows), n, 0))


@lru_cache(maxsize=20_000)
def _uri_keys(n: int, uri: str) -> tuple[int, ...]:
    keys = [key_code(n, uri)]
    bare = uri.partition("|")[0].partition("#")[0]
    if bare != uri:
        keys.append(key_code(n, bare))
    return (*keys, *(key_below(n, prefix) for prefix in uri_prefixes(bare)))


def uri_prefixes(uri: str) -> list[str]:
    """A uri without its trailing slash, and each shorter one that ends before a path segment."""
    uri = uri.rstrip("/")
    found = [uri] if uri else []
    head = uri.find("://") + 3 if "://" in uri else len(uri)
    cut = uri.rfind("/")
    while cut >= head:
        found.append(uri[:cut])
        cut = uri.rfind("/", 0, cut)
    return found


def _uri(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str and v:
        rows.keys += _uri_keys(n, v)


def _ref_canonical(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if type(v) is str and v:
        for text in {v, v.partition("|")[0]}:
            rows.keys.append(key_ref(n, ref_key(text)))


def _ref(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    text = v.get("reference")
    if text and text[0] != "#":
        found = split_reference(text)
        if found:
            rows.keys += (key_ref(n, ref_key(f"{found[0]}/{found[1]}")), key_target(n, found[0]))
        if not found or "://" in text:
            rows.keys.append(key_ref(n, ref_key(text)))
    identifier = v.get("identifier")
    if identifier and identifier.get("value"):
        value = blind(identifier["value"])
        rows.keys += (
            key_ref_identifier(n, identifier.get("system") or "", value),
            key_ref_identifier(n, "*", value),
        )


def _ref_resource(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    if v.get("resourceType") and v.get("id"):
        rows.keys += (
            key_ref(n, ref_key(f"{v['resourceType']}/{v['id']}")),
            key_target(n, v["resourceType"]),
        )


def _position(v: Any, n: int, rows: Rows, sealed: bool) -> None:
    """A place on the globe: latitude as item 1, longitude as item 2."""
    for item, name in ((1, "latitude"), (2, "longitude")):
        if type(v.get(name)) in (int, float):
            rows.quantities.append((float(v[name]), None, None, 0, 0, 0, n, item))


EMITTERS: dict[str, dict[str, Emit]] = {
    "token": {
        "code": _token_code, "boolean": _token_boolean, "string": _token_code, "id": _token_code, "uri": _token_code,
        "canonical": _token_code, "url": _token_code, "Coding": _token_coding, "CodeableConcept": _token_concept,
        "Identifier": _token_identifier, "ContactPoint": _token_contact,
    },
    "string": {"string": _string, "markdown": _string, "HumanName": _string_human_name, "Address": _string_address},
    "date": {"date": _date, "dateTime": _date, "instant": _date, "Period": _date_period, "Timing": _date_timing},
    "number": dict.fromkeys(("integer", "decimal", "positiveInt", "unsignedInt"), _number),
    "quantity": {"Quantity": _quantity, "Age": _quantity, "Duration": _quantity, "Money": _quantity, "Range": _quantity_range,
                 "Distance": _quantity, "Count": _quantity, "SimpleQuantity": _quantity},
    "uri": dict.fromkeys(("uri", "url", "canonical", "oid", "uuid"), _uri),
    "special": {"Location.position": _position},
    "reference": {"Reference": _ref, "canonical": _ref_canonical, "uri": _ref_canonical, "Resource": _ref_resource},
}  # fmt: skip


def _own(rtype: str, code: str) -> bool:
    """Whether a parameter has rows of its own."""
    return definitions.sources(rtype, code) == (definitions.Source(definitions.indexed(rtype)[code].number),)


Step = tuple[
    tuple[tuple[Emit, tuple[Any, ...]], ...], int, int
]  # what to emit from where, number, key_present


@kept
def plan(rtype: str) -> dict[str, tuple[Step, ...]]:
    """First member -> the sources below it ("": those of the resource as a whole)."""
    made: dict[str, dict[int, list[tuple[Emit, tuple[Any, ...]]]]] = {}
    for code, param in definitions.indexed(rtype).items():
        if param.kind == "composite" or code not in _indexable(rtype) or not _own(rtype, code):
            continue
        for path in param.paths:
            for leaf in compile_path(rtype, path):
                emit = EMITTERS[param.kind].get(leaf.type)
                if (
                    emit is not None and type(leaf.steps[0]) is not str
                ):  # whether something is there: asked of the resource itself
                    made.setdefault("", {}).setdefault(param.number, []).append((emit, leaf.steps))
                elif emit is not None:
                    made.setdefault(leaf.steps[0], {}).setdefault(param.number, []).append(
                        (emit, leaf.steps[1:])
                    )
    return {
        first: tuple((tuple(leaves), n, key_present(n)) for n, leaves in numbers.items())
        for first, numbers in made.items()
    }


@kept
def supported(rtype: str) -> frozenset[str]:
    """Codes of the parameters that can be searched: indexed, for everything that is stored."""
    return _indexable(rtype) & definitions.params(rtype).keys()


@kept
def _indexable(rtype: str) -> frozenset[str]:
    """Codes of the parameters that are written for new versions."""
    good = set()
    for code, param in definitions.indexed(rtype).items():
        if param.kind == "composite":
            if all(c in definitions.params(rtype) for c, _ in param.components):
                good.add(code)
            continue
        try:
            leaves = [leaf for path in param.paths for leaf in compile_path(rtype, path)]
        except Unsupported:
            continue
        if any(leaf.type in EMITTERS.get(param.kind, {}) for leaf in leaves):
            good.add(code)
    return frozenset(good)


@dataclass(frozen=True)
class _Part:
    """One component of a composite: where its values are, below the item or (``root``) below the resource."""

    emits: tuple[tuple[Emit, tuple[Any, ...]], ...]
    number: int
    kind: str
    root: bool


@kept
def _composites(rtype: str) -> tuple[tuple[int, tuple[Any, ...], tuple[_Part, ...]], ...]:
    """(number, steps to the items, components) of composites whose items repeat."""
    made = []
    for code, param in definitions.params(rtype).items():
        if param.kind != "composite" or not _own(rtype, code):
            continue
        for base in param.paths:
            for leaf in compile_path(rtype, base):
                if leaf.steps:
                    parts = tuple(_part(rtype, leaf, code, expr, param) for code, expr in param.components)
                    made.append((param.number, leaf.steps, parts))
    return tuple(made)


def _part(rtype: str, base: Leaf, code: str, expression: str, composite: definitions.Param) -> _Part:
    component = definitions.params(rtype)[code]
    known = EMITTERS[component.kind]
    # DocumentReference.relationship has its two expressions swapped: the one whose type fits the component counts.
    for text in (expression, *(other for _, other in composite.components)):
        root = text.startswith("%resource.")
        leaves = [
            leaf
            for option in text.split(" | ")
            for leaf in compile_path(rtype if root else base.type, option.removeprefix("%resource."))
            if leaf.type in known
        ]
        if leaves:
            emits = tuple((known[leaf.type], leaf.steps) for leaf in leaves)
            return _Part(emits, definitions.sources(rtype, code)[0].number, component.kind, root)
    raise Unsupported(f"{rtype}.{composite.code}")


def _variants(resource: dict[str, Any], item: Any, part: _Part, sealed: bool) -> Rows:
    """What a component is found by within its item: codes with and without their system, not the bare system or text."""
    found = Rows()
    for emit, steps in part.emits:
        for value in walk(resource if part.root else item, steps)[:LIMIT]:
            emit(value, part.number, found, sealed)
            if emit is _token_concept or emit is _token_coding:
                for coding in value.get("coding", (value,)):
                    if system := coding.get("system"):
                        found.keys.remove(key_system(part.number, system))
    words = {key for key, _, _ in found.texts}
    found.keys = [key for key in dict.fromkeys(found.keys) if key not in words]
    return found


def _pairs(resource: dict[str, Any], rows: Rows, sealed: bool) -> None:
    """Index rows of composites: keys of pairs, or side rows that name the first component."""
    for number, steps, parts in _composites(resource["resourceType"]):
        items = walk(resource, steps)[:LIMIT]
        if items:
            rows.keys.append(key_present(number))
        for ordinal, item in enumerate(items):
            firsts = dict.fromkeys(_variants(resource, item, parts[0], sealed).keys)
            for place, part in enumerate(parts[1:], 1):
                seconds = _variants(resource, item, part, sealed)
                at = min(ordinal, 8000) * 4 + place
                for first in firsts:
                    rows.keys += [key_pair(number, first, second) for second in dict.fromkeys(seconds.keys)]
                    rows.dates += [(lo, hi, first, number, at) for lo, hi, *_ in seconds.dates]
                    rows.quantities += [(*q[:2], first, *q[3:6], number, at) for q in seconds.quantities]
                    rows.strings += [(first, number, at, *s[3:]) for s in seconds.strings]


@kept
def scoped_numbers(rtype: str) -> frozenset[int]:
    """Numbers of the sources whose codes are also keyed together with the patient."""
    if rtype in definitions.OPEN_TYPES or rtype in PATIENTS:
        return frozenset()
    table = definitions.params(rtype)
    codes = [
        c for c in ("code", "combo-code") if c in table and table[c].kind == "token" and c in supported(rtype)
    ]
    return frozenset(source.number for code in codes for source in definitions.sources(rtype, code))


@cache
def _main_numbers(rtype: str) -> tuple[int, ...]:
    code = definitions.main_date(rtype)
    return tuple(s.number for s in definitions.sources(rtype, code)) if code else ()


def index_rows(resource: dict[str, Any], subj: int | None = None) -> Rows:
    """Everything a (valid) resource is found by; ``subj`` is the key of the patient it belongs to."""
    rtype = resource["resourceType"]
    rows = Rows()
    steps = plan(rtype)
    scoped = scoped_numbers(rtype) if subj is not None else ()
    sealed = rtype in PATIENTS
    for member, value in resource.items():
        for leaves, number, present in steps.get(member, ()):
            some = False
            for emit, rest in leaves:
                if rest:
                    found = (
                        walk(value, rest)
                        if type(value) is not list
                        else [w for v in value for w in walk(v, rest)]
                    )
                elif type(value) is list:
                    found = value
                else:
                    found = (value,)  # type: ignore[assignment]
                for one in found[:LIMIT]:
                    if one is not None:
                        some = True
                        emit(one, number, rows, sealed)
                        if number in scoped:
                            _key_scoped(one, subj, number, rows)
            if some:
                rows.keys.append(present)
    for leaves, number, present in steps.get("", ()):
        for emit, whole in leaves:
            for one in walk(resource, whole):
                emit(one, number, rows, sealed)
                if any(
                    key in resource for key in whole[0][1]
                ):  # false is found also where nothing is written
                    rows.keys.append(present)
    if rtype in _with_composites():
        _pairs(resource, rows, sealed)
    if any(label.get("code") in ("R", "V") for label in resource.get("meta", {}).get("security", ())):
        rows.keys.append(CONFIDENTIAL)
    _main_date(resource, rtype, rows)
    return rows


@kept
def _with_composites() -> frozenset[str]:
    return frozenset(t for t in definitions.types() if _composites(t))


def _key_scoped(v: Any, subj: Any, n: int, rows: Rows) -> None:
    if type(v) is dict:
        for coding in v.get("coding", (v,)):
            code = coding.get("code")
            if code:
                rows.keys.append(key_scoped(subj, n, code))


def _main_date(resource: dict[str, Any], rtype: str, rows: Rows) -> None:
    """Lift the main date out of the side rows when it is one plain range; else only the timeline's time is set."""
    numbers = _main_numbers(rtype)
    if numbers and rows.dates:
        own = [d for d in rows.dates if d[3] in numbers]
        if len(own) == 1 and own[0][0] != values.FIRST:
            rows.at, rows.till = own[0][:2]
            rows.dates.remove(own[0])
            return
    rows.at = clinical_time(resource)


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
