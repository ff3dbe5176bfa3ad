"""The mechanisms of rules: each makes closures ``(resource, seen)`` of a rule's row, by resource type.

A closure notes what it finds with ``seen.say`` or leaves a question for :mod:`.asking`. They run for every message, so they look
only where the rule says and compare dates as the texts they are (ISO 8601 texts of one length are ordered as the days are).
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from lianxin.exchange.feeds.quality import ranges
from lianxin.exchange.feeds.quality.seen import Seen, Told
from lianxin.record import terminology
from lianxin.standards import clock, identifiers
from lianxin.standards.identifiers import IdentifierError
from lianxin.standards.text import T

Row = dict[str, Any]
Check = Callable[[dict[str, Any], Seen], None]
Compile = Callable[[Row, Told], "dict[str, Check]"]
ALL = "*"

EVENTS: dict[str, tuple[str, ...]] = {
    "Patient": ("birthDate", "deceasedDateTime"),
    "Observation": ("effectiveDateTime", "effectiveInstant", "effectivePeriod.start", "issued"),
    "DiagnosticReport": ("effectiveDateTime", "effectivePeriod.start", "issued"),
    "Encounter": ("period.start",),
    "Condition": ("recordedDate", "onsetDateTime"),
    "Procedure": ("performedDateTime", "performedPeriod.start"),
    "Immunization": ("occurrenceDateTime",),
    "MedicationRequest": ("authoredOn",),
    "MedicationAdministration": ("effectiveDateTime", "effectivePeriod.start"),
    "MedicationDispense": ("whenHandedOver",),
    "AllergyIntolerance": ("recordedDate",),
    "Composition": ("date",),
    "DocumentReference": ("date",),
    "Specimen": ("collection.collectedDateTime", "receivedTime"),
    "ServiceRequest": ("authoredOn",),
    "Claim": ("created",),
    "ExplanationOfBenefit": ("created",),
}
"""Where a resource says when something happened."""

_NOT_OWN = frozenset({"Patient", "Composition"})
"""A birth itself, and documents (of the mother, of the family): no events of the patient's own."""


# ------------------------------------------------------------------------------------------------------------------ paths


def _each(node: Any, parts: tuple[str, ...]) -> Iterator[Any]:
    """Every value under a path, lists walked through."""
    if isinstance(node, list):
        for one in node:
            yield from _each(one, parts)
    elif not parts:
        if node is not None and node != "" and node != {} and node != []:
            yield node
    elif isinstance(node, dict):
        inner = node.get(parts[0])
        if inner is not None:
            yield from _each(inner, parts[1:])


def _filled(parts: tuple[str, ...]) -> Callable[[dict[str, Any]], bool]:
    """Whether anything stands under a path."""
    if len(parts) == 1:
        name = parts[0]
        return lambda resource: bool(found := resource.get(name)) or found in (0, False)

    def look(resource: dict[str, Any]) -> bool:
        return bool(_straight(resource, parts)) or next(_each(resource, parts), None) is not None

    return look


def _straight(resource: dict[str, Any], parts: tuple[str, ...]) -> Any:
    """What stands under a path when the first of every list has it: nearly always."""
    node: Any = resource
    for part in parts:
        if type(node) is list:
            node = node[0] if node else None
        if type(node) is not dict:
            return None
        node = node.get(part)
    return node


def _text(parts: tuple[str, ...]) -> Callable[[dict[str, Any]], str]:
    """The first text under a path, "" when there is none."""
    if len(parts) == 1:
        name = parts[0]

        def plain(resource: dict[str, Any]) -> str:
            found = resource.get(name)
            return found if isinstance(found, str) else ""

        return plain

    def deep(resource: dict[str, Any]) -> str:
        found = _straight(resource, parts)
        if type(found) is not str:
            found = next(_each(resource, parts), None) if found is not None or parts[0] in resource else None
        return found if isinstance(found, str) else ""

    return deep


def _split(path: str) -> tuple[str, ...]:
    return tuple(path.split("."))


def _types(row: Row, check: Check) -> dict[str, Check]:
    types = row["types"]
    return {ALL: check} if types == ALL else dict.fromkeys(types, check)


# ------------------------------------------------------------------------------------------------------------- mechanisms


def required(row: Row, told: Told) -> dict[str, Check]:
    """One of ``paths`` has a value (only where ``when`` holds: field -> values)."""
    filled = [_filled(_split(p)) for p in row["paths"]]
    when = {name: frozenset(values) for name, values in (row.get("when") or {}).items()}
    place = row["paths"][0].split(".")[0]

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for look in filled:
            if look(resource):
                return
        for name, values in when.items():
            if resource.get(name) not in values:
                return
        seen.say(told, place)

    return _types(row, check)


