"""Lists of people for those who keep the index at an institution: upload one, download the cross-reference."""

from __future__ import annotations

import datetime as dt
import tempfile
from pathlib import Path

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import path

from lianxin.access.errors import NotPermitted
from lianxin.access.web import page
from lianxin.exchange.rosters import giving, reading, taking
from lianxin.exchange.rosters.taking import Report
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T

MOST_BYTES = 50 * 1024 * 1024
OUTCOMES = {
    "new": T("新登记", "New"),
    "linked": T("并入已有的人", "Linked to somebody known"),
    "same_source": T("没有变化", "Unchanged"),
    "updated": T("更新", "Brought up to date"),
    "review": T("待人工复核", "To be looked at"),
    "fed": T("已由接口报送，略过", "Fed by an interface already, left alone"),
}


class UploadForm(forms.Form):
    """A file."""

    file = forms.FileField(
        label=T("名册文件", "File"),
        help_text=T(
            "CSV（UTF-8 或 GB18030，第一行为列名：院内号、姓名、性别、出生日期、证件号、电话、住址…）或每行一个 Patient 的 NDJSON，最大 50 MB",
            "CSV (UTF-8 or GB 18030; the first line names the columns: local number, name, sex, birth date, identity number, phone, address …) or NDJSON, a Patient a line; at most 50 MB",
        ),
        error_messages={
            "required": T("请选择文件。", "Choose a file."),
            "empty": T("文件是空的。", "The file is empty."),
            "invalid": T("没有收到文件，请重新选择。", "No file came; choose it again."),
        },
    )

    def clean_file(self) -> object:
        """Not too large."""
        given = self.cleaned_data["file"]
        if given.size > MOST_BYTES:
            raise forms.ValidationError(
                T(
                    "文件超过 50 MB，请由管理员用命令导入。",
                    "Larger than 50 MB; an administrator can load it by command.",
                )
            )
        return given


@page(may="review_links")
def rosters(request: HttpRequest) -> HttpResponse:
    """Upload a list for one's own institution."""
    scope = request.scope
    report: Report | None = None
    form = UploadForm(request.POST, request.FILES) if request.method == "POST" else UploadForm()
    form.label_suffix = ""
    if request.method == "POST" and form.is_valid():
        if scope.institution_id is None:
            raise NotPermitted(T("请先选择所在机构的岗位。", "Choose a post at an institution first."))
        institution = Institution.objects.get(pk=scope.institution_id)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) / "roster"
            with kept.open("wb") as out:
                for chunk in form.cleaned_data["file"].chunks():
                    out.write(chunk)
            try:
                report = taking.take(scope, kept, institution)
            except reading.Unreadable as failure:
                form.add_error("file", failure.text)
    outcomes = [(OUTCOMES.get(k, T(k, k)), n) for k, n in sorted(report.outcomes.items())] if report else []
    context = {"form": form, "report": report, "outcomes": outcomes}
    return render(request, "rosters/rosters.html", context, status=400 if form.errors else 200)


@page(may="review_links")
def download(request: HttpRequest) -> HttpResponse:
    """The cross-reference of one's own institution, masked; ``since``: what changed from that day on."""
    scope = request.scope
    try:
        day = dt.date.fromisoformat(request.GET.get("since", ""))
    except ValueError:
        day = None
    since = dt.datetime.combine(day, dt.time(), clock.ZONE) if day else None
    response = HttpResponse("\ufeff", content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="cross-reference-{clock.today()}.csv"'
    giving.give(scope, response, since=since)
    return response


app_name = "rosters"
urlpatterns = [
    path("rosters", rosters, name="rosters"),
    path("rosters/cross-reference.csv", download, name="download"),
]
