"""Today's desk: a session's list by number; who is here, who is called, who was seen, who did not come, who comes without a number."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.db import transaction
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral.models import Referral
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case
from lianxin.network import roles
from lianxin.pool import booking as pool
from lianxin.pool import publish
from lianxin.pool.errors import BookingError
from lianxin.pool.models import STATES, Place, Session
from lianxin.resident.booking import service
from lianxin.resident.booking.moves import KIND, MACHINE
from lianxin.resident.schedules import acts, board, people, policy, queue
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.models import Act, Call
from lianxin.resident.schedules.pages_board import form_key, new_key, number
from lianxin.resident.schedules.pages_book import add_and_book
from lianxin.standards import clock
from lianxin.standards.text import T, Text

DESK_ROLES = (roles.RECEPTION, roles.REFERRAL_DESK)
LIVE = ("booked", "arrived", "fulfilled", "no_show")
MOVES: dict[str, Text] = {
    "arrive": T("到诊", "Arrived"),
    "fulfil": T("已就诊", "Seen"),
    "confirm_missed": T("确认爽约", "Confirm no-show"),
    "excuse": T("免责", "Excuse"),
}


def _late() -> dt.timedelta:
    return dt.timedelta(minutes=policy.number("late_minutes"))


def sessions_today(by: Scope) -> list[Session]:
    """Today's sessions of one's own institution (its village clinics included), soonest first."""
    start = dt.datetime.combine(clock.today(), dt.time(), clock.ZONE)
    return list(
        Session.objects.filter(
            institution_id__in=by.institution_ids, starts_at__gte=start, starts_at__lt=start + dt.timedelta(days=1)
        )
        .exclude(status="stopped", taken_public=0, taken_county=0, taken_township=0, taken_village=0)
        .select_related("institution", "department", "practitioner", "resource")
        .order_by("starts_at", "department__code", "pk")
    )  # fmt: skip


def narrowed(by: Scope, rows: list[Session], every: bool) -> list[Session]:
    """A doctor sees the own sessions unless they ask for all; a desk sees all."""
    if every or by.has(*DESK_ROLES):
        return rows
    own = [s for s in rows if by.practitioner_id is not None and s.practitioner_id == by.practitioner_id]
    return own or rows


def _chosen(rows: list[Session], wanted: int | None) -> Session | None:
    found = next((s for s in rows if s.pk == wanted), None)
    if found is not None:
        return found
    now = clock.now()
    under_way = [s for s in rows if s.ends_at > now and s.status == "open"]
    with_people = [s for s in under_way if s.taken]
    return next(iter(with_people or under_way or rows[::-1]), None)


def _lines(by: Scope, session: Session) -> list[dict[str, Any]]:
    """The numbers of a session with what may be done about each."""
    places = list(
        Place.objects.within(by)
        .filter(session=session, state__in=LIVE)
        .select_related("person")
        .order_by("seat_no")
    )
    cases = {
        c.pk: c
        for c in Case.objects.unscoped("cases of the numbers of a session one serves").filter(
            pk__in=[p.case_id for p in places if p.case_id]
        )
    }
    calls = {c.place_id: c for c in Call.objects.filter(place_id__in=[p.pk for p in places])}
    order = {p.pk: n for n, p in enumerate(queue.in_turn(places, _late()), 1)}
    missed_referrals = {c.pk for c in cases.values() if c.kind == "referral"}
    mine = set(
        Referral.objects.within(by).filter(case_id__in=missed_referrals).values_list("case_id", flat=True)
    )
    found = []
    for place in places:
        case = cases.get(place.case_id or 0)
        found.append(
            {
                "p": place, "case": case, "turn": order.get(place.pk), "call": calls.get(place.pk),
                "late": queue.is_late(place, _late()), "state": _state(place, case), "heap": _heap(place, case),
                "acts": [(m, MOVES[m]) for m in _acts(place, case)],
                "referral": case.number if case is not None and case.pk in mine else "",
                "appointment": case.number if case is not None and case.kind == KIND else "",
            }
        )  # fmt: skip
    return found


def _state(place: Place, case: Case | None) -> Text:
    if case is not None and case.kind == KIND and case.state == "missed":
        return MACHINE.state("missed").label
    return STATES[place.state]


def _heap(place: Place, case: Case | None) -> str:
    if case is not None and case.kind == KIND and case.state == "missed":
        return "missed"
    return {"booked": "expected", "arrived": "here", "fulfilled": "seen", "no_show": "missed"}[place.state]


def _acts(place: Place, case: Case | None) -> list[str]:
    """What a desk may do about a number; a referral's visit is received on its own page."""
    if case is not None and case.kind != KIND:
        return []
    if case is None:
        return {"booked": ["arrive"], "arrived": ["fulfil"]}.get(place.state, [])
    return {
        "booked": ["arrive"], "arrived": ["fulfil"], "missed": ["arrive", "confirm_missed", "excuse"],
    }.get(case.state, [])  # fmt: skip


