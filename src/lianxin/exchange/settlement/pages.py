"""Settlement detail for the consortium office: batches, upload, where a batch and its control sheet differ, lines, months, providers."""

from __future__ import annotations

import datetime as dt
from typing import Any, cast

import orjson
from django import forms
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit, seal
from lianxin.access.errors import NotPermitted
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.settlement import batches, control, layout
from lianxin.exchange.settlement import figures as counted
from lianxin.exchange.settlement.models import (
    HELD,
    OWN,
    PLACES,
    STATES,
    SettlementBatch,
    SettlementIssue,
    SettlementLine,
    SettlementProvider,
)
from lianxin.exchange.settlement.providers import Book
from lianxin.index.golden import mask_id, mask_name
from lianxin.network import roles
from lianxin.network.models import Consortium, Institution
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

MOST_BYTES = 50 * 1024 * 1024
PAGE = 50
MOST_DIFFERENCES = 100
MONTHS = 12


class UploadForm(forms.Form):
    """A file of lines and its control sheet."""

    detail = forms.FileField(
        label=T("结算明细", "Settlement detail"),
        help_text=T(
            "CSV（UTF-8 或 GB18030）或 .xlsx，最大 50 MB；列名按常见导出自动识别，更大的文件由管理员用命令导入",
            "CSV (UTF-8 or GB 18030) or .xlsx, at most 50 MB; columns are recognised by their usual headings; larger files go by command",
        ),
        error_messages={
            "required": T("请选择文件。", "Choose a file."),
            "empty": T("文件是空的。", "The file is empty."),
        },
    )
    sheet = forms.FileField(
        label=T("对账单", "Control sheet"),
        required=False,
        help_text=T(
            "按机构、险种、月份（可缺）列出人次、总费用和基金支付；没有对账单的批次不会入账",
            "Count, total and fund payment by provider, scheme and month (any of them); without a sheet a batch is not counted",
        ),
        error_messages={"empty": T("文件是空的。", "The file is empty.")},
    )

    def clean(self) -> dict[str, Any]:
        """Not too large."""
        for name in ("detail", "sheet"):
            given = self.cleaned_data.get(name)
            if given and given.size > MOST_BYTES:
                self.add_error(name, T("文件超过 50 MB。", "Larger than 50 MB."))
        return self.cleaned_data


def _consortia(scope: Scope) -> list[Consortium]:
    found = (
        Consortium.objects.all()
        if scope.everything
        else Consortium.objects.filter(lead_id__in=scope.oversight_ids)
    )
    return list(found.order_by("code"))


def _one(scope: Scope, pk: int) -> SettlementBatch:
    batch = (
        SettlementBatch.objects.select_related("consortium", "institution", "client", "account", "decided_by")
        .filter(pk=pk)
        .first()
    )
    if batch is None or not counted.oversees(scope, batch.consortium):
        raise Http404
    return batch


def _demand_handler(scope: Scope) -> None:
    """Files are handed in by the consortium office, or by those who mend feeds."""
    if not scope.may("mend_feeds"):
        batches.demand_manager(scope)


def _chosen(request: HttpRequest, found: list[Consortium]) -> Consortium | None:
    asked = request.POST.get("consortium") or request.GET.get("consortium", "")
    return next((c for c in found if c.code == asked), found[0] if found else None)


@page(may="see_feeds")
def overview(request: HttpRequest) -> HttpResponse:
    """Months that count, and the batches."""
    scope = request.scope
    found = _consortia(scope)
    chosen = _chosen(request, found)
    context: dict[str, Any] = {"consortia": found, "consortium": chosen, "may_send": _may_send(scope)}
    if chosen is not None:
        state = request.GET.get("state", "")
        rows = SettlementBatch.objects.filter(consortium=chosen).select_related(
            "institution", "client", "account"
        )
        tally = dict(rows.values_list("state").annotate(n=Count("id")))
        if state in STATES:
            rows = rows.filter(state=state)
        lines = Paginator(rows.order_by("-at", "-id"), PAGE).get_page(request.GET.get("page"))
        context |= {
            "lines": lines,
            "rows": [_dress(b) for b in lines],
            "state": state,
            "states": [(code, layout.STATE_LABELS[code]) for code in STATES],
            "tally": {code: tally.get(code, 0) for code in STATES},
            "months": _months(scope, chosen),
            "places": [(p, layout.PLACE_LABELS[p]) for p in PLACES],
            "unknown": SettlementProvider.objects.filter(consortium=chosen, place="unknown").count(),
        }
    return render(request, "feeds/settlement/list.html", context)


def _may_send(scope: Scope) -> bool:
    return scope.everything or scope.has(roles.MANAGER) or scope.may("mend_feeds")


