"""Signing in on a phone: number, code, in. Also fresh proof for what a found phone must not open, and signing out."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import auth, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import AccessError, Invalid
from lianxin.access.models import Account
from lianxin.access.web import page
from lianxin.resident.card import accounts, limits, web
from lianxin.resident.card.models import Provider
from lianxin.resident.sms import phones
from lianxin.standards.text import T

STAYS = 90 * 86400
"""Seconds a phone stays signed in."""
ASKED = "lianxin_asked"


class PhoneForm(forms.Form):
    """The number."""

    phone = forms.CharField(
        label=T("手机号码", "Mobile number"),
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "tel-national", "inputmode": "tel", "autofocus": True}),
        error_messages={"required": T("请填写手机号码。", "Type your mobile number.")},
    )


class CodeForm(forms.Form):
    """The six digits."""

    code = forms.RegexField(
        r"^\s*[0-9]{6}\s*$",
        label=T("6位验证码", "Six-digit code"),
        widget=forms.TextInput(
            attrs={"autocomplete": "one-time-code", "inputmode": "numeric", "autofocus": True, "maxlength": 6}
        ),
        error_messages={
            "required": T("请填写短信里的6位验证码。", "Type the six digits of the message."),
            "invalid": T("验证码是6位数字。", "The code has six digits."),
        },
    )


def refuse(form: forms.Form, refusal: AccessError, field: str) -> None:
    """Put a refusal on the form, at the field it is about."""
    errors = refusal.errors if isinstance(refusal, Invalid) else {field: refusal.message}
    for name, words in errors.items():
        form.add_error(name if name in form.fields else None, forms.ValidationError(words))


def _wrong(form: forms.Form, refusal: AccessError | None) -> int:
    if isinstance(refusal, limits.TooMany):
        return 429
    return 422 if form.errors else 200


@never_cache
def login(request: HttpRequest) -> HttpResponse:
    """Step one: the number. The answer is the same whether anybody has it."""
    scope = getattr(request, "scope", None)
    if scope is not None and scope.resident and request.method == "GET":
        return redirect(web.onward(request))
    form = PhoneForm(request.POST if request.method == "POST" else None, label_suffix="")
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            number = accounts.request_code(
                form.cleaned_data["phone"], web.address(request), get_language() or "zh-hans"
            )
        except (Invalid, limits.TooMany) as why:
            refusal = why
            refuse(form, why, "phone")
        else:
            request.session[ASKED] = number
            return redirect(f"/m/login/code?next={_quoted(web.onward(request))}")
    context = {
        "form": form,
        "next": web.onward(request),
        "providers": Provider.objects.filter(active=True).order_by("key"),
        "staff": scope is not None and not scope.resident,
    }
    return render(request, "card/login.html", context, status=_wrong(form, refusal))


def _quoted(target: str) -> str:
    from urllib.parse import quote

    return quote(target)


@never_cache
def code(request: HttpRequest) -> HttpResponse:
    """Step two: the code that was sent."""
    number = request.session.get(ASKED, "")
    if not number:
        return redirect("card:login")
    form = CodeForm(request.POST if request.method == "POST" else None, label_suffix="")
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            account = accounts.sign_in(number, form.cleaned_data["code"], web.address(request))
        except (Invalid, limits.TooMany) as why:
            refusal = why
            refuse(form, why, "code")
        else:
            enter(request, account)
            return redirect(web.onward(request))
    return render(
        request, "card/login_code.html", _asked(request, number, form), status=_wrong(form, refusal)
    )


def _asked(request: HttpRequest, number: str, form: forms.Form) -> dict[str, Any]:
    return {
        "form": form,
        "next": web.onward(request),
        "phone": phones.masked(number),
        "number": number,
        "again": accounts.AGAIN,
    }


def enter(request: HttpRequest, account: Account) -> None:
    """Open a session that stays on this phone; whoever was signed in here before is out."""
    request.session.pop(ASKED, None)
    if request.user.is_authenticated and request.user.pk != account.pk:
        auth.logout(request)
    auth.login(request, account, backend=settings.AUTHENTICATION_BACKENDS[0])
    request.session.set_expiry(STAYS)
    web.mark_proved(request)


@page(resident=True)
def prove(request: HttpRequest) -> HttpResponse:
    """A code to the account's own number again, before something that a found phone must not open."""
    number = accounts.number_of(web.account(request))
    if not number:
        return _prove_elsewhere(request)
    ask = request.method == "POST" and "send" in request.POST
    form = CodeForm(request.POST if request.method == "POST" and not ask else None, label_suffix="")
    refusal: AccessError | None = None
    sent = request.method == "POST"
    if ask:
        try:
            accounts.request_code(number, web.address(request), get_language() or "zh-hans")
        except limits.TooMany as why:
            refusal = why
    elif request.method == "POST" and form.is_valid():
        try:
            accounts.prove(number, form.cleaned_data["code"], web.address(request))
        except (Invalid, limits.TooMany) as why:
            refusal = why
            refuse(form, why, "code")
        else:
            audit.write(request.scope, "login", what="proved again")
            web.mark_proved(request)
            return redirect(web.onward(request))
    context = _asked(request, number, form) | {"sent": sent, "refusal": refusal if ask else None}
    return render(request, "card/prove.html", context, status=_wrong(form, refusal))


def _prove_elsewhere(request: HttpRequest) -> HttpResponse:
    """An account without a phone proves itself where it signs in: at its provider."""
    context = {
        "providers": Provider.objects.filter(active=True, identities__account=web.account(request)),
        "next": web.onward(request),
    }
    return render(request, "card/prove.html", context)


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    """POST: sign out on this phone; with ``everywhere`` on all of them."""
    scope = getattr(request, "scope", None)
    if scope is not None and scope.resident:
        if request.POST.get("everywhere"):
            accounts.sign_out_everywhere(web.account(request))
        audit.write(scope, "logout", what="session")
        auth.logout(request)
    messages.success(request, T("您已退出。", "You have signed out."))
    return redirect("card:login")
