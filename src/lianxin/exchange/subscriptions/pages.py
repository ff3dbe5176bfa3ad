"""Subscriptions for the system administrator: their state and backlog, the events of one, replay, pause, resume, retry now.

What is told is never shown here: only of which type, how large, and what became of it.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Max, Min, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.exchange.subscriptions import criteria, lifecycle
from lianxin.exchange.subscriptions.models import (
    ACTIVE,
    ERROR,
    OFF,
    REQUESTED,
    SENT,
    WAITING,
    WITHHELD,
    Subscription,
    SubscriptionEvent,
)
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 50
STATES = {
    REQUESTED: T("待确认", "Requested"),
    ACTIVE: T("生效", "Active"),
    ERROR: T("出错", "Error"),
    OFF: T("停止", "Off"),
}
OUTCOMES = {WAITING: T("待发送", "Waiting"), SENT: T("已送达", "Taken"), WITHHELD: T("不予发送", "Withheld")}
INTERACTIONS = {
    "create": T("新建", "Created"),
    "update": T("修改", "Changed"),
    "delete": T("删除", "Deleted"),
}
_WAITING = Q(subscriptionevent__status=WAITING)


def _lines(rows: QuerySet[Subscription]) -> Any:
    return rows.select_related("client__institution").annotate(
        backlog=Count("subscriptionevent", filter=_WAITING),
        oldest=Min("subscriptionevent__happened_at", filter=_WAITING),
        last_sent=Max("subscriptionevent__sent_at"),
    )


def _dress(one: Any) -> dict[str, Any]:
    """A row with what the templates say about it."""
    return {
        "row": one,
        "title": criteria.headline(one),
        "state": STATES[one.status],
        "error": lifecycle.told(one.error or (one.last_error if one.failures else "")),
        "late": bool(one.backlog and one.oldest and clock.now() - one.oldest > dt.timedelta(minutes=10)),
    }


@page(SYSTEM_ADMIN)
def subscriptions(request: HttpRequest) -> HttpResponse:
    """All subscriptions, those with trouble first."""
    asked = {k: request.GET.get(k, "").strip() for k in ("q", "state")}
    rows = Subscription.objects.all()
    if asked["q"]:
        rows = rows.filter(
            Q(client__name__icontains=asked["q"]) | Q(endpoint__icontains=asked["q"]) | Q(fhir_id=asked["q"])
            | Q(criteria__icontains=asked["q"])
        )  # fmt: skip
    if asked["state"] == "trouble":
        rows = rows.filter(Q(status=ERROR) | Q(failures__gt=0))
    elif asked["state"] in STATES:
        rows = rows.filter(status=asked["state"])
    elif not asked["state"]:
        rows = rows.exclude(status=OFF)
    lines = Paginator(_lines(rows).order_by("-failures", "client__name", "pk"), PAGE).get_page(
        request.GET.get("page")
    )
    live = Subscription.objects.exclude(status=OFF)
    context = {
        "lines": lines,
        "rows": [_dress(one) for one in lines],
        "asked": asked,
        "states": [("trouble", T("有问题的", "With trouble")), *STATES.items()],
        "figures": {
            "active": live.filter(status=ACTIVE).count(),
            "trouble": live.filter(Q(status=ERROR) | Q(failures__gt=0)).count(),
            "waiting": SubscriptionEvent.objects.filter(status=WAITING).count(),
        },
    }
    return render(request, "subscriptions/list.html", context)


@page(SYSTEM_ADMIN)
def subscription(request: HttpRequest, pk: int) -> HttpResponse:
    """One subscription: facts, what may be done, and its events, newest first."""
    one = get_object_or_404(_lines(Subscription.objects.all()), pk=pk)
    wanted = request.GET.get("status", "")
    rows = SubscriptionEvent.objects.filter(subscription_id=pk)
    if wanted in OUTCOMES:
        rows = rows.filter(status=wanted)
    lines = Paginator(rows.order_by("-number"), PAGE).get_page(request.GET.get("page"))
    span = SubscriptionEvent.objects.filter(subscription_id=pk).aggregate(
        first=Min("number"), last=Max("number")
    )
    dressed = _dress(one)
    context = {
        **dressed,
        "line_of": dressed,
        "last_error": lifecycle.told(one.last_error),
        "lines": lines,
        "events": [
            {"event": e, "outcome": OUTCOMES[e.status], "did": INTERACTIONS[e.interaction], "error": lifecycle.told(e.error)}
            for e in lines
        ],
        "outcomes": OUTCOMES.items(),
        "wanted": wanted,
        "span": span,
        "filters": [f"{rtype}?{'&'.join('='.join(pair) for pair in pairs)}" for rtype, pairs in one.filters],
    }  # fmt: skip
    return render(request, "subscriptions/one.html", context)


@require_POST
@page(SYSTEM_ADMIN)
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Pause, resume, retry now, or replay from an event or a time."""
    one = get_object_or_404(Subscription, pk=pk)
    detail: dict[str, Any] = {"did": what}
    if what in ("pause", "resume"):
        lifecycle.pause(pk, what == "pause")
        done = (
            T("已暂停发送；事件照常记录。", "Sending is paused; events are still written down.")
            if what == "pause"
            else T("已恢复发送。", "Sending goes on.")
        )
    elif what == "retry":
        lifecycle.retry(pk)
        done = T("马上重试。", "It is tried again now.")
    elif what == "replay":
        number = _from(request, pk)
        if number is None:
            messages.error(
                request,
                T("没有可重发的事件：请填已有的事件号，或其后有事件的时间。",
                  "There is nothing to replay: give the number of an event, or a time after which there are events."),
            )  # fmt: skip
            return redirect("subscriptions:one", pk)
        count = lifecycle.replay(pk, number)
        detail |= {"from": number, "events": count}
        done = T("从第 {n} 号起重发 {c} 个事件。", "{c} events are sent again, from number {n}.").format(
            n=number, c=count
        )
    else:
        raise Http404
    audit.write(request.scope, "admin", what=f"Subscription/{one.fhir_id}", detail=detail)
    messages.success(request, done)
    return redirect("subscriptions:one", pk)


def _from(request: HttpRequest, pk: int) -> int | None:
    """The number to replay from: as given, or of the first event since a local time; None when there is none."""
    number, since = request.POST.get("number", "").strip(), request.POST.get("since", "").strip()
    if number.isdigit() and len(number) < 19:
        known = SubscriptionEvent.objects.filter(subscription_id=pk, number__gte=int(number)).exists()
        return int(number) if known else None
    try:
        moment = dt.datetime.fromisoformat(since)
    except ValueError:
        return None
    return lifecycle.number_at(pk, moment if moment.tzinfo else moment.replace(tzinfo=clock.ZONE))


app_name = "subscriptions"
urlpatterns = [
    path("manage/subscriptions", subscriptions, name="list"),
    path("manage/subscriptions/<int:pk>", subscription, name="one"),
    path("manage/subscriptions/<int:pk>/<slug:what>", act, name="act"),
]
