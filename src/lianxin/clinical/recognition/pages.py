"""Mutual recognition in figures and in single decisions; what a patient is told, on paper."""

from __future__ import annotations

import csv
import datetime as dt
import io
from typing import Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse

from lianxin.access import audit, relationships
from lianxin.access.web import page
from lianxin.clinical.recognition import figures, results, shipped
from lianxin.clinical.recognition.models import Decision
from lianxin.index import registry
from lianxin.network.models import Institution
from lianxin.standards import clock, paper
from lianxin.standards.text import T, Text

PERIODS = {
    "30": T("近 30 天", "Last 30 days"),
    "90": T("近 90 天", "Last 90 days"),
    "365": T("近一年", "Last year"),
}
PAGE = 50
NARROW = ("institution", "group", "doctor", "reason", "figure", "month")


def _asked(request: HttpRequest) -> tuple[dt.date, dt.date, dict[str, Any], str]:
    days = request.GET.get("days", "90")
    days = days if days in PERIODS else "90"
    until = clock.today()
    narrowed: dict[str, Any] = {}
    for name in NARROW:
        value = request.GET.get(name, "")[:40]
        if name in ("institution", "doctor"):
            if value.isascii() and value.isdigit() and len(value) < 16:
                narrowed[name] = int(value)
        elif name == "month":
            if _month(value):
                narrowed[name] = value
        elif value:
            narrowed[name] = value
    return until - dt.timedelta(days=int(days) - 1), until, narrowed, days


def _month(value: str) -> bool:
    try:
        dt.datetime.strptime(value, "%Y-%m")
    except ValueError:
        return False
    return len(value) == 7


def _opens(days: str, narrowed: dict[str, Any], **more: Any) -> str:
    return reverse("recognition:decisions") + "?" + urlencode({"days": days, **narrowed, **more})


