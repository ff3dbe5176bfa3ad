"""Problems with data that a sender owes the mending of: the list, sending one back, one with its moves."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms, journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.exchange.feeds import problems as desk
from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.feeds.quality import selecting, words
from lianxin.exchange.feeds.quality.models import DataProblem
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 50
SHOWN = 100
SPANS = {"7": T("近 7 天", "7 days"), "14": T("近 14 天", "14 days"), "28": T("近 28 天", "28 days")}


@page(may="see_feeds")
def problems(request: HttpRequest) -> HttpResponse:
    """Cases of the institutions the reader follows, open ones first; and what is not sent back yet, for the desk."""
    seen = selecting.institutions(request.scope)
    rows = DataProblem.objects.select_related("case", "institution")
    if seen is not None:
        rows = rows.filter(institution_id__in=seen)
    if request.GET.get("show") != "all":
        rows = rows.filter(case__terminal=False)
    code = request.GET.get("institution", "")[:60]
    if code:
        rows = rows.filter(institution__code=code)
    lines = Paginator(rows.order_by("case__terminal", "case__due_at", "-pk"), PAGE).get_page(
        request.GET.get("page")
    )
    may_send = request.scope.has(*desk.DESKS)
    today = clock.today()
    waiting = []
    if may_send:
        found = desk.groups(today - dt.timedelta(days=13), today, severe=False)
        mine = [g for g in found if seen is None or g.institution_id in seen]
        places = Institution.objects.in_bulk({g.institution_id for g in mine})
        mine.sort(key=lambda g: (g.severity == "warn", -len(g.arrivals)))
        waiting = [
            {"g": g, "place": places[g.institution_id], "title": desk.rule_words(g.rule), "severity": words.SEVERITIES[g.severity],
             "tone": words.TONES[g.severity]}
            for g in mine[:SHOWN]
        ]  # fmt: skip
    shown = [
        {"p": p, "title": desk.title_of(p), "state": desk.MACHINE.state(p.case.state).label, "severity": desk.severity_words(p),
         "tone": words.TONES[p.severity]}
        for p in lines
    ]  # fmt: skip
    context = {
        "lines": lines,
        "shown": shown,
        "waiting": waiting,
        "all": request.GET.get("show") == "all",
        "code": code,
    }
    return render(request, "feeds/quality_problems.html", context)


@page(*desk.DESKS)
def new(request: HttpRequest) -> HttpResponse:
    """Send a group back to its sender: shown with a note to write, then opened."""
    values = request.POST if request.method == "POST" else request.GET
    group = _group(request.scope, values)
    note = request.POST.get("note", "")
    if request.method == "POST":
        try:
            number = desk.send_back(request.scope, group, note)
        except kernel.MoveError as trouble:
            messages.error(request, trouble.text)
        else:
            messages.success(request, T("已退回发送方。", "It was sent back."))
            return redirect("feeds:problem", number)
    context = {
        "g": group, "place": Institution.objects.get(pk=group.institution_id), "title": desk.rule_words(group.rule), "note": note,
        "severity": words.SEVERITIES[group.severity], "form": desk.OpenForm(initial={"note": note}),
    }  # fmt: skip
    return render(
        request, "feeds/quality_problem_new.html", context, status=422 if request.method == "POST" else 200
    )


def _group(scope: Scope, values: Any) -> desk.Group:
    """The group that a request names, as it is now; 404 when there is none the scope may send back."""
    try:
        week = dt.date.fromisoformat(values.get("week", ""))
    except ValueError:
        raise Http404 from None
    place = Institution.objects.filter(code=values.get("institution", "")).first()
    seen = selecting.institutions(scope)
    if place is None or (seen is not None and place.pk not in seen):
        raise Http404
    wanted = desk.Group(
        place.pk, values.get("door", ""), values.get("kind", ""), values.get("rule", ""), week, "", []
    )
    found = desk.groups(week, week + dt.timedelta(days=6), severe=False, only=wanted)
    if not found:
        raise Http404
    return found[0]


def _find(request: HttpRequest, number: str) -> Case:
    case = Case.objects.within(request.scope).filter(number=number, kind=desk.KIND).first()
    if case is None:
        raise Http404
    return case


def _offer(
    step: Move, case: Case, scope: Scope, data: Any = None, key: str = "", errors: dict[str, Text] | None = None, open_: bool = False
) -> dict[str, Any]:  # fmt: skip
    form = None
    if step.form is not None:
        form = forms.bind(step.form, data, kernel.context(case, scope)) if data is not None else step.form()
        if data is not None and errors:
            form.is_valid()
            for name, text in errors.items():
                if name in form.fields and name not in form.errors:
                    form.add_error(name, django_forms.ValidationError(text))
    tone = {"primary": "btn-primary", "danger": "btn-outline-danger"}.get(step.tone, "btn-outline-secondary")
    return {"move": step, "form": form, "key": key or uuid.uuid4().hex, "tone": tone, "open": open_}


def _context(request: HttpRequest, case: Case, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    scope = request.scope
    found: DataProblem = desk.MACHINE.load(case)  # type: ignore[misc]
    offers = [_offer(step, case, scope) for step in kernel.buttons(case, scope)]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    left = {pk for pk, _ in desk.unmended(found)} if not case.terminal else set()
    sees = scope.may("see_feeds")
    rows = Arrival.objects.filter(pk__in=found.arrivals[:SHOWN]).defer("body", "answer").order_by("-pk")
    acts = journey.log(case)
    duty = Duty.objects.within(scope).filter(case=case, ended="").first()
    return {
        "p": found, "case": case, "steps": journey.journey(case, acts), "offers": offers, "title": desk.title_of(found), "duty": duty,
        "rule": desk.rule_words(found.rule), "severity": desk.severity_words(found), "tone": words.TONES[found.severity],
        "state": desk.MACHINE.state(case.state).label, "door": words.DOORS.get(found.door, found.door), "sees": sees,
        "arrivals": [{"row": a, "state": words.STATES[a.state], "tone": words.TONES[a.state], "left": a.pk in left} for a in rows],
        "left": len(left), "named": len(found.arrivals), "log": [_said(act) for act in acts], "shown": SHOWN,
    }  # fmt: skip


def _said(act: Any) -> dict[str, Any]:
    step = machine.get(desk.KIND).move(act.move)
    text = act.form.get("comment") or act.form.get("note") or ""
    return {"act": act, "label": step.label if step else act.move, "text": text}


@page()
def problem(request: HttpRequest, number: str) -> HttpResponse:
    """One case: what is wrong, which messages, what was said, and what may be done."""
    return render(request, "feeds/quality_problem.html", _context(request, _find(request, number)))


@page()
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move of a case."""
    case = _find(request, number)
    step = desk.MACHINE.move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if request.method != "POST":
        return redirect("feeds:problem", number)
    data = {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    try:
        kernel.execute(
            move,
            case,
            request.scope,
            data,
            int(version) if version.isdigit() else None,
            f"page:{request.scope.account_id}:{key}",
        )
    except kernel.Refused as refusal:
        failed = _offer(step, case, request.scope, data, key, refusal.errors, True)
        return render(
            request,
            "feeds/quality_problem.html",
            _context(request, _find(request, number), failed),
            status=422,
        )
    except kernel.MoveError as trouble:
        messages.error(request, trouble.text)
        return render(
            request, "feeds/quality_problem.html", _context(request, _find(request, number)), status=409
        )
    found = DataProblem.objects.get(pk=case.pk)
    desk.settle(found)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect("feeds:problem", number)
