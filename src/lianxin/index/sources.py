"""Watching the sources: an institution that puts one phone on everybody, sends the doctor's identity number, gives all one birth date,
floods the index with nameless people or with dates of the future is flagged, and such values stop saying anything. The index goes on.

:func:`refresh` reads the newest registrations every few minutes (a chore) and writes ``index_generic``, which every process reads at its
next look-up (:mod:`lianxin.index.active`). Until then a crowded value still counts.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from django.db import connection, transaction

from lianxin.access import audit, seal
from lianxin.access.scope import Scope
from lianxin.index import payload
from lianxin.index.facts import phone_blind
from lianxin.index.form import PLACEHOLDER, Form, form_with_notes
from lianxin.index.golden import mask_id, mask_phone
from lianxin.index.normal.documents import INVALID
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

POLICY: dict[str, Any] = yaml.load(
    (Path(__file__).parent / "sources.yaml").read_text("utf-8"), yaml.CSafeLoader
)
LIMITS: dict[str, int] = POLICY["generic"]
KINDS: dict[str, Text] = {kind: T(f["zh"], f["en"]) for kind, f in POLICY["flags"].items()}
DID: dict[str, Text] = {kind: T(f["did"]["zh"], f["did"]["en"]) for kind, f in POLICY["flags"].items()}
GENERIC: dict[str, Text] = {
    "phone": T("电话", "Phone"),
    "id": T("证件号", "Identity number"),
    "birth": T("出生日期", "Birth date"),
}
FLAG_DAYS = 30
TOTAL = "total"
"""Kind of the row that holds how many registrations a day brought, bad or not."""
_TURN = 0x4C58_0003


@dataclass
class Report:
    """What one reading found: registrations read, values that became generic (kind, people)."""

    read: int = 0
    generic: list[tuple[str, int]] = field(default_factory=list)


def publish(cur: Any, values: Iterable[tuple[str, str, int]]) -> int:
    """Make values (kind ``phone``/``id``/``birth``, canonical text, people) generic; returns how many are new.

    A value that a person has declared meaningful again (:func:`set_active`) stays so.
    """
    new = 0
    for kind, value, people in sorted(values):
        cur.execute(
            "INSERT INTO index_generic (kind, digest, value_sealed, people, active, since, epoch)"
            " VALUES (%s, %s, %s, %s, true, %s, nextval('index_generic_epoch'))"
            " ON CONFLICT (kind, digest) DO UPDATE SET people = GREATEST(index_generic.people, EXCLUDED.people)"
            " RETURNING xmax = 0",
            [
                kind,
                _digest(kind, value),
                seal.seal_bytes(value.encode()),
                people,
                clock.now(),
            ],
        )
        new += bool(cur.fetchone()[0])
    if new:
        log.warning("%s values of the index say nothing any more: too many people have them", new)
    return new


def set_active(cur: Any, pk: int, active: bool) -> bool:
    """Make a value generic, or let it say something again; returns whether that changed anything."""
    cur.execute(
        "UPDATE index_generic SET active = %s, epoch = nextval('index_generic_epoch') WHERE id = %s AND active <> %s",
        [active, pk, active],
    )
    return bool(cur.rowcount)


@transaction.atomic
def decide(scope: Scope, pk: int, active: bool) -> bool:
    """An index manager decides that a generic value does say something after all, or does not; returns whether that changed anything.

    Registrations are weighed so from now on, in every process; links that exist stay. Permission ``relink``; audited.
    """
    scope.demand("relink")
    with connection.cursor() as cur:
        changed = set_active(cur, pk, active)
    if changed:
        audit.write(
            scope, "update", what=f"index generic {pk}", detail={"answer": "generic" if active else "lifted"}
        )
    return changed


@dataclass(frozen=True)
class GenericShown:
    """A generic value as an index manager sees it, masked; ``institution``: of whom alone it says nothing ("" for all)."""

    pk: int
    label: Text
    value: str
    institution: str
    people: int
    since: dt.datetime
    active: bool


def generic_values(scope: Scope, limit: int = 100) -> list[GenericShown]:
    """Values that say nothing (and those a person has lifted), the newest first. Permission ``relink``."""
    from lianxin.index.models import GenericValue

    scope.demand("relink")
    rows = list(GenericValue.objects.order_by("-epoch")[:limit])
    plain = {row.pk: seal.unseal_bytes(bytes(row.value_sealed)).decode() for row in rows}
    owners = {int(plain[row.pk].partition(":")[0]) for row in rows if row.kind == "birth"}
    names = dict(Institution.objects.filter(pk__in=owners).values_list("pk", "name"))
    out = []
    for row in rows:
        value, institution = plain[row.pk], ""
        if row.kind == "birth":
            owner, _, born = value.partition(":")
            institution, value = names.get(int(owner), ""), f"{born[:4]}-{born[4:6]}-{born[6:]}"
        elif row.kind == "phone":
            value = mask_phone(value)
        else:
            value = mask_id(value)
        label = GENERIC.get(row.kind, Text(row.kind, row.kind))
        out.append(GenericShown(row.pk, label, value, institution, row.people, row.since, row.active))
    return out


def _values(form: Form) -> Iterable[tuple[str, str, str]]:
    """(kind, value, whose) of what a form says that ought to be few people's."""
    who = f"{form.pinyin or form.mother}{form.born}"
    for phone in (form.phone, form.phone2):
        if phone:
            yield "phone", phone, who
    if form.id_no:
        yield "id", form.id_no, form.pinyin or form.mother


