"""Arrivals: the list with its filters, one with its findings and lineage, its content (audited), and what may be done with it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.feeds import errors, inbox, lineage
from lianxin.exchange.feeds.models import QUARANTINED, REFUSED, TAKEN, Arrival, Finding
from lianxin.exchange.feeds.quality import content, replaying, rules, selecting, words
from lianxin.exchange.feeds.quality.models import Replay
from lianxin.index.models import Person
from lianxin.standards.text import T, Text

PAGE = 50
WHY_LEAST = 4  # characters of a reason somebody has to give


def dressed(one: Arrival) -> dict[str, Any]:
    """An arrival with the words of the templates."""
    code, why = errors.read(one.error)
    return {
        "row": one, "door": words.DOORS[one.door], "state": words.STATES[one.state], "tone": words.TONES[one.state],
        "icon": words.ICONS[one.state], "code": code, "why": why, "rule": _rule_of(code),
        "sender": one.client.name if one.client else one.peer.name if one.peer else one.sender or T("未知发送方", "Unknown sender"),
    }  # fmt: skip


def _rule_of(code: str) -> Text | None:
    rule = rules.shipped().get(code.partition(" ")[0])
    return rule.title if rule else None


def seen_or_404(scope: Scope, pk: int) -> Arrival:
    """An arrival the scope sees; 404 otherwise."""
    seen = selecting.institutions(scope)
    found = Arrival.objects.filter(pk=pk) if pk < 1 << 62 else Arrival.objects.none()
    if seen is not None:
        found = found.filter(institution_id__in=seen)
    one = found.select_related("institution", "client", "peer").first()
    if one is None:
        raise Http404
    return one


@page(may="see_feeds")
def messages_list(request: HttpRequest) -> HttpResponse:
    """All arrivals or some, newest first; what could not be taken is the dead letters (``state=waiting``)."""
    wanted = selecting.asked(request.GET)
    found = selecting.rows(selecting.institutions(request.scope), wanted)
    part = selecting.page(found, request.GET.get("after", ""), PAGE)
    query = urlencode(wanted)
    context = {
        "lines": [dressed(one) for one in part.lines],
        "wanted": wanted,
        "query": query,
        "next": f"?{query}&{urlencode({'after': part.after})}" if part.after else "",
        "first": bool(request.GET.get("after")),
        "doors": words.DOORS.items(),
        "states": [
            (selecting.WAITING, T("未入库（被拒、待核）", "Not in the record")),
            *words.STATES.items(),
        ],
        "may_mend": request.scope.may("mend_feeds"),
        "replays": Replay.objects.filter(state="waiting")[:5] if request.scope.may("mend_feeds") else [],
        "most": replaying.MOST,
        "replayable": wanted.get("state") not in (None, TAKEN),
    }
    return render(request, "feeds/messages.html", context)


@page(may="see_feeds")
def message(request: HttpRequest, pk: int) -> HttpResponse:
    """One arrival: what is known of it without opening it, what was found, and its lineage."""
    one = seen_or_404(request.scope, pk)
    return render(request, "feeds/messages_one.html", _context(request, one))


def _context(request: HttpRequest, one: Arrival) -> dict[str, Any]:
    scope = request.scope
    found = [
        {"f": f, "title": rules.words_of(f.rule), "shipped": f.rule in rules.shipped(), "severity": words.SEVERITIES[f.severity], "tone": words.TONES[f.severity],
         "state": words.FINDINGS[f.state], "text": Text(f.zh, f.en)}
        for f in Finding.objects.filter(arrival=one).order_by("pk")[:200]
    ]  # fmt: skip
    opens = scope.may("open_message")
    made = lineage.made_of(one) if one.state == TAKEN else []
    kinds: dict[str, int] = {}
    for resource in made:
        kinds[resource.rtype] = kinds.get(resource.rtype, 0) + 1
    person = None
    if opens and one.person_id:
        person = (
            Person.objects.unscoped("whose message this is, for who may open it")
            .filter(pk=one.person_id)
            .first()
        )
    return {
        **dressed(one), "findings": found, "opens": opens, "may_mend": scope.may("mend_feeds"), "made": made, "kinds": kinds.items(),
        "told": sum(len(m.told) for m in made), "person": person, "more": len(one.resources) - len(made),
        "may_replay": one.state != TAKEN, "may_release": one.state == QUARANTINED, "may_drop": one.state in (REFUSED, QUARANTINED),
        "lag": (one.at - one.sent_at).total_seconds() if one.sent_at else None,
    }  # fmt: skip


@require_POST
@page(may="open_message")
def opened(request: HttpRequest, pk: int) -> HttpResponse:
    """The bytes of an arrival and its answer, made readable; audited as a read of the person. ``original=1``: the file."""
    one = seen_or_404(request.scope, pk)
    audit.write(
        request.scope, "read", person_id=one.person_id, what=f"arrival {one.pk}", detail={"door": one.door}
    )
    body = inbox.body_of(one)
    if request.POST.get("original"):
        answer = HttpResponse(body, content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="arrival-{one.pk}{content.suffix(one.door)}"'
        return answer
    context = _context(request, one) | {
        "content": content.readable(one.door, body),
        "answer": content.answer_of(one),
        "size": len(body),
    }
    return render(request, "feeds/messages_one.html", context)


@require_POST
@page(may="mend_feeds")
def act(request: HttpRequest, pk: int, what: str) -> HttpResponse:
    """Take once more, let into the record as it is, refuse what is quarantined, or set aside (all but the first with a reason)."""
    one = seen_or_404(request.scope, pk)
    why = request.POST.get("why", "").strip()
    if what not in ("replay", "release", "refuse", "drop"):
        raise Http404
    if what != "replay" and len(why) < WHY_LEAST:
        messages.error(request, T("请写明理由（至少 4 个字）。", "Please say why (4 characters at least)."))
        return render(request, "feeds/messages_one.html", _context(request, one) | {"typed": why}, status=422)
    if one.state == TAKEN or (what in ("release", "refuse") and one.state != QUARANTINED):
        messages.error(
            request,
            T(
                "当前状态不能这样办理，可能已有人处理。",
                "That cannot be done now; perhaps somebody was faster.",
            ),
        )
        return redirect("feeds:message", pk)
    if what == "drop":
        inbox.drop(request.scope, pk, why)
        Finding.objects.filter(arrival=one, state="open").update(state="waived")
        messages.success(request, T("已搁置。", "It was set aside."))
    elif what == "refuse":
        _refuse(request.scope, one, why)
        messages.success(request, T("已改为拒绝。", "It was refused."))
    else:
        state = (
            replaying.by_hand(request.scope, pk)
            if what == "replay"
            else replaying.release(request.scope, pk, why)
        )
        if state == TAKEN:
            messages.success(request, T("已入库。", "It is in the record now."))
        else:
            messages.error(
                request, T("仍未入库，原因见下。", "It is still not in the record; the reason is below.")
            )
    back = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return redirect(back if safe and back else reverse("feeds:message", args=[pk]))


def _refuse(scope: Scope, one: Arrival, why: str) -> None:
    reason = errors.Reason(
        "refused", T("复核后拒绝：{why}", "Refused after a look: {why}").format(why=why[:300])
    )
    if Arrival.objects.filter(pk=one.pk, state=QUARANTINED).update(state=REFUSED, error=reason.kept()):
        audit.write(
            scope, "admin", person_id=one.person_id, what=f"arrival {one.pk}", detail={"did": "refuse", "why": why[:500]}
        )  # fmt: skip


@require_POST
@page(may="mend_feeds")
def replay_all(request: HttpRequest) -> HttpResponse:
    """Take everything of the filter that is not in the record once more, in the background."""
    wanted = selecting.asked(request.POST)
    if wanted.get("state") in (None, TAKEN):
        messages.error(request, T("请先筛选出未入库的来件。", "Filter what is not in the record first."))
        return redirect("feeds:messages")
    replay = replaying.begin(request.scope, wanted)
    return redirect("feeds:replay", replay.pk)


def _replay_or_404(request: HttpRequest, pk: int) -> Replay:
    found = Replay.objects.filter(pk=pk).first() if pk < 1 << 62 else None
    seen = selecting.institutions(request.scope)
    if found is None or (
        seen is not None and (found.institutions is None or not seen >= set(found.institutions))
    ):
        raise Http404
    return found


@page(may="mend_feeds")
def replay_shown(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a replay has come."""
    found = _replay_or_404(request, pk)
    context = {
        "replay": found, "part": round(100 * found.done / found.total) if found.total else 100, "query": urlencode(found.asked),
        "state": {"waiting": T("进行中", "Under way"), "done": T("已完成", "Done"), "stopped": T("已停止", "Stopped")}[found.state],
        "still": found.done - found.taken,
    }  # fmt: skip
    return render(request, "feeds/messages_replay.html", context)


@require_POST
@page(may="mend_feeds")
def replay_stop(request: HttpRequest, pk: int) -> HttpResponse:
    """Stop a replay; what it took stays taken."""
    replaying.stop(request.scope, _replay_or_404(request, pk).pk)
    return redirect("feeds:replay", pk)


@page(may="see_feeds")
def backwards(request: HttpRequest) -> HttpResponse:
    """Which arrivals made a resource: ``?resource=Type/id``."""
    text = request.GET.get("resource", "")[:300]
    reference, found = lineage.of_resource(text, selecting.institutions(request.scope)) if text else ("", [])
    context = {"asked": text, "reference": reference, "lines": [dressed(one) for one in found]}
    status = 400 if text and not reference else 200
    return render(request, "feeds/lineage.html", context, status=status)
