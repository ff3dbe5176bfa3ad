"""Training credits by rule table: tenths of a credit by kind, with a yearly most from each (settings ``credit`` and ``credit.most``)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Sum

from lianxin.regional.consult import policy
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "referral": T("转诊病例学习", "Cases referred"),
    "consult": T("会诊病例学习", "Cases consulted upon"),
    "reading": T("诊断病例学习", "Studies read"),
    "lesson": T("下派带教听课", "Lessons attended"),
}


@dataclass(frozen=True)
class Year:
    """A doctor's credits of a year: (kind, its words, how many things, tenths) and the whole in tenths."""

    year: int
    lines: list[dict[str, Any]]
    tenths: int

    @property
    def total(self) -> str:
        """The whole with one decimal."""
        return shown(self.tenths)


def shown(tenths: int) -> str:
    """12 → "1.2"."""
    return f"{tenths // 10}.{tenths % 10}"


def _rows(practitioner_id: int, year: int) -> dict[str, Any]:
    from lianxin.regional.consult.outreach.models import Attendance, Learning

    start, end = dt.datetime(year, 1, 1, tzinfo=clock.ZONE), dt.datetime(year + 1, 1, 1, tzinfo=clock.ZONE)
    done = Learning.objects.unscoped("one's own credits").filter(
        practitioner_id=practitioner_id, state="reflected", done_at__gte=start, done_at__lt=end
    )
    found: dict[str, Any] = {kind: done.filter(kind=kind) for kind in ("referral", "consult", "reading")}
    found["lesson"] = Attendance.objects.filter(practitioner_id=practitioner_id, lesson__on__year=year)
    return found


def used(practitioner_id: int, kind: str, year: int) -> int:
    """Tenths a doctor has of a kind in a year."""
    return int(_rows(practitioner_id, year)[kind].aggregate(n=Sum("tenths"))["n"] or 0)


def grant(
    practitioner_id: int, kind: str, institution_id: int, on: dt.date, *, times: int = 10
) -> tuple[int, str]:
    """Tenths for one more thing of ``kind`` (``times`` in tenths of the rule's value), cut at the year's most, and the rule in words."""
    each = int(policy.value("credit", institution_id, on)[kind]) * times // 10
    most = int(policy.value("credit.most", institution_id, on)[kind])
    left = max(0, most - used(practitioner_id, kind, on.year))
    words = f"{KINDS[kind].zh}每项 {shown(each)} 学分，每年不超过 {shown(most)} 学分"
    return min(each, left), words


def year_of(practitioner_id: int, year: int) -> Year:
    """A doctor's credits of a year."""
    lines = []
    for kind, rows in _rows(practitioner_id, year).items():
        got = rows.aggregate(n=Sum("tenths"))["n"] or 0
        lines.append(
            {"kind": kind, "label": KINDS[kind], "count": rows.count(), "tenths": got, "credit": shown(got)}
        )
    return Year(year, lines, sum(line["tenths"] for line in lines))
