"""The pool's FHIR projection: sessions as Schedule and Slot, a number as Appointment, beds and devices as Location.

A Slot stands for a whole session (its numbers are counted): ``free`` while any number is left, ``busy-tentative`` when only holds stand
in the way, ``busy`` when full, ``busy-unavailable`` when stopped. What is kept for which tier, when it is released and from when numbers
may be taken are extensions; how many are free for whom is asked with ``Appointment/$find``. The counters stay the truth: whoever changes
a session need not publish it, ``resident.scheduling`` brings a Slot up to date when its status changed, before anybody reads it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Any

from lianxin.pool.models import RESOURCES, TIERS, Claim, ExamItem, Place, Resource, Session
from lianxin.record import publish
from lianxin.standards import clock

BASE = "http://lianxin.example"
SPECIALTIES = f"{BASE}/cs/specialty"
ITEMS = f"{BASE}/cs/exam-item"
RESOURCE_KINDS = f"{BASE}/cs/resource-kind"
INSTITUTIONS = f"{BASE}/id/institution"
CASES = f"{BASE}/id/case"
EXTERNAL = f"{BASE}/id/hospital-session"
TIER_EXTENSION = f"{BASE}/StructureDefinition/slot-tier"
NUMBERS_EXTENSION = f"{BASE}/StructureDefinition/slot-numbers"
OPENS_EXTENSION = f"{BASE}/StructureDefinition/slot-opens"
FEE_EXTENSION = f"{BASE}/StructureDefinition/slot-fee"
OWNER_EXTENSION = f"{BASE}/StructureDefinition/slot-owner"
SEAT_EXTENSION = f"{BASE}/StructureDefinition/appointment-number"
UNITS_EXTENSION = f"{BASE}/StructureDefinition/appointment-units"
CHANNEL_EXTENSION = f"{BASE}/StructureDefinition/appointment-channel"
EXPIRES_EXTENSION = f"{BASE}/StructureDefinition/appointment-held-until"
BED_FITS = f"{BASE}/StructureDefinition/location-fits"
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PHYSICAL = "http://terminology.hl7.org/CodeSystem/location-physical-type"
BED_STATUS = "http://terminology.hl7.org/CodeSystem/v2-0116"
_CHUNK = 500

_describers: list[Callable[[Place], dict[str, Any]]] = []

APPOINTMENT_STATUS = {
    "held": "pending",
    "booked": "booked",
    "arrived": "arrived",
    "fulfilled": "fulfilled",
    "no_show": "noshow",
    "cancelled": "cancelled",
}
OPERATIONAL = {
    "O": "Occupied",
    "H": "Housekeeping",
    "C": "Closed",
    "U": "Unoccupied",
}
_OF_CLAIM = {"occupied": "O", "cleaning": "H", "blocked": "C"}
_PHYSICAL_TYPE = {
    "bed": ("bd", "Bed"),
    "theatre": ("ro", "Room"),
    "room": ("ro", "Room"),
    "device": ("area", "Area"),
}


def _instant(at: dt.datetime) -> str:
    return at.astimezone(clock.ZONE).isoformat()


def schedule_id(session: Session) -> str:
    """One Schedule per department and practitioner; of examinations one per device."""
    if session.resource_id is not None:
        return f"schedule-{session.department_id}-r{session.resource_id}"
    return f"schedule-{session.department_id}-{session.practitioner_id or 0}"


def location_id(resource_id: int) -> str:
    """The id of a resource's Location."""
    return f"resource-{resource_id}"


def _service(session: Session) -> dict[str, str]:
    service = f"{session.institution.code}-{session.department.code}"[:64]
    return {"reference": f"HealthcareService/{service}", "display": session.department.name}


