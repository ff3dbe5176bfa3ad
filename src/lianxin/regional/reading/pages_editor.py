"""The report editor: the centre's panel on the left, the report on the right; saving, and the moves of the machine's table.

Whatever is typed travels with every button, so that nothing depends on a script: the draft is saved first, then the move is made on what
was saved. A claim that was lost answers with everything that was typed still on the page.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import forms as duty_forms
from lianxin.duty import journey, kernel
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.duty.machine import Move
from lianxin.duty.models import Act
from lianxin.regional.reading import (
    amendment,
    content,
    critical_form,
    errors,
    hooks,
    moves,
    reports,
    service,
    templates,
    view,
)
from lianxin.regional.reading.effects import items_text
from lianxin.regional.reading.forms import DECISIONS
from lianxin.regional.reading.models import SCORES, SEATS, Entry, Reader, Reading, Report
from lianxin.standards import clock
from lianxin.standards.text import T, Text

WRITING = ("sign", "propose", "approve")
"""Moves that go out with what is in the editor."""
_TONES = {"primary": "btn-primary", "danger": "btn-outline-danger"}
_WITH = ("case", "person", "orderer", "performer", "centre_of", "origin", "practitioner")


@dataclass
class Desk:
    """One study as one reader stands before it."""

    scope: Scope
    reading: Reading
    reader: Reader | None
    seats: list[Entry]

    @property
    def mine(self) -> Entry | None:
        """The seat they hold."""
        me = self.scope.account_id
        return next((e for e in self.seats if e.state == "claimed" and e.account_id == me), None)

    @property
    def waiting(self) -> Entry | None:
        """A seat that waits."""
        return next((e for e in self.seats if e.state == "waiting"), None)

    def draft(self) -> Report | None:
        """What they write on (or approve)."""
        entry = self.mine
        if entry is None:
            return None
        rows = Report.objects.unscoped("the holder's own seat").filter(reading=self.reading)
        if entry.seat == "approve":
            found: Report | None = rows.filter(seat="first", state="proposed").first()
            return found
        own: Report | None = rows.filter(
            seat=entry.seat, state="draft", account_id=self.scope.account_id
        ).first()
        return own


def find(request: HttpRequest, number: str) -> Desk:
    """The study of this number at a centre of one's own institution; 404 otherwise."""
    scope = request.scope
    reading = (
        Reading.objects.within(scope)
        .select_related(*_WITH)
        .filter(case__number=number, case__kind=moves.KIND, centre_of_id__in=scope.institution_ids)
        .first()
    )
    if reading is None:
        raise Http404
    reader = Reader.objects.filter(
        account_id=scope.account_id or 0, institution_id=reading.centre_of_id, centre=reading.centre, active=True
    ).first()  # fmt: skip
    seats = Entry.objects.unscoped("the work was reached within the scope").filter(
        reading=reading, state__in=("waiting", "claimed")
    )
    return Desk(scope, reading, reader, list(seats.order_by("pk")))


# ------------------------------------------------------------------------------------------------------------- the page


def _offer(step: Move, desk: Desk, failed: dict[str, Any] | None) -> dict[str, Any]:
    """A move with its form; ``failed`` is what was sent and refused (data, errors, key)."""
    form = None
    if step.form is not None and step.name not in WRITING:
        initial = None
        if step.name == "amend" and (now := reports.issued(desk.reading)) is not None:
            initial = {"findings": now.findings, "conclusion": now.conclusion, "positive": now.positive, "seen": reports.mark(now)}  # fmt: skip
        form = step.form(initial=initial)
        if failed is not None:
            form = duty_forms.bind(step.form, failed["data"], kernel.context(desk.reading.case, desk.scope))
            duty_forms.refuse(form, failed["errors"])
    return {
        "move": step, "form": form, "open": failed is not None, "key": (failed or {}).get("key") or uuid.uuid4().hex,
        "tone": _TONES.get(step.tone, "btn-outline-secondary"),
    }  # fmt: skip


