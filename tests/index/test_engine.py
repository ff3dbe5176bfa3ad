"""The engine on a real database: races, crowds, odd input, sudden death, orders of arrival; what is decided can be told again."""

from __future__ import annotations

import datetime as dt
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from lianxin.access import audit, connections, journal
from lianxin.access.errors import Invalid
from lianxin.index import crowds, engine, rebuild, upkeep
from lianxin.index.match import policy
from lianxin.index.models import CrowdedKey, IndexModel, LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.index.registry import Registration, explain, match, register, register_many
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.factories import make_institution, make_resident_id
from tests.index.conftest import BORN, SYSTEM

Reg = Callable[..., Registration]
MINE = make_resident_id(BORN, 111)
WRITERS = 60


def _people() -> int:
    return Person.objects.unscoped("test").filter(status="active").count()


def _at_once(count: int, work: Callable[[int], Any]) -> None:
    """Run ``work(k)`` in so many threads, each with connections of its own, all starting together."""
    failures: list[BaseException] = []
    go = threading.Barrier(count)

    def run(k: int) -> None:
        try:
            go.wait()
            work(k)
        except BaseException as failure:
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:2]


@pytest.fixture
def whole() -> Any:
    """Connections beside Django's are closed after a test with committed data, and the index agrees with itself."""
    yield
    journal.drain()
    assert upkeep.check() == []
    assert audit.verify() == []
    connections.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.concurrency
def test_sixty_writers_register_the_same_people(whole: Any) -> None:
    places = [make_institution() for _ in range(6)]
    names = ["单雄信", "程咬金", "秦叔宝"]

    def work(k: int) -> None:
        for n, name in enumerate(names):
            register(
                SYSTEM,
                Registration(
                    places[k % 6].pk,
                    "urn:t",
                    f"{k}-{n}",
                    name,
                    "male",
                    BORN,
                    id_no=make_resident_id(BORN, 2 * n + 1),
                ),
            )

    _at_once(WRITERS, work)
    assert _people() == len(names)
    assert SourceRecord.objects.unscoped("test").count() == WRITERS * len(names)


@pytest.mark.django_db(transaction=True)
@pytest.mark.concurrency
def test_two_hospitals_register_one_newborn_at_the_same_moment(whole: Any) -> None:
    places = [make_institution(), make_institution()]
    mothers = [make_resident_id(dt.date(1995, 3, 1), 2 * k) for k in range(1, 9)]

    def work(k: int) -> None:
        for n, mother in enumerate(mothers):
            register(
                SYSTEM,
                Registration(
                    places[k].pk, "urn:t", f"{k}-{n}", "王芳之子", "male", clock.today() - dt.timedelta(days=3),
                    mother_name="王芳", mother_id_no=mother, birth_certificate=f"T37000{n:04d}",
                ),
            )  # fmt: skip

    _at_once(2, work)
    assert _people() == len(mothers)


