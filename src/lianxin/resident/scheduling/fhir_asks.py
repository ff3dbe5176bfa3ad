"""Reading what a FHIR client asks of the scheduling operations: references, times, Appointments. Pure but for looking up names.

What cannot be read is refused with its place and the cure.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.exchange.fhir.handlers import Request
from lianxin.index import registry
from lianxin.network.models import Institution, Practitioner
from lianxin.pool import publish
from lianxin.record import values
from lianxin.record.problems import Problem, refuse
from lianxin.standards import clock, identifiers

OFFER = re.compile(r"offer-(\d{1,18})(?:-(\d{1,6}))?$")
PLACE = re.compile(r"place-(\d{1,18})$")
SLOT = re.compile(r"slot-(\d{1,18})$")
CASE = re.compile(r"YY\d{8}-\d{1,12}$")
MAX_KEY = 100
MAX_TEXT = 200


def where(name: str) -> str:
    """The FHIRPath of a parameter."""
    return f"Parameters.parameter.where(name='{name}')"


def first(request: Request, *names: str) -> Any:
    """The first value given under any of several spellings."""
    for name in names:
        values_ = request.arguments.get(name)
        if values_:
            return values_[0]
    return None


def words(value: Any, name: str) -> str:
    """A short text; 400 when it is none."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 1000 or "\x00" in value:
        raise refuse(
            400, "value", f"参数 {name} 应为文字", f"the parameter {name} must be a text", where(name)
        )
    return value.strip()


def reference(value: Any, rtype: str, name: str) -> str:
    """The id of a reference to ``rtype``: ``Type/id``, an address that ends so, or the bare id; "" for none."""
    if isinstance(value, dict):
        value = value.get("reference") or (value.get("identifier") or {}).get("value")
    if value is None:
        return ""
    plain = words(value, name).split("/_history/")[0]
    kind, _, rid = plain.rpartition("/")
    if (kind and kind.rpartition("/")[2] != rtype) or not re.fullmatch(r"[A-Za-z0-9.\-]{1,64}", rid):
        raise refuse(
            400, "value", f"参数 {name} 应为对 {rtype} 的引用", f"the parameter {name} must refer to a {rtype}", where(name)
        )  # fmt: skip
    return rid


def instant(value: Any, name: str, *, end: bool = False) -> dt.datetime | None:
    """A date or dateTime, in our zone when it names none; ``end``: the end of what it covers."""
    if value is None:
        return None
    text = words(value, name)
    try:
        since, until = values.date_range(text.replace(" ", "+") if "T" in text else text)
    except (ValueError, OverflowError):
        raise refuse(
            400, "value", f"参数 {name} 不是日期时间", f"the parameter {name} is no date or dateTime", where(name)
        ) from None  # fmt: skip
    return until if end else since


def code(value: Any, name: str) -> str:
    """A code given as a token, a Coding or a CodeableConcept; "" for none."""
    if isinstance(value, dict):
        codings = value.get("coding")
        if isinstance(codings, list) and codings and isinstance(codings[0], dict):
            value = codings[0].get("code")
        else:
            value = value.get("code") or value.get("text")
    plain = words(value, name)
    return plain.rpartition("|")[2][:40]


def key_of(scope: Scope, request: Request, given: str = "") -> str:
    """The idempotency key (parameter ``key``, header, or an identifier of the Appointment), told apart by who calls; "" for none."""
    plain = words(first(request, "key"), "key") or (request.key or "").strip() or given
    if not plain:
        return ""
    if len(plain) > MAX_KEY or not plain.isprintable():
        raise refuse(
            400, "value", "幂等键最多 100 个可见字符", "an idempotency key has at most 100 printable characters", where("key")
        )  # fmt: skip
    return f"fhir:{scope.client_id or scope.account_id}:{plain}"


def person(scope: Scope, given: Any, place: str) -> int:
    """The person a reference names; one without a relationship answers as one that is not there."""
    if isinstance(given, dict):
        given = given.get("reference") or (given.get("identifier") or {}).get("value")
    value = words(given, "patient").split("/_history/")[0].rpartition("/")[2]
    found: int | None = None
    if identifiers.number_valid(value):
        try:
            found = registry.get(value).pk
        except registry.UnknownPerson:
            found = None
    elif value:
        found = registry.by_patient_id(value)
    if found is None or not relationships.sees(scope, found):
        raise refuse(
            422, "not-found", "找不到该患者，请先登记患者或改正引用", "no such patient; register the patient first or mend the reference", place
        )  # fmt: skip
    return found


def institution(given: Any, name: str) -> int | None:
    """The institution of an Organization reference (or Location of the same code); None for none."""
    if isinstance(given, dict) or (isinstance(given, str) and given):
        rtype = "Location" if "Location/" in str(given) else "Organization"
        rid = reference(given, rtype, name)
        found = Institution.objects.filter(code=rid).values_list("pk", flat=True).first()
        if found is None:
            raise refuse(422, "not-found", f"没有机构 {rid}", f"there is no institution {rid}", where(name))
        return found
    return None


def practitioner(given: Any, name: str) -> int | None:
    """The practitioner of a reference; None for none."""
    if given is None:
        return None
    rid = reference(given, "Practitioner", name)
    found = Practitioner.objects.filter(code=rid).values_list("pk", flat=True).first()
    if found is None:
        raise refuse(422, "not-found", f"没有医务人员 {rid}", f"there is no practitioner {rid}", where(name))
    return found


