"""A village ECG with ST elevation: read and confirmed above, the channel opens, the cath lab accepts, the clocks run to the wire."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lianxin.access import relationships
from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network.models import Capability
from lianxin.regional.ecg.models import Tracing
from lianxin.regional.emergency.models import Channel
from lianxin.regional.reading import items
from tests.ecg import files, synthetic
from tests.factories import SINCE
from tests.reading import world

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "Lianxin-2026"
SHOTS = os.environ.get("LIANXIN_SHOTS", "")


def sign_in(browser: Browser, live: str, scope: Scope, width: int) -> Page:
    """The account's own screen; whatever the browser complains of fails the story."""
    account = Account.objects.get(pk=scope.account_id or 0)
    account.set_password(PASSWORD)
    account.save()
    page = browser.new_context(
        locale="zh-CN",
        timezone_id="Asia/Shanghai",
        viewport={"width": width, "height": 844},
        has_touch=width < 500,
        base_url=live,
    ).new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.goto("/login")
    page.fill("#id_username", account.username)
    page.fill("#id_password", PASSWORD)
    page.press("#id_password", "Enter")
    page.wait_for_url(f"{live}/")
    return page


def shot(page: Page, name: str) -> None:
    """Nobody scrolls sideways; a picture when asked for."""
    width = page.viewport_size["width"]  # type: ignore[index]
    assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/cp-{name}-{width}.png", full_page=True)


def press(page: Page, move: str, **fields: str) -> None:
    """Make a move of the channel by its button and form."""
    form = page.locator(f"form[action$='/{move}']")
    summary = page.locator(f"details:has(form[action$='/{move}']) > summary")
    if summary.count() and not form.is_visible():
        summary.click()
    for name, value in fields.items():
        box = form.locator(f"[name={name}]")
        if box.first.get_attribute("type") == "radio":
            form.locator(f"[name={name}][value='{value}']").check()
        elif box.first.evaluate("e => e.tagName") == "SELECT":
            box.select_option(value)
        else:
            box.fill(value)
    with page.expect_navigation():
        form.locator("button[type=submit]").click()
    expect(page.locator(".notice-success").first).to_be_visible()


def test_from_the_village_ecg_to_the_wire(browser: Browser, live: str, tmp_path: Path) -> None:
    items.load_shipped()
    county = world.make_world()
    Capability.objects.create(
        institution=county.lead, kind="procedure", code="PCI", name="急诊 PCI", since=SINCE
    )
    village, (reader, _) = (
        world.scope_of(county, "village0"),
        world.reader_of(county, "reader0", "ecg", ("ECG",)),
    )
    person = Person.objects.unscoped("test").get(
        pk=world.make_person("石守信", sex="male", birth_date=dt.date(1962, 5, 6))
    )
    relationships.grant(person.pk, county.villages[0].pk, "home", "home")
    lifted = synthetic.ecg(st={"V1": 150, "V2": 320, "V3": 350, "V4": 200}, noise=6)
    path = tmp_path / "ecg.scp"
    path.write_bytes(files.scp(lifted, patient=person.number))

    doctor = sign_in(browser, live, village, 390)
    doctor.goto(f"/ecg/new?person={person.number}")
    doctor.locator("label", has_text="胸痛").click()
    doctor.locator("[name=priority][value=emergency]").check()
    doctor.set_input_files("[name=file]", str(path))
    shot(doctor, "new")
    with doctor.expect_navigation():
        doctor.locator("button.btn-lg").click()
    # the device says 1960, the index 1962: kept for review, attached to nobody
    expect(doctor.locator(".notice-warning, .notice-bar").first).to_contain_text("出生日期")
    assert Tracing.objects.unscoped("test").get().person_id is None
    path.write_bytes(files.csv(lifted, patient=person.number))
    doctor.set_input_files("#f-file", str(path))
    with doctor.expect_navigation():
        doctor.locator("form[action$='/upload'] button").click()
    expect(doctor.locator(".ecg-critical").first).to_contain_text("STEMI")
    shot(doctor, "uploaded")
    number = doctor.url.rsplit("/", 1)[1].split("?")[0]

    desk = sign_in(browser, live, reader, 1440)
    desk.goto("/ecg")
    desk.locator("[data-act]", has_text="石守信").click()
    sheet = desk.locator("[data-ecg-sheet] svg")
    assert sheet.get_attribute("data-speed") == "25"
    with desk.expect_response(lambda answer: "trace.svg" in answer.url):
        desk.select_option("[name=speed]", "50")
    expect(desk.locator("[data-ecg-sheet] svg")).to_have_attribute("data-speed", "50")
    desk.locator("[data-ecg-caliper]").click()
    box = desk.locator("[data-ecg-sheet]").bounding_box()
    assert box is not None
    desk.mouse.move(box["x"] + 100, box["y"] + 60)
    desk.mouse.down()
    desk.mouse.move(
        box["x"] + 100 + 10 * 96 / 25.4, box["y"] + 60
    )  # ten millimetres on the screen: 200 ms at 50 mm/s
    desk.mouse.up()
    expect(desk.locator("[data-ecg-readout]")).to_contain_text("200 ms · 300 bpm")
    desk.select_option("#f-code", "stemi")
    desk.locator(".ecg-confirm button.btn-danger").click()
    with desk.expect_navigation():
        desk.locator(".confirm-bar .btn-danger").click()
    expect(desk.locator(".notice-success").first).to_contain_text("危急值")
    shot(desk, "confirmed")
    channel = Channel.objects.unscoped("test").get(person_id=person.pk)
    channel_number = channel.case.number

    chest = sign_in(browser, live, world.scope_of(county, "clinician"), 1440)
    chest.goto("/chest-pain")
    expect(chest.locator(".cp-card")).to_contain_text("石守信")
    expect(chest.locator("[data-cp-seconds]").first).to_be_visible()
    shot(chest, "board")
    chest.goto(f"/chest-pain/{channel_number}")
    press(chest, "decide", strategy="pci", travel="35")
    press(chest, "accept")
    doctor.goto("/chest-pain")
    expect(doctor.locator(".cp-card")).to_contain_text("待送出")
    shot(doctor, "board")
    doctor.locator(".cp-card [data-act]").click()
    press(doctor, "depart", transport="ambulance")
    chest.goto(f"/chest-pain/{channel_number}")
    press(chest, "arrive")
    press(chest, "wire")
    expect(chest.locator(".facts").first).to_contain_text("达标")
    shot(chest, "wire")
    press(chest, "close", outcome="reperfused")
    assert Case.objects.unscoped("test").get(number=channel_number).state == "closed"
    assert (
        Case.objects.unscoped("test").get(number=number).state == "queued"
    )  # the written report still follows
