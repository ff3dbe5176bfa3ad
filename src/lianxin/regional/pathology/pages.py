"""Pages of the pathology centre: the board with its clocks, receiving by scan, one case with specimens, blocks, slides and pictures."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.errors import MoveError, Refused
from lianxin.duty.forms import refuse
from lianxin.regional.pathology import forms, frozen, panel, pictures, reports, service
from lianxin.regional.pathology import statistics as figures
from lianxin.regional.pathology.models import Picture, Specimen, Trace, Work
from lianxin.regional.reading import moves as reading_moves
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 40
TABS: dict[str, Text] = {
    "receive": T("待签收", "To be received"),
    "gross": T("待取材", "To be grossed"),
    "slides": T("制片中", "In the laboratory"),
    "reading": T("待诊断", "To be read"),
    "issued": T("已签发", "Issued"),
}
_ROLES = ("reader", "technician", "laboratory")


def _own(scope: Scope) -> Any:
    rows = Reading.objects.unscoped("cases of one's own centre").filter(
        centre="pathology", centre_of_id__in=scope.institution_ids
    )
    return rows.select_related("case", "person", "orderer", "pathology")


def _tab(scope: Scope, tab: str) -> Any:
    rows = _own(scope)
    if tab == "issued":
        return rows.filter(issued_at__isnull=False).order_by("-issued_at", "pk")
    rows = rows.filter(issued_at=None, live=True)
    if tab == "receive":
        rows = rows.filter(tissues__state="sent")
    elif tab == "gross":
        rows = rows.filter(tissues__state="received")
    elif tab == "slides":
        rows = rows.filter(tissues__state="grossed", case__state__in=reading_moves.BEFORE)
    else:
        rows = rows.exclude(case__state__in=reading_moves.BEFORE)
    return rows.distinct().order_by("report_due_at", "pk")


@page(*_ROLES)
def index(request: HttpRequest) -> HttpResponse:
    """The centre's board; staff of an institution without a centre are led to sending."""
    scope: Scope = request.scope
    if not _own(scope).exists() and not scope.has("reader", "laboratory"):
        return redirect("pathology:send")
    tab = request.GET.get("tab", "")
    if tab not in TABS:
        tab = next((t for t in TABS if t != "issued" and _tab(scope, t).exists()), "receive")
    lines = Paginator(_tab(scope, tab), PAGE).get_page(request.GET.get("page"))
    if lines.object_list:
        audit.write(scope, "search", what=f"pathology {tab}", detail={"people": [r.person_id for r in lines]})
    pks = [r.pk for r in lines]
    counted = {
        row["reading_id"]: row for row in Specimen.objects.unscoped("cases of one's own centre").filter(reading__in=pks).values("reading_id")
        .annotate(n=Count("pk", distinct=True), made=Count("blocks", distinct=True), cut=Count("blocks__slides", distinct=True),
                  ready=Count("blocks__slides", filter=Q(blocks__slides__state="ready"), distinct=True))
    }  # fmt: skip
    for line in lines:
        line.counted = counted.get(line.pk, {})
    context = {
        "tab": tab, "tabs": TABS, "lines": lines, "counts": {t: _tab(scope, t).count() for t in TABS if t != "issued"}, "clocks": clocks(scope),
    }  # fmt: skip
    return render(request, "pathology/index.html", context)


def clocks(scope: Scope) -> list[Work]:
    """Frozen sections under way or not yet telephoned, the most pressing first."""
    rows = Work.objects.unscoped("frozen sections of one's own centre").filter(
        institution_id__in=scope.institution_ids, due_at__isnull=False, called_at=None, reading__live=True
    )
    found = rows.filter(
        Q(reading__issued_at=None) | Q(reading__issued_at__gte=clock.now() - dt.timedelta(hours=12))
    )
    return list(
        found.select_related("reading__case", "reading__person", "reading__orderer").order_by("due_at")[:20]
    )


