"""Use and waste of numbers by week: the page, the sessions behind every figure, the paper and the CSV."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.network.models import Department, Institution, Practitioner
from lianxin.pool import usage as figures
from lianxin.pool.models import KINDS, TIERS, Template
from lianxin.resident.quotas import report, service
from lianxin.resident.quotas.models import Proposal
from lianxin.standards import clock
from lianxin.standards.text import T, Text

WEEKS, TREND = 12, 4

WHAT: dict[str, tuple[Text, Callable[[figures.Figures], int]]] = {
    "away": (T("有人未约到", "Turned somebody away"), lambda f: f.all_away),
    "empty": (T("有空号", "With empty numbers"), lambda f: f.empty),
    "no_shows": (T("有爽约", "With no-shows"), lambda f: f.no_shows),
    "released": (T("有预留被释放", "Kept numbers were released"), lambda f: f.released),
    "released_empty": (T("释放后仍空置", "Released, stayed empty"), lambda f: f.released_empty),
    "used": (T("预留被使用", "Kept numbers were used"), lambda f: f.all_used),
    "stopped": (T("停诊", "Stopped"), lambda f: f.stopped),
}


def monday(day: dt.date) -> dt.date:
    """The Monday of a day's week."""
    return day - dt.timedelta(days=day.weekday())


def places_of(request: HttpRequest) -> list[Institution]:
    """Institutions whose figures one may see and that have templates (the own one always), hospitals first."""
    ids = service.mine(request.scope)
    with_templates = set(
        Template.objects.filter(institution_id__in=ids).values_list("institution_id", flat=True)
    )
    with_templates.add(request.scope.institution_id)
    rank = {"county": 0, "township": 1, "village": 2}
    found = Institution.objects.filter(pk__in=with_templates & set(ids))
    return sorted(found, key=lambda i: (rank.get(i.tier, 0), i.code))


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 15 else None


def asked(request: HttpRequest) -> tuple[list[Institution], list[Institution], dt.date]:
    """All institutions one may see, those chosen (``all``, or one: the own unless told), and the Monday (last week unless told)."""
    places = places_of(request)
    text = request.GET.get("institution", "")
    if text == "all" and places:
        chosen = places
    else:
        wanted = _number(text) if text else request.scope.institution_id
        chosen = [i for i in places if i.pk == wanted]
        if not chosen:
            raise Http404(
                str(T("没有这家机构，或不在您的范围内。", "No such institution within your reach."))
            )
    this, week = monday(clock.today()), request.GET.get("week", "")
    try:
        first = monday(dt.date.fromisoformat(week)) if week else this - report.WEEK
    except (ValueError, OverflowError):
        raise Http404(str(T("日期无效。", "No such day."))) from None
    if not dt.date(2020, 1, 1) <= first <= this + 8 * report.WEEK:
        raise Http404(str(T("日期超出范围。", "The day is out of range.")))
    return places, chosen, first


def _trend(
    chosen: list[Institution], first: dt.date
) -> tuple[dict[str, Any], list[tuple[dt.date, figures.Figures]]]:
    since = first - (TREND - 1) * report.WEEK
    rows = figures.sessions([i.pk for i in chosen], since, first + report.WEEK)
    days = sorted(figures.grouped(rows, lambda r: r.day).items())
    series: list[tuple[Text, Callable[[figures.Figures], int]]] = [
        (T("号数", "Numbers"), lambda f: f.capacity),
        (T("已约", "Taken"), lambda f: f.all_taken),
        (T("浪费（空号与爽约）", "Waste (empty and no-show)"), lambda f: f.waste),
        (T("未约到的人", "Turned away"), lambda f: f.all_away),
    ]
    chart = {
        "unit": "",
        "series": [
            {"name": str(name), "points": [{"t": day.isoformat(), "v": of(f)} for day, f in days]}
            for name, of in series
        ],
    }
    return chart, days


