"""Results of hospitals' own systems: the record's log is followed, whatever door they came by, and what is mapped becomes recognisable.

Reports, lab observations and imaging studies are read once each, in the order of the log: new ones are offered, amended ones offered
again, those entered in error, cancelled or deleted withdrawn. The path of a write is not touched. What the platform itself publishes is
offered by the room that issues it.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection, transaction
from django.utils.dateparse import parse_date, parse_datetime

from lianxin.clinical.recognition import knowing, results
from lianxin.clinical.recognition.knowing import Known
from lianxin.clinical.recognition.models import Follow, Group
from lianxin.duty import periodic
from lianxin.record import feed, publish, store, text
from lianxin.standards import clock

TYPES = ("DiagnosticReport", "Observation", "ImagingStudy")
SLICE, ROUNDS = 2000, 5
GOOD = {
    "DiagnosticReport": {"final", "amended", "corrected", "appended"},
    "Observation": {"final", "amended", "corrected"},
    "ImagingStudy": {"available"},
}
KEPT = dt.timedelta(days=400)
"""Older results are left out unless their group stands longer."""


def register() -> None:
    """Follow the log every few seconds."""
    periodic.register("recognition.results", 5, run)


def run() -> int:
    """Read on from where the last run stopped; returns how many changes were looked at."""
    watch, done = feed.Watch(), 0
    with connection.cursor() as cur:
        upto = watch.look(cur)
    for _ in range(ROUNDS):
        looked, more = _slice(upto)
        done += looked
        if not more:
            break
    return done


@transaction.atomic
def _slice(upto: int) -> tuple[int, bool]:
    Follow.objects.get_or_create(pk=1)
    follow = Follow.objects.select_for_update().get(pk=1)
    if follow.rid >= upto:
        return 0, False
    known = knowing.known()
    with connection.cursor() as cur:
        found, reached = feed.changes(cur, follow.rid, upto, SLICE, TYPES)
        bodies = _bodies(cur, [c.rid for c in found if c.current and not c.deleted])
    gone = []
    for change in found:
        if not change.current:
            continue  # a later version follows in the log
        resource = bodies.get(change.rid)
        if resource is not None and _published(resource):
            continue
        ref = f"{change.rtype}/{change.id}"
        groups = _groups(known, resource, change.institution_id) if resource is not None else []
        at = _when(resource) if resource is not None else None
        if (
            not groups
            or at is None
            or change.person_id is None
            or change.institution_id is None
            or len(ref) > 90
        ):
            gone.append(ref)
        elif fresh := [g for g in groups if _recent(known, g, at)]:
            results.offer(change.person_id, fresh, institution_id=change.institution_id, at=at, ref=ref)
    if gone:
        results.withdraw(gone)
    follow.rid = reached
    follow.save(update_fields=["rid"])
    return len(found), reached < upto


def _bodies(cur: Any, rids: list[int]) -> dict[int, dict[str, Any]]:
    cur.execute("SELECT rid, rtype, body FROM record_resource WHERE rid = ANY(%s::bigint[])", [rids])
    return {rid: text.parse(store.opened(rtype, bytes(body)).encode()) for rid, rtype, body in cur.fetchall()}


def _published(resource: dict[str, Any]) -> bool:
    tags = (resource.get("meta") or {}).get("tag") or []
    return any((t.get("system"), t.get("code")) == (publish.TAG["system"], publish.TAG["code"]) for t in tags)


def _groups(known: Known, resource: dict[str, Any], institution_id: int | None) -> list[Group]:
    """The groups a resource is a result of; none when its status says that it is no result."""
    rtype = resource["resourceType"]
    if resource.get("status") not in GOOD[rtype]:
        return []
    concepts = (
        [resource.get("code") or {}] if rtype != "ImagingStudy" else (resource.get("procedureCode") or [])
    )
    found = {
        group.pk: group
        for concept in concepts
        for coding in concept.get("coding") or []
        if (
            group := known.group_of(
                str(coding.get("system") or ""), str(coding.get("code") or ""), institution_id
            )
        )
    }
    return list(found.values())


def _when(resource: dict[str, Any]) -> dt.datetime | None:
    """When it was taken: the clinically relevant time, not the time of the report."""
    period = resource.get("effectivePeriod") or {}
    value = (
        resource.get("effectiveDateTime")
        or resource.get("started")
        or period.get("start")
        or resource.get("issued")
    )
    if not value:
        return None
    try:
        at = parse_datetime(str(value))
        if at is None:
            day = parse_date(str(value)[:10])
            at = dt.datetime.combine(day, dt.time(), clock.ZONE) if day else None
    except ValueError:
        return None
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=clock.ZONE)
    return at


def _recent(known: Known, group: Group, at: dt.datetime) -> bool:
    longest = max((w.days for w in known.windows.get(group.pk, [])), default=0)
    return at >= clock.now() - max(KEPT, dt.timedelta(days=longest))