@page()
def scan(request: HttpRequest) -> HttpResponse:
    """Whatever a scanned code names: its case."""
    code = request.GET.get("code", "").strip()[:40]
    number = service.named(request.scope, code) if code else ""
    if number:
        return redirect("pathology:case", number)
    messages.error(
        request, str(T("没有找到您可以查看的：{c}", "Nothing that you may see: {c}").format(c=code or "—"))
    )
    return redirect("pathology:index" if request.scope.has(*_ROLES) else "pathology:send")


@require_POST
@page(*_ROLES)
def receive(request: HttpRequest) -> HttpResponse:
    """Take in what was scanned: a specimen, or a parcel."""
    code = request.POST.get("code", "").strip()[:40]
    try:
        rows = service.receive(request.scope, code)
    except Refused as refusal:
        messages.error(request, str(next(iter(refusal.errors.values()))))
    except MoveError as trouble:
        messages.error(request, trouble.text)
    else:
        messages.success(
            request,
            str(
                T("已签收 {n} 个标本：{c}", "{n} received: {c}").format(
                    n=str(len(rows)), c="、".join(r.code for r in rows)
                )
            ),
        )
    return redirect("pathology:index")


@page("manager", *_ROLES)
def statistics(request: HttpRequest) -> HttpResponse:
    """The month's figures, opening down to the cases."""
    scope: Scope = request.scope
    start, end = figures.span(request.GET.get("month", ""))
    mine = scope.institution_ids | scope.oversight_ids
    found = figures.figures(mine, start, end)
    return render(
        request, "pathology/statistics.html", {"f": found, "month": f"{start:%Y-%m}", "links": scope.clinical}
    )


# ------------------------------------------------------------------------------------------------------------ one case


def find(request: HttpRequest, number: str) -> Reading:
    """A pathology case of one's own (sender's or centre's) whose patient's record one may read; 404 otherwise."""
    try:
        reading = service.find(request.scope, number)
    except Reading.DoesNotExist:
        raise Http404 from None
    mine = {reading.orderer_id, reading.performer_id, reading.centre_of_id} & request.scope.institution_ids
    if not request.scope.clinical or not (mine or relationships.sees(request.scope, reading.person_id)):
        raise Http404
    return reading


def show(
    request: HttpRequest, reading: Reading, failed: dict[str, Any] | None = None, status: int = 200
) -> HttpResponse:
    """The page of a case."""
    scope: Scope = request.scope
    audit.write(scope, "read", person_id=reading.person_id, what=f"pathology {reading.case.number}")
    tree = panel.tree(reading)
    centre = reading.centre_of_id in scope.institution_ids and scope.has(*_ROLES)
    sender = (
        bool({reading.performer_id, reading.orderer_id} & scope.institution_ids)
        and scope.may("acquire")
        and reading.live
        and reading.issued_at is None
    )
    blocks = [b.code for s in tree["pathology_specimens"] for b in s.own if b.kept == "kept"]
    codes = [(s.code, f"{s.code} {s.site}") for s in tree["pathology_specimens"]] + [
        (s.code, f"{s.code} {s.stain_label}") for s in tree["pathology_slides"]
    ]
    for specimen in tree["pathology_specimens"]:
        specimen.gross_form = forms.GrossForm(
            initial={"code": specimen.code, "text": specimen.gross, "kind": _kind(reading, specimen)},
            auto_id=f"g{specimen.pk}_%s",
        )
        specimen.refuse_form = forms.RefuseForm(initial={"code": specimen.code}, auto_id=f"r{specimen.pk}_%s")
    context = tree | {
        "r": reading, "case": reading.case, "person": reading.person, "at_centre": centre, "at_sender": sender, "key": uuid.uuid4().hex,
        "state": reading_moves.MACHINE.state(reading.case.state).label, "now": clock.now(),
        "specimen_form": forms.SpecimenForm(initial={"fixative": "fresh" if reading.modality == "FROZEN" else "nbf"}), "stains_form": forms.StainsForm(blocks),
        "picture_form": forms.PictureForm(codes, auto_id="p_%s"), "call_form": forms.CallForm(auto_id="c_%s"), "compare_form": forms.CompareForm(auto_id="m_%s"),
        "link_form": forms.LinkForm(auto_id="l_%s"), "loan_form": forms.LoanForm(auto_id="o_%s"), "has_blocks": bool(blocks),
        "scan_form": forms.ScanForm([s.code for s in tree["pathology_slides"]], auto_id="w_%s"), "is_reader": scope.has("reader"),
        "traces": Trace.objects.unscoped("the case was reached within the scope").filter(reading=reading).order_by("-pk")[:100],
    } | (failed or {})  # fmt: skip
    return render(request, "pathology/case.html", context, status=status)


