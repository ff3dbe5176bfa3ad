"""Requests for sets, and the duties of a recall: lists, one case with its moves."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.places.common import whole
from lianxin.duty import journey, kernel, machine
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.duty.forms import refuse
from lianxin.duty.machine import Move
from lianxin.duty.models import Case
from lianxin.duty.models import Duty as Owed
from lianxin.regional.sterile import forms, requests
from lianxin.regional.sterile.models import Request, Set
from lianxin.regional.sterile.pages import PAGE, context_of, guard, key_of
from lianxin.regional.sterile.recall_moves import CONTACT_KIND, RECALL_KIND
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KINDS = (requests.KIND, RECALL_KIND, CONTACT_KIND)
_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}


@page()
def listing(request: HttpRequest) -> HttpResponse:
    """Requests asked by the own institution or of it."""
    scope: Scope = request.scope
    guard(scope)
    ids = scope.institution_ids | scope.oversight_ids
    rows = Request.objects.filter(Q(asker_id__in=ids) | Q(centre_id__in=ids)).select_related(
        "case", "asker", "centre"
    )
    tab = request.GET.get("tab", "open")
    if tab != "all":
        rows = rows.filter(live=True)
    lines = Paginator(
        rows.prefetch_related("lines__type").order_by("-live", "case__due_at", "-asked_at"), PAGE
    ).get_page(request.GET.get("page"))
    shown = [{"r": r, "state": requests.MACHINE.state(r.case.state).label} for r in lines]
    return render(
        request,
        "sterile/requests.html",
        {"page": lines, "lines": shown, "tab": tab, "may_use": scope.may("use_sterile")},
    )


@page(may="use_sterile")
def ask(request: HttpRequest) -> HttpResponse:
    """Ask the centre for sets."""
    scope: Scope = request.scope
    errors: list[Text] = []
    data: Any = request.POST
    if request.method == "POST":
        wanted = {
            name.removeprefix("n-"): whole(value)
            for name, value in data.items()
            if name.startswith("n-") and value.strip()
        }
        try:
            case = requests.ask(
                scope,
                wanted,
                {"needed_on": data.get("needed_on", ""), "note": data.get("note", "")},
                key_of(request),
            )
        except Refused as refusal:
            errors = list(refusal.errors.values())
        except NotAllowed as refusal:
            errors = [refusal.text]
        else:
            messages.success(
                request, str(T("申领单 {n} 已提交。", "Request {n} was sent.").format(n=case.number))
            )
            return redirect("sterile:case", case.number)
    context = context_of(scope)
    context["lines"] = [{"type": t, "n": data.get(f"n-{t.code}", "")} for t in context["types"]]
    return render(
        request, "sterile/ask.html",
        context | {"errors": errors, "typed": data, "key": uuid.uuid4().hex, "day": data.get("needed_on") or clock.today().isoformat()},
        status=422 if errors else 200,
    )  # fmt: skip


def _find(request: HttpRequest, number: str) -> Case:
    case = (
        Case.objects.within(request.scope)
        .select_related("person")
        .filter(number=number, kind__in=KINDS)
        .first()
    )
    if case is None or (case.kind == CONTACT_KIND and not request.scope.clinical):
        raise Http404
    return case


def _offer(
    step: Move, data: Any = None, key: str = "", errors: dict[str, Text] | None = None
) -> dict[str, Any]:
    form = step.form(data) if step.form is not None else None
    if form is not None and data is not None:
        refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "tone": _TONES.get(step.tone, "btn-outline-secondary"),
        "open": data is not None or step.tone == "primary",
    }  # fmt: skip


def _context(request: HttpRequest, case: Case, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    offers = [_offer(step) for step in kernel.buttons(case, request.scope)]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    m = machine.get(case.kind)
    acts = journey.log(case)
    subject: Any = m.load(case) if m.load else None
    audit.write(request.scope, "read", person_id=case.person_id, what=f"{case.kind} {case.number}")
    sets = Set.objects.select_related("type", "holder")
    if case.kind == requests.KIND:
        sets, more = (
            sets.filter(asked_id=case.pk),
            {"lines": subject.lines.select_related("type").order_by("type__code")},
        )
    else:
        sets, more = sets.filter(code__in=subject.codes), {}
    return {
        "case": case, "subject": subject, "is_request": case.kind == requests.KIND, "person": case.person if case.kind == CONTACT_KIND else None,
        "label": m.label, "state": m.state(case.state).label, "offers": offers, "steps": journey.journey(case, acts), "sets": sets.order_by("code")[:500],
        "owed": Owed.objects.unscoped("the case was reached within the scope").filter(case=case, ended="").select_related("owner_institution").first(),
        "log": [{"act": a, "label": step.label if (step := m.move(a.move)) else a.move, "text": a.form.get("note") or a.form.get("reason") or a.form.get("courier") or ""} for a in acts],
        "outcomes": forms.OUTCOMES, **more,
    }  # fmt: skip


@page()
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One request, or one duty of a recall."""
    return render(request, "sterile/case.html", _context(request, _find(request, number)))


@page()
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move."""
    case = _find(request, number)
    step = machine.get(case.kind).move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if request.method != "POST":
        return redirect("sterile:case", number)
    data = {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}
    version = request.POST.get("_version", "")
    looked = whole(version) if version else None
    try:
        kernel.execute(move, case, request.scope, data, looked, key_of(request))
    except kernel.Refused as refusal:
        failed = _offer(step, data, "", refusal.errors)
        return render(request, "sterile/case.html", _context(request, case, failed), status=422)
    except MoveError as trouble:
        messages.error(request, trouble.text)
        return render(request, "sterile/case.html", _context(request, _find(request, number)), status=409)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect("sterile:case", number)
