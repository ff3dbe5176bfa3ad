"""Find and book for a patient: the patient, free numbers for the channel of one's institution, the slip to take home."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

import segno
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.models import Department, Institution, Membership, Practitioner
from lianxin.pool import booking as pool
from lianxin.pool import search
from lianxin.pool.errors import BookingError
from lianxin.pool.models import TIERS, ExamItem, Session
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.resident.booking.moves import MACHINE
from lianxin.resident.schedules import acts, board, people, planning
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.forms import ForPatientForm
from lianxin.resident.schedules.models import Act
from lianxin.resident.schedules.pages_board import day_of, form_key, new_key, number
from lianxin.resident.schedules.pages_session import again
from lianxin.resident.schedules.pages_session import find as find_session
from lianxin.standards import clock, codes
from lianxin.standards.text import T, Text

SHOWN, FEW = 80, 20  # offers on a page: after a choice, and before
DAYS = (1, 3, 7, 14, 30)


def reachable(by: Scope) -> list[Institution]:
    """Institutions whose numbers one may book: the own one; for clinicians and the referral desk those of its consortia too."""
    ids = set(by.institution_ids)
    if by.clinical:
        mine = Membership.objects.live().filter(institution_id__in=ids).values("consortium_id")
        ids |= set(
            Membership.objects.live().filter(consortium_id__in=mine).values_list("institution_id", flat=True)
        )
    rows = list(Institution.objects.filter(pk__in=ids, active=True).order_by("code"))
    rows.sort(key=lambda i: i.pk != by.institution_id)
    return rows


def channel(by: Scope) -> str:
    """The channel of one's institution."""
    own = Institution.objects.filter(pk=by.institution_id or 0).values_list("tier", flat=True).first()
    return pool.channel_of(own or "county")


def _filters(given: Any, places: list[Institution]) -> dict[str, Any]:
    ids = [i.pk for i in places]
    institution = number(given.get("institution", ""))
    department = number(given.get("department", ""))
    practitioner = number(given.get("practitioner", ""))
    days = number(given.get("days", "")) or 7
    return {
        "institution": institution if institution in ids else None,
        "department": department,
        "practitioner": practitioner,
        "specialty": given.get("specialty", "")[:20],
        "since": max(day_of(given.get("day", ""), clock.today()), clock.today()),
        "days": days if days in DAYS else 7,
    }


def _offers(by: Scope, chosen: dict[str, Any], places: list[Institution], through: str) -> dict[str, Any]:
    """Free numbers and, where a choice was made, the full sessions one may wait for."""
    start = dt.datetime.combine(chosen["since"], dt.time(), clock.ZONE)
    until = start + dt.timedelta(days=chosen["days"])
    ids = [chosen["institution"]] if chosen["institution"] else [i.pk for i in places]
    named = {i.pk: i for i in places}
    picked = any(chosen[k] for k in ("specialty", "institution", "department", "practitioner"))
    shown = SHOWN if picked else FEW
    free = search.find(
        specialty=chosen["specialty"] or None, institution=ids, department=chosen["department"],
        practitioner=chosen["practitioner"], since=start, until=until, channel=through, limit=shown + 1,
    )  # fmt: skip
    full: list[Session] = []
    if picked:
        now = clock.now()
        rows = Session.objects.filter(
            institution_id__in=ids, kind="clinic", status="open", opens_at__lte=now, starts_at__gt=now,
            starts_at__gte=start, starts_at__lt=until,
        ).exclude(pk__in=[o.session_id for o in free])  # fmt: skip
        for name, column in (
            ("specialty", "specialty"),
            ("department", "department_id"),
            ("practitioner", "practitioner_id"),
        ):
            if chosen[name]:
                rows = rows.filter(**{column: chosen[name]})
        if len(free) <= shown:
            full = list(rows.select_related("department", "practitioner").order_by("starts_at", "pk")[:40])
    return {
        "offers": [
            {"o": o, "institution": named[o.institution_id], "fee": f"{o.fee_fen / 100:.2f}",
             "ends": o.ends_at, "weekday": board.WEEKDAYS[o.starts_at.weekday()]}
            for o in free[:shown]
        ],
        "more": len(free) > shown,
        "full": [{"s": s, "institution": named[s.institution_id], "times": board.times(s)} for s in full],
    }  # fmt: skip


