"""The channel's pages: the live board with running clocks, opening, one channel with its moves, the indicators."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms as duty_forms
from lianxin.duty import journey, kernel
from lianxin.duty.forms import refuse
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.index import finding
from lianxin.index.models import Person
from lianxin.regional.emergency import forms, indicators, moves, policy, rules, service
from lianxin.regional.emergency.models import MILESTONES, OUTCOMES, STOPS, STRATEGIES, Channel, Milestone
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}
_CLOCKS = (
    ("ecg", "fmc", T("心电图", "ECG")),
    ("diagnose", "ecg", T("诊断", "Diagnosis")),
    ("wire", "fmc", T("导丝通过", "Wire")),
)
DAYS = (30, 90, 365)


def _mine(scope: Scope) -> set[int]:
    return set(scope.institution_ids | scope.oversight_ids)


# --------------------------------------------------------------------------------------------------------------- the board


@page(may="handle_critical")
def board(request: HttpRequest) -> HttpResponse:
    """Every open channel in which the own institution plays a part, the most pressing first, with running clocks by the server's time."""
    scope = request.scope
    mine = _mine(scope)
    rows = Channel.objects.unscoped("one's own institution's").filter(live=True)
    rows = rows.filter(first_id__in=mine) | rows.filter(centre_id__in=mine) | rows.filter(lab_id__in=mine)
    channels = list(rows.select_related("case__owner_institution", "person", "first", "centre", "lab").order_by("case__due_at", "pk")[:100])  # fmt: skip
    times, now = indicators.times_of(channels), clock.now()
    if channels and "HX-Request" not in request.headers:
        audit.write(
            scope, "search", what="chest-pain board", detail={"people": [c.person_id for c in channels]}
        )
    cards = [_card(c, times[c.pk], now) for c in channels]
    context = {"cards": cards, "now": now, "may_open": bool(scope.roles & set(moves.CARE))}
    return render(request, "emergency/_cards.html" if "HX-Request" in request.headers else "emergency/board.html", context)  # fmt: skip


def _card(channel: Channel, times: rules.Times, now: dt.datetime) -> dict[str, Any]:
    state = moves.MACHINE.state(channel.case.state)
    return {
        "c": channel, "state": state.label, "owes": state.owes.label if state.owes else "", "since": times.get("fmc"),
        "clocks": clocks(channel, times, now),
    }  # fmt: skip


def clocks(channel: Channel, times: rules.Times, now: dt.datetime) -> list[dict[str, Any]]:
    """The great clocks of a channel: running ones count, stopped ones say how long it took and whether that was in time."""
    found = []
    for name, start, label in (*_CLOCKS, ("wire_direct", "door", T("进门到导丝", "Door to wire"))):
        since = times.get(start)
        if since is None or (name == "diagnose" and "diagnosed" not in times and "ecg" not in times):
            continue
        if name == "wire" and channel.strategy == "lysis":
            continue
        end = times.get({"ecg": "ecg", "diagnose": "diagnosed", "wire": "wire", "wire_direct": "wire"}[name])
        target = policy.target(name, channel.centre_id).minutes
        gone = int(((end or now) - since).total_seconds())
        found.append(
            {"name": name, "label": label, "since": since, "end": end, "target": target, "seconds": max(gone, 0), "minutes": max(gone, 0) // 60,
             "late": gone > target * 60, "near": not end and target * 60 * 0.7 < gone <= target * 60}
        )  # fmt: skip
    return found


# ------------------------------------------------------------------------------------------------------------------ opening


@page(*moves.CARE)
def new(request: HttpRequest) -> HttpResponse:
    """Somebody with chest pain: who, what, since when; the clocks start."""
    scope = request.scope
    scope.demand("handle_critical")
    number = (request.POST.get("person") or request.GET.get("person", "")).strip()[:20]
    if not number:
        q = request.GET.get("q", "").strip()[:80]
        return render(request, "emergency/find.html", {"q": q, "hits": finding.find(scope, q) if q else []})
    person = (
        Person.objects.unscoped("a number from the search").filter(number=number, status="active").first()
    )
    if person is None:
        raise Http404
    relationships.require(scope, person.pk)
    if (live := service.live_of(person.pk)) is not None:
        return redirect("emergency:show", live.case.number)
    form, key, status = forms.OpenForm(), uuid.uuid4().hex, 200
    if request.method == "POST":
        key, status = request.POST.get("_key", "")[:64] or key, 422
        form = forms.OpenForm(request.POST)
        if form.is_valid():
            try:
                made = service.start(scope, person.pk, _fields(request), f"page:{scope.account_id}:{key}")
                messages.success(request, str(T("胸痛绿色通道已启动，计时开始。", "The channel is open; the clocks run.")))  # fmt: skip
                return redirect("emergency:show", made.case.number)
            except kernel.Refused as refusal:
                refuse(form, refusal.errors)
            except kernel.MoveError as trouble:
                form.add_error(None, django_forms.ValidationError(trouble.text))
    return render(request, "emergency/new.html", {"person": person, "form": form, "key": key}, status=status)


