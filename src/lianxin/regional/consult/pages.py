"""Pages of consultations: mine to ask, to answer, the desk's; one consultation with its materials beside the opinion; its moves."""

from __future__ import annotations

import uuid
from typing import Any, cast

import orjson
from django import forms as django_forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships, seal
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms, journey, kernel
from lianxin.duty.machine import Move
from lianxin.duty.models import Case, Duty
from lianxin.record import readable, store, timeline
from lianxin.regional.consult import effects, fees, guards, moves, pool, print, service, video
from lianxin.regional.consult.models import (
    Agreed,
    Consult,
    Draft,
    Evaluation,
    Expert,
    Material,
    Opinion,
    Seat,
    Share,
)
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 30
TABS = {
    "answer": T("待我会诊", "For me to answer"),
    "asked": T("我的申请", "Asked by us"),
    "desk": T("会诊中心", "Desk"),
    "over": T("已结束", "Over"),
}
_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}
_LISTS = ("experts",)
EDITED = {"opine": "opinion", "conclude": "summary"}
"""Moves that are written in the editor, and the draft that keeps what is typed for them."""
OPEN = tuple(s.code for s in moves.STATES if not s.terminal)


# ------------------------------------------------------------------------------------------------------------ lists


def _rows(scope: Scope, tab: str) -> Any:
    mine = scope.institution_ids
    rows = Consult.objects.unscoped("consultations in which one's own institution plays a part")
    at_table = (
        Seat.objects.unscoped("seats of one's own institution")
        .filter(institution_id__in=mine)
        .exclude(state="left")
    )
    if tab == "asked":
        rows = rows.filter(requester_id__in=mine, live=True)
    elif tab == "desk":
        rows = rows.filter(desk_id__in=mine | scope.oversight_ids, live=True)
    elif tab == "over":
        party = Q(requester_id__in=mine) | Q(desk_id__in=mine) | Q(pk__in=at_table.values("consult_id"))
        rows = rows.filter(party, live=False)
        return rows.select_related("case", "person", "requester").order_by("-case__closed_at", "-pk")
    else:
        own = at_table.filter(Q(practitioner_id=scope.practitioner_id or 0) | Q(practitioner=None))
        rows = rows.filter(live=True, pk__in=own.values("consult_id")).exclude(case__state="concluded")
    return rows.select_related("case", "person", "requester", "case__owner_institution").order_by(
        "case__due_at", "pk"
    )


def _tabs(scope: Scope) -> dict[str, Text]:
    return {k: v for k, v in TABS.items() if k != "desk" or scope.may("run_consults")}


@page(may="consult")
def index(request: HttpRequest) -> HttpResponse:
    """Consultations by tab, most pressing first."""
    scope: Scope = request.scope
    tabs = _tabs(scope)
    tab = request.GET.get("tab", "")
    if tab not in tabs:
        tab = next((t for t in tabs if t != "over" and _rows(scope, t).exists()), "answer")
    lines = Paginator(_rows(scope, tab), PAGE).get_page(request.GET.get("page"))
    if lines.object_list:
        audit.write(
            scope, "search", what=f"consultations: {tab}", detail={"people": [c.person_id for c in lines]}
        )
    for line in lines:
        line.state_label = moves.MACHINE.state(line.case.state).label
        line.open_to = scope.clinical and (line.live or relationships.sees(scope, line.person_id))
    context = {
        "tab": tab,
        "tabs": tabs,
        "lines": lines,
        "counts": {t: _rows(scope, t).count() for t in tabs if t != "over"},
    }
    return render(request, "consult/index.html", context)


@page(may="consult")
def experts(request: HttpRequest) -> HttpResponse:
    """The expert pool with its load; whoever runs consultations adds and changes experts here."""
    specialty = request.GET.get("specialty", "").strip()[:20]
    lines = pool.lines(specialty)
    context = {
        "lines": lines, "specialty": specialty, "may_run": request.scope.may("run_consults"),
        "specialties": sorted({(x.expert.specialty, str(x.expert.department.label)) for x in pool.lines() if x.expert.department}),
    }  # fmt: skip
    return render(request, "consult/experts.html", context)


class ExpertForm(django_forms.Form):
    """What may be changed of an expert."""

    fee = django_forms.DecimalField(
        label=T("会诊费（元）", "Fee (yuan)"), min_value=0, max_value=100_000, decimal_places=2
    )
    most_open = django_forms.IntegerField(
        label=T("同时最多（个）", "At most at a time"), min_value=1, max_value=20
    )
    good_at = django_forms.CharField(label=T("擅长", "Good at"), max_length=200, required=False)
    active = django_forms.BooleanField(label=T("在库（可被邀请）", "In the pool"), required=False)


