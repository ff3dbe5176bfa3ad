"""Staff's pages: missed visits to confirm or excuse, appeals to decide, who is barred; one visit or one appeal with its moves."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms, journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.pool.errors import BookingError
from lianxin.resident.booking import appeals, moves, service
from lianxin.resident.booking import standing as standings
from lianxin.resident.booking.models import Appeal, Appointment, Bar
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 50
TABS = {
    "missed": T("待核实", "To be confirmed"),
    "appeals": T("申诉", "Appeals"),
    "bars": T("暂停预约", "Closed to"),
    "past": T("近 90 天爽约", "No-shows of 90 days"),
}
_ELSEWHERE = ("reschedule", "rebook")
"""Moves whose other session is chosen on the page that finds numbers."""
_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}


def _guard(scope: Scope) -> None:
    if not scope.may("judge_appeals"):
        scope.demand("serve_desk")


def _mine(scope: Scope) -> set[int]:
    return set(scope.institution_ids | scope.oversight_ids)


@page()
def missed(request: HttpRequest) -> HttpResponse:
    """Missed visits of the own institution to confirm or excuse, appeals, who is barred, and the no-shows of ninety days."""
    scope = request.scope
    _guard(scope)
    tab = request.GET.get("tab", "missed")
    if tab not in TABS:
        tab = "missed"
    rows, now = _rows(tab, scope), clock.now()
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    people = [line.person_id for line in lines]
    if people:
        audit.write(scope, "search", what=f"missed visits: {tab}", detail={"people": people})
    days = (
        sorted({line.day for line in lines if line.institution_id in scope.institution_ids})
        if tab == "missed"
        else []
    )
    return render(
        request,
        "booking/appeals.html",
        {
            "tab": tab, "tabs": TABS, "lines": lines, "days": days, "now": now,
            "counts": {name: _rows(name, scope).count() for name in ("missed", "appeals")},
            "may_confirm": scope.may("serve_desk") and not scope.machine,
        },
    )  # fmt: skip


def _rows(tab: str, scope: Scope) -> Any:
    mine, now = _mine(scope), clock.now()
    if tab == "appeals":
        rows = Appeal.objects.unscoped("one's own institution's, or those it decides").filter(live=True)
        rows = rows.filter(judge_id__in=mine) | rows.filter(institution_id__in=mine)
        return rows.select_related("case", "person", "institution", "bar").order_by("case__opened_at", "pk")
    if tab == "bars":
        bars = Bar.objects.unscoped("one's own institution's").filter(
            institution_id__in=mine, until__gt=now, lifted_at=None
        )
        return bars.select_related("person", "institution").order_by("until", "pk")
    visits = Appointment.objects.unscoped("one's own institution's").filter(institution_id__in=mine)
    visits = visits.select_related("case", "person", "institution", "session__department", "place")
    if tab == "past":
        since = now - dt.timedelta(days=90)
        return visits.filter(missed_at__gt=since).order_by("-missed_at", "pk")
    return visits.filter(live=True, case__state="missed").order_by("at", "pk")


@page(may="serve_desk")
@require_POST
def confirm_day(request: HttpRequest) -> HttpResponse:
    """Confirm every missed visit of a day at the own institution; whoever was excused or came meanwhile is left out."""
    try:
        day = dt.date.fromisoformat(request.POST.get("day", ""))
    except ValueError:
        raise Http404 from None
    rows = Appointment.objects.unscoped("one's own institution's").filter(
        institution_id__in=request.scope.institution_ids, live=True, case__state="missed", day=day
    )
    done = failed = 0
    for row in rows.select_related("case").order_by("pk")[:500]:
        key = f"confirm:{row.case.number}:{row.case.version}"
        try:
            service.act(request.scope, row.case.number, "confirm_missed", {}, row.case.version, key)
            done += 1
        except (kernel.MoveError, BookingError):
            failed += 1
    said = T("已确认爽约 {n} 人。", "{n} no-shows confirmed.").format(n=str(done))
    messages.success(request, str(said))
    if failed:
        left = T("{n} 人状态已变，未处理。", "{n} had changed and were left.").format(n=str(failed))
        messages.warning(request, str(left))
    return redirect("booking:appeals")


# ----------------------------------------------------------------------------------------------------- a visit, an appeal


def _find(request: HttpRequest, number: str, kind: str) -> Case:
    case = (
        Case.objects.within(request.scope).select_related("person").filter(number=number, kind=kind).first()
    )
    if case is None or (kind == appeals.KIND and not _sees_appeal(request.scope, case)):
        raise Http404
    return case


def _sees_appeal(scope: Scope, case: Case) -> bool:
    found = appeals.load(case)
    return found is not None and bool({found.judge_id, found.institution_id} & _mine(scope))


def _offer(
    step: Move, case: Case, scope: Scope, data: Any = None, key: str = "", errors: dict[str, Text] | None = None
) -> dict[str, Any]:  # fmt: skip
    form = None
    if step.form is not None and step.name not in _ELSEWHERE:
        form = forms.bind(step.form, data, kernel.context(case, scope)) if data is not None else step.form()
        if data is not None:
            forms.refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "open": data is not None,
        "tone": _TONES.get(step.tone, "btn-outline-secondary"),
        "href": _elsewhere(case) if step.name in _ELSEWHERE else "",
    }  # fmt: skip


def _elsewhere(case: Case) -> str:
    return f"{reverse('schedules:book')}?move={case.number}"


def _context(request: HttpRequest, case: Case, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    scope: Scope = request.scope
    offers = [_offer(step, case, scope) for step in kernel.buttons(case, scope)]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    acts = journey.log(case)
    subject = machine.get(case.kind).load(case)  # type: ignore[misc]
    audit.write(scope, "read", person_id=case.person_id, what=f"{case.kind} {case.number}")
    return {
        "case": case, "subject": subject, "person": case.patient, "offers": offers, "steps": journey.journey(case, acts),
        "state": machine.get(case.kind).state(case.state).label, "log": [_said(case, act) for act in acts],
        "duty": Duty.objects.unscoped("the case was reached within the scope").filter(case=case, ended="").select_related("owner_institution").first(),
        "where": standings.standing(case.patient_id), "queue": service.queue(subject) if case.kind == moves.KIND else None,
        "act_url": "booking:visit_act" if case.kind == moves.KIND else "booking:appeal_act",
    }  # fmt: skip


def _said(case: Case, act: Any) -> dict[str, Any]:
    step = machine.get(case.kind).move(act.move)
    text = act.form.get("reason") or act.form.get("note") or act.form.get("words") or ""
    return {"act": act, "label": step.label if step else act.move, "text": text}


@page()
def visit(request: HttpRequest, number: str) -> HttpResponse:
    """One visit: when, where, which number, what happened, what may be done."""
    return render(request, "booking/visit.html", _context(request, _find(request, number, moves.KIND)))


@page()
def visit_act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move of a visit."""
    return _act(request, _find(request, number, moves.KIND), move, "booking/visit.html", "booking:visit")


