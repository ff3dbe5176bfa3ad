"""Spreadsheets of institutions, departments and staff: download, check (nothing is written), then write all or nothing."""

from __future__ import annotations

import base64
import binascii
import io
from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.network import sheets as service
from lianxin.network.columns import KINDS as SHEETS
from lianxin.network.roles import MANAGER, SYSTEM_ADMIN
from lianxin.portal.forms import HouseForm
from lianxin.standards import clock
from lianxin.standards.text import T

LIMIT = 5 * 1024 * 1024
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

KINDS = {
    "institutions": T("机构", "Institutions"),
    "departments": T("科室", "Departments"),
    "people": T("人员与岗位", "People and posts"),
}


class SheetForm(HouseForm):
    """A workbook and what it holds. After a check that found nothing the content comes back in ``kept``."""

    kind = forms.ChoiceField(
        label=T("内容", "Holds"), choices=lambda: list(KINDS.items()), widget=forms.RadioSelect
    )
    file = forms.FileField(
        label=T("表格文件", "Workbook"),
        required=False,
        help_text=T(
            ".xlsx，不超过 5 MB；含公式的单元格会被拒绝。",
            ".xlsx, at most 5 MB; cells with formulas are refused.",
        ),
        widget=forms.FileInput(attrs={"accept": ".xlsx"}),
        error_messages={"empty": T("文件是空的，请重新选择。", "The file is empty; choose another.")},
    )
    kept = forms.CharField(required=False, widget=forms.HiddenInput)

    def clean_file(self) -> Any:
        """Refuse what is not a small .xlsx before it is read."""
        file = self.cleaned_data["file"]
        if file is None:
            return None
        if not (file.name or "").lower().endswith(".xlsx"):
            raise forms.ValidationError(
                T(
                    "请上传 .xlsx 文件，可先下载模板。",
                    "Upload an .xlsx file; a template can be downloaded here.",
                )
            )
        if (file.size or 0) > LIMIT:
            raise forms.ValidationError(
                T("文件超过 5 MB，请拆分后上传。", "The file is over 5 MB; split it.")
            )
        return file

    def clean(self) -> dict[str, Any]:
        """The bytes to import: of the file, or those kept from the check."""
        data = super().clean() or {}
        if data.get("file"):
            data["content"] = data["file"].read()
        elif data.get("kept"):
            try:
                data["content"] = base64.b64decode(data["kept"], validate=True)
            except binascii.Error:
                data["content"] = b""
        if not data.get("content") and "file" not in self.errors:
            self.add_error("file", forms.ValidationError(T("请选择表格文件。", "Choose a workbook.")))
        return data


@page(SYSTEM_ADMIN)
def sheets(request: HttpRequest) -> HttpResponse:
    """Check a workbook or write it; errors are listed row by row with the cure."""
    form = SheetForm(
        request.POST if request.method == "POST" else None,
        request.FILES if request.method == "POST" else None,
    )
    context: dict[str, Any] = {"form": form, "kinds": KINDS.items(), "report": None}
    refused = bool(form.errors)
    if request.method == "POST" and form.is_valid():
        kind, content = form.cleaned_data["kind"], form.cleaned_data["content"]
        write = request.POST.get("step") == "write"
        report = service.import_workbook(io.BytesIO(content), kind, dry_run=not write)
        if write and report.ok:
            audit.write(request.scope, "admin", what=f"spreadsheet {kind}", detail={"rows": report.rows})
            messages.success(
                request,
                T(
                    "{k}：新增 {a} 行，修改 {b} 行，已写入。", "{k}: {a} rows new, {b} changed, written."
                ).format(k=KINDS[kind], a=report.created, b=report.updated),
            )
            return redirect("portal:manage_sheets")
        refused = not report.ok
        titles = {c.name: c.label for c in SHEETS[kind][1]}
        context |= {
            "report": report,
            "kind": kind,
            "kind_label": KINDS[kind],
            "problems": [(row, titles.get(name, name), text) for row, name, text in report.errors[:500]],
            "kept": base64.b64encode(content).decode() if report.ok else "",
        }
    return render(request, "portal/manage/sheets.html", context, status=422 if refused else 200)


@page(SYSTEM_ADMIN, MANAGER)
def download(request: HttpRequest, kind: str) -> HttpResponse:
    """The present data as a workbook; with ``?empty=1`` only the headings, as a template."""
    if kind not in KINDS:
        raise Http404
    empty = request.GET.get("empty") == "1"
    content = service.template_workbook(kind) if empty else service.export_workbook(kind)
    if not empty:
        audit.write(request.scope, "export", what=f"spreadsheet {kind}")
    response = HttpResponse(content, content_type=XLSX)
    name = f"{kind}-template" if empty else f"{kind}-{clock.today().isoformat()}"
    response["Content-Disposition"] = f'attachment; filename="{name}.xlsx"'
    return response
