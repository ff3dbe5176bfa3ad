"""The institution's side of a correction: what the resident says, what the entry says, and the answer."""

from __future__ import annotations

import json
import secrets
from typing import Any

from django.contrib import messages
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.duty import kernel
from lianxin.duty.errors import MoveError, NotAllowed, Refused, Stale
from lianxin.record import readable, store
from lianxin.resident.phone.models import Correction
from lianxin.standards.text import T


def _row(request: HttpRequest, number: str) -> Correction:
    row = (
        Correction.objects.within(request.scope)
        .filter(case__number=number)
        .select_related("case", "institution", "person")
        .first()
    )
    if row is None or request.scope.resident:
        raise Http404(str(T("没有这条更正请求。", "There is no such correction.")))
    return row


@page()
def answer(request: HttpRequest, number: str, move: str = "") -> HttpResponse:
    """The correction with the moves that may be made; POST makes one. What the entry says is shown to clinical posts only."""
    row = _row(request, number)
    trouble, bound, status = None, None, 200
    if request.method == "POST":
        version = request.POST.get("version", "")
        try:
            kernel.execute(
                move, row.case, request.scope, request.POST.dict(), int(version) if version.isascii() and version.isdigit() else None,
                f"{number}:{request.scope.account_id}:{request.POST.get('key', '')[:40] or secrets.token_urlsafe(12)}",
            )  # fmt: skip
            messages.success(request, T("已答复，居民可以看到。", "Answered; the resident sees it."))
            return redirect("phone:answer", number)
        except Refused as refused:
            bound, trouble, status = move, refused.text, 422
        except Stale as stale:
            row = _row(request, number)
            trouble, status = stale.text, 409
        except NotAllowed as refused:
            trouble, status = refused.text, 403
        except MoveError as refused:
            trouble, status = refused.text, 409
    audit.write(request.scope, "read", person_id=row.person_id, what=f"correction {number}")
    offers = [o for o in kernel.allowed(row.case, request.scope) if o.move.form is not None]
    context: dict[str, Any] = {
        "row": row, "trouble": trouble, "sheet": _entry(request, row), "key": secrets.token_urlsafe(12),
        "offers": [
            {"move": o.move, "form": o.move.form(request.POST if bound == o.move.name else None, auto_id=f"{o.move.name}_%s")}
            for o in offers
            if o.ok and o.move.form is not None
        ],
        "why": next((o.why for o in offers if not o.ok), None),
    }  # fmt: skip
    return render(request, "phone/answer.html", context, status=status)


def _entry(request: HttpRequest, row: Correction) -> readable.Sheet | None:
    if not request.scope.clinical:
        return None
    rtype, _, rid = row.reference.partition("/")
    with connection.cursor() as cursor:
        found = store.read(cursor, request.scope, rtype, rid)
    if found is None or found.status != 200:
        return None
    audit.write(request.scope, "read", person_id=row.person_id, what=row.reference)
    return readable.sheet(json.loads(found.body))
