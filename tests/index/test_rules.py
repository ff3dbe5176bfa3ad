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
        ({"phone": "13911112222"}, {"phone": "+86 139-1111-2222"}, "linked", True),
        ({"id_no": MINE, "phone": "13911112222"}, {"phone": "13911112222"}, "linked", True),
        ({"address": "大同县城关镇南街7号"}, {"address": "大同县城关镇 南街7号"}, "linked", True),
        ({"division": "630121", "village": "上庄村"}, {"division": "630121", "village": "上庄村"}, "linked", True),
        # a homophone with the same own number, or the same phone and birth date: one person, by the learned weights
        ({"id_no": MINE}, {"id_no": MINE, "name": "善雄信"}, "linked", True),
        ({"phone": "13911112222"}, {"phone": "13911112222", "name": "善雄信"}, "linked", True),
        ({"phone": "13911112222"}, {"phone": "13911112222", "name": "程咬金"}, "new", False),
        ({"name": "买买提·艾力", "phone": "13911112222"}, {"name": "买买提艾力", "phone": "13911112222"}, "linked", True),
    ],
)  # fmt: skip
def test_decisions(reg: Reg, first: dict, second: dict, decision: str, one: bool) -> None:
    assert _two(reg, first, second) == (decision, one)


def test_two_valid_numbers_are_two_people(reg: Reg) -> None:
    decision, one = _two(
        reg, {"id_no": MINE, "phone": "13911112222"}, {"id_no": OTHER, "phone": "13911112222"}
    )
    assert (decision in ("new", "review"), one) == (True, False)


def test_a_guardians_number_is_not_the_childs_own(reg: Reg) -> None:
    child = {"name": "王小明", "birth_date": dt.date(2020, 3, 1), "id_no": MINE}
    parent, other = register(SYSTEM, reg(id_no=MINE)), register(SYSTEM, reg(**child))
    assert other.person_id != parent.person_id
    assert other.person.id_blind is None
    assert other.person.birth_date == dt.date(2020, 3, 1)


def test_sex_and_birth_date_come_from_the_own_number(reg: Reg) -> None:
    one = register(SYSTEM, reg(sex="unknown", birth_date=None, id_no=MINE))
    assert (one.person.sex, one.person.birth_date) == ("male", BORN)


def test_a_mistyped_number_is_kept_but_not_believed(reg: Reg) -> None:
    wrong = MINE[:-1] + ("1" if MINE[-1] != "1" else "2")
    one = register(SYSTEM, reg(id_no=wrong, phone="13911112222"))
    assert one.person.id_blind is None
    assert one.reasons  # says what was odd


def test_an_e_health_card_links(reg: Reg) -> None:
    one = register(SYSTEM, reg())
    two = register(SYSTEM, reg(card=one.person.card_number, birth_date=None))
    assert (two.decision, two.person_id) == ("linked", one.person_id)
    three = register(SYSTEM, reg(card=one.person.card_number, name="程咬金", birth_date=None))
    assert three.person_id != one.person_id


def test_a_grown_person_may_be_called_xiaobao(reg: Reg) -> None:
    assert _two(reg, {"name": "王小宝", "id_no": MINE}, {"name": "王小宝", "id_no": MINE}) == ("linked", True)


def test_reviews_name_the_pair_once(reg: Reg) -> None:
    a = register(SYSTEM, reg(id_no=MINE))
    other = reg(id_no=MINE, name="程咬金")
    b = register(SYSTEM, other)
    other.phone = "13911112222"
    register(SYSTEM, other)
    item = ReviewItem.objects.get()
    assert {item.person_a_id, item.person_b_id} == {a.person_id, b.person_id}
    assert item.kind in ("same_id", "renamed")
    assert Person.objects.unscoped("test").count() == 2
