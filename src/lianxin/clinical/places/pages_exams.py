"""Examinations: where an item can be done soonest, booking it with its preparation, the sessions of the own devices."""

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
from lianxin.access.web import page
from lianxin.clinical.places import common, consents
from lianxin.clinical.places import print as preparation
from lianxin.duty.errors import Refused
from lianxin.index.models import Person
from lianxin.pool import booking, exams
from lianxin.pool.errors import BookingError
from lianxin.pool.models import ExamItem, Place, Resource, Session
from lianxin.standards import clock
from lianxin.standards.text import T, Text

FILLS = {
    "held": "#b7791f",
    "booked": "#1f6f9c",
    "arrived": "#0a6b66",
    "fulfilled": "#56635f",
    "no_show": "#b42318",
}
MOVES: dict[str, Text] = {
    "arrive": T("到检", "Arrived"),
    "fulfil": T("完成", "Done"),
    "cancel": T("取消", "Cancel"),
}
OFFERED = {"booked": ("arrive", "cancel"), "held": ("cancel",), "arrived": ("fulfil",)}


def steps_of(session: Session, places: list[Place]) -> list[dict[str, Any]]:
    """The session's grid as it is drawn: a box a step, coloured by what takes it."""
    taken = {p.seat_no + k: p for p in places for k in range(p.units)}
    return [
        {"x": (n - 1) * 12, "fill": FILLS[taken[n].state] if n in taken else "", "n": n}
        for n in range(1, session.capacity + 1)
    ]


def sessions_on(institution_ids: frozenset[int], day: dt.date) -> list[dict[str, Any]]:
    """The day's sessions of the own devices with their grids and patients."""
    start = common.midnight(day)
    sessions = list(
        Session.objects.filter(
            kind="exam", institution_id__in=institution_ids, starts_at__gte=start, starts_at__lt=start + dt.timedelta(days=1)
        )
        .select_related("resource", "department", "institution")
        .order_by("resource__code", "starts_at")
    )  # fmt: skip
    now = clock.now()
    rows = (
        Place.objects.unscoped("the own devices' sessions")
        .filter(session_id__in=[s.pk for s in sessions])
        .exclude(state="cancelled")
        .exclude(state="held", expires_at__lte=now)
        .select_related("person")
        .order_by("seat_no")
    )
    by: dict[int, list[Place]] = {}
    for place in rows:
        by.setdefault(place.session_id, []).append(place)
    names = {
        i.code: i.label
        for i in ExamItem.objects.filter(code__in={p.item for some in by.values() for p in some})
    }
    lines = []
    for session in sessions:
        places = by.get(session.pk, [])
        listed = [
            {
                "p": p, "what": names.get(p.item, p.item),
                "verbs": [(v, MOVES[v]) for v in OFFERED.get(p.state, ()) if v != "cancel" or p.case_id is None],
            }
            for p in places
        ]  # fmt: skip
        used = sum(p.units for p in places)
        lines.append(
            {
                "s": session, "places": listed, "steps": steps_of(session, places), "used": used,
                "width": session.capacity * 12, "free": max(session.capacity - used, 0),
            }
        )  # fmt: skip
    return lines


def _context(request: HttpRequest, **more: Any) -> dict[str, Any]:
    scope = request.scope
    day = common.day_of(request)
    asked = {"item": request.GET.get("item", ""), "person": request.GET.get("person", "")} | more.pop(
        "asked", {}
    )
    places = common.partners(scope)
    offered = {
        c
        for r in Resource.objects.filter(kind="device", active=True, institution__in=places)
        for c in r.items
    }
    items = list(ExamItem.objects.filter(active=True, code__in=offered).order_by("modality", "code"))
    wanted = next((i for i in items if i.code == asked["item"]), None)
    found: list[exams.Offer] = []
    if wanted is not None:
        own = common.here(scope)
        since = max(common.midnight(day), clock.now())
        found = exams.find(
            wanted.code, [i.pk for i in places], since, since + dt.timedelta(days=7), booking.channel_of(own.tier)
        )[:15]  # fmt: skip
    person = common.person_of(asked["person"]) if asked["person"] else None
    sees = person is not None and relationships.sees(scope, person.pk)
    lacks = bool(wanted and person and consents.lacking(person.pk, [wanted]))
    return {
        "day": day, "asked": asked, "items": items, "wanted": wanted, "offers": found, "own": sessions_on(scope.institution_ids, day),
        "person": person if sees else None, "stranger": bool(asked["person"]) and not sees, "key": common.fresh(), "lacks": lacks,
        "consent": consents.words(), "before": day - dt.timedelta(days=1), "after": day + dt.timedelta(days=1),
        "serves": scope.may("serve_desk"), "books": scope.may("book"), "consents": scope.may("refer"), **more,
    }  # fmt: skip


@page(may="see_pools")
def listing(request: HttpRequest) -> HttpResponse:
    """Find an examination, book it for a patient, and see the own devices' day."""
    context = _context(request)
    if any(line["places"] for line in context["own"]):
        audit.write(request.scope, "read", what="examination sessions")
    return render(request, "places/exams.html", context)


