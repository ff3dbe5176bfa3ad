"""Booking over FHIR after IHE ITI Scheduling 1.0 (ITI-115 to ITI-117): the same machine, guards and counters as every page uses.

``Appointment/$find``              free numbers as proposed Appointments with their Slots
``Appointment/$hold``              keep one for some minutes (busy-tentative, pending)
``Appointment/$book``              book it; a booked or cancelled Appointment as resource moves or cancels that one
``Appointment/<id>/$cancel``       give it back
``Appointment/<id>/$reschedule``   another Slot for it, both or neither

None of them runs in a transaction of the door: booking opens and repeats its own, so that a deadlock costs nothing and what was asked in
vain is counted. Every refusal is an OperationOutcome; a full session carries up to three proposed Appointments in its place.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from django.db import transaction

from lianxin.access import audit, relationships
from lianxin.access.errors import AccessError, Invalid
from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.pool import booking as pool
from lianxin.pool.errors import AlreadyBooked, BookingError, Full, KeyReused, SeatTaken
from lianxin.pool.models import Place, Session
from lianxin.record.problems import Issue, outcome, refuse
from lianxin.resident.booking import service, waiting
from lianxin.resident.booking.models import Appointment
from lianxin.resident.booking.units import units_of
from lianxin.resident.scheduling import fhir_answers as answers
from lianxin.resident.scheduling import fhir_asks as asks
from lianxin.resident.scheduling import projecting
from lianxin.resident.scheduling.fhir_asks import Wanted, where
from lianxin.standards.text import T

IHE = "https://profiles.ihe.net/ITI/Scheduling/OperationDefinition"
HOLD_MINUTES = 15
MOST = 200
REFUSALS = (kernel.MoveError, BookingError, AccessError, Case.DoesNotExist)


def register() -> None:
    """Hand the operations to the door, and keep what they project fresh."""
    for name, fn, letter in (("find", find, "r"), ("hold", hold, "c"), ("book", book, "c")):
        handlers.register_operation(
            "Appointment", name, fn, definition=f"{IHE}/appointment-{name}", affects_state=False, instance=False, letter=letter
        )  # fmt: skip
    for name, fn in (("cancel", cancel), ("reschedule", reschedule)):
        handlers.register_operation(
            "Appointment", name, fn, affects_state=False, type_level=False, letter="u"
        )
    for rtype in projecting.TYPES:
        handlers.register_freshener(rtype, projecting.freshen)


# ------------------------------------------------------------------------------------------------------------- refusals


def _refused(error: Exception, place: str) -> Response:
    """The refusal as HTTP status and OperationOutcome; alternatives are contained in it as proposed Appointments."""
    if isinstance(error, Full | SeatTaken):
        body = outcome([Issue("conflict", error.text, place)])
        proposals = answers.proposals(error.alternatives)
        if proposals:
            body["contained"] = proposals
            body["issue"][0]["extension"] = [
                {"url": answers.ALTERNATIVE, "valueReference": {"reference": f"#{one['id']}"}}
                for one in proposals
            ]
        return Response(409, body)
    if isinstance(error, AlreadyBooked):
        issue = Issue("duplicate", error.text, place)
        body = outcome([issue])
        body["issue"][0]["extension"] = [
            {
                "url": answers.EXISTING,
                "valueReference": {"reference": f"Appointment/place-{error.place.pk}"},
            }
        ]
        return Response(409, body)
    if isinstance(error, KeyReused | kernel.KeyReused):
        return Response(422, outcome([Issue("duplicate", error.text, where("key"))]))
    if isinstance(error, kernel.Refused | Invalid):
        issues = [
            Issue("invalid", text, place if name in ("", "__all__") else f"{place} ({name})")
            for name, text in error.errors.items()
        ]
        return Response(422, outcome(issues))
    if isinstance(error, AccessError):
        return Response(403, outcome([Issue("forbidden", error.message, place)]))
    if isinstance(error, Case.DoesNotExist):
        return Response(404, outcome([Issue("not-found", T("没有可见的该预约", "there is no such appointment that you may see"), place)]))  # fmt: skip
    if isinstance(error, BookingError):
        return Response(409, outcome([Issue("conflict", error.text, place)]))
    assert isinstance(error, kernel.MoveError)
    return Response(409, outcome([Issue("business-rule", error.text, place)]))


def _run(request: Request, place: str, work: Callable[[], Response]) -> Response:
    if request.method not in ("POST",):
        problem = refuse(405, "not-supported", "请用 POST 调用该操作", "call this operation with POST")
        problem.headers.append(("Allow", "POST, OPTIONS"))
        raise problem
    try:
        return work()
    except REFUSALS as error:
        return _refused(error, place)


def _acting(scope: Scope) -> Scope:
    """Who books: an institution's client, or a person in an app. The scopes on Appointment that the door asked for are enough for the
    booking's own moves, which the kernel knows as writes of a Task."""
    if scope.everything or (scope.institution_id is None and not scope.resident):
        raise refuse(
            403, "forbidden", "请使用某机构的系统令牌预约（平台级令牌不代表任何机构）",
            "book with the token of an institution's system (a token of the whole platform speaks for nobody)",
        )  # fmt: skip
    if scope.client_id is None:
        return scope
    level = "system" if scope.machine else "user"
    return replace(scope, smart=(*scope.smart, f"{level}/Task.cruds"))


