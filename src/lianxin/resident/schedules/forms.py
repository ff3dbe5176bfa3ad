"""What a clerk types: a weekly template, one day's change, and the acts on one session."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q

from lianxin.duty.forms import REQUIRED
from lianxin.network.models import Department, Post, Practitioner
from lianxin.network.roles import CLINICAL
from lianxin.pool.models import KINDS, Resource, Template
from lianxin.resident.schedules.board import WEEKDAYS
from lianxin.standards import clock
from lianxin.standards.text import T, Text

CLINIC_TYPES = ("普通", "专家", "专科", "急诊", "加班")
NUMBER = {"invalid": T("请填整数。", "A whole number, please."), **REQUIRED}
LONGEST = 1440
_DATE = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
_TIME = forms.TimeInput(attrs={"type": "time"}, format="%H:%M")


def doctors(institutions: Iterable[int]) -> Any:
    """Doctors with a live clinical post at one of the institutions."""
    ids = Post.objects.live().filter(institution_id__in=list(institutions), role__in=CLINICAL)
    return Practitioner.objects.filter(pk__in=ids.values("practitioner_id"), active=True).order_by(
        "pinyin", "pk"
    )


class _Doctor(forms.ModelChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        """Name and title."""
        return f"{obj.label} {obj.title}".strip()


class _Named(forms.ModelChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        """The name in the reader's language."""
        return str(obj.label)


class _Place(forms.ModelChoiceField):
    def label_from_instance(self, obj: Any) -> str:
        """Institution and department or device."""
        return f"{obj.institution.label} · {obj.label}"


def _number(label: Text, *, low: int = 0, high: int = 500, help_text: Any = "", initial: int | None = None,
            required: bool = True) -> forms.IntegerField:  # fmt: skip
    return forms.IntegerField(
        label=label, min_value=low, max_value=high, help_text=help_text, initial=initial, required=required,
        error_messages={**NUMBER, "min_value": T("不能小于 %(limit_value)s。", "Not below %(limit_value)s."),
                        "max_value": T("不能大于 %(limit_value)s。", "Not above %(limit_value)s.")},
    )  # fmt: skip


def _reason(required: bool = True) -> forms.CharField:
    return forms.CharField(
        label=T("理由", "Reason"), max_length=200, min_length=2 if required else None, required=required,
        error_messages={**REQUIRED, "min_length": T("请写明理由（至少 2 个字）。", "Please say why (2 characters at least).")},
    )  # fmt: skip


