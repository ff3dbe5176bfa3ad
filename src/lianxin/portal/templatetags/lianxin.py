"""Template tags that every room's templates have without loading: words in two languages and the components.

Each component is one include below ``portal/components/``; a room hands it plain values, never markup.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django import template
from django.forms import BaseForm, BoundField, CheckboxInput, RadioSelect, Select
from django.forms.widgets import CheckboxSelectMultiple, FileInput
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from lianxin.portal import words
from lianxin.standards.text import T, Text

register = template.Library()


@register.simple_tag
def t(zh: str, en: str, **values: Any) -> str:
    """``{% t "还有 {n} 项" "{n} left" n=count %}``: the pair in the active language, places filled."""
    text = Text(zh, en)
    return str(text.format(**values) if values else text)


@register.simple_tag
def icon(name: str, label: str = "") -> SafeString:
    """A Bootstrap icon by name; decorative unless it has a ``label``."""
    if label:
        return format_html('<i class="bi bi-{}" role="img" aria-label="{}"></i>', name, label)
    return format_html('<i class="bi bi-{}" aria-hidden="true"></i>', name)


@register.filter
def named(thing: Any, length: str = "full") -> str:
    """The name of an institution, department, consortium or practitioner in the active language.

    ``{{ institution|named }}``, ``{{ institution|named:"short" }}``; falls back to the Chinese name.
    """
    if thing is None:
        return "—"
    if (get_language() or "").startswith("en") and getattr(thing, "name_en", None):
        return str(thing.name_en)
    if length == "short" and getattr(thing, "short_name", None):
        return str(thing.short_name)
    return str(getattr(thing, "name", thing))


@register.filter
def sex(value: str) -> str:
    """男 / Male from the code ``male``."""
    return str(words.SEX.get(value, words.SEX["unknown"]))


@register.filter
def age(birth: dt.date | None) -> str:
    """``58 岁`` from a date of birth."""
    return str(words.age(birth))


@register.filter
def moment(value: dt.datetime | dt.date | None) -> str:
    """``11-23 09:40`` in Shanghai time."""
    return words.moment(value)


@register.filter
def day(value: dt.datetime | dt.date | None) -> str:
    """The date alone."""
    return words.moment(value, with_time=False)


@register.filter
def sourced(words: str) -> str:
    """A source note whose author left it open (``to confirm``) says so in the reader's language."""
    text = str(words or "")
    for mark in ("(to confirm)", "（to confirm）", ",to confirm", "，to confirm", "to confirm"):
        open_ = (
            T("（出处待核）", " (source to be checked)")
            if "(" in mark or "（" in mark
            else T("，出处待核", ", source to be checked")
        )
        text = text.replace(mark, str(open_))
    return text


@register.filter
def item(mapping: Mapping[Any, Any], key: Any) -> Any:
    """``{{ mapping|item:key }}``; nothing when it is not there."""
    return mapping.get(key) if mapping else None


@register.filter
def role(code: str) -> str:
    """The label of a role code (``gp`` -> 全科医生 / General practitioner)."""
    from lianxin.network.roles import label

    return str(label(code))


@register.simple_tag(takes_context=True)
def active_post(context: template.Context) -> str:
    """Where and as what one acts now: the active post's institution and role, or the administrator's role."""
    scope = context.get("scope")
    if scope is None:
        return ""
    current = next((p for p in context.get("my_posts") or [] if p.id == scope.post_id), None)
    if current is not None:
        return f"{named(current.institution, 'short')} · {role(current.role)}"
    return " · ".join(role(code) for code in sorted(scope.roles))


@register.inclusion_tag("portal/components/clock_badge.html")
def clock_badge(due: dt.datetime | None, paused: bool = False) -> dict[str, Any]:
    """Time left or over, with an icon and words (never colour alone)."""
    return {"clock": words.time_left(due, paused=bool(paused)), "due": due}


@register.inclusion_tag("portal/components/tier_badge.html")
def tier_badge(tier: Any) -> dict[str, Any]:
    """村 乡 县 市 省 in the tier's own hue; takes an institution or the tier's code."""
    code = getattr(tier, "tier", tier) or ""
    return {"code": code, "label": words.TIERS.get(code, Text(str(code), str(code)))}


@register.inclusion_tag("portal/components/institution.html")
def institution(inst: Any, link: bool = False) -> dict[str, Any]:
    """Tier badge and name of an institution on one line."""
    return {"inst": inst, "link": link}


