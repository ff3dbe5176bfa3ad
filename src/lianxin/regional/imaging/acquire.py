"""The technician's worklist: what is to be acquired at the own institution, for every centre but the laboratory; uploads; moves."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Case as When_
from django.db.models import F, Q, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms, journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.duty.models import Act
from lianxin.pool.models import ExamItem
from lianxin.regional.archive import studies
from lianxin.regional.imaging import gate, rules, uploading
from lianxin.regional.imaging.models import RATINGS, Quality
from lianxin.regional.reading import moves, service
from lianxin.regional.reading.forms import RETAKE
from lianxin.regional.reading.models import CENTRES, Ordered, Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 40
TABS: dict[str, Text] = {
    "todo": T("待采集", "To do"),
    "again": T("需重做", "Again"),
    "sent": T("今日已送", "Sent today"),
}
STEPS = ("check_in", "acquire", "send", "cancel")
PRIORITY = {"emergency": T("急诊", "Emergency"), "urgent": T("紧急", "Urgent")}
_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}
_RANK = When_(*(When(case__priority=p, then=Value(n)) for n, p in enumerate(("emergency", "urgent"))), default=Value(2))  # fmt: skip


@dataclass
class Line:
    """One order on the worklist; ``why``: the reason it is to be done again."""

    reading: Reading
    items: Text
    state: Text
    late: bool
    urgent: Text | None = None
    why: list[Text] = field(default_factory=list)
    next: Move | None = None
    key: str = ""


def _own(scope: Scope) -> QuerySet[Reading]:
    """Orders that the scope's institutions perform."""
    rows = Reading.objects.unscoped("one's own institution performs them").filter(
        performer_id__in=scope.institution_ids
    )
    return rows.exclude(centre="laboratory").select_related(
        "case", "person", "performer", "orderer", "centre_of"
    )


def _rows(scope: Scope, tab: str) -> QuerySet[Reading]:
    rows = _own(scope)
    if tab == "sent":
        midnight = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
        return (
            rows.filter(queued_at__gte=midnight).exclude(case__state__in=moves.BEFORE).order_by("-queued_at")
        )
    waiting = rows.filter(live=True, case__state__in=moves.BEFORE)
    back = Q(case__state="retake") | Q(pk__in=_returned(scope).values("reading_id"))
    if tab == "again":
        waiting = waiting.filter(back)
    again = When_(When(back, then=Value(0)), default=Value(1))
    return waiting.annotate(again=again, rank=_RANK).order_by(
        "again", "rank", F("case__due_at").asc(nulls_last=True), "pk"
    )


def _returned(scope: Scope) -> QuerySet[Quality]:
    rows = Quality.objects.unscoped("one's own institution performs them").filter(
        institution_id__in=scope.institution_ids
    )
    return rows.filter(verdict="return", anyway="", attempt=F("reading__retakes"))


@page(may="acquire")
def worklist(request: HttpRequest) -> HttpResponse:
    """What is to be acquired here now: what must be done again on top, then by priority and due time."""
    scope = request.scope
    tab = request.GET.get("tab", "todo")
    tab = tab if tab in TABS else "todo"
    centre, asked = request.GET.get("centre", ""), request.GET.get("q", "").strip()[:60]
    if asked and (found := _own(scope).filter(Q(case__number=asked) | Q(accession=asked)).first()):
        return redirect("imaging:acquire", found.case.number)
    rows = _rows(scope, tab)
    if centre in CENTRES:
        rows = rows.filter(centre=centre)
    if asked:
        rows = rows.filter(Q(person__name__startswith=asked) | Q(person__number=asked) | Q(requisition=asked))
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    shown = _lines(list(lines), scope)
    if shown:
        people = sorted({line.reading.person_id for line in shown})
        audit.write(scope, "search", what=f"acquisition: {tab}", detail={"people": people})
    return render(
        request,
        "imaging/acquire.html",
        {
            "tab": tab, "tabs": TABS, "page_of": lines, "lines": shown, "asked": asked, "centre": centre,
            "centres": {code: label for code, label in CENTRES.items() if code != "laboratory"},
            "counts": {"todo": _rows(scope, "todo").count(), "again": _rows(scope, "again").count()},
        },
    )  # fmt: skip


