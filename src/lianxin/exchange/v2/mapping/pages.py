"""Mappings of HL7 v2: what holds for everybody and for each sender, changed, tried on samples and activated.

Whoever sees feeds looks; whoever mends them changes.  What holds for everybody is changed by those who oversee the consortium.
Samples may be real messages: they are opened to menders alone, sealed in the database, and every change is audited.
"""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.views.decorators.http import require_POST

from lianxin.access import audit
from lianxin.access.errors import Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.exchange.feeds.quality import selecting
from lianxin.exchange.v2.mapping import forms, samples, sheets, stored, tables, trying
from lianxin.exchange.v2.mapping.models import ACTIVE, DRAFT, RETIRED, MappingVersion
from lianxin.exchange.v2.models import Peer
from lianxin.standards.text import T, Text

STATES = {DRAFT: T("草稿", "Draft"), ACTIVE: T("启用", "Active"), RETIRED: T("停用", "Retired")}
START = """\
# 写在内置映射之上的内容；只写不同之处。 What is laid over the built-in mapping: only what differs.
# tables:            # 发送方代码 -> 我方代码 / the sender's code -> ours
#   tests:
#     GLU: http://loinc.org|14749-6|葡萄糖
#   units:
#     MGDL: mg/dL
# moved:             # 字段另有位置 / a field that stands elsewhere
#   OBR-3: ORC-3
# settings:
#   zone: "+0800"
# resources:         # 逐个元素 / element by element
#   Observation:
#     set:
#       method: null
"""


def _title(kind: str) -> Text:
    zh, _, en = str(sheets.built_in()[kind].data["title"]).partition(" / ")
    return T(zh, en or zh)


def _peers(scope: Scope) -> Any:
    """Senders whose mappings somebody sees."""
    seen = selecting.institutions(scope)
    rows = Peer.objects.select_related("client__institution").order_by("name")
    return rows if seen is None else rows.filter(client__institution_id__in=seen)


def _may(scope: Scope, peer: Peer | None) -> bool:
    """Whether somebody may change this mapping: one's senders', and everybody's when one oversees more than oneself."""
    if not scope.may("mend_feeds"):
        return False
    return peer is not None or selecting.institutions(scope) is None or bool(scope.oversight_ids)


def _of(request: HttpRequest, kind: str, peer: int | None) -> tuple[str, Peer | None]:
    if kind not in sheets.built_in():
        raise Http404
    if peer is None:
        return kind, None
    found = _peers(request.scope).filter(pk=peer).first()
    if found is None:
        raise Http404
    return kind, found


def _need(request: HttpRequest, peer: Peer | None) -> None:
    request.scope.demand("mend_feeds")
    if not _may(request.scope, peer):
        raise NotPermitted(
            T(
                "通用映射由医共体牵头方维护；您可以修改本机构发送方的映射。",
                "What holds for everybody is changed by those who oversee the consortium; you may change your own senders'.",
            )
        )


def _url(name: str, kind: str, peer: Peer | None, *more: Any) -> str:
    if peer is None:
        return reverse(f"mappings:{name}", args=[kind, *more])
    return reverse(f"mappings:sender_{name}", args=[kind, peer.pk, *more])


def _frame(request: HttpRequest, kind: str, peer: Peer | None) -> dict[str, Any]:
    return {
        "kind": kind,
        "peer": peer,
        "title": _title(kind),
        "may": _may(request.scope, peer),
        "home": _url("one", kind, peer),
        "edit_url": _url("edit", kind, peer),
        "try_url": _url("try", kind, peer),
        "change_url": _url("change", kind, peer),
        "act_url": _url("act", kind, peer),
        "sample_url": _url("sample", kind, peer),
        "states": STATES,
    }


@page(may="see_feeds")
def mappings(request: HttpRequest) -> HttpResponse:
    """All mappings, by message; under each the senders that have their own."""
    peers = {p.pk: p for p in _peers(request.scope)}
    rows = list(MappingVersion.objects.exclude(state=RETIRED).order_by("kind", "peer_id", "-version"))
    lines = []
    for kind, sheet in sheets.built_in().items():
        mine = [r for r in rows if r.kind == kind]
        lines.append(
            {
                "kind": kind,
                "title": _title(kind),
                "events": ["^".join(e) for e in sheets.events_of(sheet)],
                "version": sheet.data.get("version"),
                "common": [r for r in mine if r.peer_id is None],
                "senders": [(peers[r.peer_id], r) for r in mine if r.peer_id in peers],
            }
        )
    context = {"lines": lines, "peers": list(peers.values()), "states": STATES}
    return render(request, "feeds/mappings.html", context)


@page(may="see_feeds")
def choose(request: HttpRequest) -> HttpResponse:
    """Go to the mapping of a sender."""
    kind, peer = request.GET.get("kind", ""), request.GET.get("peer", "")
    if kind not in sheets.built_in():
        raise Http404
    found = _peers(request.scope).filter(pk=int(peer)).first() if peer.isdigit() and len(peer) < 10 else None
    return redirect(_url("one", kind, found))


