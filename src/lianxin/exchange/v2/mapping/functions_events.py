"""Functions of a mapping for what has a time and takers: appointments, administrations, referrals."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.exchange.v2.mapping import times
from lianxin.exchange.v2.mapping.compiler import Compiler, Get, function
from lianxin.exchange.v2.mapping.functions import concept_of, line, plain, repetitions, timed, warn
from lianxin.exchange.v2.mapping.functions_people import authority, person_of, place_of
from lianxin.exchange.v2.mapping.functions_values import number_of
from lianxin.exchange.v2.mapping.groups import Env
from lianxin.exchange.v2.mapping.language import Path, paths
from lianxin.standards.text import T

SECONDS = {
    "S": 1,
    "SEC": 1,
    "秒": 1,
    "H": 3600,
    "HR": 3600,
    "HOUR": 3600,
    "小时": 3600,
    "D": 86400,
    "天": 86400,
}
"""Lengths of time by their unit; any other unit is minutes."""
LONGEST = 30 * 86400


def _over(start: str, length: str, unit: str, zone: str) -> str:
    """When what begins then and takes so long is over; at once when no length is said."""
    begun = times.time_of(start, zone)
    if not begun or len(begun) < 20:
        return ""
    seconds = (number_of(length) or 0) * SECONDS.get(unit.upper(), 60)
    over = dt.datetime.fromisoformat(begun) + dt.timedelta(seconds=min(max(seconds, 0), LONGEST))
    return over.isoformat(timespec="seconds")


@function("ends")
def _ends(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``ends(start, length, unit)``: when what begins then and takes so long is over."""
    start, length, unit = (c.text(arg) for arg in args)
    zone = c.settings.get("zone", "")
    return lambda env: _over(start(env), length(env), unit(env), zone)


