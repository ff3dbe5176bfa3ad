"""Seven in the morning, small: 200 residents for 30 numbers through the pages, real connections, no error but "full"."""

from __future__ import annotations

import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections
from django.test import Client

from lianxin.pool import booking
from lianxin.pool.models import Place, Session
from lianxin.resident.booking.models import Appointment
from tests.phone import world

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]
RESIDENTS, NUMBERS, THREADS = 200, 30, 8


def test_exactly_the_numbers_there_are_go_out_and_everybody_else_hears_full() -> None:
    county = world.build()
    sessions = [
        world.make_session(county.cardiology, starts_at=world.tomorrow(18, n), ends_at=world.tomorrow(21, n), capacity=NUMBERS // 3)
        for n in range(3)
    ]  # fmt: skip
    clients = [world.signed_in(world.make_resident(world.make_person(f"居试{n}"))) for n in range(RESIDENTS)]
    gate = threading.Barrier(THREADS)

    def rush(share: list[tuple[int, Client]]) -> list[int]:
        try:
            gate.wait(60)
            return [one(n, client) for n, client in share]
        finally:
            connections.close_all()

    def one(n: int, client: Client) -> int:
        wanted = sessions[n % 3].pk
        page = client.get(f"/m/numbers/{wanted}") if n % 10 == 0 else None
        found = re.search(r'name="key" value="([^"]+)"', page.content.decode()) if page is not None else None
        answer = client.post(f"/m/numbers/{wanted}/book", {"key": found[1] if found else f"k{n}"})
        if n % 7 == 0 and answer.status_code == 302:  # an impatient thumb
            again = client.post(f"/m/numbers/{wanted}/book", {"key": found[1] if found else f"k{n}"})
            assert again.headers["Location"] == answer.headers["Location"]
        assert answer.status_code == 302 or "约满" in answer.content.decode()
        return answer.status_code

    with ThreadPoolExecutor(THREADS) as pool:
        shares = [list(enumerate(clients))[t::THREADS] for t in range(THREADS)]
        told = Counter(status for share in pool.map(rush, shares) for status in share)
    assert told == {302: NUMBERS, 409: RESIDENTS - NUMBERS}
    taken = Place.objects.unscoped("test").filter(session__in=sessions, state="booked")
    assert taken.count() == NUMBERS == Appointment.objects.unscoped("test").count()
    assert taken.values("person").distinct().count() == NUMBERS
    assert [s.taken_public for s in Session.objects.filter(pk__in=[s.pk for s in sessions])] == [
        NUMBERS // 3
    ] * 3
    assert booking.recount() == []
