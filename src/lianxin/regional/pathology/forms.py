"""Forms of the pathology pages."""

from __future__ import annotations

from typing import Any

from django import forms

from lianxin.duty.forms import words
from lianxin.regional.pathology import stains
from lianxin.regional.pathology.models import BLOCK_KINDS, CONCORDANCE, FIXATIVES, PICTURES, REFUSALS
from lianxin.standards.text import T, Text


def _when(label: Text, *, required: bool = True) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label, required=required, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
    )  # fmt: skip


class SpecimenForm(forms.Form):
    """One container."""

    site = forms.CharField(label=T("部位", "Site"), max_length=80)
    procedure = forms.CharField(
        label=T("取得方式", "How it was taken"),
        max_length=80,
        required=False,
        help_text=T("如活检、切除、穿刺", "biopsy, excision, aspiration"),
    )
    pieces = forms.IntegerField(label=T("块数", "Pieces"), min_value=1, max_value=200, initial=1)
    fixative = forms.ChoiceField(label=T("固定液", "Fixative"), choices=list(FIXATIVES.items()))
    taken_at = _when(T("离体时间", "Taken at"))
    fixed_at = _when(T("固定时间（冰冻不填）", "Fixed at (not for frozen sections)"), required=False)


class RefuseForm(forms.Form):
    """Why a specimen is refused."""

    code = forms.CharField(widget=forms.HiddenInput)
    reasons = forms.MultipleChoiceField(
        label=T("拒收原因", "Why"), choices=list(REFUSALS.items()), widget=forms.CheckboxSelectMultiple
    )
    note = words(T("说明", "In words"), required=False)


class GrossForm(forms.Form):
    """Gross description and the blocks taken."""

    code = forms.CharField(widget=forms.HiddenInput)
    text = words(T("大体描述", "Gross description"), longest=4000, rows=4)
    kind = forms.ChoiceField(label=T("制片", "Kind"), choices=list(BLOCK_KINDS.items()))
    tissues = words(
        T("取材（每行一块）", "Blocks (a line each)"),
        longest=4000,
        rows=3,
        help_text=T("例如：肿物中心", "for example: centre of the tumour"),
    )


class StainsForm(forms.Form):
    """More slides of a block."""

    code = forms.ChoiceField(label=T("蜡块", "Block"))
    stains = forms.MultipleChoiceField(label=T("加做", "Stains"), widget=forms.CheckboxSelectMultiple)
    note = forms.CharField(label=T("要求", "Wish"), required=False, max_length=200)

    def __init__(self, blocks: list[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].choices = [(b, b) for b in blocks]  # type: ignore[attr-defined]
        self.fields["stains"].choices = stains.choices()  # type: ignore[attr-defined]


class PictureForm(forms.Form):
    """A picture of a specimen or slide."""

    code = forms.ChoiceField(label=T("属于", "Of"))
    kind = forms.ChoiceField(label=T("类别", "Kind"), choices=list(PICTURES.items()))
    caption = forms.CharField(
        label=T("说明（如 HE ×100）", "Caption (HE ×100)"), required=False, max_length=120
    )
    picture = forms.FileField(
        label=T("图片（JPEG、PNG）", "Picture (JPEG, PNG)"),
        widget=forms.FileInput(attrs={"accept": "image/*"}),
    )

    def __init__(self, codes: list[tuple[str, str]], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].choices = codes  # type: ignore[attr-defined]


class CallForm(forms.Form):
    """The call of a frozen section."""

    to = forms.CharField(label=T("接听人", "Who took the call"), max_length=80)
    read_back = words(T("对方复述", "What was read back"))


class CompareForm(forms.Form):
    """Frozen against permanent."""

    concordance = forms.ChoiceField(
        label=T("冰冻与石蜡", "Frozen and permanent"), choices=list(CONCORDANCE.items())
    )
    note = words(T("差异说明", "What differs"), required=False)


class LinkForm(forms.Form):
    """Which frozen section this is the permanent section of."""

    frozen = forms.CharField(label=T("冰冻病例单号", "Case number of the frozen section"), max_length=32)


class ScanForm(forms.Form):
    """The whole-slide image of a slide."""

    code = forms.ChoiceField(label=T("切片", "Slide"))
    study_uid = forms.CharField(label=T("归档检查号（Study UID）", "Study UID in the archive"), max_length=64)

    def __init__(self, slides: list[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].choices = [(s, s) for s in slides]  # type: ignore[attr-defined]


class LoanForm(forms.Form):
    """Lending a block or slide."""

    code = forms.CharField(label=T("蜡块或切片编号", "Code of the block or slide"), max_length=32)
    borrower = forms.CharField(label=T("借阅人", "Borrower"), max_length=80)
    house = forms.CharField(label=T("单位", "From where"), max_length=80)
    purpose = forms.CharField(label=T("用途", "What for"), max_length=200)
