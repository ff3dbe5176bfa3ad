"""The desk: scan a card, find a person, issue, report lost, issue anew, print; binding codes and family with evidence.

A scanned card is the person at the desk: it checks them in, which opens the record to the institution as showing a document does
(:func:`lianxin.index.registry.check_in`). Without a card the person's document is checked in on the person's own page first.
"""

from __future__ import annotations

import base64
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.errors import AccessError, Invalid, NoRelationship
from lianxin.access.models import ActsFor, Relationship
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.resident.card import binding, cards, codes, family, numbers, qr
from lianxin.resident.card.models import ServiceCard
from lianxin.resident.card.pages_mine import picture
from lianxin.standards import clock
from lianxin.standards.text import T

RELATIONS = [
    ("guardian", T("监护人（到18周岁）", "Guardian (until 18)")),
    ("delegate", T("受托人", "Delegate")),
]


class FamilyForm(forms.Form):
    """Who shall act for the person, and what was seen."""

    phone = forms.CharField(
        label=T("代办人手机（须已绑定本人身份）", "Their phone (with a bound identity)"),
        max_length=40,
        widget=forms.TextInput(attrs={"inputmode": "tel", "autocomplete": "off"}),
    )
    relation = forms.ChoiceField(label=T("关系", "Relation"), choices=RELATIONS)
    evidence = forms.CharField(
        label=T("核对的证明材料及编号", "The document you have seen, with its number"),
        max_length=200,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


@page(may="manage_cards")
def find(request: HttpRequest) -> HttpResponse:
    """The scan field and the search."""
    return _find(request)


def _find(request: HttpRequest, refused: str = "", status: int = 200) -> HttpResponse:
    q = request.GET.get("q", "").strip()[:80]
    context: dict[str, Any] = {"q": q, "refused": refused}
    if q:
        context["hits"] = registry.find(request.scope, q, limit=20)
    return render(request, "card/find.html", context, status=status)


@require_POST
@page(may="manage_cards")
def scan(request: HttpRequest) -> HttpResponse:
    """A scanned code: the person is here. Opens their card page, or says why the code is no good."""
    scope: Scope = request.scope
    found = qr.read(request.POST.get("code", ""), by=scope)
    if not found.ok or found.person_id is None:
        return _find(request, str(found.words), 422)
    person = cards.person(found.person_id)
    try:
        registry.check_in(scope, person, numbers.of(person))
    except Invalid as refusal:
        return _find(request, str(refusal.message), 422)
    if found.again:
        messages.warning(
            request,
            T(
                "这个二维码刚才已在本机构读过一次，请核对本人。",
                "This code was read here a moment ago; look at the person.",
            ),
        )
    messages.success(
        request,
        T(
            "已核对健康卡并登记就诊，病历开放 30 天。",
            "Card checked and checked in; the record is open for 30 days.",
        ),
    )
    return redirect("card:desk_person", number=person.number)


def _here(scope: Scope, person_id: int) -> bool:
    """Whether the desk's institution has anything to do with the person now (reception opens no record, but knows who is there)."""
    now = clock.now()
    rows = Relationship.objects.filter(
        person_id=person_id, institution_id__in=scope.institution_ids, since__lte=now
    )
    mine = (row for row in rows if row.account_id in (None, scope.account_id))
    return any(row.live(now) for row in mine) or relationships.sees(scope, person_id)


def _person(request: HttpRequest, number: str) -> Person:
    scope: Scope = request.scope
    try:
        person = registry.get(number)
    except registry.UnknownPerson:
        raise Invalid({"number": T("没有这个人。", "There is no such person.")}) from None
    if not _here(scope, person.pk):
        raise NoRelationship(person.pk)
    return person


@page(may="manage_cards")
def person(request: HttpRequest, number: str) -> HttpResponse:
    """The cards, account and family of one person."""
    found = _person(request, number)
    audit.write(request.scope, "read", person_id=found.pk, what="cards")
    return _show(request, found)


def _show(request: HttpRequest, found: Person, status: int = 200, **more: Any) -> HttpResponse:
    bound = ActsFor.objects.filter(person_id=found.pk, relation="self", until__isnull=True).select_related(
        "account__phone"
    )
    number = numbers.of(found)
    context = {
        "person": found,
        "number": " ".join(number[at : at + 4] for at in range(0, len(number), 4)),
        "cards": cards.of_person(found.pk),
        "active": cards.active(found.pk),
        "others": cards.others(found.pk),
        "service": ServiceCard.objects.filter(person_id=found.pk).first(),
        "bound": bound.first(),
        "rights": family.who_acts_for(found.pk),
        "form": FamilyForm(label_suffix=""),
        "deceased": found.deceased_on is not None,
    } | more
    return render(request, "card/person.html", context, status=status)


@require_POST
@page(may="manage_cards")
def act(request: HttpRequest, number: str, act: str) -> HttpResponse:
    """One act on the person's card, account or family; refusals stand on the page."""
    found = _person(request, number)
    scope: Scope = request.scope
    reason = request.POST.get("reason", "")[:200]
    try:
        if act == "code":
            return _code(request, found, "bind")
        if act == "delegate":
            return _code(request, found, "delegate")
        if act == "family":
            return _family(request, found)
        if act == "issue":
            cards.ensure(scope, found.pk)
            words = T("已发卡。", "Card issued.")
        elif act == "lose":
            cards.lose(scope, found.pk, reason)
            words = T("已挂失，原二维码立即失效。", "Reported lost; its codes are void from now.")
        elif act == "reissue":
            cards.reissue(scope, found.pk, reason)
            words = T("新卡已生效，旧卡作废。", "The new card is good; the old one is void.")
        elif act == "close":
            cards.close(scope, found.pk, reason)
            words = T("已注销。", "Closed.")
        elif act == "unbind":
            binding.unbind(scope, found.pk, reason)
            words = T("绑定已解除。", "The binding has ended.")
        elif act == "end":
            right = request.POST.get("right", "")
            if right.isdigit() and int(right) in {r.pk for r in family.who_acts_for(found.pk)}:
                family.end(scope, None, int(right))
            words = T("授权已结束。", "The right has ended.")
        else:
            return HttpResponse(status=404)
    except Invalid as refusal:
        return _show(request, found, 422, error=refusal.message)
    messages.success(request, words)
    return redirect("card:desk_person", number=found.number)


def _code(request: HttpRequest, found: Person, kind: str) -> HttpResponse:
    """A code handed over the desk, shown this once."""
    evidence = request.POST.get("reason", "")
    if len(evidence.strip()) < 2:
        raise Invalid({"evidence": T("请写明核对了什么证件。", "Say which document you have seen.")})
    code = codes.give(request.scope, kind, found.pk, evidence)
    return _show(request, found, code=f"{code[:4]} {code[4:]}", code_kind=kind)


def _family(request: HttpRequest, found: Person) -> HttpResponse:
    form = FamilyForm(request.POST, label_suffix="")
    if form.is_valid():
        given = form.cleaned_data
        try:
            family.at_desk(
                request.scope,
                found,
                given["phone"],
                given["relation"],
                given["evidence"],
            )
        except AccessError as refusal:
            errors = refusal.errors if isinstance(refusal, Invalid) else {"phone": refusal.message}
            for name, words in errors.items():
                form.add_error(name if name in form.fields else None, forms.ValidationError(words))
        else:
            messages.success(request, T("已登记。", "Entered."))
            return redirect(reverse("card:desk_person", args=[found.number]))
    return _show(request, found, 422, form=form)


@require_POST
@page(may="manage_cards")
def print_card(request: HttpRequest, number: str) -> HttpResponse:
    """A card to print: name, number and a code that is good until the card is replaced."""
    found = _person(request, number)
    try:
        text = qr.printed(request.scope, found.pk)
    except Invalid as refusal:
        return _show(request, found, 422, error=refusal.message)
    shown = numbers.of(found)
    return render(
        request,
        "card/print.html",
        {
            "person": found,
            "number": " ".join(shown[at : at + 4] for at in range(0, len(shown), 4)),
            "picture": "data:image/svg+xml;base64," + base64.b64encode(picture(text)).decode(),
        },
    )
