"""Hospitals' booking systems for those who run schedules (their own hospital, and those their office follows), and for the system
administrator, who keeps the connections and sees no booking.

What is said of a booking here is its number, when and in which department: never who.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.network.roles import SYSTEM_ADMIN
from lianxin.resident.scheduling import asking, sync, table
from lianxin.resident.scheduling.forms import RuleForm, SystemForm, TableForm
from lianxin.resident.scheduling.models import ASKED, OPEN, BookingSystem, Note, OwnerRule, Question
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 50
SHOWN = {"open": OPEN, "refused": ("refused",), "confirmed": ("confirmed",), "over": ("undone", "closed")}
FILTERS = {
    "open": T("待答复", "Waiting"),
    "refused": T("未接受", "Refused"),
    "confirmed": T("已确认", "Confirmed"),
    "over": T("已退号或人工办结", "Given back or settled"),
}


def _seen(scope: Scope) -> QuerySet[BookingSystem]:
    """Systems of the reader's institutions and those its office follows."""
    return BookingSystem.objects.filter(institution_id__in=scope.institution_ids | scope.oversight_ids)


def _questions(scope: Scope) -> QuerySet[Question]:
    return Question.objects.unscoped(
        "numbers and times only, of the reader's own and followed hospitals"
    ).filter(institution_id__in=scope.institution_ids | scope.oversight_ids)


@page(may="run_schedules")
def systems(request: HttpRequest) -> HttpResponse:
    """Every connection with its state, and what waits for an answer."""
    month = clock.now() - dt.timedelta(days=30)
    rows = (
        _seen(request.scope)
        .select_related("institution")
        .annotate(
            waiting=Count("questions", filter=Q(questions__state__in=OPEN)),
            refused=Count("questions", filter=Q(questions__state="refused", questions__made_at__gte=month)),
        )
        .order_by("-failures", "name")
    )
    asked = request.GET.get("state", "open")
    asked = asked if asked in SHOWN else "open"
    found = _questions(request.scope).filter(state__in=SHOWN[asked])
    found = found.select_related(
        "system__institution", "place__session__department", "place__session__practitioner"
    )
    lines = Paginator(found.order_by("-made_at", "-pk"), PAGE).get_page(request.GET.get("page"))
    context = {"rows": rows, "lines": lines, "asked": asked, "filters": FILTERS.items()}
    return render(request, "scheduling/systems.html", context)


@page(may="run_schedules")
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """One connection: its state, whose its sessions are, what synchronisation noted; a table may be handed in."""
    return _one(
        request, get_object_or_404(_seen(request.scope).select_related("institution"), pk=pk), TableForm()
    )


def _one(request: HttpRequest, row: BookingSystem, form: TableForm, status: int = 200) -> HttpResponse:
    notes = Paginator(Note.objects.filter(system=row).order_by("-seen_at", "-pk"), PAGE)
    counts = dict(_questions(request.scope).filter(system=row).values_list("state").annotate(n=Count("pk")))
    context = {
        "row": row, "rules": _rules(row), "lines": notes.get_page(request.GET.get("page")), "form": form, "columns": table.COLUMNS,
        "counts": [(ASKED[s], counts[s]) for s in ASKED if s in counts],
        "mine": row.institution_id in request.scope.institution_ids,
    }  # fmt: skip
    return render(request, "scheduling/system.html", context, status=status)


def _rules(row: BookingSystem) -> list[OwnerRule]:
    return sorted(row.rules.select_related("department"), key=lambda r: r.weight, reverse=True)


def _own(request: HttpRequest, pk: int) -> BookingSystem:
    """A system of the reader's own hospital: those one only follows are looked at, not worked on."""
    found = _seen(request.scope).filter(institution_id__in=request.scope.institution_ids)
    return get_object_or_404(found.select_related("institution"), pk=pk)


@require_POST
@page(may="run_schedules")
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Read its sessions now, let a large change through, or ask about everything that waits now."""
    row = _own(request, pk)
    if what == "pull":
        _told(request, sync.pull(pk, whole=True), row)
    elif what == "vanish" and row.held_back:
        BookingSystem.objects.filter(pk=pk).update(lets_vanish=True)
        _told(request, sync.pull(pk, whole=True), row)
    elif what == "ask":
        count = 0
        for found in Question.objects.unscoped("asked anew by hand").filter(
            system=row, state__in=("waiting", "undoing")
        ):
            asking.again(found.pk)
            count += 1
        messages.success(
            request, T("将马上重试 {n} 项。", "{n} will be asked about now.").format(n=str(count))
        )
    else:
        raise Http404
    audit.write(request.scope, "admin", what=f"booking system {row.name}", detail={"did": what})
    return redirect("scheduling:one", pk)


def _told(request: HttpRequest, took: sync.Took | None, row: BookingSystem) -> None:
    if took is None:
        error = BookingSystem.objects.get(pk=row.pk).pull_error_told
        words = T("没有读到号源：{e}", "No sessions were read: {e}").format(e=error if error.zh else "—")
        messages.warning(request, words)
        return
    messages.success(
        request,
        T(
            "读到 {seen} 场：新增 {new}，变更 {changed}，停诊 {stopped}，待改约 {lost}，记录 {noted}。",
            "{seen} sessions: {new} new, {changed} changed, {stopped} stopped, {lost} to be rebooked, {noted} noted.",
        ).format(
            seen=str(took.seen), new=str(took.new), changed=str(took.changed), stopped=str(took.stopped), lost=str(took.displaced),
            noted=str(took.noted),
        ),
    )  # fmt: skip


@require_POST
@page(may="run_schedules")
def upload(request: HttpRequest, pk: int) -> HttpResponse:
    """A table of sessions, taken over by the rules of conflict."""
    row = _own(request, pk)
    form = TableForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            said = table.read(form.cleaned_data["file"].read(table.MOST_BYTES + 1))
        except Invalid as invalid:
            form.add_error("file", next(iter(invalid.errors.values())))
        else:
            now = clock.now()
            took = sync.take(
                row, said, now, now + dt.timedelta(days=row.days), whole=form.cleaned_data["whole"]
            )
            BookingSystem.objects.filter(pk=pk).update(pulled_at=now, held_back=took.held_back, pull_error="")
            audit.write(
                request.scope,
                "admin",
                what=f"booking system {row.name}",
                detail={"did": "table", "rows": took.seen},
            )
            _told(request, took, row)
            return redirect("scheduling:one", pk)
    return _one(request, row, form, 400)


@require_POST
@page(may="run_schedules")
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask about one booking now."""
    found = _questions(request.scope).filter(institution_id__in=request.scope.institution_ids)
    row = get_object_or_404(found, pk=pk)
    asking.again(row.pk)
    audit.write(request.scope, "admin", what=f"booking {row.case_number}", detail={"did": "ask again"})
    messages.success(request, T("将马上重试。", "It will be asked about now."))
    return redirect("scheduling:systems")