def actor_of(session: Session) -> dict[str, str]:
    """Who or what a session is of: its doctor, its device, else its department."""
    if session.practitioner is not None:
        return {
            "reference": f"Practitioner/{session.practitioner.code}",
            "display": session.practitioner.name,
        }
    if session.resource is not None:
        return {"reference": f"Location/{location_id(session.resource.pk)}", "display": session.resource.name}
    return _service(session)


def _specialty(session: Session) -> list[dict[str, Any]]:
    return [{"coding": [{"system": SPECIALTIES, "code": session.specialty}]}] if session.specialty else []


def schedule(session: Session) -> dict[str, Any]:
    """The Schedule a session belongs to; its last actor is the department, so that both can be searched."""
    actor, service = actor_of(session), _service(session)
    found: dict[str, Any] = {
        "resourceType": "Schedule",
        "id": schedule_id(session),
        "active": True,
        "actor": [actor] if actor == service else [actor, service],
    }
    if session.specialty:
        found["specialty"] = _specialty(session)
    return found


def slot_status(session: Session, held: int = 0) -> str:
    """The status of a session's Slot; ``held``: numbers that are only held at this moment."""
    if session.status == "stopped":
        return "busy-unavailable"
    if session.taken < session.capacity:
        return "free"
    return "busy-tentative" if held else "busy"


def slot(session: Session, held: int = 0) -> dict[str, Any]:
    """The Slot that stands for a session; ``held``: its numbers that are only held at this moment."""
    found: dict[str, Any] = {
        "resourceType": "Slot",
        "id": f"slot-{session.pk}",
        "extension": _numbers(session),
        "serviceCategory": [{"coding": [{"system": f"{BASE}/cs/session-kind", "code": session.kind}]}],
        "specialty": _specialty(session),
        "appointmentType": {"text": session.clinic_type},
        "schedule": {"reference": f"Schedule/{schedule_id(session)}"},
        "status": slot_status(session, held),
        "start": _instant(session.starts_at),
        "end": _instant(session.ends_at),
    }
    if session.external_id:
        found["identifier"] = [
            {"system": f"{EXTERNAL}/{session.institution.code}", "value": session.external_id}
        ]
    if not found["specialty"]:
        del found["specialty"]
    return found


def _numbers(session: Session) -> list[dict[str, Any]]:
    """What of a session does not change with every booking: numbers, what is kept for whom and until when, opening, fee, owner."""
    found: list[dict[str, Any]] = [
        {"url": NUMBERS_EXTENSION, "valueUnsignedInt": session.capacity},
        {"url": OPENS_EXTENSION, "valueDateTime": _instant(session.opens_at)},
        {
            "url": FEE_EXTENSION,
            "valueMoney": {"value": session.fee_fen / 100, "currency": "CNY"},
        },
        {"url": OWNER_EXTENSION, "valueCode": session.owner},
    ]
    for tier in list(TIERS)[1:]:
        kept = getattr(session, f"reserved_{tier}")
        if kept:
            found.append(
                {
                    "url": TIER_EXTENSION,
                    "extension": [
                        {"url": "tier", "valueCode": tier},
                        {"url": "kept", "valueUnsignedInt": kept},
                        {
                            "url": "until",
                            "valueDateTime": _instant(getattr(session, f"release_{tier}")),
                        },
                    ],
                }
            )
    return found


