"""Quotas proposed, accepted and declined: what a manager decides, once, audited; templates change from a day on."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from django.db import transaction
from django.db.models import Q

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.network.roles import MANAGER
from lianxin.pool import proposals
from lianxin.pool.models import TIERS, RosterChange, Session, Template
from lianxin.resident.quotas import policy
from lianxin.resident.quotas.models import Proposal
from lianxin.standards import clock
from lianxin.standards.text import T, Text

WEEK = dt.timedelta(days=7)


class Refused(Exception):
    """What was asked cannot be done; ``text`` says why and what helps, ``status`` is what the page answers."""

    def __init__(self, text: Text, status: int = 409) -> None:
        super().__init__(text.zh)
        self.text, self.status = text, status


def mine(scope: Scope) -> frozenset[int]:
    """Institutions whose figures one sees: the own one; for a manager all the consortium's office follows."""
    return scope.institution_ids | (scope.oversight_ids if scope.has(MANAGER) else frozenset())


def remote(institution: Institution, km: float) -> list[Institution]:
    """Townships of the institution's consortia at least ``km`` away (straight line); those without a position are not counted."""
    found: dict[int, Institution] = {}
    for consortium in directory.consortia_of(institution):
        for member in directory.members_of(consortium):
            away = directory.distance_km(institution, member)
            if member.tier == "township" and away is not None and away >= km:
                found[member.pk] = member
    return sorted(found.values(), key=lambda i: i.code)


def floor_of(rules: policy.Rules, townships: int, sessions_a_week: float, capacity: int) -> tuple[int, int]:
    """Numbers of one session owed to remote townships, and those of them to village doctors, rounded up, within ``most``."""
    if not townships or sessions_a_week <= 0:
        return (0, 0)
    owed = townships * rules.per_week / sessions_a_week
    township = min(math.ceil(owed - 1e-9), math.floor(rules.most * capacity))
    return (township, min(township, math.ceil(township * rules.village_share - 1e-9)))


def worth(served: Sequence[int], values: Sequence[float]) -> float:
    """What numbers given out are worth, by channel."""
    return round(sum(n * v for n, v in zip(served, values, strict=True)), 1)


def work_out(group: proposals.Group, institution: Institution) -> dict[str, Any] | None:
    """A group's proposal as plain data (``old``, ``new``, ``content``); None with too little history, or when it is no better.

    Better: on weeks it has not seen it serves people worth more than the quotas that were. Otherwise these stay, raised to the floor.
    """
    rules, today = policy.rules(institution), clock.today()
    past = proposals.history(group, today - WEEK * rules.weeks)
    if len(past) < rules.least_sessions:
        return None
    weeks = sorted({p.week for p in past})
    far = remote(institution, rules.remote_km) if institution.tier == "county" else []
    floor = floor_of(rules, len(far), len(past) / len(weeks), group.capacity)
    made = proposals.fit(past, group.capacity, rules.values, floor)
    test = proposals.back_test(past, made.kept, group.capacity, rules.values, floor)
    why, kept = "demand", made.kept
    if worth(test.unseen.served, rules.values) <= worth(test.old.served, rules.values):
        why, kept = "floor", proposals.raised(group.old, floor, group.capacity)
        if kept == group.old:
            return None
        test = proposals.back_test(past, kept, group.capacity, rules.values, floor, fitted=False)
    content = {
        "why": why, "sessions": len(past), "weeks": len(weeks), "since": past[0].day.isoformat(), "until": past[-1].day.isoformat(),
        "demand": [
            {"channel": tier, "mean": round(made.means[n], 1), "spread": round(made.spreads[n], 1), "worth": rules.values[n],
             "seen": round(sum(p.seen[n][0] for p in past) / len(past), 1), "closed": sum(p.seen[n][1] for p in past)}
            for n, tier in enumerate(TIERS)
        ],
        "best": list(made.best), "floor": list(floor), "remote": [{"zh": i.short_name or i.name, "en": i.name_en or i.name} for i in far],
        "remote_km": rules.remote_km, "per_week": rules.per_week, "sources": list(rules.sources),
        "old": proposals.told(test.old), "new": proposals.told(test.new), "unseen": proposals.told(test.unseen),
        "by_week": [
            {"week": week.isoformat(), "old": proposals.told(before), "unseen": proposals.told(after)}
            for week, before, after in test.weeks
        ],
    }  # fmt: skip
    return {"old": list(group.old), "new": list(kept), "content": content}


def refresh(institution: Institution) -> int:
    """Work the institution's proposals out anew; open ones are replaced. Returns how many are open now.

    A group whose quotas are right already gets none.
    """
    with transaction.atomic():
        Institution.objects.select_for_update(no_key=True, of=("self",)).get(pk=institution.pk)
        standing = {
            (p.department_id, p.kind, p.clinic_type, p.capacity): p
            for p in Proposal.objects.filter(institution=institution, state="open")
        }
        for group in proposals.groups([institution.pk]):
            made = work_out(group, institution)
            if made is None or made["new"] == made["old"]:
                continue
            key = (group.department_id, group.kind, group.clinic_type, group.capacity)
            before = standing.get(key)
            if before and (before.old, before.new, before.content) == (
                made["old"],
                made["new"],
                made["content"],
            ):
                del standing[key]
                continue
            if before:
                del standing[key]
                Proposal.objects.filter(pk=before.pk).update(state="replaced")
            Proposal.objects.create(
                institution=institution, department_id=group.department_id, kind=group.kind, clinic_type=group.clinic_type,
                capacity=group.capacity, **made,
            )  # fmt: skip
        Proposal.objects.filter(pk__in=[p.pk for p in standing.values()]).update(state="replaced")
        return Proposal.objects.filter(institution=institution, state="open").count()


