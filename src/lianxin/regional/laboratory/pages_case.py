"""One piece of laboratory work for both ends: the tube, what may be done, values to enter and to verify, the report."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms, journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.regional.laboratory import catalogue, judge, moves, results, service, transport, verification
from lianxin.regional.laboratory.models import Specimen
from lianxin.regional.reading import reports
from lianxin.regional.reading.effects import items_text
from lianxin.standards.text import T, Text

_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}
_OWN = ("enter", "verify", "confirm", "ship")
"""Moves with a part of the page of their own."""


def _find(request: HttpRequest, number: str) -> Case:
    rows = Case.objects.within(request.scope).select_related("person")
    case = rows.filter(number=number, kind=moves.KIND).first()
    if case is None or not request.scope.may("see_orders"):
        raise Http404
    return case


def _offer(step: Move, case: Case, scope: Scope, data: Any = None, key: str = "", errors: dict[str, Text] | None = None) -> dict[str, Any]:  # fmt: skip
    form = None
    if step.form is not None:
        form = forms.bind(step.form, data, kernel.context(case, scope)) if data is not None else step.form()
        if data is not None:
            forms.refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "open": data is not None,
        "tone": _TONES.get(step.tone, "btn-outline-secondary"),
    }  # fmt: skip


def _context(
    request: HttpRequest, case: Case, failed: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    scope: Scope = request.scope
    buttons = kernel.buttons(case, scope)
    offers = [_offer(step, case, scope) for step in buttons if step.name not in _OWN]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    own = {step.name for step in buttons} & set(_OWN)
    acts = journey.log(case)
    subject = moves.e.load(case)
    assert subject is not None
    desk = scope.may("run_laboratory") and subject.centre_of_id in scope.institution_ids
    audit.write(scope, "read", person_id=case.person_id, what=f"{case.kind} {case.number}")
    tube = subject.laboratory.specimen
    context = {
        "case": case, "r": subject, "work": subject.laboratory, "tube": tube, "kind": catalogue.kind(tube.kind), "person": subject.person,
        "what": items_text(subject), "offers": offers, "steps": journey.journey(case, acts), "state": machine.get(case.kind).state(case.state).label,
        "log": [_said(case, act) for act in acts], "desk": desk, "may_ship": "ship" in own, "may_enter": "enter" in own,
        "verify": next((m for m in ("verify", "confirm") if m in own), ""), "key": uuid.uuid4().hex,
        "duty": Duty.objects.unscoped("the case was reached within the scope").filter(case=case, ended="").select_related("owner_institution").first(),
        "refusal": catalogue.refusals().get(tube.refused), "tubes": Specimen.objects.unscoped("the case's own").filter(reading=subject).order_by("attempt"),
        "shows": desk or subject.issued_at is not None, "report": reports.issued(subject), "versions": reports.versions(subject),
        "seen": results.mark(subject), "act_url": "laboratory:case_act",
    }  # fmt: skip
    if context["shows"]:
        context |= _values(subject, case, scope, desk)
    if case.state in ("collected", "in_transit"):
        context["unfit"] = transport.unfit(tube, kernel.clock.now())[1] if desk else None
    return context | more


def _values(subject: Any, case: Case, scope: Scope, desk: bool) -> dict[str, Any]:
    tried = results.attempts(subject)
    offered, why = verification.offered(subject, scope.account_id or 0) if desk else ([], {})
    standing = verification.standings(subject) if desk else {}
    lines: list[dict[str, Any]] = []
    for code in results.expected(subject):
        one = catalogue.analyte(code)
        rows = tried.get(code, [])
        now = next((r for r in rows if r.state == "current"), None)
        fits = one.range_for(
            subject.person.sex,
            results.age_days(subject, subject.ordered_at),
            subject.laboratory.pregnant_weeks,
        )
        lines.append(
            {
                "code": code, "analyte": one, "now": now, "value": results.number_of(now) if now else "", "arrow": judge.ARROWS.get(now.flag, "") if now else "",
                "flag": judge.FLAGS.get(now.flag) if now else None, "range": now.range_text if now else (fits.words if fits else ""),
                "earlier": [{"value": results.number_of(r), "row": r} for r in rows if r is not now] if desk else [],
                "taken_back": next((results.number_of(r) for r in rows if r.state == "retracted"), "") if now is None else "",
                "may": code in offered, "why": why.get(code), "signed": len(standing[code].verifiers) if code in standing else 0,
                "qc": standing[code].qc if code in standing else "",
            }
        )  # fmt: skip
    work = subject.laboratory
    return {
        "lines": lines, "by_rule": verification.said(work.why_not[0]) if desk and work.why_not and case.state == "resulted" else [],
        "critical": [line for line in lines if line["now"] is not None and line["now"].flag in ("LL", "HH", "AA")],
        "required": verification.required(subject),
    }  # fmt: skip


def _said(case: Case, act: Any) -> dict[str, Any]:
    step = machine.get(case.kind).move(act.move)
    text = act.form.get("reason") or act.form.get("note") or act.outcome.get("box") or ""
    code = act.form.get("code", "")
    why = catalogue.refusals().get(code)
    return {
        "act": act,
        "label": step.label if step else act.move,
        "text": f"{why} {text}".strip() if why else text,
    }


@page(may="see_orders")
def case(request: HttpRequest, number: str) -> HttpResponse:
    """One piece of laboratory work."""
    return render(request, "laboratory/case.html", _context(request, _find(request, number)))


@page(may="see_orders")
def case_act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move."""
    _find(request, number)
    step = moves.MACHINE.move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if move == "ship":
        return redirect("laboratory:boxes")
    if request.method != "POST":
        return redirect(f"{reverse('laboratory:case', args=[number])}#act")
    data: dict[str, Any] = {
        k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"
    }
    typed = {k[2:]: v for k, v in data.items() if k.startswith("v-")}
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    if move == "enter":
        data, looked = (
            {"rows": [{"analyte": c, "raw": v, "source": "hand"} for c, v in typed.items() if v.strip()]},
            None,
        )
    elif move in ("verify", "confirm") or (move in ("rerun", "retract") and request.POST.getlist("a")):
        data["analytes"] = ",".join(request.POST.getlist("a"))
    own = f"page:{request.scope.account_id}:{key}"
    try:
        service.act(request.scope, number, move, data, looked, own)
    except kernel.Refused as refusal:
        fresh = _find(request, number)
        if move in _OWN:
            more: dict[str, Any] = {"typed": typed, "faults": refusal.errors}
            return render(request, "laboratory/case.html", _context(request, fresh, **more), status=422)
        failed = _offer(step, fresh, request.scope, data, key, refusal.errors)
        return render(request, "laboratory/case.html", _context(request, fresh, failed), status=422)
    except kernel.MoveError as trouble:
        messages.error(request, trouble.text)
        return render(request, "laboratory/case.html", _context(request, _find(request, number)), status=409)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect("laboratory:case", number)
