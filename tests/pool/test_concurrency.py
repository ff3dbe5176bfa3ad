"""Many clients on few numbers, with real connections."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from lianxin.pool import booking
from lianxin.pool.booking import Full
from lianxin.pool.models import Place
from lianxin.standards import clock

from .test_booking import at, counters, make_person, make_session

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Every call on its own connection, started together, on 2 November 2026 at 9."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            gate.wait(60)
            with clock.at(at(2, 9)):
                return call()
        except Exception as failure:
            return failure
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_sixty_clients_on_ten_numbers_get_exactly_ten() -> None:
    session = make_session(capacity=10)
    people = [make_person() for _ in range(60)]
    results = at_once([lambda p=p: booking.book(session.pk, p, "public", f"c{p}") for p in people])
    got = [r for r in results if isinstance(r, Place)]
    assert len(got) == 10, Counter(type(r).__name__ for r in results)
    assert sorted(p.seat_no for p in got) == list(range(1, 11))
    assert sum(isinstance(r, Full) for r in results) == 50
    assert counters(session)[:2] == (10, 0)
    assert booking.recount() == []


def test_open_and_grassroots_get_exactly_their_quota_at_once() -> None:
    """pools.md: capacity 20, reserved 8, 60 open and 30 grassroots clients: 12 and 8 before release, then the rest."""
    session = make_session(capacity=20, reserved_county=8, reserved_township=8)
    channels = (["public"] * 2 + ["township"]) * 30
    results = at_once(
        [lambda c=c, p=make_person(): booking.book(session.pk, p, c, f"q{p}") for c in channels]
    )  # fmt: skip
    got = [r for r in results if isinstance(r, Place)]
    assert len(got) == 20
    by_channel = Counter(p.channel for p in got)
    assert by_channel["public"] <= 12
    assert by_channel["township"] >= 8
    assert counters(session)[:2] == (by_channel["public"], by_channel["township"])
    assert booking.recount() == []


def test_before_release_twelve_and_eight_after_it_the_rest() -> None:
    session = make_session(capacity=20, reserved_county=8, reserved_township=8)
    opened = at_once(
        [lambda p=make_person(): booking.book(session.pk, p, "public", f"o{p}") for _ in range(30)]
    )
    assert sum(isinstance(r, Place) for r in opened) == 12
    grass = at_once(
        [lambda p=make_person(): booking.book(session.pk, p, "township", f"g{p}") for _ in range(5)]
    )
    assert sum(isinstance(r, Place) for r in grass) == 5
    with clock.at(at(4, 17)):
        late = [make_person() for _ in range(4)]
        taken = 0
        for person in late:
            try:
                booking.book(session.pk, person, "public", f"r{person}")
                taken += 1
            except Full:
                continue
    assert taken == 3
    assert counters(session)[:2] == (15, 5)


def test_booking_cancelling_and_lapsing_side_by_side_lose_no_number() -> None:
    session = make_session(capacity=6)
    with clock.at(at(2, 8)):
        for _ in range(6):
            person = make_person()
            booking.hold(session.pk, person, "public", f"h{person}", minutes=5)
    held = list(Place.objects.unscoped("test").filter(session=session))
    calls = [lambda p=make_person(): booking.book(session.pk, p, "public", f"b{p}") for _ in range(20)]
    calls += [lambda h=h: booking.cancel(h, "x") for h in held]
    calls += [booking.sweep] * 2
    results = at_once(calls)
    unexpected = [
        r for r in results if isinstance(r, Exception) and not isinstance(r, Full | booking.NotPossible)
    ]
    assert unexpected == []
    assert sum(isinstance(r, Place) and r.state == "booked" for r in results) == 6
    assert booking.recount() == []


def test_one_key_from_ten_clients_is_one_place() -> None:
    session, person = make_session(), make_person()
    results = at_once([lambda: booking.book(session.pk, person, "public", "one") for _ in range(10)])
    assert len({r.pk for r in results}) == 1, results
    assert counters(session)[:2] == (1, 0)
