"""Quality control: lots in use with where they stand, a lot's Levey-Jennings chart, taking a measurement, corrective actions, a month."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access.models import Account
from lianxin.access.web import page
from lianxin.duty.errors import MoveError
from lianxin.regional.laboratory import catalogue, chart, quality, westgard
from lianxin.regional.laboratory.models import Analyser, Control, Measure
from lianxin.standards import clock
from lianxin.standards.text import T, Text

VERDICTS: dict[str, tuple[Text, str]] = {
    "accept": (T("在控", "In control"), "good"),
    "warn": (T("警告", "Warning"), "warn"),
    "reject": (T("失控", "Rejected"), "bad"),
}


@page(may="run_laboratory")
def controls(request: HttpRequest) -> HttpResponse:
    """Lots in use: last measurement, verdict, this month's figures; a new lot replaces the old one."""
    scope, status, typed = request.scope, 200, {}
    if request.method == "POST":
        try:
            made = quality.open_lot(scope, request.POST)
            messages.success(request, str(T("批号 {n} 已启用。", "Lot {n} is in use.").format(n=made.lot)))
            return redirect("laboratory:control", made.pk)
        except MoveError as trouble:
            messages.error(request, trouble.text)
            status, typed = 422, request.POST.dict()
    mine = scope.institution_id or 0
    start = dt.datetime.combine(clock.today().replace(day=1), dt.time(), clock.ZONE)
    rows = []
    for one in Control.objects.filter(institution_id=mine, closed_at__isnull=True).order_by(
        "analyte", "level", "device"
    ):
        last = Measure.objects.filter(control=one).select_related("corrective").order_by("-at", "-pk").first()
        rows.append(
            {
                "c": one, "analyte": catalogue.analyte(one.analyte), "last": last, "verdict": VERDICTS[last.verdict] if last else None,
                "open": last is not None and last.verdict == "reject" and not hasattr(last, "corrective"),
                "month": quality.month(one, start, clock.now() + dt.timedelta(seconds=1)),
            }
        )  # fmt: skip
    tests = [a for a in catalogue.load().analytes.values() if not a.formula and not a.qualitative]
    return render(
        request, "laboratory/controls.html",
        {"rows": rows, "analytes": tests, "typed": typed, "devices": Analyser.objects.filter(institution_id=mine, active=True).order_by("code"), "rules": westgard.RULES},
        status=status,
    )  # fmt: skip


@page(may="run_laboratory")
def control(request: HttpRequest, pk: int) -> HttpResponse:
    """One lot: the chart, its measurements, what was done about rejected ones."""
    scope, status = request.scope, 200
    found = Control.objects.filter(pk=pk, institution_id__in=scope.institution_ids).first()
    if found is None:
        raise Http404
    if request.method == "POST":
        try:
            if request.POST.get("do") == "correct":
                measure = request.POST.get("measure", "")
                number = int(measure) if measure.isascii() and measure.isdigit() and len(measure) < 18 else 0
                quality.correct(scope, number, request.POST.get("cause", ""), request.POST.get("action", ""))
            else:
                key = f"page:{scope.account_id}:{request.POST.get('_key', '')[:40] or uuid.uuid4().hex}"
                made = quality.measure(
                    scope, pk, request.POST.get("value", ""), request.POST.get("run", "").strip(), key
                )
                text = VERDICTS[made.verdict][0]
                (messages.error if made.verdict == "reject" else messages.success)(
                    request, f"{text} {' '.join(made.rules)}"
                )
            return redirect("laboratory:control", pk)
        except MoveError as trouble:
            messages.error(request, trouble.text)
            status = 422
    rows = list(
        Measure.objects.filter(control=found).select_related("corrective").order_by("-at", "-pk")[:60]
    )
    names = dict(
        Account.objects.filter(pk__in={r.account_id for r in rows if r.account_id}).values_list("pk", "name")
    )
    one = catalogue.analyte(found.analyte)
    return render(
        request, "laboratory/control.html",
        {
            "c": found, "analyte": one, "chart": chart.levey_jennings(rows[::-1], found), "key": uuid.uuid4().hex, "causes": quality.CAUSES,
            "rows": [_line(r, one, names) for r in rows], "month": [_month(found, n) for n in range(3)],
            "lots": Control.objects.filter(institution_id=found.institution_id, analyte=found.analyte, level=found.level, device=found.device).exclude(pk=found.pk).order_by("-opened_at"),
        },
        status=status,
    )  # fmt: skip


def _line(row: Measure, one: Any, names: dict[int, str]) -> dict[str, Any]:
    fix = getattr(row, "corrective", None)
    return {
        "m": row, "value": one.shown(row.value), "z": f"{row.z:+.2f}", "verdict": VERDICTS[row.verdict], "by": names.get(row.account_id or 0, ""),
        "rules": [westgard.RULES[r] for r in row.rules], "fix": fix, "cause": quality.CAUSES.get(fix.cause) if fix else None,
    }  # fmt: skip


def _month(found: Control, back: int) -> dict[str, Any]:
    first = clock.today().replace(day=1)
    for _ in range(back):
        first = (first - dt.timedelta(days=1)).replace(day=1)
    after = (first + dt.timedelta(days=32)).replace(day=1)
    span = [dt.datetime.combine(day, dt.time(), clock.ZONE) for day in (first, after)]
    return {"first": first, **quality.month(found, *span)}
