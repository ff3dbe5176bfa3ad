"""Bad sources: values on everybody stop saying anything, who sent them is flagged, and the index goes on."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.index import active, sources
from lianxin.index.form import Registration, form_of
from lianxin.index.registry import register_many
from lianxin.standards import clock
from lianxin.standards.identifiers import resident_id_make
from tests.factories import make_institution

SYSTEM = Scope.system("test")
GIVEN = "伟芳娜敏静丽强磊军洋艳勇涛明超霞平刚桂英华建国文"
DOCTOR = resident_id_make("331023", dt.date(1975, 4, 9), 123)


@pytest.fixture(autouse=True)
def forget() -> Any:
    active.forget()
    yield
    active.forget()


def people(institution: int, count: int, **values: Any) -> list[Registration]:
    return [
        Registration(
            institution, "his", f"{k}", f"{'赵钱孙李周吴郑王'[k % 8]}{GIVEN[k // 8]}",
            **{"birth_date": dt.date(1950 + k % 60, 1 + k % 12, 2 + k % 25), "sex": "male", **values},
        )
        for k in range(count)
    ]  # fmt: skip


def generic() -> list[tuple[str, int]]:
    with connection.cursor() as cur:
        cur.execute("SELECT kind, people FROM index_generic WHERE active ORDER BY kind")
        return list(cur.fetchall())


def told(institution: int) -> dict[str, int]:
    return {f.kind: f.count for f in sources.flags(institution_id=institution)}


@pytest.mark.django_db
def test_one_phone_on_everybody() -> None:
    here, there = make_institution().pk, make_institution().pk
    register_many(SYSTEM, people(here, 14, phone="13755556666") + people(there, 14)[:1])
    report = sources.run()
    assert (report.read, report.generic) == (15, [("phone", 14)])
    assert told(here) == {"phone_crowd": 14}
    assert told(there) == {}
    with connection.cursor() as cur:
        held = active.fresh(cur).generic
    assert form_of(people(here, 1, phone="13755556666")[0], held).phone == ""
    assert sources.run().read == 0
    assert told(here) == {"phone_crowd": 14}


@pytest.mark.django_db
def test_the_doctors_own_number_on_all_patients() -> None:
    here = make_institution().pk
    register_many(SYSTEM, people(here, 10, id_no=DOCTOR))
    sources.run()
    assert generic() == [("id", 10)]
    assert told(here) == {"id_crowd": 10}
    with connection.cursor() as cur:
        held = active.fresh(cur).generic
    form = form_of(people(here, 1, id_no=DOCTOR)[0], held)
    assert (form.id_no, form.mother_id) == ("", "")


@pytest.mark.django_db
def test_a_family_on_one_phone_and_one_number_is_no_crowd() -> None:
    here = make_institution().pk
    register_many(SYSTEM, people(here, 6, id_no=DOCTOR, phone="13755556666"))
    sources.run()
    assert generic() == []
    assert told(here) == {}


@pytest.mark.django_db
def test_one_birth_date_for_everybody_counts_for_that_institution_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sources.LIMITS, "birth", 10)
    monkeypatch.setitem(sources.POLICY["flags"]["birth_crowd"], "count", 10)
    here, there = make_institution().pk, make_institution().pk
    register_many(SYSTEM, people(here, 20, birth_date=dt.date(1981, 5, 5)))
    sources.run()
    assert generic() == [("birth", 20)]
    assert told(here) == {"birth_crowd": 20}
    with connection.cursor() as cur:
        held = active.fresh(cur).generic
    assert form_of(people(here, 1, birth_date=dt.date(1981, 5, 5))[0], held).born == 0
    assert form_of(people(there, 1, birth_date=dt.date(1981, 5, 5))[0], held).born == 19810505


@pytest.mark.django_db
def test_nameless_floods_and_dates_of_the_future_are_flagged() -> None:
    here = make_institution().pk
    flood = [Registration(here, "急诊", f"n{k}", "无名氏") for k in range(40)]
    later = clock.today() + dt.timedelta(days=400)
    register_many(SYSTEM, [*flood, *people(here, 3, birth_date=later)])
    sources.run()
    assert told(here) == {"placeholder": 40, "future": 3}
    assert {str(f.label) for f in sources.flags()} == {"无名或占位姓名", "日期在将来"}


@pytest.mark.django_db
def test_a_person_may_say_that_a_value_does_say_something() -> None:
    with connection.cursor() as cur:
        assert sources.publish(cur, [("phone", "13755556666", 20)]) == 1
        assert active.fresh(cur).generic.phones == {"13755556666"}
        cur.execute("SELECT id FROM index_generic")
        sources.set_active(cur, cur.fetchone()[0], False)
        assert active.fresh(cur).generic.phones == frozenset()
        assert sources.publish(cur, [("phone", "13755556666", 30)]) == 0
        assert active.fresh(cur).generic.phones == frozenset()
