"""Signing in and out, passwords, one-time codes, and the language of the pages.

Password first; then, when the account owes it, a new password (``/password``) or a second factor (``/totp``). The guard of
:func:`lianxin.access.web.page` sends an unready account to the step it owes, so these views need no state of their own.
"""

from __future__ import annotations

from base64 import b32encode
from typing import Any

import django_otp
import segno
from django import forms
from django.conf import settings
from django.contrib import auth, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST
from django.views.i18n import set_language
from django_otp.plugins.otp_totp.models import TOTPDevice

from lianxin.access import accounts, audit
from lianxin.access.errors import Invalid
from lianxin.access.models import Account
from lianxin.access.web import page
from lianxin.duty.forms import refuse
from lianxin.portal.forms import HouseForm
from lianxin.standards.text import T

LANGUAGES = dict(settings.LANGUAGES)
RULES = (
    T("至少 10 个字符。", "At least 10 characters."),
    T(
        "大写字母、小写字母、数字、符号中至少有三类。",
        "At least three of: capitals, small letters, digits, symbols.",
    ),
    T(
        "不能与用户名或姓名相近，不能是常见密码。",
        "Not close to your user name or name, and not a common password.",
    ),
)


class LoginForm(HouseForm):
    """User name and password."""

    username = forms.CharField(
        label=T("用户名", "User name"),
        max_length=60,
        widget=forms.TextInput(
            attrs={"autocomplete": "username", "autofocus": True, "autocapitalize": "none"}
        ),
    )
    password = forms.CharField(
        label=T("密码", "Password"),
        strip=False,
        max_length=200,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


class CodeForm(HouseForm):
    """Six digits of an authenticator."""

    code = forms.RegexField(
        r"^\s*\d{6}\s*$",
        label=T("六位动态口令", "Six-digit code"),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True}
        ),
        error_messages={
            "invalid": T("动态口令是六位数字，请重新输入。", "The code has six digits; type it again.")
        },
    )


