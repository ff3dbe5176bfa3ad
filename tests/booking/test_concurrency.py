"""Many at once, with real connections: double clicks, the last number, a session stopped while it is booked."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from lianxin.duty import proof
from lianxin.duty.models import Case, Duty
from lianxin.pool import booking as pool
from lianxin.pool.errors import Full
from lianxin.pool.models import Place
from lianxin.resident.booking import service
from lianxin.resident.booking.errors import TooMany
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.standards import clock
from tests.booking.world import at, make_hospital, make_person, make_session, resident

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


def at_once(calls: list[Callable[[], Any]], instant: dt.datetime) -> list[Any]:
    """Every call on its own connection, started together."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            gate.wait(60)
            with clock.at(instant):
                return call()
        except Exception as failure:
            return failure
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def kinds(results: list[Any]) -> Counter[str]:
    return Counter(type(r).__name__ for r in results)


def test_a_double_click_is_one_visit_and_limits_hold_for_two_requests_at_once() -> None:
    house, person = make_hospital(), make_person()
    one, two = make_session(house), make_session(house, starts_at=at(5, 14), ends_at=at(5, 17))
    me = resident(person)
    results = at_once([lambda: service.book(me, one.pk, person, "click")] * 6, at(2, 9))
    assert {getattr(r, "pk", r) for r in results} == {results[0].pk}
    other = make_person()
    you = resident(other)
    sessions = [one.pk, two.pk] * 2
    results = at_once(
        [lambda s=s, n=n: service.book(you, s, other, f"two{n}") for n, s in enumerate(sessions)], at(2, 9)
    )
    assert sum(isinstance(r, Appointment) for r in results) == 1, kinds(results)
    assert sum(isinstance(r, TooMany) for r in results) == 3, kinds(results)
    assert pool.recount() == []


def test_twelve_on_four_numbers_and_the_rest_is_told_full() -> None:
    session = make_session(capacity=4)
    scopes = [(p, resident(p)) for p in (make_person() for _ in range(12))]
    results = at_once([lambda p=p, s=s: service.book(s, session.pk, p, f"k{p}") for p, s in scopes], at(2, 9))
    assert sum(isinstance(r, Appointment) for r in results) == 4, kinds(results)
    assert sum(isinstance(r, Full) for r in results) == 8, kinds(results)
    assert pool.recount() == []
    assert proof.check() == []


def test_a_session_stopped_while_twenty_book_and_cancel_leaves_nobody_without_a_duty() -> None:
    house = make_hospital()
    session = make_session(house, capacity=20)
    scopes = [(p, resident(p)) for p in (make_person() for _ in range(20))]
    with clock.at(at(2, 8)):
        early = [service.book(s, session.pk, p, f"e{p}") for p, s in scopes[:6]]
    calls: list[Callable[[], Any]] = [
        lambda p=p, s=s: service.book(s, session.pk, p, f"k{p}") for p, s in scopes[6:]
    ]
    calls += [
        lambda v=v, s=s: service.cancel(s, v.case.number, f"c{v.pk}")
        for v, (_, s) in zip(early[:4], scopes[:4], strict=True)
    ]
    calls.insert(9, lambda: pool.stop_session(session.pk, "停诊"))
    results = at_once(calls, at(2, 9))
    assert not [r for r in results if isinstance(r, Exception) and not isinstance(r, Full)], kinds(results)
    assert not Place.objects.unscoped("test").filter(session=session, state__in=("held", "booked")).exists()
    states = Counter(Case.objects.unscoped("test").values_list("state", flat=True))
    assert set(states) <= {"to_rebook", "cancelled"}, states
    assert states["to_rebook"] == Duty.objects.unscoped("test").filter(kind="rebook", ended="").count() > 0
    assert pool.recount() == []
    assert proof.check() == []


def test_a_freed_number_is_offered_once_while_strangers_press() -> None:
    session, first = make_session(capacity=1), make_person()
    with clock.at(at(2, 8)):
        visit = service.book(resident(first), session.pk, first, "first")
        waits = [service.wait(resident(p), session.pk, p, f"w{p}") for p in (make_person(), make_person())]
    strangers = [(p, resident(p)) for p in (make_person() for _ in range(8))]
    me = resident(first)
    calls: list[Callable[[], Any]] = [
        lambda p=p, s=s: service.book(s, session.pk, p, f"k{p}") for p, s in strangers
    ]
    calls.insert(4, lambda: service.cancel(me, visit.case.number, "c"))
    results = at_once(calls, at(2, 9))
    assert sum(isinstance(r, Full) for r in results) == 8, kinds(results)
    rows = {w.pk: w.state for w in Waiting.objects.unscoped("test").all()}
    assert [rows[w.pk] for w in waits] == ["offered", "waiting"]
    assert pool.recount() == []
