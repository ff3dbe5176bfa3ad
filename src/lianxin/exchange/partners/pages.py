"""Partners for those who keep the connection and for the consortium: the list, one partner with all that belongs to it, its states,
its self-test, its traffic; and the service catalogue."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.models import Client
from lianxin.access.web import page
from lianxin.exchange.partners import (
    access,
    catalogue,
    limits,
    pages_exports,
    selftest,
    states,
    traffic,
    wire,
)
from lianxin.exchange.partners.forms import PartnerForm
from lianxin.exchange.partners.models import Partner, PartnerClient, PartnerUsage
from lianxin.exchange.subscriptions.models import Subscription
from lianxin.exchange.v2.models import Peer
from lianxin.network.roles import MANAGER
from lianxin.standards import clock
from lianxin.standards.text import T

PAGE = 50
WAYS = {
    "in": T("收到的消息", "Received"), "v2": T("HL7 v2 通知", "Sent by HL7 v2"), "subscription": T("订阅通知", "Subscriptions"),
    "export": T("定时导出", "Exports"),
}  # fmt: skip


@page(may="see_feeds")
def partners(request: HttpRequest) -> HttpResponse:
    """All partners within reach, with what they did today."""
    rows = access.partners(request.scope).prefetch_related("institutions").order_by("name")
    asked = request.GET.get("state", "")
    if asked in states.LABELS:
        rows = rows.filter(state=asked)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    today = dict(
        PartnerUsage.objects.filter(day=clock.today(), partner__in=[p.pk for p in lines])
        .values("partner")
        .annotate(n=Sum("pieces"))
        .values_list("partner", "n")
    )
    context = {
        "lines": lines, "shown": [(p, states.LABELS[p.state], today.get(p.pk, 0)) for p in lines], "asked": asked,
        "states": states.LABELS.items(), "may_mend": request.scope.may("mend_feeds"),
    }  # fmt: skip
    return render(request, "feeds/partners.html", context)


@page(may="see_feeds")
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """One partner: contact, state and checklist, systems, exports, subscriptions, limits and usage, traffic."""
    partner = access.find(request.scope, pk)
    clients = list(
        Client.objects.filter(pk__in=partner.links.values("client_id")).select_related("institution")
    )
    done = selftest.latest(partner)
    steps = [(s, selftest.STEPS[s], done.get(s), s in selftest.required(partner)) for s in selftest.STEPS]
    decides = access.decides(request.scope, partner)
    today = partner.usage.filter(day=clock.today()).aggregate(n=Sum("pieces"), r=Sum("refused"))
    context = {
        "row": partner, "state": states.LABELS[partner.state], "clients": clients,
        "peers": Peer.objects.filter(client__in=clients).order_by("name"),
        "subscriptions": Subscription.objects.filter(client__in=clients).exclude(status="off").order_by("-pk")[:20],
        "exports": partner.exports.order_by("name"), "steps": [s for s in steps if s[3] or s[2]],
        "moves": [(m, states.MOVE_LABELS[m]) for m in states.possible(partner, decides) if decides or request.scope.may("mend_feeds")],
        "lacking": selftest.lacking(partner), "today": today["n"] or 0, "denied": today["r"] or 0,
        "share": min(100, round(100 * (today["n"] or 0) / partner.per_day)) if partner.per_day else None,
        "may_mend": request.scope.may("mend_feeds"), "decides": decides, "charts": _charts(partner, 0),
        "places": partner.institutions.order_by("name"),
    }  # fmt: skip
    return render(request, "feeds/partner.html", context)


def _charts(partner: Partner, days: int) -> list[dict[str, Any]]:
    """For each way: a chart's data, and the spans behind it."""
    out = []
    for way, spans in sorted(traffic.spans(partner, days=days).items()):
        points = [{"t": s.at.isoformat(), "v": s.total} for s in spans]
        bad = [{"t": s.at.isoformat(), "v": s.bad} for s in spans]
        total, wrong = sum(s.total for s in spans), sum(s.bad for s in spans)
        lags = [sum(x) for x in zip(*(s.lags for s in spans), strict=True)]
        out.append(
            {
                "way": way, "label": WAYS.get(way, T(way, way)), "total": total, "bad": wrong,
                "rate": round(100 * wrong / total, 1) if total else 0, "p95": traffic.p95(lags), "spans": [s for s in spans if s.total],
                "data": {"unit": "", "series": [{"name": str(T("全部", "All")), "points": points}, {"name": str(T("出错", "Wrong")), "points": bad}]},
            }
        )  # fmt: skip
    return out


@page(may="see_feeds")
def flow(request: HttpRequest, pk: int) -> HttpResponse:
    """Traffic and errors of one partner: by the hour of the last day, or by the day of the last month."""
    partner = access.find(request.scope, pk)
    days = 30 if request.GET.get("by") == "day" else 0
    context = {"row": partner, "charts": _charts(partner, days), "days": days}
    return render(request, "feeds/partner_traffic.html", context)