def _lines(readings: list[Reading], scope: Scope) -> list[Line]:
    items: dict[int, list[Text]] = {}
    for row in (
        Ordered.objects.filter(reading__in=readings, active=True).select_related("item").order_by("pk")
    ):
        items.setdefault(row.reading_id, []).append(row.item.label)
    offers = kernel.allowed_many([r.case for r in readings], scope)
    back = {q.reading_id: q for q in _returned(scope).filter(reading__in=readings)}
    retakes = _retakes([r.pk for r in readings if r.case.state == "retake"])
    stands, now, out = machine.get(moves.KIND), clock.now(), []
    for r in readings:
        words = items.get(r.pk, [])
        quality, retake = back.get(r.pk), retakes.get(r.pk)
        why = [rules.words(f) for f in quality.findings] if quality else []
        if retake is not None:
            why.insert(0, _retake_words(retake))
        ready = [o.move for o in offers.get(r.case.pk, []) if o.ok and o.name in ("check_in", "acquire")]
        late = bool(r.case.due_at and r.case.due_at <= now and r.case.state in moves.BEFORE)
        out.append(
            Line(
                r, T("、".join(w.zh for w in words), ", ".join(w.en for w in words)), stands.state(r.case.state).label, late,
                PRIORITY.get(r.case.priority), why, ready[0] if ready and not why else None, uuid.uuid4().hex,
            )
        )  # fmt: skip
    return out


def _retakes(case_ids: list[int]) -> dict[int, Act]:
    """The last return of each case."""
    acts = Act.objects.filter(case_id__in=case_ids, move="return_retake").order_by("case_id", "-seq")
    return {act.case_id: act for act in acts.distinct("case_id")}


def _retake_words(act: Act) -> Text:
    code = RETAKE.get(str(act.form.get("code", "")), RETAKE["other"])
    return T("{code}：{why}", "{code}: {why}").format(code=code, why=str(act.form.get("reason", "")))


# ---------------------------------------------------------------------------------------------------------------- one order


def _find(request: HttpRequest, number: str) -> Reading:
    found = _own(request.scope).filter(case__number=number, case__kind=moves.KIND).first()
    if found is None:
        raise Http404
    return found


def _offer(step: Move, reading: Reading, scope: Scope, data: Any = None, key: str = "", errors: Any = None) -> dict[str, Any]:  # fmt: skip
    form = None
    if step.form is not None:
        form = (
            forms.bind(step.form, data, kernel.context(reading.case, scope))
            if data is not None
            else step.form()
        )
        if data is not None:
            forms.refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "open": data is not None,
        "tone": _TONES.get(step.tone, "btn-outline-secondary"),
    }  # fmt: skip