@page()
def appeal(request: HttpRequest, number: str) -> HttpResponse:
    """One appeal: what the person says, the visits it is about, and the decision."""
    case = _find(request, number, appeals.KIND)
    return render(request, "booking/appeal.html", _context(request, case) | _held(case))


def _held(case: Case) -> dict[str, Any]:
    rows = Appointment.objects.unscoped("the visits the appeal is about").filter(
        person_id=case.patient_id, missed_at__isnull=False
    )
    return {
        "visits": list(
            rows.select_related("case", "institution", "session__department").order_by("-missed_at")[:20]
        )
    }


@page()
def appeal_act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move of an appeal."""
    return _act(request, _find(request, number, appeals.KIND), move, "booking/appeal.html", "booking:appeal")


def _act(request: HttpRequest, case: Case, move: str, template: str, back: str) -> HttpResponse:
    step = machine.get(case.kind).move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if move in _ELSEWHERE:
        return redirect(_elsewhere(case))
    if request.method != "POST":
        return redirect(back, case.number)
    data = {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    own = f"page:{request.scope.account_id}:{key}"
    more = _held(case) if case.kind == appeals.KIND else {}
    try:
        if case.kind == moves.KIND:
            service.act(request.scope, case.number, move, data, looked, own)
        else:
            kernel.execute(move, case, request.scope, data, looked, own)
    except kernel.Refused as refusal:
        failed = _offer(step, case, request.scope, data, key, refusal.errors)
        return render(request, template, _context(request, case, failed) | more, status=422)
    except (kernel.MoveError, BookingError) as trouble:
        messages.error(request, trouble.text)
        fresh = _find(request, case.number, case.kind)
        return render(request, template, _context(request, fresh) | more, status=409)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect(back, case.number)
