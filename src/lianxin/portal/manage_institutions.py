"""Administration of institutions and their departments (system administrator writes, consortium office reads)."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.network import directory, kinds
from lianxin.network.models import Capability, Department, Institution, Membership, live
from lianxin.network.roles import MANAGER, SYSTEM_ADMIN
from lianxin.portal.capability_form import CapabilityForm
from lianxin.portal.forms import BLANK, HouseModelForm, code_field
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 40


class InstitutionForm(HouseModelForm):
    """An institution; the rules are the model's own, said beside the field."""

    code = code_field(
        T("字母、数字和短横线，一经建立不再更改。", "Letters, digits and hyphens; never changed later.")
    )

    class Meta:
        model = Institution
        fields = (
            "name", "code", "short_name", "name_en", "kind", "tier", "level", "ownership", "parent", "division",
            "uscc", "phone", "lon", "lat", "address", "active",
        )  # fmt: skip
        labels = {
            "name": T("全称", "Full name"),
            "short_name": T("简称", "Short name"),
            "name_en": T("英文名", "English name"),
            "kind": T("类别", "Kind"),
            "tier": T("层级", "Tier"),
            "level": T("等级", "Level"),
            "ownership": T("所有制", "Ownership"),
            "parent": T("上级机构", "Belongs to"),
            "division": T("行政区划代码", "Division code"),
            "uscc": T("统一社会信用代码", "Unified social credit code"),
            "lon": T("经度", "Longitude"),
            "lat": T("纬度", "Latitude"),
            "address": T("地址", "Address"),
            "phone": T("电话", "Phone"),
            "active": T("正在使用", "In use"),
        }
        help_texts = {
            "level": T("例如 三级甲等", "For example 三级甲等 (grade III, class A)"),
            "division": T("六位，例如 331023", "Six digits, for example 331023"),
            "parent": T(
                "村卫生室必填：所属卫生院或社区中心",
                "A village clinic must name its township or community centre",
            ),
            "active": T(
                "停用后不再接收转诊，历史记录不变。", "Once closed it receives no referrals; history stays."
            ),
        }
        field_classes: dict[str, Any] = {}

    kind = forms.ChoiceField(label=T("类别", "Kind"), choices=lambda: [BLANK, *kinds.KINDS.items()])
    tier = forms.ChoiceField(label=T("层级", "Tier"), choices=lambda: [BLANK, *kinds.TIERS.items()])
    ownership = forms.ChoiceField(
        label=T("所有制", "Ownership"), choices=lambda: list(kinds.OWNERSHIPS.items())
    )
    division = forms.RegexField(
        r"^\d{6}$",
        required=False,
        label=T("行政区划代码", "Division code"),
        help_text=T("六位数字，例如 331023", "Six digits, for example 331023"),
        error_messages={
            "invalid": T("区划代码是六位数字，请核对。", "A division code has six digits; please check.")
        },
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        parents = Institution.objects.exclude(kind="village").filter(active=True)
        parent = self.fields["parent"]
        assert isinstance(parent, forms.ModelChoiceField)
        parent.queryset = parents.exclude(pk=self.instance.pk) if self.instance.pk else parents
        parent.empty_label = "—"
        if self.instance.pk:
            self.fields["code"].disabled = True

    def clean_uscc(self) -> str | None:
        """Empty means none (the column is unique)."""
        return self.cleaned_data.get("uscc") or None


class DepartmentForm(HouseModelForm):
    """A department of one institution."""

    code = code_field(T("在本机构内唯一", "Unique within the institution"))

    class Meta:
        model = Department
        fields = ("name", "code", "name_en", "specialty", "active")
        labels = {
            "name": T("科室名称", "Name"),
            "name_en": T("英文名", "English name"),
            "specialty": T("诊疗科目代码", "Specialty code"),
            "active": T("正在使用", "In use"),
        }
        help_texts = {
            "specialty": T(
                "例如 03 内科，03.04 心血管内科", "For example 03 internal medicine, 03.04 cardiology"
            )
        }

    def clean_code(self) -> str:
        """Refuse a code the institution already uses."""
        code = self.cleaned_data["code"]
        taken = Department.objects.filter(institution=self.instance.institution, code=code).exclude(
            pk=self.instance.pk
        )
        if taken.exists():
            raise ValidationError(
                T(
                    "本机构已有此科室代码，请换一个。",
                    "The institution already has this code; choose another.",
                )
            )
        return code


@page(SYSTEM_ADMIN, MANAGER)
def institutions(request: HttpRequest) -> HttpResponse:
    """The list, filtered by words, kind and tier."""
    rows = Institution.objects.select_related("parent").annotate(
        staff=Count("posts__practitioner", filter=live(prefix="posts__"), distinct=True)
    )
    query, kind, tier = (request.GET.get(k, "").strip() for k in ("q", "kind", "tier"))
    if query:
        low = query.lower()
        rows = rows.filter(
            Q(name__icontains=query)
            | Q(code__icontains=query)
            | Q(pinyin__contains=low)
            | Q(initials__contains=low)
        )
    if kind in kinds.KINDS:
        rows = rows.filter(kind=kind)
    if tier in kinds.TIERS:
        rows = rows.filter(tier=tier)
    context = {
        "lines": Paginator(rows.order_by("code"), PAGE).get_page(request.GET.get("page")),
        "kinds": kinds.KINDS.items(),
        "tiers": kinds.TIERS.items(),
        "q": query,
        "kind": kind,
        "tier": tier,
        "may_write": request.scope.has(SYSTEM_ADMIN),
    }
    return render(request, "portal/manage/institutions.html", context)


@page(SYSTEM_ADMIN)
def institution_edit(request: HttpRequest, code: str | None = None) -> HttpResponse:
    """Make or change an institution."""
    inst = get_object_or_404(Institution, code=code) if code else Institution()
    form = InstitutionForm(request.POST if request.method == "POST" else None, instance=inst)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            inst = form.save()
            audit.write(
                request.scope, "admin", what=f"institution {inst.code}", detail={"changed": form.changed_data}
            )
        messages.success(request, T("已保存：{n}", "Saved: {n}").format(n=inst.label))
        return redirect("portal:manage_institution", inst.code)
    return show(request, inst, form)


def show(
    request: HttpRequest,
    inst: Institution,
    form: InstitutionForm | None = None,
    capability_form: CapabilityForm | None = None,
) -> HttpResponse:
    """An institution's page of administration; a form that was refused stands there as it was typed."""
    context: dict[str, Any] = {"form": form or InstitutionForm(instance=inst), "inst": None}
    if inst.pk:
        capabilities = list(inst.capabilities.filter(live()).order_by("kind", "code"))
        context |= {
            "inst": inst,
            "departments": inst.departments.order_by("code"),
            "memberships": Membership.objects.live().filter(institution=inst).select_related("consortium"),
            "below": directory.descendants(inst),
            "capabilities": [(c, kinds.CAPABILITIES[c.kind]) for c in capabilities],
            "capability_form": capability_form or CapabilityForm(),
        }
    return render(request, "portal/manage/institution.html", context)


@page(SYSTEM_ADMIN)
def department_edit(request: HttpRequest, code: str, department: str | None = None) -> HttpResponse:
    """Make or change a department of an institution."""
    inst = get_object_or_404(Institution, code=code)
    row = get_object_or_404(inst.departments, code=department) if department else Department(institution=inst)
    form = DepartmentForm(request.POST if request.method == "POST" else None, instance=row)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            row = form.save()
            audit.write(
                request.scope,
                "admin",
                what=f"department {inst.code}/{row.code}",
                detail={"changed": form.changed_data},
            )
        messages.success(request, T("已保存：{n}", "Saved: {n}").format(n=row.label))
        return redirect("portal:manage_institution", inst.code)
    return render(
        request, "portal/manage/department.html", {"form": form, "inst": inst, "row": row if row.pk else None}
    )


@page(SYSTEM_ADMIN)
@require_POST
def capability_add(request: HttpRequest, code: str) -> HttpResponse:
    """Record something an institution can do."""
    inst = get_object_or_404(Institution, code=code)
    form = CapabilityForm(request.POST)
    if form.is_valid():
        try:
            with transaction.atomic():
                row = Capability.objects.create(institution=inst, **form.cleaned_data)
                audit.write(
                    request.scope,
                    "admin",
                    what=f"capability {inst.code}/{row.kind}/{row.code}",
                    detail={"since": row.since.isoformat()},
                )
        except IntegrityError:
            form.add_error(
                "code",
                ValidationError(
                    T(
                        "该机构已登记此能力；先终止原来的再登记。",
                        "It is recorded already; end that one first.",
                    )
                ),
            )
        else:
            messages.success(request, T("已登记：{n}", "Recorded: {n}").format(n=row.label))
            return redirect("portal:manage_institution", inst.code)
    return show(request, inst, capability_form=form)


@page(SYSTEM_ADMIN)
@require_POST
def capability_end(request: HttpRequest, pk: int) -> HttpResponse:
    """From today the institution no longer does this; referrals under way go on."""
    row = get_object_or_404(Capability.objects.live().select_related("institution"), pk=pk)
    with transaction.atomic():
        row.until = max(clock.today(), row.since)
        row.save(update_fields=["until"])
        audit.write(
            request.scope, "admin", what=f"capability {row.institution.code}/{row.kind}/{row.code} ended"
        )
    messages.success(request, T("已终止：{n}", "Ended: {n}").format(n=row.label))
    return redirect("portal:manage_institution", row.institution.code)
