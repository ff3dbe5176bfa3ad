"""In a real browser, at the width of a phone: sign in by code, bind, book, see the number; every page by axe, in both languages and sizes."""

from __future__ import annotations

import datetime as dt

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, expect

from lianxin.access.models import ActsFor
from lianxin.resident.card import accounts
from lianxin.resident.phone import corrections
from lianxin.standards import clock
from tests.card import conftest as cards
from tests.phone import world
from tests.phone.test_weight import pages

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
QUICK = {"resultTypes": ["violations"]}
PHONE = {"width": 390, "height": 844}


def cookie(live: str, name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value, "url": live}


def test_a_resident_books_from_signing_in_to_the_number(browser: Browser, live: str) -> None:
    county = world.build()
    cards.build()
    account = accounts.of_phone(cards.PHONE)
    ActsFor.objects.create(account=account, person_id=world.make_person("居试甲", county.clinic).pk, relation="self", since=clock.now() - dt.timedelta(hours=1))  # fmt: skip
    context = browser.new_context(viewport=PHONE, locale="zh-CN", has_touch=True, is_mobile=True)
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.goto(live + "/m/")
    page.get_by_label("手机号码").fill(cards.PHONE)
    page.get_by_role("button", name="获取验证码").click()
    expect(page.get_by_label("6位验证码")).to_be_visible()
    page.get_by_label("6位验证码").fill(cards.last_code())
    page.get_by_role("button", name="登录", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("居试甲")
    page.get_by_role("link", name="挂号", exact=True).click()
    page.get_by_label("哪里不舒服").fill("血压高")
    page.get_by_role("button", name="查找").click()
    page.locator("main .m-list a").first.click()
    page.locator("a.m-number").first.click()
    page.get_by_text("选别的时间").click()
    page.get_by_label("09:48").check()
    page.get_by_role("button", name="确认预约").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("明天 09:48")
    expect(page.locator(".m-pass-seat b").first).to_have_text("4")
    context.close()


def test_every_page_is_accessible_in_both_languages_and_both_sizes(browser: Browser, live: str) -> None:
    county = world.build()
    world.record(county)
    world.fill(county)
    client: Client = county.client()
    client.post(f"/m/numbers/{county.session.pk}/book", {"key": "k"})
    client.post(f"/m/numbers/{county.full.pk}/wait", {"key": "w"})
    visit = client.get("/m/visits").content.decode().partition('href="/m/visits/')[2].partition('"')[0]
    asked = corrections.ask(county.scope, county.me.pk, "Condition/ph-c", "高血压", "没有", "c").case.number
    paths = [*pages(county), f"/m/visits/{visit}", f"/m/visits/{visit}/cancel", f"/m/corrections/{asked}"]
    axe, faults = Axe(), []
    for language, large in (("zh-hans", False), ("en", True)):
        context = browser.new_context(viewport=PHONE)
        cookies = [
            cookie(live, settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value),
            cookie(live, settings.LANGUAGE_COOKIE_NAME, language),
        ]
        context.add_cookies([*cookies, cookie(live, "lianxin_large", "1")] if large else cookies)  # type: ignore[arg-type]
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(("error", str(error))))
        page.on(
            "console",
            lambda said: (
                faults.append(("console", said.text, said.location)) if said.type == "error" else None
            ),
        )
        for path in paths:
            page.set_viewport_size(PHONE)
            page.goto(live + path, wait_until="domcontentloaded")
            for found in axe.run(page, options=QUICK).response["violations"]:
                faults.append((path, language, found["id"], [n["html"][:160] for n in found["nodes"][:3]]))
            # 320 px: a small phone, and 390 px at 200 % is narrower still
            for width in (320, 195) if not large else (320,):
                page.set_viewport_size({"width": width, "height": 600})
                wide = page.evaluate("document.documentElement.scrollWidth")
                if wide > width:
                    faults.append((path, language, width, f"{wide} px wide"))
            small = page.evaluate(
                "[...document.querySelectorAll('a, button, summary, input:not([type=hidden]), select')].filter((e) => { const r = e.getBoundingClientRect();"
                " const inline = e.closest('p, dd, .notice-bar') && e.tagName === 'A' && !e.classList.contains('btn');"
                " return r.width > 1 && !inline && !e.classList.contains('skip-link') && (r.height < 24 || r.width < 24); }).map((e) => e.outerHTML.slice(0, 120))"
            )
            if small:
                faults.append((path, language, "small targets", small[:3]))
        context.close()
    assert faults == []
