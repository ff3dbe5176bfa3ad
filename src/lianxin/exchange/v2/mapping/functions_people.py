"""Functions of a mapping for numbers, people, places and organisations.

People and places of a sender become logical references (an identifier of the sender's with a display), so that no register of
theirs is needed here and none is invented.
"""

from __future__ import annotations

from typing import Any

from lianxin.exchange.v2.mapping.compiler import Compiler, Get, function
from lianxin.exchange.v2.mapping.functions import Told, line, of_field, plain, repetitions, safe, subs
from lianxin.exchange.v2.mapping.groups import Env, Run
from lianxin.exchange.v2.mapping.language import Path
from lianxin.exchange.v2.mapping.tables import Table

TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
KINDS = {"placer": "PLAC", "filler": "FILL"}


def authority(run: Run, kind: str, namespace: str, universal: str, universal_type: str = "") -> str:
    """The system of a number: its assigning authority when it is a universal one, else the sender's own."""
    if universal and universal_type.upper() in ("ISO", "") and universal.replace(".", "").isdigit():
        return f"urn:oid:{universal}"
    if universal.startswith(("urn:", "http://", "https://")) and " " not in universal:
        return universal
    who = safe(run.context.institution) or run.context.institution_id
    name = safe(namespace or universal)
    return f"urn:lianxin:v2:{who}:{kind}{f':{name}' if name else ''}"


def _number(run: Run, parts: list[str], kind: str, hd: int) -> dict[str, Any] | None:
    """One EI (``hd`` 2: namespace, universal id and its type are components) or CX (``hd`` 4: one component of three)."""
    value = line(plain(run, parts, 1))
    if not value:
        return None
    if hd == 2:
        namespace, universal, how = plain(run, parts, 2), plain(run, parts, 3), plain(run, parts, 4)
    else:
        namespace, universal, how = (*subs(run, parts[3] if len(parts) > 3 else ""), "", "", "")[:3]
    made: dict[str, Any] = {"system": authority(run, kind, namespace, universal, how), "value": value}
    if code := KINDS.get(kind, ""):
        made["type"] = {"coding": [{"system": TYPE, "code": code}]}
    return made


@of_field("number")
def _ei(c: Compiler, path: Path, kind: str = "id") -> Any:
    """``number(path, kind)``: an EI as Identifier (placer, filler, document, appointment …)."""
    return lambda run, raw, told: _number(run, (repetitions(run, raw) or [[""]])[0], kind, 2)


@of_field("account")
def _cx(c: Compiler, path: Path, kind: str = "visit") -> Any:
    """``account(path, kind)``: a CX as Identifier (visit, account, member)."""
    return lambda run, raw, told: _number(run, (repetitions(run, raw) or [[""]])[0], kind, 4)


def person_of(run: Run, parts: list[str]) -> dict[str, Any] | None:
    """One XCN (or CN) as a reference to a practitioner; the number alone, the name alone or both."""
    number, family, given, second = (line(plain(run, parts, n)) for n in (1, 2, 3, 4))
    prefix, suffix = line(plain(run, parts, 6)), line(plain(run, parts, 5))
    if (
        not family
        and not given
        and number
        and not any(ch.isdigit() for ch in number)
        and (not number.isascii() or " " in number)
    ):
        number, family = "", number  # a name where the number should be
    name = (
        f"{family}{given}{second}"
        if not f"{family}{given}".isascii()
        else " ".join(p for p in (prefix, given, second, family, suffix) if p)
    )
    if not number and not name:
        return None
    made: dict[str, Any] = {"type": "Practitioner"}
    if number:
        namespace, universal, how = (*subs(run, parts[8] if len(parts) > 8 else ""), "", "", "")[:3]
        made["identifier"] = {"system": authority(run, "staff", namespace, universal, how), "value": number}
    made["display"] = name or number
    return made


@of_field("person")
def _person(c: Compiler, path: Path) -> Any:
    """``person(path)``: the first repetition as a reference to a practitioner."""

    def make(run: Run, raw: str, told: Told) -> Any:
        return next((one for parts in repetitions(run, raw) if (one := person_of(run, parts))), None)

    return make


