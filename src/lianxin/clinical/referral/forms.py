"""The forms of the moves. Field names are the parameter names over FHIR too; every message is in both languages.

A form checks what can be seen from the form alone (required, coded reason valid today, comment when the code demands one);
what needs the case (an earlier leg, a full session) is refused by the move's effect with the same field names.
"""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from lianxin.clinical.referral import reasons, rules
from lianxin.duty import forms as duty_forms
from lianxin.standards.text import T, Text

YES_NO = ((True, T("是", "Yes")), (False, T("否", "No")))
DIRECTIONS = (("up", T("上转", "Up")), ("down", T("下转", "Down")), ("across", T("平级转诊", "Across")))
PRIORITIES = (
    ("routine", T("常规", "Routine")),
    ("urgent", T("优先", "Urgent")),
    ("emergency", T("急诊", "Emergency")),
)
VISIT_KINDS = (
    ("clinic", T("门诊", "Outpatient")),
    ("inpatient", T("住院", "Inpatient")),
    ("emergency", T("急诊留观", "Emergency observation")),
)


_MESSAGES: dict[str, Any] = {
    "required": T("请填写此项", "Fill this in"),
    "invalid": T("格式不正确", "Not in the right form"),
    "invalid_choice": T("不在可选范围内，请从列表中选择", "Not one of the choices; choose from the list"),
    "max_length": T("内容过长，请精简", "Too long; shorten it"),
    "min_value": T("数值过小", "The number is too small"),
    "max_value": T("数值过大", "The number is too large"),
}


def _common(label: Text, hint: Text | None, more: dict[str, Any]) -> dict[str, Any]:
    return {"label": label, "help_text": hint or "", "error_messages": _MESSAGES, **more}


def text(label: Text, required: bool = True, hint: Text | None = None, long: bool = True) -> forms.CharField:
    """A line (``long=False``) or a paragraph."""
    widget = forms.Textarea(attrs={"rows": 3}) if long else forms.TextInput()
    return forms.CharField(
        **_common(label, hint, {"required": required, "widget": widget, "max_length": 4000 if long else 200})
    )


def number(label: Text, required: bool = False, low: int = 0, high: int = 2**53) -> forms.IntegerField:
    """A whole number."""
    return forms.IntegerField(
        **_common(label, None, {"required": required, "min_value": low, "max_value": high})
    )


def moment(label: Text, required: bool = True, hint: Text | None = None) -> forms.DateTimeField:
    """A date and time (local when no offset is given)."""
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(**_common(label, hint, {"required": required, "widget": widget}))


def day(label: Text, required: bool = True) -> forms.DateField:
    """A date."""
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    return forms.DateField(**_common(label, None, {"required": required, "widget": widget}))


def choice(label: Text, choices: Any, required: bool = True) -> forms.ChoiceField:
    """One of a closed list."""
    return forms.ChoiceField(**_common(label, None, {"required": required, "choices": choices}))


def reason(name: str, label: Text | None = None, required: bool = True) -> forms.ChoiceField:
    """A coded reason of a set, valid today."""
    field = choice(label or T("原因", "Reason"), lambda: reasons.choices(name), required)
    field.reason_set = name  # type: ignore[attr-defined]
    return field


def tick(label: Text) -> forms.BooleanField:
    """A box that has to be ticked."""
    messages = {"required": T("请确认并勾选", "Confirm and tick this")}
    return forms.BooleanField(label=label, required=True, error_messages=messages)


def flag(label: Text) -> forms.BooleanField:
    """A box that may be ticked."""
    return forms.BooleanField(label=label, required=False)