def minutes_of(session: Session, units: int = 1) -> int:
    """How long one number (or ``units`` steps) of a session takes, in whole minutes, at least one."""
    numbers = max(session.capacity - session.extra, 1)
    whole = (session.ends_at - session.starts_at) / numbers * units
    return max(1, int(whole.total_seconds() // 60))


def appointment(
    place: Place,
    session: Session,
    person_number: str,
    *,
    number: str = "",
    booker: str = "",
    item: ExamItem | None = None,
    status: str = "",
    identifiers: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The Appointment of a place. ``number``: the case that booked it; ``booker``: code of the institution that booked;
    ``item``: the examination; ``status``: when it is not that of the place; ``identifiers``: numbers of other systems."""
    status = status or APPOINTMENT_STATUS[place.state]
    decided = {"pending": "tentative", "proposed": "needs-action", "cancelled": "declined"}.get(
        status, "accepted"
    )
    minutes = minutes_of(session, place.units)
    ends = max(place.at + dt.timedelta(minutes=minutes), place.at + dt.timedelta(minutes=1))
    found: dict[str, Any] = {
        "resourceType": "Appointment",
        "id": f"place-{place.pk}",
        "extension": [
            {"url": SEAT_EXTENSION, "valuePositiveInt": place.seat_no},
            {"url": CHANNEL_EXTENSION, "valueCode": place.channel},
        ],
        "identifier": [*([{"system": CASES, "value": number}] if number else []), *identifiers],
        "status": status,
        "serviceType": _item(item, place.item),
        "specialty": _specialty(session),
        "appointmentType": {"text": session.clinic_type},
        "slot": [{"reference": f"Slot/slot-{session.pk}"}],
        "start": _instant(place.at),
        "end": _instant(ends),
        "minutesDuration": minutes,
        "created": _instant(place.made_at),
        "comment": f"{place.seat_no}",
        "participant": [
            {"actor": {"reference": f"Patient/{person_number}"}, "status": decided},
            {"actor": actor_of(session), "status": decided},
            _party(session.institution.code, session.institution.name, "LOC", decided),
        ],
    }
    if place.units > 1:
        found["extension"].append({"url": UNITS_EXTENSION, "valuePositiveInt": place.units})
    if place.state == "held" and place.expires_at is not None:
        found["extension"].append({"url": EXPIRES_EXTENSION, "valueDateTime": _instant(place.expires_at)})
    if booker:
        found["participant"].append(_party(booker, "", "AUT", "accepted"))
    if status == "cancelled" and place.reason:
        found["cancelationReason"] = {"text": place.reason}
    return {k: v for k, v in found.items() if v not in ([], "")}


def _party(code: str, name: str, role: str, decided: str) -> dict[str, Any]:
    """An institution that takes part: where it is (LOC), or who booked (AUT)."""
    actor: dict[str, Any] = {"type": "Location", "identifier": {"system": INSTITUTIONS, "value": code}}
    if name:
        actor["display"] = name
    return {
        "type": [{"coding": [{"system": PARTICIPATION, "code": role}]}],
        "actor": actor,
        "status": decided,
    }


def _item(item: ExamItem | None, code: str) -> list[dict[str, Any]]:
    if not code:
        return []
    coding = {"system": ITEMS, "code": code}
    if item is not None:
        coding["display"] = item.name
    return [{"coding": [coding]}]


def publish_sessions(sessions: Iterable[Session], held: dict[int, int] | None = None) -> int:
    """Project sessions as Schedule and Slot, in bulk; returns how many sessions. Give them with ``for_publishing``.

    ``held``: session id → numbers that are only held at this moment.
    """
    batch: dict[str, dict[str, Any]] = {}
    count = 0
    for session in sessions:
        for resource in (schedule(session), slot(session, (held or {}).get(session.pk, 0))):
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
        "institution", "department", "practitioner", "resource"
    )
    return list(rows.order_by("starts_at", "pk"))


def describe_by(fn: Callable[[Place], dict[str, Any]]) -> None:
    """Let ``fn(place)`` say what a booking's room knows of a number: arguments of :func:`appointment` (number, booker, status …)."""
    if fn not in _describers:
        _describers.append(fn)


def publish_place(
    place: Place | int,
    *,
    number: str = "",
    booker: str = "",
    status: str = "",
    identifiers: Iterable[dict[str, Any]] = (),
) -> None:
    """Project a place as it stands now, inside the caller's transaction: one Appointment, and nothing else.

    Arguments as of :func:`appointment`; what is not given is asked of who knows the booking. The session's Slot follows by itself.
    """
    pk = place if isinstance(place, int) else place.pk
    rows = Place.objects.unscoped("the place's own projection").select_related(
        "session__institution", "session__department", "session__practitioner", "session__resource", "person"
    )
    row = rows.get(pk=pk)
    known: dict[str, Any] = {}
    if row.case_id is not None:
        for fn in _describers:
            known |= fn(row)
    given = {"number": number, "booker": booker, "status": status, "identifiers": list(identifiers)}
    known |= {name: value for name, value in given.items() if value}
    item = ExamItem.objects.filter(code=row.item).first() if row.item else None
    publish.publish(
        [appointment(row, row.session, row.person.number, item=item, **known)],
        person_id=row.person_id,
        institution_id=row.institution_id,
    )


# ------------------------------------------------------------------------------------------------ exclusive resources


def operational(claims: Iterable[Claim], now: dt.datetime) -> str:
    """The bed status (HL7 table 0116) that the claims of a resource give it at ``now``."""
    codes = {
        _OF_CLAIM[claim.state]
        for claim in claims
        if claim.state in _OF_CLAIM
        and claim.during.lower <= now
        and now < (claim.during.upper or now + _MOMENT)
    }
    return next((code for code in OPERATIONAL if code in codes), "U")


_MOMENT = dt.timedelta(seconds=1)


def location(resource: Resource, status: str) -> dict[str, Any]:
    """A bed, device, theatre or room as Location; ``status``: its bed status (see :func:`operational`)."""
    code, display = _PHYSICAL_TYPE[resource.kind]
    institution = resource.institution
    found: dict[str, Any] = {
        "resourceType": "Location",
        "id": location_id(resource.pk),
        "extension": [
            {"url": f"{BED_FITS}-{name}", "valueCode": value}
            for name, value in (
                ("sex", resource.sex), ("age", resource.age), ("grade", resource.grade), ("isolation", resource.isolation),
            )
            if value and resource.kind == "bed"
        ],
        "identifier": [
            {"system": f"{BASE}/id/resource/{institution.code}/{resource.kind}", "value": resource.code}
        ],
        "status": "suspended" if status == "C" else "active" if resource.active else "inactive",
        "operationalStatus": {"system": BED_STATUS, "code": status, "display": OPERATIONAL[status]},
        "name": resource.name,
        "mode": "instance",
        "type": [
            {
                "coding": [
                    {"system": RESOURCE_KINDS, "code": resource.kind, "display": RESOURCES[resource.kind].zh}
                ]
            },
            *(
                [{"coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": resource.modality}]}]
                if resource.modality
                else []
            ),
        ],
        "physicalType": {"coding": [{"system": PHYSICAL, "code": code, "display": display}]},
        "managingOrganization": {
            "reference": f"Organization/{institution.code}",
            "display": institution.name,
        },
    }  # fmt: skip
    if institution.lon is not None and institution.lat is not None:
        found["partOf"] = {"reference": f"Location/{institution.code}"}
    if resource.department is not None:
        found["description"] = resource.department.name
    return {k: v for k, v in found.items() if v != []}


def publish_resources(ids: Iterable[int]) -> int:
    """Project beds, devices, theatres and rooms as they stand now; returns how many."""
    now = clock.now()
    chosen = list(ids)
    rows = Resource.objects.filter(pk__in=chosen).select_related("institution", "department").order_by("pk")
    claims: dict[int, list[Claim]] = {}
    live = Claim.objects.unscoped("what a place is used for now, not by whom").filter(
        resource_id__in=chosen, state__in=list(_OF_CLAIM), during__contains=now
    )
    for claim in live:
        claims.setdefault(claim.resource_id, []).append(claim)
    made = [location(row, operational(claims.get(row.pk, ()), now)) for row in rows]
    for start in range(0, len(made), _CHUNK):
        publish.publish(made[start : start + _CHUNK], person_id=None, institution_id=None)
    return len(made)