@page(may="run_consults")
def expert(request: HttpRequest, pk: int) -> HttpResponse:
    """One expert of an institution one runs or oversees: fee, load, what they are good at, in the pool or not."""
    scope: Scope = request.scope
    row = Expert.objects.select_related("practitioner", "institution", "department").filter(
        pk=pk, institution_id__in=scope.institution_ids | scope.oversight_ids
    ).first()  # fmt: skip
    if row is None:
        raise Http404
    start = {"fee": row.fee.yuan(), "most_open": row.most_open, "good_at": row.good_at, "active": row.active}
    form = ExpertForm(request.POST or None, initial=start)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        row.fee_fen, row.most_open = int(data["fee"] * 100), data["most_open"]
        row.good_at, row.active = data["good_at"], data["active"]
        row.save(update_fields=["fee_fen", "most_open", "good_at", "active"])
        audit.write(scope, "update", what=f"consultation expert {row.pk}")
        messages.success(request, str(T("已保存。", "Saved.")))
        return redirect("consult:experts")
    return render(
        request, "consult/expert.html", {"row": row, "form": form}, status=422 if form.errors else 200
    )


@page(may="run_consults")
def money(request: HttpRequest) -> HttpResponse:
    """This month's shares of the own and overseen institutions, and their sum."""
    scope: Scope = request.scope
    rows = fees.month(scope.institution_ids | scope.oversight_ids)
    lines = Paginator(rows, PAGE).get_page(request.GET.get("page"))
    total = sum(rows.values_list("fen", flat=True))
    return render(
        request, "consult/fees.html", {"lines": lines, "total": f"{total / 100:.2f}", "today": clock.today()}
    )


# ------------------------------------------------------------------------------------------------------------ one


def find(request: HttpRequest, number: str) -> tuple[Case, Consult]:
    """A consultation in which one's institution plays a part, or whose patient one cares for; 404 otherwise."""
    case = (
        Case.objects.within(request.scope)
        .select_related("person")
        .filter(number=number, kind=moves.KIND)
        .first()
    )
    consult = effects.load(case) if case is not None else None
    if case is None or consult is None:
        raise Http404
    return case, consult


def _readable(request: HttpRequest, case: Case) -> bool:
    return bool(request.scope.clinical and relationships.sees(request.scope, case.patient_id))


def _offer(
    step: Move,
    case: Case,
    scope: Scope,
    data: Any = None,
    key: str = "",
    errors: dict[str, Text] | None = None,
) -> dict[str, Any]:
    form = None
    if step.form is not None:
        ctx = kernel.context(case, scope)
        form = (
            forms.bind(step.form, data, ctx)
            if data is not None
            else cast(type[forms.MoveForm], step.form)(ctx=ctx, initial=_initial(step, ctx))
        )
        if data is not None:
            forms.refuse(form, errors or {})
    return {
        "move": step, "form": form, "key": key or uuid.uuid4().hex, "open": data is not None, "table": step.name in ("assign", "reassign"),
        "tone": _TONES.get(step.tone, "btn-outline-secondary"),
    }  # fmt: skip


def _initial(step: Move, ctx: Any) -> dict[str, Any]:
    subject: Consult = ctx.subject
    if step.name in EDITED:
        draft = service.draft_of(ctx.by, subject, EDITED[step.name])
        if draft is not None:
            return dict(draft.content)
        own = guards.mine(ctx)
        rows = (
            Opinion.objects.unscoped("one's own opinion")
            .filter(consult=subject, seat=own)
            .order_by("-version")
            if own
            else []
        )
        last = next(iter(rows), None)
        return {"impression": last.impression, "advice": last.advice} if last else {}
    if step.name == "amend":
        rows = (
            Opinion.objects.unscoped("the summary in force")
            .filter(consult=subject, seat=None)
            .order_by("-version")
        )
        last = rows.first()
        return {"impression": last.impression, "advice": last.advice} if last else {}
    if step.name in ("assign", "reassign", "accept", "reschedule") and subject.scheduled_at:
        return {"scheduled_at": subject.scheduled_at.astimezone(clock.ZONE)}
    return {}


