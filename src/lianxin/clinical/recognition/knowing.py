"""What decides about recognition, held in memory: groups and terms, codes, rules, institutions with their consortia.

All of it is small and changes seldom; a change in this process is seen at once, in others within a minute.
"""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass, field
from typing import Any

from django.db.models.signals import post_delete, post_save

from lianxin.clinical.recognition import shipped
from lianxin.clinical.recognition.models import Assessment, Code, Group, Rule, Term
from lianxin.network.models import Institution, Membership
from lianxin.standards import clock
from lianxin.standards.text import Text

KEPT_SECONDS = 60.0


@dataclass(frozen=True)
class Place:
    """An institution as the rules see it. ``consortia``: live today, its parent's for a village clinic."""

    pk: int
    code: str
    label: Text
    division: str
    rank: int
    consortia: frozenset[int]


@dataclass(frozen=True)
class Window:
    """How many days a group's results stand, from a day on, for everybody (``consortium`` None) or one consortium."""

    since: dt.date
    consortium: int | None
    days: int
    source: str = ""


@dataclass
class Known:
    """Everything at one moment."""

    day: dt.date
    groups: dict[int, Group]
    by_code: dict[str, Group]
    windows: dict[int, list[Window]]
    codes: dict[tuple[str, str, int | None], int]
    rules: list[Rule]
    assessments: dict[int, Assessment]
    places: dict[int, Place]
    covered_by: dict[int, frozenset[int]] = field(default_factory=dict)

    def window(self, group_id: int, consortia: frozenset[int], on: dt.date) -> Window | None:
        """What holds for a group on a day at an institution of these consortia; a consortium's own word goes first."""
        held = [
            w
            for w in self.windows.get(group_id, [])
            if w.since <= on and (w.consortium is None or w.consortium in consortia)
        ]
        return max(held, key=lambda w: (w.consortium is not None, w.since), default=None)

    def days(self, group_id: int, consortia: frozenset[int], on: dt.date) -> int | None:
        """How many days a result stands there; None when nothing was said of the group."""
        found = self.window(group_id, consortia, on)
        return found.days if found else None

    def group_of(self, system: str, code: str, institution_id: int | None) -> Group | None:
        """The group a code means; an institution's own map goes before the common one."""
        found = self.codes.get((system, code, institution_id)) if institution_id is not None else None
        if found is None:
            found = self.codes.get((system, code, None))
        return self.groups.get(found) if found is not None else None

    def answering(self, group_id: int) -> frozenset[int]:
        """Groups whose results answer this one: itself and panels that hold it."""
        return self.covered_by.get(group_id, frozenset()) | {group_id}


_kept: tuple[float, Known] | None = None


def known() -> Known:
    """Everything as it stands (at most a minute old)."""
    global _kept
    if _kept is None or time.monotonic() - _kept[0] > KEPT_SECONDS or _kept[1].day != clock.today():
        _kept = (time.monotonic(), _read())
    return _kept[1]


def forget(**_: Any) -> None:
    """Read anew at the next question."""
    global _kept
    _kept = None


def watch() -> None:
    """Follow changes made in this process."""
    for model in (Group, Term, Code, Rule, Assessment, Membership, Institution):
        for signal in (post_save, post_delete):
            signal.connect(forget, sender=model, dispatch_uid=f"recognition-{model.__name__}-{id(signal)}", weak=False)  # fmt: skip


def _read() -> Known:
    day = clock.today()
    groups = {g.pk: g for g in Group.objects.filter(active=True)}
    by_code = {g.code: g for g in groups.values()}
    windows: dict[int, list[Window]] = {}
    for term in Term.objects.all():
        windows.setdefault(term.group_id, []).append(
            Window(term.effective_from, term.consortium_id, term.valid_days, term.source)
        )
    codes = {(c.system, c.code, c.institution_id): c.group_id for c in Code.objects.all()}
    covered: dict[int, set[int]] = {}
    for group in groups.values():
        for code in group.covers:
            if code in by_code:
                covered.setdefault(by_code[code].pk, set()).add(group.pk)
    return Known(
        day, groups, by_code, windows, codes, list(Rule.objects.order_by("rank", "pk")),
        {a.pk: a for a in Assessment.objects.select_related("consortium")}, _places(day), {k: frozenset(v) for k, v in covered.items()},
    )  # fmt: skip


def _places(day: dt.date) -> dict[int, Place]:
    member: dict[int, set[int]] = {}
    for institution, consortium in (
        Membership.objects.live(day).order_by().values_list("institution_id", "consortium_id")
    ):
        member.setdefault(institution, set()).add(consortium)
    ranks, tiers = shipped.levels()
    found = {}
    for one in Institution.objects.all():
        own = member.get(one.pk, set()) | (member.get(one.parent_id, set()) if one.parent_id else set())
        rank = ranks.get(one.level or "", ranks.get(tiers.get(one.tier, ""), 0))
        found[one.pk] = Place(one.pk, one.code, one.short_label, one.division, rank, frozenset(own))
    return found
