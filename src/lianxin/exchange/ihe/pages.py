"""Identifier domains for the system administrator: whose numbers, how HL7 v2 calls them, who is told of them."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.exchange.ihe import identifiers, pixm
from lianxin.exchange.ihe.models import ALL, OWN, PARTNERS, Domain
from lianxin.network.models import Institution
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.standards import clock
from lianxin.standards.text import T, Text

SHARING = {
    PARTNERS: T("同一医联体的机构", "Institutions of the same consortia"),
    ALL: T("凡可查看该居民的机构", "Everybody who may see the person"),
    OWN: T("只限本机构", "Nobody else"),
}


class DomainForm(forms.ModelForm):
    """One domain."""

    sharing = forms.ChoiceField(choices=list(SHARING.items()), label=T("告知范围", "Who is told"))

    class Meta:
        model = Domain
        fields = ("system", "institution", "name", "namespace", "oid", "sharing")
        labels: ClassVar[dict[str, Text]] = {
            "system": T("标识系统（URI）", "System (URI)"),
            "institution": T("发号机构", "Institution"),
            "name": T("名称", "Name"),
            "namespace": T("HL7 v2 名称（PID-3.4.1）", "Name in HL7 v2 (PID-3.4.1)"),
            "oid": T("OID（PID-3.4.2）", "OID (PID-3.4.2)"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        institution = self.fields["institution"]
        assert isinstance(institution, forms.ModelChoiceField)
        institution.queryset = Institution.objects.filter(active=True).order_by("code")
        for field in self.fields.values():
            field.error_messages["required"] = T("此项必填，请填写。", "This is required; please fill it in.")

    def clean_system(self) -> str:
        """An absolute URI that is nobody's already."""
        given: str = self.cleaned_data["system"].strip()
        if not pixm.is_uri(given):
            raise forms.ValidationError(
                T("应为 URI，如 urn:oid:1.2.3。", "It must be a URI such as urn:oid:1.2.3.")
            )
        if given in identifiers.PLATFORM_SYSTEMS or identifiers.is_document(given):
            raise forms.ValidationError(
                T(
                    "这是平台或证件的标识系统，不能登记为机构的。",
                    "This is a system of the platform or of identity documents.",
                )
            )
        return given

    def clean_oid(self) -> str:
        """Digits and dots."""
        given: str = self.cleaned_data["oid"].strip().removeprefix("urn:oid:")
        if given and not given.replace(".", "").isdigit():
            raise forms.ValidationError(T("OID 只含数字和点。", "An OID has digits and dots only."))
        return given

    def clean(self) -> dict[str, Any]:
        """Once for each institution."""
        given: dict[str, Any] = super().clean() or {}
        same = Domain.objects.filter(system=given.get("system"), institution=given.get("institution"))
        if given.get("system") and given.get("institution") and same.exclude(pk=self.instance.pk).exists():
            raise forms.ValidationError(
                T("该机构已登记此标识系统。", "This institution has this system already.")
            )
        return given


@page(SYSTEM_ADMIN)
def domains(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """All domains; enter one, or change one."""
    row = get_object_or_404(Domain, pk=pk) if pk else Domain(created_at=clock.now())
    form = DomainForm(request.POST if request.method == "POST" else None, instance=row)
    if request.method == "POST" and form.is_valid():
        saved = form.save()
        audit.write(
            request.scope,
            "admin",
            what=f"identifier domain {saved.system}",
            detail={"sharing": saved.sharing},
        )
        messages.success(request, T("已保存。", "Saved."))
        return redirect("identity:domains")
    rows = [
        (d, SHARING[d.sharing])
        for d in Domain.objects.select_related("institution").order_by("institution__code", "system")
    ]
    return render(
        request,
        "identity/domains.html",
        {"form": form, "rows": rows, "row": row},
        status=400 if form.errors else 200,
    )


app_name = "identity"
urlpatterns = [
    path("manage/domains", domains, name="domains"),
    path("manage/domains/<int:pk>", domains, name="domain"),
]