def context_of(
    request: HttpRequest, case: Case, consult: Consult, failed: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Everything one consultation's page shows. Only who may read the person's record sees words about them."""
    scope: Scope = request.scope
    offers = [_offer(step, case, scope) for step in kernel.buttons(case, scope)]
    if failed is not None:
        names = {o["move"].name for o in offers}
        offers = [failed if o["move"].name == failed["move"].name else o for o in offers]
        offers += [failed] if failed["move"].name not in names else []
    editor = next((o for o in offers if o["move"].name == "conclude"), None) or next(
        (o for o in offers if o["move"].name == "opine"), None
    )
    may_read = _readable(request, case)
    seats, ctx = guards.seats(consult), kernel.context(case, scope)
    own = guards.mine(ctx)
    acts = journey.log(case)
    audit.write(scope, "read", person_id=case.person_id, what=f"{case.kind} {case.number}")
    opinions = list(
        Opinion.objects.unscoped("the case was reached within the scope").filter(consult=consult).select_related("seat", "institution").order_by("signed_at")
    ) if may_read else []  # fmt: skip
    return {
        "case": case, "c": consult, "person": case.patient, "may_read": may_read, "seats": seats, "own": own,
        "offers": [o for o in offers if o is not editor], "editor": editor,
        "editor_draft": EDITED.get(editor["move"].name, "") if editor else "",
        "steps": journey.journey(case, acts), "state": moves.MACHINE.state(case.state).label,
        "log": [_said(act, may_read) for act in reversed(acts)],
        "duties": list(Duty.objects.unscoped("the case was reached within the scope").filter(case=case, ended="").select_related("owner_institution").order_by("due_at")),
        "materials": service.materials(consult) if may_read else [], "agreed": Agreed.objects.unscoped("the case was reached within the scope").defer("scan").filter(pk=consult.pk).first(),
        "opinions": opinions, "summary": next((o for o in reversed(opinions) if o.seat_id is None), None),
        "shares": list(Share.objects.unscoped("the case was reached within the scope").filter(consult=consult).select_related("institution", "practitioner").order_by("pk"))
        if own or "requester" in ctx.mine or "desk" in ctx.mine else [],
        "evaluations": list(Evaluation.objects.unscoped("the case was reached within the scope").filter(consult=consult).select_related("institution")),
        "may_judge": case.state in ("concluded", "done") and _may_judge(scope, consult), "scores": range(5, 0, -1),
        "video": video.link(consult, scope.name, moderator=bool(own and own.host)) if may_read and (own or "requester" in ctx.mine) else "",
        "video_on": bool(video.base()), "may_add": "requester" in ctx.mine and case.state in OPEN and case.state != "concluded" and scope.may("consult"),
        "pool": pool.lines(at=consult.scheduled_at) if any(o["table"] for o in offers) else [], "pool_specialty": consult.specialty,
        "allergies": [a["title"] for a in timeline.banner(scope, case.patient_id, noted=True).allergies] if may_read else None,
    }  # fmt: skip


def _may_judge(scope: Scope, consult: Consult) -> bool:
    side = service.side_of(scope, consult)
    held = Evaluation.objects.unscoped("one's own side").filter(
        consult=consult, side=side, institution_id=scope.institution_id or 0
    )
    return bool(side) and scope.may("consult") and not scope.machine and not held.exists()


def _said(act: Any, may_read: bool) -> dict[str, Any]:
    step = moves.MACHINE.move(act.move)
    return {
        "act": act,
        "label": step.label if step else act.move,
        "text": (act.form.get("reason") or "") if may_read else "",
    }


@page()
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One consultation: where it stands, what is asked, the materials beside the opinion, what was said, what may be done."""
    case, consult = find(request, number)
    return render(request, "consult/show.html", context_of(request, case, consult))


def posted(request: HttpRequest) -> dict[str, Any]:
    """A form's fields as plain values; those that may repeat as lists."""
    fields = {
        k: v
        for k, v in request.POST.items()
        if not k.startswith("_") and k not in ("csrfmiddlewaretoken", *_LISTS)
    }
    return fields | {name: request.POST.getlist(name) for name in _LISTS if name in request.POST}


@page()
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move."""
    case, consult = find(request, number)
    step = moves.MACHINE.move(move)
    if step is None or step.system or not step.sources:
        raise Http404
    if request.method != "POST":
        return redirect("consult:show", case.number)
    data = posted(request)
    key, version = request.POST.get("_key", "")[:64] or uuid.uuid4().hex, request.POST.get("_version", "")
    looked = int(version) if version.isascii() and version.isdigit() and len(version) < 9 else None
    try:
        service.act(request.scope, case.number, move, data, looked, f"page:{request.scope.account_id}:{key}")
    except kernel.Refused as refusal:
        failed = _offer(step, case, request.scope, data, key, refusal.errors)
        return render(request, "consult/show.html", context_of(request, case, consult, failed), status=422)
    except kernel.MoveError as trouble:
        messages.error(request, trouble.text)
        case, consult = find(request, number)
        kept = (
            _offer(step, case, request.scope, data)
            if isinstance(trouble, kernel.Stale) and step.form
            else None
        )
        if kept is not None and not any(a.name == move and a.ok for a in kernel.allowed(case, request.scope)):
            kept = None
        return render(request, "consult/show.html", context_of(request, case, consult, kept), status=409)
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    return redirect("consult:show", case.number)


@require_POST
@page()
def draft(request: HttpRequest, number: str) -> HttpResponse:
    """Keep what is typed; answers with the words beside the editor."""
    find(request, number)
    try:
        row: Draft = service.save_draft(
            request.scope, number, request.POST.get("_kind", ""), request.POST.dict()
        )
    except kernel.MoveError as trouble:
        return HttpResponse(str(trouble.text), status=409, content_type="text/plain; charset=utf-8")
    said = T("草稿已保存 {at}", "Draft saved {at}").format(
        at=f"{row.saved_at.astimezone(clock.ZONE):%H:%M:%S}"
    )
    return HttpResponse(str(said), content_type="text/plain; charset=utf-8")


@page()
def material(request: HttpRequest, number: str, pk: int) -> HttpResponse:
    """One material as people read it: beside the opinion (htmx), or as a page of its own."""
    case, consult = find(request, number)
    row = (
        Material.objects.unscoped("the case was reached within the scope")
        .filter(consult=consult, pk=pk)
        .first()
    )
    if row is None:
        raise Http404
    relationships.require(request.scope, case.patient_id)
    rtype, _, rid = row.ref.partition("/")
    with connection.cursor() as cursor:
        held = store.read(cursor, request.scope, rtype, rid)
    known = held is not None and held.status == 200 and held.person_id == case.person_id
    audit.write(request.scope, "read", person_id=case.person_id, what=row.ref)
    context = {
        "m": row,
        "case": case,
        "person": case.patient,
        "document": readable.sheet(orjson.loads(held.body)) if known and held else None,
    }
    live = request.headers.get("HX-Request") == "true"
    return render(request, "consult/_material.html" if live else "consult/material.html", context)


@require_POST
@page(may="consult")
def evaluate(request: HttpRequest, number: str) -> HttpResponse:
    """How the other side was."""
    case, _ = find(request, number)
    score = request.POST.get("score", "")
    try:
        service.evaluate(
            request.scope,
            number,
            int(score) if score.isascii() and score.isdigit() and len(score) < 3 else 0,
            request.POST.get("note", ""),
        )
        messages.success(request, str(T("已评价，谢谢。", "Thank you.")))
    except kernel.Refused as refusal:
        messages.error(request, str(next(iter(refusal.errors.values()))))
    except kernel.MoveError as trouble:
        messages.error(request, trouble.text)
    return redirect("consult:show", case.number)


@page(clinical=True)
def paper(request: HttpRequest, number: str) -> HttpResponse:
    """The opinion (会诊意见书) as PDF, once it is signed."""
    case, consult = find(request, number)
    relationships.require(request.scope, case.patient_id)
    if consult.concluded_at is None:
        raise Http404
    audit.write(request.scope, "print", person_id=case.person_id, what=f"consult {case.number}")
    return _pdf(print.opinion(case, consult), f"{case.number}.pdf")


@page(clinical=True)
def consent_scan(request: HttpRequest, number: str) -> HttpResponse:
    """The signed consent form as it was uploaded."""
    case, consult = find(request, number)
    relationships.require(request.scope, case.patient_id)
    row = Agreed.objects.unscoped("the case was reached within the scope").filter(pk=consult.pk).first()
    if row is None or not row.scan:
        raise Http404
    audit.write(request.scope, "read", person_id=case.person_id, what=f"consult {case.number} consent form")
    answer = HttpResponse(seal.unseal_bytes(bytes(row.scan)), content_type=row.scan_type)
    answer.headers["Content-Disposition"] = "inline"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


def _pdf(content: bytes, name: str) -> HttpResponse:
    answer = HttpResponse(content, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'inline; filename="{name}"'
    return answer


def address(number: str) -> str:
    """Where a consultation is."""
    return reverse("consult:show", args=[number])
