"""A township doctor books a bed, a contrast CT and the specialist for one referral, in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from lianxin.access.models import Account
from lianxin.pool import exclusive
from lianxin.pool.models import Place
from lianxin.standards import codes
from tests.pages.test_browser import PASSWORD, _enter
from tests.referral import world as worlds

from .conftest import furnish


@pytest.mark.browser
def test_a_township_doctor_books_bed_ct_and_specialist(browser: Any, live: str) -> None:
    codes.load_shipped()
    world = worlds.build()
    furnish(world)
    account = Account.objects.get(pk=world["gp0"].account_id)
    account.username = "gp0"
    account.set_password(PASSWORD)
    account.save()
    number = world.until("accepted")
    noise: list[str] = []
    gp = _enter(browser, live, "gp0", 390, "zh-hans", noise)
    gp.goto(f"{live}/referrals/{number}")
    gp.wait_for_selector("#joint [data-plan]")
    for name, value in (("exam", "CT-ABDO-C"), ("bed", "1")):
        with gp.expect_response(lambda r: "/plan?" in r.url):
            gp.check(f"#joint [name={name}][value='{value}']")
        gp.wait_for_selector(f"#joint [name={name}][value='{value}']:checked")
    gp.wait_for_selector("#joint-grade")
    assert "最早" in gp.inner_text("#joint [data-plan] >> nth=0")
    gp.fill("#joint [name=witness]", "王见证")
    gp.check("#joint [name=agree]")
    gp.click("#joint [data-plan] button >> nth=0")
    gp.wait_for_selector("#h-plan")
    assert world.state(number) == "booked"
    case = world.case(number).pk
    places = Place.objects.unscoped("test").filter(case_id=case, state="booked")
    assert sorted(p.item for p in places) == ["", "CT-ABDO-C"]
    assert [c.state for c in exclusive.of_case(case)] == ["assigned"]
    for path in (f"/referrals/{number}", "/beds", "/exams"):
        gp.goto(live + path)
        assert gp.evaluate("document.documentElement.scrollWidth") <= 390, f"{path} runs off its side"
    assert noise == []