def _dress(batch: SettlementBatch) -> dict[str, Any]:
    sender = batch.client or batch.account
    return {
        "row": batch,
        "label": layout.STATE_LABELS[batch.state],
        "total": Money(batch.total),
        "fund": Money(batch.fund),
        "sender": sender.name if sender else "",
    }


def _months(scope: Scope, consortium: Consortium) -> list[dict[str, Any]]:
    """The last twelve months: fund payments by place, and the share that stayed in the county (pharmacies left out)."""
    today = clock.today()
    first = (today.replace(day=1) - dt.timedelta(days=31 * (MONTHS - 1))).replace(day=1)
    out = []
    for one in counted.figures(scope, consortium, first, today, ("month",)):
        inside = one.at["own"].fund + one.at["other"].fund
        whole = inside + one.at["outside"].fund
        out.append(
            {
                "month": one.key["month"],
                "count": one.whole().count,
                "discharges": one.whole().discharges,
                "cells": [(layout.PLACE_LABELS[p], one.at[p].fund) for p in PLACES],
                "excluded": one.excluded.fund,
                "actual": one.actual,
                "share": f"{inside.fen * 100 / whole.fen:.1f} %" if whole.fen > 0 else "—",
            }
        )
    return out[::-1]


@page(may="see_feeds")
def upload(request: HttpRequest) -> HttpResponse:
    """Hand in a file with its control sheet."""
    scope = request.scope
    _demand_handler(scope)
    found = _consortia(scope)
    if not found:
        raise NotPermitted(T("您所在机构不在任何医共体中。", "Your institution is in no consortium."))
    form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
    form.label_suffix = ""
    if request.method == "POST" and form.is_valid():
        chosen = _chosen(request, found)
        assert chosen is not None
        detail, sheet = form.cleaned_data["detail"], form.cleaned_data["sheet"]
        batch = batches.keep(
            scope,
            chosen,
            detail.file,
            detail.name,
            sheet.file if sheet else None,
            sheet.name if sheet else "",
        )
        batches.process(scope, batch)
        return redirect("settlement:one", batch.pk)
    context = {"form": form, "consortia": found, "chosen": _chosen(request, found)}
    return render(request, "feeds/settlement/upload.html", context, status=400 if form.errors else 200)


@page(may="see_feeds")
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """A batch: what it is, where it differs, which rows broke which rule, and what may be done."""
    return _shown_batch(request, pk)


def _shown_batch(request: HttpRequest, pk: int, refused: Refusal | None = None) -> HttpResponse:
    scope = request.scope
    batch = _one(scope, pk)
    differences = control.compare(batch) if batch.checked_at is not None and batch.differences else []
    picked = _picked(request, differences)
    broken = [
        {
            "rule": layout.rules()[code],
            "count": count,
            "text": layout.rules()[code].text.format(column=T("某列", "a column")),
        }
        for code, count in sorted(
            batch.report.get("broken", {}).items(), key=lambda x: (layout.rules()[x[0]].severity, -x[1])
        )
    ]
    rule = request.GET.get("rule", "")
    context = {
        **_dress(batch),
        "batch": batch,
        "refusal": batch.report.get("refused"),
        "refused": refused.reason.text if refused else None,
        "differences": [_difference(d) for d in differences[:MOST_DIFFERENCES]],
        "more": max(0, len(differences) - MOST_DIFFERENCES),
        "no_sheet": batch.checked_at is not None and not batch.controls.exists(),
        "summary": [
            (
                label,
                [
                    {
                        **r,
                        "total": Money(r["total"]),
                        "fund": Money(r["fund"]),
                        "shown": _shown(dimension, r["key"]),
                    }
                    for r in rows
                ],
            )
            for (dimension, rows), label in zip(
                control.summary(differences).items(),
                (T("按机构", "By provider"), T("按险种", "By scheme"), T("按月份", "By month")),
                strict=True,
            )
            if rows
        ],
        "picked": _difference(picked) if picked else None,
        "candidates": _candidates(batch, picked) if picked else [],
        "broken": broken,
        "rule": layout.rules().get(rule),
        "issues": SettlementIssue.objects.filter(batch=batch, rule=rule).order_by("row")[:200]
        if rule
        else [],
        "columns": [(layout.fields()[n].label, h) for n, h in batch.report.get("columns", {}).items()],
        "may_decide": scope.everything or scope.has(roles.MANAGER),
        "may_send": _may_send(scope),
        "may_open": scope.may("open_message"),
        "held": batch.state == HELD,
        "unlinked": batch.rows - batch.report.get("linked", 0) if batch.rows else 0,
    }
    if picked:
        audit.write(scope, "search", what=f"settlement batch {pk} candidates")
    return render(request, "feeds/settlement/one.html", context, status=422 if refused else 200)


