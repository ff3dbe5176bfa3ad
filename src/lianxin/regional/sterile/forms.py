"""Forms of the moves of requests and recalls."""

from __future__ import annotations

from django import forms

from lianxin.duty.forms import REQUIRED, MoveForm, words
from lianxin.standards.text import T, Text

OUTCOMES: dict[str, Text] = {
    "well": T("已联系，无不适", "Reached, well"),
    "symptoms": T("已联系，有不适，安排处理", "Reached, unwell: being seen to"),
    "unreachable": T("未联系上", "Not reached"),
}


def scanned(label: Text, *, required: bool = True) -> forms.CharField:
    """Codes as a scanner types them, one a line."""
    return forms.CharField(
        label=label, required=required, max_length=20_000, error_messages=REQUIRED,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "off", "spellcheck": "false"}),
        help_text=T("逐个扫码，每行一个", "Scan one after the other, one a line"),
    )  # fmt: skip


class AskForm(MoveForm):
    """By when, and what the centre should know."""

    needed_on = forms.DateField(
        label=T("需要日期", "Needed on"),
        error_messages=REQUIRED,
        widget=forms.DateInput(attrs={"type": "date"}),
    )
    note = words(T("备注", "Note"), required=False)


class PackForm(MoveForm):
    """Which sets are packed for the request."""

    codes = scanned(T("装箱器械包", "Sets packed"))


class SendForm(MoveForm):
    """Who carries it, in which box."""

    courier = forms.CharField(label=T("运送人", "Carried by"), max_length=80, error_messages=REQUIRED)
    box = forms.CharField(label=T("转运箱号", "Box"), max_length=40, required=False)


class ReceiveForm(MoveForm):
    """What arrived, set by set."""

    codes = scanned(T("签收器械包", "Sets received"), required=False)
    note = words(T("差异说明", "What differs"), required=False)


class CloseForm(MoveForm):
    """The end of a request."""

    note = words(T("核对说明", "Note"), required=False)


class ReasonForm(MoveForm):
    """Why."""

    reason = words(T("原因", "Reason"))


class QuarantineForm(MoveForm):
    """The recalled sets found here, put aside and on their way back."""

    codes = scanned(T("已封存的器械包", "Sets put aside"), required=False)
    note = words(T("未找到的去向说明", "Where the others are"), required=False)


class ContactForm(MoveForm):
    """How contacting the patient went."""

    outcome = forms.ChoiceField(label=T("联系结果", "Outcome"), choices=list(OUTCOMES.items()))
    note = words(T("情况记录", "What was said"), longest=600)


class FinishForm(MoveForm):
    """How the patient is at the end of the watch."""

    note = words(T("随访结论", "Result of the follow-up"), longest=600)
