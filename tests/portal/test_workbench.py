"""The workbench, drawn from real duties of a small machine."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.test import Client

from lianxin.access import relationships
from lianxin.duty import kernel, machine
from lianxin.duty.models import Case, Duty, Notice
from lianxin.index.models import Person
from lianxin.standards import clock
from tests.duty import toy
from tests.portal.conftest import Town


@pytest.fixture
def case(town: Town) -> Case:
    """A reading asked by the first township of the lead hospital, three days ago: its first duty is late."""
    machine.register(toy.MACHINE)
    person = Person.objects.unscoped("test").create(
        number="3000000015", card_number="C2", name="翟玉兰", sex="female", birth_date=dt.date(1948, 3, 4)
    )
    township, lead = town.county.townships[0], town.county.lead
    relationships.grant(person.pk, township.pk, "home", "home:test")
    with clock.at(clock.now() - dt.timedelta(days=6)):
        done = kernel.open_case(
            "toy", person.pk, town.scope("gp0"), {"note": "请阅片"}, "portal-1",
            parties={"asker": township.pk, "reader": lead.pk, "hub": lead.pk},
        )  # fmt: skip
    return done.case


def test_a_duty_stands_with_who_what_when_and_one_button(case: Case, as_: Callable[..., Client]) -> None:
    page = as_("desk").get("/").content.decode()
    assert "翟玉兰" in page
    assert "接收申请" in page
    assert "已超时" in page
    assert page.count("data-act") == 1
    assert f"{case.number}/act/take" in page
    assert "其中 1 件已超时" in page
    assert "都办完了" in as_("surgeon").get("/").content.decode()


def test_who_waits_sees_what_the_other_owes_without_its_button(
    case: Case, as_: Callable[..., Client]
) -> None:
    page = as_("gp0").get("/waiting").content.decode()
    assert "翟玉兰" in page
    assert "县人民医院" in page
    assert "/act/take" not in page
    assert "翟玉兰" not in as_("gp1").get("/waiting").content.decode()


def test_the_office_follows_late_duties_with_names_masked(case: Case, as_: Callable[..., Client]) -> None:
    page = as_("manager").get("/overdue").content.decode()
    assert "翟**" in page
    assert "翟玉兰" not in page


def test_a_duty_is_taken_and_given_back(case: Case, as_: Callable[..., Client], town: Town) -> None:
    duty = Duty.objects.unscoped("test").get(case=case, ended="")
    desk = as_("desk")
    desk.post(f"/duties/{duty.pk}/claim")
    assert "我已认领" in desk.get("/").content.decode()
    refused = as_("gp1").post(f"/duties/{duty.pk}/claim", follow=True)
    assert "不属于您的机构" in refused.content.decode()
    desk.post(f"/duties/{duty.pk}/claim", {"release": "1"})
    duty.refresh_from_db()
    assert duty.owner_account_id is None


def test_notices_are_counted_on_the_bell_and_read(case: Case, as_: Callable[..., Client]) -> None:
    desk = as_("desk")
    assert Notice.objects.filter(case=case).exists()
    page = desk.get("/notices").content.decode()
    assert case.number in page
    assert "条未读" in page
    desk.post("/notices/read")
    assert "没有未读通知" in desk.get("/notices").content.decode()
    assert case.number in desk.get("/notices?show=all").content.decode()
