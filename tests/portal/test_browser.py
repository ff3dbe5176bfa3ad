"""The shell in a real browser: signing in, the workbench by keyboard, an import, axe, and how much a first page weighs."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import openpyxl
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

import lianxin
from lianxin.access import relationships
from lianxin.duty import kernel, machine
from lianxin.index.models import Person
from lianxin.portal import nav
from tests.duty import toy
from tests.portal.conftest import PASSWORD, Town

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DIST = Path(lianxin.__file__).parent / "portal" / "static" / "dist"
STAFF_LIMIT = 400 * 1024
PLAIN_LIMIT = 150 * 1024


@pytest.fixture
def duties(live: str, town: Town) -> Town:
    """Two duties of the lead hospital's referral desk."""
    machine.register(toy.MACHINE)
    township, lead = town.county.townships[0], town.county.lead
    for number, name in (("3000000015", "翟玉兰"), ("3000000023", "缪阿福")):
        person = Person.objects.unscoped("test").create(
            number=number, card_number=f"C{number}", name=name, sex="female"
        )
        relationships.grant(person.pk, township.pk, "home", f"home:{number}")
        kernel.open_case(
            "toy", person.pk, town.scope("gp0"), {"note": "请阅片"}, f"k-{number}",
            parties={"asker": township.pk, "reader": lead.pk, "hub": lead.pk},
        )  # fmt: skip
    return town


def sign_in(page: Page, live: str, who: str) -> None:
    """By keyboard alone."""
    page.goto(f"{live}/login")
    expect(page.locator("#id_username")).to_be_focused()
    page.keyboard.type(who)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{live}/")


def clean(page: Page) -> None:
    """No axe violation on the page as it stands."""
    found = Axe().run(page).response["violations"]
    assert not found, [(v["id"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found]


def test_signing_in_and_walking_the_worklist_by_keyboard(page: Page, live: str, duties: Town) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if "Content Security Policy" in m.text else None)
    page.goto(f"{live}/login")
    clean(page)
    sign_in(page, live, "desk")
    clean(page)
    lines = page.locator("[data-line]")
    expect(lines).to_have_count(2)
    page.keyboard.press("j")
    expect(lines.nth(0)).to_have_class("duty-line is-calm is-current")
    page.keyboard.press("j")
    expect(lines.nth(1).locator("[data-act]")).to_be_focused()
    page.keyboard.press("k")
    expect(lines.nth(0).locator("[data-act]")).to_be_focused()
    page.keyboard.press("/")
    expect(page.locator("[data-find]")).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("[data-help-dialog]")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(".account").click()
    page.locator(".display-choices button").first.click()
    expect(page.locator(".display-choices button").first).to_have_text("浅色")
    page.locator(".display-choices button").first.click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    clean(page)
    page.locator("button[name=language]").click()
    expect(page.locator("h1")).to_contain_text("曾静宜")
    expect(page.locator("html")).to_have_attribute("lang", "en")
    assert faults == []


def test_a_phone_has_its_bar_and_no_sideways_scrolling(page: Page, live: str, duties: Town) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    sign_in(page, live, "desk")
    for path in ("/", "/network", "/notices", "/network/SC-RMYY"):
        page.goto(live + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        clean(page)
    page.locator(".phone-nav button").click()
    expect(page.locator("#side")).to_be_visible()


def test_an_import_is_checked_then_written(page: Page, live: str, town: Town, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(("institution", "code", "name"))
    book.active.append(("SC-T1", "ZY", "中医科"))
    book.save(tmp_path / "d.xlsx")
    sign_in(page, live, "system_admin")
    for path in ("/manage/institutions", "/manage/institutions/SC-T1", "/manage/people", "/manage/sheets"):
        page.goto(live + path)
        clean(page)
    page.get_by_label("科室", exact=True).check()
    page.locator("input[type=file]").set_input_files(tmp_path / "d.xlsx")
    page.get_by_role("button", name="检查").click()
    expect(page.locator("#report")).to_contain_text("没有错误，还没有写入")
    page.get_by_role("button", name="写入 1 行").click()
    expect(page.locator(".notice-success")).to_contain_text("已写入")
    assert town.county.townships[0].departments.filter(code="ZY").exists()


def test_a_draft_comes_back_and_goes_once_it_is_taken(page: Page, live: str, town: Town) -> None:
    sign_in(page, live, "system_admin")
    page.goto(f"{live}/manage/people/new")
    page.locator("#id_name").fill("司徒新")
    page.wait_for_timeout(600)
    page.goto(f"{live}/manage/people/new")
    expect(page.locator("#id_name")).to_have_value("司徒新")
    expect(page.locator("[data-draft-note]")).to_be_visible()
    page.get_by_role("button", name="保存").click()
    expect(page.locator(".form-errors")).to_be_focused()
    expect(page.locator("#id_name")).to_have_value("司徒新")
    page.locator("#id_code").fill("P-NEW")
    page.get_by_role("button", name="保存").click()
    page.wait_for_url("**/manage/people/P-NEW")
    page.goto(f"{live}/manage/people/new")
    expect(page.locator("#id_name")).to_have_value("")


def _weight(*names: str) -> dict[str, int]:
    """Bytes that travel for these built files and the icon font: gzip, fonts as they are."""
    files = [*(DIST / name for name in names), *DIST.rglob("*.woff2")]
    return {
        f.name: f.stat().st_size if f.suffix == ".woff2" else len(gzip.compress(f.read_bytes(), 9))
        for f in files
    }


def test_first_pages_are_light() -> None:
    """What a page loads first: everybody's, and those that draw charts."""
    plain = _weight("app.css", "app.js")
    assert sum(plain.values()) < PLAIN_LIMIT, plain
    drawn = _weight("app.css", "app.js", "charts.js")
    assert sum(drawn.values()) < STAFF_LIMIT, drawn


def test_every_icon_that_is_named_was_kept() -> None:
    """The icon font is cut down to the names found in the sources: a page that names another would show nothing."""
    style = (DIST / "app.css").read_text("utf-8")
    named = {
        name
        for page in Path(lianxin.__file__).parent.rglob("*.html")
        for name in re.findall(r'{% (?:icon|empty_state) "([a-z0-9-]+)"', page.read_text("utf-8"))
    } | {entry.icon for entry in nav.ENTRIES}
    assert {
        name for name in named if f".bi-{name}:before" not in style and f".bi-{name}::before" not in style
    } == set()