def _fresh_key(scope: Scope) -> str:
    return f"fhir:{scope.client_id or scope.account_id}:{uuid.uuid4()}"


# ----------------------------------------------------------------------------------------------------------------- $find


def find(scope: Scope, request: Request) -> Response:
    """Free numbers for the caller's channel, soonest first, each with its Slot; at most 200."""
    gate.demand(scope, "Slot", "s")
    projecting.freshen()
    since, until = asks.window(request)
    organization = asks.institution(
        asks.first(request, "organization", "organization-reference"), "organization"
    )
    location = asks.institution(asks.first(request, "location", "location-reference"), "location")
    patient = asks.first(request, "patient-reference", "patient")
    person_id = asks.person(scope, patient, where("patient-reference")) if patient is not None else None
    count = asks.first(request, "_count", "count")
    limit = min(asks.number(count, where("_count")), MOST) if count is not None else 50
    if organization is not None and location is not None and organization != location:
        raise refuse(422, "business-rule", "organization 与 location 不是同一机构", "organization and location are not the same", where("location"))  # fmt: skip
    places = answers.reachable(scope, organization or location)
    channel = "public" if scope.everything else service.channel_for(scope, None)
    item = asks.code(asks.first(request, "service-type", "visit-type", "serviceType"), "service-type")
    offers = answers.search(
        places, since, until, channel, limit=limit,
        specialty=asks.code(asks.first(request, "specialty"), "specialty") or None,
        practitioner=asks.practitioner(
            asks.first(request, "practitioner-reference", "practitioner", "provider-reference"), "practitioner"
        ),
        item=item,
    )  # fmt: skip
    seats = asks.first(request, "per-number") in (True, "true")
    taken = answers.sessions_of(person_id) if person_id is not None else set()
    offers = [o for o in offers if o.session_id not in taken]
    return Response(200, answers.bundle(offers, request.base, per_number=seats, item=item, most=MOST))


# ----------------------------------------------------------------------------------------------------------------- $hold


def hold(scope: Scope, request: Request) -> Response:
    """Keep a number for 15 minutes; asked again with the same key it is the same hold."""
    return _run(request, where("appointment-reference"), lambda: _hold(scope, request))