def _kind(reading: Reading, specimen: Specimen) -> str:
    if reading.modality == "FROZEN":
        return "frozen"
    return "smear" if specimen.fixative in ("lbc", "alcohol") else "paraffin"


@page()
def case(request: HttpRequest, number: str) -> HttpResponse:
    """One case."""
    return show(request, find(request, number))


def _refuse(request: HttpRequest, reading: Reading) -> None:
    post = request.POST
    service.refuse(
        request.scope, _code(reading, post.get("code", "")), post.getlist("reasons"), post.get("note", "")
    )


def _gross(request: HttpRequest, reading: Reading) -> None:
    post = request.POST
    service.gross(
        request.scope,
        _code(reading, post.get("code", "")),
        post.get("text", "")[:4000],
        post.get("tissues", "").splitlines(),
        kind=post.get("kind", ""),
    )


def _stains(request: HttpRequest, reading: Reading) -> None:
    post = request.POST
    service.order_stains(
        request.scope, _code(reading, post.get("code", "")), post.getlist("stains"), post.get("note", "")
    )


def _step(request: HttpRequest, reading: Reading) -> None:
    service.step(request.scope, _code(reading, request.POST.get("code", "")))


def _fail(request: HttpRequest, reading: Reading) -> None:
    service.fail(request.scope, _code(reading, request.POST.get("code", "")), request.POST.get("note", ""))


def _picture(request: HttpRequest, reading: Reading) -> None:
    post, sent = request.POST, request.FILES.get("picture")
    content = sent.read(pictures.MOST_BYTES + 1) if sent else b""
    pictures.add(
        request.scope, reading, post.get("code", ""), post.get("kind", ""), content, post.get("caption", "")
    )


def _choose(request: HttpRequest, reading: Reading) -> None:
    pk = request.POST.get("picture", "")
    pictures.choose(
        request.scope,
        reading,
        int(pk) if pk.isascii() and pk.isdigit() and len(pk) < 19 else 0,
        request.POST.get("chosen") == "1",
    )


def _call(request: HttpRequest, reading: Reading) -> None:
    frozen.call(request.scope, reading, request.POST.get("to", ""), request.POST.get("read_back", ""))


def _link(request: HttpRequest, reading: Reading) -> None:
    try:
        other = service.find(request.scope, request.POST.get("frozen", "").strip())
    except Reading.DoesNotExist:
        raise Refused({"frozen": T("没有这个冰冻病例。", "No such frozen section.")}) from None
    frozen.link(request.scope, reading, other)


def _compare(request: HttpRequest, reading: Reading) -> None:
    frozen.compare(request.scope, reading, request.POST.get("concordance", ""), request.POST.get("note", ""))


def _scan(request: HttpRequest, reading: Reading) -> None:
    service.attach_scan(
        request.scope, _code(reading, request.POST.get("code", "")), request.POST.get("study_uid", "")
    )


def _lend(request: HttpRequest, reading: Reading) -> None:
    post = request.POST
    service.lend(
        request.scope,
        _code(reading, post.get("code", "").strip()),
        post.get("borrower", ""),
        post.get("house", ""),
        post.get("purpose", ""),
    )


def _return(request: HttpRequest, reading: Reading) -> None:
    service.take_back(
        request.scope, _code(reading, request.POST.get("code", "")), request.POST.get("condition", "")
    )


