"""Finding documents: by person, kind, institution and time, within what the asker may know of; pages by a steady mark."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.db import connection

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.exchange.cda import kinds
from lianxin.exchange.cda.models import RegisteredDocument
from lianxin.index import registry as people
from lianxin.network.models import Institution
from lianxin.record import visible
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 30
STATES = {"current": T("现行", "Current"), "superseded": T("已被替代", "Superseded")}


@dataclass
class Asked:
    """What somebody looks for."""

    person: str = ""
    kind: str = ""
    institution: str = ""
    since: str = ""
    until: str = ""
    status: str = ""
    before: str = ""
    wrong: Text | None = None


@dataclass
class Line:
    """One document in the list; ``title`` is empty where its words are not the reader's to see."""

    row: RegisteredDocument
    kind: str
    title: str
    state: Text
    institution: Institution


@dataclass
class Found:
    """One page of documents, and the mark of the next."""

    lines: list[Line] = field(default_factory=list)
    more: str = ""
    query: str = ""
    wrong: Text | None = None


def asked(given: Mapping[str, str]) -> Asked:
    """The question in a query string; what cannot be meant is left out."""
    names = ("person", "kind", "institution", "since", "until", "status", "before")
    made = Asked()
    for name in names:
        setattr(made, name, given.get(name, "").strip()[:80].replace("\x00", ""))
    for name in ("since", "until"):
        if getattr(made, name) and _day(getattr(made, name)) is None:
            made.wrong = T("日期应为 YYYY-MM-DD。", "A date is YYYY-MM-DD.")
            setattr(made, name, "")
    return made


def overseen(scope: Scope) -> frozenset[int]:
    """Institutions whose documents one may know of as one who keeps the feeds."""
    return scope.institution_ids | scope.oversight_ids


def institutions(scope: Scope) -> list[Institution]:
    """Institutions to choose from."""
    ids = overseen(scope) | (scope.partner_ids if scope.clinical else frozenset())
    chosen = Institution.objects.all() if scope.everything else Institution.objects.filter(pk__in=ids)
    return list(chosen.order_by("code")[:500])


def find(scope: Scope, given: Asked) -> Found:
    """One page, newest first. Audited when it is about a person or shows what a clinician may see."""
    where: list[str] = []
    args: list[Any] = []
    person_id: int | None = None
    if given.person:
        person_id = _person(scope, given.person)
        if person_id is None:
            return Found(wrong=T("没有可查看的此人。", "There is nobody of this number that you may see."))
        where.append("r.person_id = %s")
        args.append(person_id)
    for clause, value in (
        ("d.kind = %s", given.kind),
        ("i.code = %s", given.institution),
        ("d.status = %s", given.status if given.status in STATES else ""),
        ("d.at >= %s", _start(given.since)),
        ("d.at < %s", _start(given.until, 1)),
    ):
        if value:
            where.append(clause)
            args.append(value)
    mark = _mark(given.before)
    if mark:
        where.append("(d.at, d.id) < (%s, %s)")
        args += list(mark)
    keeps = scope.may("see_feeds") and not scope.everything
    seen, more = visible.condition(scope, "r", "DocumentReference")
    if keeps and person_id is None:
        seen, more = f"(d.institution_id = ANY(%s::bigint[]) OR {seen})", [sorted(overseen(scope)), *more]
    shown = visible.condition(scope, "r", "DocumentReference")
    with connection.cursor() as cur:
        cur.execute(
            f"SELECT d.id, d.at, ({shown[0]}) FROM exchange_registereddocument d JOIN record_resource r ON r.key = d.key"
            f" JOIN network_institution i ON i.id = d.institution_id WHERE NOT r.deleted AND {seen}"
            f"{''.join(f' AND {w}' for w in where)} ORDER BY d.at DESC, d.id DESC LIMIT %s",
            [*shown[1], *more, *args, PAGE + 1],
        )
        found = cur.fetchall()
    if scope.clinical or person_id is not None:
        audit.write(scope, "search", person_id=person_id, what="documents", detail={"found": len(found)})
    rows = RegisteredDocument.objects.select_related("institution").in_bulk([f[0] for f in found[:PAGE]])
    opened = scope.may("open_message")
    lines = [_line(rows[pk], readable or opened) for pk, _, readable in found[:PAGE]]
    last = found[PAGE - 1] if len(found) > PAGE else None
    kept = {n: getattr(given, n) for n in ("person", "kind", "institution", "since", "until", "status")}
    query = urlencode({n: v for n, v in kept.items() if v})
    return Found(
        lines, f"{last[1].isoformat()}_{last[0]}" if last else "", f"{query}&" if query else "", given.wrong
    )


def _line(row: RegisteredDocument, readable: bool) -> Line:
    number = row.kind.removeprefix("WS/T ")
    known = kinds.KINDS.get(number)
    words = str(known.label) if known else row.family
    title = row.title if readable or not row.confidential else ""
    return Line(
        row,
        f"{row.kind} {words}" if known else row.kind,
        title if title != words else "",
        STATES[row.status],
        row.institution,
    )


def _person(scope: Scope, number: str) -> int | None:
    try:
        person = people.get(number)
    except people.UnknownPerson:
        return None
    return person.pk if relationships.sees(scope, person.pk) else None


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def _start(text: str, days: int = 0) -> dt.datetime | None:
    day = _day(text) if text else None
    try:
        return dt.datetime.combine(day + dt.timedelta(days), dt.time(), clock.ZONE) if day else None
    except OverflowError:
        return None


def _mark(text: str) -> tuple[dt.datetime, int] | None:
    at, _, number = text.rpartition("_")
    try:
        when = dt.datetime.fromisoformat(at)
        return (when, int(number)) if when.tzinfo and 0 < int(number) < 2**62 else None
    except ValueError:
        return None


def versions(row: RegisteredDocument) -> list[RegisteredDocument]:
    """The other versions of a document, newest first."""
    same = RegisteredDocument.objects.filter(institution_id=row.institution_id, series=row.series)
    return list(same.exclude(pk=row.pk).order_by("-version", "-pk")[:20])
