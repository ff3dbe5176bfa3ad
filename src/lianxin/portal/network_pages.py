"""The consortium: a tree and a map of its members, and what one institution is, can do, and has signed."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse

from lianxin.access.web import page
from lianxin.network import directory
from lianxin.network.kinds import AGREEMENTS, CAPABILITIES, MEMBER_ROLES, TIER_ORDER, TIERS
from lianxin.network.models import Agreement, Capability, Consortium, Institution, Membership, Post, live
from lianxin.network.roles import label
from lianxin.portal.templatetags.lianxin import named


def _tree(institutions: list[Institution], roles: dict[int, str]) -> list[dict[str, Any]]:
    """Members as a tree: an institution hangs below its parent when that is a member too; lead and higher tiers first."""
    below: dict[int | None, list[Institution]] = {}
    ids = {i.pk for i in institutions}
    for inst in institutions:
        below.setdefault(inst.parent_id if inst.parent_id in ids else None, []).append(inst)

    def branch(parent: int | None) -> list[dict[str, Any]]:
        ranked = sorted(
            below.get(parent, []),
            key=lambda i: (roles.get(i.pk) != "lead", -TIER_ORDER.index(i.tier), i.code),
        )
        return [
            {"inst": i, "role": MEMBER_ROLES.get(roles.get(i.pk, "")), "children": branch(i.pk)}
            for i in ranked
        ]

    return branch(None)


def _map(institutions: list[Institution], lead: Institution) -> dict[str, Any]:
    """Nodes and lines of the map; a line joins a member to its parent, or to the lead."""
    placed = {i.pk: i for i in institutions if i.lon is not None and i.lat is not None}
    links = [
        [str(i.pk), str(i.parent_id if i.parent_id in placed else lead.pk)]
        for i in placed.values()
        if i.pk != lead.pk and (i.parent_id in placed or lead.pk in placed)
    ]
    nodes = [
        {
            "id": str(i.pk),
            "name": named(i, "short"),
            "lon": i.lon,
            "lat": i.lat,
            "tier": i.tier,
            "lead": i.pk == lead.pk,
            "url": reverse("portal:institution", args=[i.code]),
        }
        for i in placed.values()
    ]
    return {"nodes": nodes, "links": links}


@page()
def network(request: HttpRequest) -> HttpResponse:
    """Tree and map of one consortium; ``?c=CODE`` chooses among several."""
    every = list(Consortium.objects.select_related("lead").order_by("code"))
    context: dict[str, Any] = {"consortia": every, "chosen": None}
    if every:
        code = request.GET.get("c")
        mine: set[int] = set()
        if request.scope.institution_id:
            own = Institution.objects.get(pk=request.scope.institution_id)
            mine = set(directory.consortia_of(own).values_list("pk", flat=True))
        chosen = next((c for c in every if c.code == code), None) or next(
            (c for c in every if c.pk in mine), every[0]
        )
        members = list(directory.members_of(chosen, below=True))
        roles = dict(
            Membership.objects.live().filter(consortium=chosen).values_list("institution_id", "role")
        )
        tiers = Counter(i.tier for i in members)
        posts = Post.objects.live().filter(institution_id__in=[i.pk for i in members])
        context |= {
            "chosen": chosen,
            "mine": mine,
            "tree": _tree(members, roles),
            "members": members,
            "map": _map(members, chosen.lead),
            "tiers": [(code, TIERS[code], tiers[code]) for code in reversed(TIER_ORDER) if tiers[code]],
            "staff": posts.values("practitioner_id").distinct().count(),
            "agreements": Agreement.objects.live().filter(consortium=chosen).count(),
        }
    return render(request, "portal/network.html", context)


@page()
def institution(request: HttpRequest, code: str) -> HttpResponse:
    """One institution: facts, departments, capabilities, posts by role, agreements, what is below it."""
    inst = get_object_or_404(Institution.objects.select_related("parent"), code=code)
    capabilities: dict[str, list[Capability]] = {}
    for capability in inst.capabilities.filter(live()).order_by("kind", "code"):
        capabilities.setdefault(capability.kind, []).append(capability)
    posts = list(
        Post.objects.live()
        .filter(institution=inst)
        .select_related("practitioner", "department")
        .order_by("role")
    )
    agreements = (
        Agreement.objects.live()
        .filter(Q(party_a=inst) | Q(party_b=inst))
        .select_related("party_a", "party_b", "consortium")
        .order_by("number")
    )
    context = {
        "inst": inst,
        "consortia": directory.consortia_of(inst).select_related("lead"),
        "children": directory.descendants(inst),
        "departments": inst.departments.filter(active=True),
        "capabilities": [(CAPABILITIES[kind], rows) for kind, rows in capabilities.items()],
        "posts": [(label(post.role), post) for post in posts],
        "agreements": [
            (AGREEMENTS[a.kind], a, a.party_b if a.party_a_id == inst.pk else a.party_a) for a in agreements
        ],
    }
    return render(request, "portal/institution.html", context)
