"""Trust: who looked, what one agreed to share, what one says is wrong; and the page of oneself."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit, consent
from lianxin.access.errors import Invalid
from lianxin.access.models import Consent
from lianxin.access.web import page
from lianxin.duty import kernel
from lianxin.duty.errors import MoveError, Refused
from lianxin.network.models import Institution
from lianxin.resident.card import acting
from lianxin.resident.phone import corrections, finding, looks, pages_record, words
from lianxin.resident.phone.models import Correction
from lianxin.standards import clock
from lianxin.standards.text import T

TEXT_VERSION = "phone-1"
"""Which wording of the sharing agreement the pages show (templates/phone/consents.html)."""
LONGEST = corrections.LONGEST


@page(resident=True)
def me(request: HttpRequest) -> HttpResponse:
    """Everything about oneself: family, card, visits, who looked, consents, corrections, signing out."""
    return render(request, "phone/me.html", {"here": "me", "who": acting.member(request)})


def _who(request: HttpRequest) -> acting.Member:
    found = acting.member(request)
    if found is None:
        raise Http404(str(T("请先绑定身份。", "Bind your identity first.")))
    return found


@page(resident=True)
def looked(request: HttpRequest) -> HttpResponse:
    """Who looked at the record, newest first."""
    who = _who(request)
    own = request.GET.get("own") == "1"
    found = Paginator(looks.of_person(who.person.pk, own=own), 30).get_page(request.GET.get("page"))
    audit.write(request.scope, "read", person_id=who.person.pk, what="phone looked")
    return render(request, "phone/looked.html", {"here": "me", "page": found, "own": own})


@page(resident=True)
def consents(request: HttpRequest) -> HttpResponse:
    """What one agreed to or refused; POST ``do``: share or refuse (with ``institution``), withdraw (``consent``)."""
    who = _who(request)
    status, trouble = 200, None
    if request.method == "POST":
        try:
            _decide(request, who)
            return redirect("phone:consents")
        except Invalid as error:
            status, trouble = 422, next(iter(error.errors.values()))
    rows = consent.of_person(who.person.pk)
    context = {
        "here": "me", "who": who, "trouble": trouble, "kinds": consent.KINDS,
        "live": [r for r in rows if r.withdrawn_at is None], "past": [r for r in rows if r.withdrawn_at is not None][:20],
        "institutions": _institutions(who),
    }  # fmt: skip
    return render(request, "phone/consents.html", context, status=status)


def _institutions(who: acting.Member) -> list[Institution]:
    """Institutions one may name: those that had to do with the person, then the hospitals of the network."""
    known = finding.network().institutions
    met = {r.institution_id for r in looks.relationships_of(who.person.pk)}
    found = [i for i in known.values() if i.pk in met or i.tier in ("county", "city", "province")]
    return sorted(found, key=lambda i: (i.pk not in met, i.code))


def _decide(request: HttpRequest, who: acting.Member) -> None:
    act, person, scope = request.POST.get("do", ""), who.person.pk, request.scope
    evidence = f"resident page {clock.now():%Y-%m-%d %H:%M} account {scope.account_id}"
    value = request.POST.get("institution", "")
    chosen = int(value) if value.isascii() and value.isdigit() and len(value) < 18 else None
    if value and chosen not in finding.network().institutions:
        raise Invalid({"institution": T("请从列表中选择机构。", "Choose an institution of the list.")})
    live = Consent.objects.filter(person_id=person, kind="share", withdrawn_at__isnull=True)
    live = live.filter(institution_id=chosen) if chosen is not None else live.filter(institution__isnull=True)
    if act == "share":
        if not live.filter(decision="permit").exists():
            consent.record(scope, person, "share", chosen, TEXT_VERSION, evidence)
        messages.success(
            request, T("已同意共享，随时可以撤回。", "You agreed to share; you may withdraw at any time.")
        )
    elif act == "refuse":
        if not live.filter(decision="deny", source__isnull=True, sensitive=False).exists():
            consent.refuse(scope, person, institution_id=chosen, evidence=evidence, text_version=TEXT_VERSION)
        messages.success(request, T("已停止共享，立即生效。", "Sharing is stopped, at once."))
    elif act == "withdraw":
        pk = request.POST.get("consent", "")
        row = (
            Consent.objects.filter(pk=int(pk), person_id=person).first()
            if pk.isascii() and pk.isdigit() and len(pk) < 18
            else None
        )
        if row is None:
            raise Invalid({"consent": T("没有这条授权。", "There is no such consent.")})
        consent.withdraw(scope, row.pk, "by the person on the phone")
        messages.success(request, T("已撤回，立即生效。", "Withdrawn, at once."))
    else:
        raise Invalid({"do": T("请按页面上的按钮操作。", "Please use the buttons of the page.")})


@page(resident=True)
def correct(request: HttpRequest, rtype: str, rid: str) -> HttpResponse:
    """Report a mistake in one entry of the record; who sent it owes an answer."""
    who = _who(request)
    sheet = pages_record.sheet_of(request, who.person.pk, rtype, rid)
    text, error = "", None
    if request.method == "POST":
        text = request.POST.get("text", "").replace("\x00", "").strip()
        key = f"k-{request.scope.account_id}-{request.POST.get('key', '')[:40] or secrets.token_urlsafe(12)}"
        if not text:
            error = T("请写明哪里不对。", "Please say what is wrong.")
        elif len(text) > LONGEST:
            error = T("最多 1000 字，请写短一些。", "At most 1000 characters; please shorten it.")
        else:
            try:
                row = corrections.ask(request.scope, who.person.pk, f"{rtype}/{rid}", sheet.title, text, key)
                messages.success(
                    request, T("已转给记录来源的机构核实。", "The institution that sent it has been asked.")
                )
                return redirect("phone:correction", row.case.number)
            except Refused as refused:
                error = next(iter(refused.errors.values()))
            except MoveError as refused:
                error = refused.text
    context: dict[str, Any] = {
        "here": "record", "sheet": sheet, "rtype": rtype, "rid": rid, "text": text, "error": error,
        "key": request.POST.get("key", "")[:40] or secrets.token_urlsafe(12),
    }  # fmt: skip
    return render(request, "phone/correct.html", context, status=422 if error else 200)


@page(resident=True)
def asked(request: HttpRequest) -> HttpResponse:
    """Every mistake reported, with its answer."""
    who = _who(request)
    rows = (
        Correction.objects.within(request.scope)
        .filter(person=who.person)
        .select_related("case", "institution")
    )
    return render(
        request, "phone/asked.html", {"here": "me", "rows": list(rows.order_by("-case__opened_at")[:100])}
    )


def _correction(request: HttpRequest, number: str) -> Correction:
    row = (
        Correction.objects.within(request.scope)
        .filter(case__number=number)
        .select_related("case", "institution", "person")
        .first()
    )
    if row is None:
        raise Http404(str(T("没有这条更正请求。", "There is no such report.")))
    return row


@page(resident=True)
def correction(request: HttpRequest, number: str) -> HttpResponse:
    """One report: what was said, by when it is answered, the answer."""
    row = _correction(request, number)
    audit.write(request.scope, "read", person_id=row.person_id, what=f"correction {number}")
    due = words.when_words(row.case.due_at) if row.case.due_at else None
    return render(request, "phone/correction.html", {"here": "me", "row": row, "due": due})


@require_POST
@page(resident=True)
def take_back(request: HttpRequest, number: str) -> HttpResponse:
    """Withdraw a report that is not answered yet."""
    row = _correction(request, number)
    try:
        kernel.execute("withdraw", row.case, request.scope, {}, None, f"{number}:withdraw")
        messages.success(request, T("已撤回。", "Withdrawn."))
    except MoveError as error:
        messages.error(request, error.text)
    return redirect("phone:correction", number)