def _moves(desk: Desk, failed: dict[str, Any] | None) -> list[dict[str, Any]]:
    """What may be done now. The second reader's score comes after their own report is complete; who holds the study returns or withdraws it."""
    entry, draft = desk.mine, desk.draft()
    out = []
    for step in kernel.buttons(desk.reading.case, desk.scope):
        if step.name == "second" and (draft is None or draft.completed_at is None):
            continue
        if step.name in ("return_retake", "withdraw") and entry is None:
            continue
        if step.name == "acknowledge":  # the orderer's, on the orderer's page
            continue
        out.append(_offer(step, desk, failed if failed and failed["move"] == step.name else None))
    if desk.reading.case.state == "acknowledged" and desk.reader is not None and desk.reader.signs:
        step = moves.MACHINE.by_move["amend"]
        out.append(_offer(step, desk, failed if failed and failed["move"] == "amend" else None))
    return out


def _panel(request: HttpRequest, desk: Desk) -> dict[str, Any]:
    centre = hooks.centre(desk.reading.centre)
    if not centre.panel:
        return {"panel": ""}
    return {"panel": centre.panel, **centre.panel_context(request.scope, desk.reading)}


def _write(desk: Desk, typed: dict[str, Any] | None) -> dict[str, Any]:
    """What the editor's fields hold: what was typed and refused, else the draft, else the template asked for."""
    draft, reader = desk.draft(), desk.reader
    assert reader is not None
    fitting = templates.fitting(reader, desk.reading)
    code = (typed or {}).get("template", draft.template if draft else "")
    chosen = next((t for t in fitting if t.code == code), None)
    values = dict(draft.structured) if draft else {}
    if typed:
        values |= {k[6:]: v for k, v in typed.items() if k.startswith("field_")}
    positive = {True: "yes", False: "no", None: ""}[draft.positive if draft else None]
    return {
        "draft": draft, "mark": reports.mark(draft) if draft else "", "templates": fitting, "chosen": chosen,
        "fields": [{"spec": f, "label": T(f["label"], f.get("label_en") or f["label"]), "value": values.get(f["name"], "")} for f in (chosen.fields if chosen else [])],
        "phrases": [p for t in ([chosen] if chosen else fitting[:3]) for p in t.phrases],
        "findings": (typed or {}).get("findings", draft.findings if draft else ""),
        "conclusion": (typed or {}).get("conclusion", draft.conclusion if draft else ""),
        "measurements": (typed or {}).get("measurements", content.measured_text(draft.measurements) if draft else ""),
        "key_images": (typed or {}).get("key_images", content.images_text(draft.key_images) if draft else ""),
        "positive": (typed or {}).get("positive", positive), "positives": [("", T("未标注", "Not marked")), ("yes", view.POSITIVE[True]), ("no", view.POSITIVE[False])],
    }  # fmt: skip


