"""Templates: the list, one template with what differs from it, and the changes of single days."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access.web import page
from lianxin.network.models import Department
from lianxin.pool.models import RosterChange, Template
from lianxin.resident.schedules import acts, planning
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.board import WEEKDAYS
from lianxin.resident.schedules.forms import DayForm, TemplateForm
from lianxin.resident.schedules.models import Act
from lianxin.resident.schedules.pages_board import (
    chosen_institution,
    form_key,
    institutions,
    new_key,
    number,
)
from lianxin.standards import clock
from lianxin.standards.text import T

RELATED = ("institution", "department", "practitioner", "resource")


def find(request: HttpRequest, pk: int) -> Template:
    """A template of an institution whose schedules one runs; 404 otherwise."""
    rows = Template.objects.select_related(*RELATED).filter(institution_id__in=acts.mine(request.scope))
    found = rows.filter(pk=pk).first()
    if found is None:
        raise Http404(str(T("没有这个模板。", "No such template.")))
    return found


@page(may="run_schedules")
def index(request: HttpRequest) -> HttpResponse:
    """All templates of an institution by department, doctor and weekday; ended ones on demand."""
    places = institutions(request)
    place = chosen_institution(request, places)
    ended = request.GET.get("show") == "ended"
    department = number(request.GET.get("department", ""))
    rows = (
        Template.objects.filter(institution=place)
        .select_related(*RELATED)
        .order_by("department__code", "practitioner__pinyin", "practitioner_id", "resource_id", "weekday", "start", "pk")
    )  # fmt: skip
    if department is not None:
        rows = rows.filter(department_id=department)
    today = clock.today()
    listed = [t for t in rows if (t.until is not None and t.until <= today) == ended]
    context = {
        "place": place,
        "places": places,
        "departments": Department.objects.filter(institution=place, active=True).order_by("code"),
        "department": department,
        "rows": [{"t": t, "weekday": WEEKDAYS[t.weekday], "weeks": Template.WEEKS[t.weeks]} for t in listed],
        "ended": ended,
    }
    return render(request, "schedules/templates.html", context)


@page(may="run_schedules")
def new(request: HttpRequest) -> HttpResponse:
    """A new template on one or more weekdays; its sessions are made at once."""
    seen = acts.mine(request.scope)
    if request.method != "POST":
        initial: dict[str, Any] = {"since": clock.today()}
        wanted = number(request.GET.get("department", ""))
        if wanted is not None:
            initial["department"] = wanted
        return _edit(request, TemplateForm(institutions=seen, initial=initial), None)
    key = f"template:{form_key(request)}"
    before = Act.objects.filter(key=key).first()
    if before is not None:
        return _saved(request, before)
    form = TemplateForm(request.POST, institutions=seen)
    if not form.is_valid():
        return _edit(request, form, None, status=422)

    def work(act: Act) -> dict[str, Any]:
        total, first = planning.Applied(), None
        for weekday in sorted(set(form.cleaned_data["weekdays"])):
            template = Template.objects.create(**form.values(), weekday=weekday)
            first = first or template
            total.made = total.made + planning.apply(request.scope, template).made
        act.template = first
        words = total.words()
        return {"zh": words.zh, "en": words.en}

    values = form.values()
    return _saved(
        request,
        acts.once(request.scope, key, "template", work, institution_id=values["institution_id"]),
    )


def _saved(request: HttpRequest, act: Act) -> HttpResponse:
    messages.success(request, str(T(act.detail.get("zh", ""), act.detail.get("en", ""))))
    if act.template_id is None:
        return redirect("schedules:templates")
    return redirect("schedules:template", pk=act.template_id)


@page(may="run_schedules")
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    """One template: its form, the sessions that differ, its days that differ. Saving changes what nobody has booked."""
    template = find(request, pk)
    seen = acts.mine(request.scope)
    if request.method != "POST":
        form = TemplateForm(institutions=seen, template=template, initial=TemplateForm.initial_of(template))
        return _edit(request, form, template)
    key = f"template:{form_key(request)}"
    before = Act.objects.filter(key=key).first()
    if before is not None:
        return _saved(request, before)
    form = TemplateForm(request.POST, institutions=seen, template=template)
    if form.is_valid() and form.cleaned_data["department"].institution_id != template.institution_id:
        form.add_error(
            "department",
            ValidationError(T("模板不能换机构。", "A template stays with its institution.")),
        )
    if not form.is_valid():
        return _edit(request, form, template, status=422)

    def work(act: Act) -> dict[str, Any]:
        row = Template.objects.select_for_update(of=("self",)).get(pk=template.pk)
        for name, value in form.values().items():
            setattr(row, name, value)
        row.save()
        words = planning.apply(request.scope, row).words()
        return {"zh": words.zh, "en": words.en}

    act = acts.once(
        request.scope, key, "template", work, institution_id=template.institution_id, template_id=template.pk
    )
    return _saved(request, act)


def _edit(
    request: HttpRequest,
    form: TemplateForm,
    template: Template | None,
    *,
    day_form: DayForm | None = None,
    trouble: Any = None,
    status: int = 200,
) -> HttpResponse:
    context: dict[str, Any] = {"form": form, "template": template, "key": new_key(), "trouble": trouble}
    if template is not None:
        context |= {
            "weekday": WEEKDAYS[template.weekday],
            "differing": planning.differing(template),
            "day_form": day_form or DayForm(template=template),
            "changes": RosterChange.objects.filter(template=template, day__gte=clock.today())
            .select_related("practitioner")
            .order_by("day"),
            "acts": Act.objects.filter(template=template).exclude(kind="withdraw").order_by("-at")[:10],
        }
    return render(request, "schedules/template.html", context, status=status)


@require_POST
@page(may="run_schedules")
def change_day(request: HttpRequest, pk: int) -> HttpResponse:
    """Leave, a substitute or other numbers on one day of the template."""
    template = find(request, pk)
    plain = TemplateForm(
        institutions=acts.mine(request.scope), template=template, initial=TemplateForm.initial_of(template)
    )
    key = f"roster:{form_key(request)}"
    act = Act.objects.filter(key=key).first()
    if act is None:
        form = DayForm(request.POST, template=template)
        if not form.is_valid():
            return _edit(request, plain, template, day_form=form, status=422)
        data = form.cleaned_data
        doctor = data["practitioner"]

        def work(_act: Act) -> dict[str, Any]:
            done = planning.change_day(
                request.scope, template, data["day"], off=data["off"], practitioner_id=doctor.pk if doctor else None,
                capacity=data["capacity"], reason=data["reason"],
            )  # fmt: skip
            words = done.words()
            return {"zh": words.zh, "en": words.en, "day": data["day"].isoformat()}

        try:
            act = acts.once(
                request.scope, key, "roster", work, institution_id=template.institution_id, template_id=template.pk,
                reason=data["reason"],
            )  # fmt: skip
        except Refused as refusal:
            bound = planning.bound_on(template, data["day"])
            trouble = {"text": refusal.text, "session": bound.pk if bound else None}
            return _edit(request, plain, template, day_form=form, trouble=trouble, status=refusal.status)
    messages.success(request, str(T(act.detail.get("zh", ""), act.detail.get("en", ""))))
    return redirect(reverse("schedules:template", args=[template.pk]) + "#days")


@require_POST
@page(may="run_schedules")
def undo_day(request: HttpRequest, pk: int) -> HttpResponse:
    """Take the change of a day back; gone already: nothing more to do."""
    rows = RosterChange.objects.filter(template__institution_id__in=acts.mine(request.scope))
    change = rows.select_related("template").filter(pk=pk).first()
    if change is None:
        messages.info(request, str(T("该调整已撤销。", "That change has been taken back already.")))
        return redirect("schedules:templates")
    template = change.template

    def work(_act: Act) -> dict[str, Any]:
        words = planning.undo_day(request.scope, change).words()
        return {"zh": words.zh, "en": words.en, "undone": change.day.isoformat()}

    act = acts.once(
        request.scope,
        f"undo:{pk}",
        "roster",
        work,
        institution_id=template.institution_id,
        template_id=template.pk,
    )
    messages.success(request, str(T(act.detail.get("zh", ""), act.detail.get("en", ""))))
    return redirect(reverse("schedules:template", args=[template.pk]) + "#days")
