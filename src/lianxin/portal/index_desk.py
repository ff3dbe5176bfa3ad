"""匹配复核, the review desk: one question at a time, two records side by side, three answers, everything by keyboard."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.web import page
from lianxin.index import golden, reviews
from lianxin.index.match import reasons
from lianxin.index.models import Person, ReviewItem, SourceRecord
from lianxin.portal import index_compare as compare
from lianxin.portal.templatetags.lianxin import named
from lianxin.standards.text import T, Text

LISTED = 60
STATES = {
    "waiting": T("待复核", "Waiting"),
    "second": T("待另一人确认", "For a second person"),
    "unsure": T("已退回核实", "Sent back"),
}
DONE = {
    "same": T("已合并为同一人。", "Merged: one person."),
    "different": T("已确认不是同一人，今后不再询问。", "Two people; nobody is asked again."),
    "unsure": T("已退回登记机构核实。", "Sent back to the institution."),
    "second": T(
        "已记下“同一人”。此项有风险，须由另一人再确认后才合并。",
        "“Same” noted. It is risky: nothing is merged until another person agrees.",
    ),
}


def kind_title(item: ReviewItem) -> Text:
    """Why a pair is shown, in words; an unknown kind stands as written."""
    return reasons.REVIEWS.get(item.kind, Text(item.kind, item.kind))


def _places(items: list[ReviewItem]) -> dict[int, list[Any]]:
    """Institutions that registered the people of each item, by item."""
    wanted = {pk for i in items for pk in (i.person_a_id, i.person_b_id)}
    found: dict[int, dict[int, Any]] = {}
    rows = SourceRecord.objects.unscoped("a reviewer's list names who registered").filter(
        person_id__in=wanted
    )
    for s in rows.select_related("institution").order_by("pk"):
        found.setdefault(s.person_id, {})[s.institution_id] = s.institution
    return {
        i.pk: list((found.get(i.person_a_id, {}) | found.get(i.person_b_id, {})).values())[:3] for i in items
    }


@page(may="review_links")
def listing(request: HttpRequest) -> HttpResponse:
    """What waits, most pressing first; ``?show=second`` for a second person, ``?show=unsure`` sent back to institutions."""
    show = request.GET.get("show", "waiting")
    show = show if show in STATES else "waiting"
    items = reviews.queue(request.scope, LISTED, show)
    figures = reviews.counts(request.scope)
    places = _places(items)
    asked = reviews.asked(items) if show == "unsure" else {}
    audit.write(request.scope, "search", what="index reviews", detail={"show": show, "shown": len(items)})
    lines = [
        {
            "item": i,
            "title": kind_title(i),
            "one": golden.mask_name(i.person_a.name),
            "other": golden.mask_name(i.person_b.name) if i.person_a_id != i.person_b_id else "",
            "places": places[i.pk],
            "asked": asked.get(i.pk),
            "waited": compare.waited(i.opened_at),
            "percent": None if i.probability is None else round(i.probability * 100),
        }
        for i in items
    ]
    context = {
        "lines": lines,
        "show": show,
        "figures": figures,
        "median": compare.words.span(figures.median.total_seconds()) if figures.median else None,
        "counts": {
            "waiting": f"{figures.waiting}{'+' * figures.more}",
            "second": figures.second,
            "unsure": figures.unsure,
        },
        "states": STATES.items(),
        "last": reviews.last(request.scope),
    }
    return render(request, "portal/index/reviews.html", context)


@page(may="review_links")
def following(request: HttpRequest) -> HttpResponse:
    """Open the next question that nobody holds; ``?after=`` leaves one aside."""
    after = request.GET.get("after", "")
    item = reviews.take(request.scope, after=int(after) if after.isdigit() and len(after) < 18 else None)
    if item is None:
        messages.success(request, str(T("都复核完了。", "Everything is reviewed.")))
        return redirect("portal:index_reviews")
    return redirect("portal:index_review", item.pk)


@page(may="review_links")
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """One question, held for this reviewer while it is open on the screen."""
    try:
        item = reviews.take(request.scope, pk)
    except Invalid as refusal:
        messages.error(request, str(refusal.message))
        return redirect("portal:index_reviews")
    assert item is not None
    return render(request, "portal/index/review.html", _context(request, item))


def _sides(item: ReviewItem) -> tuple[compare.Side, compare.Side]:
    people = Person.objects.unscoped("a reviewer compares two people").select_related("home_institution")
    ends = sorted({reviews.root(item.person_a_id), reviews.root(item.person_b_id)})
    if len(ends) == 1:
        person = people.get(pk=ends[0])
        return compare.side(person, only=item.source), compare.side(person, without=item.source)
    return compare.side(people.get(pk=ends[0])), compare.side(people.get(pk=ends[1]))


def _context(request: HttpRequest, item: ReviewItem) -> dict[str, Any]:
    left, right = _sides(item)
    for person_id in {left.person.pk, right.person.pk}:
        audit.write(request.scope, "read", person_id=person_id, what=f"review {item.pk}")
    parts, bits, chance = item.parts, item.bits, item.probability
    if not parts and (weighed := compare.weigh(left, right)):
        parts, bits, chance = weighed
    bars, zero = compare.waterfall(parts)
    pair = left.person.pk != right.person.pk
    places = {s.institution_id: s.institution for one in (left, right) for s in one.sources}
    return {
        "item": item,
        "title": kind_title(item),
        "left": left,
        "right": right,
        "pair": pair,
        "rows": compare.rows(left, right),
        "bars": bars,
        "zero": zero,
        "bits": bits,
        "percent": None if chance is None else f"{chance * 100:.1f}",
        "household": compare.household(left, right),
        "left_history": compare.history([left.person.pk]),
        "right_history": compare.history([right.person.pk]) if pair else [],
        "dangers": reviews.dangers(item),
        "sides": (left, right),
        "place_names": str(T("、", ", ")).join(named(p, "short") for p in places.values()),
        "seen": reviews.state_of(item),
        "waited": compare.waited(item.opened_at),
        "last": reviews.last(request.scope),
        "review_keys": True,
    }


@require_POST
@page(may="review_links")
def answer(request: HttpRequest, pk: int) -> HttpResponse:
    """The reviewer's word; then the next question by itself."""
    said = request.POST.get("answer", "")
    try:
        item = reviews.answer(
            request.scope, pk, said, request.POST.get("note", "").strip(), request.POST.get("seen", "")
        )
    except Invalid as refusal:
        messages.error(request, str(refusal.message))
        waits = ReviewItem.objects.filter(pk=pk, state__in=ReviewItem.WAITING).exists()
        known = said in reviews.ANSWERS
        if waits and (not known or "item" not in refusal.errors or request.POST.get("seen")):
            return redirect("portal:index_review", pk)
        return redirect("portal:index_next")
    messages.success(request, str(DONE[item.state]))
    return redirect(reverse("portal:index_next") + f"?after={pk}")


@require_POST
@page(may="review_links")
def undo(request: HttpRequest, pk: int) -> HttpResponse:
    """Take back one's own last word; the question is on the screen again."""
    try:
        reviews.undo_last(request.scope, pk)
    except Invalid as refusal:
        messages.error(request, str(refusal.message))
        return redirect("portal:index_reviews")
    messages.success(request, str(T("已撤回，一切恢复原状。", "Taken back; everything is as before.")))
    return redirect("portal:index_review", pk)


@require_POST
@page(may="review_links")
def reopen(request: HttpRequest, pk: int) -> HttpResponse:
    """The institution asked and knows more: the question waits again, with what was learned."""
    try:
        reviews.reopen(request.scope, pk, request.POST.get("note", "").strip())
    except Invalid as refusal:
        messages.error(request, str(refusal.message))
        return redirect(reverse("portal:index_reviews") + "?show=unsure")
    messages.success(request, str(T("已重新进入复核。", "It waits for review again.")))
    return redirect("portal:index_review", pk)
