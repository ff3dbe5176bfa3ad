"""Spreadsheets of institutions, departments and staff: download, check (nothing is written), then write all or nothing."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.web import page
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
    """A workbook and what it holds."""

    kind = forms.ChoiceField(
        label=T("内容", "Holds"), choices=lambda: list(KINDS.items()), widget=forms.RadioSelect
    )
    file = forms.FileField(
        label=T("表格文件", "Workbook"),
        help_text=T(
            ".xlsx,不超过 5 MB;含公式的单元格会被拒绝", ".xlsx, at most 5 MB; cells with formulas are refused"
        ),
        widget=forms.FileInput(attrs={"accept": ".xlsx"}),
        error_messages={"empty": T("文件是空的，请重新选择。", "The file is empty; choose another.")},
    )

    def clean_file(self) -> UploadedFile:
        """Refuse what is not a small .xlsx before it is read."""
        file: UploadedFile = self.cleaned_data["file"]
        if not (file.name or "").lower().endswith(".xlsx"):
            raise forms.ValidationError(
                T("请上传 .xlsx 文件，可先下载模板。", "Upload an .xlsx file; a template can be downloaded.")
            )
        if (file.size or 0) > LIMIT:
            raise forms.ValidationError(T("文件超过 5 MB,请拆分后上传。", "The file is over 5 MB; split it."))
        return file


@page("system_admin")
def sheets(request: HttpRequest) -> HttpResponse:
    """Check a workbook or write it; errors are listed row by row with the cure."""
    form = SheetForm(request.POST or None, request.FILES or None)
    context: dict[str, Any] = {"form": form, "kinds": KINDS.items(), "report": None}
    if request.method == "POST" and form.is_valid():
        kind = form.cleaned_data["kind"]
        write = request.POST.get("step") == "write"
        from lianxin.network import sheets as service

        report = service.import_workbook(form.cleaned_data["file"], kind, dry_run=not write)
        context |= {"report": report, "kind_label": KINDS[kind], "wrote": write and not report.errors}
        if context["wrote"]:
            audit.write(request.scope, "admin", what=f"spreadsheet {kind}", detail={"rows": report.rows})
            messages.success(request, T("已写入 {n} 行。", "{n} rows were written.").format(n=report.rows))
            return redirect("portal:manage_sheets")
    return render(request, "portal/manage/sheets.html", context, status=422 if form.errors else 200)


@page("system_admin", "manager")
def download(request: HttpRequest, kind: str) -> HttpResponse:
    """The present data as a workbook (with ``?empty=1`` only the headings, as a template)."""
    if kind not in KINDS:
        raise Http404
    from lianxin.network import sheets as service

    content = service.export_workbook(kind)
    audit.write(request.scope, "export", what=f"spreadsheet {kind}")
    response = HttpResponse(content, content_type=XLSX)
    response["Content-Disposition"] = f'attachment; filename="{kind}-{clock.today().isoformat()}.xlsx"'
    return response
