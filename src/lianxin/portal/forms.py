"""What the portal's forms share: errors in both languages with their cure, and a few fields."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError

from lianxin.network.models import CODE_PATTERN
from lianxin.standards.text import T, Text

BLANK = ("", "—")
UNTIL_FIRST = T(
    "结束日期早于开始日期，请改后再提交。", "The end lies before the beginning; please change one of them."
)


_COMMON = {
    "required": T("此项必填，请填写。", "This is required; please fill it in."),
    "invalid": T("格式不对，请检查后重填。", "The format is wrong; please check and type it again."),
    "invalid_choice": T("请从列表中选择。", "Please choose from the list."),
    "max_length": T("太长了，请缩短。", "Too long; please shorten it."),
    "min_length": T("太短了，请补充。", "Too short; please add to it."),
    "min_value": T("数值太小，请核对。", "The number is too small; please check."),
    "max_value": T("数值太大，请核对。", "The number is too large; please check."),
    "unique": T("已经有这个值，请换一个。", "This value exists already; choose another."),
}


def speak(form: forms.BaseForm) -> None:
    """Give every field of a form messages in both languages instead of Django's own."""
    for field in form.fields.values():
        for code, text in _COMMON.items():
            own = field.error_messages.get(code)
            field.error_messages[code] = own if isinstance(own, Text) else text


class HouseForm(forms.Form):
    """A plain form that speaks both languages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        speak(self)


class HouseModelForm(forms.ModelForm):
    """A model form that speaks both languages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.label_suffix = ""
        speak(self)

    def _update_errors(self, errors: ValidationError) -> None:
        """Errors found by the model: Django's own "unique" sentence becomes ours; a model's own words stay."""
        if hasattr(errors, "error_dict"):
            for name, found in errors.error_dict.items():
                for error in found:
                    code = error.code or ""
                    if name != NON_FIELD_ERRORS and code in {"unique", "unique_together"}:
                        error.message, error.params = _COMMON["unique"], None
        super()._update_errors(errors)  # type: ignore[misc]


def code_field(help_text: Text) -> forms.RegexField:
    """A code of a thing of the network."""
    return forms.RegexField(
        CODE_PATTERN,
        max_length=40,
        label=T("代码", "Code"),
        help_text=help_text,
        error_messages={
            "invalid": T(
                "代码只能有字母、数字和短横线，请修改。",
                "A code has letters, digits and hyphens only; please change it.",
            )
        },
    )


class Day(forms.DateInput):
    """A date picked by the browser's own picker."""

    input_type = "date"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(format="%Y-%m-%d", **kwargs)
