"""Which rules are in force for a piece, compiled.

The shipped rules, set otherwise by :class:`RuleSetting` rows: of everybody, of the institution's consortia, of the institution
itself, the later day counting within each.  Settings are read anew every half minute (at once where they were changed).
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import yaml

from lianxin.exchange.feeds.models import COMPLETENESS, DIMENSIONS, SEVERITIES
from lianxin.exchange.feeds.quality.kinds import ALL, KINDS, Check
from lianxin.exchange.feeds.quality.seen import Seen, Told
from lianxin.standards import clock
from lianxin.standards.text import T, Text

if TYPE_CHECKING:
    from lianxin.exchange.feeds.inbox import Draft, Piece

DATA = Path(__file__).parent.parent / "data" / "quality_rules.yaml"
OFF = "off"
FRESH = 30.0  # seconds that settings are remembered


@dataclass(frozen=True)
class Rule:
    """A shipped rule; ``row`` is what its mechanism reads."""

    code: str
    kind: str
    dimension: str
    severity: str
    title: Text
    words: Text
    source: str
    doors: tuple[str, ...]
    kinds: tuple[str, ...]
    thresholds: dict[str, float]
    row: dict[str, Any]

    def concerns(self, door: str, kind: str) -> bool:
        """Whether it looks at pieces of this door and kind."""
        return (not self.doors or door in self.doors) and (not self.kinds or kind.startswith(self.kinds))


@dataclass(frozen=True)
class Setting:
    """How a rule is set for somebody: severity ("off": not at all) and thresholds."""

    severity: str
    thresholds: tuple[tuple[str, float], ...]


@cache
def data() -> dict[str, Any]:
    """The shipped file."""
    return yaml.load(DATA.read_text("utf-8"), yaml.CSafeLoader)


def _rule(row: dict[str, Any]) -> Rule:
    if row["kind"] not in KINDS or row["severity"] not in SEVERITIES or row["dimension"] not in DIMENSIONS:
        raise ValueError(f"{row['code']}: unknown kind, severity or dimension")
    return Rule(
        row["code"], row["kind"], row["dimension"], row["severity"], T(row["zh"], row["en"]), T(row["says"]["zh"], row["says"]["en"]),
        row["source"], tuple(row.get("doors") or ()), tuple(row.get("kinds") or ()),
        {name: float(value) for name, value in (row.get("thresholds") or {}).items()}, row,
    )  # fmt: skip


@cache
def shipped() -> dict[str, Rule]:
    """The shipped rules by code; ValueError when one is unsound or stands twice."""
    found = [_rule(row) for row in data()["rules"]]
    if len({r.code for r in found}) != len(found):
        raise ValueError("a rule stands twice")
    return {r.code: r for r in found}


# --------------------------------------------------------------------------------------------------------------- settings

_SETTINGS = (
    "SELECT rule, consortium_id, institution_id, severity, thresholds FROM exchange_rulesetting WHERE effective_from <= %s"
    " ORDER BY institution_id IS NOT NULL, consortium_id IS NOT NULL, effective_from, id"
)
_MEMBERS = (
    "WITH RECURSIVE up(id, above) AS (SELECT i.id, i.id FROM network_institution i UNION"
    " SELECT up.id, i.parent_id FROM up JOIN network_institution i ON i.id = up.above WHERE i.parent_id IS NOT NULL)"
    " SELECT up.id, m.consortium_id FROM up JOIN network_membership m ON m.institution_id = up.above"
    " WHERE m.since <= %s AND (m.until IS NULL OR m.until > %s) AND m.consortium_id = ANY(%s)"
)


@dataclass
class _Held:
    """Settings in force on a day, as they were read."""

    at: float
    day: dt.date
    rows: list[tuple[str, int | None, int | None, str, dict[str, float]]]
    consortia: dict[int, frozenset[int]]


_held: _Held | None = None
_lock = threading.Lock()


def forget(**_: Any) -> None:
    """Read the settings anew at the next piece (called where they change)."""
    global _held
    _held = None
    _plan.cache_clear()


def _read(cur: Any, day: dt.date) -> _Held:
    cur.execute(_SETTINGS, [day])
    rows = [
        (rule, consortium, institution, severity, orjson.loads(t) if isinstance(t, str | bytes) else t)
        for rule, consortium, institution, severity, t in cur.fetchall()
    ]
    wanted = sorted({consortium for _, consortium, _, _, _ in rows if consortium is not None})
    consortia: dict[int, frozenset[int]] = {}
    if wanted:
        cur.execute(_MEMBERS, [day, day, wanted])
        found: dict[int, set[int]] = {}
        for institution, consortium in cur.fetchall():
            found.setdefault(institution, set()).add(consortium)
        consortia = {k: frozenset(v) for k, v in found.items()}
    return _Held(time.monotonic(), day, rows, consortia)


def _settings(cur: Any) -> _Held:
    global _held
    held, day = _held, clock.today()
    if held is not None and held.day == day and time.monotonic() - held.at < FRESH:
        return held
    with _lock:
        held = _held = _read(cur, day)
    return held


def in_force(cur: Any, institution_id: int | None) -> tuple[tuple[str, Setting], ...]:
    """The rules set otherwise for an institution, by code (hashable: plans are kept by it)."""
    held = _settings(cur)
    if not held.rows:
        return ()
    mine = held.consortia.get(institution_id or 0, frozenset())
    found: dict[str, Setting] = {}
    for rule, consortium, institution, severity, thresholds in held.rows:
        if institution is not None and institution != institution_id:
            continue
        if consortium is not None and consortium not in mine:
            continue
        found[rule] = Setting(severity, tuple(sorted(thresholds.items())))
    return tuple(sorted(found.items()))


def standing(rule: Rule, settings: tuple[tuple[str, Setting], ...]) -> tuple[str, dict[str, float]]:
    """Severity and thresholds of a rule under settings."""
    own = dict(settings).get(rule.code)
    if own is None:
        return rule.severity, rule.thresholds
    return own.severity or rule.severity, {**rule.thresholds, **dict(own.thresholds)}


# ------------------------------------------------------------------------------------------------------------------ plans


class Plan:
    """The compiled rules for pieces of one door and kind under some settings."""

    def __init__(self, settings: tuple[tuple[str, Setting], ...], applied: tuple[str, ...]) -> None:
        self.checks: dict[str, list[Check]] = {}
        self.everywhere: list[Check] = []
        self.late: tuple[Told, float] | None = None
        self.clock: tuple[Told, float] | None = None
        one: Told | None = None
        two: Told | None = None
        for code in applied:
            rule = shipped()[code]
            severity, thresholds = standing(rule, settings)
            if severity == OFF:
                continue
            told = Told(rule.code, severity, rule.dimension, rule.words)
            if rule.kind == "late":
                self.late = (told, thresholds["hours"])
            elif rule.kind == "clock":
                self.clock = (told, thresholds["minutes"])
            elif rule.kind == "identity":
                one, two = (told, two) if rule.row["which"] == "one" else (one, told)
            else:
                for rtype, check in KINDS[rule.kind]({**rule.row, "thresholds": thresholds}, told).items():
                    (self.everywhere if rtype == ALL else self.checks.setdefault(rtype, [])).append(check)
        self.identity = (one, two) if one or two else None
        self._by_type = {rtype: (*checks, *self.everywhere) for rtype, checks in self.checks.items()}
        self._rest = tuple(self.everywhere)

    def walk(self, piece: Piece, draft: Draft) -> Seen:
        """Look at every resource of a piece once."""
        seen = Seen(piece, draft)
        _resources(seen)
        _about(seen)
        seen.identity = self.identity
        by_type, rest = self._by_type, self._rest
        for n, (rtype, resource) in enumerate(seen.resources):
            seen.rtype, seen.n = rtype, n
            seen.measured = seen.times = seen.said = None
            for check in by_type.get(rtype, rest):
                check(resource, seen)
        if self.late is not None:
            self._lateness(seen, *self.late)
        if self.clock is not None and piece.sent_at is not None:
            told, minutes = self.clock
            if (piece.sent_at - seen.now).total_seconds() > minutes * 60:
                seen.say(told, "/sent_at")
        return seen

    def _lateness(self, seen: Seen, told: Told, hours: float) -> None:
        from lianxin.exchange.feeds.quality.kinds import instant

        made = seen.piece.sent_at or instant(seen.newest)
        if made is not None and (seen.now - made).total_seconds() > hours * 3600:
            seen.say(told, "/sent_at", high=f"{hours:g}")


def _resources(seen: Seen) -> None:
    for write in seen.draft.writes:
        if write.method == "delete":
            continue
        resource = write.resource
        if resource is None:
            try:
                resource = orjson.loads(write.raw or b"{}")
            except orjson.JSONDecodeError:
                continue  # the store refuses it in words
        if isinstance(resource, dict):
            rid = write.id or resource.get("id") or ""
            seen.resources.append((write.rtype, resource))
            seen.local.add(f"{write.rtype}/{rid}")


def _about(seen: Seen) -> None:
    """What the piece says of its patient."""
    patient = next((r for t, r in seen.resources if t == "Patient"), None)
    if patient is None:
        extra = seen.draft.extra
        found = extra.get("patient") if isinstance(extra, dict) else getattr(extra, "patient", None)
        patient = found if isinstance(found, dict) and found.get("resourceType") == "Patient" else None
    if patient is None:
        body = next((r.body for r in seen.draft.results if r.rtype == "Patient" and r.body), "")
        patient = orjson.loads(body) if body else None
    for result in seen.draft.results:
        seen.local.add(f"{result.rtype}/{result.id}")
        if seen.person_id is None:
            seen.person_id = result.person_id
    if patient is None:
        return
    seen.about = patient
    birth, sex = patient.get("birthDate"), patient.get("gender")
    seen.birth = birth if isinstance(birth, str) else ""
    seen.sex = sex if sex in ("male", "female") else ""
    names = patient.get("name")
    for name in names if isinstance(names, list) else ():
        if isinstance(name, dict):
            given = name.get("given")
            parts = [name.get("family"), *(given if isinstance(given, list) else ())]
            seen.name = str(name.get("text") or "".join(str(p) for p in parts if p))
            if seen.name:
                break


@lru_cache(maxsize=512)
def _plan(settings: tuple[tuple[str, Setting], ...], applied: tuple[str, ...]) -> Plan:
    return Plan(settings, applied)


@lru_cache(maxsize=4096)
def _applied(door: str, kind: str) -> tuple[str, ...]:
    return tuple(code for code, rule in shipped().items() if rule.concerns(door, kind))


def plan_for(piece: Piece, cur: Any) -> Plan:
    """The rules in force for a piece."""
    settings = in_force(cur, piece.scope.institution_id)
    return _plan(settings, _applied(piece.door, piece.kind[:60]))


def trial(settings: dict[str, Setting], door: str, kind: str) -> Plan:
    """A plan under settings that are only tried (not kept)."""
    return Plan(tuple(sorted(settings.items())), _applied(door, kind[:60]))


def words_of(code: str) -> Text:
    """The title of a rule; the code itself when it is a door's own reason."""
    rule = shipped().get(code)
    return rule.title if rule else Text(code, code)


def dimension_of(code: str) -> str:
    """The dimension of a rule (completeness for a door's own that says nothing)."""
    rule = shipped().get(code)
    return rule.dimension if rule else COMPLETENESS