class MoveForm(duty_forms.MoveForm):
    """Base: a coded reason that demands a comment gets one, and unreadable numbers are named."""

    def clean(self) -> dict[str, Any]:
        """Check the coded reason against the day of the act."""
        data = super().clean() or {}
        for name, field in self.fields.items():
            chosen = data.get(name)
            if hasattr(field, "reason_set") and chosen:
                comment = (
                    "comment"
                    if "comment" in self.fields
                    else next((n for n in ("question", "text", "reason") if n in self.fields), "")
                )
                problem = reasons.check(
                    field.reason_set, chosen, str(data.get(comment) or "") if comment else "-"
                )
                if problem:
                    self.add_error(comment if problem[0] == "comment" else name, ValidationError(problem[1]))
        return data

    def merge(self, whole: str, prefix: str, allowed: Any) -> dict[str, Any]:
        """A group of values sent either as one object (``pack``) or field by field (``pack_present``)."""
        raw = self.data.get(whole)
        if isinstance(raw, str) and raw.strip():
            try:
                raw = json.loads(raw)
            except json.JSONDecodeError:
                raw = None
                self.add_error(whole, ValidationError(T("须为 JSON 对象", "Must be a JSON object")))
        values = dict(raw) if isinstance(raw, dict) else {}
        values |= {key[len(prefix) :]: self.data.get(key) for key in self.data if key.startswith(prefix)}
        unknown = sorted(set(values) - set(allowed))
        if unknown:
            self.add_error(
                whole,
                ValidationError(
                    T("未知项目：{names}", "Unknown items: {names}").format(names=", ".join(unknown))
                ),
            )
        return {key: value for key, value in values.items() if key in allowed}


class DraftForm(MoveForm):
    """The clinical intent: what, why, where to, with which papers. Kept as a draft until sent."""

    direction = choice(T("转诊方向", "Direction"), DIRECTIONS)
    to_institution = text(T("转入机构", "Receiving institution"), long=False, required=False)
    to_department = text(T("转入科室", "Receiving department"), long=False, required=False)
    specialty = text(T("专科", "Specialty"), long=False, required=False)
    diagnosis_code = text(T("诊断代码", "Diagnosis code"), long=False)
    diagnosis_name = text(T("诊断", "Diagnosis"), long=False, required=False)
    priority = choice(T("优先级", "Priority"), PRIORITIES, required=False)
    reason_code = reason("refer", T("转诊原因", "Why referred"), required=False)
    reason = text(T("转诊说明", "Why, in words"), required=False)
    emergency = flag(T("急诊绿色通道", "Emergency green channel"))
    override_reason = text(T("与目录建议不一致的理由", "Why against the catalogue"), required=False)
    parent = text(T("原转诊单号", "Number of the referral it follows"), required=False, long=False)
    facts = forms.JSONField(required=False)
    pack = forms.JSONField(required=False)

    def clean(self) -> dict[str, Any]:
        """Gather pack and facts however they were sent; name every bad value."""
        data = super().clean()
        data["pack"] = {k: str(v or "").strip() for k, v in self.merge("pack", "pack_", rules.PARTS).items()}
        facts, errors = rules.read_facts(self.merge("facts", "fact_", rules.FACTS))
        for problem in errors.values():
            self.add_error("facts", ValidationError(problem))
        data["facts"] = facts
        data["priority"] = "emergency" if data.get("emergency") else data.get("priority") or "routine"
        data["emergency"] = data["priority"] == "emergency"
        return data


class SubmitForm(MoveForm):
    """The resident's consent, in the words and with the evidence that are kept."""

    consent = tick(T("患者（或家属）已了解并同意转诊", "The patient (or family) understands and agrees"))
    consent_evidence = reason("consent", T("同意方式", "How consent was given"))
    comment = text(T("备注", "Remark"), required=False)


class AskForm(MoveForm):
    """A question to the referrer; the decision clock rests until it is answered."""

    reason_code = reason("question", T("问题类别", "Kind of question"))
    question = text(T("问题", "Question"))


class AnswerForm(MoveForm):
    """The answer to a question."""

    text = text(T("回复", "Answer"))


