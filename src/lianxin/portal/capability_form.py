"""What an institution can do, for a period: specialties, devices, procedures, diseases. Receivers are found by these."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from lianxin.network import kinds
from lianxin.portal.forms import BLANK, UNTIL_FIRST, Day, HouseForm
from lianxin.standards import clock, codes
from lianxin.standards.text import T

ICD_10 = "http://hl7.org/fhir/sid/icd-10"
SYSTEMS = {"specialty": codes.SPECIALTY, "disease": ICD_10}


class CapabilityForm(HouseForm):
    """A capability to record; specialties and diseases take their names from the code systems."""

    kind = forms.ChoiceField(label=T("类别", "Kind"), choices=lambda: [BLANK, *kinds.CAPABILITIES.items()])
    code = forms.RegexField(
        r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,39}$",
        label=T("代码", "Code"),
        max_length=40,
        help_text=T("如 03.04 心血管内科、CT、I21.0", "For example 03.04 cardiology, CT, I21.0"),
        error_messages={
            "invalid": T(
                "代码只能有字母、数字、点和短横线，请修改。",
                "A code has letters, digits, dots and hyphens only; please change it.",
            )
        },
    )
    name = forms.CharField(
        label=T("名称", "Name"),
        max_length=120,
        required=False,
        help_text=T("专科和病种可留空，按代码取名", "Specialties and diseases may leave it to the code"),
    )
    name_en = forms.CharField(label=T("英文名", "English name"), max_length=160, required=False)
    since = forms.DateField(label=T("开展日期", "From"), widget=Day(), initial=clock.today)
    until = forms.DateField(
        label=T("截止日期", "Until"),
        required=False,
        widget=Day(),
        help_text=T("留空表示长期", "Empty for open-ended"),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, auto_id="capability_%s", **kwargs)  # stands beside the institution's own form

    def clean(self) -> dict[str, Any]:
        """A known specialty; a name from somewhere; an end after the beginning."""
        data = super().clean() or {}
        kind, code = data.get("kind", ""), data.get("code", "")
        known = codes.lookup(SYSTEMS[kind], code) if kind in SYSTEMS and code else None
        if kind == "specialty" and code and known is None:
            self.add_error(
                "code",
                ValidationError(
                    T(
                        "没有这个诊疗科目代码，例如 03.04 心血管内科。",
                        "No such specialty code; 03.04 is cardiology.",
                    )
                ),
            )
        if known is not None:
            data["name"] = data.get("name") or known.label.zh
            data["name_en"] = data.get("name_en") or known.label.en
        elif code and not data.get("name"):
            self.add_error("name", ValidationError(T("请填写名称。", "Please give a name.")))
        if data.get("since") and data.get("until") and data["until"] < data["since"]:
            self.add_error("until", ValidationError(UNTIL_FIRST))
        return data
