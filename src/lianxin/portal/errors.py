"""The pages for what is refused, missing or broken (``handler403``, ``handler404``, ``handler500`` of ``config.urls``)."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils.translation import get_language

from lianxin.standards.text import Text


def refused(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """403: says why (the exception's own words when they are in both languages) and what to do."""
    why = getattr(exception, "message", None)
    return render(request, "portal/refused.html", {"why": why if isinstance(why, Text) else None}, status=403)


def missing(request: HttpRequest, exception: Any = None) -> HttpResponse:
    """404."""
    return render(request, "portal/missing.html", status=404)


def broken(request: HttpRequest) -> HttpResponse:
    """500: rendered without the shell, which may itself be what failed."""
    english = (get_language() or "").startswith("en")
    return HttpResponse(render_to_string("portal/broken.html", {"english": english}), status=500)
