"""Pages of outreach and teaching: who is sent where, days and lessons, what it adds up to, one's own cases to learn from and credits."""

from __future__ import annotations

from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral.print import gb_date
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.duty.forms import refuse
from lianxin.network.models import Department, Institution, Practitioner
from lianxin.regional.consult.outreach import credits, learning, service
from lianxin.regional.consult.outreach.forms import (
    WEEKDAYS,
    AssignmentForm,
    DayForm,
    LessonForm,
    ReflectionForm,
)
from lianxin.regional.consult.outreach.models import KINDS, Assignment, Attendance, Day, Learning, Seen
from lianxin.standards import clock, paper
from lianxin.standards.text import T

PAGE = 30
_CASES = {"referral": "referral:show", "consult": "consult:show", "reading": "ordering:show"}


def _year(request: HttpRequest) -> int:
    given, now = request.GET.get("year", ""), clock.today().year
    year = int(given) if given.isascii() and given.isdigit() and len(given) == 4 else now
    return year if 2000 <= year <= now else now


@page(may="see_orders")
def index(request: HttpRequest) -> HttpResponse:
    """Assignments one has to do with: running, to come, ended; days the township still has to confirm."""
    scope: Scope = request.scope
    today = clock.today()
    tab = "past" if request.GET.get("tab") == "past" else "now"
    rows = service.visible(scope)
    running = rows.filter(until__gte=today, ended_on=None)
    rows = (
        running.order_by("since", "pk")
        if tab == "now"
        else rows.exclude(pk__in=running.values("pk")).order_by("-until", "pk")
    )
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    for line in lines:
        _decorate(line)
    waiting = Day.objects.filter(state="recorded", assignment__to_institution_id__in=scope.institution_ids)
    context = {
        "lines": lines, "tab": tab, "today": today, "may_run": scope.may("run_consults"),
        "waiting": waiting.select_related("assignment__practitioner", "assignment__to_institution").order_by("on", "pk")[:30],
    }  # fmt: skip
    return render(request, "consult/outreach/index.html", context)


def _decorate(line: Any) -> None:
    names = dict(WEEKDAYS)
    line.kind_labels = [KINDS[k] for k in line.kinds]
    line.day_labels = [names[str(d)] for d in line.weekdays]


def _add_errors(form: django_forms.Form, refusal: Refused) -> None:
    refuse(form, refusal.errors)


@page(may="run_consults")
def new(request: HttpRequest) -> HttpResponse:
    """Send a doctor down."""
    form = AssignmentForm(request.scope, request.POST or None)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        doctor, _, place = data["practitioner"].partition(":")
        plan = service.Plan(
            Practitioner.objects.get(pk=int(doctor)), Institution.objects.get(pk=int(place)), Institution.objects.get(pk=int(data["to_institution"])),
            data["kinds"], [int(d) for d in data["weekdays"]], data["since"], data["until"],
            Department.objects.filter(pk=data["department"] or 0).first(), data["note"],
        )  # fmt: skip
        try:
            made = service.assign(request.scope, plan)
        except Refused as refusal:
            _add_errors(form, refusal)
        except MoveError as trouble:
            form.add_error(None, django_forms.ValidationError(trouble.text))
        else:
            messages.success(request, str(T("已派出。", "Sent.")))
            return redirect("consult:assignment", made.pk)
    return render(request, "consult/outreach/new.html", {"form": form}, status=422 if form.errors else 200)


def _find(request: HttpRequest, pk: int) -> Assignment:
    found: Assignment | None = service.visible(request.scope).filter(pk=pk).first()
    if found is None:
        raise Http404
    return found


