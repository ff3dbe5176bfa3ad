"""Words of the imaging room in templates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template

from lianxin.regional.imaging import rules

register = template.Library()


@register.simple_tag
def finding_words(finding: Mapping[str, Any]) -> str:
    """A finding of the quality gate in the active language."""
    return str(rules.words(finding))
