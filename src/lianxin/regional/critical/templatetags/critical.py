"""The banner of critical values, for every page about a person: ``{% load critical %}{% critical_banner person.pk %}``."""

from __future__ import annotations

from typing import Any

from django import template

from lianxin.regional.critical import pages

register = template.Library()


@register.inclusion_tag("critical/_banner.html", takes_context=True)
def critical_banner(context: template.Context, person_id: int) -> dict[str, Any]:
    """Calls about this person that nobody has acted on yet, as far as the reader may see them (nothing otherwise)."""
    request = context.get("request")
    scope = getattr(request, "scope", None)
    return pages.banner(scope, person_id) if scope is not None and scope.clinical else {"criticals": []}
