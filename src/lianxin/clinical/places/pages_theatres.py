"""Operating theatres: the day's board, an operation with its team, turnover time kept between two."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.places import common
from lianxin.clinical.places.models import Operation
from lianxin.index.models import Person
from lianxin.pool import exclusive
from lianxin.pool.errors import BookingError, NotPossible
from lianxin.pool.models import Claim, Resource
from lianxin.standards import clock
from lianxin.standards.text import T

OPENS, CLOSES = 7, 21
"""Hours the board draws; what lies outside is listed and not drawn."""
VERBS = {
    "occupy": T("开始手术", "Begin"),
    "vacate": T("手术结束", "End"),
    "clean": T("清洁完成", "Cleaned"),
    "cancel": T("取消", "Cancel"),
}
OFFERED = {
    "assigned": ("occupy", "cancel"),
    "held": ("cancel",),
    "occupied": ("vacate",),
    "cleaning": ("clean",),
}
FILLS = {
    "assigned": "#1f6f9c",
    "occupied": "#0a6b66",
    "cleaning": "#b7791f",
    "blocked": "#b42318",
    "ended": "#56635f",
}


def plan_operation(
    scope: Scope,
    theatre: Resource,
    person: Person,
    at: dt.datetime,
    minutes: int,
    procedure: str,
    team: str,
    key: str,
) -> Claim:
    """Claim a theatre for an operation and the turnover after it. Raises like ``exclusive.hold``, and for a time that is none."""
    relationships.require(scope, person.pk)
    if not procedure.strip() or not team.strip():
        raise NotPossible(T("请填写手术名称和人员。", "Give the procedure and the team."))
    if not 10 <= minutes <= 24 * 60:
        raise NotPossible(
            T("手术时长须在 10 分钟至 24 小时之间。", "An operation lasts between 10 minutes and 24 hours.")
        )
    if at < clock.now() - dt.timedelta(minutes=5):
        raise NotPossible(T("开始时间已过。", "That time has passed."))
    ends = at + dt.timedelta(minutes=minutes)
    with transaction.atomic():
        claim = exclusive.book(
            theatre.pk, person.pk, at, ends + dt.timedelta(minutes=theatre.clean_minutes), key, reason=procedure
        )  # fmt: skip
        Operation.objects.unscoped("the same request again").get_or_create(
            claim=claim,
            defaults={
                "person": person, "institution_id": theatre.institution_id, "procedure": procedure.strip()[:120],
                "team": team.strip()[:300], "ends_at": ends, "made_by": scope.name[:80],
            },
        )  # fmt: skip
        audit.write(scope, "create", person_id=person.pk, what=f"operation {claim.pk}")
    return claim


def _x(moment: dt.datetime, start: dt.datetime) -> float:
    span = (CLOSES - OPENS) * 60
    minutes = (moment - start).total_seconds() / 60
    return round(min(max(minutes, 0), span) / span * 700, 1)


def day_board(scope: Scope, day: dt.date) -> list[dict[str, Any]]:
    """Theatres of the own institution with the day's claims, drawn and listed."""
    start = common.midnight(day)
    theatres = list(
        Resource.objects.filter(
            kind="theatre", active=True, institution_id__in=scope.institution_ids
        ).order_by("code")
    )
    rows = (
        Claim.objects.unscoped("the own theatres' day")
        .filter(
            resource__in=theatres,
            during__startswith__lt=start + dt.timedelta(days=1),
            during__endswith__gt=start,
        )
        .exclude(state="cancelled")
        .exclude(state="held", expires_at__lte=clock.now())
        .select_related("person", "operation")
        .order_by("during")
    )
    by: dict[int, list[Claim]] = {}
    for claim in rows:
        by.setdefault(claim.resource_id, []).append(claim)
    opens = start + dt.timedelta(hours=OPENS)
    board = []
    for theatre in theatres:
        lines = []
        for claim in by.get(theatre.pk, []):
            left, right = _x(claim.during.lower, opens), _x(claim.during.upper, opens)
            lines.append(
                {
                    "c": claim, "op": getattr(claim, "operation", None), "x": left, "w": max(right - left, 2),
                    "fill": FILLS.get(claim.state, "#b7791f"), "verbs": [(v, VERBS[v]) for v in OFFERED.get(claim.state, ())],
                }
            )  # fmt: skip
        board.append({"theatre": theatre, "lines": lines})
    return board


def _context(request: HttpRequest, **more: Any) -> dict[str, Any]:
    day = common.day_of(request)
    hours = [{"x": (h - OPENS) * 700 / (CLOSES - OPENS), "h": h} for h in range(OPENS, CLOSES + 1, 2)]
    return {
        "day": day, "board": day_board(request.scope, day), "before": day - dt.timedelta(days=1), "after": day + dt.timedelta(days=1),
        "hours": hours, "key": common.fresh(), "typed": {}, **more,
    }  # fmt: skip


@page(may="run_beds")
def board(request: HttpRequest) -> HttpResponse:
    """The day's theatres; POST plans an operation."""
    if request.method != "POST":
        audit.write(request.scope, "read", what="theatres")
        return render(request, "places/theatres.html", _context(request))
    post = request.POST
    try:
        theatre = common.own_resource(request.scope, post.get("theatre", ""), "theatre")
        person, at = common.person_of(post.get("person", "")), common.moment_of(post.get("at", ""))
        if person is None:
            raise NotPossible(
                T("没有找到该患者，请核对主索引号或卡号。", "No such patient; check the number or card.")
            )
        if at is None:
            raise NotPossible(T("请填写开始时间。", "Give the beginning."))
        plan_operation(
            request.scope, theatre, person, at, common.whole(post.get("minutes", "")), post.get("procedure", ""),
            post.get("team", ""), common.key_of(request, "theatre"),
        )  # fmt: skip
    except BookingError as refusal:
        more = {"trouble": refusal.text, "others": getattr(refusal, "alternatives", []), "typed": post}
        return render(request, "places/theatres.html", _context(request, **more), status=409)
    messages.success(request, str(T("手术已安排。", "The operation is planned.")))
    return redirect(
        f"{reverse('places:theatres')}?{urlencode({'day': at.astimezone(clock.ZONE).date().isoformat()})}"
    )


@require_POST
@page(may="run_beds")
def change(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Begin, end, cleaned, cancelled."""
    claim = (
        Claim.objects.unscoped("a claim on an own theatre")
        .filter(pk=pk, kind="theatre", institution_id__in=request.scope.institution_ids)
        .first()
    )
    if claim is None or verb not in VERBS:
        raise Http404
    try:
        if verb == "cancel":
            exclusive.cancel(claim, request.POST.get("reason", "") or "cancelled")
        else:
            {"occupy": exclusive.occupy, "vacate": exclusive.vacate, "clean": exclusive.clean}[verb](claim)
    except BookingError as refusal:
        messages.error(request, str(refusal.text))
    else:
        audit.write(
            request.scope, "update", person_id=claim.person_id, what=f"operation {pk}", detail={"act": verb}
        )
        messages.success(request, str(T("已办理：{what}", "Done: {what}").format(what=VERBS[verb])))
    day = claim.during.lower.astimezone(clock.ZONE).date().isoformat()
    return redirect(f"{reverse('places:theatres')}?{urlencode({'day': day})}")
