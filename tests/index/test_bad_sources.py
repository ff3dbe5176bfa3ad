"""Sources that send nonsense: nobody is merged, nobody's look-up grows, and who was registered rightly is still found."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import replace

import pytest
from django.db import connection

from lianxin.access.errors import Invalid
from lianxin.index import sources, store, upkeep
from lianxin.index.kit import bad
from lianxin.index.match.model import POLICY
from lianxin.index.models import CrowdedKey, ReviewItem
from lianxin.index.registry import Registration, register, register_many
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.factories import make_institution, make_resident_id
from tests.index.conftest import SYSTEM

FEW = POLICY["crowd"]
"""More people than this behind one key say nothing: no registration ever meets more than a few such crowds."""


@pytest.fixture
def met(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Persons that each look-up of a registration brought up, in order."""
    counts: list[int] = []
    look = store.look

    def counted(*given: object, **more: object) -> store.Seen:
        seen = look(*given, **more)  # type: ignore[arg-type]
        counts.extend(len(seen.people.get(n, ())) for n in range(len(given[1])))  # type: ignore[arg-type]
        return seen

    monkeypatch.setattr(store, "look", counted)
    return counts


def registered(regs: Iterable[Registration], size: int = 250) -> list[int]:
    """Person of each, registered in batches as they would arrive."""
    every = list(regs)
    out: list[int] = []
    for start in range(0, len(every), size):
        out += [done.person_id for done in register_many(SYSTEM, every[start : start + size])]
    return out


def flagged(institution: Institution) -> set[str]:
    """Kinds of what the newest reading of the sources finds wrong with an institution."""
    with connection.cursor() as cur:
        sources.refresh(cur)
    return {flag.kind for flag in sources.flags(institution_id=institution.pk)}


def open_reviews() -> int:
    return ReviewItem.objects.filter(state="open").count()


@pytest.mark.django_db
def test_a_day_of_nameless_patients_is_as_many_people_and_asks_nobody(
    here: Institution, met: list[int]
) -> None:
    people = registered(bad.nameless(here.pk, 1500, clock.today()))
    assert len(set(people)) == len(people)
    assert open_reviews() == 0
    assert max(met) <= FEW
    assert sum(met[-250:]) == 0
    assert "placeholder" in flagged(here)


@pytest.mark.django_db
def test_registrations_with_nothing_but_a_common_name_stay_apart(here: Institution, met: list[int]) -> None:
    people = registered(bad.only_a_name(here.pk, 1000))
    assert len(set(people)) == len(people)
    assert open_reviews() == 0
    assert max(met) <= FEW
    with pytest.raises(Invalid) as refused:
        register(SYSTEM, Registration(here.pk, bad.SYSTEM, "empty", " "))
    assert "name" in refused.value.errors


@pytest.mark.django_db
def test_one_phone_on_everybody_links_nobody_and_becomes_a_crowd(here: Institution, met: list[int]) -> None:
    everybody = list(bad.one_phone(here.pk, 1200))
    people = registered(everybody)
    assert len(set(people)) == len(people)
    assert open_reviews() <= len(people) // 50
    assert max(met) <= FEW * 3
    assert "phone_crowd" in flagged(here)
    # The same people again at a place that knows their own numbers: each is found or asked about, none taken for another.
    there = make_institution()
    again = registered(
        replace(reg, institution_id=there.pk, id_no=right.id_no, id_type="01")
        for reg, right in zip(everybody[:300], bad.clean(there.pk, 1200), strict=False)
    )
    for mine, other in zip(people[:300], again, strict=True):
        assert mine == other or other not in people


@pytest.mark.django_db
def test_the_doctors_number_on_everybody_is_noticed_and_drags_nobody_along(
    here: Institution, met: list[int]
) -> None:
    doctor = next(p for p in bad.people_of(400, 5) if 1970 <= p.birth_date.year <= 1980)
    people = registered(bad.doctors_number(here.pk, 1200, doctor.id_no))
    assert len(set(people)) == len(people)
    assert max(met) <= FEW * 3
    assert open_reviews() <= FEW * 2
    # Of the look-ups after the crowd was noticed, none drags it along.
    assert sum(met[-250:]) / 250 < 20
    assert CrowdedKey.objects.exists()
    assert "id_crowd" in flagged(here)
    # Noticed, the number says nothing any more: new people who come with it meet nobody through it. (A process hears of it
    # with its next look-up.)
    register(SYSTEM, Registration(here.pk, bad.SYSTEM, "next", "甄后来"))
    later = registered(
        replace(reg, local_id=f"late{n}")
        for n, reg in enumerate(bad.doctors_number(here.pk, 200, doctor.id_no, seed=6))
    )
    assert len(set(later)) == len(later)


@pytest.mark.django_db
def test_a_number_that_many_bear_is_asked_about_a_few_times_and_the_self_check_knows(
    here: Institution,
) -> None:
    number = make_resident_id(dt.date(1980, 2, 3), 451)
    people = registered(
        Registration(here.pk, bad.SYSTEM, f"D{n}", name, "male", id_type="01", id_no=number)
        for n, name in enumerate(
            ("赵安宁", "钱文涛", "孙国强", "李建平", "周志远", "吴明德", "郑海波", "陈子轩")
        )
    )
    assert len(set(people)) == 8
    assert 1 <= open_reviews() <= 4
    assert upkeep.check() == []


@pytest.mark.django_db
def test_records_from_the_future_are_taken_and_link_nobody(here: Institution, met: list[int]) -> None:
    people = registered(bad.future(here.pk, 400, clock.today()))
    assert len(set(people)) == len(people)
    assert "future" in flagged(here)
    born_later = Registration(here.pk, bad.SYSTEM, "late", "王小明", "male", dt.date(2150, 1, 1))
    assert register(SYSTEM, born_later).created


@pytest.mark.django_db
def test_good_registrations_are_found_among_the_bad(here: Institution) -> None:
    registered(bad.nameless(here.pk, 300, clock.today()))
    registered(bad.doctors_number(here.pk, 300, bad.people_of(400, 5)[200].id_no, seed=2))
    good = list(bad.clean(here.pk, 100, seed=9, system="good"))
    people = registered(good)
    there = make_institution()
    again = registered(replace(reg, institution_id=there.pk, phone="") for reg in good)
    assert again == people
    assert len(set(people)) == len(people)
