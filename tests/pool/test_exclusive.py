"""Beds and theatres: one claim at a time, whatever the clock says; refusals in words with other beds."""

from __future__ import annotations

import datetime as dt
from itertools import count
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from psycopg.types.range import Range

from lianxin.index.models import Person
from lianxin.network.models import Department
from lianxin.pool import exclusive
from lianxin.pool.errors import KeyReused, NotPossible
from lianxin.pool.exclusive import HasOne, Taken
from lianxin.pool.models import Claim, Resource
from lianxin.standards import clock
from tests.factories import make_department, make_institution

from .test_booking import at, make_person

pytestmark = pytest.mark.django_db
_serial = count(1)


def ward() -> Department:
    return make_department(make_institution(kind="hospital"))


def bed(department: Department | None = None, **fields: Any) -> Resource:
    department = department or ward()
    number = next(_serial)
    defaults = {
        "institution": department.institution, "department": department, "kind": "bed", "code": f"{number:02d}",
        "name": f"{number} 床",
    }  # fmt: skip
    return Resource.objects.create(**defaults | fields)


def state(claim: Claim) -> str:
    return Claim.objects.unscoped("test").get(pk=claim.pk).state


def free(resource: Resource, since: dt.datetime, until: dt.datetime, **wishes: str) -> bool:
    return resource in exclusive.find("bed", [resource.institution_id], since, until, **wishes)


def test_a_bed_goes_from_free_to_free() -> None:
    one = bed()
    with clock.at(at(2, 9)):
        claim = exclusive.hold(one.pk, make_person(), at(2, 9), at(6, 9), "a")
        assert claim.expires_at == at(2, 11)
        assert not free(one, at(3, 9), at(4, 9))
        exclusive.assign(claim)
        assert exclusive.assign(claim).state == "assigned"
        assert exclusive.occupy(claim).state == "occupied"
        assert exclusive.standing([one])[one.pk].state == "occupied"
    with clock.at(at(4, 9)):
        left = exclusive.vacate(claim)
        assert (left.state, left.during.upper) == ("ended", at(4, 9))
        cleaning = exclusive.standing([one])[one.pk].claim
        assert cleaning is not None
        assert (cleaning.state, cleaning.person_id) == ("cleaning", None)
        exclusive.vacate(claim)
        exclusive.clean(cleaning)
        assert exclusive.standing([one])[one.pk].state == "free"
        assert free(one, at(4, 10), at(9, 9))
    assert exclusive.recount() == []


def test_a_hold_that_ran_out_is_no_longer_in_the_way() -> None:
    one, person = bed(), make_person()
    with clock.at(at(2, 9)):
        old = exclusive.hold(one.pk, make_person(), at(2, 9), at(6, 9), "old", minutes=30)
    with clock.at(at(2, 10)):
        assert free(one, at(2, 10), at(3, 10))
        with pytest.raises(NotPossible, match="过期"):
            exclusive.assign(old)
        new = exclusive.book(one.pk, person, at(2, 10), at(4, 9), "new")
        assert (state(old), new.state) == ("cancelled", "assigned")
        with pytest.raises(NotPossible, match="过期"):
            exclusive.occupy(old)


def test_the_patients_own_lapsed_hold_does_not_keep_them_from_another_bed() -> None:
    here, there, person = bed(), bed(), make_person()
    with clock.at(at(2, 9)):
        exclusive.hold(here.pk, person, at(2, 9), at(6, 9), "one")
        with pytest.raises(HasOne) as told:
            exclusive.book(there.pk, person, at(3, 9), at(4, 9), "two")
        assert told.value.claim is not None
    with clock.at(at(2, 12)):
        assert exclusive.book(there.pk, person, at(3, 9), at(4, 9), "two").state == "assigned"


def test_taken_says_when_and_offers_three_others_of_the_kind() -> None:
    where = ward()
    one = bed(where, sex="female")
    same = [bed(where, sex="female") for _ in range(4)]
    bed(where, sex="male")
    with clock.at(at(2, 9)):
        exclusive.book(one.pk, make_person(), at(2, 9), at(6, 9), "a")
        with pytest.raises(Taken) as told:
            exclusive.hold(one.pk, make_person(), at(3, 9), at(4, 9), "b")
    assert told.value.alternatives == same[:3]
    assert "11-02 09:00" in told.value.text.zh
    assert "测试" not in told.value.text.zh


