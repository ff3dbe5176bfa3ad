"""Follow-ups for family doctors and village doctors: who is due, and a contact in three taps and two numbers on a phone.

A contact's numbers go into the record as Observations in the same transaction as the move.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.db import connection, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral import bedside, pages_forms, pages_view, parties
from lianxin.clinical.referral.models import Followup, FollowupContact
from lianxin.clinical.referral.pages import typed
from lianxin.duty import journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.network.roles import REFERRAL_DESK
from lianxin.record import store, timeline
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards.text import T, Text

FOLLOWERS = (*parties.FOLLOWERS, REFERRAL_DESK)
LIMIT = 200
KINDS = {
    "rehab": T("下转康复", "Rehabilitation"),
    "chronic": T("慢病", "Chronic disease"),
    "review": T("出院随访", "After discharge"),
}
PLAN_WORDS = {
    "diagnosis": T("诊断", "Diagnosis"),
    "drugs": T("用药", "Drugs"),
    "drugs_changed": T("用药调整", "Drugs changed"),
    "rehabilitation": T("康复计划", "Rehabilitation"),
    "danger_signs": T("危险信号", "Danger signs"),
    "watch_for": T("注意事项", "Watch for"),
    "who_follows": T("由谁随访", "Who follows"),
    "follow_when": T("何时随访", "When"),
}
MODE_WORDS = {
    "home": T("入户", "Home visit"),
    "clinic": T("门诊", "At the clinic"),
    "phone": T("电话", "Telephone"),
    "video": T("视频", "Video"),
    "failed": T("未联系到", "Not reached"),
}


@page(*FOLLOWERS)
def mine(request: HttpRequest) -> HttpResponse:
    """Open follow-ups of the institution (a township sees its villages'), most pressing first."""
    scope = request.scope
    found = list(
        Followup.objects.within(scope)
        .select_related("case", "person", "institution", "origin_institution")
        .filter(case__terminal=False, institution_id__in=scope.institution_ids)
        .order_by("case__due_at")[:LIMIT]
    )
    now = clock.now()
    soon = now + dt.timedelta(days=7)
    for row in found:
        row.kind_label = KINDS.get(row.kind, row.kind)
    heaps = [
        ("late", T("已超期", "Overdue"), [f for f in found if f.case.due_at < now]),
        ("week", T("一周内", "Within a week"), [f for f in found if now <= f.case.due_at < soon]),
        ("later", T("以后", "Later"), [f for f in found if f.case.due_at >= soon]),
    ]
    groups = [{"code": c, "label": label, "rows": rows, "count": len(rows)} for c, label, rows in heaps]
    return render(request, "referral/followups.html", {"groups": groups, "total": len(found)})


def _find(number: str, scope: Scope) -> Followup:
    found = (
        Followup.objects.within(scope)
        .select_related(
            "case",
            "person",
            "person__home_institution",
            "institution",
            "origin_institution",
            "referral__case",
        )
        .filter(case__number=number)
        .first()
    )
    if found is None:
        raise Http404(
            str(T("没有这条随访，或不归你的机构。", "No such follow-up, or not your institution's."))
        )
    return found


def _offer(
    move: Move, followup: Followup, scope: Scope, data: dict[str, Any] | None = None, key: str = "",
    errors: dict[str, Text] | None = None, open_: bool = False,
) -> pages_view.Offer:  # fmt: skip
    form_class = move.form or django_forms.Form
    form = form_class(data)
    if "to_institution" in form.fields:
        here = Institution.objects.get(pk=scope.institution_id or 0)
        near = [
            i
            for c in directory.consortia_of(here)
            for i in directory.members_of(c, below=True)
            if i.pk != here.pk
        ]
        choices = [(i.code, pages_forms.name_of(i)) for i in dict.fromkeys(near)]
        form.fields["to_institution"].widget = django_forms.Select(choices=[pages_forms.BLANK, *choices])
    if "next_at" in form.fields:
        usual = (clock.now() + dt.timedelta(days=30)).replace(hour=9, minute=0, second=0, microsecond=0)
        form.fields["next_at"].initial = usual.replace(tzinfo=None)
    if data is not None:
        form.is_valid()
        for name, words in (errors or {}).items():
            place = name if name in form.fields else None
            if place is None or place not in form.errors:
                form.add_error(place, str(words))
    return pages_view.Offer(
        name=move.name,
        label=move.label,
        tone=move.tone,
        url=reverse("referral:followup_act", args=[followup.case.number, move.name]),
        page=reverse("referral:followup", args=[followup.case.number]),
        number=followup.case.number,
        version=followup.case.version,
        key=key or uuid.uuid4().hex,
        form=form,
        open=open_,
    )


def _context(
    request: HttpRequest, followup: Followup, failed: pages_view.Offer | None = None
) -> dict[str, Any]:
    scope, case = request.scope, followup.case
    every = kernel.allowed(case, scope)
    offers = [
        failed if failed and a.name == failed.name else _offer(a.move, followup, scope) for a in every if a.ok
    ]
    contact = next((o for o in offers if o.name == "contact"), None)
    wanted = failed.name if failed else request.GET.get("act", "")
    opened = next((o for o in offers if o.name == wanted and o.name != "contact" and o.has_form), None)
    contacts = list(FollowupContact.objects.within(scope).filter(followup=followup).order_by("-number"))
    for row in contacts:
        row.mode_label = MODE_WORDS.get(row.mode, row.mode)
    sees = relationships.sees(scope, followup.person_id)
    record = timeline.banner(scope, followup.person_id, noted=True) if sees else None
    plan = [pages_view.Line(PLAN_WORDS.get(k, k), v) for k, v in followup.plan.items() if v]
    return {
        "f": followup,
        "person": followup.person,
        "allergies": [a["title"] for a in record.allergies] if record else None,
        "kind_label": KINDS.get(followup.kind, followup.kind),
        "steps": journey.journey(case),
        "state_label": pages_view.state_label(case),
        "duties": pages_view.duties(case),
        "plan": plan,
        "contacts": contacts,
        "contact": contact,
        "opened": opened,
        "offers": [o for o in offers if o.name != "contact"],
        "refused": [{"label": a.move.label, "why": a.why} for a in every if not a.ok],
        "acts": pages_view.acts(case),
    }


@page(*FOLLOWERS)
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One follow-up: what to know, the last contacts, and the form that takes three taps and two numbers."""
    followup = _find(number, request.scope)
    audit.write(request.scope, "read", person_id=followup.person_id, what=f"followup {number}")
    return render(request, "referral/followup.html", _context(request, followup))


@page(*FOLLOWERS)
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move of the follow-up; a contact's numbers are written to the record with it."""
    scope = request.scope
    followup = _find(number, scope)
    step = machine.get(followup.case.kind).move(move)
    if step is None or step.system:
        raise Http404
    if request.method != "POST":
        if request.headers.get("HX-Request") != "true":
            return redirect(reverse("referral:followup", args=[number]) + f"?act={move}#act-here")
        why = next(
            (a.why for a in kernel.allowed(followup.case, scope) if a.name == move),
            T("现在不能办理。", "Not possible now."),
        )
        made = None if why else _offer(step, followup, scope, open_=True)
        return render(request, "referral/_act_in_row.html", {"offer": made, "why": why})
    data = typed(request.POST)
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    errors: dict[str, Text] | None = None
    more: dict[str, Any] = {}
    try:
        with transaction.atomic():
            done = kernel.execute(
                move,
                followup.case,
                scope,
                data,
                int(version) if version.isdigit() else None,
                f"page:{scope.account_id}:{key}",
            )
            if move == "contact" and not done.replayed:
                _record(followup, scope, done.act.form)
    except kernel.Refused as refusal:
        errors = refusal.errors
    except kernel.Stale as stale:
        more = {"stale": stale.text}
    except kernel.MoveError as trouble:
        more = {"trouble": trouble.text}
    except Problem as trouble:
        errors = {
            "": T("; ".join(i.text.zh for i in trouble.issues), "; ".join(i.text.en for i in trouble.issues))
        }
    else:
        messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
        return redirect(
            reverse("referral:followups")
            if move == "contact"
            else reverse("referral:followup", args=[number])
        )
    followup = _find(number, scope)
    failed = _offer(step, followup, scope, data, key, errors, open_=True)
    status = 409 if more else 422
    return render(
        request, "referral/followup.html", _context(request, followup, failed) | more, status=status
    )


def _record(followup: Followup, scope: Scope, said: dict[str, Any]) -> None:
    """The contact's numbers as Observations of the person."""
    numbers = {k: said.get(k) for k in ("bp_systolic", "bp_diastolic")}
    if said.get("glucose") not in (None, ""):
        numbers["glucose"] = float(said["glucose"])
    resources = bedside.measurements(followup.person.number, None, numbers)
    if resources:
        with connection.cursor() as cursor:
            store.apply(cursor, scope, [store.Write("create", r["resourceType"], None, r) for r in resources])
