"""Reviewing emergency openings of records: by the consortium office or the security administrator, never one's own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import break_glass
from lianxin.access.errors import Invalid
from lianxin.access.models import BreakGlass
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.duty.forms import refuse
from lianxin.index.models import Person
from lianxin.portal.forms import HouseForm
from lianxin.standards.text import T


class ReviewForm(HouseForm):
    """Verdict and note."""

    verdict = forms.ChoiceField(
        label=T("结论", "Verdict"),
        choices=lambda: list(break_glass.VERDICTS.items()),
        widget=forms.RadioSelect,
    )
    note = forms.CharField(
        label=T("说明", "Note"),
        required=False,
        max_length=500,
        help_text=T(
            "理由不成立时必填；调阅权限随即收回。", "Required when not justified; access then ends at once."
        ),
        widget=forms.Textarea(attrs={"rows": 3}),
    )


def _numbers(rows: list[BreakGlass]) -> dict[int, str]:
    people = Person.objects.unscoped("reviewers of emergency openings see index numbers, never names")
    return dict(people.filter(pk__in={r.person_id for r in rows}).values_list("pk", "number"))


def _reviewed(scope: Scope) -> Any:
    rows = break_glass.within(scope).filter(reviewed_at__isnull=False)
    rows = rows.select_related("account", "institution", "reviewer")
    return rows.order_by("-reviewed_at")


@page(may="review_break_glass")
def reviews(request: HttpRequest) -> HttpResponse:
    """Openings waiting for a verdict, oldest first; ``?show=done`` those that have one."""
    done = request.GET.get("show") == "done"
    rows = _reviewed(request.scope) if done else break_glass.pending_reviews(request.scope)
    lines = Paginator(rows, 30).get_page(request.GET.get("page"))
    shown = list(lines)
    context = {
        "lines": lines,
        "done": done,
        "numbers": _numbers(shown),
        "verdicts": break_glass.VERDICTS,
        "waiting": len(break_glass.pending_reviews(request.scope)) if done else lines.paginator.count,
    }
    return render(request, "portal/break_glass.html", context)


@page(may="review_break_glass")
def review(request: HttpRequest, pk: int) -> HttpResponse:
    """One opening: who, why, when, and the verdict."""
    waiting = {row.pk: row for row in break_glass.pending_reviews(request.scope)}
    row = waiting.get(pk) or _reviewed(request.scope).filter(pk=pk).first()
    if row is None:
        raise Http404
    form = ReviewForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            break_glass.review(request.scope, pk, form.cleaned_data["verdict"], form.cleaned_data["note"])
        except Invalid as error:
            refuse(form, error.errors)
        else:
            messages.success(request, T("复核结论已记录。", "The verdict was recorded."))
            return redirect("portal:break_glass")
    context = {
        "row": row,
        "form": form,
        "number": _numbers([row]).get(row.person_id, ""),
        "verdict": break_glass.VERDICTS.get(row.verdict),
    }
    return render(request, "portal/break_glass_review.html", context, status=422 if form.errors else 200)
