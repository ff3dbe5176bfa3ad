"""Forms of the moves of laboratory work."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms

from lianxin.duty.forms import MoveForm, words
from lianxin.regional.laboratory import catalogue
from lianxin.regional.reading.forms import AcknowledgeForm, OrderForm
from lianxin.standards import clock
from lianxin.standards.text import T, Text

__all__ = ["AcknowledgeForm", "OrderForm"]
IDENTITY: dict[str, Text] = {
    "scanned": T("扫健康卡或腕带", "Card or wristband scanned"),
    "asked": T("反问姓名并核对证件", "Name asked and document seen"),
}
FUTURE = dt.timedelta(minutes=5)
"""How far a phone's clock may run ahead."""


class CollectForm(MoveForm):
    """The tube was filled: when, from whom (checked how), how much, into what."""

    identity = forms.ChoiceField(label=T("身份核对", "Identity checked by"), choices=list(IDENTITY.items()))
    card = forms.CharField(label=T("扫描健康卡号", "Card scanned"), required=False, max_length=80)
    collected_at = forms.DateTimeField(label=T("采集时间", "Collected at"), required=False)
    container = forms.BooleanField(label=T("容器正确", "The right container"), required=False)
    volume_ml = forms.DecimalField(
        label=T("采集量（mL）", "Volume (mL)"), min_value=0, max_value=500, max_digits=6, decimal_places=1
    )
    fasting = forms.NullBooleanField(label=T("空腹", "Fasting"), required=False)
    pregnant_weeks = forms.IntegerField(
        label=T("孕周", "Weeks pregnant"), required=False, min_value=0, max_value=45
    )
    note = words(T("备注", "Note"), required=False)

    def clean_collected_at(self) -> dt.datetime:
        """Now when nothing was said; never in the future, never before the order."""
        at: dt.datetime = self.cleaned_data.get("collected_at") or clock.now()
        if at > clock.now() + FUTURE:
            raise forms.ValidationError(T("采集时间不能晚于现在。", "The time lies in the future."))
        if (
            self.ctx is not None
            and self.ctx.subject is not None
            and at < self.ctx.subject.ordered_at - FUTURE
        ):
            raise forms.ValidationError(T("采集时间不能早于申请时间。", "The time lies before the order."))
        return at

    def clean(self) -> dict[str, Any]:
        """The container and the volume are what the tests need; a scanned card is this person's."""
        data: dict[str, Any] = super().clean() or {}
        if not data.get("container"):
            self.add_error(
                "container", T("请确认使用了规定的容器。", "Confirm that the right container was used.")
            )
        subject = self.ctx.subject if self.ctx else None
        if subject is None:
            return data
        kind = catalogue.kind(subject.laboratory.specimen.kind)
        if "volume_ml" in data and data["volume_ml"] < kind.volume_ml:
            self.add_error(
                "volume_ml", T("采集量不足，至少 {n} mL。", "Too little: at least {n} mL.").format(n=str(kind.volume_ml))
            )  # fmt: skip
        if data.get("identity") == "scanned":
            self._card(data.get("card", ""), subject.person)
        if data.get("pregnant_weeks") is not None and subject.person.sex == "male":
            self.add_error("pregnant_weeks", T("与性别不符。", "Does not fit the sex."))
        return data

    def _card(self, scanned: str, person: Any) -> None:
        text = scanned.strip()
        if not text:
            self.add_error(
                "card", T("请扫描健康卡，或改选反问核对。", "Scan the card, or choose the other way.")
            )
        elif person.card_number not in text and person.number not in text:
            self.add_error(
                "card",
                T("扫描的不是本患者的卡，请核对身份。", "This is another person's card: check who is here."),
            )


class ShipForm(MoveForm):
    """Into which box."""

    box = forms.CharField(label=T("转运箱", "Box"), max_length=20)


class ReceiveForm(MoveForm):
    """The tube is here."""

    position = forms.CharField(label=T("位置", "Position"), required=False, max_length=40)


class RefuseForm(MoveForm):
    """Why it cannot be measured."""

    code = forms.ChoiceField(label=T("拒收原因", "Reason"))
    reason = words(T("说明与重采要求", "What is needed"), required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["code"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = list(catalogue.refusals().items())


class EnterForm(MoveForm):
    """Results: rows made by ``results.rows_of_form`` or by a device's message."""

    rows = forms.JSONField(label=T("结果", "Results"))

    def clean_rows(self) -> list[dict[str, Any]]:
        """A list of rows; what is in them is checked against the catalogue where they are taken."""
        rows = self.cleaned_data["rows"]
        if (
            not isinstance(rows, list)
            or not rows
            or len(rows) > 200
            or not all(isinstance(r, dict) for r in rows)
        ):
            raise forms.ValidationError(T("没有结果。", "There is no result."))
        return rows


class VerifyForm(MoveForm):
    """Which results; none named: all that can be."""

    analytes = forms.CharField(label=T("项目", "Tests"), required=False, max_length=600)
    seen = forms.CharField(required=False, max_length=40, widget=forms.HiddenInput)
    conclusion = words(T("结果说明", "Comment"), required=False, longest=600)
    notified = forms.BooleanField(label=T("已核对危急值", "Critical values checked"), required=False)


class BackForm(MoveForm):
    """Which results are run again or taken back, and why."""

    analytes = forms.CharField(label=T("项目", "Tests"), max_length=600)
    reason = words(T("原因", "Reason"))


class ReasonForm(MoveForm):
    """Why."""

    reason = words(T("原因", "Reason"))