def value_set(row: Row, told: Told) -> dict[str, Check]:
    """The codes under ``paths`` are in the value set ``set``; where nobody can say, nothing is said.

    ``beside``: the path of the code's system; codes of other systems than ``system`` are left alone.
    """
    paths = [(_text(_split(p)), p) for p in row["paths"]]
    url, system = row["set"], row.get("system")
    beside = _text(_split(row["beside"])) if row.get("beside") else None

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for text, path in paths:
            code = text(resource)
            if not code or (beside is not None and beside(resource) != system):
                continue
            if terminology.member(url, system, code) is False:
                seen.say(told, path)

    return _types(row, check)


def pattern(row: Row, told: Told) -> dict[str, Check]:
    """Codings of one of ``systems`` under ``paths`` match ``pattern`` as a whole."""
    systems, fits = frozenset(row["systems"]), re.compile(row["pattern"]).fullmatch
    paths = [(_split(p), p) for p in row["paths"]]

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for parts, path in paths:
            for coding in _each(resource, parts):
                code = coding.get("code") if isinstance(coding, dict) else None
                if isinstance(code, str) and coding.get("system") in systems and not fits(code):
                    seen.say(told, path)

    return _types(row, check)


_DIGITS: dict[str, Callable[[str], Any]] = {
    "resident": identifiers.resident_id,
    "uscc": identifiers.uscc,
    "organization": identifiers.org_code,
}


def _right(kind: str, value: str) -> bool:
    if kind == "number":
        return identifiers.number_valid(value)
    try:
        _DIGITS[kind](value)
    except IdentifierError:
        return False
    return True


def check_digit(row: Row, told: Told) -> dict[str, Check]:
    """Identifiers of the systems of ``checks`` have the right check character."""
    checks: dict[str, str] = row["checks"]

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for n, one in enumerate(_identifiers(resource)):
            kind = checks.get(one.get("system", ""))
            value = one.get("value")
            if kind is not None and isinstance(value, str) and not _right(kind, value):
                seen.say(told, f"identifier[{n}]")

    return _types(row, check)


def _identifiers(resource: dict[str, Any]) -> list[dict[str, Any]]:
    found = resource.get("identifier")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def id_agrees(row: Row, told: Told) -> dict[str, Check]:
    """A right identity number says the same birth date and sex as the resource."""
    systems = frozenset(row["systems"])

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for n, one in enumerate(_identifiers(resource)):
            value = one.get("value")
            if one.get("system") not in systems or not isinstance(value, str):
                continue
            try:
                number = identifiers.resident_id(value)
            except IdentifierError:
                continue
            birth, sex = resource.get("birthDate"), resource.get("gender")
            wrong_birth = (
                isinstance(birth, str) and len(birth) == 10 and birth != number.birth_date.isoformat()
            )
            wrong_sex = sex in ("male", "female") and sex != number.sex
            if wrong_birth or wrong_sex:
                seen.say(told, f"identifier[{n}]")

    return _types(row, check)


def _measured(
    resource: dict[str, Any], seen: Seen
) -> list[tuple[ranges.Range, float | None, ranges.Limits | None, str]]:
    """(range of its code, number, limits in its unit, place) of an observation and its components where the code is known."""
    found = seen.measured
    if found is None:
        found = seen.measured = []
        quantity = resource.get("valueQuantity")
        if isinstance(quantity, dict):
            _measure(found, resource.get("code"), quantity, "valueQuantity")
        parts = resource.get("component")
        if isinstance(parts, list):
            for n, part in enumerate(parts):
                if isinstance(part, dict) and isinstance(part.get("valueQuantity"), dict):
                    _measure(found, part.get("code"), part["valueQuantity"], f"component[{n}].valueQuantity")
    return found


def _measure(found: list[Any], concept: Any, quantity: dict[str, Any], place: str) -> None:
    known = ranges.of_code(concept)
    if known is not None:
        limits = known.of(ranges.unit_of(quantity))
        found.append((known, ranges.number_of(quantity.get("value")), limits, place))


def value_range(row: Row, told: Told) -> dict[str, Check]:
    """The number is within the ``possible`` or the ``usual`` range of its code, in its unit."""
    usual = row["which"] == "usual"
    first, second = (2, 3) if usual else (0, 1)

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for found, number, limits, place in _measured(resource, seen):
            if number is None or limits is None or limits[first] <= number <= limits[second]:
                continue
            if usual and not limits[0] <= number <= limits[1]:
                continue  # said as impossible
            own = found.limits[found.own]
            low, high = f"{own[first]:g}", f"{own[second]:g}"
            seen.say(told, place, name=found.name, low=low, high=high, unit=found.own)

    return _types(row, check)


def unit(row: Row, told: Told) -> dict[str, Check]:
    """The unit of a value with a known code measures the same as that code's unit."""

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for found, _number, limits, place in _measured(resource, seen):
            if limits is None:
                seen.say(told, place, name=found.name, unit=found.own)

    return _types(row, check)


