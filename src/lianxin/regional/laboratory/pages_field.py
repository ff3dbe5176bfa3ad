"""The collector's side, made for a phone: what is to be taken, labels, the boxes it travels in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import MoveError
from lianxin.network.models import Institution
from lianxin.regional.laboratory import catalogue, labels, transport
from lianxin.regional.laboratory.models import Specimen
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 40
TABS: dict[str, tuple[Text, tuple[str, ...]]] = {
    "collect": (T("待采集", "To collect"), ("ordered", "recollect")),
    "pack": (T("待送检", "To send"), ("collected",)),
    "sent": (T("已送出", "Sent"), ("in_transit",)),
    "results": (T("已出报告", "Reported"), ("issued",)),
}


def _rows(scope: Scope, tab: str) -> Any:
    rows = Reading.objects.within(scope).filter(
        performer_id__in=scope.institution_ids, centre="laboratory", live=True, case__kind="laboratory", case__state__in=TABS[tab][1]
    )  # fmt: skip
    return rows.select_related("case", "person", "orderer", "laboratory__specimen__box")


@page(may="acquire")
def specimens(request: HttpRequest) -> HttpResponse:
    """Specimens that the own institution takes: a scan opens the tube, a list shows what is owed."""
    scope: Scope = request.scope
    scan = request.GET.get("q", "").strip()
    if scan:
        try:
            tube = transport.tube_of(scope, scan)
            return redirect("laboratory:case", tube.reading.case.number)
        except MoveError:
            found = _rows(scope, "collect").filter(person__card_number=scan) | _rows(scope, "collect").filter(
                person__number=scan
            )
            first = found.order_by("case__due_at").first()
            if first is not None:
                return redirect("laboratory:case", first.case.number)
            messages.error(
                request,
                str(
                    T("没有这个条码或卡号的待采标本：{q}", "Nothing to collect under {q}").format(q=scan[:30])
                ),
            )
    tab = request.GET.get("tab", "collect")
    if tab not in TABS:
        tab = "collect"
    lines = Paginator(_rows(scope, tab).order_by("case__due_at", "pk"), PAGE).get_page(
        request.GET.get("page")
    )
    if lines.object_list:
        audit.write(
            scope, "search", what=f"specimens: {tab}", detail={"people": [r.person_id for r in lines]}
        )
    return render(
        request, "laboratory/specimens.html",
        {
            "tab": tab, "tabs": {k: v[0] for k, v in TABS.items()}, "counts": {k: _rows(scope, k).count() for k in ("collect", "pack")},
            "lines": [{"r": r, "kind": catalogue.kind(r.laboratory.specimen.kind), "why": catalogue.refusals().get(r.laboratory.specimen.refused)} for r in lines],
            "page": lines, "q": scan,
        },
    )  # fmt: skip


@page(may="acquire")
def labels_pdf(request: HttpRequest) -> HttpResponse:
    """Labels of tubes (``?n=``, several) as PDF."""
    wanted = [n.upper() for n in request.GET.getlist("n")][:60]
    rows = Specimen.objects.within(request.scope).filter(
        number__in=wanted, institution_id__in=request.scope.institution_ids
    )
    found = list(rows.select_related("reading__person", "reading__orderer").order_by("number"))
    if not found:
        raise Http404
    audit.write(
        request.scope, "print", what="specimen labels", detail={"people": [t.person_id for t in found]}
    )
    return _pdf(labels.tubes(found), "labels")


@page(may="acquire")
def box_pdf(request: HttpRequest, number: str) -> HttpResponse:
    """The label of a box as PDF."""
    try:
        return _pdf(labels.box(transport.box_of(request.scope, number)), number)
    except MoveError:
        raise Http404 from None


def _pdf(body: bytes, name: str) -> HttpResponse:
    response = HttpResponse(body, content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{name}.pdf"'
    return response


def _destinations(scope: Scope) -> list[Institution]:
    rows = Specimen.objects.within(scope).filter(institution_id__in=scope.institution_ids, state="collected")
    return list(Institution.objects.filter(pk__in=rows.values("centre_of_id")).order_by("pk"))


@page(may="acquire")
def boxes(request: HttpRequest) -> HttpResponse:
    """Boxes of the own institution; a new one is opened for where collected tubes go."""
    scope: Scope = request.scope
    if request.method == "POST":
        destination = Institution.objects.filter(code=request.POST.get("destination", "")).first()
        warm = request.POST.get("warm") == "1"
        if destination is None or destination.pk not in {d.pk for d in _destinations(scope)}:
            messages.error(request, str(T("没有要送往该中心的标本。", "Nothing is to be sent there.")))
            return redirect("laboratory:boxes")
        made = transport.open_box(
            scope, destination, *((Decimal(15), Decimal(25)) if warm else (Decimal(2), Decimal(8)))
        )
        return redirect("laboratory:box", made.number)
    going = transport.going(scope)
    waiting = (
        Specimen.objects.within(scope)
        .filter(institution_id__in=scope.institution_ids, state="collected")
        .count()
    )
    return render(
        request, "laboratory/boxes.html",
        {"boxes": [{"b": b, "state": transport.label(b.state), "n": transport.count(b)} for b in going], "destinations": _destinations(scope), "waiting": waiting},
    )  # fmt: skip


@page(may="acquire")
def box(request: HttpRequest, number: str) -> HttpResponse:
    """One box: tubes are scanned in, temperatures kept, it is sealed and handed over."""
    scope: Scope = request.scope
    try:
        found = transport.box_of(scope, number)
    except MoveError:
        raise Http404 from None
    status = 200
    if request.method == "POST":
        do, scan = request.POST.get("do", ""), request.POST.get("tube", "")
        try:
            if do == "pack":
                transport.pack(scope, number, scan)
            elif do == "unpack":
                transport.unpack(scope, number, scan)
            elif do == "log":
                count = transport.log(scope, number, transport.parse_log(request.POST.get("log", "")))
                messages.success(
                    request, str(T("新增 {n} 条温度记录。", "{n} temperatures kept.").format(n=str(count)))
                )
            elif do == "seal":
                transport.seal(scope, number, request.POST.get("driver", ""))
            else:
                raise Http404
            return redirect("laboratory:box", number)
        except MoveError as trouble:
            messages.error(request, trouble.text)
            found, status = transport.box_of(scope, number), 422
    tubes = list(Specimen.objects.unscoped("the box was reached within the scope").filter(box=found).select_related("person", "reading__case").order_by("number"))  # fmt: skip
    if tubes:
        audit.write(
            scope, "read", what=f"box {found.number}", detail={"people": [t.person_id for t in tubes]}
        )
    waiting = Specimen.objects.within(scope).filter(
        institution_id__in=scope.institution_ids, state="collected", centre_of_id=found.destination_id
    )
    temperatures = list(found.temperatures.order_by("-at")[:50])
    return render(
        request, "laboratory/box.html",
        {
            "b": found, "state": transport.label(found.state), "tubes": [{"t": t, "kind": catalogue.kind(t.kind)} for t in tubes],
            "waiting": [{"t": t, "kind": catalogue.kind(t.kind)} for t in waiting.select_related("person").order_by("number")[:60]] if found.state == "open" else [],
            "temperatures": [{"t": t, "out": not found.low <= t.celsius <= found.high} for t in temperatures],
            "out": round(transport.out_of_range(found, found.low, found.high, found.sealed_at, clock.now())), "mine": found.sender_id in scope.institution_ids,
        },
        status=status,
    )  # fmt: skip
