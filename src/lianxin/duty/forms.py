"""Forms of moves: the case's context at hand, and errors in both languages whatever language is active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import NON_FIELD_ERRORS
from django.utils.translation import override

from lianxin.duty.errors import Refused
from lianxin.standards.text import T, Text

if TYPE_CHECKING:
    from lianxin.duty.machine import Ctx


REQUIRED = {"required": T("此项必填，请填写。", "This is required; please fill it in.")}


def words(
    label: Text, *, required: bool = True, longest: int = 300, rows: int = 2, **more: Any
) -> forms.CharField:
    """A few lines of text, as every move asks for them."""
    return forms.CharField(
        label=label, required=required, max_length=longest, widget=forms.Textarea(attrs={"rows": rows}), error_messages=REQUIRED, **more
    )  # fmt: skip


class MoveForm(forms.Form):
    """A form that sees the case: ``self.ctx`` is the move's context (None when only drawn outside a case)."""

    def __init__(self, *args: Any, ctx: Ctx | None = None, **kwargs: Any) -> None:
        self.ctx = ctx
        super().__init__(*args, **kwargs)


def bind(form_class: type[forms.Form], data: Any, ctx: Ctx) -> forms.Form:
    """The form with its data, and with ``ctx`` when it takes one."""
    return form_class(data, ctx=ctx) if issubclass(form_class, MoveForm) else form_class(data)


def _say(value: Any, params: dict[str, Any] | None, language: str) -> str:
    """``value`` in one language; Django's plural messages choose their form only when filled."""
    if isinstance(value, Text):
        value = value.zh if language == "zh-hans" else value.en
    with override(language):
        if not params:
            return str(value)
        filled = {k: v if isinstance(v, int | float) else _say(v, None, language) for k, v in params.items()}
        return str(value % filled)


def _in_both(value: Any, params: dict[str, Any] | None = None) -> Text:
    return T(_say(value, params, "zh-hans"), _say(value, params, "en"))


def errors_of(form: forms.Form) -> dict[str, Text]:
    """Field → words naming the field and what is wrong, in both languages."""
    found: dict[str, Text] = {}
    for name, errors in form.errors.as_data().items():
        messages = [_in_both(e.message, e.params) for e in errors]
        text = T(" ".join(m.zh for m in messages), " ".join(m.en for m in messages))
        if name in form.fields:
            label = _in_both(form.fields[name].label or name)
            text = T(f"{label.zh}：{text.zh}", f"{label.en}: {text.en}")
        found[name] = text
    return found


def refuse(form: forms.BaseForm, errors: Mapping[str, Any]) -> None:
    """Say in a bound form what the move answered: beside the field it names, above the form otherwise. What the form says itself stands."""
    form.is_valid()
    said = set(form.errors)
    for name, text in errors.items():
        place = name if name in form.fields else None
        if (place or NON_FIELD_ERRORS) not in said:
            form.add_error(place, forms.ValidationError(text))


def clean(form_class: type[forms.Form] | None, data: Any, ctx: Ctx) -> dict[str, Any]:
    """The form's cleaned data; raises :class:`Refused` naming every field that is wrong."""
    if form_class is None:
        return {}
    form = bind(form_class, data, ctx)
    if not form.is_valid():
        raise Refused(errors_of(form))
    return form.cleaned_data
