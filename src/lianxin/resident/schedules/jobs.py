"""Sessions are made ahead, whether the platform ran yesterday or not: what is missing from today on is added."""

from __future__ import annotations

from collections.abc import Iterable

from django.db.models import Max

from lianxin.duty import periodic
from lianxin.pool import schedule
from lianxin.pool.models import Template
from lianxin.resident.schedules import policy
from lianxin.standards import clock

SECONDS = 3 * 3600


def ahead_days(institutions: Iterable[int] | None = None) -> int:
    """How many days ahead sessions are made: the house's figure, or a week before the earliest numbers open."""
    rows = Template.objects.all()
    if institutions is not None:
        rows = rows.filter(institution_id__in=list(institutions))
    opens = rows.aggregate(days=Max("opens_days"))["days"] or 0
    return max(policy.number("ahead_days"), opens + 7)


def make_ahead(institutions: Iterable[int] | None = None) -> int:
    """Make the sessions that are missing from today on; returns how many are new. Again: none."""
    ids = None if institutions is None else list(institutions)
    return schedule.make_sessions(clock.today(), ahead_days(ids), ids)


def register() -> None:
    """Run every three hours (after a pause of days: at once)."""
    periodic.register("schedules.make", SECONDS, make_ahead)
