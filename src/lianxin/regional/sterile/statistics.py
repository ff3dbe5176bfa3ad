"""Figures of sterile supply: turnaround, failures of loads, losses, and what a turn costs by kind and by institution (for finance)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T

DAYS = (30, 90, 365)

_TURNAROUND = """
SELECT count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY hours), percentile_cont(0.9) WITHIN GROUP (ORDER BY hours) FROM (
  SELECT extract(epoch FROM e.at - r.at) / 3600 AS hours
    FROM sterile_event e CROSS JOIN LATERAL (
      SELECT b.at FROM sterile_event b WHERE b.set_id = e.set_id AND b.move = 'receive' AND b.at <= e.at ORDER BY b.at DESC LIMIT 1) r
   WHERE e.move = 'release' AND e.at >= %(since)s AND e.institution_id = ANY(%(ids)s)) x"""
_LOADS = """
SELECT count(*) FILTER (WHERE kind = 'load'), count(*) FILTER (WHERE kind = 'load' AND state = 'failed'),
       count(*) FILTER (WHERE kind = 'bowie_dick'), count(*) FILTER (WHERE kind = 'bowie_dick' AND state = 'failed'),
       count(*) FILTER (WHERE emergency_reason <> '')
  FROM sterile_load WHERE started_at >= %(since)s AND institution_id = ANY(%(ids)s)"""
_LOST = """
SELECT count(*) FROM sterile_event e JOIN sterile_set s ON s.id = e.set_id
 WHERE e.move = 'lose' AND e.at >= %(since)s AND s.centre_id = ANY(%(ids)s)"""
_COST = """
SELECT k.code, k.name, k.name_en, k.cost_fen, count(*), count(*) * k.cost_fen
  FROM sterile_turn t JOIN sterile_load l ON l.id = t.load_id JOIN sterile_set s ON s.id = t.set_id JOIN sterile_settype k ON k.id = s.type_id
 WHERE t.at >= %(since)s AND l.institution_id = ANY(%(ids)s) GROUP BY 1, 2, 3, 4 ORDER BY 6 DESC, 1"""
_SENT = """
SELECT i.code, i.name, i.name_en, count(*), sum(k.cost_fen)
  FROM sterile_event e JOIN sterile_set s ON s.id = e.set_id JOIN sterile_settype k ON k.id = s.type_id
  JOIN sterile_request r ON r.case_id = e.asked_id JOIN network_institution i ON i.id = r.asker_id
 WHERE e.move = 'send' AND e.at >= %(since)s AND e.institution_id = ANY(%(ids)s) GROUP BY 1, 2, 3 ORDER BY 5 DESC, 1"""


def figures(scope: Scope, days: int) -> dict[str, Any]:
    """Every figure of the centres in sight for a period: hours from receipt to release, failures, losses, cost by kind and by who asked."""
    asked: dict[str, Any] = {
        "since": clock.now() - dt.timedelta(days=days),
        "ids": sorted(scope.institution_ids | scope.oversight_ids),
    }
    with connection.cursor() as cursor:
        cursor.execute(_TURNAROUND, asked)
        released, median, worst = cursor.fetchone()
        cursor.execute(_LOADS, asked)
        run, failed, tests, tests_failed, emergency = cursor.fetchone()
        cursor.execute(_LOST, asked)
        lost = cursor.fetchone()[0]
        cursor.execute(_COST, asked)
        cost = [
            {"code": c, "label": T(zh, en or zh), "each": Money(each), "n": n, "total": Money(total)}
            for c, zh, en, each, n, total in cursor.fetchall()
        ]
        cursor.execute(_SENT, asked)
        sent = [
            {"code": c, "label": T(zh, en or zh), "n": n, "total": Money(int(total))}
            for c, zh, en, n, total in cursor.fetchall()
        ]
    return {
        "released": released, "median": round(median, 1) if median is not None else None, "p90": round(worst, 1) if worst is not None else None,
        "run": run, "failed": failed, "failed_percent": round(100 * failed / run, 2) if run else 0, "tests": tests, "tests_failed": tests_failed,
        "emergency": emergency, "lost": lost, "cost": cost, "sent": sent, "spent": Money(sum(c["total"].fen for c in cost)),
    }  # fmt: skip


@page()
def show(request: HttpRequest) -> HttpResponse:
    """The figures of a period."""
    scope: Scope = request.scope
    if not scope.may("run_sterile"):
        scope.demand("run_centres")
    text = request.GET.get("days", "")
    days = int(text) if text in {str(d) for d in DAYS} else DAYS[0]
    return render(request, "sterile/statistics.html", {**figures(scope, days), "days": days, "periods": DAYS})
