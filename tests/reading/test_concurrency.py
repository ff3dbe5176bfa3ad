"""A hundred claims at once, with real connections: each seat has one holder, and the counters are exact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections

from lianxin.duty.errors import NotAllowed
from lianxin.regional.reading import items, queue
from lianxin.regional.reading.models import ClaimEvent, Entry, Reader
from tests.factories import SmallCounty
from tests.reading import world
from tests.reading.test_queue import bare

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]

THREADS, SEATS, CLAIMS = 20, 60, 100


@pytest.fixture(autouse=True)
def _catalogue() -> None:
    """What can be ordered: emptied with the other tables after each test on committed data."""
    items.load_shipped()


def waiting(count: int) -> SmallCounty:
    """A county whose imaging centre has so many seats waiting, of both townships."""
    county = world.make_world()
    person = world.make_person()
    for n in range(count):
        queue.enter(bare(county, n % 2, "DX", person), "first", priority="routine")
    return county


def at_once(work: Callable[[int], list[Any]]) -> list[Any]:
    """``work`` in every thread on a connection of its own, started together; what they got."""
    gate = threading.Barrier(THREADS)

    def run(n: int) -> list[Any]:
        try:
            connection.ensure_connection()
            gate.wait(60)
            return work(n)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(THREADS) as threads:
        return [got for mine in threads.map(run, range(THREADS)) for got in mine]


def test_a_hundred_claims_of_sixty_seats() -> None:
    county = waiting(SEATS)
    readers = [world.reader_of(county, f"reader{n}", most_open=SEATS)[1] for n in range(3)]
    got = at_once(lambda n: [queue.claim(readers[n % 3]) for _ in range(CLAIMS // THREADS)])
    held = [claim for claim in got if claim is not None]
    assert (len(got), len(held)) == (CLAIMS, SEATS)
    assert len({c.entry_id for c in held}) == len({c.token for c in held}) == SEATS
    rows = {e.pk: e for e in Entry.objects.unscoped("test")}
    assert all((rows[c.entry_id].state, rows[c.entry_id].token) == ("claimed", c.token) for c in held)
    assert ClaimEvent.objects.filter(what="claimed", entry_id__in=rows).count() == SEATS
    assert sum(Reader.objects.values_list("open_now", flat=True)) == SEATS
    assert queue.recount() == []


def test_one_reader_in_twenty_windows_stays_within_the_limit() -> None:
    county = waiting(THREADS)
    _, reader = world.reader_of(county, "reader0", most_open=5)

    def one(_: int) -> list[Any]:
        try:
            return [queue.claim(reader)]
        except NotAllowed as refused:
            return [refused]

    got = at_once(one)
    assert sum(isinstance(g, queue.Claim) for g in got) == 5
    assert sum(isinstance(g, NotAllowed) for g in got) == THREADS - 5
    reader.refresh_from_db()
    assert reader.open_now == Entry.objects.unscoped("test").filter(state="claimed").count() == 5
    assert queue.recount() == []


def test_claims_and_returns_at_once_leave_the_counters_true() -> None:
    county = waiting(SEATS)
    readers = [world.reader_of(county, f"reader{n}", most_open=SEATS)[1] for n in range(3)]

    def turn(n: int) -> list[Any]:
        reader, kept = readers[n % 3], []
        for step in range(CLAIMS // THREADS):
            claim = queue.claim(reader)
            assert (
                claim is not None
            )  # twenty threads never hold sixty seats: each gives all but its last back
            if step + 1 < CLAIMS // THREADS:
                queue.give_back(claim.entry_id, reader.account_id)
            else:
                kept.append(claim)
        return kept

    kept = at_once(turn)
    assert len({c.entry_id for c in kept}) == THREADS
    states = list(Entry.objects.unscoped("test").values_list("state", flat=True))
    assert (states.count("claimed"), states.count("waiting")) == (THREADS, SEATS - THREADS)
    assert queue.recount() == []
