"""Exports of a partner: their settings, history, next run, run now, hold, send again, files once more."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.exchange.partners import access, delivery, exports
from lianxin.exchange.partners.forms import ExportForm
from lianxin.exchange.partners.models import HELD, MADE, SENT, Export, ExportFile, ExportRun
from lianxin.exchange.subscriptions import lifecycle
from lianxin.exchange.v2 import outbound_changes
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 30
STATES = {MADE: T("待发送", "Waiting"), SENT: T("已送达", "Taken"), HELD: T("已搁置", "Set aside")}


def _find(request: HttpRequest, pk: int) -> Export:
    row = get_object_or_404(Export.objects.select_related("partner", "client__institution"), pk=pk)
    access.find(request.scope, row.partner_id)
    return row


@page(may="mend_feeds")
def edit(request: HttpRequest, pk: int, export: int | None = None) -> HttpResponse:
    """Enter an export of a partner, or change it. A new one begins with what changes from now on, or with everything."""
    partner = access.find(request.scope, pk)
    row = (
        get_object_or_404(Export, pk=export, partner=partner)
        if export
        else Export(partner=partner, created_at=clock.now())
    )
    form = ExportForm(partner, request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        saved = form.save(commit=False)
        if not export and not request.POST.get("everything"):
            saved.read_rid = outbound_changes.begin_record()
        saved.next_at = clock.now() if saved.every else exports.next_time(saved, clock.now())
        saved.failures, saved.not_before = 0, None
        try:
            with transaction.atomic():
                saved.save()
                changed = sorted(set(form.changed_data))
                audit.write(request.scope, "admin", what=f"export {saved.name}", detail={"changed": changed})
        except IntegrityError:
            form.add_error("name", T("已有同名的导出。", "There is an export with this name."))
        else:
            messages.success(request, T("已保存。", "Saved."))
            return redirect("partners:export", saved.pk)
    context = {"form": form, "row": row, "partner": partner}
    return render(request, "feeds/export_edit.html", context, status=400 if form.errors else 200)


@page(may="see_feeds")
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """One export with its runs, newest first."""
    row = _find(request, pk)
    lines = Paginator(ExportRun.objects.filter(export=row).order_by("-number"), PAGE).get_page(
        request.GET.get("page")
    )
    files: dict[int, list[ExportFile]] = {}
    for file in ExportFile.objects.filter(run__in=[r.pk for r in lines]).defer("body").order_by("number"):
        files.setdefault(file.run_id, []).append(file)
    shown = [(r, STATES[r.state], lifecycle.told(r.error), files.get(r.pk, [])) for r in lines]
    context = {
        "row": row, "lines": lines, "shown": shown, "error": lifecycle.told(row.last_error), "may_mend": request.scope.may("mend_feeds"),
        "may_open": request.scope.may("open_message"), "waiting": row.runs.filter(state=MADE).count(), "most": exports.MOST_RUNS,
    }  # fmt: skip
    return render(request, "feeds/export.html", context)


@require_POST
@page(may="mend_feeds")
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Run now, switch off or on, try again at once, begin from the start."""
    row = _find(request, pk)
    changes: dict[str, dict[str, Any]] = {
        "run": {"next_at": clock.now(), "not_before": None}, "pause": {"active": False}, "resume": {"active": True, "not_before": None},
        "retry": {"not_before": None}, "restart": {"read_rid": 0, "next_at": clock.now()},
    }  # fmt: skip
    if what not in changes:
        raise Http404
    Export.objects.filter(pk=pk).update(**changes[what])
    audit.write(request.scope, "admin", what=f"export {row.name}", detail={"did": what})
    messages.success(request, T("已办理。", "Done."))
    return redirect("partners:export", pk)


@require_POST
@page(may="mend_feeds")
def run(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Send a run once more, or set a waiting one aside."""
    kept = get_object_or_404(ExportRun, pk=pk)
    row = _find(request, kept.export_id)
    if what == "again":
        delivery.again(pk)
    elif what == "hold":
        delivery.hold(pk)
    else:
        raise Http404
    audit.write(request.scope, "admin", what=f"export {row.name}", detail={"did": what, "run": kept.number})
    messages.success(request, T("已办理。", "Done."))
    return redirect("partners:export", row.pk)


@page(may="open_message")
def file(request: HttpRequest, pk: int) -> HttpResponse:
    """A file of a run once more; audited as an export."""
    kept = get_object_or_404(ExportFile.objects.select_related("run"), pk=pk)
    row = _find(request, kept.run.export_id)
    what = f"export {row.pk} run {kept.run.number} {kept.name}"
    audit.write(request.scope, "export", what=what, detail={"resources": kept.count})
    response = HttpResponse(delivery.body_of(kept), content_type=kept.media)
    response.headers["Content-Disposition"] = f'attachment; filename="{kept.name}"'
    return response


urlpatterns = [
    path("feeds/partners/<int:pk>/exports/new", edit, name="export_new"),
    path("feeds/partners/<int:pk>/exports/<int:export>/edit", edit, name="export_edit"),
    path("feeds/exports/<int:pk>", one, name="export"),
    path("feeds/exports/<int:pk>/<slug:what>", act, name="export_act"),
    path("feeds/exports/runs/<int:pk>/<slug:what>", run, name="export_run"),
    path("feeds/exports/files/<int:pk>", file, name="export_file"),
]
