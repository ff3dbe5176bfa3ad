"""Pages of the centre: loads with their indicators, recalls with their duties, figures."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.network.models import Institution
from lianxin.regional.sterile import loads, recall, scan
from lianxin.regional.sterile.models import (
    INDICATORS,
    RECALL_KINDS,
    STATES,
    Load,
    Recall,
    Set,
    SetType,
    Steriliser,
)
from lianxin.regional.sterile.pages import PAGE, key_of
from lianxin.standards import clock
from lianxin.standards.text import T, Text


def _own(scope: Scope) -> Any:
    return Load.objects.filter(institution_id__in=scope.institution_ids | scope.oversight_ids).select_related(
        "steriliser"
    )


@page()
def listing(request: HttpRequest) -> HttpResponse:
    """The centre's cycles; start one, record the day's Bowie-Dick test."""
    scope: Scope = request.scope
    if not scope.may("run_sterile"):
        scope.demand("run_centres")
    state = request.GET.get("state", "")
    rows = _own(scope).order_by("-started_at", "-pk")
    if state == "open":
        rows = rows.filter(state__in=["running", "waiting", "emergency"])
    elif state == "failed":
        rows = rows.filter(state="failed")
    return _list(request, rows, state)


def _list(
    request: HttpRequest, rows: Any, state: str, trouble: Text | None = None, typed: Any = None
) -> HttpResponse:
    scope: Scope = request.scope
    own = Steriliser.objects.filter(institution_id__in=scope.institution_ids, active=True)
    today = clock.today()
    return render(
        request, "sterile/loads.html",
        {"lines": Paginator(rows, PAGE).get_page(request.GET.get("page")), "state": state, "trouble": trouble, "typed": typed or {}, "key": uuid.uuid4().hex,
         "sterilisers": [{"row": s, "tested": loads.tested(s, today)} for s in own], "centre": scope.may("run_sterile"),
         "programs": sorted({p for s in own for p in s.programs}), "waiting": Set.objects.filter(centre_id__in=scope.institution_ids, state="packed").count()},
        status=422 if trouble else 200,
    )  # fmt: skip


@page(may="run_sterile")
def start(request: HttpRequest) -> HttpResponse:
    """Start a cycle with the sets scanned, or record the Bowie-Dick test (``what`` "bd")."""
    if request.method != "POST":
        return redirect("sterile:loads")
    scope: Scope = request.scope
    data = request.POST
    try:
        if data.get("what") == "steriliser":
            made = loads.add_steriliser(scope, {k: str(v) for k, v in data.items()})
            messages.success(request, str(T("已登记 {n}。", "{n} is registered.").format(n=made.label)))
            return redirect("sterile:loads")
        steriliser = loads.steriliser_of(scope, data.get("steriliser", ""))
        if data.get("what") == "bd":
            if data.get("passed") not in ("pass", "fail"):
                raise Refused({"passed": T("请选择试验结果。", "Say whether it passed.")})
            loads.bowie_dick(
                scope, steriliser, data["passed"] == "pass", data.get("note", ""), key_of(request)
            )
            messages.success(request, str(T("B-D 试验已记录。", "The Bowie-Dick test is on record.")))
            return redirect("sterile:loads")
        codes = scan.codes_of(data.get("codes", ""))
        load, answers = loads.start(scope, steriliser, data.get("program", ""), codes, key_of(request))
    except (Refused, NotAllowed) as refusal:
        return _list(request, _own(scope).order_by("-started_at", "-pk"), "", refusal.text, data)
    for answer in answers:
        if not answer.ok:
            messages.warning(request, f"{answer.code} {answer.text}")
    loaded = str(sum(a.ok for a in answers))
    messages.success(
        request,
        str(
            T("批次 {n} 已开始，装载 {c} 包。", "Load {n} started with {c} sets.").format(
                n=load.number, c=loaded
            )
        ),
    )
    return redirect("sterile:load", load.number)


@page()
def one(request: HttpRequest, number: str) -> HttpResponse:
    """One load: parameters, indicators, every set in it and where each is now; judge it."""
    scope: Scope = request.scope
    if not scope.may("run_sterile"):
        scope.demand("run_centres")
    found = _own(scope).filter(number=number).first()
    if found is None:
        raise Http404
    trouble: dict[str, Text] = {}
    status = 200
    if request.method == "POST":
        try:
            load = loads.judge(scope, number, {k: str(v) for k, v in request.POST.items()}, key_of(request))
        except Refused as refusal:
            trouble, status = refusal.errors, 422
        except NotAllowed as refusal:
            trouble, status = {"__all__": refusal.text}, 409
        else:
            messages.success(
                request, str(T("批次 {n}：{s}。", "Load {n}: {s}.").format(n=number, s=load.state_label))
            )
            return redirect("sterile:load", number)
        found = _own(scope).get(number=number)
    hits = recall.hits("load", load=found.pk)
    return render(
        request, "sterile/load.html",
        {"load": found, "hits": lines_of(hits), "patients": len({h.person_id for h in hits if h.person_id}), "trouble": list(trouble.values()),
         "indicators": [(code, label, getattr(found, code)) for code, label in INDICATORS.items()], "typed": request.POST, "key": uuid.uuid4().hex,
         "centre": scope.may("run_sterile") and found.kind == "load" and found.state != "failed", "recalls": found.recalls.order_by("-at"),
         "may_recall": scope.may("run_sterile") and found.kind == "load"},
        status=status,
    )  # fmt: skip


def lines_of(hits: list[recall.Hit]) -> list[dict[str, Any]]:
    """A recall's sets as lines: kind, state, holder, where it was opened (never on whom: the centre is no reader of records)."""
    kinds = SetType.objects.in_bulk({h.type_id for h in hits})
    where = Institution.objects.in_bulk(
        {i for h in hits for i in (h.holder_id, h.opened_at_institution) if i}
    )
    return [
        {
            "hit": h, "type": kinds[h.type_id].label, "state": STATES[h.state], "holder": where[h.holder_id],
            "opened": where.get(h.opened_at_institution or 0),
        }
        for h in hits
    ]  # fmt: skip


