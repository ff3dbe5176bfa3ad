"""The bed board: free beds of the whole consortium as counts, the own wards bed by bed, and what a ward does with a bed."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST

from lianxin.access import audit, relationships
from lianxin.access.scope import Scope
from lianxin.access.web import page
from lianxin.clinical.places import common
from lianxin.clinical.referral.models import Referral
from lianxin.pool import exclusive
from lianxin.pool.errors import BookingError, NotPossible
from lianxin.pool.exclusive import Standing
from lianxin.pool.models import AGES, GRADES, ISOLATIONS, SEXES, Claim, Resource
from lianxin.standards import clock
from lianxin.standards.text import T, Text

VERBS: dict[str, Text] = {
    "hold": T("暂留 2 小时", "Hold for 2 hours"),
    "book": T("分配", "Assign"),
    "assign": T("确认分配", "Confirm"),
    "occupy": T("入住", "Admit"),
    "extend": T("改离开时间", "Change the end"),
    "move": T("转床", "Move to another bed"),
    "vacate": T("离床", "Vacate"),
    "clean": T("清洁完成", "Cleaned"),
    "cancel": T("取消", "Cancel"),
    "block": T("停用", "Out of use"),
    "unblock": T("恢复使用", "Back in use"),
}
OFFERED = {
    "free": ("book", "hold", "block"),
    "held": ("assign", "occupy", "cancel"),
    "assigned": ("occupy", "move", "cancel"),
    "occupied": ("vacate", "extend", "move"),
    "cleaning": ("clean",),
    "blocked": ("unblock",),
}
TONES = {
    "free": "good",
    "held": "warn",
    "assigned": "accent",
    "occupied": "",
    "cleaning": "warn",
    "blocked": "bad",
}


def beds_of(institution_ids: list[int]) -> list[Resource]:
    """Beds in use of these institutions, by institution, ward and code."""
    rows = Resource.objects.filter(kind="bed", active=True, institution_id__in=institution_ids)
    return list(
        rows.select_related("institution", "department").order_by(
            "institution__code", "department__code", "code"
        )
    )


def counts(beds: list[Resource], standing: dict[int, Standing]) -> list[dict[str, Any]]:
    """One line per ward: how many beds, how many free, and of what sort. No patient is in it."""
    wards: dict[tuple[int, int | None], list[Resource]] = {}
    for bed in beds:
        wards.setdefault((bed.institution_id, bed.department_id), []).append(bed)
    lines = []
    for members in wards.values():
        free = [b for b in members if standing[b.pk].state == "free"]
        sorts: Counter[str] = Counter()
        for bed in free:
            sorts[f"sex_{bed.sex}"] += 1
            sorts["child"] += bed.age == "child"
            sorts["critical"] += bed.grade in ("icu", "hdu")
            sorts["isolation"] += bool(bed.isolation)
        lines.append(
            {
                "institution": members[0].institution, "ward": members[0].department, "beds": len(members), "free": len(free),
                "coming": sum(1 for b in members if standing[b.pk].next), **dict(sorts),
            }
        )  # fmt: skip
    return lines


def _numbers_of(claims: list[Claim]) -> dict[int, str]:
    """case id → number of the referral a claim was made for."""
    ids = {c.case_id for c in claims if c.case_id}
    rows = Referral.objects.unscoped("the ward's own beds name the referral they wait for").filter(pk__in=ids)
    return dict(rows.values_list("pk", "case__number"))


def _sort(bed: Resource) -> str:
    parts = [SEXES[bed.sex]] if bed.sex != "any" else []
    parts += [AGES[bed.age]] if bed.age != "any" else []
    parts += [GRADES[bed.grade]] if bed.grade != "general" else []
    parts += [ISOLATIONS[bed.isolation]] if bed.isolation else []
    return " · ".join(str(p) for p in parts)


def wards_of(scope: Scope, beds: list[Resource], standing: dict[int, Standing]) -> list[dict[str, Any]]:
    """The own wards, bed by bed, with the patients' names and what may be done."""
    mine = [b for b in beds if b.institution_id in scope.institution_ids]
    claims = [c for b in mine for c in (standing[b.pk].claim, standing[b.pk].next) if c is not None]
    numbers = _numbers_of(claims)
    wards: dict[int | None, dict[str, Any]] = {}
    act = scope.may("run_beds")
    for bed in mine:
        ward = wards.setdefault(
            bed.department_id, {"ward": bed.department, "institution": bed.institution, "lines": []}
        )
        now = standing[bed.pk]
        verbs = list(OFFERED[now.state]) if act else []
        if act and now.state == "free" and now.next is not None and now.next.state in ("assigned", "held"):
            verbs = ["occupy", "cancel", "block"]
        ward["lines"].append(
            {
                "bed": bed, "now": now, "sort": _sort(bed), "tone": TONES[now.state], "verbs": [(v, VERBS[v]) for v in verbs],
                "case": numbers.get(now.claim.case_id or 0) if now.claim else None,
                "next_case": numbers.get(now.next.case_id or 0) if now.next else None,
                "until": now.claim.during.upper if now.claim and now.claim.during.upper < exclusive.FOREVER else None,
            }
        )  # fmt: skip
    for ward in wards.values():
        ward["anchor"] = f"ward-{ward['ward'].pk if ward['ward'] else 0}"
        ward["free"] = sum(1 for line in ward["lines"] if line["now"].state == "free")
    return list(wards.values())


