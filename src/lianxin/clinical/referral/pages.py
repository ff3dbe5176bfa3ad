"""One referral: where it stands, who owes what, what one may do now, and doing it.

The page shows the moves the kernel allows and nothing else; each move's form carries the version it was drawn for and an
idempotency key. A stale version, a refusal or a bad field shows the page again with what was typed.
"""

from __future__ import annotations

import uuid
from typing import Any

from django import forms as django_forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.referral import pages_forms, pages_view, reasons
from lianxin.clinical.referral.models import Referral
from lianxin.clinical.referral.moves import RELATED
from lianxin.duty import journey, kernel, machine
from lianxin.duty.machine import Move
from lianxin.network import roles
from lianxin.pool.errors import Full
from lianxin.record import timeline
from lianxin.standards.text import T, Text

READERS = (*sorted(roles.CLINICAL), roles.RECEPTION, roles.MANAGER)
SLOT_MOVES = frozenset({"hold", "book", "reschedule", "rebook"})
JOINT_MOVES = frozenset({"book", "reschedule", "rebook"})


def find(number: str, scope: Scope) -> Referral:
    """The referral of this number within the scope; 404 says neither more nor less to a stranger than to the curious."""
    found = (
        Referral.objects.within(scope)
        .select_related("case", "person", "person__home_institution", *RELATED)
        .filter(case__number=number)
        .first()
    )
    if found is None:
        raise Http404(
            str(
                T(
                    "没有这个转诊单号，或不归你的机构办理。",
                    "No such referral, or not one of your institution's.",
                )
            )
        )
    return found


def typed(post: QueryDict) -> dict[str, Any]:
    """The form's own fields as sent (our underscored ones and the token left out)."""
    return {k: v for k, v in post.items() if not k.startswith("_") and k != "csrfmiddlewaretoken"}


def offer(
    move: Move,
    referral: Referral,
    scope: Scope,
    *,
    data: dict[str, Any] | None = None,
    key: str = "",
    open_: bool = False,
    errors: dict[str, Text] | None = None,
) -> pages_view.Offer:
    """A move as a button with its form; ``data`` and ``errors`` when it was refused."""
    form_class = move.form or django_forms.Form
    form = pages_forms.dress(form_class(data), move.name, referral, scope)
    if data is not None:
        form.is_valid()
        for name, words in (errors or {}).items():
            place = name if name in form.fields else None
            if place is None or place not in form.errors:
                form.add_error(place, str(words))
    made = pages_view.Offer(
        name=move.name,
        label=move.label,
        tone=move.tone,
        url=reverse("referral:act", args=[referral.number, move.name]),
        page=reverse("referral:show", args=[referral.number]),
        number=referral.number,
        version=referral.case.version,
        key=key or uuid.uuid4().hex,
        form=form,
        open=open_,
    )
    if move.name in SLOT_MOVES and "session" in form.fields:
        made.choices = pages_view.free_numbers(referral)
        made.chosen = str((data or {}).get("session", ""))
        if "session" in form.errors:
            form.add_error(None, form.errors["session"])
        del form.fields["session"]
    return made


def _button(move: Move, referral: Referral, scope: Scope, wanted: bool) -> pages_view.Offer:
    """The offer with its form when it is wanted (or has none), else the button alone: forms cost queries."""
    if wanted or move.form is None:
        return offer(move, referral, scope, open_=wanted)
    number = referral.number
    return pages_view.Offer(
        name=move.name, label=move.label, tone=move.tone, url=reverse("referral:act", args=[number, move.name]),
        page=reverse("referral:show", args=[number]), number=number, version=referral.case.version, key="", form=None,
    )  # fmt: skip


def _context(
    request: HttpRequest,
    referral: Referral,
    *,
    failed: pages_view.Offer | None = None,
) -> dict[str, Any]:
    scope, case = request.scope, referral.case
    sees = scope.clinical and relationships.sees(scope, referral.person_id)
    parties = {referral.from_institution_id, referral.to_institution_id}
    may_open = sees or (scope.clinical and bool(parties & scope.institution_ids))
    every = kernel.allowed(case, scope)
    wanted = request.GET.get("act", "")
    offers = [
        failed if failed and a.name == failed.name else _button(a.move, referral, scope, a.name == wanted)
        for a in every
        if a.ok
    ]
    opened = failed or next((o for o in offers if o.open and o.has_form), None)
    why = next((a.why for a in every if a.name == wanted and not a.ok), None)
    offers.sort(key=lambda o: {"primary": 0, "quiet": 1, "danger": 2}.get(o.tone, 1))
    record = timeline.banner(scope, referral.person_id, noted=True) if sees else None
    log = journey.log(case)
    bookable = next((a for a in every if a.ok and a.name in JOINT_MOVES), None)
    context = {
        "r": referral,
        "person": referral.person,
        "may_open": may_open,
        "allergies": [a["title"] for a in record.allergies] if record else None,
        "steps": journey.journey(case, log),
        "state_label": pages_view.state_label(case),
        "direction_label": pages_view.DIRECTIONS[referral.direction],
        "duties": pages_view.duties(case),
        "offers": offers,
        "opened": opened,
        "asked_why": why,
        "refused": [{"label": a.move.label, "why": a.why} for a in every if not a.ok],
        "acts": pages_view.acts(case, log),
        "legs": pages_view.legs(referral),
        "related": pages_view.related(referral, scope),
        "booking_line": pages_view.booking_line(referral),
        "mine_in": referral.to_institution_id in scope.institution_ids,
        "sent_draft": request.GET.get("sent", ""),
        "joint": sees and bookable is not None and (wanted in JOINT_MOVES or bookable.name == "book"),
        **pages_view.answer_words(referral),
    }
    if may_open:
        context |= {
            "pack": pages_view.pack(referral),
            **pages_view.plan_lines(referral),
            "letters": pages_view.letters(referral, scope),
            "messages_": pages_view.conversation(referral, scope),
            "reason_label": reasons.label("refer", referral.reason_code) if referral.reason_code else "",
        }
    return context