@dataclass
class Wanted:
    """An Appointment a client asks for: which session and number, for whom, what for.

    ``place_id`` or ``case``: an existing one it speaks of; ``status`` as it was given.
    """

    session_id: int | None = None
    seat: int | None = None
    place_id: int | None = None
    case: str = ""
    person: Any = None
    item: str = ""
    note: str = ""
    status: str = ""
    reason: str = ""
    key: str = ""


def named(rid: str, found: Wanted) -> Wanted:
    """What the id of an Appointment says: a proposal, a held or booked number, or a case."""
    if (offer := OFFER.fullmatch(rid)) is not None:
        found.session_id, found.seat = int(offer[1]), int(offer[2]) if offer[2] else None
    elif (place := PLACE.fullmatch(rid)) is not None:
        found.place_id = int(place[1])
    elif CASE.fullmatch(rid):
        found.case = rid
    elif rid:
        raise _unknown(rid)
    return found


def _unknown(rid: str) -> Problem:
    return refuse(
        404,
        "not-found",
        f"没有可见的预约 {rid}",
        f"there is no appointment {rid} that you may see",
        "Appointment.id",
    )


def wanted(request: Request, *, whole: bool = True) -> Wanted:
    """What ``$hold`` or ``$book`` is to take: an Appointment by reference or as a resource (a proposal of ``$find``, or our Slot).

    ``whole``: refuse when it names none of these."""
    found = Wanted(person=first(request, "patient-reference", "patient", "patient-id"))
    body = first(request, "appointment-resource", "appt-resource", "resource")
    ref = first(request, "appointment-reference", "appt-reference", "appt-id")
    slot = first(request, "slot", "slot-reference")
    if ref is not None:
        named(reference(ref, "Appointment", "appointment-reference"), found)
    if body is not None:
        if not isinstance(body, dict) or body.get("resourceType") != "Appointment":
            raise refuse(400, "structure", "appointment-resource 应为 Appointment", "appointment-resource must be an Appointment", where("appointment-resource"))  # fmt: skip
        _of_resource(body, found)
    if slot is not None:
        _slot(reference(slot, "Slot", "slot"), found, where("slot"))
    chosen = first(request, "number")
    if chosen is not None:
        found.seat = number(chosen, where("number"))
    found.note = words(first(request, "comment", "comments"), "comment")[:MAX_TEXT] or found.note
    found.item = code(first(request, "service-type", "serviceType"), "service-type") or found.item
    if whole and found.session_id is None and found.place_id is None and not found.case:
        raise refuse(
            400, "required", "请给出 appointment-reference（$find 的结果或已暂留的预约）、appointment-resource 或 slot",
            "give appointment-reference (a result of $find, or what is held), appointment-resource or slot",
            where("appointment-reference"),
        )  # fmt: skip
    return found


def _of_resource(body: dict[str, Any], found: Wanted) -> None:
    rid = body.get("id")
    if isinstance(rid, str) and (OFFER.fullmatch(rid) or PLACE.fullmatch(rid) or CASE.fullmatch(rid)):
        named(rid, found)
    found.status = words(body.get("status"), "status")
    slots = body.get("slot")
    if isinstance(slots, list) and slots:
        if len(slots) > 1:
            raise refuse(
                422, "business-rule", "一次只能预约一个 Slot", "one Slot at a time", "Appointment.slot"
            )
        _slot(reference(slots[0], "Slot", "slot"), found, "Appointment.slot")
    for part in body.get("participant") or []:
        actor = part.get("actor") if isinstance(part, dict) else None
        if isinstance(actor, dict) and "Patient/" in str(actor.get("reference", "")) and found.person is None:
            found.person = actor
    types = body.get("serviceType")
    if isinstance(types, list) and types:
        found.item = code(types[0], "serviceType")
    for one in body.get("extension") or []:
        if isinstance(one, dict) and one.get("url") == publish.SEAT_EXTENSION:
            found.seat = number(one.get("valuePositiveInt"), "Appointment.extension")
    for one in body.get("identifier") or []:
        if isinstance(one, dict) and isinstance(one.get("value"), str) and not found.key:
            found.key = f"{str(one.get('system', ''))[:60]}|{one['value']}"[:MAX_KEY]
    found.note = words(body.get("comment") or body.get("description"), "comment")[:MAX_TEXT]
    reason = body.get("cancelationReason")
    if isinstance(reason, dict):
        found.reason = words(reason.get("text"), "cancelationReason") or code(reason, "cancelationReason")


def _slot(rid: str, found: Wanted, place: str) -> None:
    given = SLOT.fullmatch(rid)
    if given is None:
        raise refuse(422, "not-found", f"没有号源 Slot/{rid}", f"there is no Slot/{rid}", place)
    if found.session_id is not None and found.session_id != int(given[1]):
        found.seat = None
    found.session_id = int(given[1])


def number(value: Any, place: str) -> int:
    """A positive whole number; 400 when it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:9])
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100_000:
        raise refuse(400, "value", "号序应为正整数", "the number must be a positive integer", place)
    return value


def window(request: Request) -> tuple[dt.datetime, dt.datetime]:
    """``start`` and ``end`` of a search, at most 62 days; without them from now for 14 days."""
    now = clock.now()
    since = max(instant(first(request, "start"), "start") or now, now)
    until = instant(first(request, "end"), "end", end=True) or since + dt.timedelta(days=14)
    if until <= since:
        raise refuse(
            422,
            "value",
            "时间范围已过或首尾颠倒",
            "the time range is past, or ends before it starts",
            where("end"),
        )
    return since, min(until, since + dt.timedelta(days=62))
