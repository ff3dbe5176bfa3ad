"""What the shell (top bar, menus) needs on every page; everything lazy, nothing for the signed-out."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject
from django.utils.translation import get_language

from lianxin.portal import nav


def shell(request: HttpRequest) -> dict[str, Any]:
    """``menu``, ``phone_menu``, ``scope``, ``my_posts``, ``unread`` and ``english`` for ``portal/base.html``."""
    english = (get_language() or "").startswith("en")
    scope = getattr(request, "scope", None)
    if scope is None:
        return {"english": english, "scope": None}

    def unread() -> int:
        from lianxin.duty.notices import unread_count

        return unread_count(scope)

    def posts() -> list[Any]:
        from lianxin.access import web

        return web.posts(request)

    return {
        "english": english,
        "scope": scope,
        "finder": scope.may("find_person"),
        "menu": nav.menu(scope, request.path),
        "phone_menu": [e for e in nav.entries(scope) if e.phone][:4],
        "unread": SimpleLazyObject(unread),
        "my_posts": SimpleLazyObject(posts),
    }