@page(*READERS)
def show(request: HttpRequest, number: str) -> HttpResponse:
    """The page; ``?act=<move>`` opens that move's form."""
    referral = find(number, request.scope)
    audit.write(request.scope, "read", person_id=referral.person_id, what=f"referral {number}")
    return render(request, "referral/show.html", _context(request, referral))


@page(*READERS)
def act(request: HttpRequest, number: str, move: str) -> HttpResponse:
    """GET: the move's form alone (desks load it in place), or its page when a link is followed. POST: make the move."""
    scope = request.scope
    referral = find(number, scope)
    step = machine.get(referral.case.kind).move(move)
    if step is None or step.system:
        raise Http404
    if request.method != "POST":
        if (
            request.headers.get("HX-Request") != "true"
        ):  # a link followed: the whole page with this move's form open
            return redirect(reverse("referral:show", args=[number]) + f"?act={move}#act-here")
        why = next(
            (a.why for a in kernel.allowed(referral.case, scope) if a.name == move),
            T("现在不能办理。", "Not possible now."),
        )
        made = None if why else offer(step, referral, scope, open_=True)
        if made and _safe_next(request, request.GET.get("next", "")):
            made.next = request.GET["next"]
        return render(request, "referral/_act_in_row.html", {"offer": made, "why": why, "r": referral})
    data = typed(request.POST)
    key = request.POST.get("_key", "")[:64] or uuid.uuid4().hex
    version = request.POST.get("_version", "")
    try:
        done = kernel.execute(
            move,
            referral.case,
            scope,
            data,
            int(version) if version.isdigit() else None,
            f"page:{scope.account_id}:{key}",
        )
    except (kernel.Stale, kernel.NotAllowed, kernel.Refused, kernel.KeyReused, Full) as trouble:
        return _again(request, number, step, data, key, version, trouble)
    words = T("已办理：{move}", "Done: {move}").format(move=step.label)
    messages.success(request, str(words))
    following = request.POST.get("_next", "")
    if _safe_next(request, following):
        return redirect(following)
    return redirect(reverse("referral:show", args=[done.case.number]))


def _safe_next(request: HttpRequest, target: str) -> bool:
    return target.startswith("/") and url_has_allowed_host_and_scheme(
        target, {request.get_host()}, require_https=request.is_secure()
    )


def _again(
    request: HttpRequest,
    number: str,
    step: Move,
    data: dict[str, Any],
    key: str,
    version: str,
    trouble: Exception,
) -> HttpResponse:
    """The page once more: what changed meanwhile or which field is wrong, with everything typed still there."""
    referral = find(number, request.scope)
    errors = trouble.errors if isinstance(trouble, kernel.Refused) else None
    status, more = 422, {}
    failed: pages_view.Offer | None = None
    if isinstance(trouble, kernel.KeyReused):
        key = uuid.uuid4().hex
    failed = offer(step, referral, request.scope, data=data, key=key, open_=True, errors=errors)
    context = _context(request, referral, failed=failed)
    if isinstance(trouble, kernel.Stale):
        status = 409
        seen = int(version) if version.isdigit() else 0
        more = {"stale": trouble.text, "changed": [a for a in context["acts"] if a["seq"] > seen]}
        if not data:
            failed.form = type(failed.form)()
    elif isinstance(trouble, kernel.MoveError) and errors is None:
        status = 409
        more = {"trouble": trouble.text}
    elif isinstance(trouble, Full):
        status = 409
        more = {
            "trouble": T(
                "这个号刚被约满，请从下面另选一个。", "That number has just gone; choose another below."
            )
        }
    return render(request, "referral/show.html", context | more, status=status)


@page(*READERS)
def form_pdf(request: HttpRequest, number: str) -> HttpResponse:
    """The paper 转诊单 as PDF; printing is audited."""
    from lianxin.clinical.referral import print as paper  # brings the whole typesetter with it

    referral = find(number, request.scope)
    if not request.scope.clinical:
        relationships.require(request.scope, referral.person_id)
    audit.write(request.scope, "print", person_id=referral.person_id, what=f"referral {number}")
    response = HttpResponse(paper.pdf(referral), content_type="application/pdf")
    response["Content-Disposition"] = f'inline; filename="{number}.pdf"'
    return response
