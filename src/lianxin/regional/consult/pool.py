"""The expert pool: who may be asked, whether they are free, how much they carry."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q

from lianxin.access.models import Account
from lianxin.network import roles
from lianxin.network.models import Department, Post, Practitioner
from lianxin.regional.consult.models import Expert
from lianxin.standards import clock
from lianxin.standards.text import T, Text

ROLES = (roles.CLINICIAN, roles.WARD, roles.GP, roles.FAMILY_DOCTOR)
"""Who gives opinions. Readers of the centres give reports, not opinions."""


@dataclass(frozen=True)
class Line:
    """An expert as they are offered: ``open`` consultations now, ``free`` at the moment asked about, ``why`` not."""

    expert: Expert
    open: int
    free: bool
    why: Text | None = None


def active(specialty: str = "") -> Any:
    """Experts who may be asked, of a specialty and what stands below it."""
    rows = Expert.objects.filter(active=True, practitioner__active=True, institution__active=True)
    if specialty:
        rows = rows.filter(Q(specialty=specialty) | Q(specialty__startswith=f"{specialty}."))
    return rows.select_related("practitioner", "institution", "department").order_by(
        "specialty", "institution__code", "pk"
    )


def lines(specialty: str = "", at: dt.datetime | None = None) -> list[Line]:
    """The pool with its load; ``free`` at ``at`` (default now)."""
    moment = (at or clock.now()).astimezone(clock.ZONE)
    rows = active(specialty).annotate(
        carrying=Count("seats", filter=Q(seats__state__in=("invited", "accepted"), seats__consult__live=True))
    )
    return [Line(e, e.carrying, *_free(e, e.carrying, moment)) for e in rows]


def _free(expert: Expert, carrying: int, at: dt.datetime) -> tuple[bool, Text | None]:
    if carrying >= expert.most_open:
        return False, T("手中已有 {n} 个会诊", "Has {n} consultations already").format(n=str(carrying))
    if expert.hours and not any(
        int(day) == at.isoweekday() and start <= f"{at:%H:%M}" < end for day, start, end in expert.hours
    ):
        return False, T("不在会诊时段", "Not in their hours")
    return True, None


def words(expert: Expert) -> Text:
    """An expert in a line: name, title, institution."""
    p, i = expert.practitioner, expert.institution
    return T(
        f"{p.name} {p.title}（{i.short}）".replace("  ", " "), f"{p.name_en or p.name}, {p.title_label.en if p.title else ''} ({i.short_label.en})"
    )  # fmt: skip


def choices() -> list[tuple[str, Text]]:
    """(id, words) of everybody who may be asked."""
    return [(str(e.pk), words(e)) for e in active()]


def departments() -> list[tuple[str, Text]]:
    """(id, words) of departments of institutions that have experts."""
    rows = Department.objects.filter(
        active=True, institution__in=Expert.objects.filter(active=True).values("institution")
    )
    return [
        (str(d.pk), T(f"{d.institution.short} {d.name}", f"{d.institution.short_label.en}, {d.label.en}"))
        for d in rows.select_related("institution").order_by("institution__code", "code")
    ]


def post_of(practitioner: Practitioner, institution_id: int) -> Post | None:
    """The post in which somebody gives opinions at an institution."""
    found: Post | None = (
        Post.objects.live().filter(practitioner=practitioner, institution_id=institution_id, role__in=ROLES).order_by("pk").first()
    )  # fmt: skip
    return found


def account_of(practitioner: Practitioner | None) -> int | None:
    """The account a duty of theirs is for; None when they have none."""
    if practitioner is None:
        return None
    found = (
        Account.objects.filter(practitioner=practitioner, is_active=True).values_list("pk", flat=True).first()
    )
    return int(found) if found else None
