"""A note of a visit: diagnosis, pressure, glucose, what was found and done; the catalogue answers while the doctor writes.

Saved as FHIR into the record (Encounter, Condition, Observation) in one transaction through the record's own door, so the
note validates like anything a hospital sends. The button 转诊 carries diagnosis and facts on to the new referral.
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import relationships
from lianxin.access.web import page
from lianxin.clinical.referral import bedside, catalogue, pages_forms, rules
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.record import store, timeline
from lianxin.record.problems import Problem
from lianxin.standards import clock, codes
from lianxin.standards.text import T

WRITERS = ("village_doctor", "gp", "family_doctor", "clinician", "ward")


class NoteForm(forms.Form):
    """What a visit leaves behind; only the diagnosis is demanded."""

    diagnosis_code = forms.CharField(
        label=T("诊断", "Diagnosis"),
        max_length=32,
        error_messages={"required": T("请从列表中选择诊断。", "Choose a diagnosis from the list.")},
    )
    diagnosis_name = forms.CharField(max_length=200, required=False)
    complaint = forms.CharField(
        label=T("主诉与现病史", "Complaint and history"),
        required=False,
        max_length=2000,
        widget=forms.Textarea(attrs={"rows": 2}),
    )
    plan = forms.CharField(
        label=T("处理", "Plan"), required=False, max_length=2000, widget=forms.Textarea(attrs={"rows": 2})
    )
    bp_systolic = forms.IntegerField(
        label=T("收缩压 mmHg", "Systolic mmHg"), required=False, min_value=40, max_value=300
    )
    bp_diastolic = forms.IntegerField(
        label=T("舒张压 mmHg", "Diastolic mmHg"), required=False, min_value=20, max_value=200
    )
    glucose = forms.FloatField(
        label=T("血糖 mmol/L", "Glucose mmol/L"), required=False, min_value=0.5, max_value=60
    )
    heart_rate = forms.IntegerField(
        label=T("心率 次/分", "Pulse /min"), required=False, min_value=20, max_value=260
    )
    override_reason = forms.CharField(required=False, max_length=500)

    def clean(self) -> dict[str, Any]:
        """Pressure has two numbers, the first the higher."""
        data = super().clean() or self.cleaned_data
        high, low = data.get("bp_systolic"), data.get("bp_diastolic")
        if (high is None) != (low is None) and not {"bp_systolic", "bp_diastolic"} & set(self.errors):
            missing = "bp_diastolic" if low is None else "bp_systolic"
            self.add_error(missing, str(T("血压要填两个数。", "Pressure needs both numbers.")))
        if high is not None and low is not None and low >= high:
            self.add_error(
                "bp_diastolic",
                str(T("舒张压应低于收缩压，请核对。", "Diastolic must be below systolic; check them.")),
            )
        return data


@page()
def codes_search(request: HttpRequest) -> HttpResponse:
    """Diagnoses that fit what is typed (``_dx`` or ``q``), as options for the box."""
    q = (request.GET.get("_dx") or request.GET.get("q") or "").strip()
    hits = codes.search(codes.ICD10, q, limit=12) if q else []
    return render(request, "portal/people/_codes.html", {"hits": hits, "q": q})


def _facts(
    request: HttpRequest, person: Person, code: str, here: Institution, consortium: Any
) -> tuple[dict[str, Any], forms.Form]:
    """Facts typed (measurements included) and the form that asks for the others."""
    asked = catalogue.facts_for(code, consortium, tier=here.tier)
    given = {k[5:]: v for k, v in request.POST.items() if k.startswith("fact_")}
    given |= {
        n: request.POST[n]
        for n in ("bp_systolic", "bp_diastolic", "glucose", "heart_rate")
        if request.POST.get(n)
    }
    facts, _ = rules.read_facts(given, [n for n in given if n in rules.FACTS])
    if person.birth_date:
        facts["age"] = (clock.today() - person.birth_date).days // 365.25
    form = forms.Form()
    fields = pages_forms.fact_fields(asked)
    for known in ("age", "bp_systolic", "bp_diastolic", "glucose", "heart_rate"):
        fields.pop(f"fact_{known}", None)
    form.fields.update(fields)
    form.initial = {name: request.POST.get(name) for name in fields if request.POST.get(name)}
    return facts, form


def _context(request: HttpRequest, person: Person) -> dict[str, Any]:
    here = Institution.objects.get(pk=request.scope.institution_id)
    consortium = directory.consortia_of(here).first()
    code = request.POST.get("diagnosis_code", "").strip()
    facts, form = _facts(request, person, code, here, consortium)
    found = catalogue.answer(code, facts, here, consortium) if code else None
    carried = {f"fact_{k}": v for k, v in facts.items() if k != "age"}
    query = {"person": person.number, "diagnosis_code": code, **carried}
    if found and found.emergency:
        query["emergency"] = "1"
    return {
        "person": person,
        "answer": found,
        "facts": form,
        "refer_url": reverse("referral:new") + "?" + urlencode(query),
        "swap_facts": request.POST.get("_part") == "diagnosis",
        "facts_known": facts,
    }


@require_POST
@page(*WRITERS)
def answer(request: HttpRequest, number: str) -> HttpResponse:
    """The catalogue's answer for the note as it stands."""
    person = registry.get(number)
    relationships.require(request.scope, person.pk)
    return render(request, "portal/people/_note_parts.html", _context(request, person))


@page(*WRITERS)
def note(request: HttpRequest, number: str) -> HttpResponse:
    """The form; saved, it stands in the timeline and the page offers what the catalogue suggests."""
    person = registry.get(number)
    relationships.require(request.scope, person.pk)
    form = NoteForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        context = _context(request, person)
        try:
            _save(request, person, form.cleaned_data, context)
        except Problem as refusal:
            form.add_error(None, "; ".join(str(issue.text) for issue in refusal.issues))
        else:
            messages.success(request, str(T("诊疗记录已存入病历。", "The note is in the record.")))
            if "_refer" in request.POST:
                return redirect(context["refer_url"])
            return redirect("portal:person", number=person.number)
    record = timeline.banner(request.scope, person.pk)
    context = _context(request, person) | {
        "form": form,
        "allergies": [a["title"] for a in record.allergies],
        "dx": f"{request.POST.get('diagnosis_name', '')} {request.POST.get('diagnosis_code', '')}".strip(),
    }
    return render(request, "portal/people/note.html", context, status=422 if form.errors else 200)


def _save(request: HttpRequest, person: Person, data: dict[str, Any], context: dict[str, Any]) -> None:
    scope = request.scope
    here = Institution.objects.get(pk=scope.institution_id)
    concept = codes.lookup(codes.ICD10, data["diagnosis_code"])
    name = concept.display if concept else data["diagnosis_name"] or data["diagnosis_code"]
    visit = str(uuid.uuid4())
    found = context["answer"]
    words = [("主诉与现病史", data["complaint"]), ("处理", data["plan"])]
    if found is not None:
        words.append(("目录建议", f"{found.label.zh}:{found.why.zh}"))
    if data["override_reason"]:
        words.append(("医生说明", data["override_reason"]))
    resources = [
        bedside.encounter(visit, person.number, here, scope, "\n".join(f"{a}:{b}" for a, b in words if b)),
        bedside.condition(person.number, visit, data["diagnosis_code"], name),
        *bedside.measurements(person.number, visit, data),
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        store.apply(
            cursor, scope, [store.Write("create", r["resourceType"], r.get("id"), r) for r in resources]
        )
