"""The weekly report of numbers: lines by institution, department and session type, and as paper and CSV.

A report is worked out when asked for; figures of a week that is over only change when somebody is marked as come or missed later.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.template.loader import render_to_string

from lianxin.network.models import Department, Institution
from lianxin.pool import usage
from lianxin.pool.models import KINDS, TIERS
from lianxin.standards import paper
from lianxin.standards.text import T, Text

WEEK = dt.timedelta(days=7)


@dataclass
class Line:
    """Sums of a department's sessions of one type; ``query`` opens its sessions."""

    institution: Institution
    department: Department
    kind: str
    clinic_type: str
    figures: usage.Figures
    query: str

    @property
    def kind_label(self) -> Text:
        """Clinic or examination, in words."""
        return KINDS[self.kind]


@dataclass
class Report:
    """A week of one or several institutions."""

    places: list[Institution]
    monday: dt.date
    rows: list[usage.Used]
    lines: list[Line]
    total: usage.Figures

    @property
    def sunday(self) -> dt.date:
        """Its last day."""
        return self.monday + dt.timedelta(days=6)

    @property
    def taken(self) -> list[tuple[Text, int, int]]:
        """By channel: its name, numbers taken, people turned away."""
        return [(label, self.total.taken[t], self.total.away[t]) for t, label in TIERS.items()]

    @property
    def used(self) -> list[tuple[Text, int]]:
        """Kept numbers by whom they were used."""
        return [(TIERS[t], self.total.used[t]) for t in usage.GRASSROOTS]


def make(places: Iterable[Institution], monday: dt.date) -> Report:
    """The report of the week that begins on ``monday``."""
    listed = list(places)
    rows = usage.sessions([i.pk for i in listed], monday, monday + WEEK)
    by_place = {i.pk: i for i in listed}
    departments = Department.objects.in_bulk({r.department_id for r in rows})
    sums = usage.grouped(rows, lambda r: (r.institution_id, r.department_id, r.kind, r.clinic_type))
    lines = [
        Line(
            by_place[institution], departments[department], kind, clinic_type, figures,
            urlencode({"week": monday.isoformat(), "institution": institution, "department": department, "kind": kind, "type": clinic_type}),
        )
        for (institution, department, kind, clinic_type), figures in sums.items()
    ]  # fmt: skip
    lines.sort(key=lambda x: (x.institution.code, x.department.code, x.kind, x.clinic_type))
    return Report(listed, monday, rows, lines, usage.total(rows))


def pdf(report: Report) -> bytes:
    """The report as PDF, A4 across, in the language in force. The caller has checked that the reader may have it."""
    return paper.pdf(render_to_string("quotas/report_print.html", {"r": report}))


COLUMNS = (
    T("机构", "Institution"), T("科室", "Department"), T("类别", "Kind"), T("号别", "Type"), T("场次", "Sessions"), T("停诊", "Stopped"),
    T("号数", "Numbers"), T("公开已约", "Taken, public"), T("县级已约", "Taken, county"), T("乡镇已约", "Taken, township"),
    T("村级已约", "Taken, village"), T("预留", "Kept"), T("村级用预留", "Kept used by village"), T("乡镇用预留", "Kept used by township"),
    T("县级用预留", "Kept used by county"), T("释放", "Released"), T("释放后约出", "Released and taken"), T("释放后空置", "Released, stayed empty"),
    T("空号", "Empty"), T("爽约", "No-shows"), T("未约到（公开）", "Turned away, public"), T("未约到（县级）", "Turned away, county"),
    T("未约到（乡镇）", "Turned away, township"), T("未约到（村级）", "Turned away, village"),
)  # fmt: skip


def _safe(words: object) -> str:
    """A spreadsheet takes what begins so for a formula: an apostrophe keeps it text."""
    text = str(words)
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def as_csv(report: Report) -> str:
    """The report's lines as CSV with a heading, in the language in force."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([str(c) for c in COLUMNS])
    for line in report.lines:
        f = line.figures
        names: list[Any] = [
            line.institution.name, line.department.name, str(line.kind_label), line.clinic_type
        ]  # fmt: skip
        writer.writerow([
            *(_safe(n) for n in names), f.sessions, f.stopped, f.capacity, *(f.taken[t] for t in TIERS), f.kept,
            *(f.used[t] for t in usage.GRASSROOTS), f.released, f.released_taken, f.released_empty, f.empty, f.no_shows,
            *(f.away[t] for t in TIERS),
        ])  # fmt: skip
    return out.getvalue()