@pytest.mark.django_db
def test_ten_thousand_nameless_ones_are_ten_thousand(
    here: Institution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Placeholders of one day have no key: nobody is compared with any of them, and nobody becomes another."""
    compared = []
    monkeypatch.setattr(policy, "judge", lambda *given: compared.append(given))
    regs = [Registration(here.pk, "urn:t", str(k), "无名氏", "male") for k in range(10_000)]
    done = register_many(SYSTEM, regs)
    assert {r.decision for r in done} == {"new"}
    assert len({r.person_id for r in done}) == len(regs)
    assert match(None, Registration(here.pk, "urn:t", "x", "无名氏", "male")) == []
    assert compared == []
    assert CrowdedKey.objects.count() == 0
    assert not ReviewItem.objects.exists()


@pytest.mark.django_db
def test_a_crowded_key_is_ignored_and_the_others_still_find(here: Institution) -> None:
    """One phone on everybody of one year: noted once, and a person is still found by the name."""
    regs = [
        Registration(
            here.pk, "urn:t", str(k), chr(0x4E01 + k) + chr(0x6E01 + k), "male", dt.date(1969, 1 + k % 12, 2 + k % 27), phone="13911112222"
        )
        for k in range(crowds.CROWD + 60)
    ]  # fmt: skip
    for start in range(0, len(regs), 130):
        register_many(SYSTEM, regs[start : start + 130])
    register(SYSTEM, replace(regs[-1], local_id="new", name="程咬金"))
    assert CrowdedKey.objects.count() >= 1
    again = register(SYSTEM, replace(regs[7], local_id="again", institution_id=here.pk))
    assert again.decision == "linked"
    assert upkeep.check() == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "odd",
    [
        {"sex": ""},
        {"sex": "男", "birth_date": None},
        {"birth_date": dt.date(2999, 1, 1)},
        {"birth_date": dt.date(1, 1, 1), "deceased_on": dt.date(9999, 12, 31)},
        {"id_no": "x" * 500, "phone": "0" * 300, "address": "县" * 2000, "village": "村" * 500},
        {"name": "𠮷" * 300},
        {"name": "\x01王\x00小明"},
        {"phone": "\x00", "address": "\x00", "village": "\x00"},
        {"id_type": "?" * 40, "id_no": "1", "card": "\x00", "birth_order": -5},
        {"birth_text": "三月初三", "given": "\ufeff", "family": "O'Brien; DROP TABLE"},
    ],
)
def test_odd_registrations_are_people_too(reg: Reg, odd: dict[str, Any]) -> None:
    one = reg(**odd)
    done = register(SYSTEM, one)
    assert done.decision in ("new", "linked", "review")
    assert register(SYSTEM, replace(one)).decision == "same_source"
    assert isinstance(match(None, one), list)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "bad", [{"local_id": "a\x00b"}, {"local_id": "9" * 201}, {"name": "\ud800"}, {"patient_id": "p" * 65}]
)
def test_what_cannot_be_kept_is_refused(reg: Reg, bad: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        register_many(SYSTEM, [reg(), reg(**bad)])


@pytest.mark.django_db
def test_a_decision_is_told_again(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE, phone="13911112222"))
    b = register(SYSTEM, reg(id_no=MINE))
    told = explain(SYSTEM, b.source_id)
    assert (told.kind, told.person_id, told.now.target) == ("linked", a.person_id, a.person_id)
    person, kind, bits, parts = told.weighed[0]
    assert (person, kind) == (a.person_id, "")
    assert abs(sum(p[2] for p in parts) - bits) < 0.2
    assert ("name", "exact") in {p[:2] for p in parts}
    assert explain(SYSTEM, a.source_id).weighed == ()
    event = LinkEvent.objects.filter(source_id=b.source_id).get()
    assert explain(SYSTEM, event_id=event.pk).source_id == b.source_id
    with pytest.raises(Invalid):
        explain(SYSTEM, 10**9)


@pytest.mark.django_db
def test_a_new_model_is_taken_at_once(reg: Reg) -> None:
    used = engine.current_model()
    strict = replace(used, version="strict", auto=999.0, review=900.0)
    register(SYSTEM, reg(id_no=MINE))
    IndexModel.objects.create(version="strict", body=strict.dump(), active=True, made_at=clock.now())
    assert engine.current_model().version == "strict"
    assert register(SYSTEM, reg(id_no=MINE)).decision != "linked"
    IndexModel.objects.update(active=False)
    assert register(SYSTEM, reg(id_no=MINE)).decision == "linked"


@pytest.mark.django_db
def test_matching_writes_nothing(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE))
    before = LinkEvent.objects.count()
    (found, *_) = match(None, reg(id_no=MINE))
    assert (found.person_id, found.number, found.grade) == (a.person_id, a.number, "certain")
    assert SourceRecord.objects.unscoped("test").count() == 1
    assert LinkEvent.objects.count() == before


@pytest.mark.django_db
def test_forms_built_anew_are_the_same(reg: Reg) -> None:
    for k in range(20):
        register(SYSTEM, reg(id_no=make_resident_id(BORN, k // 2 * 2 + 1), phone=f"1391111000{k % 3}"))
    with connection.cursor() as cur:
        cur.execute("SELECT person_id, cardinality(keys), length(body) FROM index_form ORDER BY 1, 3, 2")
        before = cur.fetchall()
        said: list[tuple[int, int]] = []
        assert rebuild.forms(cur, lambda done, total: said.append((done, total))) == len(before)
        cur.execute("SELECT person_id, cardinality(keys), length(body) FROM index_form ORDER BY 1, 3, 2")
        assert cur.fetchall() == before
    assert said[-1] == (20, 20)
    assert upkeep.check() == []


_KILLED = """
import django; django.setup()
from lianxin.access.scope import Scope
from lianxin.index.registry import Registration, register, register_many
import datetime as dt, sys
place = int(sys.argv[1])
k = 0
while True:
    k += 1
    batch = [Registration(place, "urn:k", f"{k}-{n}", chr(0x4E10 + (k * 7 + n) % 900) + "小明", "male", dt.date(1950 + n, 1 + k % 12, 3),
                          phone=f"139{k:05d}{n:03d}") for n in range(40)]
    register(Scope.system("t"), batch[0])
    register_many(Scope.system("t"), batch[1:])
    print(k, flush=True)
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.concurrency
def test_killed_in_the_middle_nothing_is_half_done(whole: Any) -> None:
    place = make_institution()
    given = connection.settings_dict
    url = f"postgresql://{given['USER']}@/{given['NAME']}?host={given['HOST']}"
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(place.pk)],
        env={**os.environ, "DATABASE_URL": url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(2)]
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert told[-1].strip() == "2"
    journal.adopt()
    with connection.cursor() as cur:  # the server notices at its next answer
        for _ in range(100):
            cur.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND state <> 'idle'"
            )
            if cur.fetchone()[0] == 0:
                break
            time.sleep(0.05)
    audit.link_rest(older_than=dt.timedelta(0))
    sources = SourceRecord.objects.unscoped("test").count()
    assert sources >= 80
    assert LinkEvent.objects.filter(kind__in=("created", "linked")).count() == sources
