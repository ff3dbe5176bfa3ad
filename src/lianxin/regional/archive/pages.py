"""The archive's own pages: overview, devices, reconciling."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncDate
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import Refused
from lianxin.network.models import Institution
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.regional.archive import echo, frames, quarantine, spool, store
from lianxin.regional.archive.models import CHARSETS, CLOCKS, PROBLEMS, STATES, Device, Instance, Knock, Study
from lianxin.regional.archive.store import Full
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 30
DAYS = 14


def _scope(request: HttpRequest) -> Scope:
    return request.scope


def _mine(scope: Scope) -> Q:
    """Whose devices and figures a page shows: the own institution's; all of them to the system administrator."""
    return (
        Q()
        if scope.has(SYSTEM_ADMIN) or scope.everything
        else Q(institution_id__in=scope.institution_ids | scope.oversight_ids)
    )


@page(may="run_archive")
def overview(request: HttpRequest) -> HttpResponse:
    """Space, what came in by institution and day, devices, what waits."""
    scope = _scope(request)
    rows = Study.objects.unscoped("figures without people").filter(_mine(scope))
    since = clock.now() - dt.timedelta(days=DAYS)
    try:
        free: int | None = max(0, store.free())
    except Full:
        free = None
    context = {
        "free": free,
        "sums": rows.filter(state="stored").aggregate(studies=Count("pk"), images=Sum("instances"), size=Sum("bytes")),
        "waiting": rows.filter(state="quarantined").count(),
        "unindexed": spool.waiting(),
        "days": rows.filter(received_at__gte=since).annotate(day=TruncDate("received_at", tzinfo=clock.ZONE))
        .values("day", "institution__name", "institution__short_name").annotate(n=Count("pk"), images=Sum("instances"), size=Sum("bytes"))
        .order_by("-day", "institution__name")[:100],
        "devices": Device.objects.filter(_mine(scope), active=True).select_related("institution").order_by("-last_stored_at")[:20],
        "knocks": Knock.objects.count(),
        "may_reconcile": scope.may("reconcile_images"),
    }  # fmt: skip
    return render(request, "archive/overview.html", context)


