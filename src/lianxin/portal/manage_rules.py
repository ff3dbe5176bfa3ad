"""The rules of a consortium: its own clocks, counts and graces beside the shipped defaults, and the rest as JSON.

Kept in ``Consortium.rules``: ``referral`` overrides settings of ``clinical.referral.policy`` by name, ``clocks`` overrides
clocks of any machine (``{kind: {clock: span, or {priority: span}}}``), other keys are read by whoever knows them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.clinical.referral import policy
from lianxin.duty import clocks, machine
from lianxin.network.models import Consortium
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.portal import setting_words
from lianxin.portal.forms import HouseForm
from lianxin.standards import calendar
from lianxin.standards.text import T, Text

MOST = 9999
SPAN_CURE = T(
    "写成数字加单位：30m 分钟、4h 小时、7d 天、4wh 工作小时、2wd 工作日。",
    "Write a number and a unit: 30m minutes, 4h hours, 7d days, 4wh working hours, 2wd working days.",
)
WALL_CURE = T("这一项按钟点计，写成 30m、4h 或 7d。", "This one runs day and night: write 30m, 4h or 7d.")
COUNT_CURE = T("请填 0 至 9999 的整数。", "Give a whole number from 0 to 9999.")


def _span(value: Any, cure: Text = SPAN_CURE) -> str:
    """A span the calendar can read and that is not empty, or the cure."""
    try:
        number, _ = calendar.parse(value)
    except calendar.SpecError:
        raise ValidationError(cure) from None
    if not number:
        raise ValidationError(cure)
    return str(value).strip()


def setting(name: str, value: Any) -> Any:
    """The value of one setting as it is stored; ValidationError with the cure when it does not fit the default's kind."""
    if isinstance(policy.defaults().get(name), int):
        try:
            number = int(str(value).strip())
        except ValueError:
            raise ValidationError(COUNT_CURE) from None
        if not 0 <= number <= MOST:
            raise ValidationError(COUNT_CURE)
        return number
    span = _span(value)
    if name.startswith("grace.") and "w" in span:
        raise ValidationError(WALL_CURE)
    return span


def _clock_base(name: str) -> str:
    """``clock.down.ack.urgent`` -> ``ack``: what a particular name is a case of."""
    parts = name.split(".")[1:]
    if parts and parts[0] in {"up", "down", "across"}:
        parts = parts[1:]
    if len(parts) > 1 and parts[-1] in machine.PRIORITIES:
        parts = parts[:-1]
    return ".".join(parts)


def _checked_referral(values: Any) -> None:
    """Settings written in the JSON rather than in the table: particular clocks such as ``clock.across.ack``."""
    if not isinstance(values, dict):
        raise ValidationError(T("referral 应是 {名称: 值}。", "referral must be {name: value}."))
    bases = {_clock_base(n) for n in policy.defaults() if n.startswith("clock.")}
    for name, value in values.items():
        known = name in policy.defaults() or (name.startswith("clock.") and _clock_base(name) in bases)
        if not known:
            raise ValidationError(
                T(
                    "referral 里没有名为 {n} 的设置，请核对。", "referral has no setting {n}; please check."
                ).format(n=name)
            )
        try:
            setting(name, value)
        except ValidationError as error:
            raise ValidationError(f"{name}: {error.messages[0]}") from None


def _checked_clocks(values: Any) -> None:
    if not isinstance(values, dict):
        raise ValidationError(
            T("clocks 应是 {业务: {时钟: 时限}}。", "clocks must be {kind: {clock: span}}.")
        )
    kinds = [m.kind for m in machine.all_machines()]
    for kind, own in values.items():
        if kind not in kinds:
            raise ValidationError(
                T("没有名为 {n} 的业务。可用：{k}", "There is no kind {n}. Kinds: {k}").format(
                    n=kind, k=", ".join(kinds)
                )
            )
        if not isinstance(own, dict):
            raise ValidationError(
                T("clocks 应是 {业务: {时钟: 时限}}。", "clocks must be {kind: {clock: span}}.")
            )
        for name, span in own.items():
            for one in span.values() if isinstance(span, Mapping) else [span]:
                try:
                    _span(one)
                except ValidationError as error:
                    raise ValidationError(f"{kind}.{name}: {error.messages[0]}") from None


