"""The ECG centre's pages: the list, ordering with upload, one ECG (tracing, proposal, report, what came before), print, file, review."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import get_language
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty import machine
from lianxin.duty.errors import MoveError, NotAllowed, Refused
from lianxin.duty.forms import refuse
from lianxin.index import finding
from lianxin.index.models import Person
from lianxin.regional.ecg import drawing, importing, panel, rules, service
from lianxin.regional.ecg.models import Tracing
from lianxin.regional.reading import moves, queue, reports
from lianxin.regional.reading.models import Reading
from lianxin.standards.text import T, Text

PAGE = 30
TABS = {
    "open": T("待诊断", "To be read"),
    "done": T("已签发", "Issued"),
    "review": T("待核对归属", "Whose is it?"),
}
COMPLAINTS = (
    T("胸痛、胸闷", "Chest pain or tightness"),
    T("心悸", "Palpitations"),
    T("晕厥、黑矇", "Fainting"),
    T("气促", "Breathlessness"),
    T("高血压随访", "Hypertension follow-up"),
    T("体检", "Check-up"),
)
"""What village doctors write most: one tap each."""


class NewForm(forms.Form):
    """Order and upload on one page; the complaint may be chosen, typed, or both."""

    complaint = forms.MultipleChoiceField(
        label=T("症状", "Complaint"),
        required=False,
        choices=[(t.zh, t) for t in COMPLAINTS],
        widget=forms.CheckboxSelectMultiple,
    )
    indication = forms.CharField(
        label=T("补充说明", "More"), required=False, max_length=500, widget=forms.Textarea(attrs={"rows": 2})
    )
    priority = forms.ChoiceField(
        label=T("紧急程度", "Priority"), initial="routine",
        choices=[("routine", T("常规（30 分钟内）", "Routine (within 30 min)")), ("emergency", T("急诊（10 分钟内）", "Emergency (within 10 min)"))],
        widget=forms.RadioSelect,
    )  # fmt: skip
    file = forms.FileField(
        label=T("心电图数据文件", "ECG file"),
        error_messages={"required": T("请选择心电图机导出的数据文件。", "Choose the file exported by the device.")},
        help_text=T("DICOM、SCP、aECG 等 XML、MFER 或 CSV；不收照片。", "DICOM, SCP, aECG and other XML, MFER or CSV; no photographs."),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """Something must be said of why."""
        data = dict(super().clean() or {})
        words = "、".join(filter(None, (*data.get("complaint", []), (data.get("indication") or "").strip())))
        if not words:
            self.add_error("complaint", T("请选择或填写症状。", "Say why: choose a complaint or type one."))
        data["words"] = words
        return data


class FileForm(forms.Form):
    """A recording for an order."""

    file = forms.FileField(label=T("心电图数据文件", "ECG file"))


def _reading(scope: Scope, number: str) -> Reading:
    rows = Reading.objects.within(scope).select_related("case", "person", "orderer", "performer", "centre_of", "origin")  # fmt: skip
    found: Reading | None = rows.filter(case__number=number, centre="ecg").first()
    if found is None:
        raise Http404
    return found


# ---------------------------------------------------------------------------------------------------------------- the list


@page(may="see_orders")
def index(request: HttpRequest) -> HttpResponse:
    """ECGs of the own institution: what it ordered, recorded or reads; recordings whose owner somebody must check."""
    scope = request.scope
    tab = request.GET.get("tab", "open")
    tab = tab if tab in TABS else "open"
    q = request.GET.get("q", "").strip()[:40]
    rows, reviews = _rows(scope, tab, q), _reviews(scope)
    lines = Paginator(reviews if tab == "review" else rows, PAGE).get_page(request.GET.get("page"))
    if tab != "review":
        _decorate(list(lines))
    people = [line.reading.person_id if tab == "review" else line.person_id for line in lines]
    if people:
        audit.write(scope, "search", what=f"ecg list: {tab}", detail={"people": people})
    context = {
        "tab": tab, "tabs": TABS, "lines": lines, "q": q, "review_count": reviews.count(),
        "may_order": scope.may("order_tests") and scope.may("acquire"), "may_settle": scope.may("reconcile_images"),
    }  # fmt: skip
    return render(request, "ecg/index.html", context)


def _mine(scope: Scope) -> set[int]:
    return set(scope.institution_ids | scope.oversight_ids)


def _rows(scope: Scope, tab: str, q: str) -> Any:
    mine = _mine(scope)
    rows = Reading.objects.unscoped("one's own institution's").filter(centre="ecg")
    rows = rows.filter(orderer_id__in=mine) | rows.filter(performer_id__in=mine) | rows.filter(centre_of_id__in=mine)  # fmt: skip
    done = ("issued", "acknowledged")
    rows = rows.filter(case__state__in=done) if tab == "done" else rows.exclude(case__state__in=(*done, "cancelled"))  # fmt: skip
    if q:
        rows = (
            rows.filter(person__name__startswith=q) | rows.filter(case__number=q) | rows.filter(accession=q)
        )
    order = ("-issued_at", "-pk") if tab == "done" else ("report_due_at", "pk")
    return rows.select_related("case", "person", "orderer", "performer").order_by(*order)


def _reviews(scope: Scope) -> Any:
    mine = _mine(scope)
    rows = Tracing.objects.unscoped("one's own institution's").filter(state="review")
    rows = rows.filter(institution_id__in=mine) | rows.filter(reading__centre_of_id__in=mine)
    return rows.select_related("reading__case", "reading__person", "institution").order_by("-received_at")


def _decorate(lines: list[Reading]) -> None:
    found: dict[int, Tracing] = {}
    rows = Tracing.objects.unscoped("of the listed orders").filter(reading__in=lines, state="attached")
    for tracing in rows.select_related("proposal").defer("original", "samples").order_by("taken_at", "pk"):
        found[tracing.reading_id] = tracing
    m = machine.get(moves.KIND)
    for line in lines:
        tracing = found.get(line.pk)
        proposal = getattr(tracing, "proposal", None) if tracing else None
        line.tracing = tracing  # type: ignore[attr-defined]
        line.lines = proposal.lines()[:2] if proposal else []  # type: ignore[attr-defined]
        line.state_label = m.state(line.case.state).label  # type: ignore[attr-defined]


# --------------------------------------------------------------------------------------------------------- order and upload


@page(may="order_tests")
def new(request: HttpRequest) -> HttpResponse:
    """Find the person, say why, choose the file, send: the village doctor's two minutes."""
    scope = request.scope
    scope.demand("acquire")
    number = (request.POST.get("person") or request.GET.get("person", "")).strip()[:20]
    if not number:
        return _find(request)
    person = (
        Person.objects.unscoped("a number from the search").filter(number=number, status="active").first()
    )
    if person is None:
        raise Http404
    relationships.require(scope, person.pk)
    form, key, status = NewForm(), uuid.uuid4().hex, 200
    if request.method == "POST":
        form, status = NewForm(request.POST, request.FILES), 422
        key = request.POST.get("_key", "")[:64] or key
        if form.is_valid():
            done = _send(scope, person, form, key)
            if done is not None:
                return _taken(request, done)
    return render(request, "ecg/new.html", {"person": person, "form": form, "key": key}, status=status)


