"""Stopping while people book, with real connections: nobody keeps a number of a stopped session, everybody gets an answer."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from lianxin.duty.models import Case
from lianxin.pool import booking
from lianxin.pool.errors import Full
from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment
from lianxin.resident.schedules import planning, stopping
from lianxin.resident.schedules.models import Act
from lianxin.standards import clock
from tests.schedules import world as worlds

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


@pytest.fixture
def county() -> Iterator[worlds.World]:
    """The county, on the Monday."""
    with clock.at(worlds.NOW):
        yield worlds.build()


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Every call on its own connection, started together, on the Monday."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            gate.wait(60)
            with clock.at(worlds.NOW):
                return call()
        except Exception as failure:
            return failure
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_stopping_while_people_book_and_cancel(county: worlds.World) -> None:
    session, by = county.session(capacity=12), county.scope("desk")
    had = [county.book(session) for _ in range(4)]
    people = [county.patient().pk for _ in range(8)]
    book = [lambda p=p: service.book(by, session.pk, p, uuid.uuid4().hex) for p in people]
    cancel = [lambda a=a: service.cancel(by, a.number, uuid.uuid4().hex, "不来了") for a in had[:2]]
    stop = [
        lambda: stopping.stop(by, [Session.objects.get(pk=session.pk)], "设备故障", "one") for _ in range(2)
    ]
    results = at_once([*book, *cancel, *stop])
    for result in results[:8]:
        assert isinstance(result, Appointment | Full), repr(result)
    assert Act.objects.filter(kind="stop").count() == 1
    session.refresh_from_db()
    assert (session.status, session.taken) == ("stopped", 0)
    assert worlds.places(session) == []
    assert booking.recount() == []
    states = list(Case.objects.unscoped("test").filter(kind="appointment").values_list("state", flat=True))
    booked = sum(isinstance(r, Appointment) for r in results[:8])
    assert len(states) == 4 + booked
    assert set(states) <= {"to_rebook", "cancelled"}
    act = Act.objects.get(kind="stop")
    outcomes = [a.outcome for a in stopping.aftermath(by, [act])]
    assert outcomes.count("owed") == states.count("to_rebook")
    assert set(outcomes) <= {"owed", "closed"}


def test_a_template_that_changes_while_somebody_books_moves_nobody(county: worlds.World) -> None:
    template, by = county.template(), county.scope("desk")
    from lianxin.resident.schedules import jobs

    jobs.make_ahead()
    session = Session.objects.order_by("starts_at").first()
    assert session is not None
    patient = county.patient().pk
    template.start = template.start.replace(hour=9)
    template.save()
    done, visit = at_once(
        [
            lambda: planning.apply(by, template),
            lambda: service.book(by, session.pk, patient, "b"),
        ]
    )
    assert isinstance(visit, Appointment), repr(visit)
    session.refresh_from_db()
    # Whichever came first: the visit's time is the session's time.
    assert visit.place.at == session.starts_at
    assert done.kept + done.changed == 4