class TemplateForm(forms.Form):
    """A weekly pattern. A new one may stand on several weekdays: one template is kept for each."""

    department = _Place(Department.objects.none(), label=T("科室", "Department"), error_messages=REQUIRED)
    kind = forms.ChoiceField(label=T("种类", "Kind"), choices=list(KINDS.items()), initial="clinic")
    practitioner = _Doctor(
        Practitioner.objects.none(), label=T("医生", "Doctor"), required=False,
        help_text=T("不选即为科室普通号。", "Nobody: the department's own numbers."),
    )  # fmt: skip
    resource = _Place(
        Resource.objects.none(), label=T("设备", "Device"), required=False,
        help_text=T("检查场次须选设备。", "An examination session needs its device."),
    )  # fmt: skip
    clinic_type = forms.ChoiceField(
        label=T("号别", "Clinic type"), choices=[(c, c) for c in CLINIC_TYPES], initial="普通"
    )
    weekdays = forms.TypedMultipleChoiceField(
        label=T("星期", "Weekdays"), coerce=int, choices=[(n, d) for n, d in enumerate(WEEKDAYS)],
        widget=forms.CheckboxSelectMultiple, error_messages=REQUIRED,
    )  # fmt: skip
    weeks = forms.ChoiceField(
        label=T("单双周", "Weeks"), choices=list(Template.WEEKS.items()), required=False,
        help_text=T("按一年中的第几周（ISO 周）算单双。", "By the ISO week of the year."),
    )  # fmt: skip
    start = forms.TimeField(
        label=T("开始", "From"), widget=_TIME, initial=dt.time(8), error_messages=REQUIRED
    )
    end = forms.TimeField(
        label=T("结束", "To"), widget=_TIME, initial=dt.time(11, 30), error_messages=REQUIRED
    )
    capacity = _number(
        T("号数", "Numbers"), low=1, initial=20,
        help_text=T("时段按号数均分，每号一个时间。", "The time is divided evenly: each number has its own."),
    )  # fmt: skip
    reserved_county = _number(
        T("为县级及以下预留", "Kept for the county and below"), initial=0,
        help_text=T("其中包含乡镇和村级的预留。", "Those for townships and villages are part of it."),
    )  # fmt: skip
    reserved_township = _number(
        T("其中乡镇及以下", "of these for townships and below"), initial=0,
        help_text=T("含村级预留，不超过上一项。", "Villages included; not more than the line above."),
    )  # fmt: skip
    reserved_village = _number(
        T("其中村级", "of these for villages"), initial=0,
        help_text=T("不超过上一项。", "Not more than the line above."),
    )  # fmt: skip
    release_days = _number(
        T("提前几个工作日释放预留", "Kept numbers are released (working days before)"), high=30, initial=1
    )
    release_time = forms.TimeField(
        label=T("释放时刻", "Release time"), widget=_TIME, initial=dt.time(17), error_messages=REQUIRED
    )
    opens_days = _number(T("提前几天放号", "Numbers open (days before)"), high=180, initial=14)
    opens_time = forms.TimeField(
        label=T("放号时刻", "Opening time"), widget=_TIME, initial=dt.time(7), error_messages=REQUIRED
    )
    fee = forms.DecimalField(
        label=T("挂号费（元）", "Fee (yuan)"), min_value=0, max_value=10_000, decimal_places=2, initial=Decimal("0"),
        error_messages=REQUIRED,
    )  # fmt: skip
    holidays = forms.BooleanField(label=T("节假日也出诊", "Also on holidays"), required=False)
    since = forms.DateField(label=T("自何日起", "From day"), widget=_DATE, error_messages=REQUIRED)
    until = forms.DateField(
        label=T("至何日前（不含）", "Until (that day not included)"), widget=_DATE, required=False
    )

    def __init__(
        self, *args: Any, institutions: frozenset[int], template: Template | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.institutions, self.template = institutions, template
        self.own: dict[str, Any] = {
            "department": Department.objects.filter(institution_id__in=institutions, active=True)
            .select_related("institution")
            .order_by("institution__code", "code"),
            "practitioner": doctors(institutions),
            "resource": Resource.objects.filter(
                institution_id__in=institutions, kind__in=["device", "room"], active=True
            )
            .select_related("institution")
            .order_by("institution__code", "code"),
        }
        for name, rows in self.own.items():
            field = self.fields[name]
            assert isinstance(field, forms.ModelChoiceField)
            if template is not None:
                rows = rows | rows.model.objects.filter(pk=getattr(template, f"{name}_id"))
                rows = rows.distinct() if name != "practitioner" else rows
            field.queryset = rows
        if template is not None:
            self.fields["weekdays"].choices = [  # type: ignore[attr-defined]
                (template.weekday, WEEKDAYS[template.weekday])
            ]
        if template is not None and template.clinic_type not in CLINIC_TYPES:
            field = self.fields["clinic_type"]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [*((c, c) for c in CLINIC_TYPES), (template.clinic_type, template.clinic_type)]

    @classmethod
    def initial_of(cls, template: Template) -> dict[str, Any]:
        """A template's values as the form shows them."""
        names = [
            n
            for n in cls.base_fields
            if n not in ("weekdays", "fee", "department", "practitioner", "resource")
        ]
        return {
            **{n: getattr(template, n) for n in names},
            "department": template.department_id, "practitioner": template.practitioner_id, "resource": template.resource_id,
            "weekdays": [template.weekday], "fee": Decimal(template.fee_fen) / 100,
        }  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Times, quotas and days fit together; the doctor is of the department's institution and free then."""
        data = super().clean() or {}
        start, end = data.get("start"), data.get("end")
        if start and end and end <= start:
            self.add_error("end", T("结束须晚于开始。", "It must end after it begins."))
        kept = [data.get(f"reserved_{t}") for t in ("county", "township", "village")]
        capacity = data.get("capacity")
        if capacity is not None and None not in kept:
            county, township, village = (int(k or 0) for k in kept)
            if county > capacity:
                self.add_error("reserved_county", T("预留不能多于号数。", "Not more than all the numbers."))
            if township > county:
                self.add_error("reserved_township", T("不能多于上一项。", "Not more than the line above."))
            if village > township:
                self.add_error("reserved_village", T("不能多于上一项。", "Not more than the line above."))
            if start and end and start < end:
                minutes = (end.hour - start.hour) * 60 + end.minute - start.minute
                if minutes < capacity:
                    self.add_error(
                        "capacity",
                        T("每个号不足 1 分钟，请减少号数或延长时间。", "Less than a minute each: fewer numbers or more time."),
                    )  # fmt: skip
        since, until = data.get("since"), data.get("until")
        if since and until and until <= since:
            self.add_error("until", T("须晚于起始日。", "It must be after the first day."))
        self._whose(data)
        if not self.errors:
            self._apart(data)
        return data

    def _whose(self, data: dict[str, Any]) -> None:
        department, doctor, device = data.get("department"), data.get("practitioner"), data.get("resource")
        if department is None:
            return
        kept = self.template is not None and doctor is not None and self.template.practitioner_id == doctor.pk
        if (
            doctor is not None
            and not kept
            and not doctors([department.institution_id]).filter(pk=doctor.pk).exists()
        ):
            self.add_error(
                "practitioner", T("该医生不在此机构任职。", "This doctor has no post at this institution.")
            )
        if data.get("kind") == "exam" and device is None:
            self.add_error("resource", T("检查场次须选设备。", "An examination session needs its device."))
        if device is not None and device.institution_id != department.institution_id:
            self.add_error(
                "resource", T("该设备不属于此机构。", "This device belongs to another institution.")
            )

    def _apart(self, data: dict[str, Any]) -> None:
        """No other template of the same doctor (or device) at an overlapping time of the same weekday, weeks and days."""
        who = Q()
        if data["practitioner"] is not None:
            who |= Q(practitioner=data["practitioner"])
        if data["resource"] is not None:
            who |= Q(resource=data["resource"])
        if not who:
            return
        others = Template.objects.filter(
            who, weekday__in=data["weekdays"], start__lt=data["end"], end__gt=data["start"]
        ).filter(Q(until__isnull=True) | Q(until__gt=data["since"]))
        if data["until"] is not None:
            others = others.filter(since__lt=data["until"])
        if data["weeks"]:
            others = others.filter(weeks__in=["", data["weeks"]])
        if self.template is not None:
            others = others.exclude(pk=self.template.pk)
        other = others.select_related("department").first()
        if other is not None:
            raise ValidationError(
                T(
                    "与已有模板冲突：{day} {start:%H:%M}–{end:%H:%M} {department}。请先结束或改动那一条。",
                    "It collides with another template: {day} {start:%H:%M}–{end:%H:%M} {department}. End or change that one first.",
                ).format(
                    day=WEEKDAYS[other.weekday], start=other.start, end=other.end, department=other.department.label
                )
            )  # fmt: skip

    def values(self) -> dict[str, Any]:
        """The fields of a template, without its weekday."""
        data = dict(self.cleaned_data)
        fee = data.pop("fee")
        data.pop("weekdays")
        return {**data, "institution_id": data["department"].institution_id, "fee_fen": int(fee * 100)}


class DayForm(forms.Form):
    """What differs on one day: leave, a substitute, more or fewer numbers."""

    day = forms.DateField(label=T("日期", "Day"), widget=_DATE, error_messages=REQUIRED)
    off = forms.BooleanField(label=T("当天不出诊", "Off that day"), required=False)
    practitioner = _Doctor(Practitioner.objects.none(), label=T("替诊医生", "Substitute"), required=False)
    capacity = _number(T("当天号数", "Numbers that day"), low=1, required=False)
    reason = _reason()

    def __init__(self, *args: Any, template: Template, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.fields["practitioner"].queryset = doctors([template.institution_id])  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """A day ahead, and something that differs."""
        data = super().clean() or {}
        day = data.get("day")
        if day is not None and not clock.today() <= day <= clock.today() + dt.timedelta(days=370):
            self.add_error("day", T("须在今天起一年内。", "It must lie within the year from today on."))
        if not data.get("off") and not data.get("practitioner") and not data.get("capacity"):
            raise ValidationError(
                T(
                    "请选停诊、替诊医生或号数中的一项。",
                    "Choose off, a substitute or another number of numbers.",
                )
            )
        if data.get("off") and (data.get("practitioner") or data.get("capacity")):
            raise ValidationError(
                T("当天不出诊时不必再选替诊或号数。", "When it is off there is no substitute and no numbers.")
            )
        return data


class ExtraForm(forms.Form):
    """Extra numbers for whoever comes."""

    count = _number(T("加几个号", "How many"), low=1, high=50, initial=1)
    reason = _reason()


class ForPatientForm(forms.Form):
    """An extra number for one patient."""

    person = forms.CharField(
        label=T("患者", "Patient"), max_length=40, error_messages=REQUIRED,
        help_text=T("扫健康卡，或输证件号、个人号。", "Scan the health card, or type an ID or person number."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    reason = _reason()


class QuotasForm(forms.Form):
    """What a session keeps for each tier."""

    county = _number(T("为县级及以下预留", "Kept for the county and below"))
    township = _number(T("其中乡镇及以下", "of these for townships and below"))
    village = _number(T("其中村级", "of these for villages"))
    reason = _reason()


class FewerForm(forms.Form):
    """Free numbers taken off the end."""

    count = _number(T("减几个号", "How many"), low=1, high=500, initial=1)
    reason = _reason()


class SubstituteForm(forms.Form):
    """Another doctor for a session."""

    practitioner = _Doctor(
        Practitioner.objects.none(), label=T("替诊医生", "Substitute"), error_messages=REQUIRED
    )
    keep = forms.BooleanField(
        label=T("已预约者保留原号，由替诊医生接诊", "Those who have booked keep their numbers and see the substitute"),
        required=False,
    )  # fmt: skip
    reason = _reason()

    def __init__(self, *args: Any, institution_id: int, taken: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        self.fields["practitioner"].queryset = doctors([institution_id])  # type: ignore[attr-defined]
        if taken:
            self.fields["keep"].required = True
            self.fields["keep"].error_messages = {
                "required": T(
                    "已有 {n} 个号被预约：请确认保留原号，或改用停诊。",
                    "{n} numbers are booked: say that they are kept, or stop the session instead.",
                ).format(n=taken)
            }
        else:
            del self.fields["keep"]


class ReasonForm(forms.Form):
    """A reason alone."""

    reason = _reason()


class CopyForm(forms.Form):
    """Which week, how many weeks on."""

    weeks = _number(T("复制到几周之后", "To how many weeks later"), low=1, high=26, initial=1)
