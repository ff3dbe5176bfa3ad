"""One session: its numbers and who has them, and what may be done with it; stopping sessions and what became of everybody."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.web import page
from lianxin.pool import publish
from lianxin.pool.booking import NotPossible
from lianxin.pool.models import TIERS, Place, Session
from lianxin.resident.schedules import acts, board, planning, policy, stopping
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.forms import (
    ExtraForm,
    FewerForm,
    ForPatientForm,
    QuotasForm,
    ReasonForm,
    SubstituteForm,
)
from lianxin.resident.schedules.models import Act
from lianxin.resident.schedules.pages_board import day_of, form_key, new_key, number
from lianxin.standards import clock
from lianxin.standards.text import T, Text

RELATED = ("institution", "department", "practitioner", "resource", "template")
ACTS: dict[str, Text] = {
    "extra": T("加号", "Extra numbers"),
    "quotas": T("调整预留", "Change what is kept"),
    "substitute": T("换医生（替诊）", "Substitute doctor"),
    "fewer": T("减号", "Fewer numbers"),
    "reopen": T("恢复出诊", "Open again"),
}


def find(request: HttpRequest, pk: int) -> Session:
    """A session of an institution whose schedules one runs; 404 otherwise."""
    rows = Session.objects.select_related(*RELATED).filter(institution_id__in=acts.mine(request.scope))
    found = rows.filter(pk=pk).first()
    if found is None:
        raise Http404(str(T("没有这个场次。", "No such session.")))
    return found


def _form(name: str, session: Session, data: Any = None) -> forms.Form:
    form: forms.Form
    if name == "extra":
        form = ExtraForm(data)
    elif name == "quotas":
        kept = {t: getattr(session, f"reserved_{t}") for t in ("county", "township", "village")}
        form = QuotasForm(data, initial=kept)
    elif name == "substitute":
        form = SubstituteForm(data, institution_id=session.institution_id, taken=session.taken)
    elif name == "fewer":
        form = FewerForm(data)
    else:
        form = ReasonForm(data)
    form.label_suffix = ""
    form.auto_id = f"{name}_%s"
    return form


def offered(session: Session) -> list[str]:
    """What may be done with the session now."""
    if session.ends_at <= clock.now():
        return []
    if session.status == "stopped":
        return ["reopen"] if session.starts_at > clock.now() else []
    return ["extra", "quotas", "substitute", "fewer"]


def _show(
    request: HttpRequest, session: Session, *, failed: str = "", form: forms.Form | None = None,
    trouble: Text | None = None, status: int = 200,
) -> HttpResponse:  # fmt: skip
    places = list(
        Place.objects.within(request.scope)
        .filter(session=session)
        .exclude(state="cancelled")
        .select_related("person")
        .order_by("seat_no")
    )
    opened = failed or request.GET.get("act", "")
    now = clock.now()
    taken = {tier: getattr(session, f"taken_{tier}") for tier in TIERS}
    audit.write(request.scope, "read", what=f"session {session.pk}", detail={"people": len(places)})
    context = {
        "s": session,
        "cell": board.Cell(session, board.standing(session, now)),
        "places": [{"p": p, "channel": TIERS[p.channel]} for p in places],
        "public_left": board.public_left(session, now) if session.status == "open" else 0,
        "tiers": [(label, taken[tier], getattr(session, f"reserved_{tier}", None), getattr(session, f"release_{tier}", None))
                  for tier, label in TIERS.items()],
        "offers": [
            {"name": n, "label": ACTS[n], "form": form if form is not None and n == failed else _form(n, session), "open": n == opened}
            for n in offered(session)
        ],
        "patient": _patient(request, session, failed, form, opened),
        "may_stop": session.status == "open" and session.ends_at > now,
        "acts": Act.objects.filter(session=session).order_by("-at")[:20],
        "key": new_key(),
        "trouble": trouble,
        "extra_max": policy.number("extra_max"),
        "week": board.monday(session.starts_at.astimezone(clock.ZONE).date()),
        "now": now,
    }  # fmt: skip
    return render(request, "schedules/session.html", context, status=status)


def _patient(
    request: HttpRequest, session: Session, failed: str, form: forms.Form | None, opened: str
) -> dict[str, Any] | None:
    """The form of an extra number for one patient, where it may be given."""
    over = session.status != "open" or session.ends_at <= clock.now() or session.kind != "clinic"
    if over or not request.scope.may("book") or session.institution_id not in request.scope.institution_ids:
        return None
    own = form if form is not None and failed == "patient" else ForPatientForm()
    own.auto_id = "patient_%s"
    own.label_suffix = ""
    return {"form": own, "open": opened == "patient"}


def again(
    request: HttpRequest, session: Session, failed: str, form: forms.Form, trouble: Text | None, status: int
) -> HttpResponse:
    """The session's page with a form that was refused."""
    return _show(request, session, failed=failed, form=form, trouble=trouble, status=status)