def _context(request: HttpRequest, reading: Reading, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    scope, case = request.scope, reading.case
    offers = [_offer(m, reading, scope) for m in kernel.buttons(case, scope) if m.name in STEPS]
    if failed is not None:
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
    items = [o.item for o in reading.ordered.select_related("item").filter(active=True)]
    exams = {e.code: e for e in ExamItem.objects.filter(code__in=[i.code for i in items])}
    found = list(gate.stored(reading)) if reading.centre == "imaging" else []
    quality = {q.study_uid: q for q in Quality.objects.unscoped("the order was reached within the scope").filter(reading=reading)}  # fmt: skip
    retake = _retakes([reading.pk]).get(reading.pk) if case.state == "retake" else None
    audit.write(scope, "read", person_id=reading.person_id, what=f"order {case.number}")
    return {
        "reading": reading, "case": case, "person": reading.person, "offers": offers, "steps": journey.journey(case),
        "state": machine.get(case.kind).state(case.state).label, "items": items, "waiting": case.state in moves.BEFORE,
        "preparation": [exams[i.code] for i in items if i.code in exams and (exams[i.code].preparation or exams[i.code].fasting_hours)],
        "studies": [{"study": s, "quality": quality.get(s.study_uid), "images": list(studies.instances(s)[:12])} for s in found],
        "retake": _retake_words(retake) if retake else None, "late": bool(case.due_at and case.due_at <= clock.now()),
        "ratings": RATINGS, "rated": reading.facts.get("rating", ""), "urgent": PRIORITY.get(case.priority),
        "elsewhere": _elsewhere(reading),
    }  # fmt: skip


def _elsewhere(reading: Reading) -> str:
    """Where a centre takes its own kind of file (recordings, specimens), when it has a page for it."""
    for name, arguments in (
        (f"{reading.centre}:acquire", [reading.case.number]),
        (f"{reading.centre}:home", []),
    ):
        if reading.centre == "imaging":
            return ""
        try:
            return reverse(name, args=arguments)
        except NoReverseMatch:
            continue
    return ""


@page(may="acquire")
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One order: whom, what, how to prepare, what has arrived and what the gate said, what may be done."""
    return render(request, "imaging/acquire_one.html", _context(request, _find(request, number)))


@page(may="acquire")
@require_POST
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Check in, acquired, send, cancel."""
    reading = _find(request, number)
    step = machine.get(moves.KIND).move(move)
    if step is None or move not in STEPS:
        raise Http404
    data = {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    try:
        with transaction.atomic():
            if move == "send" and reading.centre == "imaging":
                _take_along(request.scope, reading, data)
            service.act(request.scope, number, move, data, looked, f"page:{request.scope.account_id}:{key}")
    except kernel.Refused as refusal:
        fresh = _find(request, number)
        failed = _offer(step, fresh, request.scope, data, key, refusal.errors)
        return render(request, "imaging/acquire_one.html", _context(request, fresh, failed), status=422)
    except kernel.MoveError as trouble:
        messages.error(request, str(trouble.text))
        return render(
            request, "imaging/acquire_one.html", _context(request, _find(request, number)), status=409
        )
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    back = request.POST.get("_back")
    return redirect("imaging:worklist") if back == "list" else redirect("imaging:acquire", number)


def _take_along(scope: Scope, reading: Reading, data: dict[str, Any]) -> None:
    """Before images are sent by hand: which study it is; and when the gate returned it, why it goes to the reader all the same."""
    rows = Reading.objects.unscoped("reached within the scope").select_for_update(of=("self",))
    locked = rows.select_related("case").get(pk=reading.pk)
    study = gate.present(locked)
    if study is None or locked.case.state not in moves.BEFORE:
        return
    quality = (
        Quality.objects.unscoped("the order was reached within the scope")
        .filter(study_uid=study.study_uid)
        .first()
    )
    if quality is None or quality.images != study.instances:
        quality = gate.judged(locked, study, quality)
    if quality.stands:
        reason = str(data.get("note", "")).strip()
        if not reason:
            raise kernel.Refused(
                {"note": T("质控已退回：仍要送诊请写明理由，否则请重做。", "The quality gate returned it: say why it is to be read all the same, or take it again.")}
            )  # fmt: skip
        quality.anyway, quality.anyway_by = reason[:300], scope.account_id
        quality.save(update_fields=["anyway", "anyway_by"])
    locked.study_uid = study.study_uid
    locked.facts = locked.facts | {"quality": quality.verdict, "images": study.instances}
    locked.save(update_fields=["study_uid", "facts"])


@page(may="acquire")
@require_POST
def upload(request: HttpRequest, number: str) -> HttpResponse:
    """Take files of an order; every file that is not taken is named with its reason."""
    reading = _find(request, number)
    if reading.centre != "imaging":
        raise Http404
    files = request.FILES.getlist("files")
    context: dict[str, Any] = {}
    status = 200
    if reading.case.state not in moves.BEFORE:
        messages.error(
            request, str(T("该检查已送诊，不能再上传。", "It has been sent already; nothing can be added."))
        )
        status = 409
    elif not files:
        messages.error(request, str(T("请选择文件。", "Choose a file.")))
        status = 422
    else:
        outcomes = uploading.accept(request.scope, reading, files)
        bad = [o for o in outcomes if not o.ok]
        good = len(outcomes) - len(bad)
        if good:
            messages.success(request, str(T("已收入 {n} 个文件。", "{n} files taken.").format(n=str(good))))
        if not bad:
            return redirect("imaging:acquire", number)
        context, status = {"outcomes": bad[:50], "more": max(0, len(bad) - 50)}, 422
    return render(
        request,
        "imaging/acquire_one.html",
        _context(request, _find(request, number)) | context,
        status=status,
    )


@page(may="acquire")
@require_POST
def rate(request: HttpRequest, number: str) -> HttpResponse:
    """The technician's own grade of the images."""
    reading = _find(request, number)
    grade = request.POST.get("rating", "")
    if grade not in RATINGS:
        raise Http404
    with transaction.atomic():
        rows = Reading.objects.unscoped("reached within the scope").select_for_update(of=("self",))
        locked = rows.get(pk=reading.pk)
        locked.facts = locked.facts | {"rating": grade}
        locked.save(update_fields=["facts"])
        audit.write(
            request.scope,
            "update",
            person_id=reading.person_id,
            what=f"order {number}",
            detail={"rating": grade},
        )
    messages.success(
        request, str(T("已记录自评：{grade}", "Your grade is kept: {grade}").format(grade=RATINGS[grade]))
    )
    return redirect("imaging:acquire", number)