def test_planned_admissions_stand_side_by_side() -> None:
    one, person = bed(), make_person()
    with clock.at(at(2, 9)):
        now = exclusive.book(one.pk, make_person(), at(2, 9), at(5, 12), "a")
        exclusive.occupy(now)
        later = exclusive.book(one.pk, person, at(5, 14), at(9, 12), "b")
        with pytest.raises(Taken):
            exclusive.book(one.pk, make_person(), at(4, 0), at(5, 15), "c")
        with pytest.raises(Taken, match="已有安排"):
            exclusive.extend(now, at(5, 15))
        assert exclusive.extend(now, at(5, 14)).during.upper == at(5, 14)
        with pytest.raises(NotPossible):
            exclusive.extend(now, at(1, 14))
        assert exclusive.standing([one])[one.pk].next == later


def test_an_overstay_still_occupies_and_the_next_is_told_in_words() -> None:
    one = bed()
    with clock.at(at(2, 9)):
        first = exclusive.book(one.pk, make_person(), at(2, 9), at(5, 12), "a")
        exclusive.occupy(first)
        second = exclusive.book(one.pk, make_person(), at(5, 14), at(9, 12), "b")
    with clock.at(at(5, 15)):
        standing = exclusive.standing([one])[one.pk]
        assert (standing.state, standing.overdue) == ("occupied", True)
        assert not free(one, at(5, 15), at(5, 16))
        with pytest.raises(Taken, match="尚未办理离开"):
            exclusive.occupy(second)
        with pytest.raises(Taken):
            exclusive.extend(first, at(6, 9))
        exclusive.vacate(first)
        with pytest.raises(Taken, match="清洁"):
            exclusive.occupy(second)
        cleaning = exclusive.standing([one])[one.pk].claim
        assert cleaning is not None
        exclusive.clean(cleaning)
    with clock.at(at(5, 16)):
        assert exclusive.occupy(second).state == "occupied"
    assert exclusive.recount() == []


def test_somebody_who_overstays_cannot_lie_in_a_second_bed() -> None:
    one, other, person = bed(), bed(), make_person()
    with clock.at(at(2, 9)):
        exclusive.occupy(exclusive.book(one.pk, person, at(2, 9), at(3, 9), "a"))
    with clock.at(at(4, 9)):
        planned = exclusive.book(other.pk, person, at(4, 9), at(6, 9), "b")
        with pytest.raises(HasOne):
            exclusive.occupy(planned)


def test_moving_to_another_bed_cleans_the_old_and_keeps_the_case() -> None:
    one, other = bed(), bed()
    with clock.at(at(2, 9)):
        claim = exclusive.book(one.pk, make_person(), at(2, 9), at(8, 9), "a", case_id=7)
        exclusive.occupy(claim)
    with clock.at(at(3, 9)):
        moved = exclusive.move(claim, other.pk, "m")
        assert exclusive.move(claim, other.pk, "m") == moved
        assert (moved.state, moved.case_id, moved.during.upper) == ("occupied", 7, at(8, 9))
        assert exclusive.standing([one])[one.pk].state == "cleaning"
        planned = exclusive.book(one.pk, make_person(), at(5, 9), at(6, 9), "p")
        with pytest.raises(Taken):
            exclusive.move(planned, other.pk, "n")
        assert state(planned) == "assigned", "both or neither"
    assert exclusive.recount() == []


