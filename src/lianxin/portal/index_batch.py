"""Re-links of everybody and the weights they use: proposals to look at, accept, refuse and take back."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.web import page
from lianxin.index import registry
from lianxin.index.batch import apply, versions
from lianxin.index.batch.models import Proposal, ProposedChange
from lianxin.index.match import reasons
from lianxin.index.models import IndexModel, Person
from lianxin.portal.index_compare import waterfall
from lianxin.standards.text import T

SAMPLES = 20
DAYS = 60
STATES = {
    "building": (T("生成中", "Being made"), ""),
    "ready": (T("待审批", "Waits for a decision"), "warn"),
    "applying": (T("执行中", "Being carried out"), "accent"),
    "applied": (T("已执行", "Carried out"), "good"),
    "refused": (T("已拒绝", "Refused"), ""),
    "undoing": (T("撤销中", "Being taken back"), "accent"),
    "undone": (T("已撤销", "Taken back"), ""),
    "failed": (T("生成失败", "Failed"), "bad"),
}
KINDS = {
    "join": T("合并", "Join"),
    "split": T("拆分", "Split"),
    "review": T("转人工复核", "Ask a person"),
}
CHANGED = {
    "open": T("未执行", "Not yet"),
    "applied": T("已执行", "Done"),
    "skipped": T("已跳过", "Left alone"),
    "undone": T("已撤销", "Taken back"),
}
ACTS = {"accept": apply.accept, "refuse": apply.refuse, "undo": apply.undo}
SAID = {
    "accept": T("方案已接受，正在分批执行。", "The proposal is accepted and is being carried out in slices."),
    "refuse": T("方案已拒绝，什么都没有改变。", "The proposal is refused; nothing has changed."),
    "undo": T("正在分批撤销。", "It is being taken back in slices."),
}


def _dress(proposal: Any) -> Any:
    proposal.label, proposal.tone = STATES[proposal.state]
    return proposal


@page(may="relink")
def listing(request: HttpRequest) -> HttpResponse:
    """Proposals, newest first, and the versions of the weights."""
    lines = Paginator(Proposal.objects.order_by("-pk"), 20).get_page(request.GET.get("page"))
    for row in lines:
        _dress(row)
    models = list(IndexModel.objects.order_by("-pk").defer("body")[:50])
    return render(
        request,
        "portal/index/batch.html",
        {"lines": lines, "models": models, "shipped": not any(m.active for m in models)},
    )


@page(may="relink")
def proposal(request: HttpRequest, pk: int) -> HttpResponse:
    """One proposal: how much would change, a sample of each kind with the figures behind it, and the decision."""
    row = _dress(get_object_or_404(Proposal.objects.select_related("decided_by"), pk=pk))
    kind = request.GET.get("kind", "")
    changes = ProposedChange.objects.filter(proposal=row)
    counts = Counter(changes.values_list("kind", flat=True))
    shown = changes.filter(kind=kind) if kind in KINDS else changes
    if request.GET.get("show") == "records":
        shown = shown.filter(records__gt=0)
    lines = Paginator(shown.order_by("-records", "pk"), SAMPLES).get_page(request.GET.get("page"))
    people = {pk for line in lines for pk in (line.person_a, line.person_b) if pk}
    known = Person.objects.unscoped("a proposal is looked at, names masked").in_bulk(people)
    for line in lines:
        _line(line, known)
    audit.write(request.scope, "read", what=f"index proposal {row.pk}", detail={"shown": len(people)})
    done = changes.exclude(state="open").count()
    context = {
        "row": row,
        "tabs": [("", T("全部", "All"), sum(counts.values()))] + [(k, KINDS[k], counts[k]) for k in KINDS],
        "kind": kind,
        "query": f"kind={kind}",
        "lines": lines,
        "affected": changes.exclude(kind="review").filter(records__gt=0).count(),
        "progress": (done, sum(counts.values())),
        "skipped": changes.filter(state="skipped").count(),
    }
    return render(request, "portal/index/proposal.html", context)


def _line(line: Any, known: dict[int, Person]) -> None:
    line.label, line.state_label = KINDS[line.kind], CHANGED[line.state]
    line.one, line.other = (_masked(known.get(pk)) if pk else None for pk in (line.person_a, line.person_b))
    line.bars, line.zero = waterfall(line.parts)
    line.percent = round(line.probability * 100, 1)
    try:
        line.why = reasons.review(line.reason) if line.reason else ""
    except KeyError:
        line.why = line.reason


def _masked(person: Person | None) -> dict[str, Any] | None:
    """What a preview shows of a person: enough to judge the weights, not who it is."""
    if person is None:
        return None
    return {
        "number": person.number,
        "name": registry.mask_name(person.name),
        "sex": person.sex,
        "year": person.birth_date.year if person.birth_date else "",
        "tail": person.phone_tail[-2:],
    }


@require_POST
@page(may="relink")
def decide(request: HttpRequest, pk: int) -> HttpResponse:
    """Accept, refuse or take back."""
    act = request.POST.get("act", "")
    if act not in ACTS:
        raise Http404
    try:
        ACTS[act](request.scope, pk, request.POST.get("note", "").strip())
        messages.success(request, str(SAID[act]))
    except Invalid as error:
        messages.error(request, str(error.message))
    return redirect("portal:index_proposal", pk)


@require_POST
@page(may="relink")
def activate(request: HttpRequest, version: str) -> HttpResponse:
    """Weigh registrations with another version from now on."""
    try:
        versions.activate(request.scope, version)
        messages.success(request, str(T("模型 {v} 已启用。", "Model {v} is in use.").format(v=version)))
    except Invalid as error:
        messages.error(request, str(error.message))
    return redirect("portal:index_batch")
