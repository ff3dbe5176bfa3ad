"""Functions of a mapping for what was measured: values by their type, quantities with UCUM, ranges, notes, attachments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from lianxin.exchange.v2.mapping import times
from lianxin.exchange.v2.mapping.compiler import Compiler, Get, clean, function
from lianxin.exchange.v2.mapping.functions import Told, concept_of, line, plain, repetitions, warn
from lianxin.exchange.v2.mapping.functions_people import person_of
from lianxin.exchange.v2.mapping.groups import Env, Run
from lianxin.exchange.v2.mapping.language import Path
from lianxin.exchange.v2.mapping.tables import Table, folded
from lianxin.exchange.v2.message import Segment
from lianxin.record import units
from lianxin.standards.text import T

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?")
_COMPARED = re.compile(
    r"(<=|>=|<|>|≤|≥|＜|＞|《|》)?\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?)\s*(?:↑+|↓+|[HL*])?"
)
_RANGE = re.compile(
    r"\(?([+-]?\d+(?:\.\d+)?)\s*(?:-{1,3}|–|—{1,2}|~|～|至|到|\.\.|to)\s*([+-]?\d+(?:\.\d+)?)\)?(?:\s*[^\d\s-][^\d]*)?",
    re.I,
)
_ONE_SIDED = re.compile(r"(<=|>=|<|>|≤|≥|＜|＞)\s*([+-]?\d+(?:\.\d+)?)(?:\s*[^\d\s-][^\d]*)?")
_RATIO = re.compile(r"\s*([<>]=?)?\s*(\d+(?:\.\d+)?)\s*[:/]\s*(\d+(?:\.\d+)?)\s*")
COMPARATORS = {
    "<": "<",
    ">": ">",
    "<=": "<=",
    ">=": ">=",
    "≤": "<=",
    "≥": ">=",
    "＜": "<",
    "＞": ">",
    "《": "<",
    "》": ">",
}
UCUM = units.SYSTEM
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_GIVEN_AS_TEXT = {
    "SG", "SI", "ID", "IS", "CX", "EI", "XAD", "XPN", "PN", "XON", "AD", "TN", "XTN", "PPN", "MA", "NA", "MO", "DR", "CP",
    "CM", "GTS", "HD", "PL", "DLN", "CK", "CF", "TQ", "QIP", "VR", "CQ", "RI", "UNICODE", "LST", "TXT",
}  # fmt: skip
LONGEST_NUMBER = 30


def number_of(text: str) -> float | int | None:
    """A number as JSON keeps it; None when the text is none."""
    if len(text) > LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    made = float(text)
    if made in (float("inf"), float("-inf")):
        return None
    return (
        int(made)
        if made.is_integer() and abs(made) < 1e15 and "." not in text and "e" not in text.lower()
        else made
    )


def unit_of(c: Compiler) -> Callable[[Run, str, Told], dict[str, str]]:
    """How a unit (OBX-6: a spelling, or a coded CE) is read: the members of a Quantity; an unknown one is told."""
    table = c.tables.get("units")
    assert table is not None
    kept: dict[str, tuple[dict[str, str], Told]] = {}

    def read(run: Run, raw: str, told: Told) -> dict[str, str]:
        found = kept.get(raw) if run.usual else None
        if found is None:
            own: Told = []
            parts = (repetitions(run, raw) or [[""]])[0]
            found = _unit(run, raw, parts, table, own), own
            if run.usual and len(kept) < 4096:
                kept[raw] = found
        told.extend(found[1])
        return found[0]

    return read


def _unit(run: Run, raw: str, parts: list[str], table: Table, told: Told) -> dict[str, str]:
    code, words, system = (line(plain(run, parts, n)) for n in (1, 2, 3))
    marks = run.message.separators
    if marks.component in raw and table.codes.get(folded(clean(raw.replace(marks.component, "^")))):
        code, words, system = (
            clean(raw.replace(marks.component, "^")),
            "",
            "",
        )  # "10^9/L" with its caret not escaped
    elif marks.component in raw and re.fullmatch(r"[x×*]?10\^\d{1,2}(/.*)?", clean(raw), re.I):
        code, words, system = clean(raw), "", ""
    if not code and not words:
        return {}
    shown = words or code
    if system.upper() == "UCUM" and units.valid(code):
        return {"unit": shown, "system": UCUM, "code": code}
    for one in (code, words, line(plain(run, parts, 4))):
        if not one:
            continue
        found = table.code(one)
        if found:
            return {"unit": shown, "system": UCUM, "code": found}
        if units.valid(one) and not one.isdigit():  # a number is no unit, although UCUM would have it
            return {"unit": shown, "system": UCUM, "code": one}
    told.append(
        T("单位“{u}”不是 UCUM，只保留文字。", "The unit “{u}” is not UCUM; it is kept as text only.").format(
            u=shown[:30]
        )
    )
    return {"unit": shown}


def _quantity(text: str, unit: dict[str, str]) -> dict[str, Any] | None:
    """A number (with < or > before it, a flag after it) as a Quantity."""
    value = number_of(text)
    if value is not None:
        return {"value": value, **unit}
    found = _COMPARED.fullmatch(text)
    if found is None or len(text) > LONGEST_NUMBER:
        return None
    value = number_of(found[2])
    if value is None:
        return None
    made: dict[str, Any] = {"value": value}
    if found[1]:
        made["comparator"] = COMPARATORS[found[1]]
    return {**made, **unit}


@function("quantity")
def _quantity_function(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``quantity(path, unit)``: an amount with its unit; told when it is no number."""
    text, unit = c.text(args[0]), c.raw(args[1]) if len(args) > 1 else (lambda env: "")
    read = unit_of(c)

    def get(env: Env) -> Any:
        given = text(env)
        if not given:
            return None
        told: Told = []
        made = _quantity(given, read(env.run, unit(env), told))
        if made is None or "comparator" in made:  # amounts are plain: R4 has no "less than" for them
            said = T("“{v}”不是数量，未采用。", "“{v}” is no amount; it was left out.")
            told.append(said.format(v=given[:30]))
            made = None
        for said in told:
            warn(env.run, said)
        return made

    return get