class AcceptForm(MoveForm):
    """Accept, into which department, now or on the waiting list."""

    to_department = text(T("接诊科室", "Department"), required=False, long=False)
    waitlist = flag(T("暂无号源床位，列入候诊", "No place now: put on the waiting list"))
    comment = text(T("备注", "Remark"), required=False)


class AcceptOtherForm(AcceptForm):
    """Accept at another priority than asked; the clock is counted anew from the start of the pathway."""

    priority = choice(T("调整为", "Change to"), PRIORITIES)
    reason_code = reason("priority")


class AdviceForm(MoveForm):
    """Send back with advice on what to do there."""

    advice = text(T("诊疗建议", "Advice"))


class RejectForm(MoveForm):
    """Reject with a coded reason."""

    reason_code = reason("reject")
    comment = text(T("说明", "Comment"), required=False)


class RedirectForm(MoveForm):
    """Pass on to another institution; the clock of the pathway runs on."""

    to_institution = text(T("改转机构", "Pass on to"), long=False)
    to_department = text(T("改转科室", "Department"), long=False, required=False)
    reason_code = reason("redirect")
    comment = text(T("说明", "Comment"), required=False)


class ResendForm(MoveForm):
    """Send a returned referral to another institution."""

    to_institution = text(T("再转机构", "Send to"), long=False)
    to_department = text(T("再转科室", "Department"), long=False, required=False)
    comment = text(T("补充说明", "What was added"), required=False)


class SlotForm(MoveForm):
    """A place in a session of the pool, a joint plan, or a time that the receiver keeps in its own system."""

    session = number(T("号源", "Session"))
    appointment_at = moment(T("就诊时间", "Time"), required=False)
    appointment_note = text(T("地点与须知", "Where, and what to bring"), required=False, long=False)
    plan = forms.CharField(
        label=T("联合安排", "Joint plan"), required=False, max_length=2000, widget=forms.HiddenInput()
    )

    def clean(self) -> dict[str, Any]:
        """One of the two has to be given, unless a number is held already: that one is then confirmed."""
        data = super().clean()
        held = self.ctx is not None and self.ctx.facts.get("booking") == "held"
        named = data.get("session") or data.get("appointment_at") or data.get("plan")
        if not self.errors and not held and not named:
            self.add_error(
                "session",
                ValidationError(
                    T("请选择号源，或填写就诊时间", "Choose a session, or give the time of the visit")
                ),
            )
        return data


class HoldForm(MoveForm):
    """A number kept for a while."""

    session = number(T("号源", "Session"), required=True)


class RescheduleForm(SlotForm):
    """Another place or time."""

    reason_code = reason("slot")
    comment = text(T("说明", "Comment"), required=False)


class SlotCancelForm(MoveForm):
    """The booked place falls through; the referral stays accepted."""

    reason_code = reason("slot")
    comment = text(T("说明", "Comment"), required=False)


class ArriveForm(MoveForm):
    """The patient is here: identity checked against the referral."""

    identity = text(
        T("核对身份（证件号、卡号或主索引号）", "Identity checked (document, card or person number)"),
        long=False,
    )
    visit_number = text(T("就诊号", "Visit number"), long=False, required=False)


class GreenForm(ArriveForm):
    """Arrival by the green channel: what was skipped is back-filled later."""

    comment = text(T("到院情况", "State on arrival"), required=False)


class BackfillForm(MoveForm):
    """The steps that the green channel skipped, written up afterwards."""

    consent_evidence = reason("consent", T("同意方式", "How consent was given"))
    pack = forms.JSONField(required=False)
    comment = text(T("补记说明", "Account"))

    def clean(self) -> dict[str, Any]:
        """Gather the pack however it was sent."""
        data = super().clean()
        data["pack"] = {k: str(v or "").strip() for k, v in self.merge("pack", "pack_", rules.PARTS).items()}
        return data


class StartCareForm(MoveForm):
    """Care begins."""

    visit_kind = choice(T("就诊类别", "Kind of visit"), VISIT_KINDS)
    visit_number = text(T("门诊/住院号", "Visit or record number"), long=False, required=False)