# ------------------------------------------------------------------------------------------------------ administration


@page(SYSTEM_ADMIN)
def manage(request: HttpRequest) -> HttpResponse:
    """All connections, for who keeps them: no booking is shown."""
    rows = BookingSystem.objects.select_related("institution").order_by("-failures", "name")
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(request, "scheduling/manage.html", {"lines": lines})


@page(SYSTEM_ADMIN)
def edit(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Enter a connection, or change it and whose its sessions are."""
    row = get_object_or_404(BookingSystem, pk=pk) if pk else BookingSystem(created_at=clock.now())
    form = SystemForm(request.POST or None, instance=row)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                saved = form.save()
                changed = sorted(set(form.changed_data))
                audit.write(
                    request.scope, "admin", what=f"booking system {saved.name}", detail={"changed": changed}
                )
        except IntegrityError:
            form.add_error("institution", T("该医院已登记预约系统，或名称已被使用。", "This hospital has a system already, or the name is taken."))  # fmt: skip
        else:
            messages.success(request, T("已保存。", "Saved."))
            return redirect("scheduling:edit", saved.pk)
    return _edit(request, row, form, None, 400 if form.errors else 200)


def _edit(
    request: HttpRequest, row: BookingSystem, form: SystemForm, rule: RuleForm | None, status: int
) -> HttpResponse:
    context = {
        "form": form, "row": row, "rules": _rules(row) if row.pk else [],
        "rule": (rule or RuleForm(system=row)) if row.pk else None,
    }  # fmt: skip
    return render(request, "scheduling/edit.html", context, status=status)


@require_POST
@page(SYSTEM_ADMIN)
def rule(request: HttpRequest, pk: int) -> HttpResponse:
    """One more rule of whose the sessions are."""
    row = get_object_or_404(BookingSystem, pk=pk)
    form = RuleForm(request.POST, system=row, instance=OwnerRule(system=row))
    if form.is_valid():
        try:
            with transaction.atomic():
                form.save()
                audit.write(
                    request.scope,
                    "admin",
                    what=f"booking system {row.name}",
                    detail={"rule": str(form.instance)},
                )
        except IntegrityError:
            form.add_error("department", T("已有同样范围的规则。", "There is a rule for the same already."))
        else:
            messages.success(request, T("已保存。", "Saved."))
            return redirect("scheduling:edit", pk)
    return _edit(request, row, SystemForm(instance=row), form, 400)


@require_POST
@page(SYSTEM_ADMIN)
def admin_act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Pause, go on, try again at once, or take a rule away."""
    row = get_object_or_404(BookingSystem, pk=pk)
    changes: dict[str, dict[str, Any]] = {
        "pause": {"paused": True}, "resume": {"paused": False, "not_before": None}, "retry": {"not_before": None},
    }  # fmt: skip
    if what in changes:
        BookingSystem.objects.filter(pk=pk).update(**changes[what])
    elif what == "unrule":
        given = request.POST.get("rule", "")
        get_object_or_404(
            OwnerRule, pk=int(given) if given.isascii() and given.isdigit() else 0, system=row
        ).delete()
    else:
        raise Http404
    audit.write(request.scope, "admin", what=f"booking system {row.name}", detail={"did": what})
    messages.success(request, T("已办理。", "Done."))
    return redirect("scheduling:edit", pk)


app_name = "scheduling"
urlpatterns = [
    path("pools/sync", systems, name="systems"),
    path("pools/sync/<int:pk>", one, name="one"),
    path("pools/sync/<int:pk>/table", upload, name="upload"),
    path("pools/sync/<int:pk>/<slug:what>", act, name="act"),
    path("pools/sync/bookings/<int:pk>/again", again, name="again"),
    path("manage/booking-systems", manage, name="manage"),
    path("manage/booking-systems/new", edit, name="new"),
    path("manage/booking-systems/<int:pk>", edit, name="edit"),
    path("manage/booking-systems/<int:pk>/rule", rule, name="rule"),
    path("manage/booking-systems/<int:pk>/<slug:what>", admin_act, name="admin_act"),
]