HEAPS: dict[str, Text] = {
    "here": T("候诊", "Here"),
    "expected": T("未到", "Expected"),
    "seen": T("已就诊", "Seen"),
    "missed": T("未到诊", "Missed"),
}


def _page(
    request: HttpRequest,
    *,
    wanted: int | None = None,
    trouble: Text | None = None,
    typed: str = "",
    status: int = 200,
) -> HttpResponse:
    by = request.scope
    every = request.GET.get("all") == "1" or request.POST.get("all") == "1"
    rows = sessions_today(by)
    listed = narrowed(by, rows, every)
    wanted = wanted if wanted is not None else number(request.GET.get("session", ""))
    session = _chosen(listed, wanted) or _chosen(rows, wanted)
    lines = _lines(by, session) if session is not None else []
    heap = request.GET.get("show", "")
    waiting = sorted((x for x in lines if x["turn"]), key=lambda x: x["turn"])
    called = [x for x in waiting if x["call"]]
    if session is not None:
        audit.write(by, "read", what=f"desk session {session.pk}", detail={"people": len(lines)})
    now = clock.now()
    context = {
        "sessions": [{"s": s, "times": board.times(s), "here": session is not None and s.pk == session.pk} for s in listed],
        "hidden": len(rows) - len(listed),
        "every": every,
        "s": session,
        "times": board.times(session) if session else "",
        "lines": (waiting if heap == "here" else [x for x in lines if not heap or x["heap"] == heap]),
        "heaps": [(code, label, sum(x["heap"] == code for x in lines)) for code, label in HEAPS.items()],
        "heap": heap if heap in HEAPS else "",
        "next": next((x for x in waiting if not x["call"]), None),
        "called": called[-1] if called else None,
        "missed": sum(x["heap"] == "missed" and "confirm_missed" in dict(x["acts"]) for x in lines),
        "walk_in": session is not None and session.status == "open" and session.ends_at > now and session.kind == "clinic" and by.may("book"),
        "key": new_key(),
        "trouble": trouble,
        "typed": "" if people.scanned(typed) else typed,
        "now": now,
        "query": urlencode({"session": session.pk if session else "", **({"all": "1"} if every else {})}),
    }  # fmt: skip
    part = request.GET.get("part") == "list" and request.method == "GET"
    return render(
        request, "schedules/_today.html" if part else "schedules/today.html", context, status=status
    )


@page(may="serve_desk")
def today(request: HttpRequest) -> HttpResponse:
    """Today's sessions and one of them as a list; ``?session=&show=&all=1``; ``?part=list`` the list alone, to refresh it."""
    return _page(request)


def _session(request: HttpRequest, pk: int) -> Session:
    found = next((s for s in sessions_today(request.scope) if s.pk == pk), None)
    if found is None:
        raise Http404(str(T("今天没有这个场次。", "No such session today.")))
    return found


