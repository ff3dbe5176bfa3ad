"""Signing in: right and wrong passwords, the lock, the forced change, the second factor."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.test import Client
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from lianxin.access.models import AuditEvent
from lianxin.standards import clock
from tests.portal.conftest import PASSWORD, Town


def sign_in(client: Client, username: str, password: str, **extra: str) -> object:
    return client.post("/login", {"username": username, "password": password, **extra})


def test_password_opens_the_workbench(town: Town) -> None:
    client = Client()
    response = sign_in(client, "GP0 ", PASSWORD)
    assert response.headers["Location"] == "/"
    assert "全科甲" in client.get("/").content.decode()
    assert AuditEvent.objects.filter(action="login", outcome="ok").exists()


def test_one_comes_back_to_the_page_asked_for_but_never_elsewhere(town: Town) -> None:
    assert sign_in(Client(), "gp0", PASSWORD, next="/network").headers["Location"] == "/network"
    assert sign_in(Client(), "gp0", PASSWORD, next="https://elsewhere.example/").headers["Location"] == "/"


def test_empty_form_names_each_field(town: Town) -> None:
    response = Client().post("/login", {})
    page = response.content.decode()
    assert response.status_code == 422
    assert page.count("此项必填") == 4  # beside each field and in the summary
    assert 'href="#id_username"' in page
    assert 'aria-describedby="id_username_error"' in page


def test_five_failures_lock_and_the_page_says_how_long(town: Town) -> None:
    client = Client()
    pages = [sign_in(client, "gp0", "wrong").content.decode() for _ in range(5)]
    assert "再错1次" in pages[3]
    assert "已暂时锁定" in pages[4]
    assert "15分钟" in pages[4]
    assert sign_in(client, "gp0", PASSWORD).status_code == 422
    with clock.at(clock.now() + dt.timedelta(minutes=16)):
        assert sign_in(client, "gp0", PASSWORD).status_code == 302


def test_a_first_password_must_be_changed(town: Town, as_: Callable[..., Client]) -> None:
    account = town.accounts["gp0"]
    account.must_change_password = True
    account.save()
    client = as_("gp0")
    assert client.get("/").headers["Location"] == "/password"
    assert "请先设置自己的密码" in client.get("/password").content.decode()
    new = "Qingxi-2027-x"
    wrong = client.post("/password", {"old_password": "no", "new_password": new, "again": new})
    assert "原密码不正确" in wrong.content.decode()
    differ = client.post("/password", {"old_password": PASSWORD, "new_password": new, "again": new + "y"})
    assert "两次输入的新密码不一样" in differ.content.decode()
    weak = client.post("/password", {"old_password": PASSWORD, "new_password": "abc", "again": "abc"})
    assert weak.status_code == 422
    done = client.post("/password", {"old_password": PASSWORD, "new_password": new, "again": new})
    assert done.headers["Location"] == "/"
    assert client.get("/").status_code == 200


def code_of(device: TOTPDevice) -> str:
    return f"{totp(device.bin_key, device.step, device.t0, device.digits, device.drift):06d}"


def test_enrolling_a_phone_and_the_second_factor(town: Town, as_: Callable[..., Client]) -> None:
    client = as_("security_admin")
    page = client.get("/totp").content.decode()
    assert "data:image/svg+xml" in page
    refused = client.post("/totp", {"code": "12345"})
    assert "动态口令是六位数字" in refused.content.decode()
    device = TOTPDevice.objects.get(user=town.accounts["security_admin"])
    assert client.post("/totp", {"code": code_of(device)}).headers["Location"] == "/"
    assert client.get("/").status_code == 200

    again = Client()
    sign_in(again, "security_admin", PASSWORD, next="/manage/accounts")
    assert again.get("/manage/accounts").headers["Location"] == "/totp"
    assert "六位动态口令" in again.get("/totp").content.decode()
    assert again.post("/totp/verify", {"code": "000000"}).status_code == 422
    assert again.get("/manage/accounts").status_code == 302
    device.refresh_from_db()
    device.throttle_reset()
    device.last_t = -1
    device.save()
    assert again.post("/totp/verify", {"code": code_of(device)}).status_code == 302
    assert again.get("/manage/accounts").status_code == 200

    assert "密码不正确" in again.post("/totp/remove", {"password": "x"}).content.decode()
    again.post("/totp/remove", {"password": PASSWORD})
    assert not TOTPDevice.objects.filter(user=town.accounts["security_admin"]).exists()


def test_signing_out_ends_the_session(as_: Callable[..., Client]) -> None:
    client = as_("gp0")
    assert client.get("/logout").status_code == 405
    assert client.post("/logout").headers["Location"] == "/login"
    assert client.get("/").status_code == 302


@pytest.mark.django_db
def test_an_account_without_a_post_is_told_so(town: Town, as_: Callable[..., Client]) -> None:
    town.county.posts["gp0"].delete()
    response = as_("gp0").get("/")
    assert response.status_code == 403
    assert "没有有效岗位" in response.content.decode()
