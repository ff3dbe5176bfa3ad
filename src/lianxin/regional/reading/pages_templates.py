"""Report templates: the shipped ones to read, one's own and the centre's to keep."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.duty.errors import Refused
from lianxin.duty.forms import refuse
from lianxin.regional.reading import desk, templates
from lianxin.regional.reading.models import CENTRES, Reader, Template
from lianxin.regional.reading.pages_manage import MODALITIES
from lianxin.standards.text import T


class TemplateForm(forms.Form):
    """A template's text and phrases."""

    name = forms.CharField(label=T("名称", "Name"), max_length=80)
    modality = forms.ChoiceField(label=T("检查类型", "Modality"), required=False)
    body_part = forms.CharField(label=T("部位", "Body part"), max_length=40, required=False)
    findings = forms.CharField(label=T("检查所见", "Findings"), max_length=20_000, required=False, widget=forms.Textarea(attrs={"rows": 6}))  # fmt: skip
    conclusion = forms.CharField(label=T("诊断意见", "Conclusion"), max_length=5_000, required=False, widget=forms.Textarea(attrs={"rows": 3}))  # fmt: skip
    phrases = forms.CharField(label=T("常用语（每行一条）", "Phrases (one a line)"), max_length=10_000, required=False, widget=forms.Textarea(attrs={"rows": 5}))  # fmt: skip
    positive = forms.BooleanField(label=T("阳性模板", "For a positive report"), required=False)
    active = forms.BooleanField(label=T("启用", "In use"), required=False, initial=True)
    for_centre = forms.BooleanField(label=T("作为中心模板（供全部医师使用）", "For the whole centre"), required=False)  # fmt: skip

    def __init__(self, reader: Reader, *args: Any, new: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        modality = self.fields["modality"]
        assert isinstance(modality, forms.ChoiceField)
        modality.choices = [("", T("不限", "Any")), *((m, m) for m in MODALITIES[reader.centre])]  # fmt: skip
        if not (new and reader.approves):
            del self.fields["for_centre"]

    def clean(self) -> dict[str, Any]:
        """There is something to insert."""
        data: dict[str, Any] = super().clean() or {}
        if not (data.get("findings") or data.get("conclusion") or data.get("phrases")):
            self.add_error(
                "findings", str(T("请填写所见、意见或常用语。", "Write findings, a conclusion or phrases."))
            )
        return data


def _reader(request: HttpRequest) -> Reader | None:
    mine = desk.readers_of(request.scope)
    given = request.GET.get("centre", "") or request.POST.get("centre", "")
    return next((r for r in mine if r.centre == given), mine[0] if mine else None)


@page(may="read_studies")
def listed(request: HttpRequest) -> HttpResponse:
    """Every template one may use, with what may be changed."""
    reader = _reader(request)
    if reader is None:
        return render(request, "reading/templates.html", {"reader": None})
    rows = list(templates.of_reader(reader).order_by("modality", "body_part", "code", "pk"))
    mine = {t.pk for t in templates.editable(reader)}
    off = list(templates.editable(reader).filter(active=False).order_by("pk"))
    lines = [{"template": t, "editable": t.pk in mine, "source": _source(t)} for t in [*rows, *off]]
    context = {"reader": reader, "readers": desk.readers_of(request.scope), "lines": lines, "centre": CENTRES[reader.centre]}  # fmt: skip
    return render(request, "reading/templates.html", context)


def _source(template: Template) -> Any:
    if template.account_id is not None:
        return T("个人", "Mine")
    return T("中心", "Centre") if template.institution_id is not None else T("平台", "Shipped")


@page(may="read_studies")
def one(request: HttpRequest, template_id: int | None = None) -> HttpResponse:
    """Write a template, or change one's own (an approver: the centre's)."""
    reader = _reader(request)
    row = Template.objects.filter(pk=template_id).first() if template_id is not None else None
    if row is not None:
        reader = next((r for r in desk.readers_of(request.scope) if r.centre == row.centre), None)
    if reader is None or (template_id is not None and row is None):
        raise Http404
    if row is not None and not templates.of_reader(reader).filter(pk=row.pk).exists() and not templates.editable(reader).filter(pk=row.pk).exists():  # fmt: skip
        raise Http404
    editable = row is None or templates.editable(reader).filter(pk=row.pk).exists()
    copied = templates.of_reader(reader).filter(code=request.GET.get("copy", "")[:40]).first() if row is None else None  # fmt: skip
    basis = row or copied
    initial = {n: getattr(basis, n) for n in ("name", "modality", "body_part", "findings", "conclusion", "positive", "active")} | {"phrases": "\n".join(basis.phrases)} if basis else {"active": True}  # fmt: skip
    form, status = TemplateForm(reader, initial=initial, new=row is None), 200
    if request.method == "POST":
        if not editable:
            raise Http404
        form = TemplateForm(reader, request.POST, new=row is None)
        if form.is_valid():
            try:
                data = form.cleaned_data
                kept = templates.keep(reader, data, row.pk if row else None, for_centre=data.get("for_centre", False))  # fmt: skip
            except Refused as refusal:
                refuse(form, refusal.errors)
            else:
                audit.write(request.scope, "update" if row else "create", what=f"report template {kept.code}")
                messages.success(request, str(T("模板已保存。", "Template saved.")))
                return redirect("reading:templates")
        status = 422
    return render(request, "reading/template.html", {"reader": reader, "template": row, "form": form, "editable": editable}, status=status)  # fmt: skip
