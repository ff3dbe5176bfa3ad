"""A hospital doctor orders what the township has done already: recognised, the saving counted; a repetition is explained to the patient."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from lianxin.access import relationships
from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.clinical.recognition import knowing, shipped
from lianxin.index.models import Person
from lianxin.regional.ordering import service
from lianxin.regional.reading import items
from lianxin.regional.reading import service as reading
from tests.factories import SmallCounty
from tests.reading import world
from tests.recognition.world import passed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "Lianxin-2026"


def sign_in(browser: Browser, live: str, scope: Scope, width: int) -> Page:
    """The account's own screen."""
    account = Account.objects.get(pk=scope.account_id)
    account.set_password(PASSWORD)
    account.save()
    page = browser.new_context(
        locale="zh-CN", timezone_id="Asia/Shanghai", viewport={"width": width, "height": 900}, base_url=live
    ).new_page()
    page.set_default_timeout(15_000)
    page.goto("/login")
    page.fill("#id_username", account.username)
    page.fill("#id_password", PASSWORD)
    page.press("#id_password", "Enter")
    page.wait_for_url(f"{live}/")
    return page


def issued(county: SmallCounty, person: int) -> None:
    """The township's chest X-ray, taken there and read above."""
    work, *_ = service.place(
        world.scope_of(county, "gp0"), person, ["XR-CHEST", "ECG-12"], {"indication": "咳嗽"}, "township"
    )
    assert reading.arrived(work.accession)
    scope, _ = world.reader_of(county, "reader0")
    got = reading.claim(scope, "imaging")
    assert got
    reading.save_draft(
        scope,
        work.case.number,
        str(got[1].token),
        {"findings": "双肺纹理清晰。", "conclusion": "心肺未见异常。"},
    )
    reading.act(scope, work.case.number, "sign", {}, None, "signed")


def test_a_test_done_at_the_township_is_recognised(browser: Browser, live: str) -> None:
    shipped.load()
    items.load_shipped()
    knowing.forget()
    county = world.make_world()
    person = world.make_person("祁玉莲")
    for institution in (county.lead, county.townships[0]):
        relationships.grant(person, institution.pk, "registration", "test")
    passed(county.townships[0], "XR-CHEST")
    issued(county, person)
    number = Person.objects.unscoped("test").get(pk=person).number
    faults: list[str] = []
    page = sign_in(browser, live, world.scope_of(county, "clinician"), 1440)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda m: faults.append(m.text) if m.type == "error" and "status of 4" not in m.text else None,
    )

    page.goto(f"/orders/new?person={number}")
    page.fill("#q", "xbx")
    page.get_by_role("button", name=re.compile("胸部 X 线")).click()
    hit = page.locator("[data-hit]")
    expect(hit).to_contain_text("HR")
    expect(hit).to_contain_text("双肺纹理清晰")
    page.fill("#id_indication", "咳嗽三天，查因")
    page.get_by_role("button", name="开出申请").click()
    expect(page.get_by_role("alert").first).to_contain_text("应予互认")
    expect(page.locator("#id_indication")).to_have_value("咳嗽三天，查因")
    page.get_by_label("采用").check()
    page.get_by_role("button", name="开出申请").click()
    expect(page.locator("main")).to_contain_text("为患者节省 ¥80.00")

    page.goto("/recognition")
    expect(page.locator(".figures")).to_contain_text("100%")
    expect(page.locator(".figures")).to_contain_text("80.00")
    page.get_by_role("link", name="80.00").first.click()
    expect(page.locator("main")).to_contain_text("祁玉莲")

    page.goto(f"/orders/new?person={number}&item=XR-CHEST")
    page.get_by_label("仍要重做").check()
    page.locator("[data-hit] select").select_option("01")
    page.fill("#id_indication", "咯血，复查")
    page.get_by_role("button", name="开出申请").click()
    expect(page.get_by_role("heading", name="向患者说明")).to_be_visible()
    expect(page.locator("main")).to_contain_text("与目前病情不完全相符")
    assert page.request.get(page.get_by_role("link", name="打印告知").get_attribute("href") or "").ok
    page.goto("/recognition")
    expect(page.locator(".figures")).to_contain_text("50%")
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("/recognition", "/orders?tab=open", f"/orders/new?person={number}&item=XR-CHEST"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    assert faults == []
    knowing.forget()
