"""Two people at once, with real connections: one wins, the other is told; a session is never overbooked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from lianxin.clinical.referral.models import Referral
from lianxin.duty import kernel, proof
from lianxin.duty.models import Act
from lianxin.pool import booking
from lianxin.standards import clock
from tests.referral.world import START, World, person_at

pytestmark = pytest.mark.concurrency


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Run every work in a thread of its own, starting together; results or exceptions in order."""
    results: list[Any] = [None] * len(works)
    gate = threading.Barrier(len(works))

    def run(place: int, work: Callable[[], Any]) -> None:
        try:
            with clock.at(START):
                gate.wait(timeout=30)
                results[place] = work()
        except Exception as error:
            results[place] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(n, work)) for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    return results


def test_accept_and_reject_at_once_one_wins_the_other_is_told(committed: World) -> None:
    world = committed
    number = world.until("received")
    version = world.case(number).version
    results = at_once(
        lambda: kernel.execute("accept", number, world["desk"], {}, version, "c1"),
        lambda: kernel.execute("reject", number, world["surgeon"], {"reason_code": "no_bed"}, version, "c2"),
    )
    won = [r for r in results if isinstance(r, kernel.Done)]
    told = [r for r in results if isinstance(r, kernel.Stale)]
    assert (len(won), len(told)) == (1, 1), results
    assert told[0].current_version == version + 1
    assert told[0].moved_by == won[0].act.actor
    assert world.state(number) == won[0].act.to_state
    assert proof.check() == []


def test_the_same_press_twice_is_one_act(committed: World) -> None:
    world = committed
    number = world.until("received")
    version = world.case(number).version
    results = at_once(*[lambda: kernel.execute("accept", number, world["desk"], {}, version, "once")] * 4)
    assert all(isinstance(r, kernel.Done) for r in results), results
    assert sorted(r.replayed for r in results) == [False, True, True, True]
    assert Act.objects.filter(key="once").count() == 1


def test_two_referrals_of_one_person_sent_at_once_only_one_goes(committed: World) -> None:
    world = committed
    first, second = world.open(), world.open()
    form = {"consent": True, "consent_evidence": "signed"}
    results = at_once(
        lambda: kernel.execute("submit", first, world["gp0"], form, None, "s1"),
        lambda: kernel.execute("submit", second, world["gp0"], form, None, "s2"),
    )
    assert sum(isinstance(r, kernel.Done) for r in results) == 1, results
    assert sum(isinstance(r, kernel.NotAllowed) for r in results) == 1, results
    assert Referral.objects.unscoped("test").filter(live=True).count() == 1


def test_booking_race_gives_each_number_once(committed: World) -> None:
    world = committed
    session = world.session(capacity=3)
    people = [person_at(world.county.townships[0], f"甲{n}") for n in "一二三四五六七八"]
    numbers = [world.until("accepted", person=person) for person in people]
    results = at_once(
        *[
            lambda n=n: kernel.execute("book", n, world["desk"], {"session": session.pk}, None, f"b{n}")
            for n in numbers
        ]
    )
    assert sum(isinstance(r, kernel.Done) for r in results) == 3, results
    assert sum(isinstance(r, booking.Full) for r in results) == 5, results
    assert sorted(world.state(n) for n in numbers) == ["accepted"] * 5 + ["booked"] * 3
    assert booking.recount() == []
    assert proof.check() == []
