"""Signing in with a phone: what a code is good for, and what nobody learns."""

from __future__ import annotations

import datetime as dt

import pytest
from django.test import Client

from lianxin.access.errors import Invalid
from lianxin.access.models import Account, AuditEvent
from lianxin.resident.card import accounts, limits
from lianxin.resident.card.models import LoginCode, Phone
from lianxin.resident.sms.models import Message
from lianxin.standards import clock
from tests.card.conftest import ADDRESS, OTHER_PHONE, PHONE, World, last_code

pytestmark = pytest.mark.django_db


def test_a_code_signs_in_once_and_makes_the_account(world: World) -> None:
    accounts.request_code(" +86 138-0000-1111 ", ADDRESS)
    code = last_code()
    account = accounts.sign_in(PHONE, code, ADDRESS)
    assert account.resident
    assert account.practitioner is None
    assert not account.has_usable_password()
    with pytest.raises(Invalid) as again:
        accounts.sign_in(PHONE, code, ADDRESS)
    assert again.value.errors["code"] == accounts.WRONG
    assert Phone.objects.count() == 1
    with clock.at(clock.now() + dt.timedelta(minutes=2)):
        accounts.request_code(PHONE, ADDRESS)
        assert accounts.sign_in(PHONE, last_code(), ADDRESS).pk == account.pk


def test_neither_number_nor_code_lies_open(world: World) -> None:
    accounts.request_code(PHONE, ADDRESS)
    code = last_code()
    stored = repr(
        [list(LoginCode.objects.values()), list(Message.objects.values()), list(AuditEvent.objects.values())]
    )
    assert PHONE not in stored
    assert code not in stored


def test_five_tries_and_five_minutes(world: World) -> None:
    accounts.request_code(PHONE, ADDRESS)
    code = last_code()
    wrong = "000000" if code != "000000" else "111111"
    for _ in range(accounts.TRIES):
        with pytest.raises(Invalid):
            accounts.sign_in(PHONE, wrong, ADDRESS)
    with pytest.raises(Invalid):
        accounts.sign_in(PHONE, code, ADDRESS)  # right, but the tries are used up
    later = clock.now() + dt.timedelta(seconds=61)
    with clock.at(later):
        accounts.request_code(PHONE, ADDRESS)
        code = last_code()
    with clock.at(later + accounts.LIFE), pytest.raises(Invalid):
        accounts.sign_in(PHONE, code, ADDRESS)


def test_only_the_newest_code_counts_and_only_for_its_number(world: World) -> None:
    accounts.request_code(PHONE, ADDRESS)
    first = last_code()
    with clock.at(clock.now() + dt.timedelta(seconds=61)):
        accounts.request_code(PHONE, ADDRESS)
        second = last_code()
        if first != second:
            with pytest.raises(Invalid):
                accounts.sign_in(PHONE, first, ADDRESS)
        with pytest.raises(Invalid):
            accounts.sign_in(OTHER_PHONE, second, ADDRESS)
        assert accounts.sign_in(PHONE, second, ADDRESS)


def test_asking_again_waits_a_minute_and_ends_at_ten_a_day(world: World) -> None:
    now = clock.now()
    for step in range(10):
        with clock.at(now + dt.timedelta(seconds=61 * step)):
            accounts.request_code(PHONE, ADDRESS)
            with pytest.raises(limits.TooMany) as soon:
                accounts.request_code(PHONE, ADDRESS)
            assert soon.value.wait <= dt.timedelta(seconds=60)
    with clock.at(now + dt.timedelta(minutes=30)), pytest.raises(limits.TooMany):
        accounts.request_code(PHONE, ADDRESS)


def test_one_address_cannot_send_to_the_whole_county(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    few = limits.Limit(dt.timedelta(hours=1), 3)
    monkeypatch.setitem(limits.limits(), "code_per_address", few)
    for n in range(3):
        accounts.request_code(f"1380000{n:04d}", ADDRESS)
    with pytest.raises(limits.TooMany):
        accounts.request_code("13811110000", ADDRESS)
    accounts.request_code("13811110000", "10.0.0.9")


def test_wrong_codes_of_an_address_stop_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(limits.limits(), "wrong_login_per_address", limits.Limit(dt.timedelta(hours=1), 4))
    for n in range(4):
        with pytest.raises(Invalid):
            accounts.sign_in(f"1380000{n:04d}", "123456", ADDRESS)
    with pytest.raises(limits.TooMany):
        accounts.sign_in("13811110000", "123456", ADDRESS)


@pytest.mark.parametrize(
    "phone",
    ["", "12345678901", "1380000111", "138000011112", "１３８" + "0" * 7, "abc", "138\x00" * 9, "１" * 5000],
)
def test_what_is_no_number_is_refused(world: World, phone: str) -> None:
    with pytest.raises(Invalid):
        accounts.request_code(phone, ADDRESS)
    assert not Message.objects.exists()


def test_the_page_says_the_same_of_every_number(world: World) -> None:
    accounts.of_phone(PHONE)
    pages = []
    for phone in (PHONE, OTHER_PHONE):
        browser = Client()
        answer = browser.post("/m/login", {"phone": phone})
        assert (answer.status_code, answer["Location"]) == (302, "/m/login/code?next=/m/")
        wrong = browser.post("/m/login/code", {"code": "12345x"})
        pages.append((wrong.status_code, answer.status_code))
        tried = browser.post(
            "/m/login/code", {"code": "000001" if last_code(phone) != "000001" else "000002"}
        )
        assert tried.status_code == 422
        assert str(accounts.WRONG.zh) in tried.content.decode()
    assert pages[0] == pages[1]


def test_signing_in_on_the_page_lasts_and_goes_on_only_at_home(world: World) -> None:
    browser = Client()
    browser.post("/m/login", {"phone": PHONE, "next": "https://elsewhere.example/m/"})
    answer = browser.post("/m/login/code", {"code": last_code(), "next": "//elsewhere.example/m/"})
    assert (answer.status_code, answer["Location"]) == (302, "/m/")
    assert browser.session.get_expiry_age() > 80 * 86400
    assert browser.post("/m/logout").status_code == 302
    assert "_auth_user_id" not in browser.session


def test_a_closed_account_and_signing_out_everywhere(world: World) -> None:
    account = world.account()
    browser = Client()
    browser.post("/m/login", {"phone": PHONE})
    browser.post("/m/login/code", {"code": last_code()})
    accounts.sign_out_everywhere(Account.objects.get(pk=account.pk))
    assert browser.get("/m/prove")["Location"].startswith("/m/login")
    Account.objects.filter(pk=account.pk).update(is_active=False)
    with clock.at(clock.now() + dt.timedelta(minutes=2)):
        accounts.request_code(PHONE, ADDRESS)
        with pytest.raises(Invalid) as closed:
            accounts.sign_in(PHONE, last_code(), ADDRESS)
        assert closed.value.errors["code"] == accounts.WRONG


def test_staff_stay_out_of_residents_pages_and_residents_out_of_theirs(world: World, signed_in) -> None:  # type: ignore[no-untyped-def]
    staff = signed_in(Account.objects.get(pk=world.desk.account_id))
    assert staff.get("/m/prove").status_code == 403
    resident = signed_in(world.account())
    for path in ("/", "/people", "/cards", "/password", "/totp", "/manage/accounts", "/audit", "/notices"):
        assert resident.get(path).status_code in (403, 404), path
    assert resident.post("/login", {"username": world.account().username, "password": ""}).status_code == 422
