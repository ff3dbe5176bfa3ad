"""A resident's own pages of this room: bind an identity, family, the card with its code, sign-in and devices."""

from __future__ import annotations

import io
from typing import Any

import segno
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from lianxin.access import seal
from lianxin.access.errors import AccessError, Invalid
from lianxin.access.web import page
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.resident.card import accounts, binding, cards, family, limits, numbers, qr, web
from lianxin.resident.card.models import OutsideIdentity, Provider
from lianxin.resident.card.pages_signin import refuse
from lianxin.resident.sms import phones
from lianxin.standards.text import T


class BindForm(forms.Form):
    """Who one is, and what proves it."""

    name = forms.CharField(
        label=T("姓名", "Name"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        error_messages={"required": T("请填写姓名。", "Type your name.")},
    )
    id_no = forms.CharField(
        label=T("证件号码", "Identity number"),
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters"}),
        error_messages={"required": T("请填写证件号码。", "Type your identity number.")},
    )
    proof = forms.CharField(
        label=T("健康卡号或窗口绑定码（选填）", "Card number or binding code (optional)"),
        help_text=T(
            "建档时登记的就是这个手机号的，可以不填。",
            "Not needed when this phone is the one on your record.",
        ),
        max_length=20,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric"}),
    )


class ChildForm(forms.Form):
    """A child under 14."""

    name = forms.CharField(
        label=T("孩子姓名", "The child's name"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": T("请填写孩子姓名。", "Type the child's name.")},
    )
    id_no = forms.CharField(
        label=T(
            "孩子证件号码（新生儿可不填）", "The child's identity number (not for a newborn without one)"
        ),
        max_length=40,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters"}),
    )
    birth_date = forms.DateField(
        label=T("出生日期（没有证件号码时填写）", "Date of birth (when there is no number)"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        error_messages={"invalid": T("请填写正确的日期。", "Type a real date.")},
    )

    def clean(self) -> dict[str, Any]:
        """One of the two."""
        data = super().clean() or {}
        if not data.get("id_no") and not data.get("birth_date") and "birth_date" not in self.errors:
            self.add_error(
                "id_no",
                forms.ValidationError(
                    T("请填写证件号码或出生日期。", "Type the number or the date of birth.")
                ),
            )
        return data


class DelegateForm(forms.Form):
    """The code somebody gave."""

    elder = forms.CharField(
        label=T("对方姓名", "Their name"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        error_messages={"required": T("请填写对方姓名。", "Type their name.")},
    )
    code = forms.CharField(
        label=T("8位授权码", "Eight-digit code"),
        max_length=12,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric"}),
        error_messages={"required": T("请填写授权码。", "Type the code.")},
    )


def _status(form: forms.Form, refusal: AccessError | None) -> int:
    if isinstance(refusal, limits.TooMany):
        return 429
    return 422 if form.errors else 200


@page(resident=True)
@web.fresh
def bind(request: HttpRequest) -> HttpResponse:
    """Bind the account to who one is."""
    account = web.account(request)
    if binding.self_of(account) is not None:
        return redirect("card:card")
    form = BindForm(request.POST if request.method == "POST" else None, label_suffix="")
    refusal: AccessError | None = None
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            person = binding.bind(
                request.scope,
                account,
                given["name"],
                given["id_no"],
                proof=given["proof"],
                address=web.address(request),
            )
        except (Invalid, limits.TooMany) as why:
            refusal = why
            refuse(form, why, "id_no")
        else:
            words = T("已绑定：{name}。", "Bound: {name}.").format(name=person.name)
            messages.success(request, words)
            return redirect(web.onward(request))
    number = accounts.number_of(account)
    context = {"form": form, "next": web.onward(request), "phone": phones.masked(number) if number else ""}
    return render(request, "card/bind.html", context, status=_status(form, refusal))


@page(resident=True)
@web.fresh
def family_page(request: HttpRequest) -> HttpResponse:
    """Whom one acts for, who acts for oneself; add a child, accept a code, give a code, take a right back."""
    account = web.account(request)
    mine = binding.self_of(account)
    if mine is None:
        return redirect("card:bind")
    act = request.POST.get("act", "") if request.method == "POST" else ""
    child = ChildForm(request.POST if act == "child" else None, label_suffix="")
    delegate = DelegateForm(request.POST if act == "delegate" else None, label_suffix="")
    refusal: AccessError | None = None
    given_code = ""
    try:
        if act == "child" and child.is_valid():
            given = child.cleaned_data
            person = family.add_child(
                request.scope,
                account,
                given["name"],
                given["id_no"],
                birth_date=given["birth_date"],
                address=web.address(request),
            )
            return _added(request, person)
        if act == "delegate" and delegate.is_valid():
            given = delegate.cleaned_data
            return _added(request, family.accept(request.scope, account, given["elder"], given["code"]))
        if act == "invite":
            given_code = family.invite(request.scope, account)
        elif act == "end":
            wanted = request.POST.get("right", "")
            if wanted.isdigit() and len(wanted) < 18:
                family.end(request.scope, account, int(wanted))
                messages.success(request, T("已撤回，立即生效。", "Withdrawn, effective now."))
            return redirect("card:family")
    except (Invalid, limits.TooMany) as why:
        refusal = why
        form = child if act == "child" else delegate
        errors = why.errors if isinstance(why, Invalid) else {}
        for name, words in (errors or {"name": why.message}).items():
            field = name if name in form.fields else None
            form.add_error(field, forms.ValidationError(words))
    context = {
        "child": child,
        "delegate": delegate,
        "mine": family.acting(account),
        "others": family.who_acts_for(mine),
        "code": f"{given_code[:4]} {given_code[4:]}" if given_code else "",
        "open": act if child.errors or delegate.errors else "",
    }
    wrong = child if child.errors else delegate
    return render(request, "card/family.html", context, status=_status(wrong, refusal))


def _added(request: HttpRequest, person: Person) -> HttpResponse:
    words = T("现在可以为{name}办理。", "You may now act for {name}.").format(name=person.name)
    messages.success(request, words)
    return redirect("card:family")


@page(resident=True)
def card(request: HttpRequest) -> HttpResponse:
    """The card: number and code, drawn anew by a small script while the page is looked at; every other card of the person."""
    person = web.about(request)
    if person is None:
        return redirect("card:bind")
    context: dict[str, Any] = {
        "person": person,
        "number": _spaced(numbers.of(person)),
        "seconds": qr.SECONDS,
        "id_masked": registry.mask_id(_id(person)),
        "others": cards.others(person.pk),
    }
    try:
        context["card"] = cards.ensure(request.scope, person.pk)
    except Invalid as lost:
        context["lost"] = lost.message
    return render(request, "card/card.html", context)


def _id(person: Person) -> str:
    return seal.unseal(person.id_sealed)


def _spaced(number: str) -> str:
    return " ".join(number[at : at + 4] for at in range(0, len(number), 4))


@page(resident=True)
@require_GET
def code_svg(request: HttpRequest) -> HttpResponse:
    """A fresh code as a picture; 404 when there is no good card."""
    person = web.about(request)
    if person is None:
        return HttpResponse(status=404)
    try:
        text = qr.text(person.pk, by=request.scope)
    except Invalid:
        return HttpResponse(status=404)
    return HttpResponse(picture(text), content_type="image/svg+xml")


def picture(text: str) -> bytes:
    """A code as SVG, black on white whatever the page's colours."""
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        out, kind="svg", border=2, dark="#000", light="#fff", xmldecl=False, scale=8, omitsize=True
    )
    return out.getvalue()


@require_POST
@page(resident=True)
def card_lose(request: HttpRequest) -> HttpResponse:
    """Report the card lost: at once, without further proof (a code made a minute ago must not stay good)."""
    person = web.about(request)
    if person is not None:
        cards.lose(request.scope, person.pk)
        messages.success(
            request, T("已挂失，原二维码立即失效。", "Reported lost; its codes are void from now.")
        )
    return redirect("card:card")


@page(resident=True)
@web.fresh
def card_reissue(request: HttpRequest) -> HttpResponse:
    """A new card: asked by GET (after fresh proof), made by POST."""
    person = web.about(request)
    if person is None:
        return redirect("card:bind")
    if request.method == "POST":
        try:
            cards.reissue(request.scope, person.pk)
        except Invalid as refusal:
            messages.error(request, refusal.message)
        else:
            messages.success(request, T("新卡已生效。", "The new card is good from now."))
        return redirect("card:card")
    return render(request, "card/reissue.html", {"person": person})


@page(resident=True)
def account_page(request: HttpRequest) -> HttpResponse:
    """How one signs in: the phone, linked providers, signing out here or everywhere."""
    account = web.account(request)
    number = accounts.number_of(account)
    linked = set(OutsideIdentity.objects.filter(account=account).values_list("provider_id", flat=True))
    context = {
        "phone": phones.masked(number) if number else "",
        "bound": binding.self_of(account) is not None,
        "providers": [(p, p.pk in linked) for p in Provider.objects.filter(active=True).order_by("key")],
    }
    return render(request, "card/account.html", context)
