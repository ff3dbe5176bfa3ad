"""Forms of the moves of reading work."""

from __future__ import annotations

from django import forms

from lianxin.duty.forms import MoveForm, words
from lianxin.regional.reading.models import SCORES
from lianxin.standards.text import T, Text

RETAKE: dict[str, Text] = {
    "motion": T("运动伪影", "Motion"),
    "position": T("体位或范围不符", "Position or coverage"),
    "exposure": T("曝光或增益不当", "Exposure or gain"),
    "artefact": T("异物或设备伪影", "Foreign body or device artefact"),
    "leads": T("导联接错或脱落", "Leads swapped or off"),
    "noise": T("干扰、基线漂移", "Noise, wandering baseline"),
    "incomplete": T("图像或记录不全", "Incomplete"),
    "identity": T("患者信息不符", "Wrong patient data"),
    "specimen": T("标本不合格", "Specimen unfit"),
    "other": T("其他", "Other"),
}
"""Why something must be taken again: the platform's list, for the quality statistics."""


class OrderForm(MoveForm):
    """What the doctor writes on the request."""

    indication = words(T("临床信息与检查目的", "Clinical information and question"), longest=600)
    diagnosis = forms.CharField(label=T("临床诊断", "Clinical diagnosis"), required=False, max_length=120)
    diagnosis_code = forms.CharField(label=T("诊断编码", "Diagnosis code"), required=False, max_length=20)


class AcquireForm(MoveForm):
    """With what it was taken, and what the technician wants to say."""

    device = forms.CharField(label=T("设备", "Device"), required=False, max_length=60)
    note = words(T("技师备注", "Technician's note"), required=False)


class RetakeForm(MoveForm):
    """Why it must be taken again."""

    code = forms.ChoiceField(label=T("退回原因", "Reason"), choices=list(RETAKE.items()))
    reason = words(T("具体要求", "What is needed"))


class SignForm(MoveForm):
    """A signature names what it signs: the version of the draft that was on the screen."""

    saved = forms.CharField(label=T("草稿", "Draft"), required=False, max_length=40, widget=forms.HiddenInput)


class SendBackForm(MoveForm):
    """What the author is to change."""

    reason = words(T("修改意见", "What to change"))


class SecondForm(MoveForm):
    """The second reader's score, given after their own report was written and the first one shown."""

    score = forms.ChoiceField(label=T("评分（RADPEER）", "Score (RADPEER)"), choices=list(SCORES.items()))
    note = words(T("说明", "Note"), required=False, longest=600)


DECISIONS = [
    ("first", T("采用初读", "The first stands")),
    ("second", T("采用双读", "The second stands")),
    ("own", T("另行书写", "The arbiter's own report stands")),
]


class ArbitrateForm(MoveForm):
    """Whose reading stands."""

    decided = forms.ChoiceField(label=T("仲裁结论", "Decision"), choices=DECISIONS)
    note = words(T("理由", "Reason"), longest=600)


class ReasonForm(MoveForm):
    """Why."""

    reason = words(T("原因", "Reason"))


class AmendForm(MoveForm):
    """A new version of a report that went out: both parts whole, and why."""

    findings = forms.CharField(
        label=T("检查所见", "Findings"), required=False, max_length=20_000, widget=forms.Textarea
    )
    conclusion = forms.CharField(label=T("诊断意见", "Conclusion"), max_length=5_000, widget=forms.Textarea)
    positive = forms.NullBooleanField(label=T("阳性", "Positive"), required=False)
    reason = words(T("更正原因", "Reason of the amendment"))
    seen = forms.CharField(
        label=T("原报告", "Amended report"), required=False, max_length=40, widget=forms.HiddenInput
    )


class AcknowledgeForm(MoveForm):
    """What is done with the result."""

    note = words(T("处理意见", "What follows"), required=False)
