"""At order time: which results of a person may stand for what is being ordered, in one statement."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection

from lianxin.clinical.recognition import knowing, marks, rules
from lianxin.clinical.recognition.knowing import Known, Place
from lianxin.clinical.recognition.models import Group
from lianxin.clinical.recognition.rules import Verdict
from lianxin.standards import clock
from lianxin.standards.text import Text

PER_GROUP = 5
_SQL = """
SELECT w.want, r.id, r.group_id, r.institution_id, r.at, r.assessment_id, r.quality, r.ref
  FROM unnest(%s::int[], %s::int[], %s::timestamptz[]) AS w(want, grp, since)
 CROSS JOIN LATERAL (
   SELECT id, group_id, institution_id, at, assessment_id, quality, ref FROM recognition_result
    WHERE person_id = %s AND group_id = w.grp AND state = 'live' AND at >= w.since AND at <= %s
    ORDER BY at DESC LIMIT %s) r"""


@dataclass(frozen=True)
class Hit:
    """A result that may stand for what is wanted. ``days_left`` includes today; ``mark`` is "" when none holds at the receiver."""

    pk: int
    wanted: Group
    group: Group
    institution_id: int
    institution: Text
    at: dt.datetime
    until: dt.datetime
    days_left: int
    mark: str
    verdict: Verdict
    quality: str
    ref: str

    @property
    def must(self) -> bool:
        """To be recognised unless there is a reason."""
        return self.verdict.must

    @property
    def own(self) -> bool:
        """Made by the institution that orders now."""
        return self.verdict.own


def find(
    person_id: int, groups: Iterable[Group | str], at_institution_id: int, on: dt.datetime | None = None
) -> list[Hit]:
    """Recognisable results for ``groups`` (rows or codes) at an institution at a moment: within their days, allowed by the rules;
    must-recognise first, then the newest. The caller has checked that it may know of this person's results."""
    known, now = knowing.known(), on or clock.now()
    day = now.astimezone(clock.ZONE).date()
    here = known.places.get(at_institution_id)
    wanted = _wanted(known, groups)
    if here is None or not wanted:
        return []
    want, group_ids, since = _windows(known, wanted, here, now, day)
    if not want:
        return []
    with connection.cursor() as cur:
        cur.execute(_SQL, [want, group_ids, since, person_id, now, PER_GROUP])
        rows = cur.fetchall()
    hits = [hit for row in rows if (hit := _hit(known, here, row, now, day)) is not None]
    return sorted(hits, key=lambda h: (h.wanted.code, not h.must, h.own, -h.at.timestamp(), h.pk))


def _wanted(known: Known, groups: Iterable[Group | str]) -> list[Group]:
    found = (known.by_code.get(g) if isinstance(g, str) else known.groups.get(g.pk) for g in groups)
    return list({g.pk: g for g in found if g is not None}.values())


def _windows(
    known: Known, wanted: Sequence[Group], here: Place, now: dt.datetime, day: dt.date
) -> tuple[list[int], list[int], list[dt.datetime]]:
    want, groups, since = [], [], []
    for group in wanted:
        days = known.days(group.pk, here.consortia, day)
        if days is None:
            continue
        for other in sorted(known.answering(group.pk)):
            want.append(group.pk)
            groups.append(other)
            since.append(now - dt.timedelta(days=days))
    return want, groups, since


def _hit(known: Known, here: Place, row: tuple[Any, ...], now: dt.datetime, day: dt.date) -> Hit | None:
    want, pk, group_id, institution_id, at, assessment_id, quality, ref = row
    wanted, group, maker = known.groups[want], known.groups.get(group_id), known.places.get(institution_id)
    if group is None or maker is None:
        return None
    assessment = known.assessments.get(assessment_id) if assessment_id is not None else None
    verdict = rules.judge(known.rules, maker, here, group, assessment, day)
    if not verdict.allowed:
        return None
    days = known.days(want, here.consortia, day) or 0
    until = at + dt.timedelta(days=days)
    mark = marks.text(assessment) if assessment is not None and marks.holds_at(assessment, here) else ""
    left = max((until - now).days + 1, 1)
    return Hit(pk, wanted, group, institution_id, maker.label, at, until, left, mark, verdict, quality, ref)
