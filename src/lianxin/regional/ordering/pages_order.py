"""One order for whoever asked: where it stands, the report when it is there, what may be done, and its paper."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.recognition import decisions as recognition
from lianxin.clinical.recognition import knowing, marks, results
from lianxin.clinical.recognition.models import Result
from lianxin.duty import forms, journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.regional.archive import studies
from lianxin.regional.critical import pages as critical
from lianxin.regional.ordering import view
from lianxin.regional.ordering.models import Requisition
from lianxin.regional.ordering.pages import address
from lianxin.regional.reading import view as reports
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock, paper
from lianxin.standards.text import T, Text

_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}


def _find(request: HttpRequest, number: str) -> tuple[Case, Reading]:
    case = Case.objects.within(request.scope).select_related("person").filter(number=number).first()
    rows = Reading.objects.unscoped("the case was reached within the scope")
    rows = rows.select_related("case", "person", "orderer", "performer", "centre_of", "practitioner")
    found = rows.prefetch_related("ordered__item").filter(case=case).first() if case is not None else None
    if case is None or found is None:
        raise Http404
    return case, found


def _offers(case: Case, scope: Scope, failed: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """What whoever asked may do; the centre's own moves are on the centre's pages."""
    offers = [
        _offer(step, case, scope)
        for step in kernel.buttons(case, scope)
        if "orderer" in step.parties and step.sources
    ]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    return offers


def _offer(
    step: Move, case: Case, scope: Scope, data: Any = None, key: str = "", errors: dict[str, Text] | None = None
) -> dict[str, Any]:  # fmt: skip
    form = None
    if step.form is not None:
        form = forms.bind(step.form, data, kernel.context(case, scope)) if data is not None else step.form()
        if data is not None:
            forms.refuse(form, errors or {})
    return {"move": step, "form": form, "key": key or uuid.uuid4().hex, "open": data is not None, "tone": _TONES.get(step.tone, "btn-outline-secondary")}  # fmt: skip


def _context(
    request: HttpRequest, case: Case, work: Reading, failed: dict[str, Any] | None = None
) -> dict[str, Any]:
    scope: Scope = request.scope
    may_open = relationships.sees(scope, work.person_id)
    acts = journey.log(case)
    context: dict[str, Any] = {
        "case": case, "r": work, "person": work.person, "may_open": may_open, "offers": _offers(case, scope, failed),
        "steps": journey.journey(case, acts), "items": view.items_text(work), "state": view.state_of(work),
        "requisition": Requisition.objects.within(scope).filter(number=work.requisition).exists(),
        "priority": view.PRIORITIES[case.priority], "late": not work.issued_at and work.report_due_at < clock.now() and not case.terminal,
        "duty": Duty.objects.unscoped("the case was reached within the scope").filter(case=case, ended="").select_related("owner_institution").first(),
        "log": [{"act": a, "label": m.label if (m := machine.get(case.kind).move(a.move)) else a.move, "text": a.form.get("reason") or a.form.get("note") or ""} for a in acts],
    }  # fmt: skip
    if may_open:
        context |= _clinical(request, case, work)
    audit.write(scope, "read", person_id=work.person_id, what=f"order {case.number}")
    return context


def _clinical(request: HttpRequest, case: Case, work: Reading) -> dict[str, Any]:
    ref = f"DiagnosticReport/{case.number}"
    found: dict[str, Any] = {
        "shown_report": reports.report_of(work) if work.centre != "laboratory" else None,
        "decisions": [d for d in recognition.of_order(work.requisition) if d.number == case.number],
        "marks": marks_of(ref), "print_url": address("ordering:paper", case.number) if work.issued_at else "",
    }  # fmt: skip
    if work.centre == "laboratory" and work.issued_at:
        found["content"] = results.content(request.scope, [ref]).get(ref)
    if work.study_uid and (study := studies.find(request.scope, work.study_uid)) is not None:
        found["viewer"] = address("imaging:view", study.study_uid)
    return found | critical.banner(request.scope, work.person_id)


def marks_of(ref: str) -> list[str]:
    """HR marks that a report carries."""
    rows = Result.objects.unscoped("the report was reached within the scope").filter(ref=ref, state="live")
    known = knowing.known()
    ids = dict.fromkeys(rows.exclude(assessment=None).order_by("pk").values_list("assessment_id", flat=True))
    return list(dict.fromkeys(marks.text(known.assessments[i]) for i in ids if i in known.assessments))


@page(may="see_orders")
def show(request: HttpRequest, number: str) -> HttpResponse:
    """The order."""
    case, work = _find(request, number)
    return render(request, "ordering/order.html", _context(request, case, work))


@page(may="see_orders")
@require_POST
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Acknowledge, cancel, or whatever else whoever asked may do."""
    case, work = _find(request, number)
    step = machine.get(case.kind).move(move)
    if step is None or step.system or not step.sources or "orderer" not in step.parties:
        raise Http404
    data = {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    try:
        kernel.execute(move, case, request.scope, data, looked, f"page:{request.scope.account_id}:{key}")
    except kernel.Refused as refusal:
        failed = _offer(step, case, request.scope, data, key, refusal.errors)
        return render(request, "ordering/order.html", _context(request, case, work, failed), status=422)
    except kernel.MoveError as trouble:
        messages.error(request, str(trouble.text))
        case, work = _find(request, number)
        return render(request, "ordering/order.html", _context(request, case, work), status=409)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect(
        "ordering:listing" if move == "acknowledge" else "ordering:show",
        *([] if move == "acknowledge" else [number]),
    )


@page(may="see_orders")
def print_report(request: HttpRequest, number: str) -> HttpResponse:
    """The report on paper (PDF): the result with its HR mark, the physician's conclusion apart from it."""
    case, work = _find(request, number)
    relationships.require(request.scope, work.person_id)
    if not work.issued_at:
        raise Http404
    ref = f"DiagnosticReport/{number}"
    context = {
        "r": work, "person": work.person, "case": case, "items": view.items_text(work).zh, "marks": marks_of(ref), "printed": clock.now(),
        "report": reports.report_of(work), "content": results.content(request.scope, [ref]).get(ref),
    }  # fmt: skip
    audit.write(request.scope, "export", person_id=work.person_id, what=f"report {number}")
    response = HttpResponse(
        paper.pdf(render_to_string("ordering/print/report.html", context)), content_type="application/pdf"
    )
    response["Content-Disposition"] = f'inline; filename="{number}.pdf"'
    return response