class DeviceForm(forms.ModelForm):
    """A device's settings."""

    class Meta:
        model = Device
        fields = ("ae_title", "name", "name_en", "institution", "modality", "address", "port", "pinned", "may_store", "may_query",
                  "worklist", "charset", "active")  # fmt: skip
        labels: ClassVar[dict[str, Text]] = {
            "ae_title": T("AE 标题", "AE title"),
            "name": T("名称", "Name"),
            "name_en": T("英文名称", "English name"),
            "institution": T("所属机构", "Institution"),
            "modality": T("设备类型", "Modality"),
            "address": T("地址", "Address"),
            "port": T("端口", "Port"),
            "pinned": T("只接受该地址", "From this address only"),
            "may_store": T("可以存入影像", "May store"),
            "may_query": T("可以查询与调取", "May query and retrieve"),
            "worklist": T("可以取工作列表", "May fetch the worklist"),
            "charset": T("字符集", "Character set"),
            "active": T("启用", "In use"),
        }

    def __init__(self, *args: Any, scope: Scope, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        field = self.fields["institution"]
        assert isinstance(field, forms.ModelChoiceField)
        own = Q(active=True) if scope.has(SYSTEM_ADMIN) else Q(pk__in=scope.institution_ids)
        field.queryset = Institution.objects.filter(own).order_by("name")
        self.fields["charset"].widget = forms.Select(choices=[(one, one) for one in CHARSETS])
        for one in self.fields.values():
            one.error_messages["required"] = T("此项必填，请填写。", "This is required; please fill it in.")

    def clean(self) -> dict[str, Any]:
        """An address belongs to a port and to pinning."""
        data: dict[str, Any] = super().clean() or {}
        if (data.get("port") or data.get("pinned")) and not data.get("address"):
            self.add_error("address", T("请填写地址。", "Give the address."))
        return data


@page(may="run_archive")
def devices(request: HttpRequest) -> HttpResponse:
    """The devices, and who was turned away."""
    scope = _scope(request)
    rows = (
        Device.objects.filter(_mine(scope))
        .select_related("institution")
        .order_by("institution__name", "ae_title")
    )
    shown = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    knocks = Knock.objects.order_by("-last_at")[:20]
    return render(request, "archive/devices.html", {"rows": shown, "knocks": knocks, "reasons": REASONS})


REASONS = {
    "unknown": T("未登记", "Not entered"),
    "called": T("呼叫的 AE 标题不是本系统", "Called somebody else"),
    "inactive": T("已停用", "Out of use"),
    "address": T("地址不符", "From another address"),
}


@page(may="run_archive")
def device(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Enter a device or change one."""
    scope = _scope(request)
    row = get_object_or_404(Device.objects.filter(_mine(scope)), pk=pk) if pk else None
    typed = {"ae_title": request.GET.get("ae", "")[:16]} if row is None else None
    form = DeviceForm(request.POST or None, instance=row, scope=scope, initial=typed)
    if request.method == "POST" and form.is_valid():
        made = form.save(commit=False)
        if row is None:
            made.created_at = clock.now()
        made.save()
        Knock.objects.filter(calling=made.ae_title).delete()
        audit.write(
            scope, "admin", what=f"device {made.ae_title}", detail={"did": "changed" if row else "entered"}
        )
        messages.success(request, str(T("已保存。", "Saved.")))
        return redirect("archive:devices")
    status = 422 if request.method == "POST" else 200
    return render(request, "archive/device.html", {"form": form, "row": row}, status=status)


@require_POST
@page(may="run_archive")
def device_echo(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask a device whether it is there (C-ECHO)."""
    row = get_object_or_404(Device.objects.filter(_mine(_scope(request))), pk=pk)
    if echo.answered(row):
        messages.success(request, str(T("{name}有应答。", "{name} answers.").format(name=row.ae_title)))
    else:
        messages.error(request, str(T("{name}没有应答，请检查地址、端口与网络。", "{name} does not answer; check address, port and network.").format(name=row.ae_title)))  # fmt: skip
    return redirect("archive:devices")


@page(may="reconcile_images")
def waiting(request: HttpRequest) -> HttpResponse:
    """What waits for a decision."""
    scope = _scope(request)
    state = "rejected" if request.GET.get("state") == "rejected" else "quarantined"
    rows = quarantine.waiting(scope).filter(state=state).order_by("received_at", "pk")
    shown = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    lines = [
        {"study": one, "said": quarantine.said(one), "problem": PROBLEMS.get(one.problem, T("", ""))}
        for one in shown
    ]
    audit.write(scope, "search", what="quarantine", detail={"shown": len(lines)})
    return render(
        request, "archive/waiting.html", {"lines": lines, "shown": shown, "state": state, "states": STATES}
    )


@page(may="reconcile_images")
def reconcile(request: HttpRequest, pk: int) -> HttpResponse:
    """One study: what its header says, and the decision."""
    scope = _scope(request)
    study: Study | None = quarantine.waiting(scope).filter(pk=pk).first()
    if study is None:
        raise Http404
    errors: dict[str, Any] = {}
    if request.method == "POST":
        what, reason = request.POST.get("what", ""), request.POST.get("reason", "")
        try:
            if what == "attach":
                quarantine.attach(scope, pk, request.POST.get("accession", ""), reason)
                messages.success(request, str(T("已归入该患者。", "Attached.")))
            elif what == "reject":
                quarantine.reject(scope, pk, reason)
                messages.success(request, str(T("已退回。", "Rejected.")))
            elif what == "reopen":
                quarantine.reopen(scope, pk)
                messages.success(request, str(T("已重新列入待核对。", "It waits again.")))
                return redirect("archive:reconcile", pk)
            else:
                raise Refused({"": T("请选择处理方式。", "Choose what to do.")})
            return redirect("archive:quarantine")
        except Refused as refused:
            errors = refused.errors
    first = Instance.objects.filter(study=study).order_by("series__number", "number", "pk")[:6]
    audit.write(scope, "read", what=f"study {study.pk}", detail={"state": study.state})
    context = {
        "study": study, "said": quarantine.said(study), "problem": PROBLEMS.get(study.problem), "clock": CLOCKS.get(study.clock),
        "images": first, "errors": errors, "typed": request.POST,
    }  # fmt: skip
    return render(request, "archive/reconcile.html", context, status=422 if errors else 200)


@page(may="reconcile_images")
def picture(request: HttpRequest, pk: int, instance: int) -> HttpResponse:
    """A thumbnail of something that waits."""
    study = quarantine.waiting(_scope(request)).filter(pk=pk).first()
    one = Instance.objects.filter(study=study, pk=instance).first() if study is not None else None
    if one is None:
        raise Http404
    try:
        return HttpResponse(frames.thumbnail(one), content_type="image/jpeg")
    except (frames.NoFrame, Full) as error:
        raise Http404 from error