class RulesForm(HouseForm):
    """A field for every setting (empty: the default holds), and the rest of the rules as JSON."""

    more = forms.CharField(
        label=T("其他规则（JSON）", "Other rules (JSON)"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false", "class": "font-monospace"}),
        help_text=T(
            '例如 {"clocks": {"referral": {"info": "3wd"}}}；不懂可以留空。',
            'For example {"clocks": {"referral": {"info": "3wd"}}}; leave empty if in doubt.',
        ),
    )

    def __init__(self, *args: Any, rules: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = dict(rules.get("referral", {}))
        self.names: dict[str, str] = {}
        for name, default in policy.defaults().items():
            field = name.replace(".", "__")
            self.names[field] = name
            self.fields[field] = forms.CharField(
                label=setting_words.label(name), required=False, max_length=8, initial=own.pop(name, ""),
                widget=forms.TextInput(attrs={"placeholder": str(default), "autocomplete": "off"}),
            )  # fmt: skip
        rest = {k: v for k, v in rules.items() if k != "referral"} | ({"referral": own} if own else {})
        self.fields["more"].initial = json.dumps(rest, ensure_ascii=False, indent=2) if rest else ""

    def clean_more(self) -> dict[str, Any]:
        """An object whose known parts make sense."""
        text = self.cleaned_data["more"].strip()
        if not text:
            return {}
        try:
            rest = json.loads(text)
        except ValueError as error:
            line = getattr(error, "lineno", 1)
            raise ValidationError(
                T(
                    "第 {l} 行不是合法的 JSON，请检查引号和逗号。",
                    "Line {l} is not JSON; check quotes and commas.",
                ).format(l=line)
            ) from None
        if not isinstance(rest, dict):
            raise ValidationError(
                T("应是一个 JSON 对象，以 { 开头。", "It must be a JSON object, beginning with {.")
            )
        _checked_referral(rest.get("referral", {}))
        _checked_clocks(rest.get("clocks", {}))
        return rest

    def clean(self) -> dict[str, Any]:
        """Every setting that is given fits its kind."""
        data = super().clean() or {}
        for field, name in self.names.items():
            if data.get(field):
                try:
                    data[field] = setting(name, data[field])
                except ValidationError as error:
                    self.add_error(field, error)
        return data

    def rules(self) -> dict[str, Any]:
        """The rules to store: only what differs from nothing."""
        data = self.cleaned_data
        rest = dict(data.get("more") or {})
        own = dict(rest.pop("referral", {}))
        own |= {name: data[field] for field, name in self.names.items() if data.get(field) not in (None, "")}
        return rest | ({"referral": own} if own else {})


def _groups(form: RulesForm, row: Consortium) -> list[dict[str, Any]]:
    """The table: settings by group, each with its field, its default in words and whether the consortium set its own."""
    own = (row.rules or {}).get("referral", {})
    found: dict[str, list[dict[str, Any]]] = {}
    for field, name in form.names.items():
        default = policy.defaults()[name]
        found.setdefault(setting_words.group(name), []).append(
            {
                "field": form[field],
                "name": name,
                "default": calendar.words(default) if isinstance(default, str) else default,
                "own": calendar.words(own[name]) if isinstance(own.get(name), str) else own.get(name),
            }
        )
    return [
        {"label": setting_words.GROUPS[code], "lines": found[code]}
        for code in setting_words.GROUPS
        if code in found
    ]


@page(SYSTEM_ADMIN)
def rules(request: HttpRequest, code: str) -> HttpResponse:
    """Look at and change the rules; what is left empty follows the default, also when that changes."""
    row = get_object_or_404(Consortium, code=code)
    form = RulesForm(request.POST if request.method == "POST" else None, rules=row.rules or {})
    if request.method == "POST" and form.is_valid():
        before, row.rules = row.rules or {}, form.rules()
        with transaction.atomic():
            row.save(update_fields=["rules"])
            audit.write(
                request.scope,
                "admin",
                what=f"consortium {row.code} rules",
                detail={"before": before, "after": row.rules},
            )
        clocks.forget_overrides()
        policy.forget()
        messages.success(
            request,
            T("规则已保存，一分钟内在各处生效；已在走的时限不变。",
              "Saved; in force everywhere within a minute. Clocks already running keep their time."),
        )  # fmt: skip
        return redirect("portal:manage_rules", row.code)
    return render(
        request, "portal/manage/rules.html", {"form": form, "row": row, "groups": _groups(form, row)}
    )
