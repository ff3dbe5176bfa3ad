"""Who is who: the decisions, one by one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest

from lianxin.index.form import Registration
from lianxin.index.models import Person, ReviewItem
from lianxin.index.registry import register
from tests.factories import make_resident_id
from tests.index.conftest import BORN, SYSTEM

Reg = Callable[..., Registration]
MINE = make_resident_id(BORN, 111)
OTHER = make_resident_id(BORN, 113)
PHONE = "13911112222"
YOUNG = dt.date(2026, 10, 1)
BABY = {"name": "王芳之女", "sex": "female", "birth_date": YOUNG}


def _two(reg: Reg, first: dict, second: dict) -> tuple[str, bool]:
    """(decision about the second, whether it became the first's person)."""
    a = register(SYSTEM, reg(**first))
    b = register(SYSTEM, reg(**second))
    return b.decision, a.person_id == b.person_id


@pytest.mark.parametrize(
    ("first", "second", "decision", "one"),
    [
        ({"id_no": MINE}, {"id_no": MINE.lower()}, "linked", True),
        ({"id_no": MINE}, {"id_no": MINE[:6] + MINE[8:17]}, "linked", True),  # 15 digits
        ({"id_no": MINE}, {"id_no": MINE, "name": "程咬金"}, "review", False),  # a borrowed card
        ({"phone": PHONE}, {"phone": "+86 139-1111-2222"}, "linked", True),
        ({"id_no": MINE, "phone": PHONE}, {"phone": PHONE}, "linked", True),
        ({"address": "大同县城关镇南街7号"}, {"address": "大同县城关镇 南街7号"}, "linked", True),
        ({"division": "630121", "village": "上庄村"}, {"division": "630121", "village": "上庄村"}, "linked", True),
        # a slip in one field, beside the same own number or the same phone, is one person by the learned weights
        ({"id_no": MINE}, {"id_no": MINE, "name": "善雄信"}, "linked", True),
        ({"id_no": MINE}, {"id_no": MINE, "sex": "female"}, "linked", True),
        ({"phone": PHONE}, {"phone": PHONE, "name": "善雄信"}, "linked", True),
        ({"phone": PHONE}, {"phone": PHONE, "birth_date": dt.date(1969, 5, 18)}, "linked", True),
        ({"phone": PHONE}, {"phone": PHONE, "sex": "female"}, "linked", True),
        # two slips, or another name, are somebody else of the house
        ({"phone": PHONE}, {"phone": PHONE, "sex": "female", "birth_date": dt.date(1975, 5, 18)}, "new", False),
        ({"phone": PHONE}, {"phone": PHONE, "name": "程咬金"}, "new", False),
        # a rare name born that very day is one in 150,000 people, wherever it moved; a common one in a year is nobody
        ({}, {}, "linked", True),
        ({"phone": PHONE, "address": "甲乡丙村十一号"}, {"phone": "13933334444", "address": "乙乡丁村九十号"}, "linked", True),
        ({"name": "王芳", "phone": PHONE}, {"name": "王芳", "phone": "13933334444", "birth_date": dt.date(1969, 9, 2)}, "new", False),
        ({"name": "买买提·艾力", "phone": PHONE}, {"name": "买买提艾力", "phone": PHONE}, "linked", True),
        # nobody's name: the own number says who it is, a phone does not
        ({"name": "无名氏", "id_no": MINE}, {"name": "无名氏", "id_no": MINE}, "linked", True),
        ({"name": "无名氏", "phone": PHONE}, {"name": "无名氏", "phone": PHONE}, "review", False),
        # a newborn is known by its cradle: the phone of the house counts two signs, the mother's name one
        (BABY | {"phone": PHONE}, BABY | {"phone": PHONE}, "linked", True),
        (BABY, BABY, "review", False),
        (BABY | {"phone": PHONE}, BABY | {"phone": PHONE, "name": "王安安"}, "linked", True),
        (BABY | {"phone": PHONE}, BABY | {"phone": PHONE, "name": "王安安", "sex": "male"}, "new", False),
        (BABY | {"phone": PHONE}, {"phone": PHONE}, "new", False),
        # a death is news, not a contradiction: other sources go on until they hear of it
        ({"phone": PHONE, "deceased_on": dt.date(2020, 1, 1)}, {"phone": PHONE}, "linked", True),
    ],
)  # fmt: skip
def test_decisions(reg: Reg, first: dict, second: dict, decision: str, one: bool) -> None:
    assert _two(reg, first, second) == (decision, one)


def test_two_valid_numbers_are_two_people(reg: Reg) -> None:
    assert _two(reg, {"id_no": MINE, "phone": PHONE}, {"id_no": OTHER, "phone": PHONE}) == ("review", False)
    assert ReviewItem.objects.get().kind == "two_numbers"


def test_a_filler_phone_says_nothing(reg: Reg) -> None:
    register(SYSTEM, reg(phone="13800138000"))
    again = register(SYSTEM, reg(phone="13800138000"))
    assert not [r for r in again.reasons if r.startswith("phone.")]
    assert not again.person.phone_blind


def test_a_guardians_number_is_not_the_childs_own(reg: Reg) -> None:
    child = {"name": "王小明", "birth_date": dt.date(2020, 3, 1), "id_no": MINE}
    parent, other = register(SYSTEM, reg(id_no=MINE)), register(SYSTEM, reg(**child))
    assert other.person_id != parent.person_id
    assert other.decision == "new"
    assert "id_not_own" in other.reasons
    assert other.person.id_blind is None
    assert other.person.birth_date == dt.date(2020, 3, 1)


def test_sex_and_birth_date_come_from_the_own_number(reg: Reg) -> None:
    one = register(SYSTEM, reg(sex="unknown", birth_date=None, id_no=MINE))
    assert (one.person.sex, one.person.birth_date) == ("male", BORN)


def test_a_mistyped_number_is_kept_but_not_believed(reg: Reg) -> None:
    wrong = MINE[:-1] + ("1" if MINE[-1] != "1" else "2")
    one = register(SYSTEM, reg(id_no=wrong, phone=PHONE))
    assert one.person.id_blind is None
    assert "id_invalid" in one.reasons


def test_an_e_health_card_links(reg: Reg) -> None:
    one = register(SYSTEM, reg())
    two = register(SYSTEM, reg(card=one.person.card_number, birth_date=None))
    assert (two.decision, two.person_id) == ("linked", one.person_id)
    three = register(SYSTEM, reg(card=one.person.card_number, name="程咬金", birth_date=None))
    assert (three.decision, three.person_id != one.person_id) == ("new", True), "a lent card is no new name"


def test_a_grown_person_may_be_called_xiaobao(reg: Reg) -> None:
    assert _two(reg, {"name": "王小宝", "id_no": MINE}, {"name": "王小宝", "id_no": MINE}) == ("linked", True)


def test_reviews_name_the_pair_once(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE))
    other = reg(id_no=MINE, name="程咬金")
    b = register(SYSTEM, other)
    other.phone = PHONE
    register(SYSTEM, other)
    item = ReviewItem.objects.get()
    assert {item.person_a_id, item.person_b_id} == {a.person_id, b.person_id}
    assert item.kind == "renamed"
    assert Person.objects.unscoped("test").count() == 2
