"""A new referral on one page: diagnosis → catalogue's answer → receivers → pack → consent → send.

Without scripts every part is drawn by the server at each submit; with them a change asks only for the parts that it alters.
The form's words are ``forms.DraftForm`` and ``forms.SubmitForm``, the same that FHIR callers send.
"""

from __future__ import annotations

import uuid
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral import (
    catalogue,
    forms,
    pages_forms,
    parties,
    prefill,
    receivers,
    rules,
    service,
)
from lianxin.clinical.referral.pages import typed
from lianxin.duty import kernel
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.record import timeline
from lianxin.standards import clock, codes
from lianxin.standards.text import T, Text

REFERRERS = parties.REFERRERS
HOSPITALS = ("county", "city", "province")


def _known_age(person: Person) -> int | None:
    if person.birth_date is None:
        return None
    today = clock.today()
    return (
        today.year
        - person.birth_date.year
        - ((today.month, today.day) < (person.birth_date.month, person.birth_date.day))
    )


def _facts_form(
    code: str, here: Institution, consortium: Any, data: dict[str, Any], person: Person
) -> django_forms.Form:
    form = django_forms.Form()
    fields = pages_forms.fact_fields(catalogue.facts_for(code, consortium, tier=here.tier))
    fields.pop("fact_age", None)  # known from the person; never asked
    form.fields.update(fields)
    form.initial = {k: data.get(k) for k in fields if data.get(k)}
    return form


def _parts(request: HttpRequest, person: Person, data: dict[str, Any]) -> dict[str, Any]:
    """Everything of the page that depends on what has been chosen so far."""
    scope = request.scope
    here = Institution.objects.get(pk=scope.institution_id)
    consortium = directory.consortia_of(here).first()
    code = data.get("diagnosis_code", "").strip()
    emergency = bool(data.get("emergency"))
    direction = data.get("direction", "")
    if direction not in dict(forms.DIRECTIONS):
        direction = "down" if here.tier in HOSPITALS else "up"
    facts, _ = rules.read_facts(
        {k[5:]: v for k, v in data.items() if k.startswith("fact_")}, _fact_codes(data)
    )
    if (years := _known_age(person)) is not None:
        facts.setdefault("age", years)
    found = catalogue.answer(code, facts, here, consortium) if code else None
    specialty = data.get("specialty", "") or (found.specialty if found else "")
    parts = rules.pack_parts(direction, emergency, found.pack if found else "")
    return {
        "answer": found,
        "direction": direction,
        "emergency": emergency,
        "override": found is not None
        and not emergency
        and catalogue.override_needed(found.kind, bool(found.rule), direction),
        "override_reason": data.get("override_reason", ""),
        "facts": _facts_form(code, here, consortium, data, person) if code else django_forms.Form(),
        "specialty": specialty,
        "specialties": pages_forms.specialties(),
        "receivers": _receivers(scope, person, here, direction, specialty, code, emergency),
        "receivers_sign": f"{direction}:{specialty}:{emergency}",
        "to_institution": data.get("to_institution", ""),
        "to_department": data.get("to_department", ""),
        "pack": _pack_form(scope, person, parts, data),
        "pack_sign": ",".join(p.code for p in parts),
    }


def _fact_codes(data: dict[str, Any]) -> list[str]:
    return [k[5:] for k in data if k.startswith("fact_") and k[5:] in rules.FACTS]


def _receivers(
    scope: Scope,
    person: Person,
    here: Institution,
    direction: str,
    specialty: str,
    code: str,
    emergency: bool,
) -> list[Any]:
    return receivers.suitable(
        here,
        direction=direction,
        specialty=specialty,
        diagnosis_code=code,
        person=person,
        emergency=emergency,
    )


def _pack_form(
    scope: Scope, person: Person, parts: tuple[rules.Part, ...], data: dict[str, Any]
) -> django_forms.Form:
    known = prefill.up_pack(scope, person.pk, data.get("diagnosis_name", ""))
    known = known | {"diagnosis": data.get("diagnosis_name", ""), "drugs": known.get("medication", "")}
    form = django_forms.Form()
    form.fields.update(pages_forms.pack_fields(parts, known))
    form.initial = {f"pack_{p.code}": data.get(f"pack_{p.code}") or known.get(p.code, "") for p in parts}
    return form