@dataclass
class _Day:
    """What one system of an institution sent on one day (of what was read)."""

    kinds: Counter[str] = field(default_factory=Counter)
    births: Counter[int] = field(default_factory=Counter)


@transaction.atomic
def run(seconds: float = 10.0) -> Report:
    """The chore: read what is new, for so long at most. Two at once: the second does nothing."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_xact_lock(%s)", [_TURN])
        return refresh(cur, seconds) if cur.fetchone()[0] else Report()


def refresh(cur: Any, seconds: float = 10.0) -> Report:
    """Read the registrations since the last time, flag their sources, and make crowded values generic."""
    cur.execute("SELECT source_id FROM index_sourcemark WHERE id = 1 FOR UPDATE")
    row = cur.fetchone()
    mark = row[0] if row else 0
    report, until = Report(), time.monotonic() + seconds
    while True:
        rows = _slice(cur, mark)
        fresh = [r for r in rows if r[0] > mark]
        if not fresh:
            break
        report.generic += _take(cur, rows, mark)
        report.read += len(fresh)
        mark = fresh[-1][0]
        if len(fresh) < POLICY["slice"] or time.monotonic() > until:
            break
    if report.read:
        cur.execute(
            "INSERT INTO index_sourcemark (id, source_id, read_at) VALUES (1, %s, %s)"
            " ON CONFLICT (id) DO UPDATE SET source_id = EXCLUDED.source_id, read_at = EXCLUDED.read_at",
            [mark, clock.now()],
        )
    return report


_COLUMNS = "SELECT id, institution_id, system, received_at, payload FROM index_sourcerecord"


def _slice(cur: Any, mark: int) -> list[tuple[Any, ...]]:
    """The next registrations by id, after some that were read already; nothing when there is nothing new."""
    cur.execute(f"{_COLUMNS} WHERE id > %s ORDER BY id LIMIT %s", [mark, POLICY["slice"]])
    fresh = list(cur.fetchall())
    if not fresh:
        return []
    cur.execute(f"{_COLUMNS} WHERE id <= %s ORDER BY id DESC LIMIT %s", [mark, POLICY["window"]])
    return [*reversed(cur.fetchall()), *fresh]


def _take(cur: Any, rows: list[tuple[Any, ...]], mark: int) -> list[tuple[str, int]]:
    """Count one slice; returns the values that became generic."""
    people: dict[tuple[str, str], set[str]] = defaultdict(set)
    days: dict[tuple[int, str, dt.date], _Day] = defaultdict(_Day)
    births: dict[int, Counter[int]] = defaultdict(Counter)
    told: list[tuple[tuple[int, str, dt.date], list[tuple[str, str]]]] = []
    for source_id, institution, system, at, body in rows:
        form, notes = form_with_notes(payload.unpack(body))
        values = list(_values(form)) if form.kind != PLACEHOLDER else []
        for kind, value, who in values:
            people[(kind, value)].add(who)
        if form.born and not form.born_default:
            births[institution][form.born] += 1
        if source_id <= mark:
            continue
        key = (institution, system, at.astimezone(clock.ZONE).date())
        day = days[key]
        day.kinds[TOTAL] += 1
        day.kinds.update(_odd(form, notes))
        day.births[form.born] += 1
        told.append((key, [(kind, value) for kind, value, _ in values]))
    crowds = _crowds(cur, people)
    for key, values_told in told:
        for kind in {kind for kind, value in values_told if (kind, value) in crowds}:
            days[key].kinds[f"{kind}_crowd"] += 1
    for institution, counted in births.items():
        born, count = counted.most_common(1)[0]
        if count >= LIMITS["birth"] and count >= POLICY["birth_share"] * counted.total():
            crowds[("birth", f"{institution}:{born}")] = count
            for (of, _, _), day in days.items():
                if of == institution:
                    day.kinds["birth_crowd"] += day.births[born]
    _count(cur, days)
    publish(cur, [(kind, value, n) for (kind, value), n in crowds.items()])
    return sorted((kind, n) for (kind, _), n in crowds.items())


def _odd(form: Form, notes: list[str]) -> Iterable[str]:
    if form.kind == PLACEHOLDER:
        yield "placeholder"
    if "?" in form.name:
        yield "unreadable"
    if form.id_state == INVALID:
        yield "id_invalid"
    if "born_future" in notes or "died_future" in notes:
        yield "future"


def _crowds(cur: Any, people: dict[tuple[str, str], set[str]]) -> dict[tuple[str, str], int]:
    """Values on too many people: by this slice alone, or (phones) by all the people that the index knows."""
    crowds = {key: len(who) for key, who in people.items() if len(who) > LIMITS[key[0]]}
    shared = [v for (kind, v), who in people.items() if kind == "phone" and 1 < len(who) <= LIMITS["phone"]]
    if shared:
        blinds = {phone_blind(value): value for value in shared}
        cur.execute(
            "SELECT phone_blind, count(*) FROM index_person WHERE phone_blind = ANY(%s) AND status = 'active'"
            " GROUP BY phone_blind HAVING count(*) > %s",
            [list(blinds), LIMITS["phone"]],
        )
        crowds |= {("phone", blinds[bytes(blind)]): count for blind, count in cur.fetchall()}
    lifted = _lifted(cur) if crowds else set()
    return {key: count for key, count in crowds.items() if (key[0], _digest(*key)) not in lifted}


def _digest(kind: str, value: str) -> bytes:
    return seal.blind(f"{kind}:{value}", "generic")


def _lifted(cur: Any) -> set[tuple[str, bytes]]:
    """Values that a person has declared meaningful: nobody is flagged for them."""
    cur.execute("SELECT kind, digest FROM index_generic WHERE NOT active")
    return {(kind, bytes(digest)) for kind, digest in cur.fetchall()}


def _count(cur: Any, days: dict[tuple[int, str, dt.date], _Day]) -> None:
    """Add a slice's counts to the rows of its days."""
    rows = [
        (institution, system, kind, day, count)
        for (institution, system, day), found in sorted(days.items())
        for kind, count in sorted(found.kinds.items())
        if count
    ]
    if rows:
        cur.execute(
            "INSERT INTO index_sourceflag (institution_id, system, kind, day, count)"
            " SELECT * FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::date[], %s::int[])"
            " ON CONFLICT (institution_id, day, system, kind) DO UPDATE SET count = index_sourceflag.count + EXCLUDED.count",
            [list(column) for column in zip(*rows, strict=True)],
        )


