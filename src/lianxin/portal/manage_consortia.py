"""Administration of consortia: facts and lead, members, agreements (the rules have their own page, ``manage_rules``)."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.duty import clocks
from lianxin.network import kinds
from lianxin.network.models import Agreement, Consortium, Institution, Membership, live
from lianxin.network.roles import MANAGER, SYSTEM_ADMIN
from lianxin.portal.forms import BLANK, UNTIL_FIRST, Day, HouseForm, HouseModelForm, code_field
from lianxin.standards import clock
from lianxin.standards.text import T


def _choosable() -> Any:
    """Institutions that join and sign by themselves: in use, and no village clinics (they follow their township)."""
    return Institution.objects.filter(active=True).exclude(kind="village").order_by("code")


class ConsortiumForm(HouseModelForm):
    """A consortium's facts; its lead is a member by that alone."""

    code = code_field(
        T("字母、数字和短横线，一经建立不再更改。", "Letters, digits and hyphens; never changed later.")
    )
    form = forms.ChoiceField(label=T("形式", "Form"), choices=lambda: [BLANK, *kinds.FORMS.items()])
    lead = forms.ModelChoiceField(
        label=T("牵头单位", "Lead"), queryset=Institution.objects.none(), empty_label="—"
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
    founded = forms.DateField(label=T("成立日期", "Founded"), required=False, widget=Day())

    class Meta:
        model = Consortium
        fields = ("name", "code", "name_en", "form", "lead", "division", "founded")
        labels = {"name": T("名称", "Name"), "name_en": T("英文名", "English name")}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        lead = self.fields["lead"]
        assert isinstance(lead, forms.ModelChoiceField)
        lead.queryset = _choosable() | Institution.objects.filter(pk=self.instance.lead_id)
        if self.instance.pk:
            self.fields["code"].disabled = True


class _PeriodForm(HouseForm):
    """From a day, perhaps until one."""

    def clean(self) -> dict[str, Any]:
        """The end may not lie before the beginning."""
        data = super().clean() or {}
        if data.get("since") and data.get("until") and data["until"] < data["since"]:
            self.add_error("until", ValidationError(UNTIL_FIRST))
        return data


class MemberForm(_PeriodForm):
    """An institution that joins."""

    institution = forms.ModelChoiceField(
        label=T("机构", "Institution"),
        queryset=Institution.objects.none(),
        empty_label="—",
        help_text=T(
            "村卫生室随其卫生院加入，不必单列。",
            "Village clinics join with their township; they are not listed.",
        ),
    )
    role = forms.ChoiceField(
        label=T("身份", "Role"),
        choices=lambda: [(k, v) for k, v in kinds.MEMBER_ROLES.items() if k != "lead"],
        initial="member",
        help_text=T("要换牵头单位，请在上面修改。", "To change the lead, edit the facts."),
    )
    since = forms.DateField(label=T("加入日期", "From"), widget=Day(), initial=clock.today)

    def __init__(self, *args: Any, consortium: Consortium, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="member_%s", **kwargs)
        inside = Membership.objects.filter(consortium=consortium, until__isnull=True).values("institution_id")
        field = self.fields["institution"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = _choosable().exclude(pk__in=inside)
        field.error_messages["invalid_choice"] = T(
            "该机构已是成员，或已停用；请另选。", "It is a member already, or closed; choose another."
        )


class AgreementForm(_PeriodForm):
    """A cooperation two institutions signed."""

    number = forms.CharField(label=T("协议编号", "Number"), max_length=60)
    kind = forms.ChoiceField(label=T("类别", "Kind"), choices=lambda: [BLANK, *kinds.AGREEMENTS.items()])
    party_a = forms.ModelChoiceField(
        label=T("甲方", "Party A"), queryset=Institution.objects.none(), empty_label="—"
    )
    party_b = forms.ModelChoiceField(
        label=T("乙方", "Party B"), queryset=Institution.objects.none(), empty_label="—"
    )
    since = forms.DateField(label=T("生效日期", "From"), widget=Day(), initial=clock.today)
    until = forms.DateField(
        label=T("截止日期", "Until"),
        required=False,
        widget=Day(),
        help_text=T("留空表示长期", "Empty for open-ended"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="agreement_%s", **kwargs)
        for name in ("party_a", "party_b"):
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            field.queryset = _choosable()

    def clean_number(self) -> str:
        """A number names one agreement."""
        number = self.cleaned_data["number"].strip()
        if Agreement.objects.filter(number=number).exists():
            raise ValidationError(
                T("已有此编号的协议，请核对编号。", "An agreement has this number; check it.")
            )
        return number

    def clean(self) -> dict[str, Any]:
        """Two parties are two institutions."""
        data = super().clean()
        if data.get("party_a") and data.get("party_a") == data.get("party_b"):
            self.add_error(
                "party_b",
                ValidationError(
                    T("甲乙双方不能是同一家机构，请另选。", "Both parties are the same; choose another.")
                ),
            )
        return data


@page(SYSTEM_ADMIN, MANAGER)
def consortia(request: HttpRequest) -> HttpResponse:
    """Every consortium with its form, lead and how many belong to it."""
    rows = Consortium.objects.select_related("lead").annotate(
        members=Count("memberships", filter=live(prefix="memberships__"), distinct=True),
        signed=Count("agreements", filter=live(prefix="agreements__"), distinct=True),
    )
    context = {"lines": rows.order_by("code"), "may_write": request.scope.has(SYSTEM_ADMIN)}
    return render(request, "portal/manage/consortia.html", context)


def _lead(consortium: Consortium) -> None:
    """Make the live memberships say who leads: the former lead stays as a member, the new one is the lead."""
    today = clock.today()
    open_ = Membership.objects.filter(consortium=consortium, until__isnull=True)
    open_.filter(role="lead").exclude(institution=consortium.lead).update(role="member")
    if not open_.filter(institution=consortium.lead).update(role="lead"):
        since = min(consortium.founded or today, today)
        Membership.objects.create(
            consortium=consortium, institution=consortium.lead, role="lead", since=since
        )


@page(SYSTEM_ADMIN)
def consortium_edit(request: HttpRequest, code: str | None = None) -> HttpResponse:
    """Make or change a consortium; members and agreements stand below the facts."""
    row = get_object_or_404(Consortium, code=code) if code else Consortium()
    form = ConsortiumForm(request.POST if request.method == "POST" else None, instance=row)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            row = form.save()
            _lead(row)
            audit.write(
                request.scope, "admin", what=f"consortium {row.code}", detail={"changed": form.changed_data}
            )
        clocks.forget_overrides()
        messages.success(request, T("已保存：{n}", "Saved: {n}").format(n=row.label))
        return redirect("portal:manage_consortium", row.code)
    return _show(request, row, form)


def _show(
    request: HttpRequest,
    row: Consortium,
    form: ConsortiumForm | None = None,
    member_form: MemberForm | None = None,
    agreement_form: AgreementForm | None = None,
) -> HttpResponse:
    context: dict[str, Any] = {"form": form or ConsortiumForm(instance=row), "row": None}
    if row.pk:
        today = clock.today()
        holds = Q(until__isnull=True) | Q(until__gt=today)
        found = row.memberships.filter(holds).select_related("institution")
        inside = sorted(found, key=lambda m: (m.role != "lead", m.role != "branch", m.institution.code))
        context |= {
            "row": Consortium.objects.select_related("lead").get(pk=row.pk),
            "members": [m for m in inside if m.institution.kind != "village"],
            "clinics": [m for m in inside if m.institution.kind == "village"],
            "left": row.memberships.exclude(holds).select_related("institution").order_by("-until"),
            "agreements": row.agreements.select_related("party_a", "party_b").order_by("number"),
            "member_roles": kinds.MEMBER_ROLES,
            "agreement_kinds": kinds.AGREEMENTS,
            "today": today,
            "member_form": member_form or MemberForm(consortium=row),
            "agreement_form": agreement_form or AgreementForm(),
            "rules_set": len((row.rules or {}).get("referral", {})),
        }
    return render(request, "portal/manage/consortium.html", context)


@page(SYSTEM_ADMIN)
@require_POST
def member_add(request: HttpRequest, code: str) -> HttpResponse:
    """An institution joins."""
    row = get_object_or_404(Consortium, code=code)
    form = MemberForm(request.POST, consortium=row)
    if form.is_valid():
        data = form.cleaned_data
        try:
            with transaction.atomic():
                Membership.objects.create(
                    consortium=row, institution=data["institution"], role=data["role"], since=data["since"]
                )
                audit.write(
                    request.scope,
                    "admin",
                    what=f"consortium {row.code} member added",
                    detail={"institution": data["institution"].code, "role": data["role"]},
                )
        except IntegrityError:
            form.add_error(
                "institution",
                ValidationError(
                    T("刚刚已有人加入该机构，请刷新。", "Somebody has just added it; reload the page.")
                ),
            )
        else:
            clocks.forget_overrides()
            messages.success(request, T("已加入：{n}", "Added: {n}").format(n=data["institution"].label))
            return redirect("portal:manage_consortium", row.code)
    return _show(request, row, member_form=form)


def _end(row: Membership | Agreement) -> dt.date:
    row.until = max(clock.today(), row.since)
    row.save(update_fields=["until"])
    return row.until


@page(SYSTEM_ADMIN)
@require_POST
def member_end(request: HttpRequest, pk: int) -> HttpResponse:
    """An institution leaves today; cases already under way go on. The lead cannot leave: another takes over first."""
    row = get_object_or_404(
        Membership.objects.select_related("consortium", "institution"), pk=pk, until__isnull=True
    )
    if row.role == "lead":
        messages.error(
            request,
            T("牵头单位不能退出，请先更换牵头单位。", "The lead cannot leave; name another lead first."),
        )
        return redirect("portal:manage_consortium", row.consortium.code)
    with transaction.atomic():
        _end(row)
        audit.write(
            request.scope,
            "admin",
            what=f"consortium {row.consortium.code} member ended",
            detail={"institution": row.institution.code},
        )
    clocks.forget_overrides()
    messages.success(request, T("已退出：{n}", "Left: {n}").format(n=row.institution.label))
    return redirect("portal:manage_consortium", row.consortium.code)


@page(SYSTEM_ADMIN)
@require_POST
def agreement_add(request: HttpRequest, code: str) -> HttpResponse:
    """Two institutions signed something."""
    row = get_object_or_404(Consortium, code=code)
    form = AgreementForm(request.POST)
    if not form.is_valid():
        return _show(request, row, agreement_form=form)
    with transaction.atomic():
        made = Agreement.objects.create(consortium=row, **form.cleaned_data)
        audit.write(request.scope, "admin", what=f"agreement {made.number}", detail={"consortium": row.code})
    messages.success(request, T("协议已登记：{n}", "Agreement recorded: {n}").format(n=made.number))
    return redirect("portal:manage_consortium", row.code)


@page(SYSTEM_ADMIN)
@require_POST
def agreement_end(request: HttpRequest, pk: int) -> HttpResponse:
    """An agreement ends today."""
    holds = Q(until__isnull=True) | Q(until__gt=clock.today())
    row = get_object_or_404(
        Agreement.objects.select_related("consortium").filter(holds, consortium__isnull=False), pk=pk
    )
    assert row.consortium is not None
    with transaction.atomic():
        _end(row)
        audit.write(request.scope, "admin", what=f"agreement {row.number} ended")
    messages.success(request, T("协议已终止：{n}", "Agreement ended: {n}").format(n=row.number))
    return redirect("portal:manage_consortium", row.consortium.code)
