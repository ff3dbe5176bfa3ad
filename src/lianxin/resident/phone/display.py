"""How the pages look on this phone: large type, kept in a cookie so that it holds before signing in and without JavaScript."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

COOKIE = "lianxin_large"
_YEAR = 365 * 86400


def large(request: HttpRequest) -> bool:
    """Whether large type (x 1.25) is chosen on this phone."""
    return request.COOKIES.get(COOKIE) == "1"


def back_to(request: HttpRequest, otherwise: str = "/m/") -> str:
    """The page a small form was sent from, if it is one of ours."""
    target = request.POST.get("next", "")
    safe = target.startswith("/") and url_has_allowed_host_and_scheme(
        target, {request.get_host()}, require_https=request.is_secure()
    )
    return target if safe else otherwise


@require_POST
def type_size(request: HttpRequest) -> HttpResponse:
    """POST ``large`` 1 or 0: large or normal type from now on, on this phone."""
    response = redirect(back_to(request))
    if request.POST.get("large") == "1":
        response.set_cookie(
            COOKIE, "1", max_age=_YEAR, samesite="Lax", httponly=True, secure=request.is_secure()
        )
    else:
        response.delete_cookie(COOKIE, samesite="Lax")
    return response
