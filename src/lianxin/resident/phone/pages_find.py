"""Finding and booking: what was typed, the numbers of a choice by day, one session with its times, and the booking itself.

The confirm page carries an idempotency key: however often it is sent, there is one booking. A session that is full is answered from
its own row, before anything heavy is asked.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import get_language
from django.views.decorators.http import require_POST

from lianxin.access.web import page
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.pool import hooks, search
from lianxin.pool.errors import AlreadyBooked, BookingError, Full, SeatTaken
from lianxin.pool.models import Session
from lianxin.pool.search import Offer
from lianxin.resident.booking import service
from lianxin.resident.booking.errors import Barred
from lianxin.resident.booking.models import Appointment
from lianxin.resident.card import acting
from lianxin.resident.phone import finding, words
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T

OFTEN = ("02", "03.04", "03.07", "03.02", "04.03", "07", "05.01", "50")
"""Specialties offered before anything is typed, when the network has them."""
_ELSEWHERE_SECONDS = 2.0
_elsewhere: dict[int, tuple[float, list[Offer]]] = {}


def home_of(person: Person | None) -> Institution | None:
    """Where ways begin: the person's own centre or clinic, if it has a position (else the one it belongs to)."""
    known = finding.network().institutions
    here = known.get(person.home_institution_id or 0) if person is not None else None
    if here is not None and here.lon is None and here.parent_id:
        here = known.get(here.parent_id)
    return here


