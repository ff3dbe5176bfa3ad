"""Questions about the network that upper rooms ask: who belongs where, who leads, who is near, who works there.

Everything answers for a day (default: today by the one clock). Trees are walked in one recursive statement.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable

from django.db import connection
from django.db.models import Q, QuerySet

from lianxin.network.kinds import TIER_ORDER
from lianxin.network.models import (
    Agreement,
    Capability,
    Consortium,
    Department,
    Institution,
    Membership,
    Post,
    Practitioner,
    live,
)
from lianxin.standards import clock

EARTH_KM = 6371.0088


def institution(code: str) -> Institution:
    """The institution with this code; raises ``Institution.DoesNotExist``."""
    return Institution.objects.get(code=code)


OUTSIDE = "LX-OUTSIDE"


def outside() -> Institution:
    """The institution that stands for every source outside the network: data that arrive without a sender have one to be scoped by."""
    found, _ = Institution.objects.get_or_create(
        code=OUTSIDE,
        defaults={
            "name": "平台外来源",
            "name_en": "Sources outside the network",
            "kind": "other",
            "tier": "county",
            "ownership": "other",
        },
    )
    return found


def consortia_of(
    inst: Institution, on: dt.date | None = None, form: str | None = None
) -> QuerySet[Consortium]:
    """Consortia the institution belongs to on a day: by its own membership, or (village clinic) by its parent's."""
    ids = [inst.pk, *(a.pk for a in ancestors(inst))] if inst.parent_id else [inst.pk]
    holds = Membership.objects.filter(live(on), institution_id__in=ids)
    found = Consortium.objects.filter(pk__in=holds.values("consortium_id"))
    return found.filter(form=form) if form else found


def members_of(
    consortium: Consortium, on: dt.date | None = None, *, below: bool = False
) -> QuerySet[Institution]:
    """Institutions that are members on a day; with ``below`` also what belongs to them (village clinics)."""
    holds = Membership.objects.filter(live(on), consortium=consortium)
    ids = list(holds.values_list("institution_id", flat=True))
    if below:
        ids = list(descendant_ids(ids))
    return Institution.objects.filter(pk__in=ids, active=True).order_by("code")


def lead_of(inst: Institution, on: dt.date | None = None) -> Institution | None:
    """The hub: lead of the county community or city group the institution is in (else of any of its consortia)."""
    rank = {"county_community": 0, "city_group": 1, "specialist_alliance": 2, "remote_network": 3}
    found = sorted(consortia_of(inst, on).select_related("lead"), key=lambda c: (rank[c.form], c.code))
    return found[0].lead if found else None


def same_consortium(a: Institution, b: Institution, on: dt.date | None = None) -> bool:
    """True when the two share a consortium on a day."""
    return consortia_of(a, on).filter(pk__in=consortia_of(b, on).values("pk")).exists()


def ancestors(inst: Institution) -> list[Institution]:
    """What the institution belongs to, nearest first."""
    if inst.parent_id is None:
        return []
    with connection.cursor() as cur:
        cur.execute(
            "WITH RECURSIVE up(id, parent_id, depth) AS ("
            " SELECT id, parent_id, 0 FROM network_institution WHERE id = %s"
            " UNION ALL SELECT i.id, i.parent_id, depth + 1 FROM network_institution i JOIN up ON i.id = up.parent_id)"
            " SELECT id FROM up WHERE depth > 0 ORDER BY depth",
            [inst.pk],
        )
        ids = [row[0] for row in cur.fetchall()]
    found = Institution.objects.in_bulk(ids)
    return [found[i] for i in ids]


def descendant_ids(ids: Iterable[int]) -> frozenset[int]:
    """Ids of these institutions and of everything below them."""
    with connection.cursor() as cur:
        cur.execute(
            "WITH RECURSIVE down(id) AS ("
            " SELECT unnest(%s::bigint[])"
            " UNION SELECT i.id FROM network_institution i JOIN down ON i.parent_id = down.id)"
            " SELECT id FROM down",
            [list(ids)],
        )
        return frozenset(row[0] for row in cur.fetchall())


def descendants(inst: Institution) -> QuerySet[Institution]:
    """Everything that belongs to the institution, itself left out."""
    return Institution.objects.filter(pk__in=descendant_ids([inst.pk]) - {inst.pk}).order_by("code")


def distance_km(a: Institution, b: Institution) -> float | None:
    """Great-circle distance in km (haversine), or None when a position is missing."""
    if a.lon is None or a.lat is None or b.lon is None or b.lat is None:
        return None
    return haversine_km(a.lon, a.lat, b.lon, b.lat)


