"""The sender's end: orders that wait for their specimens, handing over with a parcel, what is on its way or was refused, what came back."""

from __future__ import annotations

import uuid

from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral.print import qr
from lianxin.duty.errors import MoveError, Refused
from lianxin.duty.forms import refuse
from lianxin.regional.pathology import forms, pages, service
from lianxin.regional.pathology.models import Parcel, Specimen
from lianxin.regional.reading.models import Reading

PAGE = 30


@page(may="acquire")
def send(request: HttpRequest) -> HttpResponse:
    """Orders of the own institution with their specimens."""
    scope: Scope = request.scope
    rows = Reading.objects.unscoped("orders performed at one's own institution").filter(
        centre="pathology", performer_id__in=scope.institution_ids
    )
    lines = Paginator(
        rows.select_related("case", "person", "centre_of", "pathology").order_by("-live", "-ordered_at"), PAGE
    ).get_page(request.GET.get("page"))
    held: dict[int, list[Specimen]] = {}
    for row in (
        Specimen.objects.unscoped("of those orders")
        .filter(reading__in=[r.pk for r in lines])
        .order_by("letter")
    ):
        held.setdefault(row.reading_id, []).append(row)
    for line in lines:
        line.held = held.get(line.pk, [])
    if lines.object_list:
        audit.write(scope, "search", what="pathology orders", detail={"people": [r.person_id for r in lines]})
    parcels = (
        Parcel.objects.filter(from_institution_id__in=scope.institution_ids, received_at=None)
        .select_related("to_institution")
        .order_by("-sent_at")[:20]
    )
    context = {
        "lines": lines,
        "parcels": parcels,
        "key": uuid.uuid4().hex,
        "to_send": any(s.state == "registered" for line in lines for s in line.held),
    }
    return render(request, "pathology/send.html", context)


@page(may="acquire")
def register(request: HttpRequest, number: str) -> HttpResponse:
    """Register a container of an order."""
    reading = pages.find(request, number)
    if request.method != "POST":
        return redirect("pathology:case", number)
    form = forms.SpecimenForm(request.POST)
    if form.is_valid():
        try:
            made = service.register(request.scope, reading, form.cleaned_data)
        except Refused as refusal:
            refuse(form, refusal.errors)
        except MoveError as trouble:
            form.add_error(None, django_forms.ValidationError(trouble.text))
        else:
            messages.success(request, f"{made.code} {made.site}")
            return redirect("pathology:case", number)
    return pages.show(request, reading, {"specimen_form": form}, 422)


@require_POST
@page(may="acquire")
def dispatch(request: HttpRequest) -> HttpResponse:
    """Hand the ticked specimens over."""
    key = f"parcel:{request.scope.account_id}:{request.POST.get('_key', '')[:64] or uuid.uuid4().hex}"
    try:
        parcel = service.dispatch(
            request.scope, request.POST.getlist("codes"), request.POST.get("carrier", ""), key
        )
    except Refused as refusal:
        messages.error(request, str(next(iter(refusal.errors.values()))))
    except MoveError as trouble:
        messages.error(request, trouble.text)
    else:
        return redirect("pathology:parcel", parcel.number)
    return redirect("pathology:send")


@page(may="see_orders")
def parcel(request: HttpRequest, number: str) -> HttpResponse:
    """A parcel to be scanned at hand-over: its QR code and what is in it."""
    scope: Scope = request.scope
    found = Parcel.objects.select_related("from_institution", "to_institution").filter(number=number).first()
    if found is None or not {found.from_institution_id, found.to_institution_id} & scope.institution_ids:
        raise Http404
    rows = list(
        Specimen.objects.unscoped("of a parcel of one's own")
        .filter(parcel=found)
        .select_related("reading__case", "person")
        .order_by("code")
    )
    audit.write(scope, "search", what=f"parcel {number}", detail={"people": [r.person_id for r in rows]})
    may_receive = (
        found.to_institution_id in scope.institution_ids
        and found.received_at is None
        and scope.has("reader", "technician", "laboratory")
    )
    return render(
        request,
        "pathology/parcel.html",
        {"p": found, "rows": rows, "qr": qr(found.number), "may_receive": may_receive},
    )
