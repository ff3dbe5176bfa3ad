"""Joint booking on a referral: number, examinations and bed of the receiver as one plan, chosen and taken in one form."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from lianxin.access import audit, relationships
from lianxin.access.web import page
from lianxin.clinical.places import common, consents
from lianxin.clinical.places import print as preparation
from lianxin.clinical.places.pages_exams import given_of
from lianxin.clinical.referral import pages, reasons, slots
from lianxin.clinical.referral.models import Referral
from lianxin.duty import kernel
from lianxin.pool import booking, exams, exclusive, plan
from lianxin.pool.errors import BookingError
from lianxin.pool.models import GRADES, ISOLATIONS, ExamItem, Place, Resource, Session
from lianxin.pool.plan import CLINIC, Plan, Wanted
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

MOVES = {"accepted": "book", "booked": "reschedule", "no_show": "rebook"}


def items_at(institution_id: int) -> list[ExamItem]:
    """Examinations that the institution's devices do."""
    devices = Resource.objects.filter(kind="device", active=True, institution_id=institution_id)
    codes = {code for items in devices.values_list("items", flat=True) for code in items}
    return list(ExamItem.objects.filter(active=True, code__in=codes).order_by("modality", "code"))


def _asked(data: Any, referral: Referral, may_bed: bool) -> tuple[Wanted, dt.date]:
    """What the form asks for; at first sight the clinic number of the referral's specialty."""
    first = "asked" not in data
    try:
        day = max(dt.date.fromisoformat(data.get("day", "")), clock.today())
    except ValueError:
        day = clock.today()
    wanted = Wanted(
        tuple(dict.fromkeys(data.getlist("exam"))), specialty=referral.specialty, clinic=first or bool(data.get("clinic")),
        bed=may_bed and bool(data.get("bed")), grade=data.get("grade", "") if data.get("grade") in GRADES else "",
        isolation=data.get("isolation", "") if data.get("isolation") in ISOLATIONS else "",
        stay_days=min(common.whole(data.get("days", "")), 60), results_first=first or bool(data.get("results")),
    )  # fmt: skip
    return wanted, day


def _shown(found: list[Plan], items: dict[str, ExamItem]) -> list[dict[str, Any]]:
    """Plans as the page lists them: every step with its time, place, preparation and fee."""
    sessions = Session.objects.select_related("department", "practitioner", "resource").in_bulk(
        {s.slot.session_id for p in found for s in p.steps}
    )
    beds = Resource.objects.select_related("department").in_bulk([p.bed.resource_id for p in found if p.bed])
    lines = []
    for one in found:
        steps, fee = [], 0
        for step in one.steps:
            session, item = sessions[step.slot.session_id], items.get(step.code)
            fee += item.fee_fen if item else session.fee_fen
            what: Any = (
                item.label if item else T("门诊 {type}", "Clinic {type}").format(type=session.clinic_type)
            )
            steps.append(
                {
                    "at": step.slot.at, "until": step.slot.until, "what": what, "department": session.department,
                    "doctor": session.practitioner, "device": session.resource,
                    "prepare": Text(item.preparation, item.preparation_en) if item else "",
                }
            )  # fmt: skip
        lines.append(
            {
                "token": one.token, "day": one.at, "steps": steps, "bed": beds[one.bed.resource_id] if one.bed else None,
                "bed_at": one.bed.at if one.bed else None, "bed_until": one.until, "fee": Money(fee).yuan() if fee else "",
            }
        )  # fmt: skip
    return lines


def _context(request: HttpRequest, referral: Referral, move: str, **more: Any) -> dict[str, Any]:
    data = request.POST if request.method == "POST" else request.GET
    receiver = referral.to_institution_id or 0
    items = {i.code: i for i in items_at(receiver)}
    mine = receiver in request.scope.institution_ids
    beds = Resource.objects.filter(kind="bed", active=True, institution_id=receiver)
    has_beds = slots.may_book_bed(referral, mine) and beds.exists()
    wanted, day = _asked(data, referral, has_beds)
    person = referral.person
    trouble, found = more.pop("trouble", None), []
    try:
        found = plan.plans(
            wanted, person.pk, receiver, booking.channel_of(referral.from_institution.tier), since=day, sex=person.sex,
            age=exclusive.age_class(person.birth_date), but=_own_places(referral),
        )  # fmt: skip
    except BookingError as refusal:
        trouble = trouble or refusal.text
    chosen = [items[code] for code in wanted.exams if code in items]
    return {
        "r": referral, "person": person, "move": move, "items": list(items.values()), "chosen": set(wanted.exams), "wanted": wanted,
        "day": day, "has_beds": has_beds, "plans": _shown(found, items), "key": data.get("_key") or common.fresh(),
        "version": referral.case.version, "lacking": consents.lacking(person.pk, chosen), "consent": consents.words(),
        "may_consent": request.scope.may("refer"), "grades": GRADES, "isolations": ISOLATIONS, "trouble": trouble,
        "reasons": reasons.choices("slot") if move == "reschedule" else [], "typed": data,
        "held_consents": consents.standing(person.pk, [i.code for i in chosen if i.contrast]), **more,
    }  # fmt: skip


