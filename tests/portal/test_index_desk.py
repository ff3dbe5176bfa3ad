"""The review desk and the identity pages: who may, what is shown, by keyboard alone in a real browser, on a desktop and a phone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.db import connection
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Page, expect

from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope
from lianxin.index import links, registry, reviews
from lianxin.index.models import LinkEvent, Person, ReviewItem, SourceRecord
from lianxin.index.registry import Registration, register_many
from lianxin.network import roles
from tests.factories import make_post, make_practitioner, make_resident_id
from tests.portal.conftest import Town, _hash
from tests.portal.test_browser import sign_in

As = Callable[..., Client]
SYSTEM = Scope.system("test")
BORN = dt.date(1961, 3, 8)


@pytest.fixture
def asked(town: Town) -> dict[str, Any]:
    """Three questions: a likely pair of the lead hospital and a township, a mistyped number, a pair of another township."""
    lead, first, second = town.county.lead.pk, town.county.townships[0].pk, town.county.townships[1].pk
    number = make_resident_id(BORN, 216)

    def reg(place: int, local: str, name: str, **more: Any) -> Registration:
        base: dict[str, Any] = {
            "sex": "female", "birth_date": BORN, "phone": "13957600123", "address": "青溪县白鹤镇上塘村二组18号",
            "home_institution_id": first,
        }  # fmt: skip
        return Registration(place, "urn:test:his", local, name, **(base | more))

    made = [
        r.person
        for one in (
            reg(lead, "A1", "翟玉兰", id_no=number),
            reg(first, "B1", "翟钰岚", phone="13957600129", birth_date=dt.date(1963, 8, 3), address="白鹤镇"),
            reg(lead, "A2", "缪阿福", sex="male", birth_date=dt.date(1950, 7, 1), phone="13857600777", address=""),
            reg(first, "B2", "缪阿夫", sex="male", birth_date=dt.date(1950, 1, 7), phone="", address="白鹤镇下塘村6号"),
            reg(second, "C1", "诸葛明", phone="13700001111", address="石梁镇街道2号", birth_date=dt.date(1988, 5, 5)),
            reg(second, "C2", "诸明", phone="13700001112", address="石梁镇街道2号", birth_date=dt.date(1999, 5, 6)),
            reg(first, "H1", "周小宝", sex="male", birth_date=dt.date(2016, 2, 2)),
        )
        for r in register_many(SYSTEM, [one])
    ]  # fmt: skip
    assert len({p.pk for p in made}) == 7
    ReviewItem.objects.all().delete()
    parts = [["prior", "prior", -14.0], ["name", "sound", 9.1], ["born", "exact", 12.3], ["sex", "same", 1.0], ["phone", "edit", 3.2],
             ["address", "house", 4.0], ["id", "missing", 0.0], ["household", "household", -1.5]]  # fmt: skip
    with connection.cursor() as cur:
        rows: list[reviews.Row] = [
            ("same_sound", made[1].pk, made[0].pk, None, 14.1, 0.86, parts, "default"),
            ("id_typo", made[3].pk, made[2].pk, None, 2.2, 0.7, [], "default"),
            ("look_alike", made[5].pk, made[4].pk, None, 1.0, 0.6, [], "default"),
        ]
        reviews.open_many(cur, rows)
    return {"people": made, "items": list(ReviewItem.objects.order_by("pk"))}


@pytest.fixture
def manager(town: Town) -> Account:
    """The consortium's index manager, at the lead hospital."""
    post = make_post(town.county.lead, roles.INDEX_MANAGER, make_practitioner("冼若水"))
    return Account.objects.create(
        username="index", name="冼若水", practitioner=post.practitioner, password=_hash()
    )


def test_who_sees_what(as_: As, asked: dict[str, Any], manager: Account) -> None:
    listing = reverse("portal:index_reviews")
    assert as_("system_admin").get(listing).status_code == 403
    assert as_("manager").get(listing).status_code == 403
    mine = as_("desk").get(listing).content.decode()
    assert "翟*兰" in mine
    assert "诸" not in mine
    boss = Client()
    boss.force_login(manager)
    assert "诸*明" in boss.get(listing).content.decode()
    assert listing in as_("desk").get("/").content.decode()
    assert listing not in as_("manager").get("/").content.decode()
    other = asked["items"][2].pk
    assert as_("desk").get(reverse("portal:index_review", args=[other])).status_code == 403
    assert as_("desk").get(reverse("portal:index_review", args=[99999999])).status_code == 302
    assert boss.get(reverse("portal:index_review", args=[other])).status_code == 200
    empty = as_("gp2").get(listing)
    assert empty.status_code == 200
    assert "没有等待复核的" in empty.content.decode()


def test_the_pair_masks_numbers_and_is_audited(as_: As, asked: dict[str, Any]) -> None:
    page = as_("desk").get(reverse("portal:index_review", args=[asked["items"][0].pk])).content.decode()
    assert "翟玉兰" in page.replace('<mark class="diff">', "").replace("</mark>", "")
    assert "13957600123" not in page
    assert make_resident_id(BORN, 216) not in page
    assert '<mark class="diff">3</mark>' in page  # the one figure in which the phones differ
    assert "周*宝" in page  # the household, masked
    assert AuditEvent.objects.filter(action="read", what=f"review {asked['items'][0].pk}").count() == 2