@page(may="see_feeds")
def one(request: HttpRequest, kind: str, peer: int | None = None) -> HttpResponse:
    """One mapping: what it says now, its versions, its samples."""
    kind, found = _of(request, kind, peer)
    peer_id = found.pk if found else None
    active, draft = stored.active(kind, peer_id), stored.draft(kind, peer_id)
    now = draft or active
    context = _frame(request, kind, found)
    context |= {
        "active": active,
        "draft": draft,
        "outline": forms.outline(now.body if now else ""),
        "faults": stored.faults_of(kind, peer_id, draft.body) if draft else [],
        "versions": stored.versions(kind, peer_id).select_related("by", "activated_by", "based_on")[:50],
        "samples": samples.of_mapping(kind),
        "own": stored.kept_samples(kind, peer_id) if context["may"] else [],
        "tables": forms.choices(),
        "settings": list(sheets.SETTINGS.items()),
        "events": ["^".join(e) for e in sheets.events_of(sheets.built_in()[kind])],
        "resources": [k for k, v in sheets.built_in()[kind].data["resources"].items() if v],
    }
    return render(request, "feeds/mapping.html", context)


@page(may="see_feeds")
def edit(request: HttpRequest, kind: str, peer: int | None = None) -> HttpResponse:
    """The text itself, with everything that is wrong with it."""
    kind, found = _of(request, kind, peer)
    _need(request, found)
    peer_id = found.pk if found else None
    held = stored.versions(kind, peer_id).first()
    now = stored.draft(kind, peer_id) or stored.active(kind, peer_id)
    context = _frame(request, kind, found)
    context |= {
        "body": now.body if now else START,
        "why": now.why if now and now.state == DRAFT else "",
        "seen": held.version if held else 0,
    }
    if request.method == "POST":
        context |= {
            "body": request.POST.get("body", "").replace("\r\n", "\n"),
            "why": request.POST.get("why", ""),
        }
        seen = request.POST.get("seen", "")
        faults = stored.faults_of(kind, peer_id, context["body"])
        errors: dict[str, Text] = {}
        if not faults and request.POST.get("do") == "save":
            try:
                stored.save(
                    request.scope,
                    kind,
                    peer_id,
                    context["body"],
                    context["why"],
                    int(seen) if seen.isdigit() else None,
                )
            except Invalid as invalid:
                errors = invalid.errors
            else:
                messages.success(
                    request,
                    T(
                        "草稿已保存，试验通过后可以启用。",
                        "The draft is saved; activate it when its samples pass.",
                    ),
                )
                return redirect(context["home"])
        context |= {"faults": faults, "errors": errors, "checked": not faults, "seen": seen}
        return render(request, "feeds/mapping_edit.html", context, status=422 if faults or errors else 200)
    context["base"] = _base_text(kind)
    return render(request, "feeds/mapping_edit.html", context)


def _base_text(kind: str) -> str:
    return forms.written(
        {k: v for k, v in sheets.built_in()[kind].data.items() if k in ("events", "settings", "resources")}
    )


@require_POST
@page(may="mend_feeds")
def change(request: HttpRequest, kind: str, peer: int | None = None) -> HttpResponse:
    """One line by the form: a code, a moved field, a setting; kept in the draft."""
    kind, found = _of(request, kind, peer)
    _need(request, found)
    peer_id = found.pk if found else None
    now = stored.draft(kind, peer_id) or stored.active(kind, peer_id)
    asked = {k: request.POST.get(k, "")[:400] for k in ("table", "left", "right")}
    what = request.POST.get("what", "")
    try:
        body = forms.changed(now.body if now else "", what, asked)
        faults = stored.faults_of(kind, peer_id, body)
        if faults:
            raise Invalid({"right": faults[0].text})
        said = request.POST.get(
            "why", ""
        ).strip() or f"{what}: {asked['table']} {asked['left']} → {asked['right'] or '×'}".replace("  ", " ")
        stored.save(request.scope, kind, peer_id, body, said)
    except Invalid as invalid:
        messages.error(request, invalid.message)
    else:
        messages.success(request, T("已写入草稿。", "Written into the draft."))
    return redirect(_url("one", kind, found))