@register.inclusion_tag("portal/components/person_banner.html", takes_context=True)
def person_banner(
    context: template.Context,
    person: Any,
    allergies: list[Any] | None = None,
    alerts: list[Any] | None = None,
    link: bool = True,
) -> dict[str, Any]:
    """Name, sex, age, number, home institution, allergies and alerts: stays visible on a person's pages.

    ``allergies=None`` means *not asked for here*; an empty list says "none recorded" in words.
    """
    return {"person": person, "allergies": allergies, "alerts": alerts or [], "link": link}


@register.inclusion_tag("portal/components/journey_strip.html")
def journey_strip(steps: list[Any]) -> dict[str, Any]:
    """The strip of ``duty.kernel.journey(case)``: past steps dated and signed, where it stands, what comes next."""
    return {"steps": steps}


@register.inclusion_tag("portal/components/duty_line.html", takes_context=True)
def duty_line(context: template.Context, work: Any, waiting: bool = False) -> dict[str, Any]:
    """One open duty of ``duty.kernel.worklist``: who, what, for whom, how long left, the one button."""
    return {
        "work": work,
        "waiting": waiting,
        "links": "*" not in work.person_name,
        "back": context["request"].get_full_path() if "request" in context else "",
    }


@register.inclusion_tag("portal/components/number.html")
def number_with_origin(
    value: Any, url: str = "", label: Any = "", unit: Any = "", note: Any = "", tone: str = ""
) -> dict:
    """A figure that opens down to the records it counts."""
    return {"value": value, "url": url, "label": label, "unit": unit, "note": note, "tone": tone}


@register.inclusion_tag("portal/components/empty_state.html")
def empty_state(icon: str, title: Any, text: Any = "", url: str = "", action: Any = "") -> dict[str, Any]:
    """A calm message where a list would be, with what one may do next."""
    return {"icon": icon, "title": title, "text": text, "url": url, "action": action}


@register.inclusion_tag("portal/components/pagination.html", takes_context=True)
def pagination(context: template.Context, page: Any) -> dict[str, Any]:
    """Previous, next and where one is, for a Django ``Page``; keeps the other query parameters."""
    query = context["request"].GET.copy()
    query.pop("page", None)
    return {"page": page, "query": urlencode(list(query.lists()), doseq=True)}


@register.simple_block_tag
def evidence(content: str, summary: Any = "") -> SafeString:
    """``{% evidence %}…{% endevidence %}``: a drawer that answers "why is this here?"."""
    label = summary or T("为什么在这里？", "Why is this here?")
    return format_html(
        '<details class="evidence"><summary><i class="bi bi-info-circle" aria-hidden="true"></i> {}</summary>'
        '<div class="evidence-body">{}</div></details>',
        label,
        content,
    )


def _widget(bound: BoundField) -> tuple[str, SafeString]:
    """The kind of a field (``check``, ``choices``, ``plain``) and its widget with classes and aria set."""
    widget = bound.field.widget
    described = [
        f"{bound.auto_id}_{part}"
        for part, there in (("help", bound.help_text), ("error", bound.errors))
        if there
    ]
    attrs: dict[str, Any] = {"aria-describedby": " ".join(described)} if described else {}
    if bound.errors:
        attrs["aria-invalid"] = "true"
    kind, css = "plain", "form-control"
    if isinstance(widget, CheckboxSelectMultiple | RadioSelect):
        kind, css = "choices", "choice"
    elif isinstance(widget, CheckboxInput):
        kind, css = "check", "form-check-input"
    elif isinstance(widget, Select):
        css = "form-select"
    elif isinstance(widget, FileInput):
        css = "form-control"
    own = widget.attrs.get("class", "")
    attrs["class"] = f"{css} {own} {'is-invalid' if bound.errors else ''}".strip()
    return kind, bound.as_widget(attrs=attrs)


@register.inclusion_tag("portal/components/field.html")
def field(bound: BoundField, hide_label: bool = False, column: str = "") -> dict[str, Any]:
    """One form field: label, widget, help, errors with the cure, tied together for screen readers."""
    kind, widget = _widget(bound)
    return {"field": bound, "kind": kind, "widget": widget, "hide_label": hide_label, "column": column}


@register.inclusion_tag("portal/components/form_fields.html")
def form_fields(form: BaseForm, columns: int = 1) -> dict[str, Any]:
    """All fields of a form in one or two columns, preceded by a summary of the errors that links to each field."""
    return {"form": form, "column": "col-md-6" if columns == 2 else "col-12"}
