"""Register a new person at a desk: identity first, the index decides whether the person is already known."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access.web import page
from lianxin.index import registry
from lianxin.network.models import Institution
from lianxin.portal.people import REGISTRARS
from lianxin.standards import clock, codes, identifiers
from lianxin.standards.text import T

SYSTEM = "http://lianxin.example/desk"
RESIDENT_ID = "01"

SEXES = [
    ("", T("请选择", "Choose")),
    ("male", T("男", "Male")),
    ("female", T("女", "Female")),
    ("unknown", T("未说明", "Not stated")),
]
ID_TYPES_FALLBACK = [
    (RESIDENT_ID, T("居民身份证", "Resident identity card")),
    ("02", T("居民户口簿", "Household register")),
    ("03", T("护照", "Passport")),
    ("99", T("其他证件", "Other document")),
]


def id_types() -> list[tuple[str, Any]]:
    """Kinds of identity document (WS 364.3 CV02.01.101), the shipped short list when the code system is not loaded."""
    return [("", T("暂无证件", "No document"))] + (list(codes.choices("id-type")) or ID_TYPES_FALLBACK)


class RegisterForm(forms.Form):
    """Name and identity are enough; sex and birth date come from a valid identity number."""

    id_type = forms.ChoiceField(label=T("证件类型", "Document"), required=False)
    id_no = forms.CharField(
        label=T("证件号码", "Document number"),
        required=False,
        max_length=40,
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "characters", "autofocus": True}
        ),
        help_text=T("身份证 18 位，末位 X 大小写均可", "18 digits for the ID card; X in either case"),
    )
    name = forms.CharField(
        label=T("姓名", "Name"), max_length=50, widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
    sex = forms.ChoiceField(label=T("性别", "Sex"), choices=SEXES, required=False)
    birth_date = forms.DateField(
        label=T("出生日期", "Date of birth"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    phone = forms.CharField(
        label=T("手机", "Mobile phone"),
        required=False,
        max_length=20,
        widget=forms.TextInput(attrs={"inputmode": "tel"}),
    )
    address = forms.CharField(label=T("现住址", "Address"), required=False, max_length=200)
    village = forms.CharField(label=T("村（居）", "Village"), required=False, max_length=60)
    home_here = forms.BooleanField(
        label=T("由本机构负责（签约、建档）", "Belongs to our institution (contract, health file)"),
        required=False,
        initial=True,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["id_type"].choices = id_types()  # type: ignore[attr-defined]
        if not self.is_bound:
            self.initial.setdefault("id_type", RESIDENT_ID)

    def clean_phone(self) -> str:
        """Digits only; mobile numbers have eleven."""
        phone = identifiers.normalise(self.cleaned_data["phone"]).removeprefix("+86")
        if phone and (not phone.isdigit() or not 7 <= len(phone) <= 12):
            raise forms.ValidationError(
                T("电话应为 7 至 12 位数字，请核对。", "A phone number has 7 to 12 digits; check it."),
                code="phone",
            )
        return phone

    def clean(self) -> dict[str, Any]:
        """Check digits of an identity number; what it says must not contradict what was typed."""
        data = super().clean() or self.cleaned_data
        number, kind = data.get("id_no", ""), data.get("id_type", "")
        if number and not kind:
            self.add_error("id_type", str(T("请选择证件类型。", "Choose the kind of document.")))
        if number and kind == RESIDENT_ID:
            try:
                known = identifiers.resident_id(number)
            except identifiers.IdentifierError as error:
                self.add_error("id_no", str(error.message))
                return data
            data["id_no"], data["division"] = known.number, known.division
            for field, value in (("birth_date", known.birth_date), ("sex", known.sex)):
                typed = data.get(field)
                if typed and typed not in (value, "unknown"):
                    self.add_error(
                        field,
                        str(
                            T(
                                "与身份证号不一致，请核对其中一个。",
                                "Disagrees with the ID number; check one of them.",
                            )
                        ),
                    )
                data[field] = value
        if not data.get("birth_date") and "birth_date" not in self.errors:
            self.add_error(
                "birth_date",
                str(T("没有身份证号时请填出生日期。", "Without an ID number give the date of birth.")),
            )
        elif isinstance(data.get("birth_date"), dt.date) and data["birth_date"] > clock.today():
            self.add_error(
                "birth_date", str(T("出生日期不能晚于今天。", "The date of birth lies in the future."))
            )
        return data


def _initial(q: str) -> dict[str, Any]:
    """What was searched for becomes the first field: digits are a number, the rest a name."""
    if not q:
        return {}
    plain = identifiers.normalise(q)
    if len(plain) in (15, 18) and plain[:-1].isdigit():
        return {"id_no": plain}
    return {"phone": plain} if plain.isdigit() else {"name": q if any("一" <= c <= "鿿" for c in q) else ""}


def _registration(data: dict[str, Any], institution: Institution) -> registry.Registration:
    home = (
        institution.parent_id if institution.kind == "village" and institution.parent_id else institution.pk
    )
    now = clock.now()
    return registry.Registration(
        institution_id=institution.pk,
        system=SYSTEM,
        # The desk has no number of its own: the identity document is the stable key, else the moment of registration.
        local_id=f"{data['id_type']}:{data['id_no']}" if data["id_no"] else f"{now:%Y%m%d%H%M%S%f}",
        name=data["name"].strip(),
        sex=data["sex"] or "unknown",
        birth_date=data["birth_date"],
        id_type=data["id_type"] if data["id_no"] else "",
        id_no=data["id_no"],
        phone=data["phone"],
        address=data["address"],
        division=data.get("division", ""),
        village=data["village"],
        home_institution_id=home if data["home_here"] else None,
    )


@page(*REGISTRARS)
def register(request: HttpRequest) -> HttpResponse:
    """The form; on success the person's record opens, and says whether the person was new or already known."""
    form = RegisterForm(request.POST or None, initial=_initial(request.GET.get("q", "").strip()))
    if request.method == "POST" and form.is_valid():
        institution = Institution.objects.get(pk=request.scope.institution_id)
        with transaction.atomic():
            done = registry.register(request.scope, _registration(form.cleaned_data, institution))
            if form.cleaned_data["id_no"]:
                registry.check_in(request.scope, done.person, form.cleaned_data["id_no"])
        words = (
            T("已登记，主索引号 {n}。", "Registered; index number {n}.")
            if done.created
            else T("此人已有档案，已关联到主索引号 {n}。", "Already known; linked to index number {n}.")
        )
        messages.success(request, str(words.format(n=done.person.number)))
        return redirect("portal:person", number=done.person.number)
    return render(request, "portal/people/register.html", {"form": form}, status=422 if form.errors else 200)
