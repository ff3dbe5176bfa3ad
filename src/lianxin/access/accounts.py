"""Signing in: lock-out after five failures, second factor for administrators, changing a password, making accounts.

Portal's sign-in page calls :func:`sign_in`, which says in words what went wrong; :class:`Backend` is the same through Django.
"""

from __future__ import annotations

import datetime as dt
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import password_changed, validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.http import HttpRequest
from django_otp import user_has_device
from django_otp.plugins.otp_totp.models import TOTPDevice

from lianxin.access import audit, passwords
from lianxin.access.errors import Invalid
from lianxin.access.models import Account
from lianxin.access.scope import Scope, posts_of
from lianxin.network import roles
from lianxin.network.models import Post, Practitioner
from lianxin.standards import clock
from lianxin.standards.text import T, Text

MAX_FAILURES = 5
LOCK = dt.timedelta(minutes=15)


@dataclass(frozen=True)
class SignIn:
    """Outcome of a sign-in attempt: the account, or why not (``locked_until`` when it is a lock)."""

    account: Account | None
    error: Text | None = None
    locked_until: dt.datetime | None = None


def sign_in(username: str, password: str) -> SignIn:
    """Check a password. Five failures in a row lock the account for 15 minutes; each attempt is audited.

    An unknown name costs as much time and says the same as a wrong password.
    """
    account = Account.objects.filter(username__iexact=username.strip()).first()
    if account is None:
        make_password(password)
        audit.write(None, "login_failed", what="unknown account", outcome="refused")
        return SignIn(None, _wrong(None))
    now = clock.now()
    if account.locked_until and now < account.locked_until:
        _note(account, "login_failed", "locked", "refused")
        return SignIn(None, _locked(account.locked_until, now), account.locked_until)
    if not account.check_password(password):
        return _failure(account, now)
    if not account.is_active:
        _note(account, "login_failed", "inactive", "refused")
        return SignIn(
            None,
            T("账号已停用，请联系安全管理员。", "The account is disabled; ask the security administrator."),
        )
    if account.failed_count or account.locked_until:
        Account.objects.filter(pk=account.pk).update(failed_count=0, locked_until=None)
        account.failed_count, account.locked_until = 0, None
    _note(account, "login", "password", "ok")
    return SignIn(account)


@transaction.atomic
def _failure(account: Account, now: dt.datetime) -> SignIn:
    if account.locked_until:  # the lock has run out: count anew
        Account.objects.filter(pk=account.pk, locked_until=account.locked_until).update(
            failed_count=0, locked_until=None
        )
    Account.objects.filter(pk=account.pk).update(failed_count=F("failed_count") + 1)
    count = Account.objects.values_list("failed_count", flat=True).get(pk=account.pk)
    until = None
    if count >= MAX_FAILURES:
        until = now + LOCK
        Account.objects.filter(pk=account.pk).update(locked_until=until)
    _note(account, "login_failed", "wrong password", "refused", failures=count)
    return SignIn(None, _locked(until, now) if until else _wrong(MAX_FAILURES - count), until)


def _wrong(left: int | None) -> Text:
    if left is None or left > 2:
        return T("用户名或密码不正确。", "The user name or password is not right.")
    return T(
        "用户名或密码不正确，再错{left}次账号将锁定15分钟。",
        "The user name or password is not right; {left} more and the account is locked for 15 minutes.",
    ).format(left=left)


