"""One patient's coded results by the short way: the same bytes as the whole door gives, and only where nothing else has to be asked."""

import io
import json
import re
from typing import Any

import pytest
from django.db import connection

from lianxin.access import connections, journal, relationships
from lianxin.exchange.fhir import door, hot
from lianxin.index import registry
from tests.exchange.client import Client, observation, patient
from tests.factories import make_consortium, make_institution

pytestmark = pytest.mark.django_db(transaction=True)

SHORT = [
    "patient={0}&code=8480-6&_sort=-date&_count=20",
    "patient={0}&code=8480-6&_sort=date&_count=2",
    "subject=Patient/{0}&code=8480-6&_sort=-_lastUpdated&_count=3",
    "patient:Patient={0}&code=http://loinc.org|8480-6",
    "code=8480-6&patient={0}&status=final&_count=1&_count=4",
    "patient={0}&code=8480-6&code=8462-4",
    "patient={0}&code=none",
    "patient={0}&code=8480-6&status=amended",
    "patient=nobody&code=8480-6",
]
WHOLE = [
    "patient={0}", "patient={0}&code=8480-6,8462-4", "patient={0}&code:text=8480-6", "patient={0}&code=8480-6&_sort=code",
    "patient={0}&code=8480-6&_count=0", "patient={0}&code=8480-6&_count=x", "patient={0}&code=8480-6&_total=accurate",
    "patient={0}&code=8480-6&date=ge2020", "patient={0}&code=", "patient={0}&code=http://loinc.org|", "patient={0}&code=a|b|c",
    "patient={0}&subject={0}&code=8480-6", "patient={0}&code=8480-6&_sort=date&_sort=code", "patient={0}&code=8480-6&nonsense=1",
    "patient={0}&code=8480%2D6", "code=8480-6", "patient={0}&combo-code=8480-6", "encounter=x&code=8480-6",
]  # fmt: skip


def asked(application: Any, client: Client, query: str) -> tuple[str, dict[str, str], bytes]:
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/fhir/Observation", "QUERY_STRING": query, "HTTP_HOST": "t", "wsgi.url_scheme": "http",
        "HTTP_AUTHORIZATION": f"Bearer {client.token}", "wsgi.input": io.BytesIO(),
    }  # fmt: skip
    told: list[Any] = []
    body = b"".join(application(environ, lambda status, headers: told.extend([status, dict(headers)])))
    return told[0], told[1], body


def plain(answer: tuple[Any, dict[str, str], bytes]) -> tuple[Any, bytes]:
    """Status and body without the cursor's text, which holds the moment of the question."""
    return answer[0], re.sub(rb"_cursor=[^\"&]*", b"_cursor=", answer[2])


@pytest.fixture
def both(monkeypatch):
    """Ask both ways, compare, and tell the answer and whether the short way gave it."""
    passed: list[str] = []
    whole = door.application
    monkeypatch.setattr(hot.door, "application", lambda e, s: passed.append("door") or whole(e, s))

    def ask(client: Client, query: str) -> tuple[dict[str, Any], bool]:
        passed.clear()
        got = asked(hot.application, client, query)
        short = not passed
        assert plain(got) == plain(asked(whole, client, query)), query
        return got, short

    yield ask
    connections.close()


@pytest.fixture
def world(db):
    lead, town = make_institution("A-LEAD", "hospital"), make_institution("A-TOWN", "township")
    make_consortium(lead, [town], "A")
    doors = {"lead": Client("lead", "A-LEAD"), "town": Client("town", "A-TOWN"), "all": Client("all")}
    pid = doors["lead"]("POST", "Patient", patient()).json["id"]
    for n in range(6):
        when = f"2026-0{1 + n % 3}-01T08:00:00+08:00"
        code = "8480-6" if n % 3 else "8462-4"
        assert doors["lead"]("POST", "Observation", observation(pid, code, "12", when)).status == 201
    return doors, pid, town


def test_the_short_way_gives_the_same_bytes(world, both):
    doors, pid, _ = world
    for query in SHORT:
        assert both(doors["lead"], query.format(pid))[1], query
    for query in WHOLE:
        assert not both(doors["lead"], query.format(pid))[1], query
    page, _ = both(doors["lead"], SHORT[1].format(pid))
    assert page[2].count(b'"fullUrl"') == 2
    assert b'"next"' in page[2]


def test_a_page_begun_the_short_way_goes_on_where_it_ended(world, both):
    doors, pid, _ = world
    for sort in ("-date", "date", "_lastUpdated"):
        wanted = asked(door.application, doors["lead"], f"patient={pid}&code=8480-6&_sort={sort}&_count=20")
        page, short = both(doors["lead"], f"patient={pid}&code=8480-6&_sort={sort}&_count=1")
        ids = []
        while True:
            found = json.loads(page[2])
            ids += [e["resource"]["id"] for e in found["entry"]]
            more = [link["url"] for link in found["link"] if link["relation"] == "next"]
            if not more:
                break
            page = asked(hot.application, doors["lead"], more[0].partition("?")[2])
        assert (short, ids) == (True, [e["resource"]["id"] for e in json.loads(wanted[2])["entry"]]), sort


def test_what_others_sent_is_decided_by_the_whole_door(world, both):
    doors, pid, town = world
    query = SHORT[0].format(pid)
    found, short = both(doors["town"], query)
    assert (found[2].count(b'"fullUrl"'), short) == (0, False), "no relationship: nothing, by the full rule"
    relationships.grant(registry.by_patient_id(pid), town.pk, "contract", "contract:1")
    found, short = both(doors["town"], query)
    assert (found[2].count(b'"fullUrl"'), short) == (4, False)
    assert doors["town"]("POST", "Observation", observation(pid)).status == 201
    found, short = both(doors["lead"], query)
    assert (found[2].count(b'"fullUrl"'), short) == (5, False), "one of the rows is the township's"
    relationships.end("contract:1")
    found, short = both(doors["town"], query)
    assert (found[2].count(b'"fullUrl"'), short) == (1, False), "its own stays"
    assert not both(doors["all"], query)[1], "the platform's own client has no institution"


def test_narrowed_tokens_and_missing_scopes_are_for_the_whole_door(world, both):
    _, pid, _ = world
    query = SHORT[0].format(pid)
    narrow = Client("narrow", "A-LEAD", "system/Observation.rs?status=amended")
    found, short = both(narrow, query)
    assert (found[2].count(b'"fullUrl"'), short) == (0, False)
    found, short = both(Client("reader", "A-LEAD", "system/Observation.r"), query)
    assert (found[0][:3], short) == ("403", False)


def test_the_short_way_is_audited_before_it_answers(world, both):
    doors, pid, _ = world
    journal.drain()
    with connection.cursor() as cur:
        cur.execute("SELECT coalesce(max(id), 0) FROM access_auditevent")
        before = cur.fetchone()[0]
    both(doors["lead"], SHORT[0].format(pid))
    journal.drain()
    with connection.cursor() as cur:
        cur.execute(
            "SELECT person_id, what, detail, client_id FROM access_auditevent WHERE id > %s", [before]
        )
        short, whole = cur.fetchall()
    assert short == whole
    assert short[:3] == (
        registry.by_patient_id(pid),
        "Observation?_count&_sort&code&patient",
        '{"Observation": 4}',
    )
