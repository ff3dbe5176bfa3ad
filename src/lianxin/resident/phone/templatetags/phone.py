"""What the phone's frame needs on every page, also on pages of the rooms below that only extend it."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import NoReverseMatch, reverse

from lianxin.resident.card import acting
from lianxin.resident.phone import display
from lianxin.standards.text import T

register = template.Library()

_BAR = (
    ("home", "house-heart", T("首页", "Home")),
    ("find", "calendar-plus", T("挂号", "Book")),
    ("record", "journal-medical", T("健康档案", "Record")),
    ("me", "person", T("我的", "Me")),
)


@register.simple_tag(takes_context=True)
def acting_for(context: template.Context) -> Any:
    """Whom the page is about (:class:`~lianxin.resident.card.acting.Member`), or None."""
    request = context.get("request")
    return acting.member(request) if request is not None else None


@register.simple_tag(takes_context=True)
def bar(context: template.Context, here: str = "") -> list[dict[str, Any]]:
    """The four places at the foot of the page; the one a page belongs to is marked."""
    found = []
    for name, icon, label in _BAR:
        try:
            url = reverse(f"phone:{name}")
        except NoReverseMatch:
            continue
        found.append({"url": url, "icon": icon, "label": label, "here": name == here})
    return found


@register.simple_tag(takes_context=True)
def large_type(context: template.Context) -> bool:
    """Whether large type is chosen on this phone."""
    request = context.get("request")
    return request is not None and display.large(request)