@page(may="mend_feeds")
def edit(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Enter a partner, or change it; limits are the consortium's."""
    scope = request.scope
    row = access.find(scope, pk) if pk else Partner(created_at=clock.now(), state_at=clock.now())
    form = PartnerForm(scope, request.POST or None, instance=row, limits=False)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                beyond = list(row.institutions.exclude(pk__in=access.institutions(scope))) if pk else []
                saved = form.save()
                saved.institutions.add(*beyond)  # others' institutions are not this reader's to take out
                wanted = {c.pk for c in form.cleaned_data["systems"]}
                reachable = set(form.fields["systems"].queryset.values_list("pk", flat=True))  # type: ignore[attr-defined]
                saved.links.filter(client_id__in=reachable - wanted).delete()
                for client in wanted - set(saved.links.values_list("client_id", flat=True)):
                    PartnerClient.objects.create(partner=saved, client_id=client)
                detail = {"changed": sorted(form.changed_data), "systems": sorted(wanted)}
                audit.write(scope, "admin", what=f"partner {saved.name}", detail=detail)
        except IntegrityError:
            form.add_error(
                "systems", T("所选系统刚被其他接入方占用。", "A system was just taken by another partner.")
            )
        else:
            limits.forget()
            messages.success(request, T("已保存。", "Saved."))
            return redirect("partners:one", saved.pk)
    return render(
        request, "feeds/partner_edit.html", {"form": form, "row": row}, status=400 if form.errors else 200
    )


@page(MANAGER)
def quota(request: HttpRequest, pk: int) -> HttpResponse:
    """The consortium sets how much a partner may send."""
    partner = access.find(request.scope, pk)
    if not access.decides(request.scope, partner):
        raise NotPermitted(
            T("配额由其所在医共体的管理岗设置。", "Limits are set by the manager of its consortium.")
        )
    form = PartnerForm(request.scope, request.POST or None, instance=partner, limits=True)
    for name in [n for n in form.fields if n not in ("per_minute", "per_day")]:
        del form.fields[name]
    if request.method == "POST" and form.is_valid():
        Partner.objects.filter(pk=pk).update(**{n: form.cleaned_data[n] for n in ("per_minute", "per_day")})
        audit.write(
            request.scope, "admin", what=f"partner {partner.name}", detail={"limits": form.cleaned_data}
        )
        limits.forget()
        messages.success(request, T("配额已更新。", "The limits were set."))
        return redirect("partners:one", pk)
    return render(
        request,
        "feeds/partner_edit.html",
        {"form": form, "row": partner, "quota": True},
        status=400 if form.errors else 200,
    )


@require_POST
@page(may="see_feeds")
def move(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Ask to go live, approve, suspend …"""
    partner = access.find(request.scope, pk)
    if what not in states.MOVES:
        raise Http404
    decides = access.decides(request.scope, partner)
    if states.MOVES[what][2] and not decides:
        raise NotPermitted(
            T("上线与暂停由医共体管理岗决定。", "The manager of the consortium decides on this.")
        )
    if not decides:
        request.scope.demand("mend_feeds")
    try:
        moved = states.move(request.scope, pk, what, request.POST.get("note", ""))
    except Invalid as refused:
        messages.error(request, next(iter(refused.errors.values())))
    else:
        messages.success(request, T("已办理：{s}。", "Done: {s}.").format(s=states.LABELS[moved.state]))
    return redirect("partners:one", pk)


@page(may="see_feeds")
def test(request: HttpRequest, pk: int) -> HttpResponse:
    """Run the self-test with a sample, and see what became of it."""
    partner = access.find(request.scope, pk)
    clients = Client.objects.filter(pk__in=partner.links.values("client_id")).order_by("name")
    ran: list[selftest.Shown] = []
    wrong = None
    if request.method == "POST":
        request.scope.demand("mend_feeds")
        client = get_object_or_404(
            clients, pk=request.POST.get("client") if request.POST.get("client", "").isdigit() else 0
        )
        upload = request.FILES.get("file")
        data = (
            upload.read(selftest.MOST + 1)
            if upload
            else request.POST.get("text", "").replace("\n", "\r").encode()
        )
        try:
            ran = selftest.run(
                partner, client, request.scope.name, data, (upload.name or "") if upload else ""
            )
        except selftest.Unfit as unfit:
            wrong = unfit.text
    done = selftest.latest(partner)
    context = {
        "row": partner, "clients": clients, "wrong": wrong, "ran": [(r, selftest.STEPS[r.step], _bodies(r)) for r in ran],
        "steps": [(selftest.STEPS[s], done.get(s)) for s in selftest.required(partner)], "lacking": selftest.lacking(partner),
        "text": request.POST.get("text", ""),
    }  # fmt: skip
    return render(request, "feeds/partner_test.html", context, status=422 if wrong else 200)


def _bodies(one: selftest.Shown) -> list[tuple[str, str]]:
    """Resources as text for reading."""
    import json

    return [
        (
            f"{r.get('resourceType')}/{r.get('id', '')}",
            json.dumps(r, ensure_ascii=False, indent=2, default=str),
        )
        for r in one.resources
    ]


@page(may="see_feeds")
def offers(request: HttpRequest) -> HttpResponse:
    """The service catalogue."""
    base = request.build_absolute_uri("/").rstrip("/")
    return render(request, "feeds/catalogue.html", {"services": catalogue.services(base)})


@page(may="see_feeds")
def sample(request: HttpRequest, name: str) -> HttpResponse:
    """A sample to begin with."""
    found = catalogue.sample(name)
    if found is None:
        raise Http404
    response = HttpResponse(found[1], content_type="application/octet-stream")
    response.headers["Content-Disposition"] = f'attachment; filename="{found[0]}"'
    return response


app_name = "partners"
urlpatterns = [
    path("feeds/partners", partners, name="list"),
    path("feeds/partners/new", edit, name="new"),
    path("feeds/partners/<int:pk>", one, name="one"),
    path("feeds/partners/<int:pk>/edit", edit, name="edit"),
    path("feeds/partners/<int:pk>/limits", quota, name="quota"),
    path("feeds/partners/<int:pk>/selftest", test, name="test"),
    path("feeds/partners/<int:pk>/traffic", flow, name="traffic"),
    path("feeds/partners/<int:pk>/move/<slug:what>", move, name="move"),
    path("feeds/catalogue", offers, name="catalogue"),
    path("feeds/catalogue/samples/<str:name>", sample, name="sample"),
    path("partners/selftest", wire.selftest, name="wire"),
    *pages_exports.urlpatterns,
]