def test_sex_age_grade_and_isolation_are_part_of_the_question() -> None:
    where = ward()
    women = bed(where, sex="female")
    child = bed(where, age="child")
    icu = bed(where, grade="icu")
    pressure = bed(where, isolation="airborne")
    plain = bed(where)
    window = (at(2, 9), at(3, 9))
    with clock.at(at(2, 9)):
        found = exclusive.find("bed", [where.institution_id], *window)
        assert found == [plain]
        assert set(exclusive.find("bed", [where.institution_id], *window, sex="female")) == {women, plain}
        assert set(exclusive.find("bed", [where.institution_id], *window, age="child")) == {child, plain}
        assert exclusive.find("bed", [where.institution_id], *window, grade="icu") == [icu]
        assert exclusive.find("bed", [where.institution_id], *window, isolation="airborne") == [pressure]
        man = make_person()
        Person.objects.unscoped("test").filter(pk=man).update(sex="male", birth_date=dt.date(1980, 1, 1))
        with pytest.raises(NotPossible, match="性别"):
            exclusive.book(women.pk, man, *window, "w")
        with pytest.raises(NotPossible, match="年龄"):
            exclusive.book(child.pk, man, *window, "c")
        with pytest.raises(ValueError, match="ends before"):
            exclusive.find("bed", [where.institution_id], at(3, 9), at(2, 9))


def test_out_of_use_until_further_notice_and_back() -> None:
    one = bed()
    with clock.at(at(2, 9)):
        claim = exclusive.block(one.pk, at(2, 9), None, "x", "水管维修")
        with pytest.raises(Taken):
            exclusive.hold(one.pk, make_person(), at(20, 9), at(21, 9), "b")
    with clock.at(at(3, 9)):
        assert exclusive.cancel(claim, "").state == "ended"
        assert exclusive.hold(one.pk, make_person(), at(20, 9), at(21, 9), "b").state == "held"


def test_the_same_key_gives_the_same_claim_and_no_other_request_may_use_it() -> None:
    one, other, person = bed(), bed(), make_person()
    with clock.at(at(2, 9)):
        claim = exclusive.hold(one.pk, person, at(2, 9), at(3, 9), "k")
        assert exclusive.hold(one.pk, person, at(2, 9), at(3, 9), "k") == claim
        with pytest.raises(KeyReused):
            exclusive.hold(other.pk, person, at(2, 9), at(3, 9), "k")
        with pytest.raises(NotPossible, match="晚于"):
            exclusive.hold(one.pk, person, at(3, 9), at(3, 9), "z")


def test_what_cannot_be_done_from_where_it_stands_is_refused() -> None:
    one = bed()
    with clock.at(at(2, 9)):
        claim = exclusive.book(one.pk, make_person(), at(2, 9), at(3, 9), "k")
        for verb in (exclusive.vacate, exclusive.clean):
            with pytest.raises(NotPossible):
                verb(claim)
        exclusive.occupy(claim)
        with pytest.raises(NotPossible):
            exclusive.cancel(claim, "x")
        exclusive.vacate(claim)
        with pytest.raises(NotPossible):
            exclusive.occupy(claim)


def test_a_case_gives_back_what_is_not_used_yet() -> None:
    one, other, person = bed(), bed(), make_person()
    with clock.at(at(2, 9)):
        lying = exclusive.book(one.pk, person, at(2, 9), at(3, 9), "a", case_id=5)
        exclusive.occupy(lying)
        planned = exclusive.book(other.pk, person, at(5, 9), at(6, 9), "b", case_id=5)
        assert [c.pk for c in exclusive.of_case(5)] == [lying.pk, planned.pk]
        assert exclusive.cancel_case(5, "withdrawn") == 1
        assert (state(lying), state(planned)) == ("occupied", "cancelled")
        assert exclusive.cancel_case(5, "again") == 0
        assert exclusive.vacate_case(5) == 1
        assert state(lying) == "ended"


def test_the_database_itself_keeps_claims_apart() -> None:
    one = bed()
    with clock.at(at(2, 9)):
        claim = exclusive.book(one.pk, make_person(), at(2, 9), at(6, 9), "a")
    with pytest.raises(IntegrityError), transaction.atomic():
        Claim.objects.create(
            resource=one, kind="bed", institution=one.institution, person_id=make_person(), state="assigned",
            during=Range(at(5, 9), at(7, 9), "[)"), key="raw", made_at=at(2, 9), changed_at=at(2, 9),
        )  # fmt: skip
    Claim.objects.unscoped("test").filter(pk=claim.pk).update(kind="theatre")
    assert exclusive.recount(), "a row that cannot be is found"
