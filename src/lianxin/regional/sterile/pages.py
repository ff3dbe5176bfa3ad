"""Pages for whoever scans: the overview, the scan page, opening on a patient, sets and one set."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import segno
from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from lianxin.access import audit
from lianxin.access.errors import NoRelationship
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.places.common import person_of, whole
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.network.models import Institution
from lianxin.regional.sterile import opening, policy, requests, scan
from lianxin.regional.sterile.models import LOAD_STATES, STATES, Duty, Instrument, Load, Request, Set, SetType
from lianxin.standards import clock
from lianxin.standards.text import T, Text

PAGE = 50
SOON = 7
MOST_NEW = 200


def key_of(request: HttpRequest) -> str:
    """The request's own key, so that a double click is one act."""
    typed = request.POST.get("_key", "")[:40] or uuid.uuid4().hex
    return f"page:{request.scope.account_id}:{typed}"


def visible(scope: Scope) -> QuerySet[Set]:
    """Sets that are some business of the own institution: held, owned, or the centre's (an office: of its consortium)."""
    ids = scope.institution_ids | scope.oversight_ids
    return Set.objects.filter(Q(holder_id__in=ids) | Q(centre_id__in=ids) | Q(owner_id__in=ids))


def guard(scope: Scope) -> None:
    """Whoever uses sets, and the consortium's office."""
    if not scope.may("run_centres"):
        scope.demand("use_sterile")


