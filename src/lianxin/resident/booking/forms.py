"""Forms of an appointment's and an appeal's moves."""

from __future__ import annotations

from django import forms

from lianxin.duty.forms import MoveForm
from lianxin.standards.text import T, Text


def _words(label: Text, *, required: bool = True, longest: int = 200) -> forms.CharField:
    return forms.CharField(
        label=label, required=required, max_length=longest, widget=forms.Textarea(attrs={"rows": 2}),
        error_messages={"required": T("此项必填，请填写。", "This is required; please fill it in.")},
    )  # fmt: skip


class ReasonForm(MoveForm):
    """Why (shown to the patient)."""

    reason = _words(T("原因（患者可见）", "Reason (the patient sees it)"))


class MaybeReasonForm(MoveForm):
    """Why, if there is anything to say."""

    reason = _words(T("原因", "Reason"), required=False)


class ConfirmForm(MoveForm):
    """The hospital's own number of the visit."""

    external = forms.CharField(
        label=T("院内预约号（选填）", "The hospital's own number (optional)"), required=False, max_length=80
    )


class SessionForm(MoveForm):
    """Another session, and perhaps a number of it."""

    session = forms.IntegerField(
        label=T("场次", "Session"), min_value=1, max_value=2**62,
        error_messages={"required": T("请选择场次。", "Choose a session."), "invalid": T("请选择场次。", "Choose a session.")},
    )  # fmt: skip
    seat = forms.IntegerField(label=T("号序", "Number"), required=False, min_value=1, max_value=100_000)
    reason = _words(T("原因", "Reason"), required=False)


class OfferForm(MoveForm):
    """What the patient is told beside the alternatives."""

    note = _words(T("给患者的说明", "What to tell the patient"), required=False)


class AppealForm(MoveForm):
    """Why the missed visits should not count."""

    text = _words(T("申诉理由", "Why the missed visits should not count"), longest=1000)


class DecisionForm(MoveForm):
    """Why it is decided so (the person reads it)."""

    words = _words(T("处理意见（申诉人可见）", "Decision in words (the person reads it)"), longest=1000)
