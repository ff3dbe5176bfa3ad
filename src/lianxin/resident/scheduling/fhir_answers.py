"""What the scheduling operations answer with: Bundles of proposed Appointments with their Slots, and single Appointments as they stand."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.pool import publish
from lianxin.pool import search as finding
from lianxin.pool.models import ExamItem, Place, Session
from lianxin.pool.search import Offer
from lianxin.record import rows, store, text
from lianxin.standards import clock

FREE_EXTENSION = f"{publish.BASE}/StructureDefinition/appointment-free"
ALTERNATIVE = f"{publish.BASE}/StructureDefinition/outcome-alternative"
EXISTING = f"{publish.BASE}/StructureDefinition/outcome-existing"

_SEATS = """
SELECT s.id, n FROM pool_session s CROSS JOIN LATERAL generate_series(1, s.capacity) n
 WHERE s.id = ANY(%s) AND NOT EXISTS (SELECT 1 FROM pool_place p WHERE p.session_id = s.id AND p.state <> 'cancelled'
       AND n >= p.seat_no AND n < p.seat_no + p.units AND NOT (p.state = 'held' AND p.expires_at <= %s))
 ORDER BY s.starts_at, s.id, n LIMIT %s"""


def reachable(scope: Scope, wanted: int | None) -> list[int] | None:
    """Institutions whose numbers a caller may look at: its own and those of its consortia; a resident's and the platform's: all (None)."""
    if scope.everything or scope.resident:
        return [wanted] if wanted is not None else None
    mine = scope.institution_ids | scope.partner_ids
    return sorted(mine & {wanted}) if wanted is not None else sorted(mine)


def search(
    institutions: Sequence[int] | None,
    since: dt.datetime,
    until: dt.datetime,
    channel: str,
    *,
    limit: int,
    specialty: str | None,
    practitioner: int | None,
    item: str,
) -> list[Offer]:
    """Sessions with free numbers; with an examination's code those of devices that do it."""
    if institutions is not None and not institutions:
        return []
    kind = "exam" if item and ExamItem.objects.filter(code=item, active=True).exists() else "clinic"
    given: dict[str, Any] = {
        "specialty": specialty, "practitioner": practitioner, "since": since, "until": until, "channel": channel,
        "limit": limit, "kind": kind,
    }  # fmt: skip
    if institutions is not None:
        given["institution"] = institutions
    offers = finding.find(**given)
    if kind == "exam":
        does = set(
            Session.objects.filter(
                pk__in=[o.session_id for o in offers], resource__items__contains=[item]
            ).values_list("pk", flat=True)
        )
        return [o for o in offers if o.session_id in does]
    if item:
        return [o for o in offers if o.clinic_type == item]
    return offers


def sessions_of(person_id: int) -> set[int]:
    """Sessions in which a person has a number already: a second one is not proposed."""
    rows_ = Place.objects.unscoped("sessions that are no choice for this patient").filter(
        person_id=person_id, session__ends_at__gt=clock.now()
    )
    return set(rows_.exclude(state="cancelled").values_list("session_id", flat=True))


def _proposed(session: Session, free: int | None, seat: int | None, item: str, rid: str) -> dict[str, Any]:
    start = session.time_of(seat) if seat is not None else session.starts_at
    end = start + dt.timedelta(minutes=publish.minutes_of(session)) if seat is not None else session.ends_at
    found: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": rid,
        "extension": [{"url": FREE_EXTENSION, "valueUnsignedInt": free}] if free is not None else [],
        "status": "proposed",
        "serviceType": [{"coding": [{"system": publish.ITEMS, "code": item}]}] if item else [],
        "specialty": [{"coding": [{"system": publish.SPECIALTIES, "code": session.specialty}]}]
        if session.specialty
        else [],
        "appointmentType": {"text": session.clinic_type},
        "start": start.astimezone(clock.ZONE).isoformat(),
        "end": end.astimezone(clock.ZONE).isoformat(),
        "minutesDuration": publish.minutes_of(session),
        "slot": [{"reference": f"Slot/slot-{session.pk}"}],
        "participant": [
            {"actor": publish.actor_of(session), "required": "required", "status": "needs-action"},
            {
                "actor": {
                    "type": "Location",
                    "identifier": {"system": publish.INSTITUTIONS, "value": session.institution.code},
                    "display": session.institution.name,
                },
                "required": "required",
                "status": "needs-action",
            },
        ],
    }
    if seat is not None:
        found["extension"].append({"url": publish.SEAT_EXTENSION, "valuePositiveInt": seat})
    return {k: v for k, v in found.items() if v != []}


def proposals(offers: Iterable[Offer]) -> list[dict[str, Any]]:
    """Proposed Appointments without their Slots (as alternatives in a refusal)."""
    given = list(offers)
    sessions = {s.pk: s for s in publish.for_publishing([o.session_id for o in given])}
    return [
        _proposed(sessions[o.session_id], o.free, None, "", f"offer-{o.session_id}")
        for o in given
        if o.session_id in sessions
    ]


def bundle(offers: Sequence[Offer], base: str, *, per_number: bool, item: str, most: int) -> dict[str, Any]:
    """A searchset of proposed Appointments, and the Slots they are of; ``per_number``: one for each number's time."""
    listed = publish.for_publishing([o.session_id for o in offers])
    sessions = {s.pk: s for s in listed}
    free = {o.session_id: o.free for o in offers}
    found: list[dict[str, Any]] = []
    if per_number and sessions:
        with connection.cursor() as cursor:
            cursor.execute(_SEATS, [list(sessions), clock.now(), most * 4])
            left = dict(free)
            for pk, seat in cursor.fetchall():
                if left[pk] > 0 and len(found) < most:
                    left[pk] -= 1
                    found.append(_proposed(sessions[pk], free[pk], seat, item, f"offer-{pk}-{seat}"))
    else:
        found = [
            _proposed(sessions[o.session_id], o.free, None, item, f"offer-{o.session_id}")
            for o in offers
            if o.session_id in sessions
        ]
    entries = [
        {"fullUrl": f"{base}/Appointment/{one['id']}", "resource": one, "search": {"mode": "match"}}
        for one in found
    ]
    shown = {one["slot"][0]["reference"] for one in found}
    entries += [
        {"fullUrl": f"{base}/{ref}", "resource": publish.slot(s), "search": {"mode": "include"}}
        for s in listed
        if (ref := f"Slot/slot-{s.pk}") in shown
    ]
    made: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
    if entries:
        made["entry"] = entries
    return made


def one(place_id: int, base: str) -> dict[str, Any]:
    """A Bundle with the Appointment of a number as it was published."""
    rid = f"place-{place_id}"
    with connection.cursor() as cursor:
        stored = store.read(
            rows.server_cursor(cursor), Scope.system("the answer to who booked"), "Appointment", rid
        )
    assert stored is not None
    return {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": 1,
        "entry": [
            {
                "fullUrl": f"{base}/Appointment/{rid}",
                "resource": text.parse(stored.body.encode()),
                "search": {"mode": "match"},
            }
        ],
    }