def _context(
    request: HttpRequest,
    desk: Desk,
    *,
    failed: dict[str, Any] | None = None,
    typed: dict[str, Any] | None = None,
    trouble: Text | None = None,
    faults: dict[str, Text] | None = None,
    lost: bool = False,
) -> dict[str, Any]:
    reading, scope, entry = desk.reading, desk.scope, desk.mine
    log = journey.log(reading.case)
    blind = reading.issued_at is None and reading.case.state == "second_read"
    context: dict[str, Any] = {
        "reading": reading, "case": reading.case, "person": reading.person, "items": items_text(reading),
        "state": moves.MACHINE.state(reading.case.state).label, "reader": desk.reader, "entry": entry, "waiting": desk.waiting,
        "taken": next((e for e in desk.seats if e.state == "claimed" and e is not entry), None),
        "steps": [] if blind else journey.journey(reading.case, log), "blind": blind, "log": [] if blind else _said(log),
        "shown": view.report_of(reading), "both": view.compared(reading, scope, desk.seats), "review": view.review_of(reading),
        "priors": view.priors(scope, reading), "moves": _moves(desk, failed), "trouble": trouble, "faults": faults or {}, "lost": lost,
        "typed": typed or {}, "key": uuid.uuid4().hex, "experts": [], "now": clock.now(), "account_id": scope.account_id,
        "critical": critical_form.form_for(reading) if desk.reader is not None else None, "amend_cases": _amend_cases(reading),
        **_panel(request, desk),
    }  # fmt: skip
    if context["review"] and not context["both"]:
        context["review"] = None
    review = context["review"]
    if review is not None:
        context |= {
            "score_label": SCORES[review.score],
            "decided_label": dict(DECISIONS).get(review.decided, ""),
        }
    if entry is not None and desk.reader is not None:
        left = entry.lease_until - context["now"] if entry.lease_until else None
        context |= {
            "seat_label": SEATS[entry.seat],
            "seconds_left": max(int(left.total_seconds()), 0) if left else 0,
        }
        context |= _write(desk, typed) | {"experts": _experts(desk, entry)}
        context["frozen"] = bool(context["draft"] and context["draft"].completed_at)
        writes = [m for m in context["moves"] if m["move"].name in WRITING]
        context["writes"] = sorted(writes, key=lambda m: m["move"].name == "propose")
        for later in context["writes"][1:]:  # one of them is the next thing to do
            later["tone"] = "btn-outline-primary"
    context["others"] = [m for m in context["moves"] if m["move"].name not in WRITING]
    return context


def _amend_cases(reading: Reading) -> list[Any]:
    rows = reading.amendments.model.objects.unscoped("the work was reached within the scope")
    return list(rows.filter(reading=reading).select_related("case").order_by("pk"))


def _experts(desk: Desk, entry: Entry) -> list[Reader]:
    rows = Reader.objects.filter(
        institution_id=entry.institution_id, centre=entry.centre, active=True, expert=True, modalities__contains=[entry.modality]
    ).exclude(account_id__in=[*entry.excluded, desk.scope.account_id])  # fmt: skip
    if entry.seat in ("approve", "arbitrate"):
        rows = rows.filter(approves=True)
    if entry.seat == "second":
        rows = rows.filter(signs=True)
    return list(rows.select_related("account").order_by("pk"))


def _said(acts: list[Any]) -> list[dict[str, Any]]:
    out = []
    for act in acts:
        step = moves.MACHINE.move(act.move)
        words = act.form.get("reason") or act.form.get("note") or ""
        out.append({"act": act, "label": step.label if step else act.move, "text": words})
    return out


def _page(request: HttpRequest, desk: Desk, status: int = 200, **more: Any) -> HttpResponse:
    audit.write(
        request.scope, "read", person_id=desk.reading.person_id, what=f"reading {desk.reading.case.number}"
    )
    return render(request, "reading/show.html", _context(request, desk, **more), status=status)


@page(may="read_studies")
def show(request: HttpRequest, number: str) -> HttpResponse:
    """One study: read it, or write its report when one holds it."""
    desk = find(request, number)
    asked = request.GET.get("template", "")[:40]
    typed = None
    if asked and desk.mine is not None and desk.reader is not None and desk.draft() is None:
        chosen = templates.of_reader(desk.reader).filter(code=asked).first()
        if chosen is not None:
            typed = {"template": chosen.code, "findings": chosen.findings, "conclusion": chosen.conclusion, "positive": "yes" if chosen.positive else ""}  # fmt: skip
    return _page(request, desk, typed=typed)


# ------------------------------------------------------------------------------------------------------------- writing


def _typed(request: HttpRequest) -> dict[str, Any]:
    return {k: v for k, v in request.POST.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}


