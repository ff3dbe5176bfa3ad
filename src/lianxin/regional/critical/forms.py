"""Forms of the moves of a critical value."""

from __future__ import annotations

from typing import Any

from django import forms

from lianxin.duty.forms import REQUIRED, MoveForm, words
from lianxin.regional.critical import limits
from lianxin.regional.critical.models import ACTIONS, OUTCOMES, Critical
from lianxin.standards.text import T

WRONG = T(
    "复述的结果与系统记录不一致，未确认。请与报告方重新核对患者和数值后再复述。",
    "What was read back is not what was found; nothing was confirmed. Check patient and value with the centre, then read it back again.",
)


def matches(subject: Critical, heard: str) -> bool:
    """Whether what was read back is the value: the same number (the unit may be left out), or the finding in either language or by its code."""
    said = limits.plain(heard)
    if not said:
        return False
    if subject.unit:
        said = said.removesuffix(limits.plain(subject.unit)) or said
    value = limits.number(subject.value)
    if value is not None:
        return limits.number(said) == value
    return said in {
        limits.plain(x) for x in (subject.value, subject.finding, subject.finding_en, subject.code) if x
    }


class DetectForm(MoveForm):
    """What the centre (or a rule) found; the rest comes with the call."""

    code = forms.CharField(max_length=40)
    value = forms.CharField(max_length=60)
    unit = forms.CharField(max_length=30, required=False)


class ReadBackForm(MoveForm):
    """The recipient types the value they were told; another system also names who heard it."""

    readback = forms.CharField(
        label=T("复述结果", "Read back"), max_length=120, error_messages=REQUIRED,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "text"}),
    )  # fmt: skip
    recipient = forms.CharField(max_length=80, required=False, widget=forms.HiddenInput)


class CallForm(MoveForm):
    """A telephone call made by hand: who was reached and what they read back."""

    recipient = forms.CharField(
        label=T("接听人", "Who answered"),
        max_length=80,
        required=False,
        help_text=T("姓名与岗位", "Name and post"),
    )
    outcome = forms.ChoiceField(
        label=T("结果", "Outcome"),
        choices=[(c, OUTCOMES[c]) for c in ("CONFIRMED", "REACHED_NO_READBACK", "UNABLE_TO_REACH")],
    )
    heard = forms.CharField(label=T("对方复述的结果", "What they read back"), max_length=120, required=False)
    note = words(T("备注", "Note"), required=False)

    def clean(self) -> dict[str, Any]:
        """Somebody reached has a name; a confirmation has what was read back."""
        data: dict[str, Any] = super().clean() or {}
        if data.get("outcome") in ("CONFIRMED", "REACHED_NO_READBACK") and not data.get("recipient"):
            self.add_error(
                "recipient", T("请填写接听人姓名与岗位。", "Write the name and post of who answered.")
            )
        if data.get("outcome") == "CONFIRMED" and not data.get("heard"):
            self.add_error("heard", T("请填写对方复述的结果。", "Write what they read back."))
        return data


class CorrectForm(MoveForm):
    """The result was corrected after the call."""

    value = forms.CharField(
        label=T("更正后的结果", "Corrected value"), max_length=60, error_messages=REQUIRED
    )
    unit = forms.CharField(label=T("单位", "Unit"), max_length=30, required=False)
    reason = words(T("更正原因", "Reason"))


class ActForm(MoveForm):
    """What was done for the patient."""

    action = forms.ChoiceField(label=T("处置", "Action"), choices=[(c, t) for c, t in ACTIONS.items()])
    note = words(T("处置记录", "What was done"), longest=600)


class CloseForm(MoveForm):
    """The end: how it came out."""

    note = words(T("结果与随访", "Outcome and follow-up"), required=False)


class EscalateForm(MoveForm):
    """How far it climbs."""

    level = forms.IntegerField(min_value=1, max_value=3)