def _hold(scope: Scope, request: Request) -> Response:
    by, asked = _acting(scope), asks.wanted(request)
    if asked.session_id is None:
        raise refuse(422, "business-rule", "只能暂留 $find 给出的号或某个 Slot", "only a result of $find, or a Slot, can be held", where("appointment-reference"))  # fmt: skip
    session, person_id = _session(asked.session_id), _person(scope, asked)
    key = asks.key_of(scope, request, asked.key) or _fresh_key(scope)
    service.check_person(by, session, person_id)
    channel = service.channel_for(by, None)
    with transaction.atomic():
        waits = service.look(by, session, person_id, channel, key)
    if waits:  # they are served first, and stay served whatever becomes of this request
        waiting.refresh(session.pk)
    with transaction.atomic():
        service.look(by, session, person_id, channel, key)
        place = pool.hold(
            session.pk, person_id, channel, f"hold:{key}"[:120], HOLD_MINUTES, units=units_of(session, asked.item), item=asked.item,
            seat=asked.seat,
        )  # fmt: skip
        if place.state == "held":
            projecting.follow_hold(place)
            audit.write(by, "create", person_id=person_id, what=f"Appointment/place-{place.pk} $hold")
    if place.state == "cancelled":
        return _refused(
            pool.NotPossible(
                T("该暂留已失效，请用新的幂等键重新暂留。", "This hold is over; hold again with a new key.")
            ),
            where("key"),
        )
    return Response(200, answers.one(place.pk, request.base))


def _session(pk: int) -> Session:
    found = Session.objects.select_related("institution").filter(pk=pk).first()
    if found is None:
        raise refuse(
            422, "not-found", f"没有号源 Slot/slot-{pk}", f"there is no Slot/slot-{pk}", "Appointment.slot"
        )
    return found


def _person(scope: Scope, asked: Wanted) -> int:
    if asked.person is None:
        raise refuse(
            400, "required", "请给出患者（patient-reference 或 Appointment.participant）",
            "name the patient (patient-reference, or a participant of the Appointment)", where("patient-reference"),
        )  # fmt: skip
    return asks.person(scope, asked.person, where("patient-reference"))


# ----------------------------------------------------------------------------------------------------------------- $book


def book(scope: Scope, request: Request) -> Response:
    """Book what was found or held. As in IHE's definition a resource with a status of its own changes what is booked: ``cancelled``
    cancels it, ``booked`` with another Slot moves it."""
    return _run(request, where("appointment-reference"), lambda: _book(scope, request))


def _book(scope: Scope, request: Request) -> Response:
    by, asked = _acting(scope), asks.wanted(request)
    appointment = _existing(by, asked)
    if appointment is not None:
        gate.demand(scope, "Appointment", "u")
        return _change(by, scope, request, appointment, asked)
    held = _held(by, asked) if asked.place_id is not None else None
    seat: int | None
    if asked.status not in ("", "proposed", "pending", "booked"):
        raise refuse(422, "business-rule", f"状态 {asked.status[:20]} 不能预约", f"an Appointment that is {asked.status[:20]} cannot be booked", "Appointment.status")  # fmt: skip
    if held is not None:
        session_id, person_id, seat, item = held.session_id, held.person_id, held.seat_no, held.item
        if (
            asked.person is not None
            and asks.person(scope, asked.person, where("patient-reference")) != person_id
        ):
            raise refuse(422, "business-rule", "暂留的号属于另一位患者", "what is held is another patient's", where("patient-reference"))  # fmt: skip
    else:
        assert asked.session_id is not None
        session_id, person_id = _session(asked.session_id).pk, _person(scope, asked)
        seat, item = asked.seat, asked.item
    given = asked.key or (f"hold-{held.pk}" if held is not None else "")
    key = asks.key_of(scope, request, given) or _fresh_key(scope)
    made = service.book(
        by, session_id, person_id, key, seat=seat, item=item, note=asked.note, source="fhir",
    )  # fmt: skip
    response = Response(201, answers.one(made.place_id, request.base))
    response.headers["Location"] = f"{request.base}/Appointment/place-{made.place_id}"
    return response


def _held(by: Scope, asked: Wanted) -> Place:
    """A number that the caller holds (or held: then booking it says so)."""
    place = (
        Place.objects.unscoped("held by a client that is known by its key").filter(pk=asked.place_id).first()
    )
    mine = f"hold:fhir:{by.client_id or by.account_id}:"
    if place is None or not place.key.startswith(mine) or place.case_id is not None:
        raise Case.DoesNotExist
    if not relationships.sees(by, place.person_id):
        raise Case.DoesNotExist
    return place


