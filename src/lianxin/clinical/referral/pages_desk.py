"""The desks: what comes in, what goes down, who arrives today. Lists by state with clocks and the few acts a desk makes.

Each list is one query of referrals and one pass of the kernel's guards over them (``allowed_many``), so the buttons are
exactly the moves that would succeed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral import pages_view
from lianxin.clinical.referral.models import Referral
from lianxin.clinical.referral.moves import RELATED
from lianxin.duty import kernel
from lianxin.duty.models import Duty
from lianxin.index import registry
from lianxin.network import roles
from lianxin.standards import clock
from lianxin.standards.text import T, Text

RECEIVERS = (
    roles.REFERRAL_DESK,
    roles.CLINICIAN,
    roles.GP,
    roles.FAMILY_DOCTOR,
    roles.VILLAGE_DOCTOR,
    roles.WARD,
    roles.RECEPTION,
    roles.MANAGER,
)
SENDERS_DOWN = (*RECEIVERS,)
ARRIVALS = (
    roles.RECEPTION,
    roles.REFERRAL_DESK,
    roles.CLINICIAN,
    roles.GP,
    roles.FAMILY_DOCTOR,
    roles.VILLAGE_DOCTOR,
    roles.WARD,
)
LIMIT = 200
QUICK = 3


@dataclass(frozen=True)
class Group:
    """A heap of a desk: the cases in these states (and with these side facts)."""

    code: str
    label: Text
    hint: Text
    states: tuple[str, ...]


RECEIVING = (
    Group(
        "new",
        T("待处理", "To decide"),
        T("签收、追问、接诊或退回", "Acknowledge, ask, accept or return"),
        ("submitted", "received"),
    ),
    Group(
        "book",
        T("待安排", "To book"),
        T("已接诊，约号或候诊", "Accepted: book or waitlist"),
        ("accepted", "no_show"),
    ),
    Group(
        "come", T("待到诊", "To arrive"), T("已约号，等人来", "Booked: waiting for the patient"), ("booked",)
    ),
    Group(
        "care",
        T("诊治中", "In care"),
        T("治疗、出院、写回信", "Treat, discharge, write back"),
        ("arrived", "in_care"),
    ),
    Group(
        "sent",
        T("待对方签收", "Letter out"),
        T("回信已发，等转出方签收", "Waiting for the referrer to acknowledge"),
        ("outcome_sent",),
    ),
)


def _rows(scope: Scope) -> QuerySet[Referral]:
    return (
        Referral.objects.within(scope)
        .select_related("case", "person", *RELATED)
        .filter(case__terminal=False)
        .order_by("case__due_at")
    )


def _mine(scope: Scope) -> frozenset[int]:
    return scope.institution_ids | scope.oversight_ids


def lines(found: Iterable[Referral], scope: Scope) -> list[dict[str, Any]]:
    """Referrals with their state in words, clock, and the acts offered first."""
    listed = list(found)
    may = kernel.allowed_many([r.case for r in listed], scope)
    out = []
    for r in listed:
        open_moves = [a.move for a in may.get(r.case_id, []) if a.ok]
        open_moves.sort(key=lambda m: {"primary": 0, "quiet": 1, "danger": 2}.get(m.tone, 1))
        out.append(
            {
                "r": r,
                "state_label": pages_view.state_label(r.case),
                "direction": pages_view.DIRECTIONS[r.direction],
                "paused": r.case.facts.get("info") == "asked",
                "booking": pages_view.booking_line(r),
                "quick": [
                    {
                        "name": m.name,
                        "label": m.label,
                        "tone": m.tone,
                        "key": str(i + 1),
                        "simple": m.form is None,
                    }
                    for i, m in enumerate(open_moves[:QUICK])
                ],
                "more": max(len(open_moves) - QUICK, 0),
            }
        )
    return out


def overdue(referral: Referral) -> bool:
    """Whether what is owed on the referral is past its time."""
    return referral.case.due_at is not None and referral.case.due_at < clock.now()


@page(*RECEIVERS)
def receiving(request: HttpRequest) -> HttpResponse:
    """What has come to us, by state; ``?show=<group>`` narrows, ``?q=`` finds within."""
    scope = request.scope
    every = list(
        _rows(scope).filter(to_institution_id__in=_mine(scope)).exclude(case__state="draft")[: LIMIT * 3]
    )
    chosen = request.GET.get("show", "")
    groups: list[dict[str, Any]] = []
    for group in RECEIVING:
        inside = [r for r in every if r.case.state in group.states]
        late = sum(overdue(r) for r in inside)
        groups.append(
            {
                "code": group.code,
                "label": group.label,
                "hint": group.hint,
                "count": len(inside),
                "late": late,
                "rows": inside,
            }
        )
    if chosen not in {g.code for g in RECEIVING}:
        chosen = next((g["code"] for g in groups if g["count"]), "new")
    current = next(g for g in groups if g["code"] == chosen)
    context = {
        "groups": groups,
        "current": current,
        "lines": lines(current["rows"][:LIMIT], scope),
        "here": f"{reverse('referral:receiving')}?show={chosen}",
    }
    return render(request, "referral/receiving.html", context)


@page(*SENDERS_DOWN)
def down(request: HttpRequest) -> HttpResponse:
    """Down-referrals: proposed at discharge, sent and waiting, come back to us (still ours), coming to us."""
    scope = request.scope
    mine = _mine(scope)
    rows = _rows(scope)
    heaps = [
        (
            "proposed",
            T("出院后可下转", "Ready to go down"),
            T("够条件，还没发起下转", "Criteria met, not yet sent down"),
            rows.filter(
                to_institution_id__in=mine,
                case_id__in=Duty.objects.unscoped("narrows rows that are within the scope")
                .filter(kind="propose_down", ended="")
                .values("case_id"),
            ),
        ),
        (
            "returned",
            T("被退回，仍归我们", "Returned: still ours"),
            T("基层没接，责任没有转移，须再安排", "Not accepted below; still our duty"),
            rows.filter(
                direction="down", from_institution_id__in=mine, case__state__in=("returned", "draft")
            ),
        ),
        (
            "waiting",
            T("已发出，等基层接收", "Sent, waiting"),
            T("对方确认前仍归我们", "Ours until accepted"),
            rows.filter(
                direction="down", from_institution_id__in=mine, case__state__in=("submitted", "received")
            ),
        ),
        (
            "below",
            T("在基层康复，可查房", "Below, ward rounds"),
            T("已接收，上级医院可查房指导", "Accepted: upper hospital may visit"),
            rows.filter(direction="down", from_institution_id__in=mine).exclude(
                case__state__in=("submitted", "received", "returned", "draft")
            ),
        ),
        (
            "coming",
            T("下转到我们", "Coming down to us"),
            T("接收后由我们负责康复与随访", "Accept, then rehabilitation and follow-up are ours"),
            rows.filter(direction="down", to_institution_id__in=mine).exclude(case__state="draft"),
        ),
    ]
    groups: list[dict[str, Any]] = [
        {"code": code, "label": label, "hint": hint, "count": len(listed := list(found[:LIMIT])), "rows": listed,
         "late": sum(overdue(r) for r in listed)}
        for code, label, hint, found in heaps
    ]  # fmt: skip
    chosen = request.GET.get("show", "")
    if chosen not in {g["code"] for g in groups}:
        chosen = next((g["code"] for g in groups if g["count"]), "coming")
    current = next(g for g in groups if g["code"] == chosen)
    context = {
        "groups": groups,
        "current": current,
        "lines": lines(current["rows"], scope),
        "here": f"{reverse('referral:down')}?show={chosen}",
    }
    return render(request, "referral/down.html", context)


@page(*ARRIVALS)
def reception(request: HttpRequest) -> HttpResponse:
    """Who arrives today: booked visits and emergencies on their way; a scanned card narrows to the person."""
    scope = request.scope
    today = clock.today()
    start = dt.datetime.combine(today, dt.time(), clock.ZONE)
    rows = _rows(scope).filter(to_institution_id__in=scope.institution_ids)
    due = rows.filter(
        Q(case__state="booked", appointment_at__gte=start, appointment_at__lt=start + dt.timedelta(days=1))
        | Q(emergency=True, case__state__in=("submitted", "received", "accepted", "booked"))
    ).order_by("appointment_at")
    q = request.GET.get("q", "").strip()
    number = request.GET.get("person", "")
    note = None
    if q:
        hits = registry.find(scope, q, limit=2)
        if len(hits) == 1:
            number = hits[0].person_number
        else:
            note = T(
                "没有唯一匹配的人，请扫健康卡或输完整证件号。",
                "No single match; scan the card or type the whole ID number.",
            )
    if number:
        person = registry.get(number)
        of_person = rows.filter(person_id=person.pk)
        due = of_person.filter(case__state__in=("submitted", "received", "accepted", "booked", "no_show"))
        if not due.exists():
            note = T(
                "这位患者今天没有转诊预约；可在“找患者”里登记就诊。",
                "No referral visit for this person today; check in from “Find a person”.",
            )
    arrived = rows.filter(case__state__in=("arrived", "in_care"), arrived_at__gte=start).order_by(
        "-arrived_at"
    )
    context = {
        "q": q,
        "note": note,
        "narrowed": bool(number),
        "lines": lines(due[:LIMIT], scope),
        "arrived": lines(arrived[:LIMIT], scope),
        "here": reverse("referral:reception"),
    }
    return render(request, "referral/reception.html", context)
