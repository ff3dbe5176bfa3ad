"""``kill -9`` in the middle of bookings: every acknowledged one is there exactly once, and the counters agree with the rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.reliability.conftest import Town
from tests.reliability.installation import eventually
from tests.reliability.test_kill_moves import session_of

pytestmark = [pytest.mark.concurrency]
CLIENTS = 4


def asked(person: str, session: int) -> dict[str, Any]:
    """Parameters of ``Appointment/$book``: this person, this session, one key for ever."""
    return {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "slot-reference", "valueReference": {"reference": f"Slot/slot-{session}"}},
            {"name": "patient-reference", "valueReference": {"reference": f"Patient/{person}"}},
            {"name": "key", "valueString": f"kill-booking-{session}-{person}"},
        ],
    }


def test_every_acknowledged_booking_survives_and_none_is_there_twice(town: Town) -> None:
    site, people = town.site, town.people[12:48]
    session = session_of(town, capacity=len(people), days=6, minute=23)
    acknowledged: dict[str, str] = {}
    tries: list[int] = []

    def book(person: str) -> None:
        answer = site.insist(town.township, "POST", "Appointment/$book", asked(person, session), tries)
        assert answer.status in (200, 201), answer.raw
        acknowledged[person] = answer.headers["location"].rpartition("/")[2]

    with ThreadPoolExecutor(CLIENTS) as pool:
        work = [pool.submit(book, person) for person in people]

        def until(share: float) -> None:
            eventually(
                lambda: len(acknowledged) >= len(people) * share or all(w.done() for w in work),
                what="progress",
            )

        until(0.2)
        assert site.kill_workers() == 2
        until(0.5)
        site.kill_database()
        for done in work:
            done.result()

    assert tries, "no client was ever hurt"
    rows = site.query(
        "SELECT 'place-' || p.id, p.state, c.state, count(*) FROM pool_place p JOIN booking_appointment a ON a.place_id = p.id"
        " JOIN duty_case c ON c.id = a.case_id WHERE p.session_id = %s GROUP BY 1, 2, 3",
        session,
    )
    assert {row[0] for row in rows} == set(acknowledged.values())
    assert {row[1:] for row in rows} == {("booked", "booked", 1)}
    assert len(rows) == len(people)
    assert site.count("SELECT count(*) FROM booking_appointment WHERE session_id = %s", session) == len(
        people
    )
    for person in people[:6]:
        again = site.insist(town.township, "POST", "Appointment/$book", asked(person, session))
        assert again.status in (200, 201)
        assert again.headers["location"].rpartition("/")[2] == acknowledged[person]
    site.check()
