"""Forms of a consultation's moves."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms

from lianxin.duty.forms import REQUIRED, MoveForm, words
from lianxin.network.models import Department
from lianxin.regional.consult import pool
from lianxin.regional.consult.models import HOW, MODES
from lianxin.standards import clock
from lianxin.standards.text import T, Text

DECLINE: dict[str, Text] = {
    "busy": T("正在手术或抢救，无法脱身", "In theatre or with an emergency"),
    "away": T("不在岗", "Off duty"),
    "specialty": T("非本专业，建议改派", "Not my specialty; assign another"),
    "material": T("资料不足以会诊", "Not enough material to advise on"),
    "other": T("其他", "Other"),
}
NO_SHOW: dict[str, Text] = {
    "expert": T("专家方未到", "The experts were not there"),
    "requester": T("申请方未到", "The requester was not there"),
    "both": T("双方均未到", "Neither was there"),
    "network": T("网络或设备故障", "Network or equipment failed"),
}
ACTIONS: dict[str, Text] = {
    "followed": T("按意见处理", "Treated as advised"),
    "partly": T("部分采纳", "Partly followed"),
    "referred": T("已转诊", "Referred"),
    "not": T("未采纳", "Not followed"),
    "died": T("患者死亡或放弃治疗", "The patient died or refused treatment"),
}


def when(label: Text, *, required: bool = False) -> forms.DateTimeField:
    """A day and a time, as browsers' date boxes give them."""
    return forms.DateTimeField(
        label=label, required=required, error_messages=REQUIRED,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S"],
    )  # fmt: skip


