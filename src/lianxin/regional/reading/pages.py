"""The readers' queue: what waits, claim the next, what one holds, what was handed over."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case
from lianxin.regional.reading import amendment, desk, moves, roster, service
from lianxin.regional.reading.models import CENTRES, Amendment, Entry, Reader, Reading
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 50
POLL = 20
"""Seconds between two looks of an open page."""


def _reader(request: HttpRequest, given: str) -> tuple[list[Reader], Reader | None]:
    mine = desk.readers_of(request.scope)
    return mine, next((r for r in mine if r.centre == given), mine[0] if mine else None)


@page(may="read_studies")
def queue(request: HttpRequest) -> HttpResponse:
    """The queue of one's centre. ``part=1``: the live part alone, nothing (204) when nobody came or went since ``mark``."""
    scope = request.scope
    mine, reader = _reader(request, request.GET.get("centre", ""))
    if reader is None:
        return render(request, "reading/queue.html", {"readers": mine, "reader": None})
    wanted = desk.Wanted.of(request.GET)
    lines = Paginator(desk.rows(reader, wanted), PAGE).get_page(request.GET.get("page"))
    entries = list(lines)
    ids = ",".join(f"{e.pk}{e.state[0]}{e.account_id or ''}" for e in entries)
    names = hashlib.sha256(ids.encode()).hexdigest()[:12]
    now = clock.now()
    mark = f"{names}.{now.hour * 12 + now.minute // 5}"
    part, seen = request.GET.get("part") == "1", request.GET.get("mark", "")
    if part and seen == mark:
        return HttpResponse(status=204)
    if entries and not (part and seen.partition(".")[0] == names):
        people = sorted({e.person_id for e in entries})
        audit.write(scope, "search", what=f"reading queue {reader.centre}", detail={"people": people})
    query = request.GET.copy()
    for name in ("part", "mark"):
        query.pop(name, None)
    context = {
        "readers": mine, "reader": reader, "wanted": wanted, "page_of": lines, "lines": desk.lines(entries, reader.account_id),
        "counts": desk.counts(reader), "choices": desk.choices(reader), "tabs": desk.TABS, "centre": CENTRES[reader.centre],
        "on_duty": list(dict.fromkeys(who.name for who in roster.on_duty(reader.institution_id, reader.centre))), "mark": mark, "query": query.urlencode(), "poll": POLL,
    }  # fmt: skip
    return render(request, "reading/_queue.html" if part else "reading/queue.html", context)


@page(may="read_studies")
@require_POST
def claim(request: HttpRequest) -> HttpResponse:
    """Claim the next study (or the one named) and open it."""
    centre, number = request.POST.get("centre", ""), request.POST.get("number", "")[:40] or None
    back = f"{reverse('reading:queue')}?centre={centre if centre in CENTRES else ''}"
    if centre not in CENTRES:
        raise Http404
    try:
        got = service.claim(request.scope, centre, number)
    except MoveError as refusal:
        messages.error(request, str(refusal.text))
        return redirect(back)
    if got is None:
        held = Entry.objects.within(request.scope).filter(
            reading__case__number=number or "", state="claimed", account_id=request.scope.account_id or 0
        )
        if number and held.exists():  # a second press of the button: it is theirs already
            return redirect("reading:show", number)
        messages.warning(
            request,
            str(
                T("该检查已被他人认领，或不在您可认领的范围。", "It was taken by somebody else, or is not yours to take.")
                if number
                else T("当前没有可认领的检查。", "Nothing is waiting that you may take.")
            ),
        )  # fmt: skip
        return redirect(back)
    return redirect("reading:show", got[0].reading.case.number)


@page(may="read_studies")
@require_POST
def open_up(request: HttpRequest, entry_id: int) -> HttpResponse:
    """Let everybody take what waits for one person."""
    centre = request.POST.get("centre", "")
    if centre not in CENTRES:
        raise Http404
    try:
        done = service.open_up(request.scope, centre, entry_id, request.POST.get("reason", "")[:200])
    except MoveError as refusal:
        messages.error(request, str(refusal.text))
    else:
        if done:
            messages.success(request, str(T("已开放给全部医师认领。", "Everybody may take it now.")))
        else:
            messages.warning(request, str(T("该检查状态已变化。", "It has changed meanwhile.")))
    return redirect(f"{reverse('reading:queue')}?centre={centre}&tab=others")


# ------------------------------------------------------------------------------ one address of a case, whoever asks


@page()
def case(request: HttpRequest, number: str, move: str = "") -> HttpResponse:
    """The page of a piece of work for whoever asks: the reader's editor, the orderer's page, the technician's worklist."""
    scope = request.scope
    found = (
        Reading.objects.within(scope).select_related("case").filter(case__number=number, case__kind=moves.KIND).first()
    )  # fmt: skip
    if found is None:
        raise Http404
    if found.centre_of_id in scope.institution_ids and scope.may("read_studies"):
        return redirect(reverse("reading:show", args=[number]) + (f"?act={move}#acts" if move else ""))
    if found.orderer_id in scope.institution_ids and scope.may("see_orders"):
        target = _address("ordering:show", number)
        if target:
            return redirect(target)
    if found.performer_id in scope.institution_ids and scope.may("acquire"):
        return redirect(f"/acquire?q={number}")
    raise Http404


def _address(name: str, number: str) -> str:
    try:
        return reverse(name, args=[number])
    except NoReverseMatch:
        return ""


# ------------------------------------------------------------------------------ an amended report, for whoever asked


def _amended(request: HttpRequest, number: str) -> tuple[Case, Amendment]:
    case = Case.objects.within(request.scope).filter(number=number, kind=amendment.KIND).first()
    subject = amendment.load(case) if case else None
    if case is None or subject is None:
        raise Http404
    if not {subject.orderer_id, subject.centre_of_id} & request.scope.institution_ids:
        raise Http404
    return case, subject


@page(may="see_orders")
def amended(request: HttpRequest, number: str) -> HttpResponse:
    """The amended report beside what it said before, and the button of whoever asked."""
    case, subject = _amended(request, number)
    return _amended_page(request, case, subject)


def _amended_page(request: HttpRequest, case: Case, subject: Amendment, status: int = 200) -> HttpResponse:
    from lianxin.duty import journey, kernel
    from lianxin.regional.reading import view

    audit.write(request.scope, "read", person_id=subject.person_id, what=f"amended report {case.number}")
    may = {m.name for m in kernel.buttons(case, request.scope)}
    context = {
        "case": case, "subject": subject, "reading": subject.reading, "shown": view.report_of(subject.reading),
        "steps": journey.journey(case), "may_acknowledge": "acknowledge" in may, "key": uuid.uuid4().hex,
    }  # fmt: skip
    return render(request, "reading/amended.html", context, status=status)


@page(may="see_orders")
@require_POST
def amended_act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Acknowledge the amended report."""
    from lianxin.duty import kernel

    case, subject = _amended(request, number)
    if move != "acknowledge":
        raise Http404
    data: dict[str, Any] = {"note": request.POST.get("note", "")}
    key = request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    try:
        kernel.execute(move, case, request.scope, data, None, f"page:{request.scope.account_id}:{key}")
    except MoveError as refusal:
        messages.error(request, str(refusal.text))
        return _amended_page(request, case, subject, 409)
    messages.success(request, str(T("已阅。", "Acknowledged.")))
    return redirect("reading:amended", number)