@page(may="see_feeds")
def attempt(request: HttpRequest, kind: str, peer: int | None = None) -> HttpResponse:
    """Try the draft (or what is active) on a message: a shipped sample, one of one's own, or one that is pasted."""
    kind, found = _of(request, kind, peer)
    peer_id = found.pk if found else None
    context = _frame(request, kind, found)
    asked = request.POST if request.method == "POST" else request.GET
    draft, active = stored.draft(kind, peer_id), stored.active(kind, peer_id)
    now = None if asked.get("which") == "active" else draft
    now = now or active
    own = stored.own_samples(kind, peer_id) if context["may"] else []
    name, text = asked.get("sample", ""), asked.get("text", "") if request.method == "POST" else ""
    if not text and name.startswith("own:"):
        text = next((s.text for row, s in own if str(row.pk) == name[4:]), "")
        audit.write(
            request.scope,
            "admin",
            what=f"HL7 v2 mapping {kind} sample {name[4:][:12]}",
            detail={"did": "opened"},
        )
    elif not text:
        shipped = samples.of_mapping(kind)
        text = next((s.text for s in shipped if s.name == name), shipped[0].text if shipped else "")
    context |= {
        "text": text,
        "sample": name,
        "samples": samples.of_mapping(kind),
        "own": [row for row, _ in own],
        "own_pk": int(name[4:]) if name.startswith("own:") and name[4:].isdigit() and len(name) < 20 else 0,
        "draft": draft,
        "active": active,
        "which": asked.get("which", ""),
    }
    if request.method == "POST" or name:
        over = stored.layers(kind, peer_id, now.body if now else None)
        before = (
            stored.layers(kind, peer_id, active.body if active else None) if now is draft and draft else None
        )
        context["trial"] = trying.run(kind, samples.encoded(text[: 2 * 1024 * 1024]), over, before)
        context["compared"] = before is not None
    return render(request, "feeds/mapping_try.html", context)


@page(may="see_feeds")
def version(request: HttpRequest, kind: str, number: int, peer: int | None = None) -> HttpResponse:
    """One version, and what changed from the one before."""
    kind, found = _of(request, kind, peer)
    rows = stored.versions(kind, found.pk if found else None)
    row = rows.select_related("by", "activated_by", "based_on").filter(version=number).first()
    if row is None:
        raise Http404
    before = rows.filter(version__lt=number, activated_at__isnull=False).first()
    context = _frame(request, kind, found)
    context |= {
        "row": row,
        "before": before,
        "difference": stored.difference(before.body if before else "", row.body),
        "draft": stored.draft(kind, found.pk if found else None),
    }
    return render(request, "feeds/mapping_version.html", context)


@require_POST
@page(may="mend_feeds")
def act(request: HttpRequest, kind: str, peer: int | None = None) -> HttpResponse:
    """Activate, retire, go back."""
    kind, found = _of(request, kind, peer)
    _need(request, found)
    number, what = request.POST.get("version", ""), request.POST.get("what", "")
    row = (
        stored.versions(kind, found.pk if found else None)
        .filter(version=int(number) if number.isdigit() and len(number) < 9 else 0)
        .first()
    )
    if row is None:
        raise Http404
    doing = {"activate": stored.activate, "retire": stored.retire, "back": stored.go_back}.get(what)
    if doing is None:
        raise Http404
    try:
        doing(request.scope, row.pk)
    except Invalid as invalid:
        messages.error(request, invalid.message)
    else:
        messages.success(request, T("已办理。", "Done."))
    return redirect(_url("one", kind, found))


@require_POST
@page(may="mend_feeds")
def sample(request: HttpRequest, kind: str, peer: int | None = None) -> HttpResponse:
    """Keep a sample, or delete one."""
    kind, found = _of(request, kind, peer)
    _need(request, found)
    peer_id = found.pk if found else None
    drop = request.POST.get("drop", "")
    try:
        if drop.isdigit() and len(drop) < 12:
            stored.drop_sample(request.scope, kind, peer_id, int(drop))
        else:
            stored.add_sample(
                request.scope, kind, peer_id, request.POST.get("name", ""), request.POST.get("text", "")
            )
    except Invalid as invalid:
        messages.error(request, invalid.message)
    else:
        messages.success(request, T("已办理。", "Done."))
    return redirect(_url("one", kind, found))


@page(may="see_feeds")
def table(request: HttpRequest, name: str) -> HttpResponse:
    """A built-in table of codes, to look at."""
    found = tables.built_in().get(name)
    if found is None:
        raise Http404
    rows = [(code, found.parts(target)) for code, target in found.codes.items()]
    return render(
        request,
        "feeds/mapping_table.html",
        {"name": name, "title": tables.describe(name), "rows": rows, "system": found.system},
    )


def _both(route: str, view: Any, name: str) -> list[Any]:
    tail = f"/{route}" if route else ""
    return [
        path(f"feeds/mappings/<slug:kind>{tail}", view, name=name),
        path(f"feeds/mappings/<slug:kind>/sender/<int:peer>{tail}", view, name=f"sender_{name}"),
    ]


app_name = "mappings"
urlpatterns = [
    path("feeds/mappings", mappings, name="list"),
    path("feeds/mappings/choose", choose, name="choose"),
    path("feeds/mappings/tables/<slug:name>", table, name="table"),
    *_both("", one, "one"),
    *_both("edit", edit, "edit"),
    *_both("try", attempt, "try"),
    *_both("change", change, "change"),
    *_both("act", act, "act"),
    *_both("sample", sample, "sample"),
    *_both("versions/<int:number>", version, "version"),
]