def _find(request: HttpRequest) -> HttpResponse:
    q = request.GET.get("q", "").strip()[:80]
    hits = finding.find(request.scope, q) if q else []
    return render(request, "ecg/find.html", {"q": q, "hits": hits})


def _send(scope: Scope, person: Person, form: NewForm, key: str) -> Tracing | None:
    """The recording taken; None when the form now says why not."""
    sent = form.cleaned_data["file"]
    data = sent.read(importing.MAX_BYTES + 1)
    try:
        return service.order_and_send(
            scope, person.pk, {"indication": form.cleaned_data["words"]}, sent.name or "", data,
            f"page:{scope.account_id}:{key}", priority=form.cleaned_data["priority"],
        )  # fmt: skip
    except Refused as refusal:
        refuse(form, refusal.errors)
    except MoveError as trouble:
        form.add_error(None, forms.ValidationError(trouble.text))
    return None


def _taken(request: HttpRequest, tracing: Tracing) -> HttpResponse:
    number = tracing.reading.case.number
    if tracing.state == "review":
        said = T("文件已收存，但没有归到此人名下：{why}。请核对是否选错了文件。", "The file is kept but not attached to this person: {why}. Check that it is the right file.")  # fmt: skip
        messages.warning(request, str(said.format(why=tracing.problem_words)))
    else:
        messages.success(request, str(T("已上传，正在等待诊断。", "Uploaded; it is waiting to be read.")))
    return redirect("ecg:show", number)


