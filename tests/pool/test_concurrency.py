"""Many clients on few numbers, with real connections."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from lianxin.pool import booking, demand, hooks
from lianxin.pool.booking import Full
from lianxin.pool.models import Demand, Place, TurnedAway
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


def test_four_channels_at_once_fill_exactly_what_is_theirs() -> None:
    """Capacity 20 of which 12 from the county on, 8 from the township on, 3 the village's: public 8, and all 20 go."""
    session = make_session(capacity=20, reserved_county=12, reserved_township=8, reserved_village=3)
    first = at_once(
        [lambda c=c, p=make_person(): booking.book(session.pk, p, c, f"n{p}")
         for c in ["public"] * 14 + ["county"] * 14 + ["township"] * 14]
    )  # fmt: skip
    got = Counter(r.channel for r in first if isinstance(r, Place))
    assert got.total() == 17
    assert got["public"] <= 8
    assert got["public"] + got["county"] <= 12
    late = at_once(
        [lambda p=make_person(): booking.book(session.pk, p, "village", f"v{p}") for _ in range(10)]
    )
    assert sum(isinstance(r, Place) for r in late) == 3
    assert all(isinstance(r, Place | Full) for r in first + late), first + late
    assert booking.recount() == []


def test_rescheduling_both_ways_at_once_neither_deadlocks_nor_loses() -> None:
    one, other = make_session(capacity=9), make_session(capacity=9)
    with clock.at(at(2, 8)):
        here = [booking.book(one.pk, make_person(), "public", f"a{n}") for n in range(8)]
        there = [booking.book(other.pk, make_person(), "public", f"b{n}") for n in range(8)]
    calls = [lambda p=p: booking.reschedule(p, other.pk, f"ra{p.pk}", "改期") for p in here]
    calls += [lambda p=p: booking.reschedule(p, one.pk, f"rb{p.pk}", "改期") for p in there]
    results = at_once([call for pair in zip(calls[:8], calls[8:], strict=True) for call in pair])
    assert all(isinstance(r, Place | Full) for r in results), results
    live = Place.objects.unscoped("test").filter(state="booked")
    assert sorted(live.values_list("person_id", flat=True)) == sorted(p.person_id for p in here + there)
    assert booking.recount() == []


def test_a_hold_is_confirmed_or_taken_back_never_both_whatever_the_servers_clocks_say() -> None:
    """Two application servers, one clock ten minutes ahead: it takes holds back early, which costs the holder the number and nobody else."""
    session = make_session(capacity=6)
    with clock.at(at(2, 8)):
        held = [booking.hold(session.pk, make_person(), "public", f"h{n}", minutes=65) for n in range(6)]

    def ahead(person: int) -> Place:
        with clock.at(at(2, 9) + dt.timedelta(minutes=10)):
            return booking.book(session.pk, person, "public", f"s{person}")

    calls: list[Callable[[], Any]] = [lambda h=h: booking.confirm(h) for h in held]
    calls += [lambda p=make_person(): ahead(p) for _ in range(6)]
    results = at_once(calls)
    kept = [r for r in results[:6] if isinstance(r, Place)]
    taken = [r for r in results[6:] if isinstance(r, Place)]
    assert len(kept) + len(taken) == 6
    assert all(isinstance(r, Place | booking.NotPossible | Full) for r in results), results
    assert counters(session)[:2] == (6, 0)
    assert booking.recount() == []


def test_a_hold_confirmed_while_the_session_stops_is_told_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was told "booked" is among those who are owed another number, as booked."""
    session = make_session(capacity=8)
    with clock.at(at(2, 8)):
        held = [booking.hold(session.pk, make_person(), "public", f"h{n}", minutes=120) for n in range(8)]
    told: list[Place] = []
    monkeypatch.setattr(hooks, "_stopped", [lambda _session, places, _reason: told.extend(places)])
    calls: list[Callable[[], Any]] = [lambda h=h: booking.confirm(h) for h in held]
    results = at_once([*calls, lambda: booking.stop_session(session.pk, "停诊")])
    booked = {r.pk for r in results[:8] if isinstance(r, Place)}
    assert booked <= {p.pk for p in told if p.state == "booked"}
    assert len(told) == 8
    assert counters(session)[:2] == (0, 0)


def test_refusals_at_once_are_each_counted_and_wait_for_nobody() -> None:
    session = make_session(capacity=1)
    people = [make_person() for _ in range(20)]
    results = at_once([lambda p=p: booking.book(session.pk, p, "public", f"r{p}") for p in people + people])
    assert sum(isinstance(r, Place) for r in results) >= 1
    with clock.at(at(2, 10)):
        demand.flush()
    turned = TurnedAway.objects.filter(session_id=session.pk)
    assert turned.count() == 19
    assert demand.fold(before=at(3, 0).date()) == 19
    row = Demand.objects.get(session=session)
    assert (row.people, row.channel, row.day, len(row.minutes)) == (19, "public", at(2, 0).date(), 19)
    assert row.times >= 19
    assert not TurnedAway.objects.exists()
