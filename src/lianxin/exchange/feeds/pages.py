"""Feeds: the overview, and the addresses of the room's pages.

Lists show kinds, control ids, times and reasons; what a message says is opened only with the permission for it, and audited as a
read of the person. A page shows the reader's own institution and those its office follows; who keeps the connections running
(the system administrator) sees every sender, without content.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path, reverse

from lianxin.access.web import page
from lianxin.exchange.feeds import (
    pages_messages,
    pages_problems,
    pages_quality,
    pages_reports,
    pages_rules,
    scores,
)
from lianxin.exchange.feeds.quality import selecting, words
from lianxin.exchange.feeds.quality.models import DataProblem, Replay
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

DAYS = 14
SILENT = dt.timedelta(days=2)

_LAST = (
    "SELECT i.id, (SELECT max(a.at) FROM exchange_arrival a WHERE a.institution_id = i.id)"
    " FROM unnest(%s::bigint[]) AS i(id)"
)


def _last(ids: list[int]) -> dict[int, dt.datetime | None]:
    """When each institution's last piece came (one look at the index each)."""
    with connection.cursor() as cursor:
        cursor.execute(_LAST, [ids])
        return dict(cursor.fetchall())


def _silent(last: dt.datetime | None) -> bool:
    return last is not None and clock.now() - last > SILENT


def _url(**values: Any) -> str:
    return reverse("feeds:messages") + "?" + urlencode(values)


@page(may="see_feeds")
def overview(request: HttpRequest) -> HttpResponse:
    """Today by door and state, two weeks of errors and lag, and institutions, those with trouble first."""
    seen = selecting.institutions(request.scope)
    today = clock.today()
    since = today - dt.timedelta(days=DAYS - 1)
    doors = scores.figures(("door",), today, today, seen)
    days = scores.figures(("day",), since, today, seen)
    week = scores.figures(("institution_id",), today - dt.timedelta(days=6), today, seen)
    now = scores.figures(("institution_id",), today, today, seen)
    whole = days.get((today,), scores.Figures())
    ids = [i for (i,) in week if i is not None]
    places, last = Institution.objects.in_bulk(ids), _last(ids)
    lines: list[dict[str, Any]] = [
        {
            "place": places[i],
            "today": now.get((i,), scores.Figures()),
            "week": week[i,],
            "last": last.get(i),
            "silent": _silent(last.get(i)),
            "url": _url(institution=places[i].code, state=selecting.WAITING),
        }
        for i in ids
    ]
    lines.sort(key=lambda line: (-line["week"].trouble, line["week"].total or 0, line["place"].code))
    day = today.isoformat()
    problems = DataProblem.objects.filter(case__terminal=False)
    if seen is not None:
        problems = problems.filter(institution_id__in=seen)
    context = {
        "whole": whole,
        "urls": {name: _url(state=name, since=day) for name in ("taken", "refused", "quarantined")}
        | {"all": _url(since=day)},
        "doors": [(words.DOORS[d], d, doors[d,], _url(door=d, since=day)) for (d,) in sorted(doors)],
        "lines": lines,
        "counted": scores.counted_at(),
        "problems": problems.count(),
        "replays": Replay.objects.filter(state="waiting").count() if request.scope.may("mend_feeds") else 0,
        "days": [(d, days.get((d,), scores.Figures())) for d in (today - dt.timedelta(days=n) for n in range(DAYS))],
        "traffic": {
            "unit": "",
            "series": [
                {"name": str(T("收到", "Received")), "points": _points(days, since, "arrivals")},
                {"name": str(T("未入库", "Not in the record")), "points": _points(days, since, "trouble")},
            ],
        },
    }  # fmt: skip
    return render(request, "feeds/overview.html", context)


def _points(days: dict[Any, scores.Figures], since: dt.date, name: str) -> list[dict[str, Any]]:
    every = [since + dt.timedelta(days=n) for n in range(DAYS)]
    return [
        {
            "t": d.isoformat(),
            "v": getattr(days.get((d,), scores.Figures()), name),
            "url": _url(since=d, until=d),
        }
        for d in every
    ]


app_name = "feeds"
urlpatterns = [
    path("feeds", overview, name="overview"),
    path("feeds/messages", pages_messages.messages_list, name="messages"),
    path("feeds/messages/replay", pages_messages.replay_all, name="replay_all"),
    path("feeds/messages/lineage", pages_messages.backwards, name="lineage"),
    path("feeds/messages/<int:pk>", pages_messages.message, name="message"),
    path("feeds/messages/<int:pk>/open", pages_messages.opened, name="message_open"),
    path("feeds/messages/<int:pk>/<slug:what>", pages_messages.act, name="message_act"),
    path("feeds/replays/<int:pk>", pages_messages.replay_shown, name="replay"),
    path("feeds/replays/<int:pk>/stop", pages_messages.replay_stop, name="replay_stop"),
    path("feeds/quality", pages_quality.ranking, name="quality"),
    path("feeds/quality/problems", pages_problems.problems, name="problems"),
    path("feeds/quality/problems/new", pages_problems.new, name="problem_new"),
    path("feeds/quality/problems/<str:number>", pages_problems.problem, name="problem"),
    path("feeds/quality/problems/<str:number>/<slug:move>", pages_problems.act, name="problem_act"),
    path("feeds/quality/<str:code>", pages_quality.institution, name="quality_one"),
    path("feeds/quality/<str:code>/report", pages_reports.report_page, name="report"),
    path("feeds/quality/<str:code>/report.pdf", pages_reports.report_pdf, name="report_pdf"),
    path("feeds/rules", pages_rules.rules_list, name="rules"),
    path("feeds/rules/<str:code>", pages_rules.rule, name="rule"),
    path("feeds/rules/<str:code>/try", pages_rules.attempt, name="rule_try"),
]