@page()
def home(request: HttpRequest) -> HttpResponse:
    """What waits: at the centre by step, in the own store by kind, requests, loads, recalls."""
    scope: Scope = request.scope
    guard(scope)
    today, mine = clock.today(), scope.institution_ids
    centre = scope.may("run_sterile")
    steps = []
    if centre:
        counts = dict(Set.objects.filter(centre_id__in=mine).values_list("state").annotate(n=Count("pk")))
        steps = [(code, label, counts.get(code, 0)) for code, label in STATES.items() if counts.get(code)]
    held = Set.objects.filter(holder_id__in=mine, state="stored")
    store = (
        held.values("type__code", "type__name", "type__name_en")
        .annotate(
            n=Count("pk", filter=Q(expires_on__gte=today)), soon=Count("pk", filter=Q(expires_on__gte=today, expires_on__lte=today + dt.timedelta(days=SOON))),
            past=Count("pk", filter=Q(expires_on__lt=today)),
        )
        .order_by("type__code")
    )  # fmt: skip
    asked = Request.objects.filter(Q(asker_id__in=mine) | Q(centre_id__in=mine), live=True)
    loads = Load.objects.filter(institution_id__in=mine, state__in=["running", "waiting", "emergency"])
    duties = Duty.objects.within(scope).filter(live=True, institution_id__in=mine)
    return render(
        request, "sterile/home.html",
        {"centre": centre, "steps": steps, "store": [{**line, "label": T(line["type__name"], line["type__name_en"] or line["type__name"])} for line in store],
         "arriving": Set.objects.filter(holder_id__in=mine, state="sent").count(), "recalled": Set.objects.filter(holder_id__in=mine, state="recalled").count(),
         "asked": asked.select_related("case", "asker", "centre").order_by("case__due_at")[:20], "loads": loads.select_related("steriliser").order_by("started_at")[:20],
         "duties": duties.select_related("case", "recall").order_by("case__due_at")[:20], "may_use": scope.may("use_sterile"), "may_open": scope.may("use_sterile") and scope.clinical,
         "may_manage": scope.may("run_centres") or centre, "soon_days": SOON},
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- scanning


@page(may="use_sterile")
def scanning(request: HttpRequest) -> HttpResponse:
    """Choose the step, scan one or many; each answers at once, and the next may be scanned."""
    scope: Scope = request.scope
    steps = scan.offered(scope)
    name = request.POST.get("move") or request.GET.get("move", "")
    if name not in {m.name for m in steps}:
        name = steps[0].name
    answers: list[scan.Scanned] = []
    trouble: Text | None = None
    status = 200
    if request.method == "POST":
        codes = scan.codes_of(request.POST.get("codes", ""))
        if not codes:
            trouble, status = T("请扫描至少一个器械包。", "Scan at least one set."), 422
        else:
            try:
                answers = scan.move(scope, name, codes, key_of(request), **scan.form(request.POST))
                status = 200 if any(a.ok for a in answers) else 409
            except NotAllowed as refusal:
                trouble, status = refusal.text, 422
    return render(
        request, "sterile/scan.html",
        {"steps": steps, "move": scan.MOVES[name], "answers": answers, "trouble": trouble, "materials": policy.materials(scope.institution_id or 0),
         "material": request.POST.get("material", ""), "typed": request.POST.get("codes", "") if trouble else "", "key": uuid.uuid4().hex,
         "note": request.POST.get("note", "") if trouble else "", "done": sum(a.ok for a in answers)},
        status=status,
    )  # fmt: skip


@page(clinical=True)
def opened(request: HttpRequest) -> HttpResponse:
    """Scan the set and the patient: the set is refused at the scan when it is not fit, else it is on the patient's record."""
    scope: Scope = request.scope
    scope.demand("use_sterile")
    trouble: Text | None = None
    if request.method == "POST":
        person = person_of(request.POST.get("person", ""))
        try:
            if person is None:
                raise Refused(
                    {
                        "person": T(
                            "找不到该患者，请扫码或输入主索引号、卡号。",
                            "No such patient: scan the card or type the number.",
                        )
                    }
                )
            made = opening.open_on(
                scope,
                request.POST.get("code", ""),
                person.pk,
                request.POST.get("procedure", ""),
                key_of(request),
            )
        except Refused as refusal:
            trouble = next(iter(refusal.errors.values()))
        except NotAllowed as refusal:
            trouble = refusal.text
        except NoRelationship as refusal:
            trouble = refusal.message
        else:
            said = T("{s} 已开包用于 {p}，可追溯到批次 {l}。", "{s} opened on {p}; traced to load {l}.")
            messages.success(request, str(said.format(s=made.set.code, p=person.name, l=made.load.number)))
            return redirect("sterile:open")
    return render(
        request, "sterile/open.html", {"trouble": trouble, "typed": request.POST, "key": request.POST.get("_key", "") if not trouble else uuid.uuid4().hex},
        status=422 if trouble else 200,
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------- sets


@page()
def sets(request: HttpRequest) -> HttpResponse:
    """Sets in sight, by state, kind and code."""
    scope: Scope = request.scope
    guard(scope)
    rows = visible(scope).select_related("type", "holder", "load")
    state, kind, q = (
        request.GET.get("state", ""),
        request.GET.get("type", ""),
        request.GET.get("q", "").strip()[:60],
    )
    if state in STATES:
        rows = rows.filter(state=state)
    if kind:
        rows = rows.filter(type__code=kind[:20])
    if request.GET.get("mine"):
        rows = rows.filter(holder_id__in=scope.institution_ids)
    if request.GET.get("expiring"):
        rows = rows.filter(state="stored", expires_on__lte=clock.today() + dt.timedelta(days=SOON))
    if q:
        codes = scan.codes_of(q)
        rows = rows.filter(Q(code__in=codes) | Q(udi=q) | Q(instruments__udi=q)).distinct()
    lines = Paginator(rows.order_by("code"), PAGE).get_page(request.GET.get("page"))
    return render(
        request, "sterile/sets.html",
        {"lines": lines, "states": STATES, "types": SetType.objects.filter(active=True), "state": state, "type": kind, "q": q, "today": clock.today(),
         "centre": scope.may("run_sterile")},
    )  # fmt: skip


@page()
def one(request: HttpRequest, code: str) -> HttpResponse:
    """One set: its label, what is in it, where it has been."""
    guard(request.scope)
    row = (
        visible(request.scope)
        .select_related("type", "owner", "holder", "centre", "load__steriliser")
        .filter(code=code.upper())
        .first()
    )
    if row is None:
        raise Http404
    events = row.events.select_related("institution").order_by("-at", "-pk")[:100]
    for event in events:
        event.label = scan.MOVES[event.move].label if event.move in scan.MOVES else STATES[event.to_state]  # type: ignore[attr-defined]
    qr = segno.make(row.code, error="m").svg_data_uri(scale=4, border=1)
    return render(
        request, "sterile/set.html",
        {"s": row, "events": events, "qr": qr, "instruments": row.instruments.order_by("-active", "pk"), "expired": row.expires_on is not None and row.expires_on < clock.today(),
         "centre": request.scope.may("run_sterile")},
    )  # fmt: skip


@page(may="run_sterile")
def new(request: HttpRequest) -> HttpResponse:
    """Register sets: a kind and how many, whose they are; codes follow the kind's own numbers. An instrument is registered with its set."""
    scope: Scope = request.scope
    trouble: Text | None = None
    centre = Institution.objects.get(pk=scope.institution_id or 0)
    owners = Institution.objects.filter(pk__in=_supplied(centre), active=True).order_by("code")
    if request.method == "POST":
        kind = SetType.objects.filter(code=request.POST.get("type", ""), active=True).first()
        owner = owners.filter(code=request.POST.get("owner", "")).first() or centre
        count, udi = whole(request.POST.get("count", "")), request.POST.get("udi", "").strip()[:120]
        if kind is None or not 1 <= count <= MOST_NEW:
            trouble = T(
                "请选择种类并填写 1 至 {n} 的数量。", "Choose the kind and a number from 1 to {n}."
            ).format(n=str(MOST_NEW))
        elif udi and count != 1:
            trouble = T("填写 UDI 时每次登记一包。", "With a UDI register one set at a time.")
        else:
            made = register(scope, kind, owner, centre, count, udi, key_of(request))
            said = T("已登记 {n} 包：{a} 至 {b}。", "{n} sets registered: {a} to {b}.")
            messages.success(request, str(said.format(n=str(len(made)), a=made[0].code, b=made[-1].code)))
            return redirect("sterile:sets")
    return render(
        request, "sterile/new.html",
        {"types": SetType.objects.filter(active=True), "owners": owners, "trouble": trouble, "typed": request.POST, "key": uuid.uuid4().hex},
        status=422 if trouble else 200,
    )  # fmt: skip


def _supplied(centre: Institution) -> list[int]:
    from lianxin.network import directory

    ids = {centre.pk}
    for consortium in directory.consortia_of(centre):
        ids |= set(directory.members_of(consortium).values_list("pk", flat=True))
    return sorted(ids)


@transaction.atomic
def register(
    scope: Scope, kind: SetType, owner: Institution, centre: Institution, count: int, udi: str, key: str
) -> list[Set]:
    """New sets of a kind, numbered after the last one of the kind. The same ``key`` gives the same sets."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 19))", [f"sterile:new:{kind.code}"])
        cursor.execute(
            "SELECT code FROM sterile_event e JOIN sterile_set s ON s.id = e.set_id WHERE e.move = 'register' AND e.key LIKE %s || ':%%' ORDER BY 1",
            [key],
        )
        before = [row[0] for row in cursor.fetchall()]
        if before:
            return list(Set.objects.filter(code__in=before).order_by("code"))
        cursor.execute(
            "SELECT COALESCE(max(substring(code from '[0-9]+$')::bigint), 0) FROM sterile_set WHERE code ~ %s",
            [f"^{kind.code}-[0-9]{{1,9}}$"],
        )
        last = cursor.fetchone()[0]
    now = clock.now()
    made = Set.objects.bulk_create(
        [
            Set(
                code=f"{kind.code}-{last + n:05d}",
                udi=udi,
                type=kind,
                owner=owner,
                holder=centre,
                centre=centre,
                changed_at=now,
            )
            for n in range(1, count + 1)
        ]
    )
    from lianxin.regional.sterile.models import Event

    Event.objects.bulk_create(
        [
            Event(
                set=s,
                turn=1,
                move="register",
                from_state="",
                to_state="used",
                institution=centre,
                by=scope.name[:80],
                account_id=scope.account_id,
                at=now,
                key=f"{key}:{s.code}",
            )
            for s in made
        ]
    )
    audit.write(
        scope, "create", what=f"sterile sets {kind.code}", detail={"sets": [s.code for s in made][:100]}
    )
    return made


@page(may="run_sterile")
def instrument(request: HttpRequest, code: str) -> HttpResponse:
    """Add an instrument to a set, or take one out (lost, broken, replaced)."""
    row = (
        visible(request.scope).filter(code=code.upper(), centre_id__in=request.scope.institution_ids).first()
    )
    if row is None or request.method != "POST":
        raise Http404
    gone = row.instruments.filter(pk=whole(request.POST.get("gone", ""))).first()
    if gone is not None:
        gone.active, gone.note = False, request.POST.get("note", "").strip()[:200]
        gone.save(update_fields=["active", "note"])
    else:
        udi, name = request.POST.get("udi", "").strip()[:120], request.POST.get("name", "").strip()[:80]
        if not udi or not name:
            messages.error(request, str(T("请填写名称和 UDI。", "Give its name and UDI.")))
            return redirect("sterile:set", row.code)
        try:
            with transaction.atomic():
                Instrument.objects.create(set=row, udi=udi, name=name)
        except IntegrityError:
            messages.error(request, str(T("该 UDI 已登记在其他器械包。", "This UDI is registered already.")))
            return redirect("sterile:set", row.code)
    audit.write(
        request.scope,
        "update",
        what=f"sterile set {row.code}",
        detail={"instrument": request.POST.get("udi", "") or "out"},
    )
    return redirect("sterile:set", row.code)


def load_label(state: str) -> Text:
    """A load's state in words."""
    return LOAD_STATES[state]


def context_of(scope: Scope) -> dict[str, Any]:
    """What the request form needs: kinds of set, the centre."""
    own = Institution.objects.filter(pk=scope.institution_id or 0).first()
    return {
        "types": SetType.objects.filter(active=True),
        "supplier": requests.centre_of(own) if own else None,
    }
