"""A person's identity: every registration, where each value of the golden record comes from, what happened and how to undo it."""

from __future__ import annotations

from django.contrib import messages
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.web import page
from lianxin.index import golden, links, previews, registry
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.portal import index_compare as compare
from lianxin.portal import words
from lianxin.standards.text import T, Text

_WHY = "a reviewer looks at an identity"
TABLES = {
    "index_sourcerecord": T("登记", "registrations"),
    "access_relationship": T("查阅关系", "access relationships"),
    "access_consent": T("同意书", "consents"),
    "duty_case": T("转诊、随访等事项", "cases"),
    "pool_place": T("号源预约", "bookings"),
}


def _person(request: HttpRequest, number: str) -> Person:
    """The living person of a number, if it concerns the reader; audited."""
    try:
        person = registry.get(number)
    except registry.UnknownPerson as unknown:
        raise Http404 from unknown
    links.require(request.scope, [person.pk])
    audit.write(request.scope, "read", person_id=person.pk, what="identity")
    return person


@page(may="review_links")
def show(request: HttpRequest, number: str) -> HttpResponse:
    """The identity behind a number; a merged number leads to the one that lives."""
    person = _person(request, number)
    if person.number != number:
        told = T("{a} 已并入 {b}。", "{a} is {b} now.").format(a=number, b=person.number)
        messages.info(request, str(told))
        return redirect("portal:index_person", person.number)
    side = compare.side(person)
    by_id = {s.pk: s for s in side.sources}
    owners: dict[int, int] = {}
    with connection.cursor() as cur:
        owners = links.owners(cur, list(by_id))
    numbers = {p.pk: p.number for p in side.merged}
    lines = [
        {
            "source": s,
            "came_with": numbers.get(owners.get(s.pk, 0), ""),
            "name": golden.spoken(s).reg.name,
            "local": s.local_id if len(s.local_id) < 12 else s.local_id[:4] + "…" + s.local_id[-4:],
        }
        for s in side.sources
    ]
    with connection.cursor() as cur:
        apart = links.apart(cur, [person.pk])[person.pk]
    context = {
        "person": person,
        "lines": lines,
        "golden": golden.fields(person),
        "merged": side.merged,
        "history": compare.history([person.pk, *(p.pk for p in side.merged)], 60),
        "apart": Person.objects.unscoped(_WHY).filter(pk__in=apart).order_by("pk"),
        "age": words.age(person.birth_date),
    }
    return render(request, "portal/index/identity.html", context)


def _reason(request: HttpRequest) -> str:
    reason = request.POST.get("reason", "").strip()
    if len(reason) < 2:
        raise Invalid({"reason": T("请写明理由。", "Say why.")})
    return reason


@page(may="review_links")
def undo(request: HttpRequest, number: str, pk: int) -> HttpResponse:
    """Undo one merge, move or split: first what will happen, then it happens."""
    person = _person(request, number)
    event = LinkEvent.objects.filter(pk=pk, kind__in=("merged", "moved", "split"), undone_by=None).first()
    if event is None:
        messages.error(request, str(T("这一步已撤销，或不能撤销。", "It was undone already, or cannot be.")))
        return redirect("portal:index_person", person.number)
    error = None
    if request.method == "POST":
        try:
            if event.kind == "merged" and request.POST.get("two"):
                back = links.unmerge(request.scope, event.pk, _reason(request))
            else:
                links.undo(request.scope, event.pk, _reason(request))
                gone = event.before.get("gone") or event.before.get("person")
                back = Person.objects.unscoped(_WHY).get(pk=gone)
        except Invalid as refusal:
            error = refusal.message
        else:
            messages.success(request, str(T("已撤销，一切恢复原状。", "Undone; everything is as before.")))
            return redirect("portal:index_person", registry.get(back.number).number)
    foreseen = previews.preview(event)
    context = {
        "person": person,
        "event": event,
        "title": compare.EVENTS[event.kind][0],
        "returns": foreseen.person,
        "stays": foreseen.stays,
        "sources": SourceRecord.objects.unscoped(_WHY)
        .filter(pk__in=foreseen.sources)
        .select_related("institution"),
        "rows": [
            (TABLES.get(table, Text(table, table)), n)
            for table, n in foreseen.rows.items()
            if table in TABLES
        ],
        "records": foreseen.patients,
        "error": error,
        "reason": request.POST.get("reason", ""),
    }
    return render(request, "portal/index/undo.html", context, status=422 if error else 200)


@page(may="review_links")
def move(request: HttpRequest, number: str) -> HttpResponse:
    """Chosen registrations leave: to the number they once had, to a new one, or to a person named by number."""
    person = _person(request, number)
    asked = request.POST if request.method == "POST" else request.GET
    chosen = {int(v) for v in asked.getlist("source") if v.isdigit() and len(v) < 18}
    rows = (
        SourceRecord.objects.unscoped(_WHY).filter(person=person).select_related("institution").order_by("pk")
    )
    leaving = [s for s in rows if s.pk in chosen]
    if not leaving:
        messages.error(
            request, str(T("请先勾选要移出的登记。", "Tick the registrations that are to leave first."))
        )
        return redirect("portal:index_person", person.number)
    to = asked.get("to", "").strip()
    target, error = None, None
    if to:
        try:
            target = registry.get(to)
        except registry.UnknownPerson:
            error = T("没有主索引号 {n}，请核对。", "There is no index number {n}; please check.").format(
                n=to
            )
    if request.method == "POST" and error is None:
        try:
            reason = _reason(request)
            if target is not None:
                back = links.transfer(request.scope, person, [s.pk for s in leaving], target, reason)
            else:
                back = links.split(request.scope, person, [s.pk for s in leaving], reason)
        except Invalid as refusal:
            error = refusal.message
        else:
            done = T("已移出到 {n}，可在历史中撤销。", "Moved to {n}; the history can undo it.").format(
                n=back.number
            )
            messages.success(request, str(done))
            return redirect("portal:index_person", back.number)
    with connection.cursor() as cur:
        former = links.former(cur, person.pk, [s.pk for s in leaving])
    context = {
        "person": person,
        "leaving": leaving,
        "staying": [s for s in rows if s.pk not in chosen],
        "to": to,
        "target": target,
        "former": Person.objects.unscoped(_WHY).get(pk=former[1]) if former else None,
        "error": error,
        "reason": asked.get("reason", ""),
    }
    return render(request, "portal/index/move.html", context, status=422 if request.method == "POST" else 200)
