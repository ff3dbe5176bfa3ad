"""The desk for tables: sources of one's institution, their mapping, templates."""

from __future__ import annotations

from typing import Any

import orjson
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, connection, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.feeds import errors
from lianxin.exchange.tables import (
    database,
    files,
    mappings,
    reading,
    recognise,
    run_pages,
    running,
    schedule,
    workbook,
)
from lianxin.exchange.tables.chunks import Taker
from lianxin.exchange.tables.desk import (
    PAGE,
    PREVIEW,
    SAMPLE,
    STATES,
    XLSX,
    at_once,
    content,
    demand,
    download,
    looked,
    may,
    source_of,
    uploaded,
    visible,
)
from lianxin.exchange.tables.forms import (
    KINDS,
    PERIODS,
    FileSourceForm,
    MappingForm,
    UploadForm,
    ViewSourceForm,
)
from lianxin.exchange.tables.models import (
    DRAFT,
    FILE,
    SQL,
    STOPPED,
    WAITING,
    TableMapping,
    TableRun,
    TableSource,
)
from lianxin.exchange.tables.reading import Layout, Row, Unreadable
from lianxin.exchange.tables.targets import target, targets
from lianxin.record import rows as record_rows
from lianxin.standards import clock
from lianxin.standards.text import T, Text

# ------------------------------------------------------------------------------------------------------------------ sources


@page()
def sources(request: HttpRequest) -> HttpResponse:
    """Every source one may see, and the templates."""
    scope = request.scope
    rows = visible(scope).order_by("institution__name", "name")
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    shown = []
    for source in lines:
        last = source.runs.order_by("-pk").first()
        figures = running.figures_of(last) if last else None
        shown.append(
            (
                source,
                targets()[source.target].name,
                last,
                figures,
                schedule.lag(source),
                errors.read(source.last_error)[1] if source.last_error else "",
            )
        )
    context = {
        "lines": lines,
        "shown": shown,
        "targets": targets().values(),
        "may": may(scope),
        "states": STATES,
        "kinds": KINDS,
    }
    return render(request, "feeds/tables.html", context)


@page()
def template(request: HttpRequest, code: str) -> HttpResponse:
    """The Excel template of a target."""
    visible(request.scope)
    if code not in targets():
        raise Http404
    return download(workbook.template(target(code)), f"{target(code).name.zh}-模板.xlsx", XLSX)


@page()
def new_file(request: HttpRequest) -> HttpResponse:
    """A new source from its first file."""
    scope = request.scope
    demand(scope)
    form = FileSourceForm(request.POST or None, request.FILES or None, institution_id=scope.institution_id)
    if request.method == "POST" and form.is_valid():
        stored, size = files.keep(form.cleaned_data["file"].chunks())
        try:
            chosen, layout = looked(stored, form.cleaned_data["target"])
            source = TableSource(
                institution_id=scope.institution_id, name=form.cleaned_data["name"], target=chosen, created_by_id=scope.account_id, created_at=clock.now()
            )  # fmt: skip
            with transaction.atomic():
                source.save()
                rules = recognise.rules(target(chosen), layout)
                draft = mappings.save(scope, source, rules)
                uploaded(request, source, draft, stored, size, form.cleaned_data["file"].name)
                audit.write(scope, "create", what=f"table source {source.pk}", detail={"target": chosen})
            for note in layout.notes:
                messages.info(request, note)
            return redirect("tables:mapping", source.pk)
        except Unreadable as failure:
            files.remove(stored)
            form.add_error("file", failure.text)
        except IntegrityError:
            files.remove(stored)
            form.add_error(
                "name", T("本机构已有同名的来源。", "The institution has a source with this name already.")
            )
    return render(
        request, "feeds/tables_new.html", {"form": form, "kind": FILE}, status=422 if form.errors else 200
    )


