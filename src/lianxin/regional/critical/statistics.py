"""Figures of critical values: how many were read back within 5, 10 and 15 minutes, by institution. Every number opens its calls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.network.models import Institution
from lianxin.regional.critical.models import Critical
from lianxin.standards import clock

WITHIN = (5, 10, 15)
DAYS = (7, 30, 90, 365)


def _timed(rows: QuerySet[Critical]) -> QuerySet[Critical]:
    waited = ExpressionWrapper(F("acknowledged_at") - F("reported_at"), output_field=DurationField())
    return rows.annotate(waited=waited)


def _q(kind: str) -> Q:
    """Calls of one kind: "5", "10", "15" (read back within so many minutes), "late" (later), "never" (not yet)."""
    if kind == "never":
        return Q(acknowledged_at=None)
    if kind == "late":
        return Q(waited__gt=dt.timedelta(minutes=WITHIN[-1]))
    return Q(waited__lte=dt.timedelta(minutes=int(kind)))


def days_of(asked: Mapping[str, str]) -> int:
    """The period asked for, in days."""
    text = asked.get("days", "")
    return int(text) if text in {str(d) for d in DAYS} else 30


def narrowed(rows: QuerySet[Critical], asked: Mapping[str, str]) -> QuerySet[Critical]:
    """The calls behind a figure: ``days``, ``institution`` (code of who asked) and ``within`` of the query narrow them."""
    rows = _timed(rows)
    if asked.get("days"):
        rows = rows.filter(reported_at__gte=clock.now() - dt.timedelta(days=days_of(asked)))
    if asked.get("institution"):
        rows = rows.filter(orderer__code=asked["institution"][:40])
    if asked.get("within") in {*map(str, WITHIN), "late", "never"}:
        rows = rows.filter(_q(asked["within"]))
    return rows


def by_institution(scope: Scope, days: int) -> list[dict[str, Any]]:
    """One line for each ordering institution in sight, the total first; shares in percent of all calls."""
    ids = scope.institution_ids | scope.oversight_ids
    rows = Critical.objects.unscoped("figures without persons").filter(
        Q(orderer_id__in=ids) | Q(centre_of_id__in=ids) | Q(team_id__in=ids) | Q(county_id__in=ids)
    )
    rows = _timed(rows.filter(reported_at__gte=clock.now() - dt.timedelta(days=days)))
    counts = {f"n{k}": Count("pk", filter=_q(str(k))) for k in (*WITHIN, "late", "never")}
    grouped = rows.values("orderer_id").annotate(total=Count("pk"), **counts).order_by("-total", "orderer_id")
    found: list[dict[str, Any]] = [dict(line) for line in grouped]
    names = Institution.objects.in_bulk([line["orderer_id"] for line in found])
    lines = [{"institution": names[line["orderer_id"]], **_shares(line)} for line in found]
    if found:
        total = {
            name: sum(line[name] for line in found)
            for name in ("total", *(f"n{k}" for k in (*WITHIN, "late", "never")))
        }
        lines.insert(0, {"institution": None, **_shares(total)})
    return lines


def _shares(line: dict[str, Any]) -> dict[str, Any]:
    total = line["total"]
    cells = [
        {"kind": str(k), "n": line[f"n{k}"], "percent": round(100 * line[f"n{k}"] / total, 1)}
        for k in (*WITHIN, "late", "never")
    ]
    return {"total": total, "cells": cells}


@page(may="run_centres")
def show(request: HttpRequest) -> HttpResponse:
    """The figures of a period."""
    days = days_of(request.GET)
    lines = by_institution(request.scope, days)
    return render(request, "critical/statistics.html", {"lines": lines, "days": days, "periods": DAYS})
