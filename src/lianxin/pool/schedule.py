"""Sessions from weekly templates, for every working day of a period."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lianxin.pool.models import Session, Template
from lianxin.standards import calendar, clock

RELEASE = dt.time(17, 0)


def release_before(day: dt.date) -> dt.datetime:
    """When reserved numbers of ``day`` become open to all: 17:00 on the working day before."""
    before = day - dt.timedelta(days=1)
    while not calendar.is_workday(before):
        before -= dt.timedelta(days=1)
    return dt.datetime.combine(before, RELEASE, clock.ZONE)


def _session(template: Template, day: dt.date, release_at: dt.datetime) -> Session:
    return Session(
        institution_id=template.institution_id, department_id=template.department_id,
        practitioner_id=template.practitioner_id, specialty=template.department.specialty, kind=template.kind,
        clinic_type=template.clinic_type, starts_at=dt.datetime.combine(day, template.start, clock.ZONE),
        ends_at=dt.datetime.combine(day, template.end, clock.ZONE), capacity=template.capacity,
        reserved=template.reserved, fee_fen=template.fee_fen, release_at=release_at,
    )  # fmt: skip


def make_sessions(since: dt.date, days: int, institutions: Iterable[int] | None = None) -> int:
    """Make the sessions of ``days`` days from ``since``, skipping holidays; existing ones stay. Returns how many are new."""
    templates = Template.objects.select_related("department").order_by("id")
    if institutions is not None:
        templates = templates.filter(institution_id__in=list(institutions))
    weekly: dict[int, list[Template]] = {}
    for template in templates:
        weekly.setdefault(template.weekday, []).append(template)
    sessions = []
    for n in range(days):
        day = since + dt.timedelta(days=n)
        if not calendar.is_workday(day):
            continue
        release_at = release_before(day)
        sessions += [
            _session(t, day, release_at)
            for t in weekly.get(day.weekday(), [])
            if t.since <= day and (t.until is None or day < t.until)
        ]
    before = Session.objects.count()
    Session.objects.bulk_create(sessions, ignore_conflicts=True, batch_size=1000)
    return Session.objects.count() - before