def _one(request: HttpRequest, row: Assignment, **more: Any) -> HttpResponse:
    scope: Scope = request.scope
    _decorate(row)
    own = row.practitioner_id == scope.practitioner_id
    days = list(row.days.order_by("-on", "kind")[:200])
    seen: dict[int, list[Seen]] = {}
    here = row.to_institution_id in scope.institution_ids or own
    if here and scope.clinical:
        rows = (
            Seen.objects.unscoped("patients of the days of one's own institution")
            .filter(day__in=days)
            .select_related("person")
        )
        mine = [s for s in rows if relationships.sees(scope, s.person_id)]
        for one in mine:
            seen.setdefault(one.day_id, []).append(one)
        if mine:
            audit.write(
                scope,
                "search",
                what=f"outreach {row.pk}",
                detail={"people": sorted({s.person_id for s in mine})},
            )
    for one_day in days:
        one_day.people = seen.get(one_day.pk, [])  # type: ignore[attr-defined]
    context = {
        "a": row, "own": own, "days": days, "lessons": row.lessons.prefetch_related("attendances__practitioner").order_by("-on"),
        "may_answer": row.to_institution_id in scope.institution_ids and not own, "may_end": scope.may("run_consults") and row.ended_on is None
        and row.from_institution_id in scope.institution_ids | scope.oversight_ids, "confirmed": len({d.on for d in days if d.state == "confirmed"}),
        "day_form": DayForm(row), "lesson_form": LessonForm(row),
    } | more  # fmt: skip
    failed = any(getattr(f, "errors", None) for f in more.values())
    return render(request, "consult/outreach/one.html", context, status=422 if failed else 200)


@page(may="see_orders")
def assignment(request: HttpRequest, pk: int) -> HttpResponse:
    """One assignment: its days and lessons, what may be written."""
    return _one(request, _find(request, pk))


@page(may="see_orders")
def day(request: HttpRequest, pk: int) -> HttpResponse:
    """Write a day's work down."""
    row = _find(request, pk)
    if request.method != "POST":
        return redirect("consult:assignment", pk)
    form = DayForm(row, request.POST)
    if form.is_valid():
        data = form.cleaned_data
        try:
            service.record_day(
                request.scope, row, data["on"], data["kind"], data["minutes"], data["note"], form.lines
            )
        except Refused as refusal:
            _add_errors(form, refusal)
        except MoveError as trouble:
            form.add_error(None, django_forms.ValidationError(trouble.text))
        else:
            messages.success(
                request, str(T("已记录，待基层机构确认。", "Written down; the township confirms it."))
            )
            return redirect("consult:assignment", pk)
    return _one(request, row, day_form=form)


@page(may="see_orders")
def lesson(request: HttpRequest, pk: int) -> HttpResponse:
    """Write a lesson down."""
    row = _find(request, pk)
    if request.method != "POST":
        return redirect("consult:assignment", pk)
    form = LessonForm(row, request.POST)
    if form.is_valid():
        data = form.cleaned_data
        try:
            service.teach(
                request.scope,
                row,
                data["topic"],
                data["on"],
                data["minutes"],
                [int(a) for a in data["attendees"]],
            )
        except Refused as refusal:
            _add_errors(form, refusal)
        except MoveError as trouble:
            form.add_error(None, django_forms.ValidationError(trouble.text))
        else:
            messages.success(
                request, str(T("带教已记录，学分已计入。", "The lesson is written down, credits counted."))
            )
            return redirect("consult:assignment", pk)
    return _one(request, row, lesson_form=form)


@require_POST
@page(may="run_consults")
def end(request: HttpRequest, pk: int) -> HttpResponse:
    """Call a doctor back."""
    return _done(
        request, pk, lambda: service.end(request.scope, _find(request, pk), request.POST.get("why", ""))
    )


@require_POST
@page(may="see_orders")
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """The township confirms a day or objects."""
    row = (
        Day.objects.select_related("assignment")
        .filter(pk=pk, assignment__in=service.visible(request.scope))
        .first()
    )
    if row is None:
        raise Http404
    confirmed = request.POST.get("answer") == "confirm"
    return _done(
        request,
        row.assignment_id,
        lambda: service.answer_day(request.scope, row, confirmed, request.POST.get("words", "")),
    )


def _done(request: HttpRequest, pk: int, work: Any) -> HttpResponse:
    try:
        work()
    except Refused as refusal:
        messages.error(request, str(next(iter(refusal.errors.values()))))
    except NotAllowed as trouble:
        messages.error(request, trouble.text)
    else:
        messages.success(request, str(T("已办理。", "Done.")))
    return redirect("consult:assignment", pk)