def haversine_km(lon1: float, lat1: float, lon2: float, lat2: float) -> float:
    """Great-circle distance in km between two positions in degrees."""
    phi1, phi2 = math.radians(lat1), math.radians(lat2)
    half = (
        math.sin((phi2 - phi1) / 2) ** 2
        + math.cos(phi1) * math.cos(phi2) * math.sin(math.radians(lon2 - lon1) / 2) ** 2
    )
    return 2 * EARTH_KM * math.asin(min(1.0, math.sqrt(half)))


def nearest(origin: Institution, among: Iterable[Institution]) -> list[tuple[Institution, float | None]]:
    """Institutions with their distance, nearest first; those without a position last."""
    pairs = [(i, distance_km(origin, i)) for i in among]
    return sorted(pairs, key=lambda p: (p[1] is None, p[1] or 0.0, p[0].code))


def practitioners_of(
    inst: Institution,
    role: str | None = None,
    on: dt.date | None = None,
    department: Department | None = None,
) -> QuerySet[Practitioner]:
    """People who hold a post there on a day (in a role, in a department)."""
    posts = Post.objects.filter(live(on), institution=inst)
    if role:
        posts = posts.filter(role=role)
    if department:
        posts = posts.filter(department=department)
    return Practitioner.objects.filter(pk__in=posts.values("practitioner_id"), active=True).order_by("code")


def posts_of(practitioner: Practitioner, on: dt.date | None = None) -> QuerySet[Post]:
    """Posts a person holds on a day, with institution and department."""
    return (
        Post.objects.filter(live(on), practitioner=practitioner)
        .select_related("institution", "department")
        .order_by("institution__code", "role", "pk")
    )


def capable(kind: str, code: str, on: dt.date | None = None) -> QuerySet[Institution]:
    """Active institutions that have a capability on a day."""
    holds = Capability.objects.filter(live(on), kind=kind, code=code)
    return Institution.objects.filter(pk__in=holds.values("institution_id"), active=True).order_by("code")


def agreements_between(
    a: Institution, b: Institution, on: dt.date | None = None, kind: str | None = None
) -> QuerySet[Agreement]:
    """Agreements in force between two institutions, whichever signed first."""
    either = Q(party_a=a, party_b=b) | Q(party_a=b, party_b=a)
    found = Agreement.objects.filter(either, live(on))
    return found.filter(kind=kind) if kind else found


def may_refer(a: Institution, b: Institution, on: dt.date | None = None) -> bool:
    """True when patients may go from one to the other: a shared consortium, or a referral or alliance agreement."""
    if a.pk == b.pk:
        return False
    return (
        same_consortium(a, b, on)
        or agreements_between(a, b, on).filter(kind__in=["referral", "alliance"]).exists()
    )


def is_above(a: Institution, b: Institution) -> bool:
    """True when ``a``'s tier is higher than ``b``'s."""
    return TIER_ORDER.index(a.tier) > TIER_ORDER.index(b.tier)


def rule(inst: Institution, name: str, default: object = None, on: dt.date | None = None) -> object:
    """A policy override from the rules of the institution's consortia (community first); dots reach into objects."""
    rank = {"county_community": 0, "city_group": 1, "specialist_alliance": 2, "remote_network": 3}
    for consortium in sorted(consortia_of(inst, on), key=lambda c: (rank[c.form], c.code)):
        value: object = consortium.rules
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            return value
    return default


def find(query: str, limit: int = 20) -> list[Institution]:
    """Institutions by code, name, pinyin or initials, best first."""
    text = query.strip()
    if not text:
        return []
    low = text.lower().replace(" ", "")
    found = Institution.objects.filter(
        Q(code__iexact=text)
        | Q(name__contains=text)
        | Q(short_name__contains=text)
        | Q(name_en__icontains=text)
        | Q(pinyin__contains=low)
        | Q(initials__contains=low),
        active=True,
    )
    rank = TIER_ORDER[::-1].index

    def order(i: Institution) -> tuple[int, int, str]:
        exact = 0 if i.code.lower() == low or i.name == text else 1
        begins = i.name.startswith(text) or i.pinyin.startswith(low) or i.initials.startswith(low)
        return (exact if exact == 0 else 1 if begins else 2, rank(i.tier), i.code)

    return sorted(found, key=order)[:limit]


def check() -> list[str]:
    """Problems no single-row constraint can see: leads without live lead membership, posts at closed places."""
    today = clock.today()
    problems = [
        f"consortium {c.code}: its lead {c.lead.code} holds no live membership as lead"
        for c in Consortium.objects.select_related("lead")
        if not Membership.objects.filter(live(today), consortium=c, institution=c.lead, role="lead").exists()
    ]
    for post in Post.objects.filter(live(today), institution__active=False).select_related("institution")[
        :100
    ]:
        problems.append(f"post {post.pk}: institution {post.institution.code} is closed")
    return problems