@page(may="run_schedules")
def show(request: HttpRequest, pk: int) -> HttpResponse:
    """The session with its numbers; ``?act=`` opens that act's form."""
    return _show(request, find(request, pk))


def _do(name: str, by: Any, session: Session, data: dict[str, Any], key: str) -> Act:
    """One act on a session; raises Refused or NotPossible, and then nothing has changed."""
    reason = data["reason"]
    if name == "reopen":
        return stopping.reopen(by, session, reason, key)

    def work(_act: Act) -> dict[str, Any]:
        if name == "extra":
            now = planning.add_extra(session.pk, data["count"])
            return {"count": data["count"], "capacity": now.capacity}
        if name == "quotas":
            before = [session.reserved_county, session.reserved_township, session.reserved_village]
            wanted = [data["county"], data["township"], data["village"]]
            planning.set_quotas(session.pk, *wanted)
            return {"before": before, "after": wanted}
        if name == "fewer":
            now = planning.fewer(session.pk, data["count"])
            return {"count": data["count"], "capacity": now.capacity}
        planning.substitute(session.pk, data["practitioner"].pk)
        for place in Place.objects.unscoped("their Appointments name the new doctor").filter(
            session=session, state__in=("booked", "arrived")
        ):
            publish.publish_place(place)
        return {"before": session.practitioner_id, "after": data["practitioner"].pk}

    return acts.once(
        by, key, name, work, institution_id=session.institution_id, session_id=session.pk,
        template_id=session.template_id, reason=reason,
    )  # fmt: skip


