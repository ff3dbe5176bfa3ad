"""Quality pages: the ranking of the consortium, and one institution by dimension, kind, vendor and rule."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.feeds import problems, scores
from lianxin.exchange.feeds.models import DIMENSIONS
from lianxin.exchange.feeds.quality import rules, selecting, words
from lianxin.exchange.feeds.quality.models import DataProblem
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

SPANS = {"1": T("今天", "Today"), "7": T("近 7 天", "7 days"), "28": T("近 28 天", "28 days")}
TREND = 28
TOP = 15

_HITS = (
    "SELECT f.rule, count(*), count(DISTINCT f.arrival_id), max(CASE f.severity WHEN 'refuse' THEN 3 WHEN 'quarantine' THEN 2 ELSE 1 END)"
    " FROM exchange_finding f WHERE f.institution_id = %s AND f.day BETWEEN %s AND %s AND f.state <> 'waived' GROUP BY 1"
    " ORDER BY 4 DESC, 3 DESC, 1 LIMIT %s"
)


def place_or_404(scope: Scope, code: str) -> Institution:
    """An institution whose figures the scope sees; 404 otherwise."""
    found = Institution.objects.filter(code=code).first()
    seen = selecting.institutions(scope)
    if found is None or (seen is not None and found.pk not in seen):
        raise Http404
    return found


def _span(request: HttpRequest) -> tuple[str, dt.date, dt.date]:
    days = request.GET.get("days", "7")
    days = days if days in SPANS else "7"
    today = clock.today()
    return days, today - dt.timedelta(days=int(days) - 1), today


def _cells(one: scores.Figures) -> list[tuple[Any, float | None]]:
    return [(scores.LABELS[name], one.scores[name]) for name in DIMENSIONS]


def _trend(seen: frozenset[int] | None) -> dict[str, Any]:
    today = clock.today()
    since = today - dt.timedelta(days=TREND - 1)
    days = scores.figures(("day",), since, today, seen)
    every = [since + dt.timedelta(days=n) for n in range(TREND)]
    lines: list[tuple[str, Any]] = [(str(T("总分", "Total")), lambda f: f.total)]
    for name in ("completeness", "consistency", "validity"):
        lines.append((str(scores.LABELS[name]), lambda f, name=name: f.scores[name]))
    return {
        "unit": "",
        "series": [
            {
                "name": name,
                "points": [{"t": d.isoformat(), "v": value(days[d,])} for d in every if (d,) in days],
            }
            for name, value in lines
        ],
    }


@page(may="see_feeds")
def ranking(request: HttpRequest) -> HttpResponse:
    """All institutions the reader follows, the best first, with the five dimensions; and by vendor."""
    seen = selecting.institutions(request.scope)
    days, since, until = _span(request)
    found = scores.figures(("institution_id",), since, until, seen)
    before = scores.figures(
        ("institution_id",),
        since - (until - since) - dt.timedelta(days=1),
        since - dt.timedelta(days=1),
        seen,
    )
    places = Institution.objects.in_bulk([i for (i,) in found if i is not None])
    open_ = dict.fromkeys(places, 0)
    for i in DataProblem.objects.filter(case__terminal=False, institution_id__in=list(places)).values_list(
        "institution_id", flat=True
    ):
        open_[i] += 1
    lines: list[dict[str, Any]] = [
        {"place": places[i], "f": found[i,], "cells": _cells(found[i,]), "open": open_[i],
         "change": _change(found[i,].total, before.get((i,), scores.Figures()).total)}
        for i in places
    ]  # fmt: skip
    lines.sort(key=lambda line: (-(line["f"].total or 0), line["place"].code))
    for n, line in enumerate(lines, 1):
        line["rank"] = n
    vendors = scores.figures(("vendor",), since, until, seen)
    whole = scores.figures((), since, until, seen).get((), scores.Figures())
    context = {
        "lines": lines, "days": days, "spans": SPANS.items(), "whole": whole, "cells": _cells(whole), "trend": _trend(seen),
        "labels": [scores.LABELS[name] for name in DIMENSIONS], "counted": scores.counted_at(),
        "vendors": sorted(((v or T("未登记厂商", "Vendor not entered"), f, _cells(f)) for (v,), f in vendors.items()), key=lambda x: -(x[1].total or 0)),
    }  # fmt: skip
    return render(request, "feeds/quality.html", context)


def _change(now: float | None, last: float | None) -> float | None:
    return round(now - last, 1) if now is not None and last is not None else None


@page(may="see_feeds")
def institution(request: HttpRequest, code: str) -> HttpResponse:
    """One institution: its figures, by door and kind, by vendor, and the rules it breaks, each opening its messages."""
    place = place_or_404(request.scope, code)
    days, since, until = _span(request)
    mine = frozenset({place.pk})
    whole = scores.figures((), since, until, mine).get((), scores.Figures())
    kinds = scores.figures(("door", "kind"), since, until, mine)
    vendors = scores.figures(("vendor",), since, until, mine)
    with connection.cursor() as cursor:
        cursor.execute(_HITS, [place.pk, since, until, TOP])
        hits = cursor.fetchall()
    grave = ("warn", "quarantine", "refuse")
    owed = DataProblem.objects.filter(institution=place, case__terminal=False).select_related("case")
    context = {
        "place": place, "days": days, "spans": SPANS.items(), "whole": whole, "cells": _cells(whole), "trend": _trend(mine),
        "labels": [scores.LABELS[name] for name in DIMENSIONS], "since": since, "until": until, "counted": scores.counted_at(),
        "kinds": sorted(((words.DOORS[d], d, k, f, _cells(f)) for (d, k), f in kinds.items()), key=lambda x: -x[3].arrivals),
        "vendors": [(v or T("未登记厂商", "Vendor not entered"), f, _cells(f)) for (v,), f in sorted(vendors.items())],
        "hits": [
            {"rule": rule, "shipped": rule in rules.shipped(), "title": problems.rule_words(rule), "n": n, "m": m, "severity": words.SEVERITIES[grave[g - 1]], "tone": words.TONES[grave[g - 1]]}
            for rule, n, m, g in hits
        ],
        "owed": [{"p": p, "title": problems.title_of(p), "state": problems.MACHINE.state(p.case.state).label} for p in owed],
    }  # fmt: skip
    return render(request, "feeds/quality_one.html", context)