def _shown(dimension: str, key: str) -> Any:
    return layout.SCHEME_LABELS.get(key, key) if dimension == "scheme" else key


def _difference(one: control.Difference) -> dict[str, Any]:
    rows, total, fund = one.by
    said = one.said
    return {
        "one": one,
        "scheme": layout.SCHEME_LABELS.get(one.scheme, one.scheme),
        "rows": rows,
        "total": None if total is None else Money(total),
        "fund": None if fund is None else Money(fund),
        "said": (said[0], *(None if v is None else Money(v) for v in said[1:])),
        "found": (one.found[0], Money(one.found[1]), Money(one.found[2])),
    }


def _candidates(batch: SettlementBatch, picked: control.Difference) -> list[dict[str, Any]]:
    """Rows that may explain a difference, with their amounts in words."""
    found = control.candidates(batch, picked)

    def told(x: Any, why: Text | None) -> dict[str, Any]:
        amounts = {n: None if getattr(x, n) is None else Money(getattr(x, n)) for n in ("total", "fund")}
        return {"row": x.row, "settlement_id": x.settlement_id, "why": why, **amounts}

    return [told(x, T(x.zh, x.en)) for x in found["issues"]] + [told(x, None) for x in found["lines"]]


def _picked(request: HttpRequest, differences: list[control.Difference]) -> control.Difference | None:
    if "of" not in request.GET:
        return None
    key = tuple(request.GET.get(n, "") for n in ("provider", "scheme", "month"))
    return next((d for d in differences if (d.provider, d.scheme, d.month) == key), None)


@page(may="see_feeds")
def lines(request: HttpRequest, pk: int) -> HttpResponse:
    """Lines of a batch, names and numbers masked; audited."""
    scope = request.scope
    batch = _one(scope, pk)
    asked = {n: request.GET.get(n, "").strip() for n in ("q", "scheme", "care", "place", "linked")}
    rows: QuerySet = SettlementLine.objects.unscoped(
        "lines of a batch that its consortium's office sees, masked"
    ).filter(batch=batch)
    if asked["q"]:
        rows = rows.filter(
            Q(settlement_id=asked["q"])
            | Q(provider__code=asked["q"])
            | Q(provider__name__contains=asked["q"])
        )
    if asked["scheme"] in layout.SCHEME_LABELS and asked["scheme"]:
        rows = rows.filter(scheme=asked["scheme"])
    if asked["care"] in layout.CARE_LABELS:
        rows = rows.filter(care=asked["care"])
    if asked["place"] in PLACES:
        rows = rows.filter(provider__place=asked["place"])
    if asked["linked"] in ("yes", "no"):
        rows = rows.filter(person_id__isnull=asked["linked"] == "no")
    found = Paginator(rows.select_related("provider").order_by("row"), PAGE).get_page(request.GET.get("page"))
    audit.write(scope, "search", what=f"settlement batch {pk} lines", detail={"page": found.number})
    context = {
        "batch": batch,
        "lines": found,
        "rows": [_line(x) for x in found],
        "asked": asked,
        "schemes": [(c, t) for c, t in layout.SCHEME_LABELS.items() if c],
        "cares": layout.CARE_LABELS.items(),
        "places": layout.PLACE_LABELS.items(),
    }
    return render(request, "feeds/settlement/lines.html", context)


def _line(x: Any) -> dict[str, Any]:
    told = orjson.loads(seal.unseal_bytes(bytes(x.body)))
    return {
        "row": x,
        "name": mask_name(told["name"]) if told["name"] else "—",
        "number": mask_id(told["id_no"]) or "—",
        "scheme": layout.SCHEME_LABELS[x.scheme],
        "care": layout.CARE_LABELS[x.care],
        "place": layout.PLACE_LABELS[x.provider.place],
        "total": Money(x.total),
        "fund": Money(x.fund),
        "personal": Money(x.total - x.fund - (x.hospital or 0)),
    }


@require_POST
@page(may="see_feeds")
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """accept (a difference, with a reason), withdraw (with a reason), sheet (a corrected one), again (a refused one)."""
    scope = request.scope
    batch = _one(scope, pk)
    reason = request.POST.get("reason", "")
    try:
        if what == "accept":
            batches.accept(scope, pk, reason)
        elif what == "withdraw":
            batches.withdraw(scope, pk, reason)
        elif what == "again":
            _demand_handler(scope)
            batches.process(scope, batch)
        elif what == "sheet":
            _demand_handler(scope)
            given = request.FILES.get("sheet")
            if given is None or not given.size or given.size > MOST_BYTES:
                raise Refusal(
                    "required",
                    T("请选择对账单文件（最大 50 MB）。", "Choose the control sheet (at most 50 MB)."),
                )
            batches.new_sheet(scope, pk, cast(Any, given.file), given.name or "")
        else:
            raise Http404
    except Refusal as refusal:
        return _shown_batch(request, pk, refusal)
    return redirect("settlement:one", pk)


