"""Proposals of better quotas: the list, one with its reasons and back-test, and the manager's decision."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access.errors import NotPermitted
from lianxin.access.web import page
from lianxin.pool.models import KINDS, TIERS
from lianxin.resident.quotas import service
from lianxin.resident.quotas.models import STATES, Proposal
from lianxin.resident.quotas.pages import asked
from lianxin.standards import clock
from lianxin.standards.text import T


def _outcomes(row: Proposal) -> list[dict[str, Any]]:
    """The back-test's lines: what was, the proposal, and the proposal on weeks it had not seen."""
    content = row.content
    values = [d["worth"] for d in content["demand"]]
    labels = (
        ("old", T("当时的配额", "The quotas that were"), T("当时", "Then")),
        ("new", T("建议的配额", "The proposal"), T("建议", "New")),
        ("unseen", T("逐周留一检验", "Tried on weeks unseen"), T("留一", "Unseen")),
    )
    lines = []
    for name, label, short in labels:
        o = content[name]
        served, refused = o["served"], o["refused"]
        lines.append(
            {
                "label": label, "short": short, "name": name, "public": served["public"], "county": served["county"],
                "grassroots": served["township"] + served["village"], "empty": o["empty"], "capacity": o["capacity"],
                "refused_public": refused["public"], "refused_grassroots": refused["township"] + refused["village"],
                "worth": service.worth(list(served.values()), values),
            }
        )  # fmt: skip
    return lines


def _gain(row: Proposal) -> dict[str, Any]:
    """Differences to the quotas that were, on weeks unseen, signed."""
    old, _, unseen = _outcomes(row)
    worth = round(unseen["worth"] - old["worth"], 1)
    signed = {name: f"{unseen[name] - old[name]:+d}" for name in ("grassroots", "public", "empty")}
    return {**signed, "worth": f"{worth:+.1f}", "better": worth > 0}


@page(may="run_schedules")
def index(request: HttpRequest) -> HttpResponse:
    """Open proposals first, or those decided."""
    places, chosen, _ = asked(request)
    state = request.GET.get("state", "open")
    if state not in STATES:
        raise Http404
    rows = (
        Proposal.objects.filter(institution__in=chosen, state=state)
        .select_related("institution", "department")
        .order_by("institution__code", "department__code", "clinic_type", "-capacity", "-pk")[:200]
    )
    context = {
        "places": places, "place": chosen[0] if len(chosen) == 1 else None, "state": state,
        "states": [(k, v) for k, v in STATES.items() if k != "replaced"],
        "rows": [{"p": p, "gain": _gain(p), "kind": KINDS[p.kind]} for p in rows], "decides": service.may_decide(request.scope),
        "institution": request.GET.get("institution", ""),
    }  # fmt: skip
    return render(request, "quotas/proposals.html", context)


@require_POST
@page(may="run_schedules")
def refresh(request: HttpRequest) -> HttpResponse:
    """Work the proposals of an institution out anew."""
    if not service.may_decide(request.scope):
        raise NotPermitted(
            T("配额由医共体管理人员测算与决定。", "Quotas are worked out and decided by the manager.")
        )
    places, _, _ = asked(request)
    place = next((i for i in places if str(i.pk) == request.POST.get("institution", "")), None)
    if place is None:
        raise Http404
    count = service.refresh(place)
    messages.success(request, str(T("已重新测算，现有 {n} 条待决定的建议。", "Worked out anew: {n} proposals to decide.").format(n=count)))  # fmt: skip
    return redirect(f"{reverse('quotas:proposals')}?institution={place.pk}")


@page(may="run_schedules")
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """One proposal; POST ``decision`` accept (with ``from_day``) or decline (with ``reason``)."""
    row = service.find(request.scope, pk)
    if row is None:
        raise Http404(str(T("没有这条建议。", "No such proposal.")))
    error: service.Refused | None = None
    if request.method == "POST":
        try:
            return _decide(request, row)
        except service.Refused as refused:
            error = refused
            row.refresh_from_db()
    content = row.content
    outcomes = _outcomes(row)
    weekly = [
        {"week": dt.date.fromisoformat(w["week"]),
         "old": w["old"]["served"]["township"] + w["old"]["served"]["village"], "new": w["unseen"]["served"]["township"] + w["unseen"]["served"]["village"],
         "old_public": w["old"]["served"]["public"], "new_public": w["unseen"]["served"]["public"],
         "old_empty": w["old"]["empty"], "new_empty": w["unseen"]["empty"]}
        for w in content["by_week"]
    ]  # fmt: skip
    chart = {
        "bars": [
            {"name": str(T("{what}·{label}", "{what}, {label}").format(label=line["short"], what=what)), "value": line[name], "tier": tier}
            for name, what, tier in (("grassroots", T("基层约到", "Grassroots"), "township"), ("public", T("公开约到", "Public"), "county"), ("empty", T("空号", "Empty"), ""))
            for line in outcomes
        ]
    }  # fmt: skip
    context = {
        "p": row, "c": content, "kind": KINDS[row.kind], "outcomes": outcomes, "gain": _gain(row), "weekly": weekly, "chart": chart,
        "demand": [{**d, "label": TIERS[d["channel"]]} for d in content["demand"]],
        "tiers": [
            {"label": TIERS[t], "old": row.old[n], "new": row.new[n], "best": content["best"][n], "floor": [0, *content["floor"]][n]}
            for n, t in enumerate(("county", "township", "village"))
        ],
        "km": f"{content['remote_km']:g}", "owed": f"{content['per_week']:g}",
        "remote": [T(i["zh"], i["en"]) for i in content["remote"]], "since": dt.date.fromisoformat(content["since"]),
        "until": dt.date.fromisoformat(content["until"]), "decides": service.may_decide(request.scope), "error": error,
        "tomorrow": clock.today() + dt.timedelta(days=1), "reason": request.POST.get("reason", ""),
        "from_day": request.POST.get("from_day") or (clock.today() + dt.timedelta(days=15)).isoformat(),
    }  # fmt: skip
    return render(request, "quotas/proposal.html", context, status=error.status if error else 200)


def _decide(request: HttpRequest, row: Proposal) -> HttpResponse:
    decision = request.POST.get("decision", "")
    if decision not in ("accept", "decline"):
        raise service.Refused(T("请选择采纳或不采纳。", "Choose to accept or to decline."), 422)
    day = None
    if decision == "accept":
        try:
            day = dt.date.fromisoformat(request.POST.get("from_day", ""))
        except ValueError:
            raise service.Refused(T("请填写生效日期。", "Give the first day."), 422) from None
    made = service.decide(
        request.scope, row.pk, decision == "accept", from_day=day, reason=request.POST.get("reason", "")
    )
    done = (
        T(
            "已采纳：自 {day} 起 {t} 个排班模板、{s} 个已生成场次改用新配额。",
            "Accepted: from {day} on {t} templates and {s} sessions already made have the new quotas.",
        ).format(day=made.from_day, t=made.changed.get("templates", 0), s=made.changed.get("sessions", 0))
        if made.state == "accepted"
        else T("已记录为不采纳。", "Declined.")
    )
    messages.success(request, str(done))
    return redirect("quotas:proposal", pk=row.pk)
