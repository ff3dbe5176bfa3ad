"""The weekly quality report of an institution, as a page and as PDF."""

from __future__ import annotations

import datetime as dt

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.exchange.feeds import problems, report
from lianxin.exchange.feeds.models import DIMENSIONS
from lianxin.exchange.feeds.pages_quality import place_or_404
from lianxin.exchange.feeds.quality.models import WeeklyReport
from lianxin.network.models import Institution
from lianxin.standards import clock

WEEKS = 12


def _asked(request: HttpRequest, code: str) -> tuple[Institution, dt.date]:
    """The institution, and the Monday of the asked week (last week unless told); 404 for a week to come or before all data."""
    place = place_or_404(request.scope, code)
    this = problems.monday(clock.today())
    text = request.GET.get("week", "")
    try:
        monday = problems.monday(dt.date.fromisoformat(text)) if text else this - report.WEEK
    except (ValueError, OverflowError):
        raise Http404 from None
    if not dt.date(2000, 1, 1) <= monday <= this:
        raise Http404
    return place, monday


@page(may="see_feeds")
def report_page(request: HttpRequest, code: str) -> HttpResponse:
    """The report of a week: kept when the week is over, on demand while it runs."""
    place, monday = _asked(request, code)
    this = problems.monday(clock.today())
    content = report.keep(place, monday).content if monday < this else report.make(place, monday)
    weeks = [this - report.WEEK * n for n in range(WEEKS)]
    made = report.context(place, content)
    radar = {
        "unit": "",
        "series": [
            {"name": str(made["table"][0]["label"]), "points": [
                {"t": d["day"].isoformat(), "v": d["total"]} for d in made["days"] if d["total"] is not None
            ]}
        ],
    }  # fmt: skip
    more = {
        "weeks": weeks,
        "running": monday == this,
        "chart": radar,
        "kept": WeeklyReport.objects.filter(institution=place).count(),
        "dimensions": DIMENSIONS,
    }
    return render(request, "feeds/report.html", made | more)


@page(may="see_feeds")
def report_pdf(request: HttpRequest, code: str) -> HttpResponse:
    """The same as PDF."""
    place, monday = _asked(request, code)
    over = monday < problems.monday(clock.today())
    content = report.keep(place, monday).content if over else report.make(place, monday)
    audit.write(request.scope, "print", what=f"quality report {place.code} {monday}")
    answer = HttpResponse(report.pdf(place, content), content_type="application/pdf")
    answer["Content-Disposition"] = f'inline; filename="quality-{place.pk}-{monday}.pdf"'
    return answer