class TableForm(MoveForm):
    """Who is asked: experts of the pool, or a department. The first is the host. ``scheduled_at`` is demanded of a booked consultation."""

    experts = forms.MultipleChoiceField(
        label=T("专家（第一位为主持）", "Experts (the first is the host)"), required=False, widget=forms.CheckboxSelectMultiple
    )  # fmt: skip
    host = forms.ChoiceField(label=T("主持专家", "Host"), required=False)
    department = forms.ChoiceField(
        label=T("或指定科室（由值班医生接）", "Or a department (whoever is on duty)"), required=False
    )
    scheduled_at = when(T("会诊时间（预约会诊必填）", "When (of a booked consultation)"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        found = pool.choices()
        self.fields["experts"].choices = found  # type: ignore[attr-defined]
        self.fields["host"].choices = [("", T("按勾选顺序的第一位", "The first chosen")), *found]  # type: ignore[attr-defined]
        self.fields["department"].choices = [("", "—"), *pool.departments()]  # type: ignore[attr-defined]

    def table(self, data: dict[str, Any], *, required: bool) -> dict[str, Any]:
        """The chosen ids with the host first; errors when nobody or too many are chosen."""
        chosen = [int(e) for e in data.get("experts") or []]
        if data.get("host"):
            first = int(data["host"])
            chosen = [first, *(e for e in chosen if e != first)]
        data["experts"] = chosen
        if required and not chosen and not data.get("department"):
            self.add_error("experts", T("请选择专家或科室。", "Choose an expert or a department."))
        if chosen and data.get("department"):
            self.add_error(
                "department", T("专家与科室只能选一种。", "Choose experts or a department, not both.")
            )
        if len(chosen) > 6:
            self.add_error("experts", T("一次会诊最多 6 位专家。", "At most 6 experts in one consultation."))
        data["department"] = int(data["department"]) if data.get("department") else None
        return data

    def timely(self, data: dict[str, Any], mode: str, *, demanded: bool) -> None:
        """A booked consultation needs a time to come."""
        at = data.get("scheduled_at")
        if mode == "booked" and at is None and demanded:
            self.add_error("scheduled_at", T("预约会诊须约定时间。", "A booked consultation needs its time."))
        if at is not None and at < clock.now() - dt.timedelta(minutes=5):
            self.add_error(
                "scheduled_at",
                T("约定时间已过，请选择将来的时间。", "This time is past; choose one to come."),
            )


class RequestForm(TableForm):
    """What the doctor asks. Consent is demanded here; materials are chosen beside it (``service.request``)."""

    mode = forms.ChoiceField(label=T("会诊方式", "Kind"), choices=list(MODES.items()), initial="immediate")
    specialty = forms.CharField(label=T("会诊专业", "Specialty"), required=False, max_length=20)
    diagnosis = forms.CharField(
        label=T("目前诊断", "Present diagnosis"), max_length=120, error_messages=REQUIRED,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )  # fmt: skip
    diagnosis_code = forms.CharField(label=T("诊断编码", "Diagnosis code"), required=False, max_length=20)
    history = words(T("病情摘要", "Summary of the case"), longest=4000, rows=5)
    question = words(T("会诊目的（想解决的问题）", "What is asked"), longest=1000, rows=3)
    phone = forms.CharField(label=T("联系电话", "Telephone"), max_length=40, error_messages=REQUIRED)
    how = forms.ChoiceField(
        label=T("患者知情同意", "The patient's consent"), choices=list(HOW.items()), initial="signed"
    )
    given_by = forms.CharField(label=T("同意人姓名", "Who consents"), max_length=80, error_messages=REQUIRED)
    relation = forms.CharField(
        label=T("与患者关系（监护人填写）", "Relation (of a guardian)"), required=False, max_length=40
    )
    witness = forms.CharField(
        label=T("见证人 / 批准人", "Witness, or who approved"), required=False, max_length=80,
        help_text=T("口头同意须有见证人；抢救须写批准人。", "Spoken consent needs a witness; an emergency names who approved."),
    )  # fmt: skip
    consent_reason = forms.CharField(
        label=T("无法取得同意的原因（抢救）", "Why consent cannot be had (emergency)"),
        required=False,
        max_length=300,
    )

    def clean(self) -> dict[str, Any]:
        """Consent proves itself; a booked consultation that names its experts names its time."""
        data = super().clean() or self.cleaned_data
        data = self.table(data, required=False)
        self.timely(data, data.get("mode", ""), demanded=bool(data["experts"] or data["department"]))
        how = data.get("how")
        if how == "guardian" and not data.get("relation"):
            self.add_error("relation", T("请填写与患者的关系。", "Say how they are related to the patient."))
        if how in ("spoken", "emergency") and not data.get("witness"):
            self.add_error("witness", T("请填写见证人或批准人。", "Name the witness, or who approved."))
        if how == "emergency" and not data.get("consent_reason"):
            self.add_error(
                "consent_reason", T("请写明无法取得同意的原因。", "Say why consent cannot be had.")
            )
        return data


class AssignForm(TableForm):
    """The desk's choice of experts."""

    def clean(self) -> dict[str, Any]:
        """Somebody is chosen, and a booked consultation has its time."""
        data = self.table(super().clean() or self.cleaned_data, required=True)
        subject = self.ctx.subject if self.ctx else None
        if subject is not None:
            self.timely(data, subject.mode, demanded=subject.scheduled_at is None)
        return data


class InviteForm(MoveForm):
    """One more expert at the table."""

    expert = forms.ChoiceField(label=T("增请专家", "Another expert"))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["expert"].choices = pool.choices()  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """The expert's id as a number."""
        data = super().clean() or self.cleaned_data
        if data.get("expert"):
            data["expert"] = int(data["expert"])
        return data


class AcceptForm(MoveForm):
    """Perhaps another time than the one proposed."""

    scheduled_at = when(T("改约时间（选填）", "Another time (optional)"))

    def clean(self) -> dict[str, Any]:
        """A time to come."""
        data = super().clean() or self.cleaned_data
        at = data.get("scheduled_at")
        if at is not None and at < clock.now():
            self.add_error(
                "scheduled_at",
                T("约定时间已过，请选择将来的时间。", "This time is past; choose one to come."),
            )
        return data


class TimeForm(AcceptForm):
    """A new time, and why."""

    scheduled_at = when(T("新的会诊时间", "The new time"), required=True)
    reason = words(T("原因", "Reason"))


class DeclineForm(MoveForm):
    """Why not."""

    code = forms.ChoiceField(label=T("原因", "Reason"), choices=list(DECLINE.items()))
    reason = words(T("说明", "In words"))


class QuestionForm(MoveForm):
    """What is missing."""

    reason = words(T("需要补充什么", "What is missing"), longest=600)


class AnswerForm(MoveForm):
    """What the requester adds (materials are added on the page)."""

    reason = words(T("补充说明", "Answer"), longest=2000, rows=3)


class MissedForm(MoveForm):
    """Who was not there."""

    code = forms.ChoiceField(label=T("未成原因", "What happened"), choices=list(NO_SHOW.items()))
    reason = words(T("说明", "In words"))


class ReasonForm(MoveForm):
    """Why."""

    reason = words(T("原因", "Reason"))


class OpinionForm(MoveForm):
    """A signed opinion; a changed one says why."""

    impression = words(T("会诊印象（诊断）", "Impression"), longest=4000, rows=4)
    advice = words(T("处理建议", "Advice"), longest=4000, rows=6)
    reason = words(
        T("修改原因（再次签署时填写）", "Why it is changed (when signing again)"), required=False, rows=1
    )


class AmendForm(MoveForm):
    """A new version of the summary, and why."""

    impression = words(T("会诊印象（诊断）", "Impression"), longest=4000, rows=4)
    advice = words(T("处理建议", "Advice"), longest=4000, rows=6)
    reason = words(T("更正原因", "Why it is corrected"))


class AcknowledgeForm(MoveForm):
    """What was done with the opinion."""

    action = forms.ChoiceField(label=T("处理", "What was done"), choices=list(ACTIONS.items()))
    reason = words(T("处理情况", "In words"), longest=600)


def department_of(pk: int) -> Department:
    """A department that may be asked."""
    return Department.objects.select_related("institution").get(pk=pk)