def _own_places(referral: Referral) -> list[int]:
    """Places of the referral that a new plan would give up: they are not in its own way."""
    rows = Place.objects.unscoped("the referral's own places").filter(
        case_id=referral.pk, state__in=("held", "booked")
    )
    return list(rows.values_list("pk", flat=True))


@page(*pages.READERS)
def joint(request: HttpRequest, number: str) -> HttpResponse:
    """GET: the form with the earliest plan and two later ones (alone for a page that asks with htmx). POST: take the plan named."""
    scope = request.scope
    referral = pages.find(number, scope)
    relationships.require(scope, referral.person_id)
    move = MOVES.get(referral.case.state, "book")
    why = next((a.why for a in kernel.allowed(referral.case, scope) if a.name == move), _not_now())
    if request.method == "POST" and request.POST.get("plan"):
        told = request.POST.get(
            "_move", ""
        )  # what the form was drawn for: a second click is the same request
        return _take(request, referral, told if told in MOVES.values() else move)
    audit.write(scope, "read", person_id=referral.person_id, what=f"joint plan {number}")
    alone = request.headers.get("HX-Request") == "true"
    template = "places/_joint.html" if alone else "places/joint.html"
    if why is not None:
        return render(
            request,
            template,
            {"r": referral, "person": referral.person, "why": why},
            status=200 if alone else 409,
        )
    return render(request, template, _context(request, referral, move))


def _not_now() -> Text:
    return T("现在不能安排。", "Not possible now.")


def _take(request: HttpRequest, referral: Referral, move: str) -> HttpResponse:
    scope, post = request.scope, request.POST
    version = post.get("_version", "")
    form = {
        "plan": post["plan"], "appointment_note": post.get("appointment_note", "")[:200],
        "reason_code": post.get("reason_code", ""), "comment": post.get("comment", ""),
    }  # fmt: skip
    key = f"page:{scope.account_id}:{post.get('_key', '')[:64] or common.fresh()}"
    status, trouble, more = 422, T("", ""), {}
    try:
        with transaction.atomic():
            if post.get("agree"):
                _agree(request, referral)
            kernel.execute(move, referral.case, scope, form, int(version) if version.isdigit() else None, key)
    except kernel.Refused as refusal:
        trouble, more = next(iter(refusal.errors.values())), {"errors": refusal.errors}
    except (kernel.Stale, kernel.NotAllowed, kernel.KeyReused) as refusal:
        status, trouble = 409, refusal.text
    else:
        return redirect(reverse("referral:show", args=[referral.number]) + "#h-plan")
    again = pages.find(referral.number, scope)
    context = _context(request, again, MOVES.get(again.case.state, move), trouble=trouble, **more)
    context["key"] = common.fresh()
    return render(request, "places/joint.html", context, status=status)


def _agree(request: HttpRequest, referral: Referral) -> None:
    """Record the consent that the same form gives, for the contrast items that lack one."""
    codes = [c for c in request.POST.getlist("exam") if c != CLINIC]
    items = list(ExamItem.objects.filter(code__in=codes))
    missing = consents.lacking(referral.person_id, items)
    if missing:
        consents.take(
            request.scope, referral.person_id, [i.code for i in missing], given_of(request), referral.pk
        )


@page(*pages.READERS)
def sheets(request: HttpRequest, number: str) -> HttpResponse:
    """Preparation sheets of all the referral's examinations as one PDF."""
    referral = pages.find(number, request.scope)
    relationships.require(request.scope, referral.person_id)
    places = list(
        Place.objects.unscoped("the referral's own examinations")
        .filter(case_id=referral.pk, state__in=exams.LIVE)
        .exclude(item="")
        .select_related("session__institution", "session__department", "session__resource", "person")
    )
    if not places:
        raise Http404
    audit.write(request.scope, "print", person_id=referral.person_id, what=f"preparation {number}")
    response = HttpResponse(preparation.sheet(places), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{number}-preparation.pdf"'
    return response
