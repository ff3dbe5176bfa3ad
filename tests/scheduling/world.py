"""A county whose lead hospital has clinics, with clients of a township's and of the hospital's own system."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.index.models import Person
from lianxin.pool.models import Session
from lianxin.standards import clock
from tests.exchange.client import Client, Reply
from tests.referral.world import World, person_at

SCOPES = "system/Appointment.cruds system/Slot.rs system/Schedule.rs system/Patient.rs system/Location.rs"


def session(world: World, capacity: int = 5, days: int = 2, hour: int = 8, **more: Any) -> Session:
    """A clinic session of the lead hospital, some days on."""
    department = more.pop("department", world.county.departments["surgery"])
    start = (clock.now() + dt.timedelta(days=days)).astimezone(clock.ZONE).replace(hour=hour, minute=0)
    return Session.objects.create(
        institution=more.pop("institution", department.institution), department=department, specialty=department.specialty,
        starts_at=start, ends_at=start + dt.timedelta(hours=4), capacity=capacity, fee_fen=1500,
        opens_at=more.pop("opens_at", clock.now() - dt.timedelta(days=1)), **more,
    )  # fmt: skip


def people(world: World, count: int) -> list[Person]:
    """More residents of the first township."""
    return [person_at(world.county.townships[0], f"居民{n}") for n in range(count)]


def township(world: World, scope: str = SCOPES) -> Client:
    """The system of the first township's health centre."""
    return Client("township", world.county.townships[0].code, scope)


def parameters(**values: Any) -> dict[str, Any]:
    """Parameters; names with underscores become hyphens, a dict with a resourceType a resource."""
    made: list[dict[str, Any]] = []
    for name, value in values.items():
        one: dict[str, Any] = {"name": name.replace("_", "-")}
        if isinstance(value, dict) and "resourceType" in value:
            one["resource"] = value
        elif isinstance(value, dict):
            one["valueReference"] = value
        elif isinstance(value, bool):
            one["valueBoolean"] = value
        elif isinstance(value, int):
            one["valueInteger"] = value
        else:
            one["valueString"] = str(value)
        made.append(one)
    return {"resourceType": "Parameters", "parameter": made}


def ref(rtype: str, rid: str) -> dict[str, str]:
    """A reference."""
    return {"reference": f"{rtype}/{rid}"}


def appointment(reply: Reply) -> dict[str, Any]:
    """The Appointment of an answer."""
    return next(e["resource"] for e in reply.json["entry"] if e["resource"]["resourceType"] == "Appointment")


def of(reply: Reply, rtype: str = "Appointment") -> list[dict[str, Any]]:
    """Resources of a type in a Bundle."""
    return [e["resource"] for e in reply.json.get("entry", []) if e["resource"]["resourceType"] == rtype]