@page(may="open_message")
def original(request: HttpRequest, pk: int, role: str) -> HttpResponse:
    """A file of the batch exactly as it came; audited as an export."""
    batch = _one(request.scope, pk)
    audit.write(request.scope, "export", what=f"settlement batch {pk} {role}")
    name = batch.name if role == "detail" else batch.control_name
    answer = StreamingHttpResponse(batches.pieces(batch, role), content_type="application/octet-stream")
    answer["Content-Disposition"] = f'attachment; filename="settlement-{pk}-{role}{_suffix(name)}"'
    return cast(HttpResponse, answer)


def _suffix(name: str) -> str:
    end = name.rpartition(".")[2].lower()
    return f".{end}" if end in ("csv", "txt", "xlsx") else ""


@page(may="see_feeds")
def providers(request: HttpRequest) -> HttpResponse:
    """Where providers stand, the unknown ones first; a person may say otherwise."""
    scope = request.scope
    found = _consortia(scope)
    chosen = _chosen(request, found)
    error = None
    if request.method == "POST" and chosen is not None:
        _demand_handler(scope)
        try:
            _say(scope, chosen, request)
            return redirect(f"{reverse('settlement:providers')}?consortium={chosen.code}")
        except Refusal as refusal:
            error = refusal.reason.text
    place, asked = request.GET.get("place", ""), request.GET.get("q", "").strip()
    rows = (
        SettlementProvider.objects.filter(consortium=chosen).select_related("institution")
        if chosen
        else SettlementProvider.objects.none()
    )
    if place in PLACES:
        rows = rows.filter(place=place)
    if asked:
        rows = rows.filter(Q(code__icontains=asked) | Q(name__icontains=asked))
    lines = Paginator(
        rows.order_by("place", "code") if place else rows.order_by("-place", "code"), PAGE
    ).get_page(request.GET.get("page"))
    context = {
        "consortium": chosen, "consortia": found, "lines": lines, "place": place, "asked": asked, "error": error,
        "rows": [{"row": p, "label": layout.PLACE_LABELS[p.place]} for p in lines], "places": layout.PLACE_LABELS.items(),
        "may_send": _may_send(scope),
    }  # fmt: skip
    return render(request, "feeds/settlement/providers.html", context, status=422 if error else 200)


@transaction.atomic
def _say(scope: Scope, consortium: Consortium, request: HttpRequest) -> None:
    """A person says where a provider stands: figures follow at once. Audited."""
    pk, place, code = (request.POST.get(n, "").strip() for n in ("provider", "place", "institution"))
    row = (
        SettlementProvider.objects.select_for_update()
        .filter(consortium=consortium, pk=pk if pk.isdecimal() else 0)
        .first()
    )
    if row is None or place not in PLACES:
        raise Refusal("value", T("请选择所在地。", "Choose where it stands."))
    before = {"place": row.place, "institution": row.institution_id}
    if code:
        institution = Institution.objects.filter(code=code).first()
        if institution is None:
            raise Refusal(
                "value", T("没有代码为“{c}”的机构。", "No institution has the code “{c}”.").format(c=code)
            )
        for name, value in Book.open(consortium).standing(institution).items():
            setattr(row, name, value)
    else:
        row.place, row.institution, row.own_since, row.own_until = place, None, None, None
    if place == OWN and (row.place != OWN or row.institution is None):
        raise Refusal(
            "value",
            T(
                "本医共体的机构请填其机构代码（须为成员）。",
                "For an own member give its institution code (it must be a member).",
            ),
        )
    row.how = "person"
    row.save()
    detail = {"did": "placed", "before": before, "place": row.place, "institution": row.institution_id}
    audit.write(scope, "admin", what=f"settlement provider {row.code}", detail=detail)


app_name = "settlement"
urlpatterns = [
    path("feeds/settlement", overview, name="list"),
    path("feeds/settlement/new", upload, name="new"),
    path("feeds/settlement/providers", providers, name="providers"),
    path("feeds/settlement/<int:pk>", one, name="one"),
    path("feeds/settlement/<int:pk>/lines", lines, name="lines"),
    path("feeds/settlement/<int:pk>/original/<str:role>", original, name="original"),
    path("feeds/settlement/<int:pk>/<str:what>", act, name="act"),
]
