"""Referral flow: who sends to whom, how many close, come back, run late; every figure opens the cases it counts."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse

from lianxin.access import relationships
from lianxin.access.web import page
from lianxin.clinical.referral import flow as counts
from lianxin.clinical.referral import pages_view
from lianxin.clinical.referral.forms import DIRECTIONS
from lianxin.index import registry
from lianxin.network import directory, roles
from lianxin.network.models import Consortium, Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

READERS = (roles.MANAGER, roles.REFERRAL_DESK, roles.CLINICIAN, roles.GP, roles.FAMILY_DOCTOR)
PERIODS = {
    "30": T("近 30 天", "Last 30 days"),
    "90": T("近 90 天", "Last 90 days"),
    "365": T("近一年", "Last year"),
}
PAGE = 50


class FilterForm(forms.Form):
    """Period, direction, consortium."""

    days = forms.ChoiceField(label=T("时间", "Period"), choices=list(PERIODS.items()), required=False)
    direction = forms.ChoiceField(
        label=T("方向", "Direction"), choices=[("", T("全部", "All")), *DIRECTIONS], required=False
    )
    consortium = forms.ChoiceField(label=T("医联体", "Consortium"), required=False)


def _filters(request: HttpRequest) -> tuple[FilterForm, dict[str, Any]]:
    here = Institution.objects.get(pk=request.scope.institution_id)
    mine = list(directory.consortia_of(here))
    form = FilterForm(request.GET or None)
    form.fields["consortium"].choices = [  # type: ignore[attr-defined]
        ("", T("全部", "All")),
        *((c.code, str(pages_view.named(c))) for c in mine),
    ]
    data = form.cleaned_data if form.is_bound and form.is_valid() else {}
    days = int(data.get("days") or 90)
    end = clock.now()
    chosen: Consortium | None = next((c for c in mine if c.code == data.get("consortium")), None)
    query = {
        k: v
        for k, v in {
            "days": days,
            "direction": data.get("direction"),
            "consortium": data.get("consortium"),
        }.items()
        if v
    }
    span = counts.period(
        end - dt.timedelta(days=days), end + dt.timedelta(seconds=1), data.get("direction"), chosen
    )
    return form, {"period": span, "query": query}


def _opens(query: dict[str, Any], **more: Any) -> str:
    return (
        reverse("referral:flow_cases")
        + "?"
        + urlencode(query | {k: v for k, v in more.items() if v not in (None, "")})
    )


def _percent(rate: float | None) -> str:
    return "—" if rate is None else f"{rate * 100:.0f}"


def _figures(found: counts.Summary, query: dict[str, Any]) -> list[dict[str, Any]]:
    n = found.counts

    def figure(
        code: str, label: Text, value: Any, unit: str, note: Any = "", tone: str = ""
    ) -> dict[str, Any]:
        return {
            "label": label,
            "value": value,
            "unit": unit,
            "url": _opens(query, figure=code),
            "note": note,
            "tone": tone,
        }

    of = T("{a} / {b} 例", "{a} of {b}")
    return [
        figure("sent", T("发出的转诊", "Referrals sent"), n["sent"], str(T(" 例", ""))),
        figure("closed", T("闭环率", "Closure rate"), _percent(found.closure_rate), "%", of.format(a=str(n["closed"]), b=str(n["countable"]))),
        figure("returned", T("退回率", "Return rate"), _percent(found.return_rate), "%", of.format(a=str(n["returned"]), b=str(n["sent"]))),
        figure("overdue", T("超时未办", "Overdue"), n["overdue"], str(T(" 例", "")), T("在途 {n} 例", "{n} open").format(n=str(n["open"])),
               "late" if n["overdue"] else ""),
        figure("emergency", T("绿色通道", "Green channel"), n["emergency"], str(T(" 例", ""))),
    ]  # fmt: skip


def _sankey(found: counts.Summary, query: dict[str, Any]) -> dict[str, Any]:
    """Senders on the left, receivers on the right: an institution that does both stands on both sides, so no band runs in a ring."""
    nodes: dict[str, dict[str, Any]] = {}
    bands: dict[tuple[int, int], int] = {}
    for link in found.links:
        nodes.setdefault(f"a{link.from_id}", {"name": f"a{link.from_id}", "label": link.from_name, "tier": link.from_tier,
                                              "url": _opens(query, a=link.from_id)})  # fmt: skip
        nodes.setdefault(f"b{link.to_id}", {"name": f"b{link.to_id}", "label": link.to_name, "tier": link.to_tier,
                                            "url": _opens(query, b=link.to_id)})  # fmt: skip
        pair = (link.from_id, link.to_id)
        bands[pair] = bands.get(pair, 0) + link.count
    links = [
        {"source": f"a{a}", "target": f"b{b}", "value": n, "url": _opens(query, a=a, b=b)}
        for (a, b), n in bands.items()
    ]
    return {"nodes": list(nodes.values()), "links": links}


def _words(found: counts.Summary) -> Text:
    """The chart in two sentences."""
    if not found.links:
        return T("这段时间没有转诊。", "No referrals in this period.")
    top = found.links[0]
    return T("共 {n} 例；最多的是 {a} → {b}，{k} 例。", "{n} referrals; most from {a} to {b}: {k}.").format(
        n=str(found.counts["sent"]), a=top.from_name, b=top.to_name, k=str(top.count)
    )


def _hours(value: float | None) -> Text:
    if value is None:
        return T("—", "—")
    if value < 1:
        return T(f"{value * 60:.0f} 分钟", f"{value * 60:.0f} min")
    if value < 48:
        return T(f"{value:.1f} 小时", f"{value:.1f} h")
    return T(f"{value / 24:.1f} 天", f"{value / 24:.1f} days")


@page(*READERS)
def flow(request: HttpRequest) -> HttpResponse:
    """The figures, the Sankey with its table, stage times and return reasons."""
    form, chosen = _filters(request)
    query = chosen["query"]
    found = counts.summary(request.scope, chosen["period"])
    names = dict(DIRECTIONS)
    context = {
        "form": form,
        "periods": list(PERIODS.items()),
        "days": str(query["days"]),
        "figures": _figures(found, query),
        "sankey": _sankey(found, query),
        "summary": _words(found),
        "links": [{"l": link, "direction": names[link.direction], "url": _opens(query, a=link.from_id, b=link.to_id, direction=link.direction)}
                  for link in found.links],
        "stages": [{"label": s.label, "count": s.count, "median": _hours(s.median_hours), "p90": _hours(s.p90_hours),
                    "url": _opens(query, stage=s.code)} for s in found.stages],
        "reasons": [{"label": label, "count": n, "url": _opens(query, figure="returned", reason=code)}
                    for code, label, n in found.return_reasons],
    }  # fmt: skip
    return render(request, "referral/flow.html", context)


def _number(request: HttpRequest, name: str) -> int | None:
    value = request.GET.get(name, "")
    return int(value) if value.isdigit() else None


@page(*READERS)
def cases(request: HttpRequest) -> HttpResponse:
    """The referrals behind a figure, a band, a stage or a reason. Names of people show only to those who care for them."""
    _, chosen = _filters(request)
    figure = request.GET.get("figure", "sent")
    figure = figure if figure in counts.FIGURES else "sent"
    stage = request.GET.get("stage") if request.GET.get("stage") in counts.STAGES else None
    found = counts.cases(
        request.scope,
        chosen["period"],
        figure,
        from_id=_number(request, "a"),
        to_id=_number(request, "b"),
        reason=request.GET.get("reason") or None,
        stage=stage,
        limit=2000,
    )
    lines = Paginator(found, PAGE).get_page(request.GET.get("page"))
    seen = relationships.seen(request.scope, [r.person_id for r in lines])
    shown = [
        {
            "r": r,
            "name": r.person.name if r.person_id in seen else registry.mask_name(r.person.name),
            "state_label": pages_view.state_label(r.case),
            "direction": pages_view.DIRECTIONS[r.direction],
        }
        for r in lines
    ]
    title = counts.STAGES[stage][0] if stage else counts.FIGURES[figure][0]
    context = {"lines": shown, "page": lines, "title": title, "total": len(found),
               "back": reverse("referral:flow") + "?" + urlencode(chosen["query"])}  # fmt: skip
    return render(request, "referral/flow_cases.html", context)