def test_answering_undoing_and_being_late(as_: As, asked: dict[str, Any]) -> None:
    a, b = asked["people"][:2]
    item = asked["items"][0]
    desk, gp = as_("desk"), as_("gp0")
    show, answer = (reverse(f"portal:index_{n}", args=[item.pk]) for n in ("review", "answer"))
    assert desk.get(show).status_code == 200
    assert "曾静宜正在处理" in gp.get(show, follow=True).content.decode()
    assert "正在处理" in gp.post(answer, {"answer": "same"}, follow=True).content.decode()
    done = desk.post(answer, {"answer": "same", "note": "本人到场"}, follow=True).content.decode()
    assert "已合并为同一人" in done
    assert registry.get(b.number).pk == a.pk
    identity = desk.get(reverse("portal:index_person", args=[b.number]), follow=True)
    assert identity.redirect_chain[-1][0].endswith(a.number)
    assert b.number in identity.content.decode()
    back = desk.post(reverse("portal:index_undo", args=[item.pk]), follow=True).content.decode()
    assert "恢复原状" in back
    assert registry.get(b.number).pk == b.pk
    assert "请选择一个结论" in desk.post(answer, {"answer": "x"}, follow=True).content.decode()
    desk.post(answer, {"answer": "unsure"})
    sent_back = desk.get(reverse("portal:index_reviews") + "?show=unsure").content.decode()
    assert "翟*兰" in sent_back
    assert "向本人核实" in sent_back
    again = desk.post(reverse("portal:index_reopen", args=[item.pk]), {"note": "已电话核实"}, follow=True)
    assert "已电话核实" in again.content.decode()


def test_merging_splitting_and_undoing_by_hand(as_: As, asked: dict[str, Any]) -> None:
    a, b = asked["people"][:2]
    desk = as_("desk")
    found = desk.get(reverse("portal:index_people"), {"q": "翟玉兰"}).content.decode()
    assert a.number in found
    compare = reverse("portal:index_compare", args=[a.number, b.number])
    assert desk.get(compare).status_code == 200
    assert desk.post(compare, {"answer": "same", "reason": ""}).status_code == 422
    assert (
        "可在历史中撤销"
        in desk.post(compare, {"answer": "same", "reason": "同一人"}, follow=True).content.decode()
    )
    event = LinkEvent.objects.filter(kind="merged").latest("pk")
    undo = reverse("portal:index_event_undo", args=[a.number, event.pk])
    assert b.number in desk.get(undo).content.decode()
    assert desk.post(undo, {"reason": ""}).status_code == 422
    source = SourceRecord.objects.unscoped("test").get(local_id="B1")
    move = reverse("portal:index_move", args=[a.number])
    gp = as_("gp0")
    assert b.number in gp.get(move, {"source": source.pk}).content.decode()  # its old number returns
    done = gp.post(move, {"source": source.pk, "reason": "挂错人"}, follow=True)
    assert done.redirect_chain[-1][0].endswith(b.number)
    assert registry.get(b.number).pk == b.pk
    refused = desk.post(compare, {"answer": "same", "reason": "还是同一人"})
    assert "推翻原结论" in refused.content.decode()
    assert desk.post(compare, {"answer": "same", "reason": "还是", "despite": "1"}).status_code == 302
    for nonsense in ("0000000000", "x"):
        assert desk.get(reverse("portal:index_person", args=[nonsense])).status_code == 404
    assert gp.get(move, {"source": "abc"}).status_code == 302
    assert as_("gp2").get(reverse("portal:index_person", args=[a.number])).status_code == 403


@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_the_desk_by_keyboard_alone(page: Page, live: str, asked: dict[str, Any], tmp_path: Path) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if "Content Security Policy" in m.text else None)
    a, b, c, d = asked["people"][:4]
    sign_in(page, live, "desk")
    page.goto(f"{live}/index/reviews")
    expect(page.locator("[data-line]")).to_have_count(2)
    clean(page)
    page.keyboard.press("Enter")  # start: the mistyped number has the highest priority
    page.wait_for_url(f"{live}/index/reviews/*")
    expect(page.locator(".verdict-danger")).to_be_visible()
    clean(page)
    page.keyboard.press("?")
    expect(page.locator("[data-help-dialog]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("[data-help-dialog]")).to_be_hidden()
    page.keyboard.press("s")
    expect(page.locator(".notice-bar").first).to_contain_text("另一人")
    assert Person.objects.unscoped("test").get(pk=d.pk).status == "active"
    expect(page.locator("h1")).to_contain_text("同音")  # the next one came by itself
    page.keyboard.press("n")
    page.keyboard.type("sds")  # letters in the note answer nothing
    page.keyboard.press("Escape")
    expect(page.locator("#note")).to_have_value("sds")
    page.keyboard.press("s")
    page.wait_for_url(f"{live}/index/reviews")
    assert registry.get(b.number).pk == a.pk
    page.keyboard.press("z")
    page.wait_for_url(f"{live}/index/reviews/*")
    assert registry.get(b.number).pk == b.pk
    page.keyboard.press("d")
    page.wait_for_url(f"{live}/index/reviews")
    with connection.cursor() as cur:
        assert links.apart(cur, [a.pk])[a.pk] == {b.pk}
    assert not faults
    page.set_viewport_size({"width": 390, "height": 844})
    page.keyboard.press("z")
    page.wait_for_url(f"{live}/index/reviews/*")
    for address in (
        "",
        "/index/reviews",
        f"/index/people/{a.number}",
        f"/index/compare/{a.number}/{c.number}",
    ):
        if address:
            page.goto(live + address)
        clean(page)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), address


def clean(page: Page) -> None:
    """No axe violation on the page as it stands."""
    found = Axe().run(page).response["violations"]
    assert not found, [(v["id"], [n["html"][:160] for n in v["nodes"][:3]]) for v in found]
