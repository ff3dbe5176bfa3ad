"""The pool's FHIR projection: sessions as Schedule and Slot, a place as Appointment.

A Slot stands for a whole session (its numbers are counted, not timed), so it is ``free`` while any number is left.
Publishing is asked for by who needs it; counters stay the truth.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lianxin.pool.models import Place, Session
from lianxin.record import publish

SPECIALTIES = "http://lianxin.example/cs/specialty"
_CHUNK = 500

APPOINTMENT_STATUS = {
    "held": "pending",
    "booked": "booked",
    "arrived": "arrived",
    "fulfilled": "fulfilled",
    "no_show": "noshow",
    "cancelled": "cancelled",
}


def schedule_id(session: Session) -> str:
    """One Schedule per department and practitioner."""
    return f"schedule-{session.department_id}-{session.practitioner_id or 0}"


def _actor(session: Session) -> dict[str, str]:
    if session.practitioner is not None:
        return {
            "reference": f"Practitioner/{session.practitioner.code}",
            "display": session.practitioner.name,
        }
    service = f"{session.institution.code}-{session.department.code}"[:64]
    return {"reference": f"HealthcareService/{service}", "display": session.department.name}


def schedule(session: Session) -> dict[str, Any]:
    """The Schedule a session belongs to."""
    found: dict[str, Any] = {
        "resourceType": "Schedule",
        "id": schedule_id(session),
        "active": True,
        "actor": [_actor(session)],
    }
    if session.specialty:
        found["specialty"] = [{"coding": [{"system": SPECIALTIES, "code": session.specialty}]}]
    return found


def slot(session: Session) -> dict[str, Any]:
    """The Slot that stands for a session."""
    left = session.capacity - session.taken
    status = "busy-unavailable" if session.status == "stopped" else "free" if left > 0 else "busy"
    return {
        "resourceType": "Slot",
        "id": f"slot-{session.pk}",
        "appointmentType": {"text": session.clinic_type},
        "schedule": {"reference": f"Schedule/{schedule_id(session)}"},
        "status": status,
        "start": session.starts_at.isoformat(),
        "end": session.ends_at.isoformat(),
    }


def appointment(place: Place, session: Session, person_number: str) -> dict[str, Any]:
    """The Appointment of a place."""
    status = APPOINTMENT_STATUS[place.state]
    decided = (
        "tentative" if place.state == "held" else "declined" if place.state == "cancelled" else "accepted"
    )
    found: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": f"place-{place.pk}",
        "status": status,
        "slot": [{"reference": f"Slot/slot-{session.pk}"}],
        "start": place.at.isoformat(),
        "end": session.ends_at.isoformat(),
        "created": place.made_at.isoformat(),
        "comment": f"{place.seat_no}",
        "participant": [
            {"actor": {"reference": f"Patient/{person_number}"}, "status": decided},
            {"actor": _actor(session), "status": decided},
        ],
    }
    if place.state == "cancelled" and place.reason:
        found["cancelationReason"] = {"text": place.reason}
    return found


def publish_sessions(sessions: Iterable[Session]) -> int:
    """Project sessions as Schedule and Slot, in bulk; returns how many sessions. Give them with ``for_publishing``."""
    batch: dict[str, dict[str, Any]] = {}
    count = 0
    for session in sessions:
        for resource in (schedule(session), slot(session)):
            batch[resource["id"]] = resource
        count += 1
        if len(batch) >= _CHUNK:
            publish.publish(list(batch.values()), person_id=None, institution_id=None)
            batch = {}
    if batch:
        publish.publish(list(batch.values()), person_id=None, institution_id=None)
    return count


def for_publishing(ids: Iterable[int]) -> list[Session]:
    """Sessions with what their projection reads, soonest first."""
    rows = Session.objects.filter(pk__in=list(ids)).select_related(
        "institution", "department", "practitioner"
    )
    return list(rows.order_by("starts_at", "pk"))


def publish_place(place: Place | int) -> None:
    """Project a place as it stands now (and its session's Slot), inside the caller's transaction."""
    pk = place if isinstance(place, int) else place.pk
    rows = Place.objects.unscoped("the place's own projection").select_related(
        "session__institution", "session__department", "session__practitioner", "person"
    )
    row = rows.get(pk=pk)
    publish_sessions([row.session])
    publish.publish(
        [appointment(row, row.session, row.person.number)],
        person_id=row.person_id,
        institution_id=row.institution_id,
    )