@require_POST
@page(may="run_schedules")
def act(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """Do one of the session's acts; a refusal or a bad field shows the page again with what was typed."""
    session = find(request, pk)
    if name not in ACTS:
        raise Http404
    key = f"{name}:{form_key(request)}"
    if not Act.objects.filter(key=key[:160]).exists():
        form = _form(name, session, request.POST)
        if not form.is_valid():
            return _show(request, session, failed=name, form=form, status=422)
        try:
            _do(name, request.scope, session, form.cleaned_data, key)
        except Refused as refusal:
            return _show(
                request,
                find(request, pk),
                failed=name,
                form=form,
                trouble=refusal.text,
                status=refusal.status,
            )
        except NotPossible as refusal:
            return _show(request, find(request, pk), failed=name, form=form, trouble=refusal.text, status=409)
    messages.success(request, str(T("已办理：{what}", "Done: {what}").format(what=ACTS[name])))
    return redirect("schedules:session", pk=pk)


# ------------------------------------------------------------------------------------------------------------------ stop


def _chosen(request: HttpRequest, given: Any) -> list[Session]:
    since = given.get("since", "")
    today = clock.today()
    return stopping.chosen(
        request.scope,
        ids=[n for n in map(number, given.getlist("session")) if n is not None],
        practitioner=number(given.get("practitioner", "")),
        department=number(given.get("department", "")),
        resource=number(given.get("resource", "")),
        since=day_of(since, today) if since else None,
        until=day_of(given.get("until", ""), day_of(since, today)) if since else None,
    )


def _stop_page(
    request: HttpRequest,
    sessions: list[Session],
    *,
    trouble: Text | None = None,
    reason: str = "",
    status: int = 200,
) -> HttpResponse:
    still = [s for s in sessions if s.status == "open"]
    people = stopping.affected(request.scope, still)
    audit.write(
        request.scope, "read", what="stop-clinic", detail={"sessions": len(still), "people": len(people)}
    )
    count: dict[int, int] = {}
    for one in people:
        count[one.place.session_id] = count.get(one.place.session_id, 0) + 1
    context = {
        "rows": [{"s": s, "times": board.times(s), "people": count.get(s.pk, 0)} for s in still],
        "already": [s for s in sessions if s.status != "open"],
        "people": people,
        "phones": sum(p.phone for p in people),
        "referrals": sum(bool(p.referral) for p in people),
        "reasons": policy.stop_reasons(),
        "key": new_key(),
        "trouble": trouble,
        "reason": reason,
        "given": request.GET,
        "ranged": bool(request.GET.get("since")),
        "since": request.GET.get("since", ""),
        "until": request.GET.get("until", ""),
        "week": board.monday(
            sessions[0].starts_at.astimezone(clock.ZONE).date() if sessions else clock.today()
        ),
        "place": sessions[0].institution if sessions else None,
        "hospital": any(s.owner == "hospital" for s in still),
    }
    return render(request, "schedules/stop.html", context, status=status)


@page(may="run_schedules")
def stop(request: HttpRequest) -> HttpResponse:
    """GET: who would be affected (``?session=…`` or ``?practitioner=&since=&until=``). POST: stop the sessions ticked."""
    if request.method != "POST":
        return _stop_page(request, _chosen(request, request.GET))
    key = f"{request.scope.account_id}:{request.POST.get('_key', '')[:40] or new_key()}"
    ids = [n for n in map(number, request.POST.getlist("session")) if n is not None]
    reason = (request.POST.get("reason", "") or request.POST.get("other", "")).strip()[:200]
    sessions = stopping.chosen(request.scope, ids=ids) if ids else []
    before = Act.objects.filter(batch=key, kind="stop", institution_id__in=acts.mine(request.scope))
    if not before.exists():
        if not sessions:
            return _stop_page(
                request, [], trouble=T("请至少选一个未结束的场次。", "Choose at least one session that is not over."),
                reason=reason, status=422,
            )  # fmt: skip
        if len(reason) < 2:
            return _stop_page(
                request, sessions, trouble=T("请写明停诊理由（至少 2 个字）。", "Say why the clinic is stopped (2 characters at least)."),
                reason=reason, status=422,
            )  # fmt: skip
        if not any(s.status == "open" for s in sessions):
            return _stop_page(
                request, sessions, trouble=T("所选场次已停诊，无需重复办理。", "These sessions are stopped already."),
                reason=reason, status=409,
            )  # fmt: skip
    done = stopping.stop(request.scope, sessions, reason, key)
    if not done:  # somebody else was faster
        return _stop_page(
            request, stopping.chosen(request.scope, ids=ids), reason=reason, status=409,
            trouble=T("所选场次刚刚已由他人停诊。", "Somebody else has just stopped these sessions."),
        )  # fmt: skip
    numbers = sum(a.detail.get("numbers", 0) for a in done)
    messages.success(
        request,
        str(
            T("已停诊 {n} 场，涉及 {p} 个号。", "{n} sessions stopped, {p} numbers concerned.").format(
                n=len(done), p=numbers
            )
        ),
    )
    return redirect("schedules:stopped", batch=key)


@page(may="run_schedules")
def stopped(request: HttpRequest, batch: str) -> HttpResponse:
    """What became of everybody whose number a stop took away."""
    stops = list(
        Act.objects.filter(batch=batch, kind="stop", institution_id__in=acts.mine(request.scope))
        .select_related("session__department", "session__practitioner", "session__institution")
        .order_by("pk")
    )
    if not stops:
        raise Http404(str(T("没有这次停诊。", "No such stop.")))
    return _aftermath(request, stops)


@page(may="run_schedules")
def stops(request: HttpRequest) -> HttpResponse:
    """All stops of the last two weeks (``?days=``) with what is still owed; ``?session=`` those of one session."""
    days = min(number(request.GET.get("days", "")) or 14, 90)
    rows = Act.objects.filter(kind="stop", institution_id__in=acts.mine(request.scope)).select_related(
        "session__department", "session__practitioner", "session__institution"
    )
    session = number(request.GET.get("session", ""))
    if session is not None:
        rows = rows.filter(session_id=session)
    else:
        rows = rows.filter(at__gte=clock.now() - dt.timedelta(days=days))
    return _aftermath(request, list(rows.order_by("-at")[:200]))


def _aftermath(request: HttpRequest, stops_: list[Act]) -> HttpResponse:
    after = stopping.aftermath(request.scope, stops_)
    audit.write(request.scope, "read", what="stop-clinic outcome", detail={"people": len(after)})
    shown = request.GET.get("show", "")
    counts = {c: sum(a.outcome == c for a in after) for c in ("owed", "rebooked", "closed", "none")}
    context = {
        "stops": stops_,
        "after": [a for a in after if not shown or a.outcome == shown],
        "total": len(after),
        "counts": counts,
        "shown": shown,
        "more": urlencode({k: v for k, v in request.GET.items() if k != "show"}),
        "may_book": request.scope.may("book"),
        "board": reverse("schedules:board"),
    }
    return render(request, "schedules/stopped.html", context)
