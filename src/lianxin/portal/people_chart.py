"""The person's page: one calm record in tabs, each loaded when asked for; every look is audited.

A tab is the same address with ``?tab=``: htmx brings only the part, a plain link the whole page. Without a relationship the
door (``people_door``) answers instead.
"""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.dateparse import parse_datetime

from lianxin.access import audit, relationships
from lianxin.access.web import page
from lianxin.exchange.smart import pages as apps
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.portal import people_door, people_parts
from lianxin.portal.people import FINDERS, remember
from lianxin.portal.people_note import WRITERS
from lianxin.record import readable, store, timeline
from lianxin.standards import clock
from lianxin.standards.text import T

TABS = (
    ("overview", T("概览", "Overview")),
    ("timeline", T("时间线", "Timeline")),
    ("results", T("结果与趋势", "Results")),
    ("encounters", T("就诊", "Visits")),
    ("documents", T("文书", "Documents")),
    ("referrals", T("转诊", "Referrals")),
    ("identity", T("身份与关联", "Identity")),
    ("looked", T("谁看过", "Who looked")),
    ("consents", T("知情同意", "Consents")),
)
RECORD_AUDITS = frozenset(
    {"overview", "timeline", "results", "encounters", "documents"}
)  # the record writes these itself
PAGE = 30


def _before(request: HttpRequest) -> dt.datetime | None:
    value = parse_datetime(request.GET.get("before", "").replace(" ", "+"))
    return value if value and value.tzinfo else None


def _entries(
    request: HttpRequest, person: Person, types: list[str] | None, limit: int = PAGE
) -> dict[str, Any]:
    found = timeline.timeline(request.scope, person.pk, types=types, before=_before(request), limit=limit + 1)
    more = len(found) > limit
    shown = found[:limit]
    return {
        "entries": [people_parts.entry(e, person.number) for e in shown],
        "before": shown[-1].date.isoformat() if more and shown[-1].date else "",
    }


def _overview(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    found = timeline.timeline(request.scope, person.pk, limit=8)
    return {
        "summary": people_parts.overview(summary),
        "entries": [people_parts.entry(e, person.number) for e in found],
        "duties": people_parts.duties(request.scope, person),
        "referrals": people_parts.referrals(request.scope, person)[:5],
    }


def _timeline(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    chosen = [k for k in request.GET.getlist("kind") if k in people_parts.KINDS]
    kinds = [
        {"code": code, "label": label, "icon": icon, "on": code in chosen}
        for code, (label, icon) in people_parts.KINDS.items()
    ]
    return {"kinds": kinds, **_entries(request, person, chosen or None)}


def _results(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return {"groups": people_parts.trends(request.scope, person, summary)}


def _encounters(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return _entries(request, person, ["Encounter"])


def _documents(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return _entries(request, person, ["Composition", "DocumentReference", "DiagnosticReport"])


def _referrals(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return {
        "referrals": people_parts.referrals(request.scope, person),
        "followups": people_parts.followups(request.scope, person),
    }


def _identity(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return people_parts.identity(request.scope, person)


def _looked(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return {"looks": people_parts.looks(person)}


def _consents(request: HttpRequest, person: Person, summary: timeline.Summary) -> dict[str, Any]:
    return people_parts.consents_of(person)


PARTS = {
    "overview": _overview,
    "timeline": _timeline,
    "results": _results,
    "encounters": _encounters,
    "documents": _documents,
    "referrals": _referrals,
    "identity": _identity,
    "looked": _looked,
    "consents": _consents,
}
TEMPLATES = {"encounters": "_list", "documents": "_list"}


def _person(number: str) -> Person:
    try:
        return registry.get(number)
    except registry.UnknownPerson:
        raise Http404(str(T("没有这个主索引号。", "There is no such index number."))) from None


@page(*FINDERS)
def show(request: HttpRequest, number: str) -> HttpResponse:
    """The record, or its door for those without a relationship."""
    scope = request.scope
    person = _person(number)
    if not relationships.sees(scope, person.pk):
        return people_door.refuse(request, person)
    if person.number != number:
        return redirect(reverse("portal:person", args=[person.number]) + f"?from={number}")
    tab = request.GET.get("tab", "overview")
    if tab not in PARTS:
        tab = "overview"
    live = request.headers.get("HX-Request") == "true" and request.headers.get("HX-Target") == "chart"
    if tab in ("overview", "results"):
        summary = timeline.summary(scope, person.pk)
    else:
        summary = timeline.Summary() if live else timeline.banner(scope, person.pk, noted=True)
    if tab not in RECORD_AUDITS:
        audit.write(scope, "read", person_id=person.pk, what="record")
    context = {
        "person": person,
        "tabs": [{"code": code, "label": label} for code, label in TABS],
        "current": tab,
        "base": reverse("portal:person", args=[person.number]),
        "partial": f"portal/people/{TEMPLATES.get(tab, '_' + tab)}.html",
        "may_write": scope.has(*WRITERS),
        "apps": apps.launchable(scope),
        **PARTS[tab](request, person, summary),
    }
    if live:
        return render(request, "portal/people/_part.html", context)
    remember(request, person.number)
    context |= {
        "allergies": [a["title"] for a in summary.allergies],
        "alerts": [*people_parts.alerts(person), *(a["title"] for a in summary.alerts)],
        "glass": people_parts.open_glass(scope, person),
        "merged_from": request.GET.get("from", "")[:10],
    }
    return render(request, "portal/people/show.html", context)


@page(*FINDERS)
def document(request: HttpRequest, number: str, rtype: str, rid: str) -> HttpResponse:
    """One resource of the record as people read it: letters, reports, notes, single results."""
    person = _person(number)
    if not relationships.sees(request.scope, person.pk):
        return people_door.refuse(request, person)
    with connection.cursor() as cursor:
        found = store.read(cursor, request.scope, rtype, rid)
    if found is None or found.status != 200 or found.person_id != person.pk:
        raise Http404(str(T("病历里没有这份文书。", "No such document in the record.")))
    audit.write(request.scope, "read", person_id=person.pk, what=f"{rtype}/{rid}")
    resource = json.loads(found.body)
    context = {"person": person, "document": readable.sheet(resource), "now": clock.now()}
    return render(request, "portal/people/document.html", context)
