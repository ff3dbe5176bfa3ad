"""Pages of whoever asks: a new request, one's own requests and results, one order with its report."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse

from lianxin.access import audit, relationships
from lianxin.access.errors import AccessError, NoRelationship, NotPermitted
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.recognition import decisions as recognition
from lianxin.clinical.recognition.decisions import Choice
from lianxin.duty import kernel
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.models import Institution
from lianxin.regional.ordering import finding, service, view
from lianxin.regional.ordering.models import Requisition
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 30
TABS: dict[str, Text] = {
    "results": T("待阅结果", "Results to read"),
    "open": T("进行中", "Under way"),
    "done": T("已办结", "Ended"),
    "requests": T("全部申请单", "All requests"),
}
KEPT = ("indication", "diagnosis", "diagnosis_code", "_dx", "priority", "repeat")


# ------------------------------------------------------------------------------------------------------------ a new request


@page(may="order_tests")
def new(request: HttpRequest) -> HttpResponse:
    """The request on one page. Adding or removing an item draws it again (htmx brings the list only); sending places everything."""
    scope, number = request.scope, request.GET.get("person", "")
    if not number:
        return HttpResponseBadRequest(
            str(T("请先找到患者，再申请检查检验。", "Find the person first, then order."))
        )
    person = registry.get(number)
    relationships.require(scope, person.pk)
    if scope.institution_id is None:
        raise NotPermitted(T("请先选择执业机构（岗位）。", "Choose the post you act in first."))
    if request.method != "POST":
        return _draw(request, person, request.GET.getlist("item"), {}, {})
    codes = _codes(request)
    if "_send" not in request.POST:
        return _draw(request, person, codes, request.POST, {})
    try:
        placed = _place(request, person, codes)
    except kernel.Refused as refusal:
        return _draw(request, person, codes, request.POST, refusal.errors)
    except kernel.MoveError as refusal:
        return _draw(request, person, codes, request.POST, {"": refusal.text})
    except AccessError as refusal:
        if isinstance(refusal, NoRelationship | NotPermitted):
            raise
        return _draw(request, person, codes, request.POST, {"": refusal.message})
    if not placed.replayed:
        messages.success(request, str(_said(placed)))
    return redirect("ordering:requisition", placed.requisition.number)


def _codes(request: HttpRequest) -> list[str]:
    codes = list(dict.fromkeys(request.POST.getlist("item")))[: service.MOST + 1]
    if add := request.POST.get("_add", ""):
        codes.append(add)
    if drop := request.POST.get("_drop", ""):
        codes = [code for code in codes if code != drop]
    return list(dict.fromkeys(codes))


def _place(request: HttpRequest, person: Person, codes: list[str]) -> service.Placed:
    post = request.POST
    places = {}
    for code in codes:
        value = post.get(f"at-{code}", "")
        where = Institution.objects.filter(pk=int(value)).first() if _whole(value) else None
        if where is not None:
            places[code] = where
    choices = {}
    for name, said in post.items():
        if name.startswith("hit-") and _whole(name[4:]) and said in ("use", "repeat"):
            pk = name[4:]
            choices[int(pk)] = Choice(said == "use", post.get(f"why-{pk}", "") if said == "repeat" else "", post.get(f"words-{pk}", ""))  # fmt: skip
    key = f"order:{request.scope.account_id}:{post.get('_key', '')[:64] or uuid.uuid4().hex}"
    form = {name: post.get(name, "") for name in ("indication", "diagnosis", "diagnosis_code")}
    return service.request(
        request.scope, person.pk, codes, form, key, priority=post.get("priority", "routine"), decisions=choices, performers=places,
        repeat=bool(post.get("repeat")),
    )  # fmt: skip


def _whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 16


def _said(placed: service.Placed) -> Text:
    n, k = len(placed.readings), len(placed.requisition.recognised)
    if not n:
        return T(
            "{k} 项采用已有结果，无需再做。", "{k} items use the results there are; nothing is done again."
        ).format(k=str(k))
    if k:
        return T(
            "已开出 {n} 张申请单；{k} 项采用已有结果。",
            "{n} orders placed; {k} items use the results there are.",
        ).format(n=str(n), k=str(k))
    return T("已开出 {n} 张申请单。", "{n} orders placed.").format(n=str(n))


def _draw(
    request: HttpRequest, person: Person, codes: list[str], typed: Any, errors: dict[str, Text]
) -> HttpResponse:
    scope = request.scope
    chosen = view.lines(scope, person, codes, typed, errors)
    if any(line.hit for line in chosen):
        refs = [line.hit.ref for line in chosen if line.hit]
        audit.write(scope, "read", person_id=person.pk, what="recognisable results", detail={"results": refs})
    query = str(typed.get("q", "") or "")[:40]
    context = {
        "person": person, "lines": chosen, "codes": [line.item.code for line in chosen], "q": query, "errors": errors,
        "found": finding.find(query), "favourites": finding.favourites(scope), "reasons": view.reasons(),
        "priorities": view.PRIORITIES.items(), "key": typed.get("_key") or uuid.uuid4().hex,
        "typed": {name: typed.get(name, "") for name in KEPT}, "priority": typed.get("priority") or "routine",
        "problems": _problems(errors),
        "dx": typed.get("diagnosis") or typed.get("_dx", ""),
        "repeat": "repeat" in errors or bool(typed.get("repeat")), "twice": [line for line in chosen if line.under_way],
    }  # fmt: skip
    part = request.headers.get("HX-Request") == "true" and "_send" not in request.POST
    template = "ordering/_items.html" if part else "ordering/new.html"
    return render(request, template, context, status=422 if errors else 200)


def _problems(errors: dict[str, Text]) -> list[dict[str, Any]]:
    return [
        {"id": "" if name in ("", "__all__", "items") else name if name.startswith("hit-") else f"id_{name}", "text": words}
        for name, words in errors.items()
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- lists


def _rows(tab: str, scope: Scope) -> Any:
    mine = scope.institution_ids | scope.oversight_ids
    if tab == "requests":
        made = Requisition.objects.unscoped("one's own institution's requests").filter(
            institution_id__in=mine
        )
        return made.select_related("person", "institution", "practitioner").order_by("-at", "-pk")
    rows = Reading.objects.unscoped("one's own institution's orders").filter(orderer_id__in=mine)
    rows = rows.select_related("case", "person", "orderer", "performer", "centre_of", "practitioner")
    rows = rows.prefetch_related("ordered__item")
    if tab == "results":
        return rows.filter(case__state="issued", live=True).order_by("issued_at", "pk")
    if tab == "open":
        return rows.filter(live=True).exclude(case__state__in=service.DONE).order_by("report_due_at", "pk")
    ended = Q(case__state__in=("acknowledged", "cancelled"))
    return rows.filter(ended).order_by("-ordered_at", "-pk")


@page(may="see_orders")
def listing(request: HttpRequest) -> HttpResponse:
    """Orders of the own institution: results waiting to be read first, then what is under way, what ended, every request."""
    scope = request.scope
    tab = request.GET.get("tab", "results")
    tab = tab if tab in TABS else "results"
    rows = _rows(tab, scope)
    if request.GET.get("mine"):
        rows = rows.filter(account_id=scope.account_id)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    people = sorted({line.person_id for line in lines})
    seen = relationships.seen(scope, people)
    if people:
        audit.write(scope, "search", what=f"orders: {tab}", detail={"people": people})
    now = clock.now()
    shown = []
    for line in lines:
        name = line.person.name if line.person_id in seen else registry.mask_name(line.person.name)
        row: dict[str, Any] = {"r": line, "name": name, "open": line.person_id in seen}
        if tab == "requests":
            row["items"] = _names(line.items)
        else:
            late = tab == "open" and line.report_due_at < now
            row |= {"items": view.items_text(line), "state": view.state_of(line), "late": late}
        shown.append(row)
    counts = {name: _rows(name, scope).count() for name in ("results", "open")}
    context = {"tab": tab, "tabs": TABS.items(), "lines": shown, "page": lines, "counts": counts, "mine": bool(request.GET.get("mine"))}  # fmt: skip
    return render(request, "ordering/list.html", context)


def _names(codes: list[str]) -> Text:
    found = {i.code: i.label for i in Item.objects.filter(code__in=codes)}
    labels = [found.get(code, Text(code, code)) for code in codes]
    return T("、".join(t.zh for t in labels), ", ".join(t.en for t in labels))


@page(may="see_orders")
def of_person(request: HttpRequest, number: str) -> HttpResponse:
    """Every order and result of one person that this reader may see, newest first."""
    person = registry.get(number)
    relationships.require(request.scope, person.pk)
    rows = Reading.objects.within(request.scope).filter(person=person)
    rows = rows.select_related("case", "orderer", "performer", "centre_of").prefetch_related("ordered__item")
    lines = Paginator(rows.order_by("-ordered_at", "-pk"), PAGE).get_page(request.GET.get("page"))
    audit.write(request.scope, "read", person_id=person.pk, what="orders of a person")
    shown = [{"r": r, "items": view.items_text(r), "state": view.state_of(r)} for r in lines]
    context = {"person": person, "lines": shown, "page": lines, "may_order": request.scope.may("order_tests")}
    return render(request, "ordering/person.html", context)


# ------------------------------------------------------------------------------------------------------------------ request


def _requisition(request: HttpRequest, number: str) -> Requisition:
    rows = Requisition.objects.within(request.scope).select_related("person", "institution", "practitioner")
    found = rows.filter(number=number).first()
    if found is None:
        raise Http404
    relationships.require(request.scope, found.person_id)
    return found


@page(may="see_orders")
def requisition(request: HttpRequest, number: str) -> HttpResponse:
    """One request: the work it became, what was recognised instead, what the patient is told of a repetition."""
    found = _requisition(request, number)
    works = service.pieces(found)
    made = recognition.of_order(found.number)
    audit.write(request.scope, "read", person_id=found.person_id, what=f"requisition {found.number}")
    context = {
        "q": found, "person": found.person, "priority": view.PRIORITIES[found.priority], "decisions": made, "items": _names(found.items),
        "works": [{"r": w, "items": view.items_text(w), "state": view.state_of(w)} for w in works],
        "told": [d for d in made if d.explanation], "saved": sum(d.price_fen for d in made) / 100,
    }  # fmt: skip
    return render(request, "ordering/requisition.html", context)


def address(name: str, *args: Any) -> str:
    """An address of another room, "" when the room has no such page."""
    try:
        return reverse(name, args=args)
    except NoReverseMatch:
        return ""