@function("integer")
def _integer(c: Compiler, args: tuple[Any, ...]) -> Get:
    """A positive whole number; nothing when it is none."""
    text = c.text(args[0])

    def get(env: Env) -> int | None:
        given = text(env)
        return int(given) if given.isdigit() and 0 < len(given) < 10 and int(given) else None

    return get


@function("value")
def _value(c: Compiler, args: tuple[Any, ...]) -> Get:
    """What an OBX says, by its type (OBX-2): ``(suffix of value[x], value)``.

    An untyped value that is a number is one; a text that is a number with a unit is one too (many Chinese laboratories send every
    value as ST).  What is none of FHIR's types becomes a text, told.
    """
    kind_of, raw_of, unit_of_obx = c.text(Path("OBX", 2)), c.raw(Path("OBX", 5)), c.raw(Path("OBX", 6))
    read = unit_of(c)
    tests = c.tables.get("answers")
    systems = c.tables.get("systems")
    zone = c.settings.get("zone", "")

    def get(env: Env) -> Any:
        raw = raw_of(env)
        if not raw:
            return None
        run = env.run
        kind = kind_of(env).upper()
        if kind in ("NM", "ST", "") and raw.__len__() <= LONGEST_NUMBER and "\\" not in raw:
            told: Told = []
            made = _quantity(raw.strip(), {})
            if made is not None:
                unit = unit_of_obx(env)
                if unit or kind != "ST":
                    made.update(read(run, unit, told))
                    for said in told:
                        warn(run, said)
                    return "Quantity", made
        if kind in ("TX", "FT", "ST", ""):
            return _text_value(env, raw)
        if kind == "NM":
            return _text_value(env, raw, no_number=True)
        if kind in ("SN", "NR", "CQ"):
            told = []
            unit = read(run, unit_of_obx(env), told)
            found = _structured(run, raw, unit) if kind == "SN" else _numeric_range(run, raw, unit)
            for said in told:
                warn(run, said)
            return found or _text_value(env, raw.replace(run.message.separators.component, " "))
        if kind in ("CE", "CWE", "CNE", "CF", "IS", "ID"):
            codes = [
                one
                for parts in repetitions(run, raw)
                if (one := concept_of(run, parts, systems, tests, "answers"))
            ]
            if len(codes) == 1:
                return "CodeableConcept", codes[0]
            if codes:
                return "CodeableConcept", {
                    "coding": [k for one in codes for k in one.get("coding", ())][:20],
                    "text": "; ".join(one["text"] for one in codes),
                } if any("coding" in one for one in codes) else {
                    "text": "; ".join(one["text"] for one in codes)
                }
            return None
        if kind in ("DT", "TS", "DTM", "TM"):
            return _time_value(env, kind, raw, zone)
        if kind in ("XCN", "CN"):
            people = [one["display"] for parts in repetitions(run, raw) if (one := person_of(run, parts))]
            return ("String", "; ".join(people)) if people else None
        if kind not in _GIVEN_AS_TEXT:
            said = T(
                "OBX-2 的类型“{k}”不认识，按文字保存。", "The type “{k}” in OBX-2 is not known; kept as text."
            )
            warn(run, said.format(k=kind[:10]))
        return _text_value(env, raw.replace(run.message.separators.component, " "))

    return get


