"""``kill -9`` in the middle of referral moves: what was acknowledged is there, nothing is there twice."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reliability.conftest import Town
from tests.reliability.installation import HEAD, eventually
from tests.reliability.moves import Client, parameters

pytestmark = [pytest.mark.concurrency]

SESSION = """
import datetime as dt, json
from lianxin.network.models import Department
from lianxin.pool.models import Session
from lianxin.standards import clock
department = Department.objects.get(institution__code="{head}", code="PWK")
start = (clock.now() + dt.timedelta(days={days})).replace(hour=13, minute={minute}, second=0, microsecond=0)
made = Session.objects.create(institution=department.institution, department=department, specialty=department.specialty,
    starts_at=start, ends_at=start + dt.timedelta(hours=3), capacity={capacity})
print(json.dumps(made.pk))
"""
CLIENTS = 4
MOVES = ["answer_info", "accept", "ask_info", "book", "receive"]


def session_of(town: Town, capacity: int, days: int = 3, minute: int = 7) -> int:
    """A new clinic session of general surgery at the head hospital."""
    return int(town.site.shell(SESSION.format(head=HEAD, capacity=capacity, days=days, minute=minute)))


def test_every_acknowledged_move_survives_and_none_happens_twice(town: Town) -> None:
    site = town.site
    people = town.people[:12]
    session = session_of(town, capacity=len(people) + 3)
    before = site.count("SELECT count(*) FROM duty_case")
    clients = [Client(town, f"kill{n}") for n in range(CLIENTS)]
    total = len(people) * 6

    def acknowledged() -> int:
        return sum(len(c.acknowledged) for c in clients)

    with ThreadPoolExecutor(CLIENTS) as pool:
        work = [
            pool.submit(lambda c=client, own=people[n::CLIENTS]: [c.whole(p, session) for p in own])
            for n, client in enumerate(clients)
        ]

        def until(share: float) -> None:
            eventually(
                lambda: acknowledged() >= total * share or any(w.done() for w in work), what="progress"
            )

        until(0.15)
        assert site.kill_workers() == 2
        until(0.35)
        site.kill_database()
        until(0.55)
        site.kill_server()
        noted = {key: said for client in clients for key, said in dict(client.acknowledged).items()}
        assert len(noted) < total, "the blow came too late to hit anything"
        site.serve()
        until(0.75)
        site.kill_database()
        numbers = [number for done in work for number in done.result()]

    assert sum(len(c.repeats) for c in clients) > 0, "no client was ever hurt"
    assert len(set(numbers)) == len(people)
    assert site.count("SELECT count(*) FROM duty_case") == before + len(people)
    rows = site.query(
        "SELECT c.number, a.move, count(*) FROM duty_act a JOIN duty_case c ON c.id = a.case_id WHERE c.number = ANY(%s)"
        " GROUP BY 1, 2",
        numbers,
    )
    assert {count for *_, count in rows} == {1}, "an act was done twice"
    made = {(number, move) for number, move, _ in rows}
    assert {(number, move) for number in numbers for move in MOVES} <= made
    places = site.query("SELECT case_id, count(*) FROM pool_place WHERE session_id = %s GROUP BY 1", session)
    assert [count for _, count in places] == [1] * len(people)
    taken = site.query(
        "SELECT taken_public, taken_county + taken_township + taken_village FROM pool_session WHERE id = %s",
        session,
    )[0]
    assert sum(taken) == len(people)

    for client in clients:
        for key, (token, path, body) in client.sent.items():
            again = site.insist(token, "POST", path, body)
            assert again.status in (200, 201)
            assert again.value("replayed") is True, key
            assert again.value("number") == client.acknowledged[key][0]
    for number in numbers:
        task = site.fhir(town.head, "GET", f"Task/{number}-1").json
        assert task["businessStatus"]["coding"][0]["code"] == "booked"
        assert site.fhir(town.township, "GET", f"Appointment/{number}-A").status == 200
    published = site.query(
        "SELECT id, count(*) FROM record_resource WHERE rtype = 'ServiceRequest' GROUP BY 1 HAVING count(*) > 1"
    )
    assert published == []
    site.check()


def test_sixty_clients_on_ten_numbers_get_ten(town: Town) -> None:
    site = town.site
    session = session_of(town, capacity=10, days=4, minute=11)
    client = Client(town, "ten")
    with ThreadPoolExecutor(4) as pool:
        wanted = list(pool.map(client.accepted, town.people[12:72]))
    barrier = threading.Barrier(len(wanted))

    def book(number: str) -> int:
        barrier.wait(60)
        body = parameters(move="book", key=f"{client.name}-{number}-book", session=session)
        answer = site.fhir(town.head, "POST", f"ServiceRequest/{number}/$act", body, seconds=90)
        if answer.status == 409:
            issue = answer.json["issue"][0]
            assert issue["details"]["text"]
            assert issue["diagnostics"]
        return answer.status

    with ThreadPoolExecutor(len(wanted)) as pool:
        statuses = list(pool.map(book, wanted))
    assert sorted(set(statuses)) == [200, 409], statuses
    assert statuses.count(200) == 10
    assert (
        site.count("SELECT count(*) FROM pool_place WHERE session_id = %s AND state = 'booked'", session)
        == 10
    )
    seats = site.query("SELECT seat_no FROM pool_place WHERE session_id = %s ORDER BY 1", session)
    assert [seat for (seat,) in seats] == list(range(1, 11))
    site.check()
