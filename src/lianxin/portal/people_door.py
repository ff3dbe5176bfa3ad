"""The door of a record: what somebody without a relationship sees, and the three ways in.

Check-in (the person is here and proves it), a call to the person's own institution, break-glass with a reason. Also the
person's consents, which decide what leaves the house.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access import break_glass as glass
from lianxin.access import consent as consents
from lianxin.access.errors import Invalid
from lianxin.access.web import page
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network import directory, roles
from lianxin.network.models import Institution
from lianxin.portal.people import FINDERS
from lianxin.standards.text import T, Text


class CheckInForm(forms.Form):
    """What the person shows: card text or identity number."""

    evidence = forms.CharField(
        label=T("健康卡码或证件号", "Card code or ID number"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "text"}),
    )


class BreakForm(forms.Form):
    """Why the record must be opened now."""

    reason = forms.CharField(
        label=T("理由（至少 10 字）", "Reason (at least 10 characters)"),
        min_length=10,
        max_length=500,
        widget=forms.Textarea(attrs={"rows": 2}),
    )


def refuse(
    request: HttpRequest,
    person: Person,
    *,
    error: Text | None = None,
    forms_: dict[str, forms.Form] | None = None,
) -> HttpResponse:
    """The masked page with the ways in; 403, written to the audit as a refusal."""
    audit.write(request.scope, "deny", person_id=person.id, what="person", outcome="refused")
    own = forms_ or {}
    context = {
        "person": person,
        "masked_name": registry.mask_name(person.name),
        "home": person.home_institution,
        "where": _here(request),
        "check_in": own.get("check_in", CheckInForm()),
        "family_doctors": _family_doctors(person),
        "break_form": own.get("break", BreakForm()),
        "may_break": request.scope.clinical,
        "error": error,
    }
    return render(request, "portal/people/masked.html", context, status=403)


def _here(request: HttpRequest) -> Any:
    inst = Institution.objects.filter(id=request.scope.institution_id).first()
    return Text(inst.name, inst.name_en or inst.name) if inst else T("本机构", "Your institution")


def _family_doctors(person: Person) -> list[Any]:
    home = person.home_institution
    if home is None:
        return []
    return list(directory.practitioners_of(home, roles.FAMILY_DOCTOR)[:3]) or list(
        directory.practitioners_of(home, roles.GP)[:3]
    )


def _bad(request: HttpRequest, person: Person, name: str, form: forms.Form) -> HttpResponse:
    return refuse(
        request,
        person,
        error=T("没有提交成功：请按提示补充。", "Not sent: see the field below."),
        forms_={name: form},
    )


@require_POST
@page(*FINDERS)
def check_in(request: HttpRequest, number: str) -> HttpResponse:
    """Match card or ID number with the person and open an encounter relationship for this institution."""
    person = registry.get(number)
    form = CheckInForm(request.POST)
    if not form.is_valid():
        return _bad(request, person, "check_in", form)
    try:
        registry.check_in(request.scope, person, form.cleaned_data["evidence"])
    except Invalid as refusal:
        form.add_error("evidence", str(refusal.errors.get("evidence", refusal.message)))
        return _bad(request, person, "check_in", form)
    messages.success(
        request, str(T("已核对并登记就诊，病历开放 30 天。", "Matched and checked in; open for 30 days."))
    )
    if request.scope.clinical:
        return redirect("portal:person", number=person.number)
    return redirect(reverse("referral:reception") + f"?person={person.number}")


@require_POST
@page(clinical=True)
def break_glass(request: HttpRequest, number: str) -> HttpResponse:
    """Open the record for four hours with a reason; reviewed afterwards, visible to the resident."""
    person = registry.get(number)
    form = BreakForm(request.POST)
    if not form.is_valid():
        return _bad(request, person, "break", form)
    try:
        glass.open(request.scope, person.id, form.cleaned_data["reason"])
    except Invalid as refusal:
        form.add_error("reason", str(refusal.message))
        return _bad(request, person, "break", form)
    messages.warning(
        request,
        str(
            T(
                "紧急查阅已开放 4 小时，理由已存，事后复核。",
                "Open for 4 hours; the reason is kept and reviewed.",
            )
        ),
    )
    return redirect("portal:person", number=person.number)


def _refuse_sharing(request: HttpRequest, person: Person) -> None:
    """Record what the person does not want shared, and with whom."""
    known = {r.institution_id for r in relationships.of_person(person.pk)}
    chosen = [request.POST.get(name, "") for name in ("source", "recipient")]
    source, recipient = (int(v) if v.isdigit() and len(v) < 18 else None for v in chosen)
    if any(text and one not in known for text, one in zip(chosen, (source, recipient), strict=True)):
        messages.error(request, str(T("请从列表中选择机构。", "Choose institutions from the list.")))
        return
    try:
        consents.refuse(
            request.scope,
            person.pk,
            source_id=source,
            institution_id=recipient,
            sensitive=request.POST.get("refuse") == "sensitive",
            evidence=request.POST.get("evidence", ""),
        )
    except Invalid as refusal:
        messages.error(request, str(refusal.message))
    else:
        messages.success(request, str(T("已记录，立即生效。", "Recorded, effective now.")))


@require_POST
@page(clinical=True)
def consent(request: HttpRequest, number: str) -> HttpResponse:
    """Record or withdraw a consent; withdrawal takes effect at once."""
    person = registry.get(number)
    kind = request.POST.get("kind", "")
    relationships.require(request.scope, person.id)
    if request.POST.get("withdraw"):
        mine = {c.pk for c in consents.of_person(person.pk)}
        wanted = request.POST["withdraw"]
        if wanted.isdigit() and int(wanted) in mine:
            consents.withdraw(request.scope, int(wanted))
        messages.success(request, str(T("同意已撤回，立即生效。", "Consent withdrawn, effective now.")))
    elif "refuse" in request.POST:
        _refuse_sharing(request, person)
    elif kind:
        given = (request.POST.get("text_version", "1"), request.POST.get("evidence", ""))
        try:
            consents.record(request.scope, person.id, kind, request.scope.institution_id, *given)
        except Invalid as refusal:
            messages.error(request, str(refusal.message))
        else:
            messages.success(request, str(T("已记录同意。", "Consent recorded.")))
    return redirect(reverse("portal:person", args=[person.number]) + "?tab=consents")