def lines_of(run: Run, segment: Segment, field: int) -> list[str]:
    """A text field as its lines: repetitions are lines."""
    raw = segment.fields[field] if field < len(segment.fields) else ""
    mark = run.message.separators.repetition
    return [text_line(run, one) for one in (raw.split(mark) if mark else [raw])]


def text_line(run: Run, raw: str) -> str:
    """A text as it was meant, blanks at its end gone; a caret in it is a caret."""
    if raw == '""':
        return ""
    marks = run.message.separators
    text = run.message.unescape(raw)
    if marks.component != "^" and marks.component:
        text = text.replace(marks.component, " ")
    found = clean(text)
    return " " * (len(text) - len(text.lstrip(" "))) + found if found and text[0] == " " else found


def text_of(env: Env, segment: str, field: int) -> str:
    """The lines of all of a group's segments as one text."""
    lines = [text for one in env.every.get(segment, ()) for text in lines_of(env.run, one, field)]
    return "\n".join(lines).strip()


def _text_value(env: Env, raw: str, no_number: bool = False) -> Any:
    text = (
        text_of(env, "OBX", 5)
        if len(env.every.get("OBX", ())) > 1
        else "\n".join(text_line(env.run, one) for one in _split(env.run, raw)).strip()
    )
    if not text:
        return None
    if no_number:
        said = T(
            "OBX-5 的“{v}”不是数值（OBX-2 为 NM），按文字保存。",
            "OBX-5: “{v}” is no number although OBX-2 says NM; kept as text.",
        )
        warn(env.run, said.format(v=text[:30]))
    return "String", text


def _split(run: Run, raw: str) -> list[str]:
    mark = run.message.separators.repetition
    return raw.split(mark) if mark else [raw]


def _structured(run: Run, raw: str, unit: dict[str, str]) -> Any:
    """SN: comparator, number, separator or suffix, number."""
    parts = (repetitions(run, raw) or [[""]])[0]
    comparator, one, mark, two = (clean(run.message.unescape(p)) for p in (*parts, "", "", "", "")[:4])
    first, second = number_of(one), number_of(two)
    if first is None:
        return None
    if second is not None and mark in (":", "/"):
        top: dict[str, Any] = {"value": first}
        if comparator in COMPARATORS:
            top["comparator"] = COMPARATORS[comparator]
        return "Ratio", {"numerator": top, "denominator": {"value": second}}
    if second is not None and mark == "-" and first <= second and not comparator:
        return "Range", {"low": {"value": first, **unit}, "high": {"value": second, **unit}}
    if second is not None or mark or (comparator and comparator not in (*COMPARATORS, "=")):
        return "String", f"{comparator}{one}{mark}{two}"
    made: dict[str, Any] = {"value": first}
    if comparator in COMPARATORS:
        made["comparator"] = COMPARATORS[comparator]
    return "Quantity", {**made, **unit}


def _numeric_range(run: Run, raw: str, unit: dict[str, str]) -> Any:
    """NR: low and high."""
    parts = (repetitions(run, raw) or [[""]])[0]
    low, high = (number_of(clean(p)) for p in (*parts, "", "")[:2])
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        return None
    ends = {"low": low, "high": high}
    return "Range", {k: {"value": v, **unit} for k, v in ends.items() if v is not None}