def _save(request: HttpRequest, desk: Desk) -> Report:
    """Save what was sent into the held seat. Raises NotAllowed when it is lost, Refused for what cannot be kept."""
    if desk.reader is None:
        raise errors.no_reader()
    return service.save_draft(
        request.scope, desk.reading.case.number, request.POST.get("token", ""), content.typed(_typed(request), desk.reader)
    )  # fmt: skip


@page(may="read_studies")
@require_POST
def save(request: HttpRequest, number: str) -> HttpResponse:
    """Keep the draft and renew the lease. A script asks for JSON and gets the new mark; a form is sent back to the page."""
    desk = find(request, number)
    wants = request.headers.get("Accept", "").startswith("application/json")
    try:
        report = _save(request, desk)
    except Refused as refusal:
        if wants:
            return JsonResponse({"errors": {k: str(v) for k, v in refusal.errors.items()}}, status=422)
        return _page(request, desk, 422, typed=_typed(request), faults=refusal.errors)
    except NotAllowed as refusal:
        if wants:
            return JsonResponse({"lost": str(refusal.text)}, status=409)
        return _page(request, find(request, number), 409, typed=_typed(request), trouble=refusal.text, lost=True)  # fmt: skip
    if wants:
        until = service.held(request.scope, number).lease_until
        left = int((until - clock.now()).total_seconds()) if until else 0
        return JsonResponse(
            {"mark": reports.mark(report), "seconds": left, "saved": f"{clock.now():%H:%M:%S}"}
        )
    messages.success(request, str(T("草稿已保存。", "Draft saved.")))
    return redirect("reading:show", number)


@page(may="read_studies")
@require_POST
def renew(request: HttpRequest, number: str) -> HttpResponse:
    """Lengthen the lease of somebody who is looking and not typing."""
    desk = find(request, number)
    try:
        until = service.renew(request.scope, desk.reading.case.number, request.POST.get("token", ""))
    except NotAllowed as refusal:
        return JsonResponse({"lost": str(refusal.text)}, status=409)
    return JsonResponse({"seconds": int((until - clock.now()).total_seconds())})


@page(may="read_studies")
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """Make a move; what is in the editor is saved first when it was sent along."""
    desk = find(request, number)
    step = moves.MACHINE.move(move)
    if step is None or step.system or not step.sources or move == "acknowledge":
        raise Http404
    if request.method != "POST":
        return redirect("reading:show", number)
    data, key = _typed(request), request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    own = f"page:{request.scope.account_id}:{key}"
    try:
        form = data
        if move in WRITING:
            form = {"saved": _signed_before(own) or _sent(request, desk, own)}
        done = (
            service.amend(request.scope, number, data, own)
            if move == "amend"
            else service.act(request.scope, number, move, form, None, own)
        )
    except Refused as refusal:
        if move in WRITING:
            return _page(request, find(request, number), 422, typed=data, faults=refusal.errors)
        failed = {"move": move, "data": data, "errors": refusal.errors, "key": key}
        return _page(request, find(request, number), 422, failed=failed)
    except MoveError as trouble:
        fresh = find(request, number)
        lost = move in WRITING and fresh.mine is None
        return _page(request, fresh, 409, typed=data if move in WRITING else None, trouble=trouble.text, lost=lost)  # fmt: skip
    messages.success(request, str(T("已办理：{move}", "Done: {move}").format(move=step.label)))
    if done.case.kind == amendment.KIND:
        return redirect("reading:amended", done.case.number)
    return redirect("reading:show", number)


def _sent(request: HttpRequest, desk: Desk, key: str) -> str:
    """Save the editor's content and return the mark of what will be signed."""
    if "findings" not in request.POST and "conclusion" not in request.POST:
        return request.POST.get("mark", "")
    try:
        return reports.mark(_save(request, desk))
    except NotAllowed:
        if before := _signed_before(key):  # the other press of the same button was faster
            return before
        raise