@page(may="acquire")
@require_POST
def upload(request: HttpRequest, number: str) -> HttpResponse:
    """A recording for an order that waits for one (or another recording while it is being read)."""
    reading = _reading(request.scope, number)
    form = FileForm(request.POST, request.FILES)
    errors: list[Text | str] = []
    if form.is_valid():
        sent = form.cleaned_data["file"]
        try:
            return _taken(request, service.take(request.scope, reading, sent.name or "", sent.read(importing.MAX_BYTES + 1)))  # fmt: skip
        except Refused as refusal:
            errors = list(refusal.errors.values())
        except MoveError as trouble:
            errors = [trouble.text]
    else:
        errors = [T("请选择心电图机导出的数据文件。", "Choose the file exported by the device.")]
    return render(
        request, "ecg/show.html", _context(request, reading) | {"upload_errors": errors}, status=422
    )


# ------------------------------------------------------------------------------------------------------------------ one ECG


def _context(request: HttpRequest, reading: Reading) -> dict[str, Any]:
    scope = request.scope
    look = drawing.look_of(request.GET)
    chosen = request.GET.get("recording", "")
    made = panel.traced(reading, look, int(chosen) if chosen.isascii() and chosen.isdigit() and len(chosen) < 15 else None)  # fmt: skip
    tracing = made["tracing"]
    previous = _previous(request, made["earlier"])
    state = reading.case.state
    performs = reading.performer_id in scope.institution_ids and scope.may("acquire")
    return made | {
        "person": reading.person, "case": reading.case, "state": machine.get(moves.KIND).state(state).label,
        "report": reports.issued(reading), "previous": previous,
        "previous_svg": drawing.draw(previous.wave, look) if previous else "",
        "may_upload": performs and state in (*moves.BEFORE, "queued", "proposed"),
        "may_confirm": tracing is not None and _reads(scope, reading), "criticals": rules.criticals(),
        "reviews": list(Tracing.objects.unscoped("the order's own").filter(reading=reading, state="review").defer("original", "samples")),
        "may_read": scope.may("read_studies") and reading.centre_of_id in scope.institution_ids,
        "english": (get_language() or "").startswith("en"),
    }  # fmt: skip


def _reads(scope: Scope, reading: Reading) -> bool:
    if not scope.may("read_studies") or reading.centre_of_id not in scope.institution_ids:
        return False
    try:
        queue.reader_of(scope, "ecg", reading.centre_of_id)
    except NotAllowed:
        return False
    return True


def _previous(request: HttpRequest, earlier: list[Tracing]) -> Tracing | None:
    asked = request.GET.get("compare", "")
    return next((t for t in earlier if str(t.pk) == asked), None)


@page(may="see_orders")
def show(request: HttpRequest, number: str) -> HttpResponse:
    """The tracing, what the machine proposes, the physician's report, earlier ECGs."""
    reading = _reading(request.scope, number)
    audit.write(request.scope, "read", person_id=reading.person_id, what=f"ecg {number}")
    return render(request, "ecg/show.html", _context(request, reading))