@dataclass(frozen=True)
class Flag:
    """A source that was conspicuous on a day."""

    institution_id: int
    institution: str
    system: str
    kind: str
    label: Text
    day: dt.date
    count: int
    total: int


def flags(
    since: dt.date | None = None,
    institution_id: int | None = None,
    within: Collection[int] | None = None,
) -> list[Flag]:
    """Sources over a threshold of ``sources.yaml``, the newest day first (default: the last 30 days). Counts only, no patient data.

    ``within``: of these institutions only.
    """
    from lianxin.index.models import SourceFlag

    rows = SourceFlag.objects.filter(day__gte=since or clock.today() - dt.timedelta(days=FLAG_DAYS))
    if institution_id is not None:
        rows = rows.filter(institution_id=institution_id)
    if within is not None:
        rows = rows.filter(institution_id__in=within)
    counted = {(r.institution_id, r.system, r.day, r.kind): r.count for r in rows}
    names = dict(Institution.objects.filter(pk__in={k[0] for k in counted}).values_list("pk", "name"))
    out = []
    for (institution, system, day, kind), count in counted.items():
        rule = POLICY["flags"].get(kind)
        total = counted.get((institution, system, day, TOTAL), count)
        if rule and count >= rule["count"] and count >= rule["share"] * total:
            out.append(
                Flag(institution, names.get(institution, ""), system, kind, KINDS[kind], day, count, total)
            )
    return sorted(out, key=lambda f: (-f.day.toordinal(), f.institution_id, f.system, f.kind))


@dataclass(frozen=True)
class Noticed:
    """What is conspicuous about one system over the last 30 days: flagged days only, and what the index did about it."""

    institution_id: int
    system: str
    label: Text
    did: Text
    first: dt.date
    last: dt.date
    days: int
    count: int
    total: int


def noticed(within: Collection[int] | None = None) -> list[Noticed]:
    """The flags of the last 30 days, one line per system and kind, the newest first. It ends by itself when the source mends."""
    found: dict[tuple[int, str, str], list[Flag]] = defaultdict(list)
    for flag in flags(within=within):
        found[(flag.institution_id, flag.system, flag.kind)].append(flag)
    lines = [
        Noticed(
            institution, system, KINDS[kind], DID[kind], days[-1].day, days[0].day, len(days),
            sum(d.count for d in days), sum(d.total for d in days),
        )
        for (institution, system, kind), days in found.items()
    ]  # fmt: skip
    return sorted(lines, key=lambda n: (-n.last.toordinal(), -n.count, n.institution_id, n.system))