def _visits(by: Scope, person: Person) -> list[dict[str, Any]]:
    """The person's coming visits, and those that are owed another time."""
    now = clock.now()
    found = []
    for a in service.of_person(by, person.pk):
        owed = a.case.state == "to_rebook"
        if not owed and not (a.live and a.ends_at > now):
            continue
        found.append(
            {
                "a": a, "state": MACHINE.state(a.case.state).label, "owed": owed,
                "changes": a.case.state in ("requested", "booked", "to_rebook"), "slip": a.live and not owed,
            }
        )  # fmt: skip
    return found


def _page(
    request: HttpRequest, *, given: Any = None, trouble: Text | None = None, alternatives: Any = (),
    key: str = "", status: int = 200,
) -> HttpResponse:  # fmt: skip
    by, given = request.scope, request.GET if given is None else given
    places = reachable(by)
    through = channel(by)
    q, found = given.get("q", "").strip(), people.Found()
    who = people.get(given.get("person", "")[:40]) if given.get("person") else None
    if q and who is None:
        found = people.search(by, q)
        who = people.get(found.number) if found.number else None
    known = who is not None and people.sees(by, who)
    chosen = _filters(given, places)
    departments = Department.objects.filter(
        institution_id__in=[chosen["institution"]] if chosen["institution"] else [], active=True
    )
    moving = None
    visits: list[dict[str, Any]] = []
    if who is not None and known:
        visits = _visits(by, who)
        wanted = given.get("move", "")[:32]
        moving = next((v for v in visits if v["a"].number == wanted and v["changes"]), None)
        audit.write(by, "read", person_id=who.pk, what="coming visits")
    base = {
        "person": who.number if who else "",
        "move": moving["a"].number if moving else "",
        **{k: v or "" for k, v in chosen.items() if k != "since"},
        "day": chosen["since"].isoformat(),
    }
    context = {
        "q": "" if people.scanned(q) else q,
        "found": found,
        "who": who,
        "known": known,
        "masked": None if who is None or known else registry.mask_name(who.name),
        "visits": visits,
        "waiting": service.waiting_of(by, who.pk) if who is not None and known else [],
        "moving": moving,
        "chosen": chosen,
        "places": places,
        "departments": departments.order_by("code"),
        "practitioner": Practitioner.objects.filter(pk=chosen["practitioner"]).first() if chosen["practitioner"] else None,
        "specialties": _specialties(places),
        "days": DAYS,
        "channel": TIERS[through],
        "key": key or new_key(),
        "trouble": trouble,
        "alternatives": [
            {"o": a, "weekday": board.WEEKDAYS[a.starts_at.weekday()], "fee": f"{a.fee_fen / 100:.2f}"}
            for a in alternatives
            if a.institution_id in {i.pk for i in places}
        ],
        "query": urlencode(base),
        "may_register": by.may("register_person"),
        **_offers(by, chosen, places, through),
    }  # fmt: skip
    return render(request, "schedules/book.html", context, status=status)


def _specialties(places: list[Institution]) -> list[tuple[str, Text]]:
    """Specialties that have a department at one of the institutions."""
    used = set(
        Department.objects.filter(institution_id__in=[i.pk for i in places], active=True)
        .exclude(specialty="")
        .values_list("specialty", flat=True)
    )
    named = codes.lookup_many(codes.SPECIALTY, used)
    return [
        (
            code,
            Text(named[code].display, named[code].display_en or named[code].display)
            if code in named
            else T(code, code),
        )
        for code in sorted(used)
    ]


@page(may="book")
def show(request: HttpRequest) -> HttpResponse:
    """Find a patient (``?q=`` or ``?person=``), find a number, book. ``?move=`` an appointment: its number is changed."""
    return _page(request)


@require_POST
@page(may="book")
def check_in(request: HttpRequest) -> HttpResponse:
    """The patient shows a card or document: this institution may book for them from now on."""
    person = people.get(request.POST.get("person", "")[:40])
    if person is None:
        return _page(request, given=request.POST, trouble=T("没有找到这个人。", "Nobody found."), status=422)
    try:
        people.check_in(request.scope, person, request.POST.get("evidence", ""))
    except Refused as refusal:
        return _page(request, given=request.POST, trouble=refusal.text, status=refusal.status)
    messages.success(request, str(T("已核对。", "Matched.")))
    return redirect(f"{reverse('schedules:book')}?{urlencode({'person': person.number})}")