@page(may="see_orders")
def statistics(request: HttpRequest) -> HttpResponse:
    """Deployment days by doctor, opening down to the days."""
    year = _year(request)
    doctor = request.GET.get("doctor", "")
    days: list[Day] = []
    if doctor.isascii() and doctor.isdigit() and len(doctor) < 19:
        rows = Day.objects.filter(
            assignment__in=service.visible(request.scope),
            assignment__practitioner_id=int(doctor),
            on__year=year,
            state="confirmed",
        )
        days = list(
            rows.select_related("assignment__practitioner", "assignment__to_institution").order_by(
                "on", "kind"
            )
        )
    context = {"lines": service.totals(request.scope, year), "year": year, "days": days, "doctor": doctor}
    return render(request, "consult/outreach/statistics.html", context)


# ------------------------------------------------------------------------------------------------------------ learning


def _link(row: Learning) -> str:
    try:
        return reverse(_CASES[row.kind], args=[row.case.number])
    except NoReverseMatch:
        return ""


@page(clinical=True)
def learning_list(request: HttpRequest) -> HttpResponse:
    """One's own cases that came back with an opinion, lessons attended, and the year's credits."""
    scope: Scope = request.scope
    year = _year(request)
    rows = learning.mine(scope)
    if rows:
        audit.write(
            scope,
            "search",
            what="cases to learn from",
            detail={"people": sorted({r.person_id for r in rows})},
        )
    for row in rows:
        row.may_open = relationships.sees(scope, row.person_id)  # type: ignore[attr-defined]
    lessons = (
        Attendance.objects.filter(practitioner_id=scope.practitioner_id or 0, lesson__on__year=year)
        .select_related("lesson__teacher", "lesson__institution")
        .order_by("-lesson__on")
    )
    context = {
        "todo": [r for r in rows if r.state == "offered"], "done": [r for r in rows if r.state == "reflected"], "lessons": lessons,
        "year": credits.year_of(scope.practitioner_id or 0, year), "years": range(clock.today().year, clock.today().year - 3, -1),
    }  # fmt: skip
    return render(request, "consult/outreach/learning.html", context)


@page(clinical=True)
def learning_one(request: HttpRequest, pk: int) -> HttpResponse:
    """One case to learn from: the opinion, and one's reflection."""
    row = learning.get(request.scope, pk)
    if row is None:
        raise Http404
    relationships.require(request.scope, row.person_id)
    audit.write(request.scope, "read", person_id=row.person_id, what=f"learning {row.case.number}")
    form = ReflectionForm(request.POST or None, initial={"agreed": row.agreed, "words": row.reflection})
    if request.method == "POST" and form.is_valid():
        try:
            made = learning.reflect(
                request.scope, pk, form.cleaned_data["words"], form.cleaned_data["agreed"]
            )
        except Refused as refusal:
            _add_errors(form, refusal)
        else:
            messages.success(
                request, str(T("已完成，获得 {n} 学分。", "Done: {n} credits.").format(n=made.credit))
            )
            return redirect("consult:learning")
    return render(
        request,
        "consult/outreach/learning_one.html",
        {"row": row, "form": form, "link": _link(row)},
        status=422 if form.errors else 200,
    )


@page(clinical=True)
def certificate(request: HttpRequest) -> HttpResponse:
    """The year's credits on paper."""
    scope: Scope = request.scope
    person = Practitioner.objects.filter(pk=scope.practitioner_id or 0).first()
    if person is None:
        raise Http404
    year = credits.year_of(person.pk, _year(request))
    place = Institution.objects.filter(pk=scope.institution_id or 0).first()
    markup = render_to_string(
        "consult/print/certificate.html",
        {
            "person": person,
            "year": year,
            "institution": place.name if place else "",
            "printed": gb_date(clock.today()),
        },
    )
    answered = HttpResponse(paper.pdf(markup), content_type="application/pdf")
    answered.headers["Content-Disposition"] = 'inline; filename="certificate.pdf"'
    return answered