def _time_value(env: Env, kind: str, raw: str, zone: str) -> Any:
    text = clean(env.run.message.unescape(raw.split(env.run.message.separators.component or "^", 1)[0]))
    if kind == "TM":
        found = times.clock_of(text)
        return ("Time", found) if found else ("String", text) if text else None
    found = times.time_of(text, zone)
    return ("DateTime", found) if found else ("String", text) if text else None


@function("absent")
def _absent(c: Compiler, args: tuple[Any, ...]) -> Get:
    """Why there is no value when there is none: only of an OBX that was to have one."""
    raw, status = c.raw(Path("OBX", 5)), c.text(Path("OBX", 11))
    unknown = {"coding": [{"system": ABSENT, "code": "unknown"}]}
    pending = {"coding": [{"system": ABSENT, "code": "temp-unknown"}]}

    def get(env: Env) -> Any:
        if raw(env).strip() or (len(env.every.get("OBX", ())) > 1 and text_of(env, "OBX", 5)):
            return None
        said = status(env).upper()
        return None if said in ("X", "D", "W") else pending if said in ("I", "O", "P", "S") else unknown

    return get


@function("ranges")
def _ranges(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``ranges(range, unit)``: what is normal: as text, and as numbers when it is two of them or one with < or >."""
    raw_of, unit_raw, read = c.raw(args[0]), c.raw(args[1]), unit_of(c)
    kept: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def get(env: Env) -> Any:
        raw = raw_of(env)
        if not raw:
            return None
        run, key = env.run, (raw, unit_raw(env))
        found = kept.get(key) if run.usual else None
        if found is None:
            marks = run.message.separators
            text = line(
                clean(
                    run.message.unescape(
                        raw.replace(marks.component, " ").replace(marks.repetition or "~", "~")
                    )
                )
            )
            found = [_range(text, read(run, key[1], []))] if text else []
            if run.usual:
                if len(kept) > 4096:
                    kept.clear()
                kept[key] = found
        return found

    return get


def _range(text: str, unit: dict[str, str]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if len(text) < 60:
        both = _RANGE.fullmatch(text)
        if both is not None:
            low, high = number_of(both[1]), number_of(both[2])
            if low is not None and high is not None and low <= high:
                made = {"low": {"value": low, **unit}, "high": {"value": high, **unit}}
        elif (one := _ONE_SIDED.fullmatch(text)) is not None:
            end = number_of(one[2])
            if end is not None:
                made = {"high" if COMPARATORS[one[1]] in ("<", "<=") else "low": {"value": end, **unit}}
    made["text"] = text
    return made


@function("notes")
def _notes(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``notes(segment, field)``: the comments of this group as one annotation."""
    path = args[0] if args else Path("NTE", 3)
    name, field = path.segment, path.field or 3
    c.reads(name, field)

    def get(env: Env) -> Any:
        if name not in env.every:
            return None
        text = text_of(env, name, field)
        return [{"text": text}] if text else None

    return get


@function("comments")
def _comments(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``comments(NTE-3)``: the comments of this group as one text."""
    path = args[0] if args else Path("NTE", 3)
    c.reads(path.segment, path.field)
    return lambda env: text_of(env, path.segment, path.field) if path.segment in env.every else ""


@function("first_name")
def _first_name(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``first_name(group)``: what a group's first observation is called, for a report that has no name."""
    (name,) = c.constants(args)
    c.inside()

    def get(env: Env) -> str:
        kids = env.kids.get(name)
        segment = kids[0].one["OBX"] if kids else None
        return line(segment.text(3, 2) or segment.text(3)) if segment is not None else ""

    return get


@function("lines")
def _lines(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``lines(path, …)``: texts with their lines kept."""
    paths = [c.where(arg) for arg in args]
    for path in paths:
        c.reads(path.segment, path.field)

    def get(env: Env) -> str:
        for path in paths:
            segment = env.one.get(path.segment)
            text = "\n".join(lines_of(env.run, segment, path.field)).strip() if segment is not None else ""
            if text:
                return text
        return ""

    return get