def _person(request: HttpRequest) -> Person:
    person = people.get(request.POST.get("person", "")[:40])
    if person is None:
        raise Refused(T("请先选患者。", "Choose the patient first."), 422)
    if not people.sees(request.scope, person):
        raise Refused(T("请先核对患者的健康卡或证件。", "Match the patient's card or document first."), 403)
    return person


def _session_id(request: HttpRequest) -> int:
    wanted = number(request.POST.get("session", ""))
    if wanted is None:
        raise Refused(T("请选一个场次。", "Choose a session."), 422)
    return wanted


def _key(request: HttpRequest) -> str:
    own = request.POST.get("_key", "")[:40] or new_key()
    return f"page:{request.scope.account_id}:{own}"


@require_POST
@page(may="book")
def take(request: HttpRequest) -> HttpResponse:
    """Book a number for the patient, or move a visit there; then its slip. A refusal shows what else is free."""
    try:
        person, session = _person(request), _session_id(request)
        key, moved = f"{_key(request)}:{session}", request.POST.get("move", "")[:32]
        if moved:
            if service.get(request.scope, moved).person_id != person.pk:
                raise Refused(T("该预约不是此患者的。", "This visit is another patient's."), 422)
            done = service.reschedule(request.scope, moved, session, key)
        else:
            done = service.book(request.scope, session, person.pk, key)
    except Refused as refusal:
        return _page(request, given=request.POST, trouble=refusal.text, status=refusal.status)
    except BookingError as full:
        return _page(
            request, given=request.POST, trouble=full.text, alternatives=getattr(full, "alternatives", ()), status=409
        )  # fmt: skip
    except MoveError as refusal:
        return _page(request, given=request.POST, trouble=refusal.text, status=409)
    except (Case.DoesNotExist, Session.DoesNotExist):
        return _page(
            request, given=request.POST, trouble=T("没有这个预约或场次。", "No such visit or session."), status=422
        )  # fmt: skip
    words = (
        T("已改约：{no} 号。", "Moved: number {no}.")
        if moved
        else T("已预约：{no} 号。", "Booked: number {no}.")
    )
    messages.success(request, str(words.format(no=done.place.seat_no)))
    return redirect("schedules:slip", number=done.number)


@require_POST
@page(may="book")
def wait(request: HttpRequest) -> HttpResponse:
    """Put the patient on the waiting list of a full session."""
    try:
        person, session = _person(request), _session_id(request)
        service.wait(request.scope, session, person.pk, f"{_key(request)}:{session}")
    except Refused as refusal:
        return _page(request, given=request.POST, trouble=refusal.text, status=refusal.status)
    except (BookingError, MoveError) as refusal:
        return _page(request, given=request.POST, trouble=refusal.text, status=409)
    messages.success(
        request,
        str(
            T(
                "已列入候补；有号即短信通知。",
                "On the waiting list; a freed number is offered by text message.",
            )
        ),
    )
    return redirect(f"{reverse('schedules:book')}?{urlencode({'person': person.number})}")


