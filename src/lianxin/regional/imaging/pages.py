"""Imaging's pages: studies of one's own scope, one study with its report and who looked, the viewer in our frame, quality figures."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.dateparse import parse_date

from lianxin.access import audit
from lianxin.access.models import Account, AuditEvent
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import machine
from lianxin.network.models import Institution
from lianxin.regional.archive import frames, studies
from lianxin.regional.archive.models import Study
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Damaged
from lianxin.regional.imaging import figures, panel
from lianxin.regional.imaging.models import VERDICTS, Quality
from lianxin.regional.reading import moves, reports
from lianxin.regional.reading import view as shown_view
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 40
STATES: dict[str, Text] = {
    "waiting": T("待诊断", "Waiting to be read"),
    "issued": T("已出报告", "Reported"),
    "none": T("无申请", "Without an order"),
}
NO_PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96"><rect width="96" height="96" fill="#222"/>'
    '<path d="M28 18h28l14 14v46H28z M56 18v14h14" fill="none" stroke="#999" stroke-width="3"/></svg>'
)
"""Stands where something cannot be drawn: a document, a report, an image that cannot be decoded."""
LOOKS = 30
"""So many who looked are shown."""


def _reader(scope: Scope) -> None:
    scope.demand("see_orders")


@page(clinical=True)
def home(request: HttpRequest) -> HttpResponse:
    """Studies that the scope may see: by name, number, accession, modality, date, state and quality."""
    scope, get = request.scope, request.GET
    _reader(scope)
    wanted = {
        name: get.get(name, "").strip()[:64] for name in ("q", "modality", "from", "to", "state", "quality")
    }
    lines = Paginator(_found(scope, wanted), PAGE).get_page(get.get("page"))
    rows = _lines(list(lines))
    if rows:
        people = sorted({r["study"].person_id for r in rows})
        audit.write(scope, "search", what="imaging studies", detail={"people": people})
    modalities = ["CT", "MR", "DX", "CR", "US", "MG", "OT"]
    return render(
        request,
        "imaging/home.html",
        {"page_of": lines, "rows": rows, "wanted": wanted, "modalities": modalities, "states": STATES, "verdicts": VERDICTS,
         "may_quality": scope.may("acquire") or scope.may("run_centres")},
    )  # fmt: skip


def _found(scope: Scope, wanted: dict[str, str]) -> QuerySet[Study]:
    rows = studies.seen(scope).select_related("person", "institution").order_by("-study_at", "-pk")
    if asked := wanted["q"]:
        rows = rows.filter(
            Q(accession=asked) | Q(order_number=asked) | Q(study_uid=asked) | Q(person__number=asked)
            | Q(person__name__startswith=asked)
        )  # fmt: skip
    if wanted["modality"]:
        rows = rows.filter(modalities__contains=[wanted["modality"]])
    for name, ends in (("from", False), ("to", True)):
        day = _day(wanted[name])
        if day is not None:
            at = dt.datetime.combine(day + dt.timedelta(days=int(ends)), dt.time(), clock.ZONE)
            rows = rows.filter(study_at__lt=at) if ends else rows.filter(study_at__gte=at)
    if wanted["state"] in STATES:
        works = Reading.objects.unscoped("states of studies that the scope sees").exclude(centre="laboratory")
        issued = works.filter(issued_at__isnull=False).values("accession")
        if wanted["state"] == "issued":
            rows = rows.filter(accession__in=issued)
        elif wanted["state"] == "waiting":
            rows = rows.filter(accession__in=works.filter(issued_at=None, live=True).values("accession"))
        else:
            rows = rows.filter(accession="")
    if wanted["quality"] in VERDICTS:
        judged = Quality.objects.unscoped("verdicts on studies that the scope sees").filter(
            verdict=wanted["quality"]
        )
        rows = rows.filter(study_uid__in=judged.values("study_uid"))
    return rows


def _day(text: str) -> dt.date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None


def _lines(found: list[Study]) -> list[dict[str, Any]]:
    works = Reading.objects.unscoped("the studies were reached within the scope").select_related("case")
    by_number = {
        r.accession: r for r in works.filter(accession__in=[s.accession for s in found if s.accession])
    }
    judged = Quality.objects.unscoped("the studies were reached within the scope")
    by_uid = {q.study_uid: q for q in judged.filter(study_uid__in=[s.study_uid for s in found])}
    stands = machine.get(moves.KIND)
    out = []
    for study in found:
        work = by_number.get(study.accession)
        out.append(
            {"study": study, "reading": work, "quality": by_uid.get(study.study_uid),
             "state": stands.state(work.case.state).label if work else None}
        )  # fmt: skip
    return out


def _study(request: HttpRequest, uid: str) -> Study:
    _reader(request.scope)
    found = studies.find(request.scope, uid)
    if found is None:
        raise Http404
    return found


@page(clinical=True)
def show(request: HttpRequest, uid: str) -> HttpResponse:
    """One study: facts, series, report in force, quality, who looked."""
    study = _study(request, uid)
    reading = (
        Reading.objects.unscoped("the study was reached within the scope")
        .select_related("case", "orderer", "performer", "centre_of")
        .filter(accession=study.accession)
        .first()
        if study.accession
        else None
    )
    audit.write(request.scope, "read", person_id=study.person_id, what=f"study {study.study_uid}")
    quality = (
        Quality.objects.unscoped("the study was reached within the scope")
        .filter(study_uid=study.study_uid)
        .first()
    )
    shown = (
        shown_view.report_of(reading) if reading is not None and reports.issued(reading) is not None else None
    )
    return render(
        request,
        "imaging/study.html",
        {
            "study": study, "person": study.person, "reading": reading, "quality": quality, "series": panel.series_of(study), "shown": shown,
            "state": machine.get(moves.KIND).state(reading.case.state).label if reading else None,
            "own_work": bool(reading and reading.centre_of_id in request.scope.institution_ids and request.scope.may("read_studies")),
            "others": [s for s in studies.of_person(request.scope, study.person_id or 0)[: panel.PRIORS + 1] if s.pk != study.pk][: panel.PRIORS],
            "looks": _looks(study),
        },
    )  # fmt: skip


def _looks(study: Study) -> list[dict[str, Any]]:
    """Who looked at the images, the last first."""
    names = [f"study {study.study_uid}", f"viewer {study.study_uid}"]
    if study.accession:
        names.append(f"images {study.accession}")
    rows = AuditEvent.objects.filter(person_id=study.person_id, what__in=names, action="read").order_by(
        "-id"
    )[:LOOKS]
    events = list(rows)
    accounts = dict(Account.objects.filter(pk__in={e.account_id for e in events}).values_list("pk", "name"))
    places = Institution.objects.in_bulk({e.institution_id for e in events if e.institution_id})
    return [
        {"at": e.at, "who": accounts.get(e.account_id or 0, ""), "where": places.get(e.institution_id)}
        for e in events
    ]


@page(clinical=True)
def view(request: HttpRequest, uid: str) -> HttpResponse:
    """The viewer inside our page, for one study, or with ``?with=UID`` another one of the same person beside it."""
    study = _study(request, uid)
    other = request.GET.get("with", "")[:64]
    beside = studies.find(request.scope, other) if other else None
    if other and (beside is None or beside.person_id != study.person_id):
        raise Http404
    audit.write(request.scope, "read", person_id=study.person_id, what=f"viewer {study.study_uid}")
    if beside is not None:
        audit.write(request.scope, "read", person_id=beside.person_id, what=f"viewer {beside.study_uid}")
    address = panel.viewer(*[s.study_uid for s in (study, beside) if s is not None])
    return render(
        request, "imaging/view.html", {"study": study, "beside": beside, "person": study.person, "address": address}
    )  # fmt: skip


@page(clinical=True)
def thumb(request: HttpRequest, uid: str, sop: str) -> HttpResponse:
    """A small picture of one image of a study."""
    study = _study(request, uid)
    instance = studies.instances(study).filter(sop_uid=sop).first()
    if instance is None:
        raise Http404
    try:
        return HttpResponse(frames.thumbnail(instance), content_type="image/jpeg")
    except (frames.NoFrame, Damaged, Full):
        return HttpResponse(NO_PICTURE, content_type="image/svg+xml")


@page()
def quality(request: HttpRequest) -> HttpResponse:
    """Figures of the image quality gate and of retakes, by institution and by reason, for a span of days."""
    scope = request.scope
    if not (scope.may("acquire") or scope.may("run_centres")):
        scope.demand("run_centres")
    today = clock.today()
    since, until = (
        _day(request.GET.get("from", "")) or today - dt.timedelta(days=30),
        _day(request.GET.get("to", "")) or today,
    )
    if until < since:
        since, until = until, since
    return render(
        request, "imaging/quality.html", {"since": since, "until": until, **figures.table(scope, since, until)}
    )  # fmt: skip