class PasswordForm(HouseForm):
    """The present password and the new one, twice."""

    old_password = forms.CharField(
        label=T("现在的密码", "Present password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )
    new_password = forms.CharField(
        label=T("新密码", "New password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    again = forms.CharField(
        label=T("再输一次新密码", "New password again"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean(self) -> dict[str, Any]:
        """Both times the same."""
        data = super().clean() or {}
        if data.get("new_password") and data.get("again") and data["new_password"] != data["again"]:
            refuse(
                self,
                {"again": T("两次输入的新密码不一样，请重新输入。", "The two do not agree; type it again.")},
            )
        return data


class RemoveForm(HouseForm):
    """The password, to turn the second factor off."""

    password = forms.CharField(
        label=T("现在的密码", "Present password"),
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )


def _account(request: HttpRequest) -> Account:
    """Who has signed in (the guard has made sure that somebody has)."""
    assert isinstance(request.user, Account)
    return request.user


def _onward(request: HttpRequest) -> str:
    """Where to go after signing in: ``next`` when it is an address of ours, else the workbench."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    if target.startswith("/") and url_has_allowed_host_and_scheme(
        target, {request.get_host()}, require_https=request.is_secure()
    ):
        return target
    return reverse("portal:workbench")


def _speak(response: HttpResponse, language: str) -> HttpResponse:
    if language in LANGUAGES:
        response.set_cookie(settings.LANGUAGE_COOKIE_NAME, language, max_age=365 * 86400, samesite="Lax")
    return response


@never_cache
def login(request: HttpRequest) -> HttpResponse:
    """The sign-in page; says how long a locked account stays locked."""
    if getattr(request, "scope", None) is not None and request.method == "GET":
        return redirect(_onward(request))
    form = LoginForm(request.POST if request.method == "POST" else None)
    locked = None
    if request.method == "POST" and form.is_valid():
        outcome = accounts.sign_in(form.cleaned_data["username"], form.cleaned_data["password"])
        if outcome.account is not None:
            auth.login(request, outcome.account, backend=settings.AUTHENTICATION_BACKENDS[0])
            response = redirect(_onward(request))
            if settings.LANGUAGE_COOKIE_NAME not in request.COOKIES:
                _speak(response, outcome.account.language)
            return response
        if outcome.locked_until is not None:
            locked = outcome.error
        elif outcome.error is not None:
            refuse(form, {"password": outcome.error})
    context = {"form": form, "locked": locked, "next": _onward(request)}
    return render(
        request, "portal/signin/login.html", context, status=200 if not form.errors and not locked else 422
    )


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """Sign out; the session is gone."""
    if request.user.is_authenticated:
        audit.write(getattr(request, "scope", None), "logout", what="session")
    auth.logout(request)
    messages.success(request, T("您已退出。", "You have signed out."))
    return redirect("portal:login")


@require_POST
def language(request: HttpRequest) -> HttpResponse:
    """Change the language of the pages; kept with the account, too."""
    chosen = request.POST.get("language", "")
    account = request.user
    if chosen in LANGUAGES and account.is_authenticated and account.language != chosen:
        account.language = chosen
        account.save(update_fields=["language"])
    return set_language(request)


@page(unready=True)
def password(request: HttpRequest) -> HttpResponse:
    """Change one's password; forced after a one-time password."""
    account = _account(request)
    must = account.must_change_password
    form = PasswordForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            accounts.change_password(
                account, form.cleaned_data["old_password"], form.cleaned_data["new_password"]
            )
        except Invalid as error:
            refuse(form, error.errors)
        else:
            auth.update_session_auth_hash(request, account)
            messages.success(request, T("新密码已保存。", "The new password was saved."))
            return redirect("portal:workbench")
    context = {"form": form, "must": must, "rules": RULES}
    return render(request, "portal/signin/password.html", context, status=422 if form.errors else 200)


def _qr(device: TOTPDevice) -> str:
    """The enrolment QR as an SVG data URI."""
    return segno.make(device.config_url, error="m").svg_data_uri(scale=4, border=1)


@page(unready=True)
def totp(request: HttpRequest) -> HttpResponse:
    """One-time codes: show the code owed at sign-in, enrol a phone, or see that it is on."""
    account = _account(request)
    due = accounts.second_factor_due(account)
    if due == "verify" and not request.user.is_verified():  # type: ignore[union-attr]
        return _ask_code(request, CodeForm())
    if due == "verify":
        return render(request, "portal/signin/totp.html", {"confirmed": True, "form": RemoveForm()})
    form = CodeForm(request.POST if request.method == "POST" else None)
    if request.method == "POST":
        device = TOTPDevice.objects.filter(user=account, confirmed=False).first() or accounts.new_device(
            account
        )
        if form.is_valid():
            if accounts.confirm_device(device, form.cleaned_data["code"].strip()):
                django_otp.login(request, device)
                messages.success(
                    request,
                    T("动态口令已启用，下次登录生效。", "One-time codes are on from the next sign-in."),
                )
                return redirect("portal:workbench")
            refuse(form, {"code": _wrong_code()})
    else:
        device = accounts.new_device(account)
    context = {
        "confirmed": False,
        "form": form,
        "qr": _qr(device),
        "secret": _secret(device),
        "forced": due == "enrol",
    }
    return render(request, "portal/signin/totp.html", context, status=422 if form.errors else 200)


def _secret(device: TOTPDevice) -> str:
    """The key in groups of four, as authenticators take it."""
    text = b32encode(device.bin_key).decode().rstrip("=")
    return " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def _wrong_code() -> Any:
    return T(
        "动态口令不对或已过期，请输入应用现在显示的数字；手机时间须准确。",
        "Wrong or expired code. Type the one shown now; the phone's clock must be right.",
    )


def _ask_code(request: HttpRequest, form: CodeForm) -> HttpResponse:
    context = {
        "form": form,
        "step": "code",
        "action": reverse("portal:totp_verify"),
        "next": _onward(request),
    }
    return render(request, "portal/signin/login.html", context, status=422 if form.errors else 200)


@require_POST
@page(unready=True)
def totp_verify(request: HttpRequest) -> HttpResponse:
    """Check the code owed at sign-in; wrong codes are throttled by the device and audited."""
    form = CodeForm(request.POST)
    if form.is_valid():
        device = django_otp.match_token(request.user, form.cleaned_data["code"].strip())
        if device is not None:
            django_otp.login(request, device)
            audit.write(request.scope, "login", what="second factor")
            return redirect(_onward(request))
        audit.write(request.scope, "login_failed", what="second factor", outcome="refused")
        refuse(form, {"code": _wrong_code()})
    return _ask_code(request, form)


@require_POST
@page()
def totp_remove(request: HttpRequest) -> HttpResponse:
    """Turn one-time codes off, with the password."""
    form = RemoveForm(request.POST)
    if form.is_valid():
        if request.user.check_password(form.cleaned_data["password"]):
            TOTPDevice.objects.filter(user=request.user).delete()
            audit.write(request.scope, "admin", what="second factor removed")
            messages.success(request, T("动态口令已停用。", "One-time codes are off."))
            return redirect("portal:totp")
        refuse(form, {"password": T("密码不正确，请重新输入。", "Wrong password; type it again.")})
    return render(request, "portal/signin/totp.html", {"confirmed": True, "form": form}, status=422)
