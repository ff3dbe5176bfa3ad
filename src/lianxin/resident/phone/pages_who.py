"""Choosing for whom one acts: oneself or one of the family."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access.web import page
from lianxin.resident.card import acting
from lianxin.resident.phone import display
from lianxin.standards.text import T


@page(resident=True)
def who(request: HttpRequest) -> HttpResponse:
    """The family, one to be chosen; POST ``person`` acts for that person from now on."""
    onward = request.GET.get("next", "")
    if request.method == "POST":
        value = request.POST.get("person", "")
        chosen = acting.choose(request, int(value)) if value.isdigit() and len(value) < 18 else None
        if chosen is not None:
            return redirect(display.back_to(request))
        messages.error(
            request,
            T("您不能为此人办理，请重新选择。", "You may not act for this person; choose again."),
        )
        onward = request.POST.get("next", "")
    current = acting.member(request)
    context = {"members": acting.family(request), "current": current, "next": onward, "here": "me"}
    return render(request, "phone/who.html", context, status=422 if request.method == "POST" else 200)