@page()
def new_view(request: HttpRequest) -> HttpResponse:
    """A new source that is a view of the institution's database."""
    scope = request.scope
    demand(scope)
    form = ViewSourceForm(
        request.POST or None, institution_id=scope.institution_id, initial={"overlap": 3600, "every": 0}
    )
    if request.method == "POST" and form.is_valid():
        source = TableSource(
            institution_id=scope.institution_id, created_by_id=scope.account_id, created_at=clock.now()
        )
        if form.made(source):
            layout = Layout("sql", [c.name for c in form.columns], 0)
            with transaction.atomic():
                source.save()
                mappings.save(scope, source, recognise.rules(target(source.target), layout))
                audit.write(
                    scope,
                    "create",
                    what=f"table source {source.pk}",
                    detail={"target": source.target, "address": source.shown},
                )
            return redirect("tables:mapping", source.pk)
    return render(
        request, "feeds/tables_new.html", {"form": form, "kind": SQL}, status=422 if form.errors else 200
    )


@page()
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """A source: how it is read, its runs; one more file."""
    scope = request.scope
    source = source_of(scope, pk)
    allowed = may(scope, source)
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST":
        demand(scope, source)
        mapping = mappings.in_use(source) or mappings.newest(source)
        if form.is_valid() and mapping is not None:
            stored, size = files.keep(form.cleaned_data["file"].chunks())
            try:
                _, layout = looked(
                    stored, source.target, [reading.plain(c) for c in mapping.rules["layout"]["columns"]]
                )
                lost = [c for c in mapping.rules["columns"].values() if c not in layout.columns]
                run = uploaded(request, source, mapping, stored, size, form.cleaned_data["file"].name)
                if lost:
                    messages.warning(
                        request,
                        T(
                            "文件缺少列：{c}，请核对列对应。",
                            "The file lacks columns: {c}. Look at the mapping.",
                        ).format(c="、".join(lost)[:200]),
                    )
                    return redirect("tables:mapping", source.pk)
                at_once(run)
                return redirect("tables:run", run.pk)
            except Unreadable as failure:
                files.remove(stored)
                form.add_error("file", failure.text)
    runs = Paginator(source.runs.select_related("mapping").order_by("-pk"), 20).get_page(
        request.GET.get("page")
    )
    context = {
        "source": source, "target": target(source.target), "mapping": mappings.in_use(source), "newest": mappings.newest(source), "may": allowed, "form": form,
        "runs": runs, "shown": [(r, running.figures_of(r), STATES[r.state]) for r in runs], "lag": schedule.lag(source),
        "last_error": errors.read(source.last_error)[1] if source.last_error else "", "kind": KINDS[source.kind], "period": PERIODS.get(source.every, ""),
        "lead": running.figures_of(runs[0]) if runs else None,
    }  # fmt: skip
    return render(request, "feeds/tables_one.html", context, status=422 if form.errors else 200)


# ------------------------------------------------------------------------------------------------------------------ mapping


def _sample(source: TableSource) -> tuple[list[str], list[Row], list[Text]]:
    """Names of the columns and the first rows of a source's newest file, or of its view."""
    newest = mappings.newest(source)
    assert newest is not None
    if source.kind == SQL:
        with database.connected(source) as connected:
            names = [c.name for c in database.look(connected, source.view)]
            found = []
            for row, _ in database.rows(connected, source, names):
                found.append(row)
                if len(found) >= SAMPLE:
                    break
        return names, found, []
    last = source.runs.exclude(stored="").order_by("-pk").first()
    if last is None:
        return newest.rules["layout"]["columns"], [], []
    _, layout = looked(last.stored, source.target)
    with files.opened(last.stored, anywhere=layout.kind == "xlsx") as file:
        rows = [row for _, row in zip(range(SAMPLE), reading.rows(file, layout), strict=False)]
    return layout.columns, rows, layout.notes


