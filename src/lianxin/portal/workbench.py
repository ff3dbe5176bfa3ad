"""The workbench: what I owe, most pressing first; what others owe to cases of mine; what is late where I answer for it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import claims, worklist
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Duty
from lianxin.network import roles
from lianxin.portal import lines, nav
from lianxin.standards import clock
from lianxin.standards.text import T

LIMIT = 50  # nobody works on the hundredth line; the page costs the same whatever is open


def tabs(scope: Scope) -> dict[str, Any]:
    """What the tabs above every list show."""
    counts = worklist.counts(scope)
    return {
        "counts": counts,
        "open_total": sum(c.open for c in counts),
        "late_total": sum(c.late for c in counts),
        "may_overdue": scope.has(roles.MANAGER),
    }


@page()
def workbench(request: HttpRequest) -> HttpResponse:
    """My duties; ``?kind=`` one kind, ``?all=1`` also those a colleague has taken."""
    scope = request.scope
    kind, everyone = request.GET.get("kind") or None, request.GET.get("all") == "1"
    context = tabs(scope) | {"here": "mine", "kind": kind, "everyone": everyone}
    items = worklist.worklist(scope, limit=LIMIT, kind=kind, everyone=everyone)
    context["lines"] = lines.of_items(items, scope)
    context["climbed"] = (
        lines.of_items(worklist.escalated(scope), scope, masked=not scope.clinical) if not kind else []
    )
    context["full"] = len(items) == LIMIT
    context["shortcuts"] = [e for e in nav.entries(scope) if e.path != "/"]
    context["soon_total"] = sum(line.clock_state == "soon" for line in context["lines"])
    context["part"] = {
        0: T("夜深了", "Good night"),
        1: T("早上好", "Good morning"),
        2: T("下午好", "Good afternoon"),
        3: T("晚上好", "Good evening"),
    }[min(clock.now().hour // 6, 3)]
    return render(request, "portal/workbench.html", context)


@page()
def waiting(request: HttpRequest) -> HttpResponse:
    """Open duties of other institutions in cases where mine plays a part: what I am waiting for."""
    scope = request.scope
    duties: list[Duty] = []
    if scope.institution_ids and scope.clinical:
        duties = list(
            Duty.objects.within(scope)
            .filter(
                ended="",
                case__terminal=False,
                case__party_rows__until_seq__isnull=True,
                case__party_rows__institution_id__in=scope.institution_ids,
            )
            .exclude(owner_institution_id__in=scope.institution_ids)
            .select_related("case", "person", "owner_institution")
            .distinct()
            .order_by("due_at")[:LIMIT]
        )
    context = tabs(scope) | {"here": "waiting", "lines": lines.of_duties(duties, scope)}
    return render(request, "portal/waiting.html", context)


@page(roles.MANAGER)
def overdue(request: HttpRequest) -> HttpResponse:
    """Late duties of the institutions an office answers for; patients' names are masked: it follows cases, not records."""
    scope = request.scope
    duties = list(
        Duty.objects.unscoped("the consortium office follows late duties of its members; names are masked")
        .filter(
            ended="",
            due_at__lt=clock.now(),
            owner_institution_id__in=scope.institution_ids | scope.oversight_ids,
        )
        .select_related("case", "person", "owner_institution")
        .order_by("due_at")[:LIMIT]
    )
    context = tabs(scope) | {
        "here": "overdue",
        "lines": lines.of_duties(duties, scope, masked=True),
    }
    return render(request, "portal/overdue.html", context)


@page()
@require_POST
def claim(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a duty of the team, or give it back (``release=1``)."""
    try:
        if request.POST.get("release"):
            claims.release(pk, request.scope)
        else:
            claims.claim(pk, request.scope)
    except MoveError as error:
        messages.error(request, error.text)
    back = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return redirect(back if safe else "portal:workbench")
