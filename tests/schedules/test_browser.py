"""The board by keyboard, a clinic stopped in two steps, and every page of the room looked at by axe on a desktop and a phone."""

from __future__ import annotations

import datetime as dt

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Browser, Page, expect

from lianxin.pool.models import Session
from lianxin.standards import clock
from tests.schedules import world as worlds

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

QUICK = {"resultTypes": ["violations"]}


def _faults(axe: Axe, page: Page, width: int) -> list[object]:
    page.set_viewport_size({"width": width, "height": 900})
    found: list[object] = [
        (page.url, width, v["id"], [n["html"][:120] for n in v["nodes"][:2]])
        for v in axe.run(page, options=QUICK).response["violations"]
    ]
    if page.evaluate("document.documentElement.scrollWidth") > width:
        found.append((page.url, width, "wider than the screen"))
    return found


def test_a_clinic_is_stopped_by_keyboard(browser: Browser, live: str) -> None:
    world = worlds.build()
    noon = clock.now().replace(hour=12, minute=0, second=0, microsecond=0)
    monday = (noon - dt.timedelta(days=noon.weekday())) + dt.timedelta(weeks=1)
    first = world.session(monday.replace(hour=8), opens_at=noon - dt.timedelta(days=2))
    second = world.session(monday.replace(hour=14), opens_at=noon - dt.timedelta(days=2))
    surgery = world.county.departments["surgery"]
    third = world.session(monday.replace(hour=8), department=surgery, opens_at=noon - dt.timedelta(days=2))
    visit = world.book(third, world.patient("占停诊"))
    today = world.session(noon.replace(hour=0), ends_at=noon.replace(hour=0) + dt.timedelta(days=1), opens_at=noon - dt.timedelta(days=2))  # fmt: skip
    here = world.book(today, world.patient("占今日"))
    context = browser.new_context(locale="zh-CN", viewport={"width": 1440, "height": 900})
    cookie = world.client("desk").cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live}])
    page, axe = context.new_page(), Axe()
    faults: list[object] = []
    page.on("pageerror", lambda error: faults.append(("error", str(error))))

    page.goto(f"{live}/schedules?week={monday:%Y-%m-%d}")
    faults += _faults(axe, page, 390) + _faults(axe, page, 1440)
    slots = page.locator("[data-slot]")
    expect(slots).to_have_count(3)

    def focused() -> str:
        return str(page.evaluate("document.activeElement.getAttribute('href')"))

    page.keyboard.press("ArrowRight")
    start = focused()
    order = {f"/schedules/sessions/{s.pk}": s for s in (first, second, third)}
    assert start in order
    seen = {start}
    for key in ("ArrowRight", "ArrowLeft", "ArrowDown", "ArrowUp", "ArrowDown"):
        page.keyboard.press(key)
        seen.add(focused())
    assert seen >= {f"/schedules/sessions/{s.pk}" for s in (first, third)}
    page.locator(f'[href="/schedules/sessions/{third.pk}"]').focus()
    page.keyboard.press("+")
    page.wait_for_url("**/schedules/sessions/*?act=extra*")
    faults += _faults(axe, page, 390)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.go_back()

    page.locator(f'[href="/schedules/sessions/{third.pk}"]').focus()
    page.keyboard.press("s")  # one
    expect(page.get_by_text("占停诊")).to_be_visible()
    faults += _faults(axe, page, 390)
    page.get_by_role("button", name="医生请假").click()  # two
    page.wait_for_url("**/schedules/stops/*")
    expect(page.get_by_text("待改约")).to_be_visible()
    faults += _faults(axe, page, 390)
    assert Session.objects.get(pk=third.pk).status == "stopped"
    assert visit.number in page.content()

    for path in (
        f"/desk/today?session={today.pk}",
        f"/pools?person={here.person.number}",
        f"/pools/slips/{here.number}",
    ):
        answer = page.goto(live + path)
        assert answer is not None
        assert answer.status == 200, path
        faults += _faults(axe, page, 390)
    context.close()
    assert faults == []
