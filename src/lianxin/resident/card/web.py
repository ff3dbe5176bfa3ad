"""Small helpers of this room's pages: the caller's address, where to go on, fresh proof, whom a page is about."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from lianxin.access.models import Account
from lianxin.index.models import Person
from lianxin.resident.card import acting
from lianxin.standards import clock

HOME = "/m/"
PROVED = "lianxin_proved_at"
FRESH_SECONDS = 15 * 60


def address(request: HttpRequest) -> str:
    """Network address of the caller (the audit notes the same)."""
    return str(request.META.get("REMOTE_ADDR", ""))


def account(request: HttpRequest) -> Account:
    """Who has signed in (the guard has made sure that somebody has)."""
    assert isinstance(request.user, Account)
    return request.user


def onward(request: HttpRequest, otherwise: str = HOME) -> str:
    """``next`` when it is an address of the resident's pages, else ``otherwise``."""
    target = request.POST.get("next") or request.GET.get("next") or ""
    safe = target.startswith("/m/") and url_has_allowed_host_and_scheme(
        target, {request.get_host()}, require_https=request.is_secure()
    )
    return target if safe else otherwise


def mark_proved(request: HttpRequest) -> None:
    """Whoever holds the phone has just shown so."""
    request.session[PROVED] = int(clock.now().timestamp())


def is_fresh(request: HttpRequest) -> bool:
    """Whether that is less than a quarter of an hour ago."""
    return 0 <= clock.now().timestamp() - request.session.get(PROVED, 0) < FRESH_SECONDS


def fresh(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Guard a view (inside ``@page(resident=True)``) that a found phone must not open: a code is asked for again when the last one is old."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_fresh(request):
            return view(request, *args, **kwargs)
        back = request.get_full_path() if request.method == "GET" else request.path
        return redirect(reverse("card:prove") + "?" + urlencode({"next": back}))

    return guarded


def about(request: HttpRequest) -> Person | None:
    """Whom the page is about: the one chosen in the frame, else oneself; None before an identity is bound."""
    found = acting.member(request)
    return found.person if found is not None else None