def _fields(request: HttpRequest) -> dict[str, Any]:
    """What a form sent, without the page's own fields; several values of one name as a list."""
    sent = {k: v for k, v in request.POST.lists() if not k.startswith("_") and k not in ("csrfmiddlewaretoken", "person")}  # fmt: skip
    return {k: v if k == "present" else v[-1] for k, v in sent.items()}


# ------------------------------------------------------------------------------------------------------------- one channel


def _find(request: HttpRequest, number: str) -> Channel:
    rows = Channel.objects.within(request.scope).select_related("case", "person", "first", "centre", "lab", "reading__case")  # fmt: skip
    found: Channel | None = rows.filter(case__number=number).first()
    if found is None:
        raise Http404
    return found


def _offer(step: Move, case: Case, scope: Scope, data: Any = None, key: str = "", errors: dict[str, Text] | None = None) -> dict[str, Any]:  # fmt: skip
    form = None
    if step.form is not None:
        form = duty_forms.bind(step.form, data, kernel.context(case, scope))
        if data is not None:
            duty_forms.refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "open": data is not None,
        "tone": _TONES.get(step.tone, "btn-outline-secondary"),
    }  # fmt: skip


def _context(request: HttpRequest, channel: Channel, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    scope, case = request.scope, channel.case
    offers = [_offer(step, case, scope) for step in kernel.buttons(case, scope)]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    acts = journey.log(case)
    rows: dict[str, list[Milestone]] = {}
    for row in channel.milestones.all().order_by("version"):
        rows.setdefault(row.code, []).append(row)
    times = {code: found[-1].at for code, found in rows.items()}
    now = clock.now()
    audit.write(scope, "read", person_id=channel.person_id, what=f"chest_pain {case.number}")
    return {
        "channel": channel, "case": case, "person": channel.person, "offers": offers, "steps": journey.journey(case, acts),
        "state": moves.MACHINE.state(case.state).label, "log": acts, "now": now, "clocks": clocks(channel, times, now),
        "milestones": [(MILESTONES[code], rows[code]) for code in MILESTONES if code in rows],
        "intervals": [(rules.INTERVALS[n][2], m, _limit(n, channel)) for n, m in rules.intervals(times).items()],
        "duties": list(Duty.objects.unscoped("the case was reached within the scope").filter(case=case, ended="").select_related("owner_institution").order_by("due_at")),
        "advice": forms.advised(channel, now) if case.state == "confirmed" else None, "strategies": STRATEGIES,
        "outcome": OUTCOMES.get(channel.outcome), "stopped": STOPS.get(channel.stopped), "strategy": STRATEGIES.get(channel.strategy),
        "present": [c.label for c in policy.checklist() if c.code in channel.checklist.get("present", [])],
    }  # fmt: skip


def _limit(name: str, channel: Channel) -> int | None:
    return policy.target(rules.LIMITS[name], channel.centre_id).minutes if name in rules.LIMITS else None


@page(may="handle_critical")
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One channel: clocks, what is owed, every time with its corrections, what may be done."""
    return render(request, "emergency/show.html", _context(request, _find(request, number)))


@page(may="handle_critical")
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move of a channel."""
    channel = _find(request, number)
    step = moves.MACHINE.move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if request.method != "POST":
        return redirect("emergency:show", number)
    data = _fields(request)
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    try:
        service.act(request.scope, number, move, data, looked, f"page:{request.scope.account_id}:{key}")
    except kernel.Refused as refusal:
        failed = _offer(step, channel.case, request.scope, data, key, refusal.errors)
        return render(request, "emergency/show.html", _context(request, channel, failed), status=422)
    except kernel.MoveError as trouble:
        messages.error(request, str(trouble.text))
        return render(request, "emergency/show.html", _context(request, _find(request, number)), status=409)
    messages.success(request, str(T("已记录：{move}", "Recorded: {move}").format(move=step.label)))
    return redirect("emergency:show", number)


# ----------------------------------------------------------------------------------------------------------- indicators


@page(may="handle_critical")
def statistics(request: HttpRequest) -> HttpResponse:
    """Medians and shares within target; every figure opens down to the channels it counts."""
    scope = request.scope
    text = request.GET.get("days", "")
    days = int(text) if text.isascii() and text.isdigit() and int(text) in DAYS else 90
    channels = indicators.of_period(_mine(scope), clock.now() - dt.timedelta(days=days))
    found = indicators.indicators(channels, scope.institution_id or 0)
    chosen = next((i for i in found if i.name == request.GET.get("show")), None)
    if chosen is not None and chosen.minutes:
        audit.write(scope, "search", what=f"chest-pain indicator {chosen.name}", detail={"people": [c.person_id for _, c in chosen.minutes]})  # fmt: skip
    return render(
        request, "emergency/statistics.html",
        {"found": found, "days": days, "choices": DAYS, "chosen": chosen, "count": len(channels),
         "rows": sorted(chosen.minutes, key=lambda r: -r[0])[:200] if chosen else []},
    )  # fmt: skip
