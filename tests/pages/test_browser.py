"""The referral's journey through the pages in a real browser: desktop and phone, both languages, a quiet console."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lianxin.access.models import Account
from lianxin.standards import codes
from tests.referral import world as worlds

PASSWORD = "Quiet-River-2026"


@pytest.fixture
def county(live: str) -> Iterator[tuple[str, worlds.World]]:
    """A served county whose people can sign in; the clock is the real one."""
    codes.load_shipped()
    world = worlds.build()
    for name in ("gp0", "desk", "surgeon"):
        account = Account.objects.get(pk=world[name].account_id)
        account.username = name
        account.set_password(PASSWORD)
        account.save()
    world.session(days=2)
    return live, world


def _enter(browser: Any, live: str, name: str, width: int, language: str, noise: list[str]) -> Any:
    context = browser.new_context(viewport={"width": width, "height": 900}, timezone_id="Asia/Shanghai")
    context.add_cookies([{"name": "lianxin_lang", "value": language, "url": live}])
    page = context.new_page()
    page.on("console", lambda m: noise.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: noise.append(str(e)))
    page.goto(f"{live}/login")
    page.fill("[name=username]", name)
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_url(f"{live}/")
    return page


@pytest.mark.browser
@pytest.mark.parametrize(("width", "language"), [(1440, "zh-hans"), (390, "en")])
def test_a_referral_goes_through_the_pages(
    browser: Any, county: tuple[str, worlds.World], width: int, language: str
) -> None:
    live, world = county
    noise: list[str] = []
    gp = _enter(browser, live, "gp0", width, language, noise)

    # Three keystrokes and Enter find the person.
    gp.goto(f"{live}/people")
    gp.type("#q", "sxx")
    gp.wait_for_selector("[data-hit]")
    gp.keyboard.press("ArrowDown")
    gp.keyboard.press("Enter")
    gp.wait_for_selector("#chart")
    gp.click("#chart-tabs a >> nth=1")
    gp.wait_for_selector("#kind-Encounter", state="attached")

    # Diagnosis by initials, facts, the catalogue's answer, receiver, pack, consent, send.
    gp.goto(f"{live}/referrals/new?person={world.person.number}")
    gp.type("#dx", "E04.1")
    gp.wait_for_selector(".coding-option")
    gp.keyboard.press("Enter")
    gp.wait_for_selector("[name=fact_tirads]")
    gp.fill("[name=fact_tirads]", "4")
    gp.press("[name=fact_tirads]", "Tab")
    gp.wait_for_selector(".answer-refer_up")
    gp.check(f"[name=to_institution][value={world.county.lead.code}]")
    for code, words in worlds.PACK.items():
        gp.fill(f"[name=pack_{code}]", words)
    gp.check("[name=consent]")
    gp.click("[name=_send]")
    gp.wait_for_selector(".stand")
    number = gp.url.split("/referrals/")[1].split("?")[0]
    assert world.state(number) == "submitted"

    # The desk acts from its list by keyboard and from the page, in place.
    desk = _enter(browser, live, "desk", width, language, noise)
    desk.goto(f"{live}/desk/receiving")
    desk.keyboard.press("j")
    desk.keyboard.press("1")
    desk.wait_for_selector(".desk-here .act-open button")
    desk.click(".desk-here .act-open button:not(.act-close)")
    desk.wait_for_load_state()
    assert world.state(number) == "received"
    desk.goto(f"{live}/referrals/{number}")
    desk.click(".acts a[href*='act=accept#']")
    desk.wait_for_selector("#act-here form")
    desk.click("#act-here form button")
    desk.wait_for_selector(".acts a[href*='act=book#']")
    desk.click(".acts a[href*='act=book#']")
    desk.wait_for_selector(".number-choice")
    desk.check(".number-choice input >> nth=0")
    desk.click("#act-here form button")
    desk.wait_for_selector(".booking")
    assert world.state(number) == "booked"

    for page in (gp, desk):
        page.goto(f"{live}/referrals/{number}")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, "the page runs off its side"
    assert noise == []
