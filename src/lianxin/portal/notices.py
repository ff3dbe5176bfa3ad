"""Notices: lines about cases for one's role at one's institution, or for oneself."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.models import Notice
from lianxin.standards import clock

PAGE = 40


def addressed_to(scope: Scope) -> Q:
    """Notices for the institution's role (or the whole institution) and those for this account."""
    mine = Q(account_id=scope.account_id)
    if scope.institution_ids and scope.sees_institution_rows:
        mine |= Q(institution_id__in=scope.institution_ids, account__isnull=True) & (
            Q(role="") | Q(role__in=scope.roles)
        )
    return mine


def unread_count(scope: Scope) -> int:
    """How many are unread; counting stops at 100, the bell shows 99+."""
    return Notice.objects.filter(addressed_to(scope), read_at__isnull=True)[:100].count()


@page()
def notices(request: HttpRequest) -> HttpResponse:
    """The list, newest first, unread ones marked."""
    rows = Notice.objects.filter(addressed_to(request.scope)).select_related("case", "institution")
    only_unread = request.GET.get("show") != "all"
    if only_unread:
        rows = rows.filter(read_at__isnull=True)
    lines = Paginator(rows.order_by("-created_at", "-id"), PAGE).get_page(request.GET.get("page"))
    context: dict[str, Any] = {"lines": lines, "only_unread": only_unread}
    return render(request, "portal/notices.html", context)


@page()
@require_POST
def read_all(request: HttpRequest) -> HttpResponse:
    """Mark what is addressed to me as read: one notice (``notice``) or all of them."""
    rows = Notice.objects.filter(addressed_to(request.scope), read_at__isnull=True)
    if request.POST.get("notice", "").isdigit():
        rows = rows.filter(pk=int(request.POST["notice"]))
    rows.update(read_at=clock.now())
    return redirect("portal:notices")
