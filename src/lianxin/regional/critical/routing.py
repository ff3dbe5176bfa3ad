"""Whom a critical value goes to: first the one who asked, then a second person, the institution's duty, the county's on-call.

A village clinic outside its hours has nobody: there the family doctors' team of the township and the county's on-call hear it at once, and
the patient's telephone is tried (without the value).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from lianxin.access.models import Account
from lianxin.duty.models import Act
from lianxin.network import directory
from lianxin.network.models import Institution, Post
from lianxin.network.roles import MANAGER
from lianxin.regional.critical import policy
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Recipient:
    """Somebody (or a role) at an institution."""

    institution: Institution
    role: str
    account_id: int | None
    name: Text
    phone: str = ""


def people(institution: Institution, roles: list[str]) -> list[Recipient]:
    """Who holds one of ``roles`` there and can sign in, most fitting role first."""
    posts = (
        Post.objects.live()
        .filter(institution=institution, role__in=roles, practitioner__active=True)
        .select_related("practitioner")
        .order_by("pk")
    )
    accounts = dict(
        Account.objects.filter(
            practitioner_id__in=[p.practitioner_id for p in posts], is_active=True
        ).values_list("practitioner_id", "pk")
    )
    found: dict[int, Recipient] = {}
    for post in sorted(posts, key=lambda p: roles.index(p.role)):
        account_id = accounts.get(post.practitioner_id)
        if account_id is not None and account_id not in found:
            name = post.practitioner.name
            found[account_id] = Recipient(
                institution, post.role, account_id, T(name, post.practitioner.name_en or name), post.practitioner.phone
            )  # fmt: skip
    return list(found.values())


def orderer_account(case_id: int, institution_id: int) -> int | None:
    """The account that ordered what was examined, when it acted at that institution."""
    act = Act.objects.filter(case_id=case_id, seq=1).first()
    return act.account_id if act is not None and act.institution_id == institution_id else None


def team_of(institution: Institution) -> Institution:
    """The institution whose family doctors stand behind a village clinic: its township; itself otherwise."""
    return institution.parent if institution.kind == "village" and institution.parent else institution


def county_of(institution: Institution) -> Institution:
    """Who is on call for the county: the consortium's lead (the institution itself outside every consortium)."""
    return directory.lead_of(institution) or institution


def first(institution: Institution, case_id: int, now: dt.datetime) -> list[Recipient]:
    """Who hears it first, the one who must answer leading; empty when nobody can be reached through the system."""
    if not policy.covered(institution, now):
        team = team_of(institution)
        county = county_of(institution)
        return people(team, policy.answers(team))[:1] + people(county, policy.county_roles(county))[:1]
    here = people(institution, policy.answers(institution))
    asked = orderer_account(case_id, institution.pk)
    here.sort(key=lambda r: r.account_id != asked)  # stable: the one who ordered, then the rest
    if not here:
        team = team_of(institution)
        here = people(team, policy.answers(team)) if team != institution else []
    return here[:1]


def climbed(level: int, institution: Institution, told: set[int | None]) -> list[Recipient]:
    """Who hears it at a level: 1 a second person, 2 everybody on duty and the management there, 3 the county's on-call and office."""
    team = team_of(institution)
    if level == 1:
        others = people(institution, policy.answers(institution))
        if team != institution:
            others += people(team, policy.answers(team))
        return [r for r in others if r.account_id not in told][:1]
    if level == 2:
        found = people(team, [*policy.answers(team), MANAGER])
        return [r for r in found if r.account_id not in told][:10]
    county = county_of(institution)
    found = people(county, [*policy.county_roles(county), MANAGER])
    fresh = [r for r in found if r.account_id not in told]
    return (fresh or found)[:3]
