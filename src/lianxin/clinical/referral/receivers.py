"""Suitable receivers of a referral, best first, each with its reasons: capability, tier, consortium, distance, free numbers."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from lianxin.clinical.referral import parties
from lianxin.network import directory
from lianxin.network.kinds import TIER_ORDER
from lianxin.network.models import Agreement, Capability, Department, Institution, Membership, live
from lianxin.pool import search as pool
from lianxin.pool.booking import channel_of
from lianxin.standards import clock, codes
from lianxin.standards.text import T, Text

DAYS = 14
REHABILITATION = "21"
SPECIALTIES = "http://lianxin.example/cs/specialty"


@dataclass(frozen=True)
class Receiver:
    """An institution that could take the patient, and why it stands where it does in the list."""

    institution: Institution
    department: Department | None
    capability: Text
    distance_km: float | None
    free_numbers: int
    next_free: dt.datetime | None
    score: float
    reasons: tuple[Text, ...]


def _reachable(here: Institution) -> set[int]:
    """Institutions that share a consortium or a referral agreement with ``here`` today (three queries)."""
    mine = [here.pk, *(a.pk for a in directory.ancestors(here))]
    consortia = Membership.objects.live().filter(institution_id__in=mine).values("consortium_id")
    found = set(
        Membership.objects.live().filter(consortium_id__in=consortia).values_list("institution_id", flat=True)
    )
    found = set(directory.descendant_ids(found)) if found else found
    pairs = Agreement.objects.filter(
        Q(party_a_id__in=mine) | Q(party_b_id__in=mine), live(), kind__in=["referral", "alliance"]
    )
    for a, b in pairs.values_list("party_a_id", "party_b_id"):
        found |= {a, b}
    return found - {here.pk}


def _fits_direction(here: Institution, other: Institution, direction: str) -> bool:
    gap = TIER_ORDER.index(other.tier) - TIER_ORDER.index(here.tier)
    if direction == "up":
        return gap > 0 and other.kind not in ("cdc", "other")
    if direction == "down":
        # A hospital of the same tier takes patients for rehabilitation; everybody lower takes them for follow-up.
        return gap < 0 or (gap == 0 and other.kind == "tcm_hospital" and here.kind != "tcm_hospital")
    return gap == 0 and other.kind not in ("cdc", "other")


def suitable(
    here: Institution,
    *,
    direction: str = "up",
    specialty: str = "",
    diagnosis_code: str = "",
    person: Any = None,
    emergency: bool = False,
    limit: int = 12,
) -> list[Receiver]:
    """Receivers for a referral from ``here``, best first.

    With a specialty only institutions that have it are listed (a grassroots receiver of a patient going down needs none; for
    rehabilitation the rehabilitation department counts). Distance is from the referring institution in km.
    """
    others = [
        i
        for i in Institution.objects.filter(pk__in=_reachable(here), active=True)
        if _fits_direction(here, i, direction)
    ]
    ids = [i.pk for i in others]
    wanted = parties.covering(specialty) | ({REHABILITATION} if direction == "down" else set())
    departments: dict[int, Department] = {}
    for row in Department.objects.filter(institution_id__in=ids, active=True, specialty__in=wanted).order_by(
        "-specialty", "code"
    ):
        departments.setdefault(row.institution_id, row)
    capabilities = {
        row.institution_id: row
        for row in Capability.objects.live().filter(
            Q(kind="specialty", code__in=wanted) | Q(kind="disease", code=diagnosis_code),
            institution_id__in=ids,
        )
    }
    free = pool.free_by_institution(specialty, ids, channel_of(here.tier), DAYS) if specialty and ids else {}
    home = getattr(person, "home_institution_id", None)
    found = []
    for other in others:
        grassroots = other.kind in parties.GRASSROOTS_KINDS
        department, capability = departments.get(other.pk), capabilities.get(other.pk)
        if (
            specialty
            and department is None
            and capability is None
            and not (direction == "down" and grassroots)
        ):
            continue
        found.append(
            _receiver(here, other, direction, department, capability, free.get(other.pk), home, emergency)
        )
    return sorted(found, key=lambda r: (-r.score, r.institution.code))[:limit]


def _receiver(
    here: Institution, other: Institution, direction: str, department: Department | None, capability: Capability | None,
    free: Any, home: int | None, emergency: bool,
) -> Receiver:  # fmt: skip
    km = directory.distance_km(here, other)
    reasons: list[Text] = []
    score = 0.0
    if department is not None:
        what = department.label
        score += 3
    elif capability is not None:
        what = capability.label
        score += 3
    else:
        what = (
            T("全科与随访", "General practice and follow-up")
            if other.kind in parties.GRASSROOTS_KINDS
            else other.kind_label
        )
    if other.pk == home:
        reasons.append(T("患者所属机构", "The patient's home institution"))
        score += 6 if direction == "down" else 1
    if direction == "up":
        gap = TIER_ORDER.index(other.tier) - TIER_ORDER.index(here.tier)
        reasons.append(T("{tier}机构", "{tier} level").format(tier=other.tier_label))
        score += max(0.0, 4.0 - gap)  # the nearest tier that can: 逐级、就近
    numbers, soonest = (free.free, free.next_at) if free is not None else (0, None)
    if numbers and soonest is not None:
        days = max(0.0, (soonest - clock.now()).total_seconds() / 86400)
        reasons.append(T("两周内余号 {n}", "{n} numbers free in two weeks").format(n=str(numbers)))
        score += (1 if emergency else 2) + max(0.0, 2 - days / 7)
    if km is not None:
        reasons.append(T("{km} 公里", "{km} km").format(km=f"{km:.0f}"))
        score -= min(km, 300) / (25 if emergency else 60)
    return Receiver(other, department, what, km, numbers, soonest, round(score, 3), tuple(reasons))


def specialty_label(code: str) -> Text:
    """Name of a specialty (诊疗科目)."""
    return codes.label(SPECIALTIES, code)
