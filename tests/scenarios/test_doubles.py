"""The demonstration's cases for the review desk: some, of several kinds, and never the same registered twice."""

from __future__ import annotations

import datetime as dt
from itertools import islice

import pytest

from lianxin.access.scope import Scope
from lianxin.index.models import Person, ReviewItem
from lianxin.index.registry import Registration, register_many
from lianxin.scenarios import doubles, population, tiantai
from tests.factories import make_institution

DAY = dt.date(2026, 3, 2)


@pytest.mark.django_db
def test_a_handful_of_reviews_waits_and_building_again_changes_nothing() -> None:
    centre, lead = make_institution(), make_institution(code="TT-LEAD", kind="hospital")
    residents = list(islice(population.generate(tiantai.villages(), 400, 7, DAY), doubles.LOOKED_AT))
    register_many(
        Scope.system("test"),
        [
            Registration(
                centre.pk,
                "hie",
                r.local_id,
                r.name,
                r.sex,
                r.birth_date,
                "01",
                r.id_no,
                r.phone,
                r.address,
                r.village.division,
            )
            for r in residents
        ],
    )
    before = Person.objects.unscoped("test").count()
    sent = doubles.register(tiantai.villages(), 400, 7, DAY, lead.code)
    waiting = list(ReviewItem.objects.filter(state="open").values_list("kind", flat=True))
    assert 10 <= sent <= 20
    assert 5 <= len(waiting) <= sent + 4
    assert len(set(waiting)) >= 3
    people = Person.objects.unscoped("test").count()
    assert before < people
    doubles.register(tiantai.villages(), 400, 7, DAY, lead.code)
    assert Person.objects.unscoped("test").count() == people
    assert ReviewItem.objects.filter(state="open").count() == len(waiting)
