"""The first page: coming visits with the place in the queue, numbers offered, and what happens next in one's referrals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.resident.booking.waiting import position
from lianxin.resident.card import acting
from lianxin.resident.phone import journeys, words
from lianxin.standards import clock
from lianxin.standards.text import T, Text

STATES = {
    "requested": (T("等医院确认", "waiting for the hospital"), "status-warn"),
    "booked": (T("已预约", "booked"), "status-good"),
    "arrived": (T("已到诊", "you are registered"), "status-good"),
    "to_rebook": (T("需要改约", "to be rebooked"), "status-bad"),
    "missed": (T("未到诊", "missed"), "status-warn"),
    "no_show": (T("爽约", "missed"), "status-bad"),
    "fulfilled": (T("已就诊", "seen"), ""),
    "cancelled": (T("已取消", "cancelled"), ""),
}


@dataclass
class Visit:
    """An appointment as the pages show it."""

    row: Appointment
    when: Text
    label: Text
    tone: str
    queue: Any = None

    @property
    def number(self) -> str:
        """The case's number."""
        return self.row.case.number

    @property
    def state(self) -> str:
        """Where the case stands."""
        return self.row.case.state

    @property
    def coming(self) -> bool:
        """Whether it is still ahead (or today)."""
        return self.row.live and self.row.ends_at > clock.now()

    @property
    def today(self) -> bool:
        """Whether it is today."""
        return words.local(self.row.at).date() == clock.today()


def visit_of(row: Appointment, *, queued: bool = True) -> Visit:
    """An appointment in words; the queue only on the day (before it the number says it)."""
    label, tone = STATES.get(row.case.state, (Text(row.case.state, row.case.state), ""))
    made = Visit(row, words.when_words(row.at), label, tone)
    if queued and made.today and row.case.state in ("booked", "arrived"):
        made.queue = service.queue(row)
    return made


@dataclass
class Wait:
    """A place on a waiting list, or the number offered from it."""

    row: Waiting
    when: Text
    offered: bool
    until: Text | None
    before: int


def wait_of(row: Waiting) -> Wait:
    """A place on a waiting list in words."""
    at = row.place.at if row.place is not None else row.session.starts_at if row.session is not None else None
    when = words.when_words(at) if at is not None else words.date_words(row.day)
    offered = row.state == "offered"
    until = words.when_words(row.offer_until) if offered and row.offer_until else None
    return Wait(row, when, offered, until, 0 if offered else max(position(row) - 1, 0))


@page(resident=True)
def home(request: HttpRequest) -> HttpResponse:
    """What is coming and what is owed to me, most pressing first."""
    who = acting.member(request)
    if who is None:
        return render(request, "phone/unbound.html", {"here": "home"})
    scope, person = request.scope, who.person
    visits = [visit_of(a) for a in service.of_person(scope, person.pk) if a.live]
    context = {
        "here": "home",
        "who": who,
        "visits": visits[:10],
        "waits": [wait_of(w) for w in service.waiting_of(scope, person.pk)],
        "referrals": journeys.open_ones(scope, person.pk),
        "greeting": greeting(),
    }
    audit.write(scope, "read", person_id=person.pk, what="phone home")
    return render(request, "phone/home.html", context)


def greeting() -> Text:
    """早上好, 下午好 or 晚上好."""
    hour = clock.now().hour
    if hour < 11:
        return T("早上好", "Good morning")
    return T("下午好", "Good afternoon") if hour < 18 else T("晚上好", "Good evening")
