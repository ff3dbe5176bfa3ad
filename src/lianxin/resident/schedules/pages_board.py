"""The schedule board: a week of an institution, making sessions ahead, copying a week."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access.web import page
from lianxin.network.models import Department, Institution
from lianxin.pool.models import KINDS, Session
from lianxin.resident.schedules import acts, board, jobs, planning
from lianxin.resident.schedules.forms import CopyForm
from lianxin.resident.schedules.models import Act
from lianxin.standards import clock
from lianxin.standards.text import T

REACH = dt.timedelta(days=400)


def form_key(request: HttpRequest) -> str:
    """The form's key with what was typed: the same form sent twice is one act, sent again with other values another."""
    typed = urlencode(
        sorted((k, v) for k, vs in request.POST.lists() for v in vs if k != "csrfmiddlewaretoken")
    )
    own = request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    return f"{request.scope.account_id}:{own}:{hashlib.sha256(typed.encode()).hexdigest()[:16]}"


def new_key() -> str:
    """A key for a form that is about to be shown."""
    return uuid.uuid4().hex


def number(text: str) -> int | None:
    """A row's number from an address, or None."""
    return int(text) if text.isdigit() and text.isascii() and len(text) < 18 else None


def day_of(text: str, default: dt.date) -> dt.date:
    """A day from an address; ``default`` when it is none, or lies more than a year away."""
    try:
        found = dt.date.fromisoformat(text)
    except ValueError:
        return default
    return found if abs(found - clock.today()) <= REACH else default


def institutions(request: HttpRequest) -> list[Institution]:
    """The institutions whose schedules one runs, the own one first."""
    rows = list(Institution.objects.filter(pk__in=acts.mine(request.scope), active=True).order_by("code"))
    rows.sort(key=lambda i: i.pk != request.scope.institution_id)
    return rows


def chosen_institution(request: HttpRequest, rows: list[Institution]) -> Institution | None:
    """The institution of the address, or the first."""
    wanted = number(request.GET.get("institution", "") or request.POST.get("institution", ""))
    return next((i for i in rows if i.pk == wanted), rows[0] if rows else None)


def _sessions(institution: Institution | None, week: dt.date, department: int | None, kind: str) -> Any:
    start = dt.datetime.combine(week, dt.time(), clock.ZONE)
    rows = (
        Session.objects.filter(institution=institution, starts_at__gte=start, starts_at__lt=start + dt.timedelta(days=7))
        .select_related("department", "practitioner", "resource")
        .order_by("department__code", "practitioner__pinyin", "resource__code", "practitioner_id", "starts_at", "pk")
    )  # fmt: skip
    if department is not None:
        rows = rows.filter(department_id=department)
    if kind in KINDS:
        rows = rows.filter(kind=kind)
    return rows


@page(may="run_schedules")
def show(request: HttpRequest) -> HttpResponse:
    """A week as a grid; ``?week=&institution=&department=&kind=``."""
    places = institutions(request)
    place = chosen_institution(request, places)
    week = board.monday(day_of(request.GET.get("week", ""), clock.today()))
    department, kind = number(request.GET.get("department", "")), request.GET.get("kind", "")
    sessions = list(_sessions(place, week, department, kind))
    now = clock.now()
    states = [board.standing(s, now) for s in sessions]
    same = {"institution": place.pk if place else "", "department": department or "", "kind": kind}
    step = dt.timedelta(days=7)
    context = {
        "place": place,
        "places": places,
        "week": week,
        "last": week + dt.timedelta(days=6),
        "days": board.days(week),
        "groups": board.groups(sessions, week),
        "departments": Department.objects.filter(institution=place, active=True).order_by("code"),
        "department": department,
        "kinds": KINDS.items(),
        "kind": kind,
        "before": urlencode({**same, "week": week - step}),
        "after": urlencode({**same, "week": week + step}),
        "today": urlencode(same),
        "figures": {
            "sessions": len(sessions),
            "capacity": sum(s.capacity for s in sessions if s.status == "open"),
            "taken": sum(s.taken for s in sessions),
            "stopped": states.count("stopped"),
        },
        "legend": [(code, board.STATES[code], board.ICONS[code]) for code in board.STATES],
        "copy_form": CopyForm(),
        "key": new_key(),
        "stops": Act.objects.filter(
            institution=place, kind="stop", at__gte=now - dt.timedelta(days=7)
        ).count(),
    }
    return render(request, "schedules/board.html", context)


def _back(request: HttpRequest, place: Institution | None, week: dt.date) -> HttpResponse:
    query = {"institution": place.pk if place else "", "week": week.isoformat()}
    return redirect(f"{reverse('schedules:board')}?{urlencode(query)}")


@require_POST
@page(may="run_schedules")
def make(request: HttpRequest) -> HttpResponse:
    """Make the sessions that are missing for the chosen institution, now."""
    place = chosen_institution(request, institutions(request))
    if place is None:
        return redirect("schedules:board")
    done = acts.once(
        request.scope, f"make:{form_key(request)}", "make", lambda _act: {"made": jobs.make_ahead([place.pk])},
        institution_id=place.pk,
    )  # fmt: skip
    made = done.detail.get("made", 0)
    words = (
        T("已生成 {n} 场。", "{n} sessions made.").format(n=made)
        if made
        else T("没有缺少的场次。", "No session was missing.")
    )
    messages.success(request, str(words))
    return _back(request, place, board.monday(day_of(request.POST.get("week", ""), clock.today())))


@require_POST
@page(may="run_schedules")
def copy(request: HttpRequest) -> HttpResponse:
    """Copy the week that is shown some weeks on; what is there stays."""
    place = chosen_institution(request, institutions(request))
    week = board.monday(day_of(request.POST.get("week", ""), clock.today()))
    form = CopyForm(request.POST)
    if place is None or not form.is_valid():
        messages.error(request, str(T("请填复制到几周之后（1–26）。", "Say how many weeks later (1–26).")))
        return _back(request, place, week)
    weeks = form.cleaned_data["weeks"]
    target = week + dt.timedelta(weeks=weeks)
    if target + dt.timedelta(days=6) < clock.today():
        messages.error(request, str(T("目标周已经过去。", "That week has gone by.")))
        return _back(request, place, week)

    def work(_act: Act) -> dict[str, Any]:
        rows = _sessions(place, week, number(request.POST.get("department", "")), "").filter(status="open")
        ahead = [
            s
            for s in rows.select_related("template")
            if s.starts_at + dt.timedelta(weeks=weeks) > clock.now()
        ]
        done = planning.copy_week(ahead, weeks)
        return {"made": done.made, "there": done.there, "holidays": done.holidays, "to": target.isoformat()}

    act = acts.once(request.scope, f"copy:{form_key(request)}", "copy", work, institution_id=place.pk)
    words = T(
        "已复制：新增 {made} 场，{there} 场原已存在，{holidays} 场遇节假日未排。",
        "Copied: {made} sessions added, {there} were there already, {holidays} fall on days off and were left out.",
    )
    messages.success(
        request, str(words.format(**{k: act.detail.get(k, 0) for k in ("made", "there", "holidays")}))
    )
    return _back(request, place, target)