def _back(request: HttpRequest, session: Session) -> HttpResponse:
    query = {"session": str(session.pk)}
    for name in ("show", "all"):
        if request.POST.get(name):
            query[name] = request.POST[name][:10]
    return redirect(f"{reverse('schedules:today')}?{urlencode(query)}")


def _place(by: Scope, session: Session, pk: int | None) -> Place:
    rows = Place.objects.within(by).filter(session=session, pk=pk).select_related("person")
    found = rows.first()
    if found is None:
        raise Refused(T("本场次没有这个号。", "This session has no such number."), 422)
    return found


def do(by: Scope, place: Place, move: str, key: str, reason: str = "") -> None:
    """Arrive, see, confirm or excuse a number: through its appointment, or in the pool where it has none. Raises duty and pool errors."""
    case = (
        Case.objects.unscoped("the case of a number of a session one serves").filter(pk=place.case_id).first()
        if place.case_id
        else None
    )
    if case is not None and case.kind != KIND:
        raise Refused(
            T(
                "此号来自转诊，请在“到诊登记”或转诊单上办理。",
                "This number belongs to a referral; receive it at Arrivals or on the referral.",
            )
        )
    if case is not None:
        service.act(by, case.number, move, {"reason": reason} if move == "excuse" else {}, None, key)
        return
    if move not in ("arrive", "fulfil"):
        raise Refused(T("此号没有预约单，不能这样办理。", "This number has no appointment; not possible."))
    with transaction.atomic():
        moved = pool.arrive(place) if move == "arrive" else pool.fulfil(place)
        publish.publish_place(moved)
        audit.write(by, "update", person_id=place.person_id, what=f"place {place.pk} {move}")


@require_POST
@page(may="serve_desk")
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """One act at the desk: a move on a number, a call, everybody who did not come, a scanned card, somebody without a number."""
    session = _session(request, pk)
    if what in MOVES:
        work = _one
    elif what in DONE:
        work = DONE[what]
    else:
        raise Http404
    try:
        words = work(request, session, what)
    except Refused as refusal:
        return _page(
            request, wanted=pk, trouble=refusal.text, typed=request.POST.get("q", ""), status=refusal.status
        )
    except (BookingError, MoveError) as refusal:
        return _page(request, wanted=pk, trouble=refusal.text, typed=request.POST.get("q", ""), status=409)
    except Case.DoesNotExist:
        return _page(request, wanted=pk, trouble=T("没有这个预约。", "No such visit."), status=422)
    messages.success(request, str(words))
    return _back(request, session)


def _one(request: HttpRequest, session: Session, what: str) -> Text:
    place = _place(request.scope, session, number(request.POST.get("place", "")))
    reason = request.POST.get("reason", "").strip()[:200]
    if what == "excuse" and len(reason) < 2:
        raise Refused(
            T("请写明免责原因（至少 2 个字）。", "Say why it is excused (2 characters at least)."), 422
        )
    do(request.scope, place, what, f"desk:{place.pk}:{what}:{place.case_id or 0}", reason)
    return T("{no} 号：{what}", "Number {no}: {what}").format(no=place.seat_no, what=MOVES[what])


def _call(by: Scope, place: Place) -> None:
    call, new = Call.objects.get_or_create(
        place=place, defaults={"account_id": by.account_id, "at": clock.now()}
    )
    if not new:
        Call.objects.filter(pk=call.pk).update(times=F("times") + 1, at=clock.now(), account_id=by.account_id)


def _called(request: HttpRequest, session: Session, what: str) -> Text:
    """The next in turn, or the number asked for once more. The form names whom it saw, so a second click calls nobody else."""
    place = _place(request.scope, session, number(request.POST.get("place", "")))
    if place.state != "arrived":
        raise Refused(T("该号不在候诊，请刷新列表。", "This number is not waiting; reload the list."))

    def work(_act: Act) -> dict[str, Any]:
        _call(request.scope, place)
        return {"seat": place.seat_no}

    acts.once(
        request.scope, f"call:{form_key(request)}", "call", work, institution_id=session.institution_id, session_id=session.pk
    )  # fmt: skip
    return T("请 {no} 号就诊。", "Number {no}, please.").format(no=place.seat_no)