def _code(reading: Reading, code: str) -> str:
    """A code of this very case; Refused for another's, so that nothing is done to a case one is not looking at."""
    if not code.startswith(reading.accession):
        raise Refused(
            {"code": T("该编号不属于本病例，请核对标签。", "That code is not of this case; check the label.")}
        )
    return code


VERBS: dict[str, tuple[Callable[[HttpRequest, Reading], None], str]] = {
    "refuse": (_refuse, ""), "gross": (_gross, ""), "stains": (_stains, "stains_form"), "step": (_step, ""), "fail": (_fail, ""),
    "picture": (_picture, "picture_form"), "choose": (_choose, ""), "call": (_call, "call_form"), "link": (_link, "link_form"),
    "compare": (_compare, "compare_form"), "scan": (_scan, "scan_form"), "lend": (_lend, "loan_form"), "return": (_return, ""),
}  # fmt: skip


@require_POST
@page(*_ROLES)
def do(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """A step of the centre's work on a case; a refusal is said in words and nothing is changed."""
    reading = find(request, number)
    verb = VERBS.get(move)
    if verb is None:
        raise Http404
    try:
        verb[0](request, reading)
    except Refused as refusal:
        messages.error(request, "；".join(str(t) for t in refusal.errors.values()))
        return show(request, reading, _failed(request, reading, verb[1], refusal), 422)
    except MoveError as trouble:
        messages.error(request, trouble.text)
        return show(request, reading, None, 409)
    messages.success(request, str(T("已办理。", "Done.")))
    return redirect("pathology:case", number)


def _failed(request: HttpRequest, reading: Reading, name: str, refusal: Refused) -> dict[str, Any]:
    simple = {
        "call_form": (forms.CallForm, "c_%s"),
        "compare_form": (forms.CompareForm, "m_%s"),
        "link_form": (forms.LinkForm, "l_%s"),
        "loan_form": (forms.LoanForm, "o_%s"),
    }
    if name not in simple:
        return {}
    made, ids = simple[name]
    form = made(request.POST, auto_id=ids)
    refuse(form, refusal.errors)
    return {name: form}


@page()
def picture(request: HttpRequest, pk: int) -> HttpResponse:
    """The bytes of a picture."""
    row = (
        Picture.objects.unscoped("whose it is, is asked next")
        .select_related("reading__case")
        .filter(pk=pk)
        .first()
    )
    if row is None:
        raise Http404
    find(request, row.reading.case.number)
    answer = HttpResponse(pictures.jpeg(row), content_type="image/jpeg")
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


@page()
def labels(request: HttpRequest, number: str) -> HttpResponse:
    """Labels with QR codes: of the containers, and (``?what=slides``) of the blocks and slides."""
    reading = find(request, number)
    tree, name = panel.tree(reading), reading.person.name
    rows = [
        {"code": s.code, "words": f"{name} {s.site}"}
        for s in tree["pathology_specimens"]
        if s.state != "refused"
    ]
    if request.GET.get("what") == "slides":
        rows = [
            {"code": b.code, "words": f"{tree['pathology_work'].number} {b.tissue}"}
            for s in tree["pathology_specimens"]
            for b in s.own
        ]
        rows += [
            {"code": s.code, "words": f"{tree['pathology_work'].number} {s.stain_label.zh}"}
            for s in tree["pathology_slides"]
        ]
    if not rows:
        raise Http404
    audit.write(request.scope, "print", person_id=reading.person_id, what=f"pathology labels {number}")
    return pdf(reports.labels(rows), f"{number}-labels.pdf")


@page()
def report(request: HttpRequest, number: str) -> HttpResponse:
    """The report with its pictures as PDF."""
    reading = find(request, number)
    made = reports.pdf(reading)
    if made is None:
        raise Http404
    audit.write(request.scope, "print", person_id=reading.person_id, what=f"pathology report {number}")
    return pdf(made, f"{number}.pdf")


def pdf(content: bytes, name: str) -> HttpResponse:
    """A PDF to look at."""
    answer = HttpResponse(content, content_type="application/pdf")
    answer.headers["Content-Disposition"] = f'inline; filename="{name}"'
    return answer
