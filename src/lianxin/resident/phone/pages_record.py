"""One's own record: what one has, takes and must not take, results as trends, reports, documents, visits. Read only, every look audited."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.dateparse import parse_datetime

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.clinical.referral import pages_view
from lianxin.duty import journey
from lianxin.duty.models import Case
from lianxin.exchange.cda import pages as documents
from lianxin.exchange.cda import reading
from lianxin.exchange.cda import registry_reference as entry
from lianxin.exchange.cda import render as drawing
from lianxin.exchange.cda.models import RegisteredDocument
from lianxin.record import readable, store, timeline
from lianxin.resident.card import acting
from lianxin.resident.phone import journeys, trend
from lianxin.resident.phone.models import Correction
from lianxin.standards.text import T, Text

LISTS: dict[str, tuple[Text, str, list[str], Text]] = {
    "reports": (
        T("检查检验报告", "Reports"), "file-earmark-medical", ["DiagnosticReport"],
        T("还没有报告送到您的档案里。", "No report has been sent to your record yet."),
    ),
    "documents": (
        T("病历文书", "Documents"), "file-earmark-text", ["Composition", "DocumentReference"],
        T("还没有病历文书。", "No documents yet."),
    ),
    "visits": (T("就诊记录", "Visits"), "hospital", ["Encounter"], T("还没有就诊记录。", "No visits recorded yet.")),
    "immunisations": (T("预防接种", "Immunisations"), "shield-check", ["Immunization"], T("还没有接种记录。", "No immunisations recorded yet.")),
    "images": (
        T("影像检查", "Imaging"), "images", ["ImagingStudy"],
        T("还没有影像检查送到您的档案里。", "No imaging study has been sent to your record yet."),
    ),
}  # fmt: skip
PAGE = 20


def _who(request: HttpRequest) -> acting.Member:
    found = acting.member(request)
    if found is None:
        raise Http404(str(T("请先绑定身份。", "Bind your identity first.")))
    return found


@page(resident=True)
def overview(request: HttpRequest) -> HttpResponse:
    """Allergies, problems, medicines, the latest results, and the way to everything else."""
    who = acting.member(request)
    if who is None:
        return redirect("phone:home")
    summary = timeline.summary(request.scope, who.person.pk)
    counts = timeline.counts(request.scope, who.person.pk)
    context = {
        "here": "record", "who": who, "summary": summary, "results": _latest(summary)[:4],
        "lists": [
            {"code": code, "label": label, "icon": icon, "count": sum(counts.get(t, 0) for t in types)}
            for code, (label, icon, types, _) in LISTS.items()
        ],
        "referrals": len(journeys.all_of(request.scope, who.person.pk)),
        "asked": Correction.objects.within(request.scope).filter(person=who.person).count(),
    }  # fmt: skip
    return render(request, "phone/record.html", context)


def _latest(summary: timeline.Summary) -> list[dict[str, Any]]:
    """The latest value of each thing measured, with high or low said in words."""
    found = []
    for result in summary.results:
        lines = trend.lines_of(result, summary.series)
        flag = next((f for line in lines if (f := trend.outside(line.points[-1]))), "")
        found.append(
            result | {"lines": lines, "out": flag, "many": any(len(line.points) > 1 for line in lines)}
        )
    return found


@page(resident=True)
def results(request: HttpRequest) -> HttpResponse:
    """Everything measured: the latest value each, the trend drawn with its normal range, a table behind."""
    who = _who(request)
    summary = timeline.summary(request.scope, who.person.pk)
    groups = []
    for result in _latest(summary):
        main = result["lines"][0].points if result["lines"] else []
        groups.append(
            result
            | {
                "svg": trend.drawing(result["lines"]),
                "said": trend.said(main),
                "rows": _rows(result["lines"]),
            }
        )
    return render(request, "phone/results.html", {"here": "record", "groups": groups})


def _rows(lines: list[trend.Line]) -> list[dict[str, Any]]:
    """Newest first; the parts of one reading on one line."""
    found: dict[tuple[dt.datetime, str], dict[str, Any]] = {}
    for line in lines:
        for p in line.points:
            row = found.setdefault(
                (p.date, p.ref), {"at": p.date, "values": [], "unit": p.unit, "range": "", "out": ""}
            )
            row["values"].append(f"{p.value:g}")
            row["out"] = row["out"] or trend.outside(p)
            if p.low is not None or p.high is not None:
                row["range"] = f"{p.low if p.low is not None else ''}–{p.high if p.high is not None else ''}"
    newest = sorted(found.values(), key=lambda row: row["at"], reverse=True)[: trend.SHOWN]
    return [row | {"value": "/".join(row["values"])} for row in newest]


@page(resident=True)
def listing(request: HttpRequest, kind: str) -> HttpResponse:
    """One kind of entries, newest first."""
    if kind not in LISTS:
        raise Http404(str(T("没有这一类。", "There is no such list.")))
    who = _who(request)
    label, icon, types, none = LISTS[kind]
    before = (
        parse_datetime(request.GET.get("before", "").replace(" ", "+")) if request.GET.get("before") else None
    )
    if before is not None and before.tzinfo is None:
        before = None
    found = timeline.timeline(request.scope, who.person.pk, types=types, before=before, limit=PAGE + 1)
    shown = found[:PAGE]
    filed = _filed([e.ref for e in shown])
    rows = [
        {
            "entry": e, "type": e.ref.partition("/")[0], "id": e.ref.partition("/")[2], "document": filed.get(e.ref),
            "opens": e.kind != "ImagingStudy",
        }
        for e in shown
    ]  # fmt: skip
    context = {
        "here": "record", "label": label, "icon": icon, "none": none, "rows": rows, "kind": kind,
        "before": shown[-1].date.isoformat() if len(found) > PAGE and shown[-1].date else "",
    }  # fmt: skip
    return render(request, "phone/listing.html", context)


def _filed(refs: list[str]) -> dict[str, int]:
    """Reference → document of the registry behind it."""
    ids = {r.partition("/")[2]: r for r in refs if r.startswith("DocumentReference/")}
    rows = RegisteredDocument.objects.filter(reference__in=ids).values_list("reference", "pk")
    return {ids[reference]: pk for reference, pk in rows}


def sheet_of(request: HttpRequest, person_id: int, rtype: str, rid: str) -> readable.Sheet:
    """One entry of a person's record for reading; Http404 when there is none of theirs."""
    if rtype in readable.TYPES:
        with connection.cursor() as cursor:
            found = store.read(cursor, request.scope, rtype, rid)
        if found is not None and found.status == 200 and found.person_id == person_id:
            return readable.sheet(json.loads(found.body))
    raise Http404(str(T("没有这份记录。", "There is no such entry.")))