def _locked(until: dt.datetime, now: dt.datetime) -> Text:
    minutes = max(1, -(-int((until - now).total_seconds()) // 60))
    return T(
        "密码连续输错{n}次，账号已锁定，请{m}分钟后再试，或联系安全管理员解锁。",
        "Locked after {n} wrong passwords; try again in {m} minutes, or ask the security administrator.",
    ).format(n=MAX_FAILURES, m=minutes)


def _note(account: Account, action: str, why: str, outcome: str, **more: Any) -> None:
    scope = Scope(account_id=account.pk, practitioner_id=account.practitioner_id)
    audit.write(
        scope, action, what=f"account {account.username}", detail={"how": why, **more}, outcome=outcome
    )


class Backend(BaseBackend):
    """Django authentication backend over :func:`sign_in`."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any
    ) -> Account | None:
        """The account when name and password fit and it is not locked."""
        if username is None or password is None:
            return None
        return sign_in(username, password).account

    def get_user(self, user_id: int) -> Account | None:
        """The active account of a session."""
        return Account.objects.filter(pk=user_id, is_active=True).first()


def second_factor_due(account: Account, posts: Sequence[Post] | None = None) -> str:
    """ "" when none is needed, "verify" when a device is enrolled, "enrol" when an administrator must enrol one.

    Administrators (and whoever enrolled a device) must show it; enrolment is forced when
    ``settings.LIANXIN_ENFORCE_TOTP`` is true.
    """
    if user_has_device(account):
        return "verify"
    admin = any(post.role in roles.ADMINS for post in (posts_of(account) if posts is None else posts))
    return "enrol" if admin and getattr(settings, "LIANXIN_ENFORCE_TOTP", False) else ""


def new_device(account: Account) -> TOTPDevice:
    """An unconfirmed TOTP device (``config_url`` is the QR text); an earlier unconfirmed one is replaced."""
    TOTPDevice.objects.filter(user=account, confirmed=False).delete()
    return TOTPDevice.objects.create(user=account, name="totp", confirmed=False)


def confirm_device(device: TOTPDevice, code: str) -> bool:
    """Confirm enrolment with a first code; audited."""
    if not device.verify_token(code):
        return False
    device.confirmed = True
    device.save()
    _note(device.user, "admin", "second factor enrolled", "ok")
    return True


def change_password(account: Account, old: str, new: str) -> None:
    """Change one's own password; raises :class:`Invalid` naming ``old_password`` or ``new_password``."""
    if not account.check_password(old):
        raise Invalid(
            {
                "old_password": T(
                    "原密码不正确，请重新输入。", "The present password is not right; enter it again."
                )
            }
        )
    if old == new:
        raise Invalid(
            {
                "new_password": T(
                    "新密码不能与原密码相同。", "The new password must differ from the present one."
                )
            }
        )
    _set_password(account, new, must_change=False)
    _note(account, "admin", "password changed", "ok")


def _set_password(account: Account, new: str, *, must_change: bool) -> None:
    try:
        validate_password(new, account)
    except ValidationError as error:
        words = " ".join(error.messages)
        raise Invalid({"new_password": T(words, words)}) from error
    account.set_password(new)
    account.must_change_password = must_change
    account.password_changed_at = clock.now()
    account.failed_count, account.locked_until = 0, None
    account.save()
    password_changed(new, account)


def create(
    scope: Scope,
    username: str,
    name: str,
    *,
    practitioner: Practitioner | None = None,
    password: str | None = None,
    must_change: bool = True,
) -> tuple[Account, str]:
    """Make an account (permission ``manage_accounts``); returns it with its first password (made up when not given).

    Raises :class:`Invalid` for a name already taken.
    """
    scope.demand("manage_accounts")
    username = username.strip()
    if not username or len(username) > 60 or any(c.isspace() for c in username):
        raise Invalid(
            {
                "username": T(
                    "用户名不能为空或含空格，最多60字。",
                    "A user name of 1-60 characters without blanks is needed.",
                )
            }
        )
    if Account.objects.filter(username__iexact=username).exists():
        raise Invalid(
            {"username": T("用户名已被使用，请换一个。", "The user name is taken; choose another.")}
        )
    first = password or first_password()
    with transaction.atomic():
        account = Account(username=username, name=name, practitioner=practitioner)
        _set_password(account, first, must_change=must_change)
        audit.write(scope, "admin", what=f"account {username}", detail={"did": "created"})
    return account, first


def reset_password(scope: Scope, account: Account) -> str:
    """Give an account a new first password, to be changed at sign-in; unlocks it (permission ``manage_accounts``)."""
    scope.demand("manage_accounts")
    first = first_password()
    with transaction.atomic():
        _set_password(account, first, must_change=True)
        audit.write(scope, "admin", what=f"account {account.username}", detail={"did": "password reset"})
    return first


@transaction.atomic
def set_active(scope: Scope, account: Account, active: bool) -> None:
    """Enable or disable an account (permission ``manage_accounts``); not one's own."""
    scope.demand("manage_accounts")
    if account.pk == scope.account_id and not active:
        raise Invalid({"account": T("不能停用自己的账号。", "You cannot disable your own account.")})
    account.is_active = active
    account.save(update_fields=["is_active"])
    audit.write(
        scope,
        "admin",
        what=f"account {account.username}",
        detail={"did": "enabled" if active else "disabled"},
    )


@transaction.atomic
def unlock(scope: Scope, account: Account) -> None:
    """Lift a lock-out (permission ``manage_accounts``)."""
    scope.demand("manage_accounts")
    account.failed_count, account.locked_until = 0, None
    account.save(update_fields=["failed_count", "locked_until"])
    audit.write(scope, "admin", what=f"account {account.username}", detail={"did": "unlocked"})


def first_password(length: int = 12) -> str:
    """A random password that meets the policy, without characters people confuse."""
    alphabet = "".join(c for c in string.ascii_letters + string.digits if c not in "0O1lIo")
    while True:
        made = "".join(secrets.choice(alphabet) for _ in range(length))
        if passwords.classes(made) >= 3:
            return made