@gzip_page
@page(may="see_orders")
def trace(request: HttpRequest, number: str) -> HttpResponse:
    """The tracing alone, as the query asks for it: what the viewer puts in place of the one on the page."""
    reading = _reading(request.scope, number)
    made = panel.traced(reading, drawing.Look(), None)["recordings"]
    asked = request.GET.get("recording", "")
    rows = [*made, *(service.earlier(made[0]) if made else [])]
    tracing = next((t for t in rows if str(t.pk) == asked), made[0] if made and not asked else None)
    if tracing is None:
        raise Http404
    return HttpResponse(
        drawing.draw(tracing.wave, drawing.look_of(request.GET)), content_type="image/svg+xml"
    )


@page(may="see_orders")
@require_POST
def confirm(request: HttpRequest, number: str) -> HttpResponse:
    """A reader confirms a critical ECG."""
    reading = _reading(request.scope, number)
    try:
        done = service.confirm(request.scope, number, request.POST.get("code", ""), request.POST.get("note", ""))  # fmt: skip
    except Refused as refusal:
        context = _context(request, reading) | {"confirm_errors": list(refusal.errors.values())}
        return render(request, "ecg/show.html", context, status=422)
    except MoveError as trouble:
        messages.error(request, str(trouble.text))
        return redirect("ecg:show", number)
    said = T("已确认：{what}。危急值 {no} 已通知申请方。", "Confirmed: {what}. Critical value {no} is on its way to whoever ordered it.")  # fmt: skip
    messages.success(request, str(said.format(what=done.label, no=done.critical_number)))
    back = f"/reading/{number}"
    return redirect(back if request.POST.get("next") == back else f"/ecg/{number}")


@page(may="see_orders")
def original(request: HttpRequest, number: str, pk: int) -> HttpResponse:
    """The file exactly as the device sent it."""
    reading = _reading(request.scope, number)
    tracing = next((t for t in service.attached(reading) if t.pk == pk), None)
    if tracing is None:
        raise Http404
    audit.write(request.scope, "export", person_id=reading.person_id, what=f"ecg {number}", detail={"sha256": tracing.sha256})  # fmt: skip
    response = HttpResponse(tracing.bytes_as_sent(), content_type="application/octet-stream")
    suffix = {"DICOM": "dcm", "SCP-ECG": "scp", "MFER": "mwf", "CSV": "csv", "EDF": "edf"}.get(tracing.format, "xml")  # fmt: skip
    response["Content-Disposition"] = f'attachment; filename="{number}-{pk}.{suffix}"'
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    return response


@page(may="see_orders")
def print_pdf(request: HttpRequest, number: str) -> HttpResponse:
    """A4 across, true to scale."""
    from lianxin.regional.ecg import paper

    reading = _reading(request.scope, number)
    found = panel.traced(reading, drawing.look_of(request.GET))
    if found["tracing"] is None:
        raise Http404
    audit.write(request.scope, "print", person_id=reading.person_id, what=f"ecg {number}")
    response = HttpResponse(paper.pdf(reading, found), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{number}.pdf"'
    return response


# ------------------------------------------------------------------------------------------------------------------- review


@page(may="reconcile_images")
@require_POST
def settle(request: HttpRequest, pk: int) -> HttpResponse:
    """Whose a recording in review is."""
    try:
        done = service.settle(request.scope, pk, attach=request.POST.get("what") == "attach", reason=request.POST.get("reason", ""))  # fmt: skip
    except Refused as refusal:
        messages.error(request, " ".join(str(t) for t in refusal.errors.values()))
        return redirect("/ecg?tab=review")
    except MoveError as trouble:
        messages.error(request, str(trouble.text))
        return redirect("/ecg?tab=review")
    said = T("已归到此人名下，进入诊断队列。", "Attached; it is waiting to be read.") if done.state == "attached" else T("已拒收，文件留存备查。", "Set aside; the file is kept.")  # fmt: skip
    messages.success(request, str(said))
    return redirect("/ecg?tab=review")
