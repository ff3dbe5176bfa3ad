"""登记质量: the days' figures of every institution, sources that are conspicuous, and values that say nothing any more."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access.web import page
from lianxin.index import sources
from lianxin.index.batch.models import Day
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

DAYS = 60
RATES: tuple[tuple[str, Text, str], ...] = (
    ("linked", T("关联率", "Linked"), "registrations"),
    ("reviews", T("待复核率", "To review"), "registrations"),
    ("no_id", T("缺证件号", "No identity number"), "sampled"),
    ("wrong_id", T("证件号有误或属他人", "Wrong or somebody else's number"), "sampled"),
    ("no_phone", T("缺电话", "No phone"), "sampled"),
    ("no_birth", T("缺出生日期", "No birth date"), "sampled"),
    ("generic", T("通用值", "Values on everybody"), "sampled"),
    ("nameless", T("无名或代称", "No proper name"), "sampled"),
)


@page(may="review_links")
def quality(request: HttpRequest) -> HttpResponse:
    """A day's registrations of every institution the reader follows, and the trend of one of them."""
    days = Day.objects.all()
    manager = request.scope.may("relink")
    if not request.scope.everything and not manager:
        days = days.filter(institution_id__in=request.scope.institution_ids)
    last = _day(request.GET.get("day", "")) or days.order_by("-day").values_list("day", flat=True).first()
    rows: list[Any] = (
        list(days.filter(day=last).select_related("institution").order_by("-registrations", "pk"))
        if last
        else []
    )
    for row in rows:
        _rates(row)
    followed = None if request.scope.everything or manager else request.scope.institution_ids
    found = sources.noticed(followed)
    places = Institution.objects.in_bulk({n.institution_id for n in found})
    chosen = request.GET.get("institution", "")
    one = Institution.objects.filter(pk=int(chosen)).first() if chosen.isdigit() else None
    points: list[Any] = list(days.filter(institution=one).order_by("-day")[:DAYS]) if one else []
    for point in points:
        _rates(point)
    trend = {
        "unit": "%",
        "series": [
            {
                "name": str(label),
                "points": [
                    {"t": p.day.isoformat(), "v": p.rates[name]}
                    for p in reversed(points)
                    if p.rates[name] is not None
                ],
            }
            for name, label, _ in RATES[:4]
        ],
    }
    context = {
        "day": last,
        "rows": rows,
        "one": one,
        "points": points,
        "trend": trend,
        "names": [(name, label) for name, label, _ in RATES],
        "noticed": [(places[n.institution_id], n) for n in found],
        "flag_days": sources.FLAG_DAYS,
        "manager": manager,
        "generic": sources.generic_values(request.scope) if manager else [],
    }
    return render(request, "portal/index/quality.html", context)


@require_POST
@page(may="relink")
def lift(request: HttpRequest, pk: int) -> HttpResponse:
    """Let a generic value say something again, or nothing once more."""
    active = request.POST.get("act") == "generic"
    if not sources.decide(request.scope, pk, active):
        messages.error(
            request, str(T("没有变化：别人可能已处理。", "Nothing changed: perhaps somebody was faster."))
        )
    elif active:
        messages.success(request, str(T("该值不再用来认人。", "The value tells nobody apart any more.")))
    else:
        messages.success(request, str(T("该值重新用来认人。", "The value counts again.")))
    return redirect(reverse("portal:index_quality") + "#generic")


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text) if text else None
    except ValueError:
        return None


def _rates(row: Any) -> None:
    """Per cent of every rate; None where there was nothing to count."""
    row.rates = {
        name: round(getattr(row, name) / getattr(row, base) * 100, 1) if getattr(row, base) else None
        for name, _, base in RATES
    }
    row.cells = [(label, row.rates[name]) for name, label, _ in RATES]
    row.fresh = row.day == clock.today()