@require_POST
@page(*REFERRERS)
def answer(request: HttpRequest) -> HttpResponse:
    """The catalogue's answer for what is in the form, with the parts that change because of it."""
    person = registry.get(request.GET.get("person", ""))
    relationships.require(request.scope, person.pk)
    data = typed(request.POST)
    context = _parts(request, person, data)
    part = request.POST.get("_part", "")
    context |= {
        "swap_facts": part == "diagnosis",
        "swap_receivers": context["receivers_sign"] != request.POST.get("_receivers", ""),
        "swap_pack": context["pack_sign"] != request.POST.get("_pack", "") or part == "diagnosis",
    }
    return render(request, "referral/_new_parts.html", context)


@page(*REFERRERS)
def new(request: HttpRequest) -> HttpResponse:
    """The page, a saved draft, or the referral sent."""
    scope = request.scope
    number = request.GET.get("person", "")
    if not number:
        return HttpResponseBadRequest(
            str(T("请先找到患者，再点转诊。", "Find the person first, then refer."))
        )
    person = registry.get(number)
    relationships.require(scope, person.pk)
    data = typed(request.POST) if request.method == "POST" else _start(request)
    errors: dict[str, Text] = {}
    if request.method == "POST" and not request.POST.get("_refresh"):
        key = f"page:{scope.account_id}:{request.POST.get('_key', '')[:64] or uuid.uuid4().hex}"
        try:
            done = _write(scope, person, data, key, send="_send" in request.POST)
        except kernel.Refused as refusal:
            errors = refusal.errors
        except kernel.MoveError as refusal:
            errors = {"": refusal.text}
        else:
            return _sent(request, done, person)
    return _draw(request, person, data, errors)


def _start(request: HttpRequest) -> dict[str, Any]:
    data: dict[str, str] = {
        k: str(v)
        for k, v in request.GET.items()
        if k in ("direction", "diagnosis_code", "parent") or k.startswith("fact_")
    }
    if code := data.get("diagnosis_code"):
        data["diagnosis_name"] = str(codes.label(codes.ICD10, code).zh)
    if request.GET.get("emergency"):
        data["emergency"] = "on"
    return data


def _write(scope: Scope, person: Person, data: dict[str, Any], key: str, *, send: bool) -> kernel.Done:
    """Open the draft and, when asked, send it: the two moves of the table."""
    if send:
        return service.refer(scope, person, data, key)
    return service.open_referral(scope, person, data, key)


def _sent(request: HttpRequest, done: kernel.Done, person: Person) -> HttpResponse:
    sent = done.case.state != "draft"
    words = (
        T("已发出，对方须在时限内确认。", "Sent; the receiver must acknowledge in time.")
        if sent
        else T("草稿已保存。", "Draft saved.")
    )
    messages.success(request, str(words))
    return redirect(
        reverse("referral:show", args=[done.case.number]) + f"?sent={_draft_name(request, person)}"
    )


def _draft_name(request: HttpRequest, person: Person) -> str:
    return f"referral-{person.number}-{request.scope.account_id}"


def _draw(
    request: HttpRequest, person: Person, data: dict[str, Any], errors: dict[str, Text]
) -> HttpResponse:
    context = _parts(request, person, data)
    form = forms.DraftForm(data if errors else None, initial={"priority": "routine", **data})
    consent = forms.SubmitForm(data if errors else None)
    if errors:
        form.is_valid()
        consent.is_valid()
    record = timeline.banner(request.scope, person.pk)
    code, name = data.get("diagnosis_code", ""), data.get("diagnosis_name", "")
    context |= {
        "person": person,
        "allergies": [a["title"] for a in record.allergies],
        "form": form,
        "consent": consent,
        "directions": forms.DIRECTIONS,
        "dx": f"{name} {code}".strip(),
        "key": request.POST.get("_key") or uuid.uuid4().hex,
        "draft": _draft_name(request, person),
        "problems": _problems(errors, context),
    }
    return render(request, "referral/new.html", context, status=422 if errors else 200)


def _problems(errors: dict[str, Text], context: dict[str, Any]) -> list[dict[str, Any]]:
    places = {
        "diagnosis_code": "dx",
        "to_institution": "s2",
        "override_reason": "override_reason",
        "pack": "s3",
        "consent": "id_consent",
        "consent_evidence": "id_consent_evidence",
    }
    out = []
    for name, words in errors.items():
        place = places.get(name, f"id_{name}" if name else "")
        if name in rules.PARTS:
            place = f"id_pack_{name}"
        out.append({"id": place, "label": T("改正", "Mend"), "text": words})
    return out