def instant(text: str) -> dt.datetime | None:
    """A FHIR dateTime with a time as an instant (the house's zone when it names none); None for a date or what cannot be read."""
    if len(text) < 16:
        return None
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=clock.ZONE)


_READ = {rtype: [(_text(_split(p)), p) for p in paths] for rtype, paths in EVENTS.items()}


def _times(resource: dict[str, Any], seen: Seen) -> list[tuple[str, str]]:
    """(time, path) of everything a resource dates."""
    found = seen.times
    if found is None:
        found = seen.times = [(at, p) for text, p in _READ[seen.rtype] if (at := text(resource))]
    return found


def not_future(row: Row, told: Told) -> dict[str, Check]:
    """No event lies more than ``minutes`` ahead; the newest one is remembered for the rules of timeliness."""
    ahead = dt.timedelta(minutes=float(row["thresholds"]["minutes"]))

    def check(resource: dict[str, Any], seen: Seen) -> None:
        today = seen.day
        for found, path in _times(resource, seen):
            if found > seen.newest and path != "birthDate":
                seen.newest = found
            if found[:10] < today[: len(found)]:
                continue
            at = instant(found)
            if (at > seen.now + ahead) if at is not None else (found[:10] > today[: len(found)]):
                seen.say(told, path)

    return dict.fromkeys(EVENTS, check)


def not_before(row: Row, told: Told) -> dict[str, Check]:
    """No event lies before ``earliest``."""
    earliest = str(row["earliest"])

    def check(resource: dict[str, Any], seen: Seen) -> None:
        for found, path in _times(resource, seen):
            if found < earliest:
                seen.say(told, path)

    return dict.fromkeys(EVENTS, check)


def not_before_birth(row: Row, told: Told) -> dict[str, Check]:
    """No event of the patient's lies more than ``days`` before the birth that the piece tells."""
    slack = dt.timedelta(days=int(row["thresholds"]["days"]))

    def check(resource: dict[str, Any], seen: Seen) -> None:
        birth = seen.birth
        if birth:
            for found, path in _times(resource, seen):
                day = found[:10]
                if day < birth[: len(day)] and path != "issued" and _days_before(day, birth) > slack:
                    seen.say(told, path)

    return dict.fromkeys([rtype for rtype in EVENTS if rtype not in _NOT_OWN], check)


def _days_before(found: str, birth: str) -> dt.timedelta:
    """How long ``found`` lies before ``birth``: at least a year or month when only that is told."""
    try:
        return dt.date.fromisoformat(birth[:10].ljust(10, "-")) - dt.date.fromisoformat(found)
    except ValueError:
        return dt.timedelta(days=31)


def order(row: Row, told: Told) -> dict[str, Check]:
    """The first of ``earlier`` is not after the first of ``later``."""
    earlier = [(_text(_split(p)), p) for p in row["earlier"]]
    later = [(_text(_split(p)), p) for p in row["later"]]

    def check(resource: dict[str, Any], seen: Seen) -> None:
        first = next((found for text, _ in earlier if (found := text(resource))), "")
        if not first:
            return
        last, place = next(((found, p) for text, p in later if (found := text(resource))), ("", ""))
        if not last or first[:10] < last[:10]:
            return
        shorter = min(len(first), len(last), 10)
        a, b = instant(first), instant(last)
        if (a > b) if a is not None and b is not None else (first[:shorter] > last[:shorter]):
            seen.say(told, place)

    return _types(row, check)


def sex_codes(row: Row, told: Told) -> dict[str, Check]:
    """A code that only one sex can have goes with the patient's sex (asked of the index when the piece does not say)."""
    shapes = [
        (sex, re.compile("|".join(row[sex])).match, frozenset(map(str, row["codes"][sex])))
        for sex in ("female", "male")
    ]

    @lru_cache(maxsize=8192)
    def needs(system: str, code: str) -> str:
        icd = "icd" in system.lower() or "2.16.156.10011.2.3.3.11" in system
        return next((sex for sex, begins, codes in shapes if code in codes or (icd and begins(code))), "")

    def check(resource: dict[str, Any], seen: Seen) -> None:
        concept = resource.get("code")
        codings = concept.get("coding") if isinstance(concept, dict) else None
        for coding in codings if isinstance(codings, list) else ():
            code = coding.get("code") if isinstance(coding, dict) else None
            if isinstance(code, str) and (sex := needs(str(coding.get("system", "")), code)):
                seen.sexed.append((told, sex, f"/{seen.here}.code"))
                return

    return _types(row, check)


def identity(row: Row, told: Told) -> dict[str, Check]:
    """The name, sex and birth date of the piece are those of the person it was linked to: decided in :mod:`.asking`."""
    return {}


