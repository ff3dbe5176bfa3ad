"""The two statements of a booking that the ORM would compile anew each time, made once: reading a session, writing an appointment.

A booking is counted in round trips: the session comes with all that its FHIR Appointment names, the appointment goes with its reminders.
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from typing import Any

from django.db import connection, models

from lianxin.network.models import Department, Institution, Practitioner
from lianxin.pool.models import Resource, Session
from lianxin.resident.booking.models import Appointment

_JOINED: tuple[tuple[str, type[models.Model]], ...] = (
    ("institution", Institution), ("department", Department), ("practitioner", Practitioner), ("resource", Resource),
)  # fmt: skip


def _columns(model: type[models.Model], alias: str) -> str:
    return ", ".join(f"{alias}.{f.column}" for f in model._meta.concrete_fields)


def _names(model: type[models.Model]) -> list[str]:
    return [f.attname for f in model._meta.concrete_fields]


@functools.cache
def _select() -> str:
    parts = [_columns(Session, "s"), *(_columns(model, f"j{n}") for n, (_, model) in enumerate(_JOINED))]
    joins = " ".join(
        f"LEFT JOIN {model._meta.db_table} j{n} ON j{n}.id = s.{name}_id"
        for n, (name, model) in enumerate(_JOINED)
    )
    return f"SELECT {', '.join(parts)} FROM pool_session s {joins} WHERE s.id = %s"


def session(session_id: int) -> Session | None:
    """The session with its institution, department, practitioner and device; None when there is none."""
    with connection.cursor() as cursor:
        cursor.execute(_select(), [session_id])
        row = cursor.fetchone()
    if row is None:
        return None
    names = _names(Session)
    found = Session.from_db("default", names, row[: len(names)])
    start = len(names)
    for name, model in _JOINED:
        names = _names(model)
        values = row[start : start + len(names)]
        start += len(names)
        setattr(found, name, model.from_db("default", names, values) if values[0] is not None else None)
    return found


@functools.cache
def _insert() -> str:
    fields = Appointment._meta.concrete_fields
    return (
        f"WITH a AS (INSERT INTO booking_appointment ({', '.join(str(f.column) for f in fields)})"
        f" VALUES ({', '.join(['%s'] * len(fields))}) RETURNING case_id)"
        " INSERT INTO booking_reminder (appointment_id, kind, visit_at, due_at, state)"
        " SELECT a.case_id, r.kind, %s, r.due_at, 'due' FROM a, unnest(%s::text[], %s::timestamptz[]) AS r(kind, due_at)"
    )


def insert(appointment: Appointment, reminders: Sequence[tuple[str, dt.datetime]]) -> None:
    """Write a new appointment and the reminders (kind, when) that go with it."""
    values: list[Any] = [getattr(appointment, name) for name in _names(Appointment)]
    kinds, times = [k for k, _ in reminders], [t for _, t in reminders]
    with connection.cursor() as cursor:
        cursor.execute(_insert(), [*values, appointment.at, kinds, times])
    appointment._state.adding = False
    appointment._state.db = "default"