def _all_missed(request: HttpRequest, session: Session, what: str) -> Text:
    count = 0
    for line in _lines(request.scope, session):
        if line["heap"] == "missed" and "confirm_missed" in dict(line["acts"]):
            place = line["p"]
            do(request.scope, place, "confirm_missed", f"desk:{place.pk}:confirm_missed:{place.case_id or 0}")
            count += 1
    if not count:
        return T("没有待核实的未到诊。", "Nobody's missed visit is left to confirm.")
    return T("已确认 {n} 人爽约。", "{n} no-shows confirmed.").format(n=count)


def _scan(request: HttpRequest, session: Session, what: str) -> Text:
    """A card, number or slip is scanned: the person's number of this session (or of another today) arrives."""
    by, q = request.scope, request.POST.get("q", "").strip()
    if not q:
        raise Refused(
            T("请扫健康卡、号单，或输证件号。", "Scan the card or the slip, or type an ID number."), 422
        )
    today_ids = [s.pk for s in sessions_today(by)]
    rows = Place.objects.within(by).filter(session_id__in=today_ids, state__in=("booked", "arrived"))
    rows = rows.select_related("session__department", "person").order_by("session__starts_at", "seat_no")
    slip = Case.objects.unscoped(
        "a slip names its own visit; the place is looked for within the scope"
    ).filter(number=q.upper()[:32], kind=KIND)
    case = slip.first()
    if case is not None:
        mine = list(rows.filter(case_id=case.pk))
    else:
        found = people.search(by, q)
        ids = [h.person_id for h in found.hits]
        mine = list(rows.filter(person_id__in=ids)) if ids else []
        if not ids and found.note is not None:
            raise Refused(found.note, 422)
        if len({p.person_id for p in mine}) > 1:
            raise Refused(
                T("今天有多人符合，请扫卡或从列表登记。", "Several people of today fit; scan the card or use the list."), 422
            )  # fmt: skip
    if not mine:
        raise Refused(
            T(
                "此人今天在本机构没有号；可现场给号。",
                "This person has no number here today; give one at the desk.",
            ),
            422,
        )
    mine.sort(key=lambda p: (p.state != "booked", p.session_id != session.pk))
    place = mine[0]
    if place.state == "booked":
        do(by, place, "arrive", f"desk:{place.pk}:arrive:{place.case_id or 0}")
    return T("{no} 号 {who}（{dept} {at}）已到诊。", "Number {no}, {who} ({dept} {at}), has arrived.").format(
        no=place.seat_no, who=place.person.name, dept=place.session.department.label,
        at=f"{place.at.astimezone(clock.ZONE):%H:%M}",
    )  # fmt: skip


def _walk_in(request: HttpRequest, session: Session, what: str) -> Text:
    """Somebody without a number gets a free one, or an extra one within the house's limit, and has arrived."""
    request.scope.demand("book")
    if session.kind != "clinic":
        raise Refused(T("检查请在“检查预约”里预约。", "Book an examination at Examinations."))
    q = request.POST.get("q", "").strip()
    if not q:
        raise Refused(T("请扫健康卡，或输证件号。", "Scan the card, or type an ID number."), 422)
    key = f"walkin:{form_key(request)}"
    act_ = Act.objects.filter(key=key[:160]).first()
    if act_ is None:
        person = people.at_desk(request.scope, q)
        reason = request.POST.get("reason", "").strip()[:200] or "现场挂号"
        act_ = add_and_book(request.scope, session, person, reason, key, "walk_in", free_first=True)
    wanted = act_.detail["appointment"]
    service.arrive(request.scope, wanted, f"{key[:100]}:arrive")
    return T("已给 {no} 号并登记到诊。", "Number {no} was given and has arrived.").format(
        no=act_.detail["seat"]
    )


DONE = {"call": _called, "confirm_all": _all_missed, "scan": _scan, "walk_in": _walk_in}
