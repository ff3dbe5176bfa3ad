"""Slots and Locations that tell the truth: what changed is brought up to date before anybody reads it, and by a chore besides.

Triggers mark what may have changed (``triggers``); holds that ran out are given back first, since they count as free. New sessions are
published by the chore, the soonest first. A publisher takes its rows with SKIP LOCKED, so any number of readers may do it at once; what
another transaction has changed and not committed is not yet the truth and stays marked.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, Sum

from lianxin.pool import booking, publish
from lianxin.pool.models import Claim, Place, Resource, Session
from lianxin.resident.booking.models import Appointment
from lianxin.resident.scheduling.models import Projection, Question
from lianxin.standards import clock

AHEAD = dt.timedelta(days=62)
"""How far ahead sessions are published."""
BATCH = 500
TYPES = ("Slot", "Schedule", "Appointment", "Location")

_NEW = """
SELECT s.id FROM pool_session s LEFT JOIN scheduling_projection p ON p.kind = 'session' AND p.target_id = s.id
 WHERE p.id IS NULL AND s.ends_at > %s AND s.starts_at < %s ORDER BY s.starts_at, s.id LIMIT %s"""
_DUE = """
SELECT id, kind, target_id FROM scheduling_projection WHERE due OR next_at <= %s ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED"""


def freshen() -> None:
    """Bring up to date what is known to have changed (called before Slots, Locations and Appointments are read)."""
    now = clock.now()
    if Place.objects.unscoped("holds that ran out").filter(state="held", expires_at__lte=now).exists():
        booking.sweep()
    while _due(now) == BATCH:
        pass


def _due(now: dt.datetime) -> int:
    """Publish one batch of what is marked; returns how many rows it was."""
    if not Projection.objects.filter(Q(due=True) | Q(next_at__lte=now)).exists():
        return 0
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_DUE, [now, BATCH])
            rows = cursor.fetchall()
        found: dict[str, list[int]] = {}
        for _, kind, target in rows:
            found.setdefault(kind, []).append(target)
        if sessions := found.get("session"):
            publish_sessions(sessions)
        if resources := found.get("resource"):
            publish_resources(resources)
        for target in found.get("place", ()):
            publish_place(target)
    return len(rows)


def publish_sessions(ids: Iterable[int]) -> int:
    """Publish sessions as Slots and remember their status; returns how many."""
    chosen = sorted(set(ids))
    now = clock.now()
    with transaction.atomic():
        _remember("session", chosen)
        sessions = publish.for_publishing(chosen)
        full = [s.pk for s in sessions if s.taken >= s.capacity]
        held = dict(
            Place.objects.unscoped("how many numbers are only held")
            .filter(session_id__in=full, state="held", expires_at__gt=now)
            .values_list("session_id")
            .annotate(n=Sum("units"))
            .values_list("session_id", "n")
        ) if full else {}  # fmt: skip
        count = publish.publish_sessions(sessions, held)
        _settle("session", {s.pk: (publish.slot_status(s, held.get(s.pk, 0)), None) for s in sessions})
    return count


def publish_resources(ids: Iterable[int]) -> int:
    """Publish beds, devices, theatres and rooms as Locations; returns how many."""
    chosen = sorted(set(ids))
    now = clock.now()
    with transaction.atomic():
        _remember("resource", chosen)
        count = publish.publish_resources(chosen)
        turns: dict[int, dt.datetime] = {}
        live = Claim.objects.unscoped("when a place's status changes by itself").filter(
            resource_id__in=chosen, state__in=["occupied", "cleaning", "blocked"]
        )
        for claim in live:
            for at in (claim.during.lower, claim.during.upper):
                if at is not None and at > now:
                    turns[claim.resource_id] = min(at, turns.get(claim.resource_id, at))
        _settle("resource", {pk: ("", turns.get(pk)) for pk in chosen})
    return count


def described(place: Place) -> dict[str, Any]:
    """What is known of a number's booking: its case, who booked, the hospital's own number, and that its hospital has not said yes."""
    row = (
        Appointment.objects.unscoped("the booking of the number that is published")
        .filter(pk=place.case_id)
        .values_list("case__number", "case__state", "booker__code", "place_id")
        .first()
    )
    if row is None:
        return {}
    number, state, booker, current = row
    found: dict[str, Any] = {"number": number, "booker": booker or ""}
    if state == "requested" and current == place.pk and place.state == "booked":
        found["status"] = "pending"
    if place.session.owner == "hospital":
        asked = Question.objects.unscoped("the booking's own numbers").filter(place=place).first()
        if asked is not None and asked.theirs:
            system = f"{publish.BASE}/id/hospital-booking/{place.session.institution.code}"
            found["identifiers"] = [{"system": system, "value": asked.theirs}]
    return found


def publish_place(place_id: int) -> None:
    """Publish a number that was held over FHIR as it stands; one no longer held is followed no more."""
    publish.publish_place(place_id)
    place = Place.objects.unscoped("a hold's own projection").get(pk=place_id)
    if place.state == "held":
        _settle("place", {place_id: ("", place.expires_at)})
    else:
        Projection.objects.filter(kind="place", target_id=place_id).delete()


def follow_hold(place: Place) -> None:
    """Publish a number that is held over FHIR, and see to it that its Appointment says so when it ran out."""
    _remember("place", [place.pk])
    publish_place(place.pk)


def _remember(kind: str, ids: list[int]) -> None:
    Projection.objects.bulk_create(
        [Projection(kind=kind, target_id=pk) for pk in ids], ignore_conflicts=True, batch_size=1000
    )
    # Locked before the pool is read: what changes meanwhile waits for us and marks the row again.
    list(
        Projection.objects.select_for_update()
        .filter(kind=kind, target_id__in=ids)
        .order_by("id")
        .values_list("id", flat=True)
    )


def _settle(kind: str, found: dict[int, tuple[str, dt.datetime | None]]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE scheduling_projection p SET due = FALSE, status = g.status, next_at = g.next_at"
            " FROM unnest(%s::bigint[], %s::text[], %s::timestamptz[]) AS g(target_id, status, next_at)"
            " WHERE p.kind = %s AND p.target_id = g.target_id",
            [list(found), [s for s, _ in found.values()], [n for _, n in found.values()], kind],
        )


def publish_new(limit: int = 2000) -> int:
    """Publish sessions and resources that are not published yet; returns how many."""
    now = clock.now()
    with connection.cursor() as cursor:
        cursor.execute(_NEW, [now, now + AHEAD, limit])
        sessions = [row[0] for row in cursor.fetchall()]
    known = Projection.objects.filter(kind="resource").values("target_id")
    resources = list(
        Resource.objects.exclude(pk__in=known).order_by("pk").values_list("pk", flat=True)[:limit]
    )
    count = 0
    for ids, one in ((sessions, publish_sessions), (resources, publish_resources)):
        for start in range(0, len(ids), BATCH):
            count += one(ids[start : start + BATCH])
    return count


def run() -> None:
    """The chore: what changed, then what is new."""
    freshen()
    publish_new()


def tidy(days: int = 400) -> int:
    """Forget how sessions that are long over were published."""
    gone = Session.objects.filter(ends_at__lt=clock.now() - dt.timedelta(days=days)).values("pk")
    return Projection.objects.filter(kind="session", target_id__in=gone).delete()[0]