def _seen_values(names: list[str], rows: list[Row]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for at, name in enumerate(names):
        out[name] = list(
            dict.fromkeys(r.cells[at].strip()[:60] for r in rows if r.refusal is None and len(r.cells) > at)
        )[:12]
    return out


@page()
def mapping(request: HttpRequest, pk: int) -> HttpResponse:
    """Which column is which; the first rows as they would be stored."""
    scope = request.scope
    source = source_of(scope, pk)
    demand(scope, source)
    held = mappings.newest(source)
    if held is None:
        raise Http404
    into = target(source.target)
    wrong: list[Text] = []
    try:
        names, rows, notes = _sample(source)
    except (Unreadable, files.Damaged) as failure:
        names, rows, notes = held.rules["layout"]["columns"], [], [getattr(failure, "text", running._DAMAGED)]
    rules = held.rules
    if request.method == "POST":
        rules = MappingForm.read(into, held.rules, request.POST)
        rules["layout"] = {**rules["layout"], "columns": names}
        wrong = recognise.problems(into, rules, names)
        using = request.POST.get("do") == "use"
        if using:
            wrong += recognise.lacking(into, rules)
        if not wrong:
            draft = mappings.save(scope, source, rules)
            if using:
                mappings.activate(scope, draft)
                return _used(request, source, draft)
            messages.success(request, T("草稿已保存。", "The draft was saved."))
            return redirect("tables:mapping", pk)
    if not content(scope, source):
        rows = []  # an administrator sees names of columns, and nothing that rows say
    preview = _preview(scope, source, held, rules, names, rows)
    shown = MappingForm(into, rules, names, _seen_values(names, rows))
    context = {
        "source": source, "target": into, "mapping": held, "names": names, "rows": shown.rows(), "notes": notes, "wrong": wrong, "preview": preview,
        "lacking": recognise.lacking(into, rules), "unused": [n for n in names if n not in rules["columns"].values()], "draft": held.state == DRAFT,
    }  # fmt: skip
    return render(request, "feeds/tables_mapping.html", context, status=422 if wrong else 200)


def _used(request: HttpRequest, source: TableSource, draft: TableMapping) -> HttpResponse:
    """A mapping was put in use: the file that waits is looked at with it."""
    waiting = source.runs.filter(dry=True).exclude(stored="").order_by("-pk").first()
    messages.success(
        request, T("列对应第 {n} 版已启用。", "Version {n} of the mapping is in use.").format(n=draft.version)
    )
    if waiting is None:
        return redirect("tables:one", source.pk)
    run = uploaded(request, source, draft, waiting.stored, waiting.size, waiting.filename)
    TableRun.objects.filter(pk=waiting.pk, state=WAITING).update(state=STOPPED, ended_at=clock.now())
    at_once(run)
    return redirect("tables:run", run.pk)


def _preview(
    scope: Scope,
    source: TableSource,
    held: TableMapping,
    rules: dict[str, Any],
    names: list[str],
    rows: list[Row],
) -> list[dict[str, Any]]:
    """The first rows as they would be stored, or why not."""
    if not rows:
        return []
    trial = TableMapping(source=source, version=held.version, rules=rules)
    taker = Taker(source, trial, names, running.scope_of(source, scope.account_id))
    out = []
    with transaction.atomic(), connection.cursor() as own:
        _, _, converted = taker.check(record_rows.server_cursor(own), rows[:PREVIEW])
        for made in converted:
            labels = [(c.label, made.values[n]) for n, c in taker.target.columns.items() if n in made.values]
            text = ""
            if not made.wrong:
                text = orjson.dumps(taker.built(made), option=orjson.OPT_INDENT_2, default=float).decode()
            told = [
                (taker.target.columns[n].label if n in taker.target.columns else "", t) for n, t in made.wrong
            ]
            out.append({"row": made.row.number, "values": labels, "text": text, "wrong": told})
        transaction.set_rollback(True)
    audit.write(scope, "read", what=f"table source {source.pk} preview", detail={"rows": len(out)})
    return out


app_name = "tables"
urlpatterns = [
    path("feeds/tables", sources, name="sources"),
    path("feeds/tables/new", new_file, name="new"),
    path("feeds/tables/view", new_view, name="view"),
    path("feeds/tables/templates/<slug:code>.xlsx", template, name="template"),
    path("feeds/tables/<int:pk>", one, name="one"),
    path("feeds/tables/<int:pk>/mapping", mapping, name="mapping"),
    path("feeds/tables/<int:pk>/<slug:what>", run_pages.act, name="act_source"),
    path("feeds/tables/runs/<int:pk>", run_pages.run, name="run"),
    path("feeds/tables/runs/<int:pk>/refused.csv", run_pages.refused_csv, name="refused"),
    path("feeds/tables/runs/<int:pk>/returned.xlsx", run_pages.returned, name="returned"),
    path("feeds/tables/runs/<int:pk>/<slug:what>", run_pages.act, name="act"),
    path("feeds/tables/rows/<int:pk>", run_pages.mend, name="mend"),
]