@require_POST
@page(may="book")
def waiting(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Leave the waiting list, or take the number that is offered."""
    if what not in ("leave", "take"):
        raise Http404
    row = Waiting.objects.within(request.scope).select_related("person").filter(pk=pk).first()
    if row is None:
        raise Http404(str(T("没有这条候补。", "No such waiting.")))
    back = f"{reverse('schedules:book')}?{urlencode({'person': row.person.number})}"
    try:
        if what == "leave":
            service.leave(request.scope, pk)
            messages.success(request, str(T("已退出候补。", "Off the waiting list.")))
            return redirect(back)
        done = service.take_offer(request.scope, pk, f"page:take:{pk}")
    except (BookingError, MoveError) as refusal:
        messages.error(request, str(refusal.text))
        return redirect(back)
    messages.success(
        request, str(T("已预约：{no} 号。", "Booked: number {no}.").format(no=done.place.seat_no))
    )
    return redirect("schedules:slip", number=done.number)


def _appointment(by: Scope, wanted: str) -> Appointment:
    try:
        return service.get(by, wanted)
    except Case.DoesNotExist:
        raise Http404(str(T("没有这个预约。", "No such visit."))) from None


@require_POST
@page(may="book")
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    """Cancel a coming visit, with a reason; cancelled already: nothing more to do."""
    found = _appointment(request.scope, number)
    person = Person.objects.unscoped("the visit was reached within the scope").get(pk=found.person_id)
    given = request.POST.copy()
    given["person"] = person.number
    reason = request.POST.get("reason", "").strip()[:200]
    if found.case.state == "cancelled":
        messages.info(request, str(T("该预约已取消。", "This visit is cancelled already.")))
    elif len(reason) < 2:
        return _page(
            request, given=given, trouble=T("请写明取消原因（至少 2 个字）。", "Say why it is cancelled (2 characters at least)."),
            status=422,
        )  # fmt: skip
    else:
        try:
            service.cancel(request.scope, number, f"{_key(request)}:{number}", reason)
        except (BookingError, MoveError) as refusal:
            return _page(request, given=given, trouble=refusal.text, status=409)
        messages.success(request, str(T("已取消，号已退回。", "Cancelled; the number is free again.")))
    return redirect(f"{reverse('schedules:book')}?{urlencode({'person': person.number})}")


@page(may="book")
def slip(request: HttpRequest, number: str) -> HttpResponse:
    """The number slip: where, when, which number, what to bring; ``?size=80`` for a receipt printer, else A5."""
    found = _appointment(request.scope, number)
    person = Person.objects.unscoped("the visit was reached within the scope").get(pk=found.person_id)
    item = ExamItem.objects.filter(code=found.item).first() if found.item else None
    audit.write(request.scope, "print", person_id=person.pk, what=f"slip {number}")
    session = Session.objects.select_related("department", "practitioner", "resource", "institution").get(
        pk=found.session_id
    )
    context = {
        "a": found,
        "s": session,
        "person": person,
        "state": MACHINE.state(found.case.state).label,
        "live": found.live and found.case.state in ("requested", "booked", "arrived"),
        "requested": found.case.state == "requested",
        "weekday": board.WEEKDAYS[found.at.astimezone(clock.ZONE).weekday()],
        "item": item,
        "qr": segno.make(number, error="m").svg_data_uri(scale=4, border=1),
        "narrow": request.GET.get("size") == "80",
    }
    return render(request, "schedules/slip.html", context)


@require_POST
@page(may="run_schedules")
def for_patient(request: HttpRequest, pk: int) -> HttpResponse:
    """An extra number for one patient: added and booked in one act, with the reason; nobody in the waiting list is asked."""
    request.scope.demand("book")
    session = find_session(request, pk)
    if session.kind != "clinic":
        raise Http404
    key = f"extra:{form_key(request)}"
    act = Act.objects.filter(key=key[:160]).first()
    if act is None:
        form = ForPatientForm(request.POST)
        if not form.is_valid():
            return again(request, session, "patient", form, None, 422)
        try:
            person = people.at_desk(request.scope, form.cleaned_data["person"])
            act = add_and_book(request.scope, session, person, form.cleaned_data["reason"], key, "extra")
        except Refused as refusal:
            return again(request, find_session(request, pk), "patient", form, refusal.text, refusal.status)
        except (BookingError, MoveError) as refusal:
            return again(request, find_session(request, pk), "patient", form, refusal.text, 409)
    messages.success(
        request,
        str(
            T("已加号并预约：{no} 号。", "Added and booked: number {no}.").format(
                no=act.detail.get("seat", "")
            )
        ),
    )
    return redirect("schedules:slip", number=act.detail["appointment"])


def add_and_book(
    by: Scope, session: Session, person: Person, reason: str, key: str, kind: str, *, free_first: bool = False
) -> Act:
    """One more number of the session and its booking for the person, both or neither; ``free_first``: a free number if there is one.

    Raises Refused, pool and duty errors; then nothing has changed.
    """

    def work(_act: Act) -> dict[str, Any]:
        seat = None
        if not free_first:
            seat = planning.widen_for_one(session.pk)
            done = service.book(by, session.pk, person.pk, key[:110], seat=seat)
        else:
            try:
                done = service.book(by, session.pk, person.pk, key[:110])
            except pool.Full:
                seat = planning.widen_for_one(session.pk)
                done = service.book(by, session.pk, person.pk, key[:110], seat=seat)
        return {"appointment": done.number, "seat": done.place.seat_no, "count": 1 if seat else 0}

    return acts.once(
        by, key, kind, work, institution_id=session.institution_id, session_id=session.pk,
        template_id=session.template_id, reason=reason,
    )  # fmt: skip