def run() -> int:
    """The chore: once a week proposals of every institution with templates are worked out anew; returns how many institutions."""
    monday = clock.today() - dt.timedelta(days=clock.today().weekday())
    begin = dt.datetime.combine(monday, dt.time(), clock.ZONE)
    ids = set(
        Template.objects.filter(Q(until=None) | Q(until__gt=clock.today())).values_list("institution_id", flat=True)
    )  # fmt: skip
    ids -= set(Proposal.objects.filter(made_at__gte=begin).values_list("institution_id", flat=True))
    for institution in Institution.objects.filter(pk__in=ids).order_by("pk"):
        refresh(institution)
    return len(ids)


def find(by: Scope, pk: int) -> Proposal | None:
    """A proposal of an institution whose figures one sees."""
    return (
        Proposal.objects.select_related("institution", "department")
        .filter(pk=pk, institution_id__in=mine(by))
        .first()
    )


def may_decide(by: Scope) -> bool:
    """Quotas are the manager's to decide."""
    return by.has(MANAGER)


def decide(
    by: Scope, pk: int, accept: bool, *, from_day: dt.date | None = None, reason: str = ""
) -> Proposal:
    """Accept a proposal (templates change from ``from_day`` on) or decline it with a reason; deciding the same again changes nothing.

    Raises :class:`Refused`: decided otherwise, templates changed since, a day that has begun, no reason, not a manager.
    """
    if not may_decide(by):
        raise Refused(T("配额由医共体管理人员决定。", "Quotas are the manager's to decide."), 403)
    wanted = "accepted" if accept else "declined"
    with transaction.atomic():
        row = (
            Proposal.objects.select_for_update(of=("self",))
            .filter(pk=pk, institution_id__in=mine(by))
            .first()
        )
        if row is None:
            raise Refused(T("没有这条建议。", "No such proposal."), 404)
        if row.state == wanted:
            return row
        if row.state != "open":
            raise Refused(
                T("该建议已是「{state}」。", "This proposal is “{state}” already.").format(
                    state=row.state_label
                )
            )
        if accept:
            row.from_day = _day(from_day)
            row.changed = _apply(row, row.from_day)
        elif not reason.strip():
            raise Refused(T("不采纳须写明理由。", "Say why it is declined."), 422)
        row.state, row.decided_at, row.reason = wanted, clock.now(), reason.strip()[:200]
        row.account_id, row.name = by.account_id, by.name[:120]
        row.save()
        audit.write(
            by, "update", what=f"quotas proposal {row.pk} {wanted}",
            detail={"old": row.old, "new": row.new, "from": str(row.from_day or ""), "why": row.reason, **row.changed},
        )  # fmt: skip
    return row


def _day(day: dt.date | None) -> dt.date:
    if day is None or day <= clock.today() or day > clock.today() + dt.timedelta(days=366):
        raise Refused(
            T("生效日期须为明天起一年之内。", "The first day is tomorrow at the earliest, within a year."),
            422,
        )
    return day


def _apply(row: Proposal, day: dt.date) -> dict[str, int]:
    """Templates end on ``day`` and go on with the new quotas; their sessions from then on follow, unless somebody set them by hand."""
    templates = list(proposals.live_templates(row, day).select_for_update())
    current = [[t.reserved_county, t.reserved_township, t.reserved_village] for t in templates]
    if not templates or max(current, key=current.count) != row.old:
        raise Refused(
            T(
                "测算之后排班模板或配额已变，请重新测算。",
                "Templates or quotas have changed since; work the proposal out anew.",
            )
        )
    names = ("reserved_county", "reserved_township", "reserved_village")
    new = dict(zip(names, row.new, strict=True))
    start = dt.datetime.combine(day, dt.time(), clock.ZONE)
    sessions = 0
    for template in templates:
        old = {name: getattr(template, name) for name in names}
        ids = list(
            Session.objects.filter(template=template, starts_at__gte=start)
            .order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True)
        )  # fmt: skip
        if template.since < day:
            before = Template.objects.get(pk=template.pk)
            template.pk, template.since = None, day
            template._state.adding = True
            for name, value in new.items():
                setattr(template, name, value)
            template.save()
            Template.objects.filter(pk=before.pk).update(until=day)
            RosterChange.objects.filter(template=before, day__gte=day).update(template=template)
            Session.objects.filter(pk__in=ids).update(template=template)
        else:
            Template.objects.filter(pk=template.pk).update(**new)
        sessions += Session.objects.filter(pk__in=ids, status="open", capacity__gte=row.new[0], **old).update(
            **new
        )
    return {"templates": len(templates), "sessions": sessions}
