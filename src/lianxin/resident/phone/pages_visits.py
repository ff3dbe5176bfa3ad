"""One's own visits: the ticket with queue, preparation and way; cancel, move, wait, take what is offered, appeal."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.duty import kernel
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case
from lianxin.pool.errors import BookingError
from lianxin.pool.models import ExamItem
from lianxin.resident.booking import service
from lianxin.resident.booking.errors import Barred
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.resident.card import acting
from lianxin.resident.phone import finding, pages_find, words
from lianxin.resident.phone.pages_home import visit_of
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

PAST = 30
APPEAL_LONGEST = 1000


def _visit(request: HttpRequest, number: str) -> Appointment:
    """The appointment, if it is of somebody the account acts for; 404 otherwise."""
    try:
        return service.get(request.scope, number)
    except Case.DoesNotExist:
        raise Http404(str(T("没有这个预约。", "There is no such visit."))) from None


@page(resident=True)
def visits(request: HttpRequest) -> HttpResponse:
    """Every visit booked: coming ones, then past ones."""
    who = acting.member(request)
    if who is None:
        return redirect("phone:home")
    rows = [visit_of(a, queued=False) for a in service.of_person(request.scope, who.person.pk)]
    audit.write(request.scope, "read", person_id=who.person.pk, what="phone visits")
    context = {
        "here": "me", "groups": [(title, found) for title, found in ((T("将要就诊", "Coming"), [v for v in rows if v.coming]), (T("以前的", "Past"), [v for v in rows if not v.coming][:PAST])) if found],
        "standing": service.standing(who.person.pk),
    }  # fmt: skip
    return render(request, "phone/visits.html", context)


@page(resident=True)
def visit(request: HttpRequest, number: str) -> HttpResponse:
    """One visit: number, time, queue, where to go, how to prepare, and what may still be changed."""
    return _show(request, _visit(request, number))


def _show(request: HttpRequest, row: Appointment, *, trouble: Any = None, status: int = 200) -> HttpResponse:
    shown = visit_of(row)
    offers = {o.name: o for o in kernel.allowed(row.case, request.scope)}
    can = {name: name in offers and offers[name].ok for name in ("cancel", "reschedule", "rebook")}
    why = next((o.why for name in ("cancel", "reschedule") if (o := offers.get(name)) and o.why), None)
    item = ExamItem.objects.filter(code=row.item).first() if row.item else None
    home = pages_find.home_of(row.person)
    audit.write(request.scope, "read", person_id=row.person_id, what=f"visit {row.case.number}")
    context = {
        "here": "home", "visit": shown, "row": row, "fee": Money(row.fee_fen).yuan(), "can": can, "trouble": trouble,
        "why": why if shown.coming and not can["cancel"] else None, "prepare": preparation(item),
        "item": item.label if item else None, "clinic_type": finding.type_words(row.session.clinic_type),
        "travel": words.travel(home, row.institution), "key": secrets.token_urlsafe(12),
        "move_query": f"specialty={row.specialty}" if row.specialty else f"department={row.session.department_id}",
    }  # fmt: skip
    return render(request, "phone/visit.html", context, status=status)


def preparation(item: ExamItem | None) -> list[Text]:
    """What to bring and how to prepare."""
    lines = [
        T(
            "带上身份证或电子健康卡，提前 20 分钟到挂号处报到。",
            "Bring your identity card or e-health card; register 20 minutes early.",
        ),
    ]
    if item is None:
        lines.append(T("带上正在吃的药和以前的检查单。", "Bring the medicines you take and earlier results."))
        return lines
    if item.fasting_hours:
        lines.append(
            T("检查前 {n} 小时不要吃东西。", "Eat nothing for {n} hours before.").format(
                n=str(item.fasting_hours)
            )
        )
    if item.preparation:
        lines.append(Text(item.preparation, item.preparation_en or item.preparation))
    if item.contrast:
        lines.append(
            T(
                "要用造影剂：对药物过敏或肾不好请先告诉医生。",
                "A contrast medium is used: tell the doctor of allergies or kidney trouble.",
            )
        )
    return lines


@page(resident=True)
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    """Ask once more, then cancel; the number goes to whoever waits."""
    row = _visit(request, number)
    if request.method != "POST":
        context = {
            "here": "home",
            "visit": visit_of(row, queued=False),
            "row": row,
            "key": secrets.token_urlsafe(12),
        }
        return render(request, "phone/cancel.html", context)
    key = f"c-{request.scope.account_id}-{request.POST.get('key', '')[:40]}"
    try:
        service.cancel(request.scope, number, key, request.POST.get("reason", "").replace("\x00", "")[:200])
    except (MoveError, BookingError) as error:
        return _show(request, _visit(request, number), trouble=error.text, status=409)
    messages.success(request, T("已取消，号已经退回。", "Cancelled; the number has been given back."))
    return redirect("phone:visit", number)


def _waiting(request: HttpRequest, pk: int) -> Waiting:
    row = Waiting.objects.within(request.scope).filter(pk=pk).first()
    if row is None:
        raise Http404(str(T("没有这条候补。", "You are not on this list.")))
    return row


@require_POST
@page(resident=True)
def waiting_act(request: HttpRequest, pk: int) -> HttpResponse:
    """POST ``do`` take, decline or leave: answer an offer, or step off the list."""
    _waiting(request, pk)
    act = request.POST.get("do", "")
    try:
        if act == "take":
            done = service.take_offer(request.scope, pk, f"t-{request.scope.account_id}-{pk}")
            return redirect("phone:visit", done.case.number)
        if act == "decline":
            service.decline(request.scope, pk)
            messages.success(request, T("已放弃这个号，它会给下一位。", "Declined; it goes to the next."))
        elif act == "leave":
            service.leave(request.scope, pk)
            messages.success(request, T("已退出候补。", "You are off the waiting list."))
        else:
            messages.error(request, T("请按页面上的按钮操作。", "Please use the buttons of the page."))
    except Barred as barred:
        who = acting.member(request)
        if who is None:
            return redirect("phone:home")
        return pages_find.barred_page(request, who, barred)
    except (MoveError, BookingError) as error:
        messages.error(request, error.text)
    return redirect("phone:home")


@page(resident=True)
def appeal(request: HttpRequest) -> HttpResponse:
    """Why missed visits should not count; a person decides, and the answer stands here."""
    who = acting.member(request)
    if who is None:
        return redirect("phone:home")
    standing = service.standing(who.person.pk)
    text, error = "", None
    if request.method == "POST":
        text = request.POST.get("text", "").replace("\x00", "").strip()
        if not text:
            error = T("请写明当时的情况。", "Please say what happened.")
        elif len(text) > APPEAL_LONGEST:
            error = T("最多 1000 字，请写短一些。", "At most 1000 characters; please shorten it.")
        else:
            try:
                key = f"a-{request.scope.account_id}-{request.POST.get('key', '')[:40]}"
                service.appeal(request.scope, who.person.pk, text, key)
                messages.success(
                    request,
                    T("申诉已提交，处理结果会告诉您。", "Your appeal is in; you will be told the decision."),
                )
                return redirect("phone:visits")
            except (MoveError, BookingError) as refused:
                error = refused.text
    context = {
        "here": "me", "standing": standing, "text": text, "error": error, "key": request.POST.get("key", "")[:40] or secrets.token_urlsafe(12),
        "until": words.date_words(standing.barred_until.date()) if standing.barred_until else None,
    }  # fmt: skip
    return render(request, "phone/appeal.html", context, status=422 if error else 200)