@page(may="see_recognition")
def overview(request: HttpRequest) -> HttpResponse:
    """The rate, what was saved, trends, who, what, and why not."""
    since, until, narrowed, days = _asked(request)
    found = figures.rows(request.scope, since, until, **narrowed)
    whole, out = figures.total(found)
    months = figures.by_month(found)
    most = max((m.recognised + m.refused for m in months), default=1)

    def table(name: str, lines: list[figures.Line]) -> list[dict[str, Any]]:
        return [{"l": line, "url": _opens(days, narrowed, **{name: line.code})} for line in lines[:PAGE]]

    context = {
        "periods": PERIODS.items(), "days": days, "whole": whole, "out": out, "narrowed": narrowed, "narrow": urlencode(narrowed),
        "urls": {name: _opens(days, narrowed, figure=name) for name in figures.FIGURES} | {"all": _opens(days, narrowed)},
        "months": [{"l": m, "url": _opens(days, narrowed, month=m.code), "h": 100 * (m.recognised + m.refused) // most, "r": 100 * m.recognised // most} for m in months],
        "tables": [
            (T("按机构", "By institution"), table("institution", figures.by_institution(found))),
            (T("按项目", "By item"), table("group", figures.by_group(found))),
            (T("按医生", "By doctor"), table("doctor", figures.by_doctor(found))),
        ],
        "reasons": [{"code": c, "label": t, "n": n, "counts": k, "url": _opens(days, narrowed, reason=c)} for c, t, n, k in figures.by_reason(found)],
        "keeps": request.scope.may("run_recognition"),
    }  # fmt: skip
    return render(request, "recognition/overview.html", context)


@page(may="see_recognition")
def decisions(request: HttpRequest) -> HttpResponse:
    """The decisions behind a figure; ``format=csv`` as a file. Names show only to those who care for the people."""
    since, until, narrowed, days = _asked(request)
    found = figures.rows(request.scope, since, until, **narrowed)
    found = found.select_related("person", "institution", "practitioner", "made_by", "group").order_by(
        "-at", "-pk"
    )
    if request.GET.get("format") == "csv":
        audit.write(request.scope, "export", what="recognition decisions")
        return _csv(found[:20_000])
    lines = Paginator(found, PAGE).get_page(request.GET.get("page"))
    people = sorted({d.person_id for d in lines})
    seen = relationships.seen(request.scope, people)
    if people:
        audit.write(request.scope, "search", what="recognition decisions", detail={"people": people})
    shown = [
        {
            "d": d,
            "name": d.person.name if d.person_id in seen else registry.mask_name(d.person.name),
            "reason": _reason(d),
        }
        for d in lines
    ]
    query = urlencode({"days": days, **narrowed})
    title = (
        figures.FIGURES[narrowed["figure"]][0]
        if narrowed.get("figure") in figures.FIGURES
        else T("互认决定", "Decisions")
    )
    context = {"lines": shown, "page": lines, "title": title, "total": lines.paginator.count, "query": query,
               "back": reverse("recognition:overview") + f"?days={days}"}  # fmt: skip
    return render(request, "recognition/decisions.html", context)


def _reason(decision: Decision) -> Text:
    reason = shipped.reasons().get(decision.reason)
    return reason.label if reason else T("", "")


HEADINGS = (
    "日期",
    "机构",
    "医生",
    "项目",
    "编码",
    "原机构",
    "原结果日期",
    "标识",
    "应予互认",
    "决定",
    "原因",
    "说明",
    "计入指标",
    "节省(元)",
    "申请单",
)


def _csv(found: Any) -> HttpResponse:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(HEADINGS)
    for d in found:
        cells = [
            f"{d.at.astimezone(clock.ZONE):%Y-%m-%d %H:%M}", d.institution.name, d.practitioner.name if d.practitioner else d.doctor, d.group.name,
            d.group.code, d.made_by.name, f"{d.made_at.astimezone(clock.ZONE):%Y-%m-%d}", d.mark, "是" if d.must else "否", d.verdict_label.zh,
            d.reason, d.text, "是" if d.counted else "否", f"{d.price_fen / 100:.2f}", d.order,
        ]  # fmt: skip
        writer.writerow([f"'{c}" if str(c)[:1] in "=+-@\t" else c for c in cells])
    response = HttpResponse("﻿" + out.getvalue(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="recognition-{clock.today():%Y%m%d}.csv"'
    return response


def _decision(request: HttpRequest, pk: int) -> Decision:
    scope = request.scope
    rows = Decision.objects.unscoped("narrowed to the own and overseen institutions below").select_related(
        "person", "institution", "practitioner", "made_by", "group", "result", "rule"
    )
    found = rows.filter(pk=pk).first()
    if found is None or found.institution_id not in scope.institution_ids | scope.oversight_ids:
        raise Http404
    return found


@page(may="see_recognition")
def decision(request: HttpRequest, pk: int) -> HttpResponse:
    """One decision with the result it is about (as far as one may read it), the rule, what the patient is told."""
    found = _decision(request, pk)
    may_open = relationships.sees(request.scope, found.person_id)
    content = results.content(request.scope, [found.result.ref]).get(found.result.ref) if may_open else None
    audit.write(request.scope, "read", person_id=found.person_id, what=f"recognition decision {pk}")
    context = {
        "d": found, "content": content, "may_open": may_open, "reason": _reason(found),
        "name": found.person.name if may_open else registry.mask_name(found.person.name),
    }  # fmt: skip
    return render(request, "recognition/decision.html", context)


@page(may="see_recognition")
def explain(request: HttpRequest, pk: int) -> HttpResponse:
    """What the patient is told about the repetition, on paper to take along."""
    found = _decision(request, pk)
    relationships.require(request.scope, found.person_id)
    if not found.explanation:
        raise Http404
    audit.write(request.scope, "export", person_id=found.person_id, what=f"recognition explanation {pk}")
    here = Institution.objects.get(pk=found.institution_id)
    context = {
        "d": found,
        "person": found.person,
        "here": here,
        "reason": _reason(found),
        "printed": clock.now(),
    }
    response = HttpResponse(
        paper.pdf(render_to_string("recognition/print/report.html", context)), content_type="application/pdf"
    )
    response["Content-Disposition"] = f'inline; filename="recognition-{pk}.pdf"'
    return response