def _existing(by: Scope, asked: Wanted) -> Appointment | None:
    """The appointment that the request speaks of, as far as the caller may see it; None when it speaks of none."""
    rows = Appointment.objects.within(by).select_related("case", "place")
    if asked.case:
        found = rows.filter(case__number=asked.case).first()
        if found is None:
            raise Case.DoesNotExist
        return found
    if asked.place_id is None:
        return None
    found = rows.filter(place_id=asked.place_id).first()
    if found is None:
        place = Place.objects.unscoped("which booking a number belongs to").filter(pk=asked.place_id).first()
        if place is None or place.case_id is not None:
            # a number that was given up for another one: its booking goes on under the new number
            number = Appointment.objects.within(by).filter(case_id=place.case_id).first() if place else None
            if number is None:
                raise Case.DoesNotExist
            return number
    return found


def _change(by: Scope, scope: Scope, request: Request, appointment: Appointment, asked: Wanted) -> Response:
    if asked.status == "cancelled":
        return _cancel(by, scope, request, appointment, asked.reason or asked.note)
    same = asked.session_id in (None, appointment.session_id) and asked.seat in (
        None,
        appointment.place.seat_no,
    )
    if same:
        return Response(200, answers.one(appointment.place_id, request.base))
    return _move(by, scope, request, appointment, asked)


# ------------------------------------------------------------------------------------------------- $cancel, $reschedule


def _of_id(by: Scope, request: Request) -> Appointment:
    found = _existing(by, asks.named(request.id or "", Wanted()))
    if found is None:
        raise Case.DoesNotExist
    return found


def cancel(scope: Scope, request: Request) -> Response:
    """Give the number back (a hold as well)."""

    def work() -> Response:
        by = _acting(scope)
        reason = asks.words(asks.first(request, "reason", "comment"), "reason")[: asks.MAX_TEXT]
        asked = asks.named(request.id or "", Wanted())
        appointment = _existing(by, asked)
        if appointment is None and asked.place_id is not None:
            return _let_go(by, request, _held(by, asked), reason)
        if appointment is None:
            raise Case.DoesNotExist
        return _cancel(by, scope, request, appointment, reason)

    return _run(request, "Appointment", work)


def _let_go(by: Scope, request: Request, place: Place, reason: str) -> Response:
    with transaction.atomic():
        pool.cancel(place.pk, reason or "released")
        projecting.publish_place(place.pk)
        audit.write(by, "update", person_id=place.person_id, what=f"Appointment/place-{place.pk} $cancel")
    return Response(200, answers.one(place.pk, request.base))


def _cancel(by: Scope, scope: Scope, request: Request, appointment: Appointment, reason: str) -> Response:
    number = appointment.case.number
    key = asks.key_of(scope, request) or f"fhir:cancel:{number}:{appointment.case.version}"
    if appointment.case.state != "cancelled" or service.replayed(key) is not None:
        appointment = service.cancel(by, number, key, reason)
    return Response(200, answers.one(appointment.place_id, request.base))


def reschedule(scope: Scope, request: Request) -> Response:
    """Another Slot (or number) for the same visit."""

    def work() -> Response:
        by = _acting(scope)
        appointment = _of_id(by, request)
        return _move(by, scope, request, appointment, asks.wanted(request, whole=False))

    return _run(request, where("slot"), work)


def _move(by: Scope, scope: Scope, request: Request, appointment: Appointment, asked: Wanted) -> Response:
    if asked.session_id is None and asked.seat is None:
        raise refuse(400, "required", "请给出改约到的 slot", "name the slot to move to", where("slot"))
    session = _session(asked.session_id) if asked.session_id is not None else appointment.session
    number = appointment.case.number
    key = asks.key_of(scope, request) or f"fhir:move:{number}:{appointment.case.version}"
    moved = service.reschedule(by, number, session.pk, key, asked.seat)
    return Response(200, answers.one(moved.place_id, request.base))
