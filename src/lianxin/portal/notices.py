"""Notices: lines about cases for one's role at one's institution, or for oneself."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import notices as service
from lianxin.duty.models import Notice
from lianxin.index.models import Person
from lianxin.portal.lines import about, address

PAGE = 40


def _shown(rows: list[Notice], scope: Scope) -> list[dict[str, Any]]:
    """Each notice with its address; who and what it is about only where the reader may open the person."""
    people = list({n.case.person_id for n in rows if n.case.person_id is not None})
    may: set[int | None] = {None} | (relationships.seen(scope, people) if scope.clinical else set())
    cases = {n.case_id: n.case for n in rows if n.case.person_id in may}
    names = dict(Person.objects.unscoped("names of people the reader has a relationship with").filter(
        pk__in={c.person_id for c in cases.values()} - {None}).values_list("pk", "name"))  # fmt: skip
    subjects = about(cases.values(), scope)
    return [
        {"line": n, "url": address(n.case.kind, n.case.number), "name": names.get(n.case.person_id, ""),
         "about": subjects.get(n.case_id)}
        for n in rows
    ]  # fmt: skip


@page()
def notices(request: HttpRequest) -> HttpResponse:
    """The list, newest first; unread ones unless ``?show=all``."""
    only_unread = request.GET.get("show") != "all"
    rows = service.unread(request.scope) if only_unread else service.of(request.scope)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    context = {
        "lines": lines,
        "shown": _shown(list(lines), request.scope),
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
