"""Who is who: the decisions, one by one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest

from lianxin.index.facts import Registration, facts_of
from lianxin.index.models import Person, ReviewItem
from lianxin.index.registry import register
from tests.factories import make_resident_id
from tests.index.conftest import BORN, SYSTEM

Reg = Callable[..., Registration]
MINE = make_resident_id(BORN, 111)
OTHER = make_resident_id(BORN, 113)


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
        ({"id_no": MINE}, {"id_no": MINE, "name": "善雄信"}, "review", False),  # sounds alike
        ({"id_no": MINE}, {"id_no": MINE, "sex": "female"}, "review", False),
        ({"id_no": MINE, "phone": "13911112222"}, {"id_no": OTHER, "phone": "13911112222"}, "new", False),
        ({"phone": "13911112222"}, {"phone": "+86 139-1111-2222"}, "linked", True),
        ({"id_no": MINE, "phone": "13911112222"}, {"phone": "13911112222"}, "linked", True),
        ({"address": "大同县城关镇南街7号"}, {"address": "大同县城关镇 南街7号"}, "linked", True),
        ({"division": "630121", "village": "上庄村"}, {"division": "630121", "village": "上庄村"}, "linked", True),
        ({"phone": "13911112222"}, {"phone": "13911112222", "name": "善雄信"}, "review", False),
        ({"phone": "13911112222"}, {"phone": "13911112222", "birth_date": dt.date(1969, 5, 18)}, "new", False),
        ({"phone": "13911112222"}, {"phone": "13911112222", "sex": "female"}, "new", False),
        ({"phone": "13800138000"}, {"phone": "13800138000"}, "review", False),  # a filler says nothing
        ({}, {}, "review", False),
        ({"phone": "13911112222", "address": "甲乡丙村十一号"}, {"phone": "13933334444", "address": "乙乡丁村九十号"}, "new", False),
        ({"name": "买买提·艾力", "phone": "13911112222"}, {"name": "买买提艾力", "phone": "13911112222"}, "linked", True),
        ({"name": "无名氏", "id_no": MINE}, {"name": "无名氏", "id_no": MINE}, "review", False),
        ({"name": "无名氏", "phone": "13911112222"}, {"name": "无名氏", "phone": "13911112222"}, "new", False),
        ({"name": "王芳之子", "phone": "13911112222"}, {"name": "王芳之子", "phone": "13911112222"}, "review", False),
        ({"name": "王芳之子", "phone": "13911112222"}, {"name": "王小明", "phone": "13911112222"}, "new", False),
        ({"phone": "13911112222", "deceased_on": dt.date(2020, 1, 1)}, {"phone": "13911112222"}, "review", False),
    ],
)  # fmt: skip
def test_decisions(reg: Reg, first: dict, second: dict, decision: str, one: bool) -> None:
    assert _two(reg, first, second) == (decision, one)


def test_a_guardians_number_is_not_the_childs_own(reg: Reg) -> None:
    child = {"name": "王小明", "birth_date": dt.date(2020, 3, 1), "id_no": MINE}
    facts = facts_of(reg(**child))
    assert facts.id_blind is None
    assert facts.birth_date == dt.date(2020, 3, 1)
    assert any("监护人" in note for note in facts.notes)
    assert _two(reg, {"id_no": MINE}, child) == ("new", False)


def test_sex_and_birth_date_come_from_the_own_number(reg: Reg) -> None:
    facts = facts_of(reg(sex="unknown", birth_date=None, id_no=MINE))
    assert (facts.sex, facts.birth_date) == ("male", BORN)


def test_a_mistyped_number_is_kept_but_not_believed(reg: Reg) -> None:
    wrong = MINE[:-1] + ("1" if MINE[-1] != "1" else "2")
    one = register(SYSTEM, reg(id_no=wrong, phone="13911112222"))
    assert one.person.id_blind is None
    assert any("校验码" in r for r in one.reasons)


def test_an_e_health_card_links(reg: Reg) -> None:
    one = register(SYSTEM, reg())
    two = register(SYSTEM, reg(card=one.person.card_number, birth_date=None))
    assert (two.decision, two.person_id) == ("linked", one.person_id)
    three = register(SYSTEM, reg(card=one.person.card_number, name="程咬金", birth_date=None))
    assert three.decision == "review"


def test_a_grown_person_may_be_called_xiaobao(reg: Reg) -> None:
    assert _two(reg, {"name": "王小宝", "id_no": MINE}, {"name": "王小宝", "id_no": MINE}) == ("linked", True)


def test_the_newborn_gets_a_name(reg: Reg) -> None:
    young = dt.date(2026, 10, 1)
    first = {"name": "王芳之女", "sex": "female", "birth_date": young, "phone": "13911112222"}
    named = {"name": "王安安", "sex": "female", "birth_date": young, "phone": "13911112222"}
    # Another name sounds otherwise, so the look-up by sound does not meet it: two people until a human says more.
    assert _two(reg, first, named) == ("new", False)


def test_reviews_name_the_pair_once(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE))
    other = reg(id_no=MINE, name="程咬金")
    b = register(SYSTEM, other)
    other.phone = "13911112222"
    register(SYSTEM, other)
    item = ReviewItem.objects.get()
    assert {item.person_a_id, item.person_b_id} == {a.person_id, b.person_id}
    assert item.kind == "same_id"
    assert Person.objects.unscoped("test").count() == 2