# -------------------------------------------------------------------------------------------------------------- recalls


def _recalls(scope: Scope) -> Any:
    ids = scope.institution_ids | scope.oversight_ids
    return Recall.objects.filter(institution_id__in=ids).select_related("load", "set", "steriliser")


@page()
def recalls(request: HttpRequest) -> HttpResponse:
    """The centre's recalls; open one by load, set or period."""
    scope: Scope = request.scope
    if not scope.may("run_sterile"):
        scope.demand("run_centres")
    trouble: Text | None = None
    data = request.POST
    if request.method == "POST":
        scope.demand("run_sterile")
        try:
            row = recall.open_recall(
                scope, data.get("kind", ""), data.get("reason", ""), key_of(request), **_asked(scope, data)
            )
        except (Refused, MoveError) as refusal:
            trouble = refusal.text
        else:
            said = T("已召回：{s} 包，{p} 名患者。", "Recalled: {s} sets, {p} patients.")
            messages.success(request, str(said.format(s=str(row.sets), p=str(row.patients))))
            return redirect("sterile:recall", row.pk)
    return render(
        request, "sterile/recalls.html",
        {"lines": Paginator(_recalls(scope).order_by("-at", "-pk"), PAGE).get_page(request.GET.get("page")), "trouble": trouble, "typed": data or request.GET,
         "kinds": RECALL_KINDS, "sterilisers": Steriliser.objects.filter(institution_id__in=scope.institution_ids), "key": uuid.uuid4().hex, "centre": scope.may("run_sterile")},
        status=422 if trouble else 200,
    )  # fmt: skip


def _asked(scope: Scope, data: Any) -> dict[str, Any]:
    """What the form asks to recall, of the own centre only."""
    what = data.get("what", "").strip()[:40]
    mine = scope.institution_ids
    kind = data.get("kind", "")
    if kind == "load":
        return {"load": Load.objects.filter(number=what, institution_id__in=mine, kind="load").first()}
    if kind == "set":
        codes = scan.codes_of(what)
        return {"set_": Set.objects.filter(code__in=codes[:1], centre_id__in=mine).first()}
    if kind == "period":
        steriliser = Steriliser.objects.filter(
            code=data.get("steriliser", "")[:20], institution_id__in=mine
        ).first()
        return {
            "steriliser": steriliser,
            "since": _instant(data.get("since", "")),
            "until": _instant(data.get("until", "")),
        }
    raise Refused({"kind": T("请选择召回范围。", "Choose what to recall by.")})


def _instant(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text).replace(tzinfo=clock.ZONE)
    except ValueError:
        return None


@page()
def recall_one(request: HttpRequest, pk: int) -> HttpResponse:
    """One recall: its sets, and how far each holder and each patient's doctor is."""
    scope: Scope = request.scope
    if not scope.may("run_sterile"):
        scope.demand("run_centres")
    row = _recalls(scope).filter(pk=pk).first()
    if row is None:
        raise Http404
    return render(
        request, "sterile/recall.html",
        {"row": row, "hits": lines_of(recall.hits(row.kind, **recall.asked_of(row))), "duties": recall.duties_of(row)},
    )  # fmt: skip
