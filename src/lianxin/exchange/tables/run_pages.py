"""Runs of tables: figures, stopping and going on, what was refused and why, mending a row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import orjson
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.exchange.feeds import errors, inbox, keeping
from lianxin.exchange.feeds.models import DROPPED, TAKEN, Arrival
from lianxin.exchange.rosters.giving import safe
from lianxin.exchange.tables import (
    door,
    files,
    mappings,
    running,
    schedule,
    workbook,
)
from lianxin.exchange.tables.desk import (
    PAGE,
    SHOWN,
    STATES,
    XLSX,
    at_once,
    content,
    demand,
    demand_content,
    download,
    looked,
    may,
    run_of,
    source_of,
    visible,
)
from lianxin.exchange.tables.models import (
    ACTIVE,
    DONE,
    FAILED,
    RUNNING,
    SQL,
    STOPPED,
    WAITING,
    TableRefusal,
    TableRun,
    TableSource,
)
from lianxin.exchange.tables.reading import Unreadable
from lianxin.exchange.tables.targets import target
from lianxin.standards import clock
from lianxin.standards.text import T

# --------------------------------------------------------------------------------------------------------------------- runs


@page()
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """One run: figures, what was refused and why."""
    scope = request.scope
    it = run_of(scope, pk)
    figures = running.figures_of(it)
    column = request.GET.get("column", "")[:60]
    rows = it.refusals.defer("body").order_by("row")
    if column:
        rows = rows.filter(column=column)
    lines = Paginator(rows[:SHOWN], PAGE).get_page(request.GET.get("page"))
    into = target(it.source.target)
    labels = {n: c.label for n, c in into.columns.items()}
    shown = [(line, labels.get(line.column, line.column), T(line.zh, line.en)) for line in lines]
    seconds = ((it.ended_at or clock.now()) - it.started_at).total_seconds() if it.started_at else 0
    later = it.dry and it.state == DONE and figures.rows > figures.refused
    context = {
        "run": it, "source": it.source, "target": into, "figures": figures, "lines": lines, "shown": shown, "may": may(scope, it.source), "content": content(scope, it.source),
        "state": STATES[it.state], "why": T(it.error_zh, it.error_en) if it.error_zh else "", "column": column, "label": labels.get(column, ""),
        "rate": round(figures.rows / seconds) if seconds > 1 else None, "later": later and it.mapping.state == ACTIVE, "most": SHOWN,
        "open": it.state in (WAITING, RUNNING), "resumable": it.state in (STOPPED, FAILED) and (it.stored or it.source.kind == SQL),
    }  # fmt: skip
    return render(request, "feeds/tables_run.html", context)


@require_POST
@page()
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Run a file for real, stop, resume; run a view now, pause it."""
    scope = request.scope
    if what in ("now", "try", "pause", "go"):
        return _act_on_source(request, source_of(scope, pk), what)
    it = run_of(scope, pk)
    demand(scope, it.source)
    if what == "store" and it.dry:
        mapping_now = mappings.in_use(it.source)
        if mapping_now is None or not it.stored:
            messages.error(
                request,
                T(
                    "没有启用的列对应，或文件已清理。",
                    "There is no mapping in use, or the file was cleared away.",
                ),
            )
            return redirect("tables:run", pk)
        try:
            with transaction.atomic():
                made = running.begin(
                    TableRun(
                        source=it.source,
                        mapping=mapping_now,
                        stored=it.stored,
                        size=it.size,
                        filename=it.filename,
                        account_id=scope.account_id,
                    )
                )
        except IntegrityError:
            messages.error(
                request, T("该来源已有一次运行尚未结束。", "A run of this source is on its way already.")
            )
            return redirect("tables:run", pk)
        at_once(made)
        return redirect("tables:run", made.pk)
    if what == "stop" and running.ask_to_stop(it):
        messages.success(request, T("将在当前这批之后停止。", "It stops behind the chunk under way."))
    elif what == "resume":
        try:
            done = running.resume(it)
        except IntegrityError:
            done = False
        if done:
            at_once(it)
        messages.success(request, T("已继续。", "It goes on.")) if done else messages.error(
            request, T("现在不能继续。", "It cannot go on now.")
        )
    else:
        messages.error(request, T("现在不能办理。", "Not possible now."))
    return redirect("tables:run", pk)


def _act_on_source(request: HttpRequest, source: TableSource, what: str) -> HttpResponse:
    scope = request.scope
    demand(scope, source)
    if what in ("pause", "go"):
        TableSource.objects.filter(pk=source.pk).update(active=what == "go", not_before=None)
        audit.write(scope, "admin", what=f"table source {source.pk}", detail={"did": what})
        messages.success(
            request, T("已暂停定时读取。", "Paused.") if what == "pause" else T("已恢复。", "Resumed.")
        )
    elif what == "try" and (mapping_now := mappings.in_use(source)) is not None:
        made = running.begin(
            TableRun(source=source, mapping=mapping_now, dry=True, account_id=scope.account_id)
        )
        return redirect("tables:run", made.pk)
    else:
        made_or_none = schedule.start(source, scope.account_id)
        if made_or_none is not None:
            return redirect("tables:run", made_or_none.pk)
        messages.error(
            request,
            T(
                "没有启用的列对应，或已有一次运行尚未结束。",
                "There is no mapping in use, or a run is on its way.",
            ),
        )
    return redirect("tables:one", source.pk)


