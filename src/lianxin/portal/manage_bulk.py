"""Bulk exports and imports for the system administrator: what runs, how far it is, for whom; and stopping it.

Administrators reach no patient: of what a job made they may fetch the manifest and the reports of errors, never the data.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.exchange.bulk import files, jobs
from lianxin.exchange.bulk.models import OPEN, BulkFile, BulkJob
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.standards.text import T

PAGE = 50
LANES = 500
KINDS = {"export": T("导出", "Export"), "import": T("导入", "Import")}
STATES = {
    "waiting": T("等待", "Waiting"),
    "running": T("进行中", "Running"),
    "done": T("完成", "Done"),
    "failed": T("失败", "Failed"),
    "cancelled": T("已取消", "Cancelled"),
    "expired": T("文件已删除", "Files removed"),
}
LEVELS = {
    "system": T("系统级", "Whole system"),
    "patient": T("全部患者", "All patients"),
    "group": T("患者组", "A Group"),
}


@page(SYSTEM_ADMIN)
def bulk_jobs(request: HttpRequest) -> HttpResponse:
    """Jobs, newest first, by kind and state."""
    asked = {name: request.GET.get(name, "") for name in ("kind", "state")}
    rows = BulkJob.objects.select_related("client", "institution").order_by("-created_at")
    if asked["kind"] in KINDS:
        rows = rows.filter(kind=asked["kind"])
    if asked["state"] in STATES:
        rows = rows.filter(status=asked["state"])
    lines = Paginator(rows.annotate(count=Sum("lanes__count")), PAGE).get_page(request.GET.get("page"))
    for row in lines:
        _dress(row)
    context = {"lines": lines, "asked": asked, "kinds": KINDS.items(), "states": STATES.items()}
    return render(request, "portal/manage/bulk_jobs.html", context)


def _dress(row: Any) -> None:
    row.kind_label, row.state_label = KINDS[row.kind], STATES[row.status]
    row.open = row.status in OPEN
    row.percent = jobs.percent(row)
    row.level_label = LEVELS.get(row.spec.get("level", ""), "")


@page(SYSTEM_ADMIN)
def bulk_job(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """One job with its parts."""
    row = get_object_or_404(BulkJob.objects.select_related("client", "institution"), pk=pk)
    _dress(row)
    reports = BulkFile.objects.filter(job=row, role="error").order_by("lane__number", "number")
    context = {
        "row": row,
        "progress": jobs.progress(row),
        "lanes": row.lanes.order_by("number")[:LANES],
        "reports": reports if row.status == "done" else [],
        "sums": row.lanes.aggregate(count=Sum("count"), refused=Sum("refused"), unchanged=Sum("unchanged")),
        "why": T(row.failure_zh, row.failure_en) if row.failure_zh else None,
    }
    return render(request, "portal/manage/bulk_job.html", context)


@require_POST
@page(SYSTEM_ADMIN)
def bulk_cancel(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """Stop a job, or remove what it made."""
    row = get_object_or_404(BulkJob, pk=pk)
    was_open = row.status in OPEN
    jobs.remove(request.scope, row)
    done = (
        T("任务已取消。", "The job is cancelled.")
        if was_open
        else T("文件已删除。", "The files are removed.")
    )
    messages.success(request, done)
    return redirect("portal:manage_bulk_job", pk)


@page(SYSTEM_ADMIN)
def bulk_manifest(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The manifest the client gets: addresses and counts, no data."""
    row = get_object_or_404(BulkJob, pk=pk, status="done")
    content = json.dumps(jobs.manifest(row), ensure_ascii=False, indent=2)
    response = HttpResponse(content, content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="bulk-{row.pk}.json"'
    return response


@page(SYSTEM_ADMIN)  # type: ignore[arg-type]
def bulk_report(request: HttpRequest, pk: uuid.UUID, number: int) -> StreamingHttpResponse:
    """A report of errors: line numbers, places and reasons, no data."""
    row = get_object_or_404(BulkFile, job_id=pk, pk=number, role="error", job__status="done")
    try:
        opened = files.open_file(files.path_of(pk, row.stored))
    except FileNotFoundError:
        raise Http404 from None
    audit.write(
        request.scope,
        "export",
        what=f"bulk file {pk}/{row.pk}",
        detail={"type": row.rtype, "count": row.count},
    )
    response = StreamingHttpResponse(files.lines(opened), content_type="application/fhir+ndjson")
    response["Content-Disposition"] = f'attachment; filename="errors-{row.pk}.ndjson"'
    return response