@of_field("people")
def _people(c: Compiler, path: Path) -> Any:
    """Every repetition as a reference to a practitioner; one person under two numbers stands once."""

    def make(run: Run, raw: str, told: Told) -> Any:
        found = (person_of(run, parts) for parts in repetitions(run, raw))
        return list({repr(one): one for one in found if one}.values())

    return make


@of_field("nested_person")
def _nested(c: Compiler, path: Path) -> Any:
    """A person in the first component (NDL: OBR-32 and the like), its parts as sub-components."""

    def make(run: Run, raw: str, told: Told) -> Any:
        out = []
        for parts in repetitions(run, raw):
            inner = subs(run, parts[0])
            one = person_of(run, inner if len(inner) > 1 else parts)
            if one:
                out.append(one)
        return out

    return make


@of_field("nested_one")
def _nested_one(c: Compiler, path: Path) -> Any:
    """The first such person."""
    every = _nested(c, path)
    return lambda run, raw, told: next(iter(every(run, raw, told)), None)


@of_field("organization")
def _organization(c: Compiler, path: Path) -> Any:
    """``organization(path)``: an XON (name, number) or a coded name as a reference to an organisation."""
    departments = c.tables.get("departments")

    def make(run: Run, raw: str, told: Told) -> Any:
        parts = (repetitions(run, raw) or [[""]])[0]
        name, number = line(plain(run, parts, 1)), line(plain(run, parts, 10) or plain(run, parts, 3))
        coding = departments.coding(name) if departments and name else None
        if not name and not number:
            return None
        made: dict[str, Any] = {
            "type": "Organization",
            "display": (coding or {}).get("display") or name or number,
        }
        if number:
            made["identifier"] = {"system": authority(run, "organization", "", ""), "value": number}
        return made

    return make


@of_field("department")
def _department(c: Compiler, path: Path) -> Any:
    """``department(path)``: a CE, CWE or coded name (code^name) as a reference to a part of the sender's organisation."""
    departments = c.tables.get("departments")

    def make(run: Run, raw: str, told: Told) -> Any:
        parts = (repetitions(run, raw) or [[""]])[0]
        code, name = line(plain(run, parts, 1)), line(plain(run, parts, 2))
        if not code and not name:
            return None
        coding = departments.coding(code or name) if departments else None
        made: dict[str, Any] = {
            "type": "Organization",
            "display": (coding or {}).get("display") or name or code,
        }
        if code:
            made["identifier"] = {
                "system": authority(run, "department", "", ""),
                "value": (coding or {}).get("code") or code,
            }
        return made

    return make


def place_of(run: Run, parts: list[str], departments: Table | None = None) -> dict[str, Any] | None:
    """One PL (point of care, room, bed, facility, building, floor) as a reference to a location."""
    ward, room, bed = (line(plain(run, parts, n)) for n in (1, 2, 3))
    facility, building, floor, words = (line(plain(run, parts, n)) for n in (4, 7, 8, 9))
    coding = departments.coding(ward) if departments and ward else None
    ward_name = (coding or {}).get("display") or ward
    shown = " ".join(p for p in (facility, building, floor, ward_name, room, bed) if p) or words
    if not shown:
        return None
    made: dict[str, Any] = {"type": "Location", "display": shown}
    if ward or bed:
        number = "/".join(p for p in (ward, room, bed) if p)
        made["identifier"] = {"system": authority(run, "location", "", ""), "value": number}
    return made


@of_field("place")
def _place(c: Compiler, path: Path) -> Any:
    """``place(path)``: the first repetition as a reference to a location."""
    departments = c.tables.get("departments")
    return lambda run, raw, told: place_of(run, (repetitions(run, raw) or [[""]])[0], departments)


@function("logical")
def _logical(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``logical(Type, path, kind)``: a reference by the sender's number alone (what it names may never come)."""
    (rtype,) = c.constants(args[:1])
    kinds = c.constants(args[2:3]) or ["id"]
    raw = c.raw(args[1])

    def get(env: Env) -> Any:
        given = raw(env)
        if not given:
            return None
        number = _number(env.run, (repetitions(env.run, given) or [[""]])[0], kinds[0], 2)
        return {"type": rtype, "identifier": number} if number else None

    return get