def _signed_before(key: str) -> str:
    """What was signed by the same request, "" when there was none: a second press of a button changes nothing."""
    act = Act.objects.filter(key=key).first()
    return str(act.form.get("saved", "")) if act is not None else ""


@page(may="read_studies")
@require_POST
def complete(request: HttpRequest, number: str) -> HttpResponse:
    """The blind second reader's own report is whole: save it, close it, show the first beside it."""
    desk = find(request, number)

    def work() -> None:
        draft = desk.draft()
        if draft is None or draft.completed_at is None:
            _save(request, desk)
        service.complete(request.scope, number, request.POST.get("token", ""))

    return _do(request, number, work, T("双读已完成，可与初读对照评分。", "Complete; compare it with the first and give a score."))  # fmt: skip


@page(may="read_studies")
@require_POST
def give_back(request: HttpRequest, number: str) -> HttpResponse:
    """Give the study back to the queue; the draft is kept."""
    desk = find(request, number)

    def work() -> None:
        if "conclusion" in request.POST and desk.mine is not None and desk.mine.seat != "approve":
            _save(request, desk)
        service.give_back(request.scope, number, request.POST.get("reason", "")[:200])

    return _do(request, number, work, T("已退回队列，草稿已保留。", "Given back; your draft is kept."), to_queue=True)  # fmt: skip


@page(may="read_studies")
@require_POST
def hand_over(request: HttpRequest, number: str) -> HttpResponse:
    """Hand the study to an expert of the centre."""
    desk = find(request, number)
    given = request.POST.get("expert", "")
    entry = desk.mine
    experts = _experts(desk, entry) if entry is not None else []
    to = next((r for r in experts if str(r.pk) == given), None)

    def work() -> None:
        if entry is None:
            raise errors.claim_lost()
        if to is None:
            raise Refused({"expert": T("请选择专家。", "Choose an expert.")})
        service.hand_over(request.scope, number, to, request.POST.get("reason", "")[:200])

    return _do(request, number, work, T("已转专家。", "Handed over."), to_queue=True)


def _do(
    request: HttpRequest, number: str, work: Callable[[], None], said: Text, *, to_queue: bool = False
) -> HttpResponse:
    try:
        work()
    except Refused as refusal:
        return _page(request, find(request, number), 422, typed=_typed(request), faults=refusal.errors)
    except MoveError as trouble:
        fresh = find(request, number)
        return _page(request, fresh, 409, typed=_typed(request), trouble=trouble.text, lost=fresh.mine is None)  # fmt: skip
    messages.success(request, str(said))
    return redirect("reading:queue") if to_queue else redirect("reading:show", number)


@page(may="read_studies")
@require_POST
def critical(request: HttpRequest, number: str) -> HttpResponse:
    """Report a critical value found in this study; it is notified, read back and escalated by its own room."""
    desk = find(request, number)
    if desk.reader is None:
        return _page(request, desk, 409, trouble=errors.no_reader().text)
    key = request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    try:
        done = critical_form.report(request.scope, desk.reading, request.POST, f"page:{request.scope.account_id}:{key}")  # fmt: skip
    except Refused as refusal:
        return _page(request, desk, 422, faults=refusal.errors)
    except MoveError as trouble:
        return _page(request, desk, 409, trouble=trouble.text)
    messages.success(request, str(T("危急值已报告：{no}", "Critical value reported: {no}").format(no=done)))
    return redirect("reading:show", number)


@page(may="read_studies")
def pdf(request: HttpRequest, number: str) -> HttpResponse:
    """The report on paper (PDF); printing is audited. 404 before it went out."""
    from lianxin.regional.reading import print as paper  # brings the typesetter with it

    desk = find(request, number)
    made = paper.pdf(desk.reading)
    if made is None:
        raise Http404
    audit.write(request.scope, "print", person_id=desk.reading.person_id, what=f"report {number}")
    response = HttpResponse(made, content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{number}.pdf"'
    return response
