"""Forms of moves: the case's context at hand, and errors in both languages whatever language is active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import override

from lianxin.duty.errors import Refused
from lianxin.standards.text import T, Text

if TYPE_CHECKING:
    from lianxin.duty.machine import Ctx


class MoveForm(forms.Form):
    """A form that sees the case: ``self.ctx`` is the move's context (None when only drawn outside a case)."""

    def __init__(self, *args: Any, ctx: Ctx | None = None, **kwargs: Any) -> None:
        self.ctx = ctx
        super().__init__(*args, **kwargs)


def bind(form_class: type[forms.Form], data: Any, ctx: Ctx) -> forms.Form:
    """The form with its data, and with ``ctx`` when it takes one."""
    return form_class(data, ctx=ctx) if issubclass(form_class, MoveForm) else form_class(data)


def _in_both(value: Any) -> Text:
    if isinstance(value, Text):
        return value
    with override("zh-hans"):
        zh = str(value)
    with override("en"):
        return T(zh, str(value))


def _message(error: Any) -> Text:
    text = _in_both(error.message)
    if not error.params:
        return text
    params = {
        k: _in_both(v) if not isinstance(v, int | float) else T(str(v), str(v))
        for k, v in error.params.items()
    }
    numbers = {k: v for k, v in error.params.items() if isinstance(v, int | float)}
    return T(
        text.zh % ({k: v.zh for k, v in params.items()} | numbers),
        text.en % ({k: v.en for k, v in params.items()} | numbers),
    )


def errors_of(form: forms.Form) -> dict[str, Text]:
    """Field → words naming the field and what is wrong, in both languages."""
    found: dict[str, Text] = {}
    for name, errors in form.errors.as_data().items():
        messages = [_message(e) for e in errors]
        text = T(" ".join(m.zh for m in messages), " ".join(m.en for m in messages))
        if name in form.fields:
            label = _in_both(form.fields[name].label or name)
            text = T(f"{label.zh}：{text.zh}", f"{label.en}: {text.en}")
        found[name] = text
    return found


def clean(form_class: type[forms.Form] | None, data: Any, ctx: Ctx) -> dict[str, Any]:
    """The form's cleaned data; raises :class:`Refused` naming every field that is wrong."""
    if form_class is None:
        return {}
    form = bind(form_class, data, ctx)
    if not form.is_valid():
        raise Refused(errors_of(form))
    return form.cleaned_data
