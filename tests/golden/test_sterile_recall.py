"""A township opens a set on a patient; its load's biological indicator fails later: everything is recalled, the patient is contacted."""

from __future__ import annotations

import re
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, expect

from lianxin.access import relationships
from lianxin.index.models import Person
from lianxin.regional.sterile.models import Load, Set
from tests.golden.test_recognised import sign_in
from tests.reading import world
from tests.sterile import kit

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def watched(page: Page, faults: list[str]) -> Page:
    """Whatever its console or scripts complain of is a fault."""
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "console",
        lambda m: faults.append(m.text) if m.type == "error" and "status of 4" not in m.text else None,
    )
    return page


def fits(page: Page, path: str) -> None:
    """The page keeps within a telephone's width."""
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
    page.set_viewport_size({"width": 1440, "height": 900})


def test_a_failed_biological_indicator_reaches_set_and_patient(browser: Browser, live: str) -> None:
    from lianxin.regional.sterile import policy

    policy.load_shipped()
    county, steriliser = kit.centre()
    used, kept, here = kit.make(county, 3, "QC")
    kit.delivered(county, steriliser, [used, kept])
    kit.packed(county, [here])
    load = Load.objects.get(kind="load")
    person = world.make_person("祁玉莲")
    relationships.grant(person, county.townships[0].pk, "registration", "test")
    number = Person.objects.unscoped("test").get(pk=person).number
    faults: list[str] = []
    with urlopen(
        f"{live}/login", timeout=90
    ):  # the first answer loads every page's code: not the browser's waiting
        pass
    township = watched(sign_in(browser, live, kit.scope(county, "gp0"), 1440), faults)
    centre = watched(sign_in(browser, live, kit.scope(county), 1440), faults)

    township.goto("/sterile/open")
    township.fill("#code", used.code)
    township.fill("#person", number)
    township.fill("#procedure", "清创缝合")
    township.get_by_role("button", name="确认开包").click()
    expect(township.locator("main")).to_contain_text(f"可追溯到批次 {load.number}")

    centre.goto(f"/sterile/loads/{load.number}")
    centre.get_by_text("判读与放行").click()
    centre.locator("[name=biological]").select_option("fail")
    centre.fill("[name=failure]", "培养 48 小时芽孢生长")
    centre.locator("main form button[type=submit]").click()
    expect(centre.get_by_role("alert").first).to_contain_text("批次不合格")
    centre.get_by_role("link", name=re.compile("召回 2 包、1 名患者")).click()
    expect(centre.locator("main")).to_contain_text(used.code)
    expect(centre.locator("main")).to_contain_text(kept.code)
    expect(centre.locator("main")).not_to_contain_text("祁玉莲")  # the centre is no reader of records
    expect(centre.locator("[data-duty=sterile_recall]")).to_have_count(1)
    expect(centre.locator("[data-duty=sterile_contact]")).to_have_count(1)
    recall = centre.url.removeprefix(live)
    holding = centre.locator("[data-duty=sterile_recall] a").inner_text()

    township.goto("/sterile/open")  # what is recalled opens on nobody
    township.fill("#code", kept.code)
    township.fill("#person", number)
    township.fill("#procedure", "清创缝合")
    township.get_by_role("button", name="确认开包").click()
    expect(township.get_by_role("alert").first).to_contain_text("禁止使用")

    township.goto(f"/sterile/cases/{holding}")
    township.fill("#id_codes", kept.code)
    township.get_by_role("button", name="封存退回").click()
    expect(township.locator("main")).to_contain_text("退回中")
    township.goto("/sterile")
    township.get_by_role("link", name=re.compile("^ZL")).first.click()
    expect(township.locator("body")).to_contain_text("祁玉莲")
    township.locator("[name=outcome]").select_option("well")
    township.fill("[name=note]", "电话联系，伤口无红肿渗出")
    township.get_by_role("button", name="记录联系").click()
    expect(township.locator("main")).to_contain_text("已结案")

    centre.goto("/sterile/scan?move=receive")
    centre.fill("[name=codes]", kept.code)
    centre.locator("main form button[type=submit]").click()
    expect(centre.locator("main")).to_contain_text(kept.code)
    centre.goto(f"/sterile/cases/{holding}")
    centre.get_by_role("button", name="核对结案").click()
    expect(centre.locator("main")).to_contain_text("已结案")
    centre.goto(recall)
    expect(centre.get_by_text("办理中")).to_have_count(0)

    assert Set.objects.get(pk=kept.pk).state == "received"
    assert Set.objects.get(pk=used.pk).state == "opened"
    assert Set.objects.get(pk=here.pk).load_id is None  # never was in that load
    assert faults == []
    own = f"/sterile/loads/{load.number}"
    for page, path in ((centre, recall), (centre, own), (township, "/sterile"), (township, "/sterile/open")):
        fits(page, path)