@require_POST
@page(may="book")
def book(request: HttpRequest) -> HttpResponse:
    """Book an examination; what is missing is said on the page it was asked from."""
    scope, post = request.scope, request.POST
    person = common.person_of(post.get("person", ""))
    code = post.get("item", "")
    trouble: Any = None
    if person is None:
        trouble = T("没有找到该患者，请核对主索引号或卡号。", "No such patient; check the number or card.")
    else:
        relationships.require(scope, person.pk)
        try:
            place = _book(request, person, code)
        except BookingError as refusal:
            trouble = refusal.text
        except Session.DoesNotExist:
            trouble = T("没有这一场次，请重新选择。", "No such session; choose again.")
        except Refused as refusal:
            trouble = next(iter(refusal.errors.values()))
        else:
            said = T("已预约 {at}", "Booked for {at}").format(
                at=f"{place.at.astimezone(clock.ZONE):%m-%d %H:%M}"
            )
            messages.success(request, str(said))
            return redirect("places:booked", pk=place.pk)
    asked = {"item": code, "person": post.get("person", "")}
    return render(request, "places/exams.html", _context(request, asked=asked, trouble=trouble), status=409)


def _book(request: HttpRequest, person: Person, code: str) -> Place:
    scope, post = request.scope, request.POST
    own = common.here(scope)
    session = Session.objects.filter(
        pk=common.whole(post.get("session", "")), kind="exam", institution__in=common.partners(scope)
    ).first()
    if session is None:
        raise Session.DoesNotExist
    with transaction.atomic():
        wanted = exams.item(code)
        if post.get("agree") and consents.lacking(person.pk, [wanted]):
            consents.take(scope, person.pk, [code], given_of(request))
        place = exams.book(
            session.pk, person.pk, code, booking.channel_of(own.tier), common.key_of(request, "exam"),
            seat=common.whole(post.get("seat", "")) or None,
        )  # fmt: skip
        audit.write(
            scope, "create", person_id=person.pk, what=f"examination {code}", detail={"place": place.pk}
        )
    return place


def given_of(request: HttpRequest) -> consents.Given:
    """How a form says that consent was given."""
    scan = request.FILES.get("scan")
    content = scan.read(consents.MOST_BYTES + 1) if scan else b""
    return consents.Given(request.POST.get("how", ""), request.POST.get("witness", ""), content)


def find_place(request: HttpRequest, pk: int) -> Place:
    """An examination that the reader may see: their own institution's, or of a patient they care for. 404 otherwise."""
    found = (
        Place.objects.within(request.scope)
        .exclude(item="")
        .select_related("session__institution", "session__department", "session__resource", "person")
        .filter(pk=pk)
        .first()
    )
    if found is None:
        raise Http404
    return found


@page(may="see_pools")
def booked(request: HttpRequest, pk: int) -> HttpResponse:
    """One booked examination: when, where, how to prepare; the sheet to print; cancelling it."""
    place = find_place(request, pk)
    audit.write(request.scope, "read", person_id=place.person_id, what=f"examination {place.item}")
    item = ExamItem.objects.filter(code=place.item).first()
    held = consents.standing(place.person_id, [place.item]).get(place.item)
    context = {
        "place": place, "item": item, "held": held, "may_cancel": _may_cancel(request, place) and place.state in ("held", "booked"),
        "of_case": place.case_id is not None,
    }  # fmt: skip
    return render(request, "places/exam.html", context)


def _may_cancel(request: HttpRequest, place: Place) -> bool:
    scope = request.scope
    own = place.institution_id in scope.institution_ids
    return place.case_id is None and scope.may("book") and (own or relationships.sees(scope, place.person_id))


@require_POST
@page(may="see_pools")
def change(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """Arrived, done (the device's desk), cancelled (whoever may book)."""
    place = find_place(request, pk)
    if verb not in MOVES:
        raise Http404
    scope = request.scope
    if verb == "cancel":
        if not _may_cancel(request, place):
            messages.error(
                request,
                str(
                    T(
                        "该检查由转诊单预约，请在转诊单上改约。",
                        "This examination belongs to a referral; change it there.",
                    )
                ),
            )
            return redirect("places:booked", pk=pk)
    else:
        scope.demand("serve_desk")
        if place.institution_id not in scope.institution_ids:
            raise Http404
    try:
        if verb == "cancel":
            booking.cancel(place, request.POST.get("reason", "") or "cancelled at the desk")
        else:
            {"arrive": booking.arrive, "fulfil": booking.fulfil}[verb](place)
    except BookingError as refusal:
        messages.error(request, str(refusal.text))
    else:
        audit.write(
            scope, "update", person_id=place.person_id, what=f"examination {place.item}", detail={"act": verb}
        )
        messages.success(request, str(T("已办理：{what}", "Done: {what}").format(what=MOVES[verb])))
    if request.POST.get("back") == "day":
        day = place.at.astimezone(clock.ZONE).date().isoformat()
        return redirect(f"{reverse('places:exams')}?{urlencode({'day': day})}")
    return redirect("places:booked", pk=pk)


@page(may="see_pools")
def sheet(request: HttpRequest, pk: int) -> HttpResponse:
    """The preparation sheet as PDF (A4, QR); printing is audited."""
    place = find_place(request, pk)
    audit.write(request.scope, "print", person_id=place.person_id, what=f"examination {place.item}")
    response = HttpResponse(preparation.sheet([place]), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="exam-{place.pk}.pdf"'
    return response
