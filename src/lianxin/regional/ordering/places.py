"""Where something is done and who reads it: the own institution when it can, else the one above, else the consortium's lead."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from lianxin.network import directory
from lianxin.network.models import Capability, Institution
from lianxin.pool.models import Resource
from lianxin.regional.reading.models import Item

DATA = Path(__file__).parent / "data" / "performers.yaml"


@functools.cache
def _kinds() -> dict[str, list[str]]:
    return dict(yaml.load(DATA.read_text("utf-8"), Loader=yaml.CSafeLoader)["modalities"])


def can(institution: Institution, item: Item, exact: set[tuple[int, str]]) -> bool:
    """Whether an institution does an item. ``exact``: (institution, modality or item) whose devices are known."""
    if (institution.pk, item.modality) in exact or (institution.pk, item.code) in exact:
        return True
    return institution.kind in _kinds().get(item.modality, [])


def candidates(own: Institution, items: list[Item]) -> dict[str, list[Institution]]:
    """Who can do each item (by code), the best first: one's own institution, the one above, the lead, then the others by code. The lead
    stands in where nobody is known to do it."""
    lead = directory.lead_of(own) or own
    members: dict[int, Institution] = {own.pk: own}
    if own.parent is not None:
        members[own.parent.pk] = own.parent
    members[lead.pk] = lead
    for consortium in directory.consortia_of(own):
        members |= {i.pk: i for i in directory.members_of(consortium) if i.pk not in members}
    exact = _exact(members, items)
    found: dict[str, list[Institution]] = {}
    for item in items:
        able = [
            i for i in members.values() if can(i, item, exact) and (i.kind != "village" or i.pk == own.pk)
        ]
        found[item.code] = able or [lead]
    return found


def _exact(members: dict[int, Institution], items: list[Item]) -> set[tuple[int, str]]:
    modalities, codes = {i.modality for i in items}, {i.code for i in items}
    rows = Capability.objects.live().filter(institution_id__in=members, kind="device", code__in=modalities)
    found = set(rows.values_list("institution_id", "code"))
    devices: Any = Resource.objects.filter(
        institution_id__in=members, kind="device", active=True, items__overlap=list(codes)
    )
    found |= {(r.institution_id, code) for r in devices for code in r.items}
    return found


def centre_for(performer: Institution) -> Institution:
    """Who reads: the lead of the consortium, else the institution itself."""
    return directory.lead_of(performer) or performer
