"""The laboratory's desk: receipt, worklist, quarantine of devices' results, kept tubes, rules, figures."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import MoveError, Refused
from lianxin.regional.laboratory import catalogue, devices, service, statistics, transport, verification
from lianxin.regional.laboratory.models import AutoRule, Specimen, Stray
from lianxin.regional.reading.effects import items_text
from lianxin.regional.reading.models import Item, Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 50
TABS: dict[str, tuple[Text, tuple[str, ...]]] = {
    "verify": (T("待审核", "To verify"), ("resulted", "verified")),
    "work": (T("待检测", "To measure"), ("received", "in_analysis")),
    "coming": (T("在途", "On the way"), ("collected", "in_transit")),
    "again": (T("待重采", "To be collected again"), ("recollect",)),
    "issued": (T("已发布未阅", "Issued, not seen"), ("issued",)),
}


def _rows(scope: Scope, tab: str) -> Any:
    rows = Reading.objects.within(scope).filter(
        centre_of_id__in=scope.institution_ids, centre="laboratory", live=True, case__kind="laboratory", case__state__in=TABS[tab][1]
    )  # fmt: skip
    return rows.select_related("case", "person", "orderer", "performer", "laboratory__specimen")


@page(may="run_laboratory")
def desk(request: HttpRequest) -> HttpResponse:
    """The worklist: what waits to be verified first, then what is to be measured. A scan opens the tube."""
    scope: Scope = request.scope
    scan = request.GET.get("q", "").strip()
    if scan:
        try:
            return redirect("laboratory:case", transport.tube_of(scope, scan).reading.case.number)
        except MoveError as trouble:
            messages.error(request, trouble.text)
    tab = request.GET.get("tab", "verify")
    if tab not in TABS:
        tab = "verify"
    lines = Paginator(_rows(scope, tab).order_by("report_due_at", "pk"), PAGE).get_page(
        request.GET.get("page")
    )
    if lines.object_list:
        audit.write(
            scope, "search", what=f"laboratory: {tab}", detail={"people": [r.person_id for r in lines]}
        )
    return render(
        request, "laboratory/desk.html",
        {
            "tab": tab, "tabs": {k: v[0] for k, v in TABS.items()}, "counts": {k: _rows(scope, k).count() for k in TABS},
            "lines": [{"r": r, "what": items_text(r)} for r in lines], "page": lines, "q": scan,
            "strays": Stray.objects.within(scope).filter(institution_id__in=scope.institution_ids, closed_at__isnull=True).count(),
            "boxes": len(transport.coming(scope)),
        },
    )  # fmt: skip


@page(may="run_laboratory")
def receive(request: HttpRequest) -> HttpResponse:
    """Boxes on their way here, and the field their bar code is scanned into."""
    scope: Scope = request.scope
    if request.method == "POST":
        try:
            box = transport.arrive(scope, request.POST.get("box", ""))
            return redirect("laboratory:receive_box", box.number)
        except MoveError as trouble:
            messages.error(request, trouble.text)
            return render(request, "laboratory/receive.html", _coming(scope), status=422)
    return render(request, "laboratory/receive.html", _coming(scope))


def _coming(scope: Scope) -> dict[str, Any]:
    rows = transport.coming(scope)
    return {"boxes": [{"b": b, "state": transport.label(b.state), "n": transport.count(b)} for b in rows]}


@page(may="run_laboratory")
def receive_box(request: HttpRequest, number: str) -> HttpResponse:
    """A box that arrived: each tube is scanned; what is missing stands below, what does not fit is refused from its own page."""
    scope: Scope = request.scope
    try:
        box = transport.box_of(scope, number)
        if box.destination_id not in scope.institution_ids:
            raise Http404
        if box.state in ("sealed", "taken") and request.method == "POST":
            box = transport.arrive(scope, number)
    except MoveError:
        raise Http404 from None
    status = 200
    if request.method == "POST" and request.POST.get("do") == "lost":
        for tube in transport.missing(box):
            try:
                service.act(scope, tube.reading.case.number, "refuse", {"code": "missing", "reason": box.number}, None, f"lost:{box.pk}:{tube.pk}")  # fmt: skip
            except MoveError as trouble:
                messages.error(request, trouble.text)
        return redirect("laboratory:receive_box", number)
    if request.method == "POST":
        scanned = request.POST.get("tubes", "").replace(",", "\n").split()
        _, done, why = service.receive_box(scope, number, scanned[:200], f"recv:{uuid.uuid4().hex}")
        if done:
            messages.success(request, str(T("已接收：{n}", "Received: {n}").format(n="、".join(done))))
        for text in why.values():
            messages.error(request, text)
        if not why:
            return redirect("laboratory:receive_box", number)
        status = 422
        box = transport.box_of(scope, number)
    tubes = list(Specimen.objects.unscoped("the box was reached within the scope").filter(box=box).select_related("person", "reading__case").order_by("number"))  # fmt: skip
    audit.write(scope, "read", what=f"box {box.number}", detail={"people": [t.person_id for t in tubes]})
    now = clock.now()
    temperatures = list(box.temperatures.order_by("at"))
    return render(
        request, "laboratory/receive_box.html",
        {
            "b": box, "state": transport.label(box.state), "temperatures": [{"t": t, "out": not box.low <= t.celsius <= box.high} for t in temperatures],
            "tubes": [{"t": t, "kind": catalogue.kind(t.kind), "unfit": transport.unfit(t, now)[1] if t.state == "sent" and transport.unfit(t, now)[0] else None, "why": catalogue.refusals().get(t.refused)} for t in tubes],
            "missing": sum(t.state == "sent" for t in tubes), "out": round(transport.out_of_range(box, box.low, box.high, box.sealed_at, now)),
        },
        status=status,
    )  # fmt: skip


@page(may="run_laboratory")
def strays(request: HttpRequest) -> HttpResponse:
    """What devices sent that belongs to no work waiting here: looked into and closed, never attached."""
    scope: Scope = request.scope
    if request.method == "POST":
        try:
            devices.close(scope, request.POST.get("stray", ""), request.POST.get("note", ""))
            return redirect("laboratory:strays")
        except MoveError as trouble:
            messages.error(request, trouble.text)
    every = (
        Stray.objects.within(scope)
        .filter(institution_id__in=scope.institution_ids)
        .select_related("analyser")
    )
    done = request.GET.get("closed") == "1"
    rows = every.filter(closed_at__isnull=not done).order_by("-at", "-pk")
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    return render(
        request, "laboratory/strays.html", {"lines": [{"s": s, "why": devices.WHY[s.reason], "said": devices.words(s)} for s in lines], "page": lines, "closed": done},
        status=422 if request.method == "POST" else 200,
    )  # fmt: skip


@page(may="run_laboratory")
def kept(request: HttpRequest) -> HttpResponse:
    """Kept tubes: found again by scan or name, put somewhere, given more tests, disposed of when their time is over."""
    scope: Scope = request.scope
    status = 200
    if request.method == "POST":
        do, number = request.POST.get("do", ""), request.POST.get("tube", "")
        try:
            if do == "place":
                service.place(scope, number, request.POST.get("position", ""))
            elif do == "dispose":
                n = service.dispose(scope, request.POST.getlist("n"))
                messages.success(request, str(T("已处置 {n} 支。", "{n} disposed of.").format(n=str(n))))
            elif do == "add":
                items = list(
                    Item.objects.filter(
                        code__in=request.POST.getlist("item"), centre="laboratory", active=True
                    )
                )
                key = f"page:{scope.account_id}:{request.POST.get('_key', '')[:64] or uuid.uuid4().hex}"
                made = service.add_on(
                    scope, number, items, {"indication": request.POST.get("why", "").strip() or "加做"}, key
                )
                return redirect("laboratory:case", made.case.number)
            else:
                raise Http404
            return redirect(f"{request.path}?q={number}" if do == "place" else request.path + "?tab=over")
        except Refused as refusal:
            messages.error(request, refusal.text)
            status = 422
        except MoveError as trouble:
            messages.error(request, trouble.text)
            status = 409
    q, tab = request.GET.get("q", "").strip(), request.GET.get("tab", "")
    rows = Specimen.objects.within(scope).filter(
        centre_of_id__in=scope.institution_ids, state__in=("received", "stored")
    )
    if tab == "over":
        rows = rows.filter(keep_until__lte=clock.now())
    if q:
        rows = (
            rows.filter(number=q.upper())
            | rows.filter(person__name=q)
            | rows.filter(person__number=q)
            | rows.filter(position=q)
        )
    lines = Paginator(
        rows.select_related("person", "reading__case").order_by("keep_until", "pk"), PAGE
    ).get_page(request.GET.get("page"))
    if lines.object_list:
        audit.write(scope, "search", what="kept tubes", detail={"people": [t.person_id for t in lines]})
    items = list(Item.objects.filter(centre="laboratory", active=True).order_by("pk"))
    return render(
        request, "laboratory/kept.html",
        {
            "q": q, "tab": tab, "page": lines, "key": uuid.uuid4().hex, "now": clock.now(),
            "lines": [{"t": t, "kind": catalogue.kind(t.kind), "items": [i for i in items if i.specimen == t.kind] if q else []} for t in lines],
        },
        status=status,
    )  # fmt: skip


@page(may="run_laboratory")
def rules(request: HttpRequest) -> HttpResponse:
    """Rules of automatic verification: whether, within which limits, who decided so and when."""
    scope: Scope = request.scope
    status = 200
    if request.method == "POST":
        try:
            _set_rule(scope, request.POST)
            return redirect("laboratory:rules")
        except MoveError as trouble:
            messages.error(request, trouble.text)
            status = 422
    mine = scope.institution_id or 0
    in_force = verification.rules(mine)
    lines = [{"code": c, "a": a, "rule": in_force.get(c), "own": bool(in_force.get(c) and in_force[c].analyte == c)} for c, a in catalogue.load().analytes.items() if a.auto and not a.formula]  # fmt: skip
    return render(
        request, "laboratory/rules.html",
        {"lines": lines, "log": AutoRule.objects.filter(institution_id=mine).order_by("-pk")[:30], "analytes": catalogue.load().analytes, "every": AutoRule.objects.filter(institution_id=mine, analyte="*").order_by("-pk").first()},
        status=status,
    )  # fmt: skip


def _set_rule(scope: Scope, given: Any) -> None:
    code, reason = given.get("analyte", ""), given.get("reason", "").strip()
    low, high = catalogue.number(given.get("low")), catalogue.number(given.get("high"))
    if code != "*" and code not in catalogue.load().analytes:
        raise Refused({"analyte": T("请选择项目。", "Choose the test.")})
    if not reason:
        raise Refused(
            {
                "reason": T(
                    "请填写依据（验证记录或批准人）。",
                    "Say on what ground (validation record, who approved).",
                )
            }
        )
    if (
        (given.get("low") and low is None)
        or (given.get("high") and high is None)
        or (low is not None and high is not None and low >= high)
    ):
        raise Refused(
            {"low": T("范围应为数值，且下限小于上限。", "Limits are numbers, the lower below the upper.")}
        )
    if code == "*" and (low is not None or high is not None):
        raise Refused({"low": T("全部项目不能共用一个范围。", "All tests cannot share one range.")})
    if scope.account_id is None or scope.institution_id is None:
        raise Refused({"__all__": T("须由检验人员本人办理。", "A person does this.")})
    made = AutoRule.objects.create(
        institution_id=scope.institution_id, analyte=code, on=given.get("on") == "1", low=low, high=high, account_id=scope.account_id,
        set_by=(scope.name or "")[:40], at=clock.now(), reason=reason[:200],
    )  # fmt: skip
    audit.write(scope, "update", what=f"auto-verification {code}", detail={"on": made.on, "rule": made.pk})


@page(may="run_centres")
def figures(request: HttpRequest) -> HttpResponse:
    """Turnaround by stage, refusals by reason and institution, the share verified by rule, for a period."""
    scope: Scope = request.scope
    end = _day(request.GET.get("to")) or clock.today()
    start = _day(request.GET.get("from")) or end - dt.timedelta(days=29)
    if not dt.timedelta(0) <= end - start <= dt.timedelta(days=400):
        start = end - dt.timedelta(days=29)
        messages.error(
            request, str(T("期间最长 400 天，起不晚于止。", "At most 400 days, the start before the end."))
        )
    mine = set(scope.institution_ids | scope.oversight_ids)
    return render(
        request, "laboratory/figures.html", {"from": start, "to": end, **statistics.of(mine, start, end)}
    )


def _day(text: str | None) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text or "")
    except ValueError:
        return None
