"""Figures of the centres: the page, the rows behind each number, both as CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.duty.machine import PRIORITIES
from lianxin.regional.reading import moves, statistics
from lianxin.regional.reading.models import CENTRES
from lianxin.standards import clock

PAGE = 50


@page(may="run_centres")
def statistics_page(request: HttpRequest) -> HttpResponse:
    """Counts, stages, groups, retakes, double reading, readers."""
    p = statistics.period(request.scope, request.GET)
    group = request.GET.get("by", "modality")
    group = group if group in statistics.GROUPS else "modality"
    context = {
        "p": p, "centres": CENTRES, "groups": statistics.GROUPS, "group": group, "totals": statistics.totals(p), "stages": statistics.stages(p),
        "turnaround": statistics.turnaround(p, group), "retakes": statistics.retakes(p), "double": statistics.scores(p),
        "readers": statistics.readers(p), "base": p.query(),
    }  # fmt: skip
    return render(request, "reading/statistics.html", context)


@page(may="run_centres")
def rows_page(request: HttpRequest) -> HttpResponse:
    """The pieces of work that a number was counted from."""
    p = statistics.period(request.scope, request.GET)
    found = statistics.rows(p, request.GET)
    lines = Paginator(found, PAGE).get_page(request.GET.get("page"))
    audit.write(request.scope, "search", what=f"reading statistics {p.centre}", detail={"rows": len(found)})
    context = {
        "p": p, "lines": lines, "total": len(found), "columns": statistics.COLUMNS, "centre": CENTRES[p.centre], "shows": statistics.SHOWS,
        "show": request.GET.get("show", ""), "query": request.GET.urlencode(), "states": moves.MACHINE.by_state, "priorities": PRIORITIES,
        "opens": request.scope.may("read_studies"),
    }  # fmt: skip
    return render(request, "reading/statistics_rows.html", context)


@page(may="run_centres")
def csv_file(request: HttpRequest) -> HttpResponse:
    """The rows of the same filter as CSV (UTF-8 with a mark, which spreadsheets need for Chinese)."""
    p = statistics.period(request.scope, request.GET)
    found = statistics.rows(p, request.GET)
    audit.write(request.scope, "export", what=f"reading statistics {p.centre}", detail={"rows": len(found)})
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([str(label) for label in statistics.COLUMNS.values()])
    for row in found:
        writer.writerow([_cell(name, value) for name, value in row.items()])
    response = HttpResponse("\ufeff" + out.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="reading-{p.centre}-{p.since}-{p.until}.csv"'
    return response


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return f"{value.astimezone(clock.ZONE):%Y-%m-%d %H:%M:%S}"
    if name == "state" and value in moves.MACHINE.by_state:
        return str(moves.MACHINE.by_state[value].label)
    if name == "priority":
        return str(PRIORITIES.get(value, value))
    text = str(value)
    return f"'{text}" if text[:1] in "=+-@\t\r" else text  # a spreadsheet would run it as a formula
