"""A township's CT, read above in time: taken and uploaded there, looked at in the viewer, reported; its critical finding read back."""

from __future__ import annotations

import io
import re
import zipfile

import pytest
from playwright.sync_api import Browser, Page, expect

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.regional.critical import service as critical
from lianxin.regional.critical.models import Critical
from lianxin.regional.imaging import gate, viewer
from lianxin.regional.reading import items
from lianxin.regional.reading.models import Reading
from lianxin.scenarios import imaging as phantoms
from lianxin.standards import clock
from tests.reading import world

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not viewer.built(), reason="the viewer is built by make setup"),
]
PASSWORD = "Lianxin-2026"
LIT = """() => [...document.querySelectorAll('canvas')].some((canvas) => {
  if (canvas.width < 150 || canvas.height < 150) return false
  const small = Object.assign(document.createElement('canvas'), { width: 32, height: 32 })
  const context = small.getContext('2d')
  context.drawImage(canvas, 0, 0, 32, 32)
  const data = context.getImageData(0, 0, 32, 32).data
  let lit = 0
  for (let i = 0; i < data.length; i += 4) lit += data[i] > 40
  return lit > 20
})"""


def sign_in(browser: Browser, live: str, scope: Scope, width: int) -> Page:
    """The account's own screen."""
    account = Account.objects.get(pk=scope.account_id or 0)
    account.set_password(PASSWORD)
    account.save()
    page = browser.new_context(
        locale="zh-CN", timezone_id="Asia/Shanghai", viewport={"width": width, "height": 900}, base_url=live
    ).new_page()
    page.set_default_timeout(30_000)
    page.goto("/login")
    page.fill("#id_username", account.username)
    page.fill("#id_password", PASSWORD)
    page.press("#id_password", "Enter")
    page.wait_for_url(f"{live}/")
    return page


def test_a_townships_ct_is_read_above_and_read_back(
    browser: Browser, live: str, settings: object, tmp_path: object
) -> None:
    settings.LIANXIN_ARCHIVE_DIR = tmp_path  # type: ignore[attr-defined]
    settings.LIANXIN_ARCHIVE_RESERVE = 0  # type: ignore[attr-defined]
    items.load_shipped()
    county = world.make_world()
    reader, _ = world.reader_of(county, "reader0")
    person = world.make_person("祁玉莲", pinyin="qiyulian")
    reading = world.order(county, item="CT-HEAD", person=person, priority="emergency")
    number = reading.case.number

    technician = sign_in(browser, live, world.scope_of(county, "technician0"), 390)
    technician.goto("/acquire")
    technician.get_by_role("button", name="登记").click()
    whose = phantoms.Whose(
        reading.accession, gate.study_uid(reading), reading.person.number, "祁玉莲", at=clock.now()
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as box:
        for n, data in enumerate(phantoms.ct(whose, slices=16, size=256, finding=True, packed=True)):
            box.writestr(f"IM{n:03}", data)
    technician.goto(f"/acquire/{number}")
    technician.set_input_files(
        "#upload-files", {"name": "ct.zip", "mimeType": "application/zip", "buffer": packed.getvalue()}
    )
    technician.get_by_role("button", name="上传", exact=True).click()
    expect(technician.locator("main")).to_contain_text("已收入 16 个文件")
    assert technician.evaluate("document.documentElement.scrollWidth") <= 390
    technician.context.close()

    page = sign_in(browser, live, reader, 1440)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto("/reading?centre=imaging")
    page.get_by_role("button", name=re.compile("认领")).first.click()
    page.wait_for_url(re.compile(number))
    frame = page.locator("iframe[data-viewer]").element_handle().content_frame()
    assert frame is not None
    frame.wait_for_function(LIT, timeout=60_000)
    page.locator("[data-key-image]").click()
    expect(page.locator("#id_key_images")).to_have_value(re.compile(r"^[0-9.]+ S2 I1"))
    page.fill("#id_findings", "左侧基底节区见片状高密度影。")
    page.fill("#id_conclusion", "左侧基底节区脑出血。")
    assert faults == []
    found = Reading.objects.unscoped("test").select_related("orderer", "centre_of").get(pk=reading.pk)
    made = critical.report(
        reader, person_id=person, source="reading", case_id=found.pk, reading_accession=found.accession, finding="左侧基底节区脑出血",
        code="OTHER", value="", found_at=clock.now(), orderer=found.orderer, centre_of=found.centre_of, key="ct",
    )  # fmt: skip
    page.context.close()

    doctor = sign_in(browser, live, world.scope_of(county, "gp0"), 390)
    doctor.goto(f"/critical/{made.case.number}")
    doctor.locator("[name=readback]").first.fill("左侧基底节区脑出血")
    doctor.locator("form:has([name=readback]) button[type=submit]").first.click()
    expect(doctor.locator("main")).to_contain_text("复述内容")
    doctor.context.close()
    told = Critical.objects.unscoped("test").get(pk=made.pk)
    assert told.acknowledged_at is not None
    assert told.acknowledged_at < found.report_due_at
