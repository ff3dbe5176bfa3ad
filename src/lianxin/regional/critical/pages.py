"""Staff's pages: calls to answer, to act on, open at the own centre; one call with its timeline and moves; the banner other pages show."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import journey, kernel, machine
from lianxin.duty.forms import refuse
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.regional.critical import limits, moves, service, statistics
from lianxin.regional.critical.models import Critical
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 50
TABS = {
    "answer": T("待我复述", "To read back"),
    "act": T("待我处置", "To act on"),
    "centre": T("本中心未结", "Open at my centre"),
    "past": T("全部记录", "All"),
}
_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}
_WITH = ("case", "person", "orderer", "centre_of", "team", "county", "acknowledged_at_institution")


def banner(scope: Scope, person_id: int) -> dict[str, Any]:
    """What ``critical/_banner.html`` shows on a page about a person: calls that nobody has acted on yet, the unanswered first."""
    rows = Critical.objects.within(scope).filter(person_id=person_id, live=True, acted_at=None)
    found = list(
        rows.select_related("case", "orderer", "centre_of").order_by("-acknowledged_at", "-reported_at")[:10]
    )
    found.sort(key=lambda c: c.acknowledged_at is not None)
    return {"criticals": found}


def _recipient(ids: frozenset[int]) -> Q:
    return Q(orderer_id__in=ids) | Q(team_id__in=ids) | Q(county_id__in=ids)


def rows_of(tab: str, scope: Scope) -> QuerySet[Critical]:
    """The calls of a tab, the most pressing first."""
    rows = Critical.objects.within(scope).select_related(*_WITH)
    mine = scope.institution_ids
    if tab == "answer":
        return rows.filter(_recipient(mine), live=True, acknowledged_at=None).order_by("case__due_at", "pk")
    if tab == "act":
        return rows.filter(_recipient(mine), live=True, case__state="acknowledged").order_by("case__due_at", "pk")  # fmt: skip
    if tab == "centre":
        return rows.filter(centre_of_id__in=mine, live=True).order_by("case__due_at", "pk")
    ids = mine | scope.oversight_ids
    return rows.filter(_recipient(ids) | Q(centre_of_id__in=ids)).order_by("-reported_at", "-pk")


@page()
def listing(request: HttpRequest) -> HttpResponse:
    """The calls: each unanswered one with its own box to read back, so that two taps answer it."""
    scope: Scope = request.scope
    if not scope.may("run_centres"):
        scope.demand("handle_critical")
    tab = request.GET.get("tab", "") or ("answer" if scope.may("handle_critical") else "past")
    if tab not in TABS:
        tab = "answer"
    rows = statistics.narrowed(rows_of(tab, scope), request.GET) if tab == "past" else rows_of(tab, scope)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    named = scope.clinical
    shown = [
        {
            "c": line,
            "state": moves.MACHINE.state(line.case.state).label,
            "key": uuid.uuid4().hex,
            "listed": choices(line),
        }
        for line in lines
    ]
    if lines and named:
        audit.write(scope, "search", what=f"critical values: {tab}", detail={"people": [c.person_id for c in lines]})  # fmt: skip
    return render(
        request, "critical/list.html",
        {"tab": tab, "tabs": TABS, "page": lines, "lines": shown, "now": clock.now(), "named": named, "may_manage": scope.may("run_centres"),
         "counts": {name: rows_of(name, scope).count() for name in ("answer", "act", "centre")}},
    )  # fmt: skip


def choices(subject: Critical) -> list[tuple[str, Text]]:
    """For a finding in words: the listed findings to choose from (in the order of their names, so that the order tells nothing)."""
    if limits.number(subject.value) is not None or subject.value != subject.finding:
        return []
    listed = limits.findings(subject.source, subject.centre_of_id)
    if subject.code not in {code for code, _ in listed}:
        return []
    return sorted(listed, key=lambda one: one[1].zh)


# --------------------------------------------------------------------------------------------------------------- one call


def _find(request: HttpRequest, number: str) -> Critical:
    if not request.scope.clinical:
        request.scope.demand("handle_critical")
    found: Critical | None = (
        Critical.objects.within(request.scope).select_related(*_WITH).filter(case__number=number).first()
    )
    if found is None:
        raise Http404
    return found


def _offer(
    step: Move, subject: Critical, data: Any = None, key: str = "", errors: dict[str, Text] | None = None
) -> dict[str, Any]:
    form = step.form(data) if step.form is not None else None
    if form is not None:
        listed = choices(subject)
        if listed:
            for name in {"readback", "heard"} & form.fields.keys():
                blank = ("", T("请选择对方所述", "Choose what was said"))
                form.fields[name].widget = django_forms.Select(
                    choices=[blank, *((n.zh, n) for _, n in listed)]
                )
        if data is not None:
            refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "tone": _TONES.get(step.tone, "btn-outline-secondary"),
        "open": data is not None or step.tone == "primary",
    }  # fmt: skip


def _context(request: HttpRequest, subject: Critical, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    case: Case = subject.case
    offers = [_offer(step, subject) for step in kernel.buttons(case, request.scope)]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    acts = journey.log(case)
    audit.write(request.scope, "read", person_id=subject.person_id, what=f"critical {case.number}")
    duties = Duty.objects.unscoped("the case was reached within the scope").filter(case=case, ended="")
    return {
        "case": case, "c": subject, "person": subject.person, "offers": offers, "steps": journey.journey(case, acts),
        "state": moves.MACHINE.state(case.state).label, "attempts": subject.attempts.select_related("institution").order_by("at", "pk"),
        "notes": subject.notes.order_by("at", "pk"), "duties": duties.select_related("owner_institution").order_by("due_at"),
        "facts": six_facts(subject),
    }  # fmt: skip


def six_facts(subject: Critical) -> list[tuple[Text, str]]:
    """The six facts that must be on record: the finding, when found, who told, who received, when received, by which way."""
    answered = subject.attempts.filter(outcome="CONFIRMED").order_by("pk").first()
    way = answered or subject.attempts.order_by("pk").first()
    who = subject.acknowledged_by
    where = subject.acknowledged_at_institution

    def at(instant: Any) -> str:
        return f"{instant.astimezone(clock.ZONE):%Y-%m-%d %H:%M:%S}" if instant else ""

    centre = T(subject.centre_of.name, subject.centre_of.name_en or subject.centre_of.name)
    place = T(where.name, where.name_en or where.name) if where else ""
    by_call = answered.by if answered is not None and answered.channel == "phone" else subject.finder
    return [
        (T("危急发现", "Finding"), f"{subject.label} {'' if subject.value == subject.finding else subject.shown}".strip()),
        (T("发现时间", "Found at"), at(subject.found_at)),
        (T("报告人", "Told by"), f"{centre} {by_call}".strip()),
        (T("接收人", "Received by"), f"{place} {who}".strip()),
        (T("接收时间", "Received at"), at(subject.acknowledged_at)),
        (T("方式", "By which way"), str(way.channel_label) if way is not None else ""),
    ]  # fmt: skip


@page()
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One call: the six facts, what is owed, every attempt, what was corrected since, and what may be done."""
    return render(request, "critical/show.html", _context(request, _find(request, number)))


@page()
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move of a call."""
    subject = _find(request, number)
    step = machine.get(moves.KIND).move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if request.method != "POST":
        return redirect("critical:show", number)
    data = {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    try:
        service.act(request.scope, number, move, data, looked, f"page:{request.scope.account_id}:{key}")
    except kernel.Refused as refusal:
        failed = _offer(step, subject, data, "", refusal.errors)
        return render(request, "critical/show.html", _context(request, subject, failed), status=422)
    except kernel.MoveError as trouble:
        messages.error(request, trouble.text)
        return render(request, "critical/show.html", _context(request, _find(request, number)), status=409)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect("critical:show", number)
