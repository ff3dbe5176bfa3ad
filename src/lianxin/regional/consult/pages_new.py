"""Asking for a consultation: from the person's page, with materials of the record chosen and consent recorded; the consent form to print."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit, relationships
from lianxin.access.web import page
from lianxin.duty import kernel
from lianxin.duty.forms import refuse
from lianxin.duty.machine import PRIORITIES
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.models import Practitioner
from lianxin.record import timeline
from lianxin.regional.consult import pages, pool, print, service
from lianxin.regional.consult.forms import RequestForm
from lianxin.regional.consult.models import Material
from lianxin.standards.text import T

LISTED = 60
TYPES = [
    "DiagnosticReport",
    "ImagingStudy",
    "Observation",
    "Composition",
    "Encounter",
    "Condition",
    "Procedure",
    "MedicationRequest",
]
TOLD = ("DiagnosticReport", "ImagingStudy", "Composition")
"""What is offered first: reports, images and papers."""


def _person(number: str) -> Person:
    try:
        return registry.get(number)
    except registry.UnknownPerson:
        raise Http404(str(T("没有这个主索引号。", "There is no such index number."))) from None


def offered(
    request: HttpRequest, person: Person, held: set[str] | frozenset[str] = frozenset()
) -> list[dict[str, Any]]:
    """The newest entries of the record as lines to tick: reports, images and papers before the rest."""
    rows = timeline.timeline(request.scope, person.pk, types=TYPES, limit=LISTED)
    lines = [
        {
            "ref": e.ref,
            "kind": e.label,
            "title": e.title,
            "where": e.institution,
            "at": e.date,
            "says": e.summary,
        }
        for e in rows
        if e.ref not in held
    ]
    return sorted(lines, key=lambda line: str(line["ref"]).partition("/")[0] not in TOLD)


@page(may="consult")
def new(request: HttpRequest) -> HttpResponse:
    """The form; sent, it goes to the desk, or straight to the experts chosen."""
    person = _person((request.POST.get("person") or request.GET.get("person") or "").strip())
    relationships.require(request.scope, person.pk)
    if not request.scope.clinical:
        raise Http404
    chosen = request.POST.getlist("materials") or request.GET.getlist("material")
    form, status = RequestForm(initial=_initial(request)), 200
    priority = request.POST.get("priority") or request.GET.get("priority") or "routine"
    key = request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    if request.method == "POST":
        data = pages.posted(request)
        for name in ("person", "priority", "materials"):
            data.pop(name, None)
        scan = request.FILES.get("scan")
        content = scan.read(service.MOST_SCAN + 1) if scan else b""
        try:
            made = service.request(
                request.scope, person.pk, data, f"page:{request.scope.account_id}:{key}", materials=chosen, priority=priority, scan=content,
            )  # fmt: skip
        except kernel.Refused as refusal:
            form, status = _failed(data, refusal), 422
        except kernel.MoveError as trouble:
            messages.error(request, trouble.text)
            form, status = RequestForm(data), 409
        else:
            messages.success(request, str(T("会诊申请已提交。", "The consultation was asked for.")))
            return redirect("consult:show", made.case.number)
    context = {
        "person": person, "form": form, "key": key, "lines": offered(request, person), "chosen": set(chosen), "priority": priority,
        "priorities": PRIORITIES, "pool": pool.lines(), "picked": [int(e) for e in request.POST.getlist("experts") if e.isdigit()],
        "allergies": [a["title"] for a in timeline.banner(request.scope, person.pk).allergies],
    }  # fmt: skip
    return render(request, "consult/new.html", context, status=status)


def _failed(data: dict[str, Any], refusal: kernel.Refused) -> RequestForm:
    form = RequestForm(data)
    refuse(form, refusal.errors)
    return form


def _initial(request: HttpRequest) -> dict[str, Any]:
    wanted = {
        k: request.GET[k][:200]
        for k in ("diagnosis", "diagnosis_code", "question", "specialty")
        if k in request.GET
    }
    doctor = Practitioner.objects.filter(pk=request.scope.practitioner_id or 0).first()
    return {"phone": doctor.phone if doctor else "", **wanted}


@page(may="consult")
def materials(request: HttpRequest, number: str) -> HttpResponse:
    """Lay more of the record before the experts."""
    case, consult = pages.find(request, number)
    relationships.require(request.scope, case.patient_id)
    if request.method == "POST":
        try:
            count = service.add_materials(request.scope, number, request.POST.getlist("materials"))
        except kernel.Refused as refusal:
            messages.error(request, str(next(iter(refusal.errors.values()))))
        except kernel.MoveError as trouble:
            messages.error(request, trouble.text)
        else:
            messages.success(
                request, str(T("已补充 {n} 项资料。", "{n} materials added.").format(n=str(count)))
            )
        return redirect("consult:show", number)
    held = set(
        Material.objects.unscoped("the case was reached within the scope")
        .filter(consult=consult)
        .values_list("ref", flat=True)
    )
    context = {
        "case": case,
        "c": consult,
        "person": case.patient,
        "lines": offered(request, case.patient, held),
        "chosen": set(),
    }
    return render(request, "consult/materials.html", context)


@page(may="consult")
def consent_form(request: HttpRequest, number: str) -> HttpResponse:
    """The consent form to be signed, as PDF."""
    person = _person(number)
    relationships.require(request.scope, person.pk)
    audit.write(request.scope, "print", person_id=person.pk, what="consultation consent form")
    answer = HttpResponse(print.consent(person, request.scope.institution_id), content_type="application/pdf")
    answer.headers["Content-Disposition"] = 'inline; filename="consent.pdf"'
    return answer
