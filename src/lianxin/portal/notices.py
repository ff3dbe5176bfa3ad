"""Notices: lines about cases for one's role at one's institution, or for oneself."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access.web import page
from lianxin.duty import notices as service
from lianxin.portal.lines import address

PAGE = 40


@page()
def notices(request: HttpRequest) -> HttpResponse:
    """The list, newest first; unread ones unless ``?show=all``."""
    only_unread = request.GET.get("show") != "all"
    rows = service.unread(request.scope) if only_unread else service.of(request.scope)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {
        "lines": lines,
        "shown": [(notice, address(notice.case.kind, notice.case.number)) for notice in lines],
        "only_unread": only_unread,
    }
    return render(request, "portal/notices.html", context)


@page()
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark what is addressed to me as read: one notice (``notice``) or all of them."""
    one = request.POST.get("notice", "")
    service.mark_read(request.scope, [int(one)] if one.isdigit() else None)
    return redirect("portal:notices")