def _context(request: HttpRequest, **more: Any) -> dict[str, Any]:
    scope = request.scope
    beds = beds_of([i.pk for i in common.partners(scope)])
    standing = exclusive.standing(beds)
    lines = counts(beds, standing)
    own = wards_of(scope, beds, standing)
    return {
        "lines": lines, "wards": own, "total": sum(x["beds"] for x in lines), "free": sum(x["free"] for x in lines),
        "overdue": sum(1 for w in own for x in w["lines"] if x["now"].overdue), "at": clock.now(), **more,
    }  # fmt: skip


@page(may="see_pools")
def board(request: HttpRequest) -> HttpResponse:
    """Free beds of the consortium; the own wards bed by bed (names only there, and audited)."""
    context = _context(request)
    if context["wards"]:
        audit.write(request.scope, "read", what="bed board")
    return render(request, "places/beds.html", context)


@page(may="run_beds")
def one(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """The form of one act on one bed (assign, hold, prolong, move, out of use), and the act."""
    scope = request.scope
    bed = common.own_resource(scope, str(pk), "bed")
    if verb not in VERBS:
        raise Http404
    trouble: dict[str, Any] = {}
    typed = request.POST if request.method == "POST" else {}
    if request.method == "POST":
        try:
            with transaction.atomic():
                _act(request, scope, bed, verb)
        except BookingError as refusal:
            trouble = {"trouble": refusal.text, "others": getattr(refusal, "alternatives", [])}
        else:
            said = T("已办理：{bed} {what}", "Done: {bed} {what}").format(bed=bed.code, what=VERBS[verb])
            messages.success(request, str(said))
            return redirect("places:beds")
    now = exclusive.standing([bed])[bed.pk]
    claim = now.claim or now.next
    window = (clock.now(), clock.now() + dt.timedelta(days=1))
    patient = claim.person_id if claim else None
    free = exclusive.alternatives(bed, *window, patient, count=40) if verb == "move" else []
    context = {
        "bed": bed, "verb": verb, "label": VERBS[verb], "now": now, "claim": claim, "typed": typed, "free": free, "sort": _sort(bed),
        "key": common.fresh(), "at": clock.now(), "until": clock.now() + dt.timedelta(days=5), **trouble,
    }  # fmt: skip
    return render(request, "places/bed_act.html", context, status=409 if trouble else 200)


@require_POST
@page(may="run_beds")
def act(request: HttpRequest, pk: int, verb: str) -> HttpResponse:
    """An act that needs no form, straight from the board."""
    return one(request, pk, verb)


def _act(request: HttpRequest, scope: Scope, bed: Resource, verb: str) -> None:
    post = request.POST
    key = common.key_of(request, "bed")
    if verb in ("hold", "book"):
        person = common.person_of(post.get("person", ""))
        if person is None:
            raise NotPossible(
                T("没有找到该患者，请核对主索引号或卡号。", "No such patient; check the number or card.")
            )
        relationships.require(scope, person.pk)
        since, until = (
            common.moment_of(post.get("at", "")) or clock.now(),
            common.moment_of(post.get("until", "")),
        )
        if until is None:
            raise NotPossible(T("请填写预计离开时间。", "Give the time until when."))
        take = exclusive.hold if verb == "hold" else exclusive.book
        claim = take(bed.pk, person.pk, max(since, clock.now()), until, key)
        audit.write(
            scope,
            "create",
            person_id=person.pk,
            what=f"bed {bed.code}",
            detail={"act": verb, "claim": claim.pk},
        )
        return
    if verb == "block":
        reason = post.get("reason", "").strip()
        if not reason:
            raise NotPossible(T("请写明停用原因。", "Write why it is out of use."))
        exclusive.block(bed.pk, clock.now(), common.moment_of(post.get("until", "")), key, reason)
        audit.write(scope, "update", what=f"bed {bed.code}", detail={"act": verb})
        return
    claim = _claim_of(bed, post.get("claim", ""))
    _change(claim, bed, verb, post, key)
    audit.write(
        scope,
        "update",
        person_id=claim.person_id,
        what=f"bed {bed.code}",
        detail={"act": verb, "claim": claim.pk},
    )


def _change(claim: Claim, bed: Resource, verb: str, post: Any, key: str) -> None:
    if verb == "extend":
        until = common.moment_of(post.get("until", ""))
        if until is None:
            raise NotPossible(T("请填写新的离开时间。", "Give the new end."))
        exclusive.extend(claim, until)
    elif verb == "move":
        other = Resource.objects.filter(
            pk=common.whole(post.get("to", "")), institution_id=bed.institution_id, kind="bed"
        ).first()
        if other is None:
            raise NotPossible(T("请选择转往的床位。", "Choose the bed to move to."))
        exclusive.move(claim, other.pk, key)
    elif verb in ("cancel", "unblock"):
        if verb == "cancel" and claim.case_id:
            raise NotPossible(
                T(
                    "这张床由转诊单预约，请在转诊单上改约或取消。",
                    "This bed was booked by a referral; change or cancel it there.",
                )
            )
        exclusive.cancel(claim, post.get("reason", "") or verb)
    else:
        {
            "assign": exclusive.assign,
            "occupy": exclusive.occupy,
            "vacate": exclusive.vacate,
            "clean": exclusive.clean,
        }[verb](claim)


def _claim_of(bed: Resource, pk: str) -> Claim:
    found = (
        Claim.objects.unscoped("a claim on the ward's own bed")
        .filter(pk=common.whole(pk), resource=bed)
        .first()
    )
    if found is None:
        raise Http404
    return found