_REFERENCE = re.compile(r"[A-Z][A-Za-z]{2,40}/[A-Za-z0-9\-.]{1,64}")


def references(row: Row, told: Told) -> dict[str, Check]:
    """Every relative reference names something of the piece or of the platform."""

    def check(resource: dict[str, Any], seen: Seen) -> None:
        local = seen.local
        for name, value in resource.items():
            kind = type(value)
            if kind is dict:
                found = value.get("reference")
                if found is not None and found not in local:
                    _want(found, seen, told, name)
            elif kind is list:
                for one in value:
                    if type(one) is dict:
                        found = one.get("reference")
                        if found is not None and found not in local:
                            _want(found, seen, told, name)

    return {ALL: check}


def _want(found: Any, seen: Seen, told: Told, name: str) -> None:
    if isinstance(found, str) and not found.startswith(("#", "urn:", "Patient/")):
        plain = found.partition("/_history/")[0]
        if plain not in seen.local and _REFERENCE.fullmatch(plain):
            seen.wanted.append((told, plain, f"/{seen.here}.{name}"))


def _content(resource: dict[str, Any], seen: Seen) -> str:
    """What an observation says, as one text: code, time, value, status ("" when it lacks a time or a value)."""
    if seen.said is None:
        seen.said = _words(resource)
    return seen.said


def _words(resource: dict[str, Any]) -> str:
    when = resource.get("effectiveDateTime") or resource.get("issued")
    value = (
        resource.get("valueQuantity") or resource.get("valueString") or resource.get("valueCodeableConcept")
    )
    if not isinstance(when, str) or not value:
        return ""
    concept = resource.get("code")
    codings = concept.get("coding") if isinstance(concept, dict) else None
    code = (
        "|".join(str(c.get("code", "")) for c in codings if isinstance(c, dict))
        if isinstance(codings, list)
        else ""
    )
    if isinstance(value, dict) and "value" in value:
        value = f"{value['value']} {value.get('unit') or value.get('code')}"
    return f"{code}\0{when}\0{value}\0{resource.get('status')}"


def duplicate(row: Row, told: Told) -> dict[str, Check]:
    """The same results under another number: the piece's content is compared with what came before in :mod:`.asking`."""

    def check(resource: dict[str, Any], seen: Seen) -> None:
        text = _content(resource, seen)
        if text:
            seen.content.append(text)
            seen.content_rule = told
            numbers = _identifiers(resource)
            seen.ids.append(str(resource.get("id") or (numbers[0].get("value") if numbers else "")))

    return _types(row, check)


def twice(row: Row, told: Told) -> dict[str, Check]:
    """Nothing stands in a piece twice (same code, time and value)."""

    def check(resource: dict[str, Any], seen: Seen) -> None:
        if resource.get("resourceType") == "Condition":
            text = f"{resource.get('code')}\0{resource.get('onsetDateTime')}\0{resource.get('category')}\0{resource.get('encounter')}"
        else:
            text = _content(resource, seen)
        if not text:
            return
        if text in seen.once:
            seen.say(told, "")
        seen.once.add(text)

    return _types(row, check)


def late(row: Row, told: Told) -> dict[str, Check]:
    """The piece came within ``hours`` of being made: decided when it has been walked (see ``rules.Plan``)."""
    return {}


def sender_clock(row: Row, told: Told) -> dict[str, Check]:
    """The sender does not say that it sent later than we received: decided when it has been walked."""
    return {}


KINDS: dict[str, Compile] = {
    "required": required, "value_set": value_set, "pattern": pattern, "check_digit": check_digit, "id_agrees": id_agrees,
    "range": value_range, "unit": unit, "not_future": not_future, "not_before": not_before, "not_before_birth": not_before_birth,
    "order": order, "sex_codes": sex_codes, "identity": identity, "references": references, "duplicate": duplicate, "twice": twice,
    "late": late, "clock": sender_clock,
}  # fmt: skip

WORDS = {
    "required": T("必填", "Required"), "value_set": T("值域", "Value set"), "pattern": T("格式", "Shape"),
    "check_digit": T("校验码", "Check digit"), "id_agrees": T("一致", "Agreement"), "range": T("数值范围", "Range"),
    "unit": T("单位", "Unit"), "not_future": T("时间", "Time"), "not_before": T("时间", "Time"),
    "not_before_birth": T("时间", "Time"), "order": T("先后", "Order"), "sex_codes": T("性别逻辑", "Sex"),
    "identity": T("身份", "Identity"), "references": T("引用", "References"), "duplicate": T("重复", "Repetition"),
    "twice": T("重复", "Repetition"), "late": T("及时", "In time"), "clock": T("时钟", "Clock"),
}  # fmt: skip
"""Kinds of rules in words."""