class NoteForm(MoveForm):
    """A short note to the other side."""

    text = text(T("情况说明", "Note"))


class DischargeForm(MoveForm):
    """Discharge or end of the visit, with the facts that decide whether the patient may go down."""

    diagnosis_code = text(T("出院诊断代码", "Discharge diagnosis code"), long=False, required=False)
    diagnosis_name = text(T("出院诊断", "Discharge diagnosis"), long=False, required=False)
    facts = forms.JSONField(required=False)

    def clean(self) -> dict[str, Any]:
        """Read the facts however they were sent."""
        data = super().clean()
        data["facts"], errors = rules.read_facts(self.merge("facts", "fact_", rules.FACTS))
        for problem in errors.values():
            self.add_error("facts", ValidationError(problem))
        return data


class ProposeDownForm(MoveForm):
    """Open the down-referral: to whom, with the pack of a down-referral."""

    to_institution = text(T("下转机构", "Down to"), long=False)
    specialty = text(T("专科", "Specialty"), long=False, required=False)
    pack = forms.JSONField(required=False)

    def clean(self) -> dict[str, Any]:
        """Gather the pack however it was sent."""
        data = super().clean()
        data["pack"] = {k: str(v or "").strip() for k, v in self.merge("pack", "pack_", rules.PARTS).items()}
        return data


class NotDownForm(MoveForm):
    """Why the patient does not go down although the criteria are met."""

    reason_code = reason("not_down")
    comment = text(T("说明", "Comment"), required=False)


class OutcomeForm(MoveForm):
    """The outcome letter 回转单: what was found and done, drugs changed, what to watch for, who follows and when."""

    diagnosis = text(T("诊断结果", "Diagnosis"))
    done = text(T("主要检查结果与治疗经过", "Results and treatment"))
    drugs_changed = text(
        T("用药调整", "Drugs changed"), hint=T("无调整请写「无」", "Write “none” when nothing changed")
    )
    watch_for = text(T("注意事项与危险信号", "What to watch for"))
    who_follows = text(T("由谁随访", "Who follows up"), long=False)
    follow_when = day(T("首次随访日期", "First follow-up on"))
    record_no = text(T("住院病案号", "Record number"), long=False, required=False)


class AcknowledgeForm(MoveForm):
    """The referrer takes the patient back: drugs reconciled, follow-up set."""

    medication_reconciled = tick(T("已完成用药核对", "Medication reconciliation done"))
    followup_at = moment(T("首次随访时间", "First follow-up at"), required=False)
    followup_institution = text(T("随访机构", "Who follows up"), long=False, required=False)
    comment = text(T("备注", "Remark"), required=False)


class DisputeForm(MoveForm):
    """The letter cannot be taken as it is."""

    reason_code = reason("dispute")
    comment = text(T("说明", "Comment"), required=False)


class CancelForm(MoveForm):
    """The referrer withdraws."""

    reason_code = reason("cancel")
    comment = text(T("说明", "Comment"), required=False)


class AnswerCancelForm(MoveForm):
    """Agree or refuse, in words."""

    comment = text(T("说明", "Comment"))


class OptionalCommentForm(MoveForm):
    """Nothing but an optional remark."""

    comment = text(T("备注", "Remark"), required=False)


class NoReturnForm(MoveForm):
    """Close without a return: died, declined, moved, duplicate. Counted apart."""

    reason_code = reason("no_return")
    comment = text(T("说明", "Comment"), required=False)


class SettleForm(MoveForm):
    """What becomes of a patient whose referral came back."""

    reason_code = reason("settle", T("处置", "What is done"))
    comment = text(T("说明", "Account"))


class RoundForm(MoveForm):
    """A ward round by the upper hospital at the patient's bed below."""

    findings = text(T("查房所见", "Findings"))
    advice = text(T("查房意见", "Advice"))
    next_round = day(T("下次查房", "Next round"), required=False)
