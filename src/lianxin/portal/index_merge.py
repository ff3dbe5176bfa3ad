"""Merging by hand: find two people, compare them, say that they are one, or that they never are."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.web import page
from lianxin.index import links, registry, reviews
from lianxin.index.models import Person
from lianxin.portal import index_compare as compare
from lianxin.portal.people import long_enough
from lianxin.standards.text import T

LIMIT = 20


@page(may="review_links")
def find(request: HttpRequest) -> HttpResponse:
    """Find a person; ``?with=`` holds the number of one found before, to compare with the next."""
    q, first = request.GET.get("q", "").strip(), request.GET.get("with", "").strip()
    chosen = None
    if first:
        try:
            chosen = registry.get(first)
        except registry.UnknownPerson:
            messages.error(request, str(T("没有这个主索引号。", "There is no such index number.")))
    hits = registry.find(request.scope, q, limit=LIMIT) if long_enough(q) else []
    if chosen is not None:
        hits = [h for h in hits if h.person_number != chosen.number]
    context = {
        "q": q,
        "chosen": chosen,
        "chosen_name": registry.mask_name(chosen.name) if chosen else "",
        "hits": hits,
        "too_short": bool(q) and not long_enough(q),
    }
    return render(request, "portal/index/find.html", context)


def _two(one: str, other: str) -> tuple[Person, Person]:
    try:
        a, b = registry.get(one), registry.get(other)
    except registry.UnknownPerson as unknown:
        raise Http404 from unknown
    return (a, b) if a.pk < b.pk else (b, a)


@page(may="review_links")
def side_by_side(request: HttpRequest, one: str, other: str) -> HttpResponse:
    """Two people side by side, with what a merge would do; POST merges them or keeps them apart for ever."""
    a, b = _two(one, other)
    if a.pk == b.pk:
        messages.info(request, str(T("两个号码已是同一人。", "Both numbers are one person already.")))
        return redirect("portal:index_person", a.number)
    links.require(request.scope, [a.pk, b.pk])
    error, overrule = None, False
    reason = request.POST.get("reason", "").strip()
    if request.method == "POST":
        try:
            if len(reason) < 2:
                raise Invalid({"reason": T("请写明理由。", "Say why.")})
            if request.POST.get("answer") == "different":
                links.keep_apart(request.scope, a, b, reason)
                messages.success(request, str(T("已确认不是同一人。", "Said to be two people.")))
                return redirect("portal:index_person", a.number)
            reviews.merge_by_hand(request.scope, a, b, reason, despite=bool(request.POST.get("despite")))
        except Invalid as refusal:
            error, overrule = refusal.message, "despite" in refusal.errors
        else:
            waits = (
                not Person.objects.unscoped("was it merged at once").filter(pk=b.pk, status="merged").exists()
            )
            told = (
                T("此项有风险，已转入待另一人确认。", "It is risky: another person has to agree first.")
                if waits
                else T("已合并，可在历史中撤销。", "Merged; the history can undo it.")
            )
            messages.success(request, str(told))
            return redirect("portal:index_person", a.number)
    left, right = compare.side(a), compare.side(b)
    for person in (a, b):
        audit.write(request.scope, "read", person_id=person.pk, what="identity compared")
    weighed = compare.weigh(left, right)
    bars, zero = compare.waterfall(weighed[0] if weighed else [])
    context = {
        "left": left,
        "right": right,
        "pair": True,
        "sides": (left, right),
        "rows": compare.rows(left, right),
        "bars": bars,
        "zero": zero,
        "bits": weighed[1] if weighed else None,
        "percent": f"{weighed[2] * 100:.1f}" if weighed else None,
        "household": compare.household(left, right),
        "left_history": compare.history([a.pk]),
        "right_history": compare.history([b.pk]),
        "dangers": reviews.dangers_between(a.pk, b.pk, weighed[2] if weighed else None),
        "error": error,
        "overrule": overrule,
        "reason": reason,
    }
    return render(request, "portal/index/compare.html", context, status=422 if error else 200)