# ------------------------------------------------------------------------------------------------------------------ refused


def _names(it: TableRun) -> list[str]:
    columns: list[str] = it.mapping.rules["layout"]["columns"]
    return list(dict.fromkeys(it.mapping.rules["columns"].values())) if it.source.kind == SQL else columns


def _cells(one: TableRefusal) -> list[str]:
    return [str(c) for c in orjson.loads(keeping.unpacked(bytes(one.body)))]


@page()
def refused_csv(request: HttpRequest, pk: int) -> Any:
    """Every refused row with its reason, as CSV (audited: it holds what was sent)."""
    scope = request.scope
    it = run_of(scope, pk)
    demand_content(scope, it.source)
    audit.write(scope, "export", what=f"table run {it.pk} refused")
    rules = dict(it.mapping.rules["columns"].items())

    class Line:
        def write(self, text: str) -> str:
            return text

    writer = csv.writer(Line(), lineterminator="\r\n")

    def lines() -> Iterator[str]:
        yield "\ufeff"
        yield writer.writerow(["行号", *map(safe, _names(it)), "列", "未受理原因", "Reason"])
        for one_row in it.refusals.order_by("row").iterator(chunk_size=500):
            yield writer.writerow(
                [
                    one_row.row,
                    *map(safe, _cells(one_row)),
                    safe(rules.get(one_row.column, "")),
                    one_row.zh,
                    one_row.en,
                ]
            )

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="refused-{it.pk}.csv"'
    return response


@page()
def returned(request: HttpRequest, pk: int) -> HttpResponse:
    """The workbook given back with reasons and coloured cells (audited)."""
    scope = request.scope
    it = run_of(scope, pk)
    demand_content(scope, it.source)
    audit.write(scope, "export", what=f"table run {it.pk} refused")
    columns = it.mapping.rules["columns"]
    lines = [
        (r.row, columns.get(r.column, ""), T(r.zh, r.en).zh + " " + r.en, _cells(r))
        for r in it.refusals.order_by("row")[: workbook.MOST_RETURNED]
    ]
    figures = running.figures_of(it)
    data = b""
    if it.stored and it.mapping.rules["layout"]["kind"] == "xlsx" and figures.rows <= workbook.MOST_RETURNED:
        try:
            _, layout = looked(it.stored, it.source.target)
            with files.opened(it.stored, anywhere=True) as file:
                data = workbook.returned(file, layout.sheet, layout.header, lines)
        except (files.Damaged, Unreadable, KeyError):
            data = b""
    data = data or workbook.only_refused(_names(it), lines)
    return download(data, f"退回-{it.pk}.xlsx", XLSX)


@page()
def mend(request: HttpRequest, pk: int) -> HttpResponse:
    """A refused row, to be corrected and taken again."""
    scope = request.scope
    arrival = get_object_or_404(Arrival.objects.filter(door=door.DOOR), pk=pk)
    try:
        source = door.source_of(arrival)
        get_object_or_404(visible(scope), pk=source.pk)
        demand_content(scope, source)
        in_use = door.mapping_of(source)
        names, row = door.row_of(inbox.body_of(arrival), in_use)
    except errors.Refusal as failure:
        raise Http404 from failure
    cells = (row.cells + [""] * len(names))[: len(names)]
    place, why = errors.read(arrival.error)
    if request.method == "POST" and arrival.state not in (TAKEN, DROPPED):
        cells = [request.POST.get(f"cell-{n}", "")[:20_000] for n in range(len(names))]
        verdict = door.mend(scope, arrival, cells)
        if verdict.state == TAKEN:
            messages.success(request, T("该行已受理。", "The row was taken."))
            return redirect("tables:one", source.pk)
        reason = verdict.reason
        place, why = (reason.place, reason.text) if reason else ("", T("暂存待核。", "Held for checking."))
    else:
        audit.write(scope, "read", person_id=arrival.person_id, what=f"arrival {arrival.pk}")
    by_name = {name: n for n, name in in_use.rules["columns"].items()}
    column = place.split(" ")[-1]
    fields = [
        (n, name, cells[n], by_name.get(name) == column and bool(column)) for n, name in enumerate(names)
    ]
    context = {
        "arrival": arrival,
        "source": source,
        "fields": fields,
        "why": why,
        "done": arrival.state in (TAKEN, DROPPED),
        "row": row,
    }
    return render(request, "feeds/tables_mend.html", context, status=422 if request.method == "POST" else 200)