@page(resident=True)
def item(request: HttpRequest, rtype: str, rid: str) -> HttpResponse:
    """One entry of the record for reading, with the way to say that it is wrong."""
    who = _who(request)
    sheet = sheet_of(request, who.person.pk, rtype, rid)
    audit.write(request.scope, "read", person_id=who.person.pk, what=f"{rtype}/{rid}")
    asked = Correction.objects.within(request.scope).filter(person=who.person, reference=f"{rtype}/{rid}")
    context = {
        "here": "record", "sheet": sheet, "rtype": rtype, "rid": rid,
        "asked": asked.select_related("case").order_by("-case__opened_at").first(),
    }  # fmt: skip
    return render(request, "phone/item.html", context)


@page(resident=True)
def document(request: HttpRequest, pk: int) -> HttpResponse:
    """A shared document of the registry for reading."""
    one = _opened(request, pk)
    sheet = None
    if one.row.family != entry.OTHER:
        sheet = drawing.sheet(reading.read(one.body), one.body, lambda part: "")
    return render(request, "phone/document.html", {"here": "record", "row": one.row, "sheet": sheet})


@page(resident=True)
def paper(request: HttpRequest, pk: int) -> HttpResponse:
    """The document on paper (PDF, A4)."""
    one = _opened(request, pk, "print")
    if one.row.family == entry.OTHER:
        raise Http404(str(T("这份文书不能生成 PDF。", "No PDF can be made of this document.")))
    response = HttpResponse(documents.pdf(one), content_type="application/pdf")
    response.headers["Content-Disposition"] = f'inline; filename="document-{pk}.pdf"'
    return response


def _opened(request: HttpRequest, pk: int, action: str = "read") -> documents.Opened:
    who = _who(request)
    one = documents.opened(request, pk, action)
    if one.person is None or one.person.pk != who.person.pk:
        raise Http404(str(T("没有这份文书。", "There is no such document.")))
    return one


@page(resident=True)
def referrals(request: HttpRequest) -> HttpResponse:
    """All referrals, each with what happens next."""
    who = _who(request)
    found = journeys.all_of(request.scope, who.person.pk)
    audit.write(request.scope, "read", person_id=who.person.pk, what="phone referrals")
    return render(request, "phone/referrals.html", {"here": "record", "journeys": found})


@page(resident=True)
def referral(request: HttpRequest, number: str) -> HttpResponse:
    """One referral: what happens next, the way so far, letters to read."""
    who = _who(request)
    row = next((j for j in journeys.all_of(request.scope, who.person.pk) if j.number == number), None)
    if row is None:
        raise Http404(str(T("没有这个转诊。", "There is no such referral.")))
    case: Case = row.row.case
    letters = pages_view.letters(row.row, request.scope)
    audit.write(request.scope, "read", person_id=who.person.pk, what=f"referral {number}")
    context = {
        "here": "record", "journey": row, "steps": journey.journey(case), "letters": letters,
        "visit": pages_view.booking_line(row.row), "end": case.terminal,
    }  # fmt: skip
    return render(request, "phone/referral.html", context)