def _date(value: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        return None


@page(resident=True)
def find(request: HttpRequest) -> HttpResponse:
    """What or whom one looks for: words, or one of the usual specialties, or one's own clinic."""
    typed = request.GET.get("q", "").replace("\x00", "")[:40].strip()
    known = finding.network()
    who = acting.member(request)
    context: dict[str, Any] = {
        "here": "find",
        "q": typed,
        "hits": finding.suggest(typed),
        "specialties": [(c, known.specialties[c]) for c in OFTEN if c in known.specialties],
        "others": [(c, label) for c, label in known.specialties.items() if c not in OFTEN],
        "home": home_of(who.person) if who else None,
        "move": _moving(request),
    }
    return render(request, "phone/find.html", context)


def _moving(request: HttpRequest) -> str:
    """The appointment that is being moved to another time, if the search is for that."""
    return request.GET.get("move", "")[:40]


@page(resident=True)
def numbers(request: HttpRequest) -> HttpResponse:
    """Numbers of a choice: a fortnight of days, and one day's sessions."""
    wanted = finding.Wanted.of(request.GET)
    if wanted.empty:
        return redirect("phone:find")
    who = acting.member(request)
    sort = "time" if request.GET.get("sort") == "time" else "near"
    home, move = home_of(who.person) if who else None, _moving(request)
    context = {
        "here": "find", "title": wanted.title(), "move": move, "tail": f"?{urlencode({'move': move})}" if move else "",
        "shown": _shown(wanted, _date(request.GET.get("day", "")), sort, home, move),
    }  # fmt: skip
    return render(request, "phone/numbers.html", context)


_LIST_SECONDS = 1.0
_lists: dict[tuple[Any, ...], tuple[float, str]] = {}


def _shown(
    wanted: finding.Wanted, day: dt.date | None, sort: str, home: Institution | None, move: str
) -> str:
    """The days and the numbers of one day, at most a second old: at seven a thousand people ask for the same list. It says nothing of
    anybody (where from, for the way, is a township); what is really free booking decides."""
    key = (wanted, day, clock.today(), sort, home.pk if home else None, move, get_language())
    kept = _lists.get(key)
    if kept is None or time.monotonic() - kept[0] > _LIST_SECONDS:
        if len(_lists) > 500:
            _lists.clear()
        listing = finding.numbers(wanted, day, home, sort)
        context = {
            "listing": listing, "sort": sort, "query": urlencode({**wanted.query, **({"move": move} if move else {})}),
            "date": words.date_words(listing.day), "tail": f"?{urlencode({'move': move})}" if move else "",
            "bands": finding.bands(listing.lines) if sort == "time" else [(None, listing.lines)],
        }  # fmt: skip
        kept = _lists[key] = (time.monotonic(), render_to_string("phone/_numbers.html", context))
    return kept[1]


def forget() -> None:
    """Keep no list and no alternatives (tests)."""
    _lists.clear()
    _elsewhere.clear()


def _session(pk: int) -> Session:
    """The session with its names; 404 for one that is not (or no clinic)."""
    row = Session.objects.select_related("practitioner").filter(pk=pk, kind="clinic").first()
    known = finding.network()
    if (
        row is None
        or row.institution_id not in known.institutions
        or row.department_id not in known.departments
    ):
        raise Http404(str(T("没有这个门诊场次。", "There is no such session.")))
    row.institution = known.institutions[row.institution_id]
    row.department = known.departments[row.department_id]
    return row


def _about(session: Session, home: Institution | None) -> dict[str, Any]:
    """A session in words."""
    starts, ends = words.local(session.starts_at), words.local(session.ends_at)
    return {
        "session": session,
        "clinic_type": finding.type_words(session.clinic_type),
        "date": words.date_words(starts.date()),
        "half_day": words.half_day(starts),
        "hours": f"{starts:%H:%M}–{ends:%H:%M}",
        "fee": Money(session.fee_fen).yuan(),
        "travel": words.travel(home, session.institution),
        "by_hospital": session.owner == "hospital",
        "listing_query": urlencode(
            {"specialty": session.specialty, "day": f"{starts:%Y-%m-%d}"} if session.specialty
            else {"department": session.department_id, "day": f"{starts:%Y-%m-%d}"}
        ),
    }  # fmt: skip


@page(resident=True)
def session(request: HttpRequest, pk: int) -> HttpResponse:
    """One session before booking: who, where, when, price, the times to choose among, and the one button."""
    who = acting.member(request)
    if who is None:
        return redirect("phone:home")
    return _confirm(request, _session(pk), who, status=200)


def _confirm(
    request: HttpRequest,
    row: Session,
    who: acting.Member,
    *,
    status: int,
    trouble: Any = None,
    seat: str = "",
) -> HttpResponse:
    now = clock.now()
    over = row.status != "open" or row.starts_at <= now
    free = 0 if over else finding.public_free(row, now)
    if not free and not over and finding.lapsed_holds(row.pk, now):
        free = 1
    if over or not free:
        return _full(request, row, who, over=over, trouble=trouble)
    seats = [(n, at) for n, at in finding.free_seats(row, now) if at > now] if row.owner == "platform" else []
    context = _about(row, home_of(who.person)) | {
        "here": "find", "who": who, "free": free, "trouble": trouble, "chosen": seat, "move": _moved(request),
        "bands": finding.seat_bands(seats), "first": seats[0] if seats else None,
        "key": request.POST.get("key", "")[:40] or secrets.token_urlsafe(12),
    }  # fmt: skip
    return render(request, "phone/session.html", context, status=status)


def _moved(request: HttpRequest) -> str:
    return (request.POST.get("move") or request.GET.get("move", ""))[:40]


def elsewhere(session_id: int) -> list[Offer]:
    """Up to three other sessions with a free number, at most two seconds old: at seven in the morning a thousand people ask for the
    same three; booking decides anyway."""
    kept = _elsewhere.get(session_id)
    if kept is None or time.monotonic() - kept[0] > _ELSEWHERE_SECONDS:
        if len(_elsewhere) > 5000:
            _elsewhere.clear()
        kept = _elsewhere[session_id] = (time.monotonic(), search.alternatives(session_id, "public"))
    return kept[1]


def _alternatives(session_id: int, home: Institution | None) -> list[dict[str, Any]]:
    known = finding.network().institutions
    return [
        {
            "id": o.session_id, "department": o.department, "doctor": o.practitioner, "when": words.when_words(o.starts_at),
            "free": o.free, "fee": Money(o.fee_fen).yuan(), "clinic_type": finding.type_words(o.clinic_type),
            "institution": known.get(o.institution_id) or o.institution,
            "travel": words.travel(home, known[o.institution_id]) if o.institution_id in known else None,
        }
        for o in elsewhere(session_id)
    ]  # fmt: skip


def _full(
    request: HttpRequest, row: Session, who: acting.Member, *, over: bool = False, trouble: Any = None
) -> HttpResponse:
    """Nothing left: up to three others, and the waiting list."""
    home = home_of(who.person)
    context = _about(row, home) | {
        "here": "find", "over": over, "trouble": trouble, "move": _moved(request),
        "alternatives": _alternatives(row.pk, home), "key": secrets.token_urlsafe(12),
        "tail": f"?{urlencode({'move': _moved(request)})}" if _moved(request) else "",
    }  # fmt: skip
    return render(request, "phone/full.html", context, status=409 if request.method == "POST" else 200)


@require_POST
@page(resident=True)
def book(request: HttpRequest, pk: int) -> HttpResponse:
    """Book the session (or move an appointment to it). Full is said from one cheap query before anything heavy is begun."""
    who = acting.member(request)
    if who is None:
        return redirect("phone:home")
    row = _session(pk)
    key, number, now = request.POST.get("key", "")[:40], _seat(request), clock.now()
    if not key:
        return _confirm(
            request, row, who, status=422, trouble=T("请再按一次「确认」。", "Please press “Confirm” again.")
        )
    closed = row.status != "open" or row.ends_at <= now
    if closed or (not finding.public_free(row, now) and not finding.lapsed_holds(row.pk, now)):
        already = _before(request, row.pk, who.person.pk)
        if already is not None:
            return redirect("phone:visit", already)
        hooks.refused(row.pk, "public", 1)
        return _full(request, row, who, over=closed)
    try:
        done = _do(request, row, who, key, number)
    except AlreadyBooked:
        already = _before(request, row.pk, who.person.pk)
        if already is None:
            return _confirm(
                request,
                row,
                who,
                status=409,
                trouble=T("您在这个场次已有号。", "You have a number of this session."),
            )
        messages.info(
            request, T("您在这个场次已经有号了，不用再约。", "You have a number of this session already.")
        )
        return redirect("phone:visit", already)
    except SeatTaken:
        return _confirm(
            request, row, who, status=409,
            trouble=T("这个时间刚刚被约走了，请另选一个时间。", "This time has just been taken; choose another."),
        )  # fmt: skip
    except Full as full:
        return _full(request, row, who, trouble=full.text)
    except Barred as barred:
        return barred_page(request, who, barred)
    except BookingError as error:
        return _confirm(request, row, who, status=409, trouble=error.text)
    except MoveError as error:
        already = None if _moved(request) else _before(request, row.pk, who.person.pk)
        if already is not None:
            messages.info(
                request, T("您在这个场次已经有号了，不用再约。", "You have a number of this session already.")
            )
            return redirect("phone:visit", already)
        return _confirm(request, row, who, status=409, trouble=error.text)
    except Case.DoesNotExist:
        raise Http404(str(T("没有这个预约。", "There is no such visit."))) from None
    return redirect("phone:visit", done.case.number)


def _seat(request: HttpRequest) -> int | None:
    value = request.POST.get("seat", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def _do(request: HttpRequest, row: Session, who: acting.Member, key: str, seat: int | None) -> Appointment:
    move = _moved(request)
    key = f"m-{request.scope.account_id}-{key}"
    if move:
        return service.reschedule(request.scope, move, row.pk, key, seat=seat)
    return service.book(request.scope, row.pk, who.person.pk, key, seat=seat, source="resident")


def _before(request: HttpRequest, session_id: int, person_id: int) -> str | None:
    """The number of the appointment the person has at the session already."""
    rows = Appointment.objects.within(request.scope).filter(
        session_id=session_id, person_id=person_id, live=True
    )
    return rows.values_list("case__number", flat=True).first()


def barred_page(request: HttpRequest, who: acting.Member, barred: Barred) -> HttpResponse:
    """Public numbers are closed for a while: until when, why, what is not affected, how to appeal."""
    standing = service.standing(who.person.pk)
    context = {
        "here": "find", "who": who, "until": words.date_words(words.local(barred.until).date()), "why": barred.why, "standing": standing,
    }  # fmt: skip
    return render(request, "phone/barred.html", context, status=403)


@require_POST
@page(resident=True)
def wait(request: HttpRequest, pk: int) -> HttpResponse:
    """Wait for a number of a full session; it is offered when one comes back."""
    who = acting.member(request)
    if who is None:
        return redirect("phone:home")
    row = _session(pk)
    key = request.POST.get("key", "")[:40] or secrets.token_urlsafe(12)
    try:
        service.wait(request.scope, row.pk, who.person.pk, f"w-{request.scope.account_id}-{key}")
    except Barred as barred:
        return barred_page(request, who, barred)
    except (BookingError, MoveError) as error:
        return _full(request, row, who, trouble=error.text)
    messages.success(
        request,
        T(
            "已排入候补。有人退号时按先后顺序通知您，请留意短信。",
            "You are on the waiting list; we tell you when it is your turn.",
        ),
    )
    return redirect(reverse("phone:home") + "#waiting")
