"""Signing in, lock-out, password policy, second factor, account administration."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from django.utils.translation import override
from django_otp.oath import totp

from lianxin.access import accounts
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Account, AuditEvent
from lianxin.access.passwords import ThreeClassesValidator
from lianxin.access.scope import Scope
from lianxin.network import roles
from lianxin.standards import clock
from tests.access.conftest import PASSWORD

NOON = dt.datetime(2026, 11, 23, 12, tzinfo=clock.ZONE)


def test_five_failures_lock_for_fifteen_minutes(account: Callable[..., Account]) -> None:
    user = account(roles.GP, username="wang")
    with clock.at(NOON):
        for _ in range(3):
            assert accounts.sign_in("wang", "wrong").locked_until is None
        assert "1" in accounts.sign_in("WANG", "wrong").error.zh  # one left
        fifth = accounts.sign_in("wang", "wrong")
        assert fifth.locked_until == NOON + dt.timedelta(minutes=15)
        assert "15分钟" in fifth.error.zh
    with clock.at(NOON + dt.timedelta(minutes=10)):
        shut = accounts.sign_in("wang", PASSWORD)
        assert shut.account is None
        assert "5分钟" in shut.error.zh
        assert "5 minutes" in shut.error.en
    with clock.at(NOON + dt.timedelta(minutes=15)):
        assert accounts.sign_in("wang", "wrong").locked_until is None  # counted anew
        assert accounts.sign_in("wang", PASSWORD).account == user
    user.refresh_from_db()
    assert (user.failed_count, user.locked_until) == (0, None)
    assert AuditEvent.objects.filter(action="login_failed").count() == 7
    assert AuditEvent.objects.filter(action="login").count() == 1


def test_unknown_and_disabled_accounts(account: Callable[..., Account]) -> None:
    account(roles.GP, username="li", is_active=False)
    assert accounts.sign_in("nobody", "x").error == accounts.sign_in("li", "x").error
    assert "停用" in accounts.sign_in("li", PASSWORD).error.zh
    assert accounts.Backend().authenticate(None, "li", PASSWORD) is None


@pytest.mark.parametrize("password", ["abcdefghij", "abcdefgh12", "12345678ab"])
def test_three_classes(password: str) -> None:
    with pytest.raises(ValidationError, match="三类"):
        ThreeClassesValidator().validate(password)
    with override("en"), pytest.raises(ValidationError, match="three of"):
        ThreeClassesValidator().validate(password)
    ThreeClassesValidator().validate("Abcdefgh12")


def test_change_password(account: Callable[..., Account]) -> None:
    user = account(roles.GP, must_change_password=True)
    with pytest.raises(Invalid) as wrong:
        accounts.change_password(user, "nope", "Another-2027")
    assert list(wrong.value.errors) == ["old_password"]
    with pytest.raises(Invalid) as weak:
        accounts.change_password(user, PASSWORD, "short")
    assert list(weak.value.errors) == ["new_password"]
    accounts.change_password(user, PASSWORD, "Another-2027")
    user.refresh_from_db()
    assert not user.must_change_password
    assert user.check_password("Another-2027")


def test_second_factor(account: Callable[..., Account], settings: object) -> None:
    admin, doctor = account(roles.SECURITY_ADMIN), account(roles.GP)
    settings.LIANXIN_ENFORCE_TOTP = False  # type: ignore[attr-defined]
    assert accounts.second_factor_due(admin) == ""
    settings.LIANXIN_ENFORCE_TOTP = True  # type: ignore[attr-defined]
    assert accounts.second_factor_due(admin) == "enrol"
    assert accounts.second_factor_due(doctor) == ""
    device = accounts.new_device(admin)
    assert not accounts.confirm_device(device, "000")
    device.refresh_from_db()
    device.throttle_reset()
    assert accounts.confirm_device(device, f"{totp(device.bin_key):06d}")
    assert accounts.second_factor_due(admin) == "verify"


def test_only_the_security_administrator_keeps_accounts(scope: Callable[..., Scope]) -> None:
    with pytest.raises(NotPermitted) as refused:
        accounts.create(scope(roles.SYSTEM_ADMIN), "new", "新")
    assert "安全管理员" in refused.value.message.zh
    keeper = scope(roles.SECURITY_ADMIN)
    made, first = accounts.create(keeper, "new", "新")
    assert made.must_change_password
    assert accounts.sign_in("new", first).account == made
    with pytest.raises(Invalid) as taken:
        accounts.create(keeper, "NEW", "又")
    assert list(taken.value.errors) == ["username"]
    second = accounts.reset_password(keeper, made)
    assert accounts.sign_in("new", first).account is None
    assert accounts.sign_in("new", second).account == made
    accounts.set_active(keeper, made, False)
    assert accounts.sign_in("new", second).account is None