@function("earliest")
def _earliest(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``earliest(group, start)``: the first instant of a group's segments."""
    (name,) = c.constants(args[:1])
    c.inside()
    start, zone = c.text(args[1]), c.settings.get("zone", "")

    def get(env: Env) -> str:
        found = [
            t for kid in env.kids.get(name, ()) if (t := times.time_of(start(kid), zone)) and len(t) >= 20
        ]
        return min(found, key=dt.datetime.fromisoformat, default="")

    return get


@function("latest")
def _latest(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``latest(group, start, length, unit)``: when the last of a group's segments is over."""
    (name,) = c.constants(args[:1])
    c.inside()
    (start, length, unit), zone = (c.text(arg) for arg in args[1:4]), c.settings.get("zone", "")

    def get(env: Env) -> str:
        found = [
            t for kid in env.kids.get(name, ()) if (t := _over(start(kid), length(kid), unit(kid), zone))
        ]
        return max(found, key=dt.datetime.fromisoformat, default="")

    return get


@function("spell")
def _spell(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``spell(start, end)``: for ``effective[x]``: a period when there is an end after the start, else the time alone."""
    (start, end), zone = (c.text(arg) for arg in args), c.settings.get("zone", "")

    def get(env: Env) -> Any:
        begun, over = times.time_of(start(env), zone), times.time_of(end(env), zone)
        if not begun:
            return None
        if (
            over
            and len(begun) >= 20
            and len(over) >= 20
            and dt.datetime.fromisoformat(over) > dt.datetime.fromisoformat(begun)
        ):
            return "Period", {"start": begun, "end": over}
        return "DateTime", begun

    return get


@function("period")
def _period(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``period(start, end)``: a Period; an end before its start is left out and told."""
    start, end = timed(c, args[:1], 4), timed(c, args[1:2], 4)
    path = next(iter(paths(args[1])), Path("MSH"))

    def get(env: Env) -> Any:
        begun, over = start(env), end(env)
        if begun and over and _before(over, begun):
            said = T("{p}（结束）早于开始，未采用。", "{p}, the end, is before the start; it was left out.")
            warn(env.run, said.format(p=str(path)))
            over = ""
        return {k: v for k, v in (("start", begun), ("end", over)) if v} or None

    return get


def _before(one: str, other: str) -> bool:
    """Whether a dateTime is before another, as far as both are said."""
    if len(one) >= 20 and len(other) >= 20:
        return dt.datetime.fromisoformat(one) < dt.datetime.fromisoformat(other)
    length = min(len(one), len(other), 10)
    return one[:length] < other[:length]


@function("booked")
def _booked(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``booked(group, path, table)``: the coded things of a group's segments."""
    name, table = c.constants((args[0], *args[2:3]))
    c.inside()
    raw, systems, ours = c.raw(args[1]), c.tables.get("systems"), c.tables.get(table)

    def get(env: Env) -> Any:
        found = (
            concept_of(env.run, (repetitions(env.run, raw(kid)) or [[""]])[0], systems, ours, table)
            for kid in env.kids.get(name, ())
        )
        return list({repr(one): one for one in found if one}.values())

    return get


@function("gathered")
def _gathered(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``gathered(group, path)``: people (AIP), places (AIL) and things (AIG) as participants of an appointment."""
    (name,) = c.constants(args[:1])
    c.inside()
    raw = c.raw(args[1])
    make = {"AIP": person_of, "AIL": place_of}.get(
        args[1].segment if isinstance(args[1], Path) else "", _thing
    )

    def get(env: Env) -> Any:
        actors = (
            make(env.run, parts) for kid in env.kids.get(name, ()) for parts in repetitions(env.run, raw(kid))
        )
        each = {repr(actor): actor for actor in actors if actor}
        return [{"actor": actor, "status": "accepted"} for actor in each.values()]

    return get


def _thing(run: Any, parts: list[str]) -> dict[str, Any] | None:
    words = line(plain(run, parts, 2) or plain(run, parts, 1))
    return {"display": words} if words else None


@function("components")
def _components(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``components(RXC)``: what a mixture is made of, a line each."""
    c.inside()
    for field in (1, 2, 3, 4):
        c.reads("RXC", field)

    def get(env: Env) -> str:
        out = []
        for segment in env.every.get("RXC", ()):
            parts = (repetitions(env.run, segment.raw(2)) or [[""]])[0]
            words = line(plain(env.run, parts, 2) or plain(env.run, parts, 1))
            unit = segment.text(4, 2) or segment.text(4)
            if words:
                out.append(f"{segment.text(1)} {words} {segment.text(3)}{unit}".strip())
        return "\n".join(out)

    return get


@function("provider")
def _provider(c: Compiler, args: tuple[Any, ...]) -> Get:
    """The first of :func:`_providers`."""
    every = _providers(c, args)
    return lambda env: next(iter(every(env)), None)


@function("providers")
def _providers(c: Compiler, args: tuple[Any, ...]) -> Get:
    """``providers(group, role, …)``: the people (or places) of PRD segments in one of these roles (PRD-1, table 0286)."""
    name, *roles = c.constants(args)
    c.inside()
    c.reads("PRD", 1)
    c.reads("PRD", 2)
    c.reads("PRD", 4)
    c.reads("PRD", 7)

    def get(env: Env) -> Any:
        out = []
        for kid in env.kids.get(name, ()):
            segment = kid.one["PRD"]
            if not {plain(env.run, r, 1).upper() for r in repetitions(env.run, segment.raw(1))} & set(roles):
                continue
            family, given = segment.text(2, 1), segment.text(2, 2)
            shown = line(
                f"{family}{given}" if not f"{family}{given}".isascii() else f"{given} {family}"
            ) or line(segment.text(4))
            number = line(segment.text(7))
            one: dict[str, Any] = {
                "type": "Practitioner" if family or given else "Organization",
                "display": shown or number,
            }
            if number:
                one["identifier"] = {"system": authority(env.run, "provider", "", ""), "value": number}
            if one["display"]:
                out.append(one)
        return out

    return get
