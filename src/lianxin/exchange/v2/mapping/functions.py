"""The functions a mapping may use: text, codes, times, numbers, people, places, references.

A function is entered by name and gets its arguments uncompiled; it gives a getter.  Those of one field (:func:`of_field`) are
pure, so that their answers are remembered: laboratories send the same tests, units and doctors all day.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lianxin.exchange.v2.mapping import times
from lianxin.exchange.v2.mapping.compiler import Compiler, Get, clean, first, function
from lianxin.exchange.v2.mapping.groups import Env, Run
from lianxin.exchange.v2.mapping.language import Path, Unreadable, paths
from lianxin.exchange.v2.mapping.tables import Table, folded
from lianxin.standards.text import T, Text

MOST_KEPT = 8192
MOST_WARNINGS = 50
Told = list[Text]
Pure = Callable[[Run, str, Told], Any]


def warn(run: Run, said: Text) -> None:
    """Tell something once."""
    if len(run.warnings) < MOST_WARNINGS:
        run.warnings.setdefault(said.en, said)


def of_field(name: str) -> Callable[[Callable[..., Pure]], Callable[..., Pure]]:
    """Enter a function of one field: ``make(compiler, place, constants)`` gives ``fn(run, raw, told)``; its answers are kept."""

    def enter(make: Callable[..., Pure]) -> Callable[..., Pure]:
        def maker(c: Compiler, args: tuple[Any, ...]) -> Get:
            if not args:
                raise Unreadable(T("函数 {f} 缺少参数。", "{f} needs an argument.").format(f=name))
            raw, path = c.raw(args[0]), next(iter(paths(args[0])), Path("MSH"))
            return remembered(raw, make(c, path, *c.constants(args[1:])))

        function(name)(maker)
        return make

    return enter


def remembered(raw: Get, pure: Pure) -> Get:
    """A getter that works a field out once for every way it is written (and every institution)."""
    kept: dict[tuple[str, int], tuple[Any, Told]] = {}

    def get(env: Env) -> Any:
        given = raw(env)
        if not given:
            return None
        run = env.run
        key = given, run.context.institution_id
        found = kept.get(key) if run.usual else None
        if found is None:
            told: Told = []
            found = pure(run, given, told), told
            if run.usual and len(given) < 500:
                if len(kept) >= MOST_KEPT:
                    kept.clear()
                kept[key] = found
        for said in found[1]:
            warn(run, said)
        return found[0]

    return get


# -- pieces of a field -------------------------------------------------------------------------------------------------


def repetitions(run: Run, raw: str) -> list[list[str]]:
    """Repetitions of a field, each as its components (still escaped)."""
    marks = run.message.separators
    whole = raw.split(marks.repetition) if marks.repetition else [raw]
    return [one.split(marks.component) for one in whole if one.strip() and one != '""']


def subs(run: Run, component: str) -> list[str]:
    """Sub-components, unescaped."""
    mark = run.message.separators.sub
    return [clean(run.message.unescape(s)) for s in (component.split(mark) if mark else [component])]


def plain(run: Run, parts: list[str], n: int) -> str:
    """Component ``n`` (from 1) as text, its first sub-component; "" when it is not there."""
    if n > len(parts):
        return ""
    text = parts[n - 1]
    if not text or text == '""':
        return ""
    if text.isalnum():
        return text
    mark = run.message.separators.sub
    if mark and mark in text:
        text = text.split(mark, 1)[0]
    return clean(run.message.unescape(text))


def line(text: str) -> str:
    """A value of one line: FHIR's codes and names hold no line breaks and no double blanks."""
    return text if text.isalnum() else " ".join(text.split())


# -- text and codes ----------------------------------------------------------------------------------------------------


@function("text")
def _text(c: Compiler, args: tuple[Any, ...]) -> Get:
    """The first argument that says something, as text."""
    parts = [c.text(arg) for arg in args]
    return parts[0] if len(parts) == 1 else first(parts)


@function("join")
def _join(c: Compiler, args: tuple[Any, ...]) -> Get:
    """Arguments that say something, with blanks between."""
    parts = [c.text(arg) for arg in args]
    return lambda env: " ".join(found for part in parts if (found := part(env)))


@function("code")
def _code(c: Compiler, args: tuple[Any, ...]) -> Get:
    """A text as a code (no blanks around, no double blanks within)."""
    text = c.text(args[0])
    return lambda env: line(text(env))


