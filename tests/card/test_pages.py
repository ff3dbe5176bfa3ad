"""The pages: the desk's acts, the resident's card and family, and that a stranger learns nothing."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable

import pytest
from django.test import Client

from lianxin.access.models import Account, ActsFor, Relationship
from lianxin.resident.card import cards, qr
from lianxin.resident.card.models import Card
from lianxin.standards import clock
from tests.card.conftest import OTHER_PHONE, PHONE, World, last_code

pytestmark = pytest.mark.django_db
Sign = Callable[[Account], Client]


@pytest.fixture
def known(world: World) -> World:
    world.person("单雄信", "1960-05-06", 101, PHONE)
    world.person("程咬银", "1988-01-02", 105, OTHER_PHONE)
    return world


def phone(number: str = PHONE) -> Client:
    """A browser that signed in with a code."""
    browser = Client()
    browser.post("/m/login", {"phone": number})
    assert browser.post("/m/login/code", {"code": last_code(number)}).status_code == 302
    return browser


def bound(known: World, name: str = "单雄信", number: str = PHONE) -> Client:
    """A browser of somebody whose identity is bound."""
    browser = phone(number)
    answer = browser.post("/m/bind", {"name": name, "id_no": known.ids[name]})
    assert answer.status_code == 302, answer.content.decode()
    return browser


def desk(known: World, sign: Sign, other: bool = False) -> Client:
    """A browser at a desk."""
    scope = known.other_desk if other else known.desk
    return sign(Account.objects.get(pk=scope.account_id))


def test_from_nothing_to_a_card(known: World) -> None:
    browser = phone()
    assert browser.get("/m/card")["Location"] == "/m/bind"
    assert browser.get("/m/card/code.svg").status_code == 404
    wrong = browser.post("/m/bind", {"name": "单雄信", "id_no": "1"})
    assert (wrong.status_code, "信息核对未通过" in wrong.content.decode()) == (422, True)
    assert browser.post("/m/bind", {"name": "", "id_no": ""}).status_code == 422
    assert browser.post("/m/bind", {"name": "单雄信", "id_no": known.ids["单雄信"]}).status_code == 302
    page = browser.get("/m/card")
    assert page.status_code == 200
    assert known.ids["单雄信"] not in page.content.decode()
    picture = browser.get("/m/card/code.svg")
    assert picture["Content-Type"] == "image/svg+xml"
    assert "no-store" in picture["Cache-Control"]
    assert picture.content != browser.get("/m/card/code.svg").content
    assert browser.post("/m/card/lose").status_code == 302
    assert browser.get("/m/card/code.svg").status_code == 404
    assert "补发新卡" in browser.get("/m/card").content.decode()
    assert browser.post("/m/card/reissue").status_code == 302
    assert browser.get("/m/card/code.svg").status_code == 200


def test_what_a_found_phone_does_not_open(known: World) -> None:
    browser = bound(known)
    with clock.at(clock.now() + dt.timedelta(minutes=16)):
        for path in ("/m/family", "/m/card/reissue"):
            assert browser.get(path)["Location"].startswith("/m/prove")
            assert browser.post(path, {"act": "invite"})["Location"].startswith("/m/prove")
        assert Card.objects.count() == 0
        assert browser.post("/m/prove", {"send": "1"}).status_code == 200
        wrong = "000000" if last_code() != "000000" else "111111"
        assert browser.post("/m/prove", {"code": wrong}).status_code == 422
        answer = browser.post("/m/prove", {"code": last_code(), "next": "/m/family"})
        assert answer["Location"] == "/m/family"
        assert browser.get("/m/family").status_code == 200


def test_family_by_a_code_from_hand_to_hand(known: World) -> None:
    elder, younger = bound(known), bound(known, "程咬银", OTHER_PHONE)
    page = elder.post("/m/family", {"act": "invite"}).content.decode()
    code = re.search(r"\d{4} \d{4}", page)
    assert code
    wrong = younger.post("/m/family", {"act": "delegate", "elder": "别人", "code": code[0]})
    assert wrong.status_code == 422
    assert (
        younger.post("/m/family", {"act": "delegate", "elder": "单雄信", "code": code[0]}).status_code == 302
    )
    assert "程咬银" in elder.get("/m/family").content.decode()
    right = ActsFor.objects.get(relation="delegate")
    stranger = phone("13712345678")
    assert stranger.post("/m/family", {"act": "end", "right": str(right.pk)})["Location"] == "/m/bind"
    assert ActsFor.objects.get(pk=right.pk).until is None
    for junk in ("", "x", "9" * 40, "-1"):
        assert elder.post("/m/family", {"act": "end", "right": junk}).status_code == 302
    assert elder.post("/m/family", {"act": "end", "right": str(right.pk)}).status_code == 302
    assert ActsFor.objects.get(pk=right.pk).until is not None
    assert younger.post("/m/family", {"act": "child", "name": "谁"}).status_code == 422


def test_a_scan_is_the_person_at_the_desk(known: World, signed_in: Sign) -> None:
    person = known.people["单雄信"]
    browser = desk(known, signed_in, other=True)
    address = f"/cards/{person.number}"
    assert browser.get(address).status_code == 403
    answer = browser.post("/cards/scan", {"code": qr.text(person.pk).lower()})
    assert answer["Location"] == address
    assert browser.get(address).status_code == 200
    assert Relationship.objects.filter(
        person_id=person.pk, institution=known.hospital, kind="encounter"
    ).exists()
    for junk in ("", "LX", "69" * 8, "x" * 399, qr.text(person.pk)[:-1] + "B"):
        refused = browser.post("/cards/scan", {"code": junk})
        assert refused.status_code == 422, junk


def test_a_screenshot_at_another_institution(known: World, signed_in: Sign) -> None:
    text = qr.text(known.people["单雄信"].pk)
    assert desk(known, signed_in).post("/cards/scan", {"code": text}).status_code == 302
    refused = desk(known, signed_in, other=True).post("/cards/scan", {"code": text})
    assert (refused.status_code, "截图" in refused.content.decode()) == (422, True)
    assert not Relationship.objects.filter(institution=known.hospital).exists()


def test_the_desk_issues_prints_loses_and_replaces(known: World, signed_in: Sign) -> None:
    person = known.people["单雄信"]
    browser = desk(known, signed_in)
    address = f"/cards/{person.number}"

    def act(what: str, **more: str) -> int:
        return browser.post(f"{address}/{what}", more).status_code

    assert act("issue") == 302
    printed = browser.post(f"{address}/print")
    assert printed.status_code == 200
    assert known.ids["单雄信"] not in printed.content.decode()
    assert act("lose") == 302
    assert browser.post(f"{address}/print").status_code == 422
    assert act("issue") == 422
    assert act("reissue", reason="卡片损坏") == 302
    assert act("close") == 422
    assert act("close", reason="迁出") == 302
    assert act("nothing") == 404
    assert [c.state for c in cards.of_person(person.pk)] == ["closed", "lost"]
    assert browser.get(address).status_code == 200


def test_the_desk_gives_codes_and_enters_family(known: World, signed_in: Sign) -> None:
    bound(known, "程咬银", OTHER_PHONE)
    person = known.people["单雄信"]
    browser = desk(known, signed_in)
    address = f"/cards/{person.number}"
    assert browser.post(f"{address}/code", {"reason": ""}).status_code == 422
    page = browser.post(f"{address}/code", {"reason": "身份证原件"}).content.decode()
    code = re.search(r"\d{4} \d{4}", page.split("绑定码")[1])
    assert code
    other = phone("13712345678")
    answer = other.post("/m/bind", {"name": "单雄信", "id_no": known.ids["单雄信"], "proof": code[0]})
    assert answer.status_code == 302
    form = {"phone": OTHER_PHONE, "relation": "delegate", "evidence": "委托书原件 2026-1"}
    assert browser.post(f"{address}/family", form | {"evidence": "x"}).status_code == 422
    assert browser.post(f"{address}/family", form).status_code == 302
    assert "程咬银" in browser.get(address).content.decode()
    right = ActsFor.objects.get(relation="delegate")
    assert browser.post(f"{address}/end", {"right": str(right.pk)}).status_code == 302
    assert ActsFor.objects.get(pk=right.pk).until is not None
    assert browser.post(f"{address}/unbind", {"reason": "身份证原件，本人要求"}).status_code == 302
    assert other.get("/m/card")["Location"] == "/m/bind"


def test_nobody_else_reaches_the_desk_or_a_person(known: World, signed_in: Sign) -> None:
    person = known.people["单雄信"]
    resident = bound(known)
    address = f"/cards/{person.number}"
    for browser in (resident, desk(known, signed_in, other=True)):
        for path, more in (
            (f"{address}/issue", {}),
            (f"{address}/code", {"reason": "我要"}),
            (f"{address}/print", {}),
        ):
            assert browser.post(path, more).status_code == 403, path
        assert (
            person.name not in browser.get(address).content.decode().replace("正在", "")
            or browser is resident
        )
    assert person.name not in desk(known, signed_in, other=True).get(address).content.decode()
    assert resident.get("/cards").status_code == 403
    assert Client().get("/cards").status_code == 302
    assert desk(known, signed_in).get("/cards/9999999999").status_code in (403, 404)
    assert Card.objects.count() == 0
    assert Client().post("/cards/scan", {"code": "x"}).status_code == 302


def test_the_public_doors_name_nobody(known: World) -> None:
    qr.printed(known.desk, known.people["单雄信"].pk)
    cards.lose(known.desk, known.people["单雄信"].pk)
    for path in ("/card/keys.json", "/card/revoked"):
        body = Client().get(path).content.decode()
        for word in (
            "单雄信",
            known.ids["单雄信"],
            known.people["单雄信"].card_number,
            known.people["单雄信"].number,
        ):
            assert word not in body
        assert Client().post(path).status_code == 405


def test_writing_needs_the_forms_own_token(known: World) -> None:
    strict = Client(enforce_csrf_checks=True)
    for path in (
        "/m/login",
        "/m/login/code",
        "/m/logout",
        "/m/bind",
        "/m/family",
        "/m/card/lose",
        "/cards/scan",
    ):
        assert strict.post(path, {"phone": PHONE}).status_code == 403, path