@page(may="run_schedules")
def usage(request: HttpRequest) -> HttpResponse:
    """A week's figures with what lies behind them, four weeks by day, and where people were turned away."""
    places, chosen, first = asked(request)
    made = report.make(chosen, first)
    chart, days = _trend(chosen, first)
    base = f"week={first.isoformat()}&institution={request.GET.get('institution') or chosen[0].pk}"
    opens = reverse("quotas:sessions")
    this = monday(clock.today())
    away = sorted((x for x in made.lines if x.figures.all_away), key=lambda x: -x.figures.all_away)[:10]
    bars = {
        "bars": [
            {"name": f"{x.department.name} {x.clinic_type}", "value": x.figures.all_away, "url": f"{opens}?{x.query}&what=away"}
            for x in away
        ]
    }  # fmt: skip
    total = made.total
    summary = T(
        "{since} 至 {until} 一周：共 {n} 个号，约出 {taken} 个；预留 {kept} 个，基层用去 {used} 个，释放 {released} 个；{away} 人次未约到，空号与爽约合计 {waste} 个。",
        "Week {since} to {until}: {n} numbers, {taken} taken; {kept} kept, {used} of them used by the grassroots, {released} released; {away} people turned away; {waste} numbers empty or missed.",
    ).format(
        since=first, until=made.sunday, n=total.capacity, taken=total.all_taken, kept=total.kept, used=total.all_used,
        released=total.released, away=total.all_away, waste=total.waste,
    )  # fmt: skip
    context = {
        "places": places, "chosen": chosen, "place": chosen[0] if len(chosen) == 1 else None, "r": made, "week": first,
        "weeks": [this + report.WEEK * n for n in range(2, -WEEKS, -1)], "this": this, "chart": chart, "days": days, "bars": bars,
        "away": away, "summary": summary, "base": base, "opens": {what: f"{opens}?{base}&what={what}" for what in WHAT},
        "all_url": f"{opens}?{base}",
        "proposals": Proposal.objects.filter(institution__in=chosen, state="open").count(),
    }  # fmt: skip
    return render(request, "quotas/usage.html", context)


@page(may="run_schedules")
def sessions(request: HttpRequest) -> HttpResponse:
    """The sessions behind a figure; says nothing of patients."""
    places, chosen, first = asked(request)
    rows = figures.sessions([i.pk for i in chosen], first, first + report.WEEK)
    department, what = _number(request.GET.get("department", "")), request.GET.get("what", "")
    kind, clinic_type = request.GET.get("kind", ""), request.GET.get("type", "")
    if what and what not in WHAT:
        raise Http404
    rows = [
        r
        for r in rows
        if (department is None or r.department_id == department)
        and (not kind or r.kind == kind)
        and (not clinic_type or r.clinic_type == clinic_type)
        and (not what or WHAT[what][1](r.figures))
    ]
    shown = Paginator(rows, 50).get_page(request.GET.get("page"))
    departments = Department.objects.in_bulk({r.department_id for r in rows})
    doctors = Practitioner.objects.in_bulk({r.practitioner_id for r in shown if r.practitioner_id})
    by_place = {i.pk: i for i in chosen}
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "places": places, "place": chosen[0] if len(chosen) == 1 else None, "week": first, "sunday": first + dt.timedelta(days=6),
        "page": shown, "query": query.urlencode(), "total": figures.total(rows), "what": WHAT[what][0] if what else None,
        "department": departments.get(department) if department else None, "clinic_type": clinic_type,
        "kind": KINDS.get(kind), "back": f"week={first.isoformat()}&institution={request.GET.get('institution') or chosen[0].pk}",
        "rows": [
            {"r": r, "f": r.figures, "department": departments[r.department_id], "institution": by_place[r.institution_id],
             "doctor": doctors.get(r.practitioner_id) if r.practitioner_id else None,
             "taken": [(TIERS[t], n) for t, n in r.figures.taken.items() if n], "away": [(TIERS[t], n) for t, n in r.figures.away.items() if n]}
            for r in shown
        ],
    }  # fmt: skip
    return render(request, "quotas/sessions.html", context)


@page(may="run_schedules")
def report_pdf(request: HttpRequest) -> HttpResponse:
    """The week as paper."""
    _, chosen, first = asked(request)
    audit.write(request.scope, "print", what=f"quota report {first} {' '.join(i.code for i in chosen)}"[:200])
    answer = HttpResponse(report.pdf(report.make(chosen, first)), content_type="application/pdf")
    answer["Content-Disposition"] = f'inline; filename="numbers-{first}.pdf"'
    return answer


@page(may="run_schedules")
def report_csv(request: HttpRequest) -> HttpResponse:
    """The week's lines as CSV (with a mark by which spreadsheets know the coding)."""
    _, chosen, first = asked(request)
    audit.write(
        request.scope, "export", what=f"quota report {first} {' '.join(i.code for i in chosen)}"[:200]
    )
    answer = HttpResponse(
        "\ufeff" + report.as_csv(report.make(chosen, first)), content_type="text/csv; charset=utf-8"
    )
    answer["Content-Disposition"] = f'attachment; filename="numbers-{first}.csv"'
    return answer