@function("table")
def _table(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``table(path, name, else)``: our code for the sender's; an unknown one is told and becomes ``else``."""
    table = _found(c, c.constants(args[1:2]))
    text, path = c.text(args[0]), next(iter(paths(args[0])), Path("MSH"))
    otherwise: Get = c.text(args[2]) if len(args) > 2 else lambda env: ""

    def get(env: Env) -> str:
        given = text(env)
        if not given:
            return str(otherwise(env))
        found = table.code(given)
        if found is not None:
            return found or str(otherwise(env))
        warn(env.run, _unknown(table, path, given))
        return str(otherwise(env))

    return get


def _found(c: Compiler, names: list[str]) -> Table:
    found = c.tables.get(names[0]) if names else None
    if found is None:
        raise Unreadable(
            T("没有名为“{n}”的代码表。", "There is no table “{n}”.").format(n=(names or ["?"])[0][:40])
        )
    return found


def _unknown(table: Table, path: Path, given: str) -> Text:
    said = T("{p} 的值“{v}”不在代码表 {t} 中。", "{p}: “{v}” is not in the table {t}.")
    return said.format(p=str(path), v=given[:40], t=table.name)


@of_field("translated")
def _translated(c: Compiler, path: Path, name: str) -> Pure:
    """``translated(path, table)``: a CodeableConcept of the table, with the sender's words; unknown: the words alone, told."""
    table = _found(c, [name])

    def make(run: Run, raw: str, told: Told) -> Any:
        return [one for parts in repetitions(run, raw) if (one := _one(run, parts, told))]

    def _one(run: Run, parts: list[str], told: Told) -> dict[str, Any] | None:
        code, words = plain(run, parts, 1), plain(run, parts, 2)
        coding = (table.coding(code) if code else None) or (table.coding(words) if words else None)
        if coding is None:
            if code or words:
                told.append(_unknown(table, path, code or words))
            return {"text": line(words or code)} if code or words else None
        return {"coding": [coding], "text": line(words or code)}

    return make


@of_field("coding")
def _coding(c: Compiler, path: Path, name: str) -> Pure:
    """``coding(path, table)``: a Coding of the table; None when it is unknown (told)."""
    table = _found(c, [name])

    def make(run: Run, raw: str, told: Told) -> Any:
        parts = (repetitions(run, raw) or [[""]])[0]
        code = plain(run, parts, 1) or plain(run, parts, 2)
        found = table.coding(code) if code else None
        if code and found is None:
            told.append(_unknown(table, path, code))
        return found

    return make


def concept_of(
    run: Run, parts: list[str], systems: Table | None, ours: Table | None, local: str = ""
) -> dict[str, Any] | None:
    """One CE, CWE or CNE: our code first when the table has one, then the sender's, its alternate, and the text."""
    codings: list[dict[str, str]] = []
    texts: list[str] = []
    for at, oid in ((1, 14), (4, 17), (10, 20)):
        code, words = line(plain(run, parts, at)), line(plain(run, parts, at + 1))
        name = plain(run, parts, at + 2)
        if words:
            texts.append(words)
        if not code:
            continue
        system = system_of(run, name, systems, plain(run, parts, oid), local)
        coding = {"system": system, "code": code}
        if words:
            coding["display"] = words
        if ours is not None and (mapped := ours.coding(code)) and mapped not in codings:
            codings.append(mapped)
        if coding not in codings:
            codings.append(coding)
    original = line(plain(run, parts, 9)) if len(parts) > 8 else ""
    text = original or (texts[0] if texts else "")
    if ours is not None and text and not codings and (mapped := ours.coding(text)):
        codings.append(mapped)
    if not codings and not text:
        return None
    made: dict[str, Any] = {}
    if codings:
        made["coding"] = codings
    made["text"] = text or codings[0]["code"]
    return made


def system_of(run: Run, name: str, systems: Table | None, oid: str = "", local: str = "") -> str:
    """The URI of a code system named as HL7 names it; one of the sender's own otherwise."""
    if name:
        known = systems.code(name) if systems is not None else None
        if known:
            return known
        if name.startswith(("http://", "https://", "urn:")) and " " not in name:
            return name
        if name.upper().startswith("HL7") and name[3:].isdigit():
            return f"http://terminology.hl7.org/CodeSystem/v2-{name[3:]}"
        if name.count(".") > 3 and name.replace(".", "").isdigit():
            return f"urn:oid:{name}"
    if oid and oid.replace(".", "").isdigit():
        return f"urn:oid:{oid}"
    tail = safe("" if name.upper() in ("L", "LOCAL", "99L", "99LOCAL") else name) or safe(local)
    return f"urn:lianxin:codes:{safe(run.context.institution) or run.context.institution_id}{f':{tail}' if tail else ''}"


def safe(name: str) -> str:
    """A name as part of a URI."""
    return (
        name
        if name.isascii() and name.isalnum()
        else "".join(c if c.isalnum() or c in "-._" else "-" for c in name)[:80]
    )


@of_field("concept")
def _concept(c: Compiler, path: Path, table: str = "") -> Pure:
    """``concept(path, table)``: the first repetition as CodeableConcept; ``table`` gives our codes for the sender's."""
    systems, ours = c.tables.get("systems"), c.tables.get(table)
    return lambda run, raw, told: concept_of(run, (repetitions(run, raw) or [[""]])[0], systems, ours, table)


@of_field("concepts")
def _concepts(c: Compiler, path: Path, table: str = "") -> Pure:
    """Every repetition as CodeableConcept."""
    systems, ours = c.tables.get("systems"), c.tables.get(table)

    def make(run: Run, raw: str, told: Told) -> Any:
        found = (concept_of(run, parts, systems, ours, table) for parts in repetitions(run, raw))
        return [one for one in found if one]

    return make


# -- times -------------------------------------------------------------------------------------------------------------


def timed(c: Compiler, args: tuple[Any, ...], least: int, most: int = 99) -> Get:
    """The first argument that is a time said to at least ``least`` characters; what is no time is told."""
    flat = [part for arg in args for part in (arg.of if hasattr(arg, "of") else (arg,))]
    parts = [(c.text(part), next(iter(paths(part)), Path("MSH"))) for part in flat]
    zone = c.settings.get("zone", "")
    if times.zone_of(zone) is None:
        raise Unreadable(T("不认识的时区“{z}”。", "Unknown time zone “{z}”.").format(z=zone[:40]))

    def get(env: Env) -> str:
        for text, path in parts:
            given = text(env)
            if not given:
                continue
            found = times.time_of(given, zone)
            if found is None:
                said = T(
                    "{p} 的“{v}”不是合法的时间，未采用。", "{p}: “{v}” is no valid time; it was left out."
                )
                warn(env.run, said.format(p=str(path), v=given[:30]))
            elif len(found) >= least:
                return found[:most]
        return ""

    return get


@function("time")
def _time(c: Compiler, args: tuple[Any, ...]) -> Get:
    """A dateTime, as exact as it was said."""
    return timed(c, args, 4)


@function("instant")
def _instant(c: Compiler, args: tuple[Any, ...]) -> Get:
    """An instant: only of a time that has hours."""
    return timed(c, args, 20)


@function("day")
def _day(c: Compiler, args: tuple[Any, ...]) -> Get:
    """A date."""
    return timed(c, args, 4, 10)


@function("received")
def _received(c: Compiler, args: tuple[Any, ...]) -> Get:
    """When the message came, to the second."""

    def get(env: Env) -> str:
        received = env.run.context.received
        return received.isoformat(timespec="seconds") if received else ""

    return get


@function("setting")
def _setting(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``setting(name)``: a setting of the sender."""
    found = c.settings.get(c.constants(args)[0], "")
    return lambda env: found


@of_field("shown")
def _shown(c: Compiler, path: Path) -> Pure:
    """``shown(path)``: a coded value in words only, as a reference that has no more than its display."""

    def make(run: Run, raw: str, told: Told) -> Any:
        parts = (repetitions(run, raw) or [[""]])[0]
        first_ = subs(run, parts[0])
        words = (first_[1] if len(first_) > 1 else "") or plain(run, parts, 2) or first_[0]
        return {"display": line(words)} if words else None

    return make


@of_field("words")
def _words(c: Compiler, path: Path) -> Pure:
    """``words(path)``: a coded value in words only: its text, else its code."""

    def make(run: Run, raw: str, told: Told) -> Any:
        parts = (repetitions(run, raw) or [[""]])[0]
        return line(plain(run, parts, 2) or plain(run, parts, 1) or plain(run, parts, 9))

    return make


# -- references ----------------------------------------------------------------------------------------------------------


@function("patient")
def _patient(c: Compiler, args: tuple[Any, ...]) -> Get:
    """The patient the message is about."""
    return lambda env: {"reference": env.run.patient}


@function("made")
def _made(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``made(key)``: the nearest resource a rule of that name made before, in this group or around it."""
    (key,) = c.constants(args)
    c.inside()

    def get(env: Env) -> Any:
        here: Env | None = env
        while here is not None:
            found = here.made.get(key)
            if found:
                return found[0]
            here = here.parent
        return None

    return get


@function("all")
def _all(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``all(key)``: every resource a rule of that name made in this group and those inside it."""
    keys = c.constants(args)
    c.inside()
    if len(keys) == 1:
        return lambda env: env.made.get(keys[0])
    return lambda env: [one for key in keys for one in env.made.get(key, ())]


__all__ = [
    "Told",
    "concept_of",
    "folded",
    "of_field",
    "plain",
    "remembered",
    "repetitions",
    "safe",
    "subs",
    "system_of",
    "timed",
    "warn",
]
