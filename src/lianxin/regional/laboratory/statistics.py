"""Figures of a laboratory: turnaround by stage, refusals, the share verified by rule, controls. Counted from rows, each with its n."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection

from lianxin.regional.laboratory import catalogue, westgard
from lianxin.regional.laboratory.models import Measure
from lianxin.standards import clock
from lianxin.standards.text import T, Text

STAGES: tuple[tuple[str, Text], ...] = (
    ("collect", T("申请到采集", "Order to collection")),
    ("travel", T("采集到接收", "Collection to receipt")),
    ("measure", T("接收到出结果", "Receipt to results")),
    ("verify", T("出结果到发布", "Results to issue")),
    ("whole", T("申请到发布", "Order to issue")),
)
_SQL = """
WITH done AS (
  SELECT r.issued_at, r.ordered_at, r.report_due_at, s.collected_at, w.received_at, w.resulted_at, w.auto, c.priority
    FROM reading_reading r JOIN laboratory_work w ON w.reading_id = r.case_id JOIN laboratory_specimen s ON s.id = w.specimen_id
    JOIN duty_case c ON c.id = r.case_id
   WHERE r.centre_of_id = ANY(%(mine)s) AND r.issued_at >= %(start)s AND r.issued_at < %(end)s AND NOT w.added),
spans AS (
  SELECT stage, priority, extract(epoch FROM span) / 60 AS minutes FROM done,
    LATERAL (VALUES ('collect', collected_at - ordered_at), ('travel', received_at - collected_at), ('measure', resulted_at - received_at),
                    ('verify', issued_at - resulted_at), ('whole', issued_at - ordered_at)) v(stage, span)
   WHERE span IS NOT NULL AND span >= interval '0')
SELECT stage, count(*), percentile_cont(0.5) WITHIN GROUP (ORDER BY minutes), percentile_cont(0.9) WITHIN GROUP (ORDER BY minutes)
  FROM spans GROUP BY stage"""
_SHARES = """
SELECT count(*), count(*) FILTER (WHERE w.auto), count(*) FILTER (WHERE r.issued_at <= r.report_due_at)
  FROM reading_reading r JOIN laboratory_work w ON w.reading_id = r.case_id
 WHERE r.centre_of_id = ANY(%(mine)s) AND r.issued_at >= %(start)s AND r.issued_at < %(end)s"""
_REFUSED = """
SELECT s.refused, i.id, i.short_name, i.name, i.name_en, count(*)
  FROM laboratory_specimen s JOIN network_institution i ON i.id = s.institution_id
 WHERE s.centre_of_id = ANY(%(mine)s) AND s.state = 'refused' AND s.ended_at >= %(start)s AND s.ended_at < %(end)s
 GROUP BY 1, 2, 3, 4, 5 ORDER BY count(*) DESC, 2, 1"""
_TUBES = """
SELECT count(*) FROM laboratory_specimen s
 WHERE s.centre_of_id = ANY(%(mine)s) AND s.received_at >= %(start)s AND s.received_at < %(end)s"""


def of(mine: set[int], start: dt.date, end: dt.date) -> dict[str, Any]:
    """Figures of the laboratories ``mine`` for the days ``start`` to ``end`` (both included)."""
    given: dict[str, Any] = {
        "mine": sorted(mine), "start": dt.datetime.combine(start, dt.time(), clock.ZONE),
        "end": dt.datetime.combine(end + dt.timedelta(days=1), dt.time(), clock.ZONE),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_SQL, given)
        spans = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute(_SHARES, given)
        issued, auto, in_time = cursor.fetchone()
        cursor.execute(_REFUSED, given)
        refused = cursor.fetchall()
        cursor.execute(_TUBES, given)
        tubes = cursor.fetchone()[0]
    words = catalogue.refusals()
    measures = Measure.objects.filter(
        control__institution_id__in=mine, at__gte=given["start"], at__lt=given["end"]
    )
    return {
        "stages": [{"label": label, "n": n, "median": _minutes(m), "p90": _minutes(p)} for code, label in STAGES for n, m, p in [spans.get(code, (0, None, None))]],
        "issued": issued, "auto": auto, "in_time": in_time, "auto_share": _share(auto, issued), "time_share": _share(in_time, issued),
        "refused": [{"why": words.get(row[0]), "where": Text(row[2] or row[3], row[4] or row[3]), "n": row[5]} for row in refused],
        "refused_n": sum(row[5] for row in refused), "tubes": tubes, "refused_share": _share(sum(row[5] for row in refused), tubes),
        "qc": {"n": measures.count(), "warn": measures.filter(verdict="warn").count(), "reject": measures.filter(verdict="reject").count(), "open": measures.filter(verdict="reject", corrective=None).count()},
        "rules": westgard.RULES,
    }  # fmt: skip


def _share(part: int, whole: int) -> str:
    return f"{part / whole * 100:.1f}%" if whole else "—"


def _minutes(value: float | None) -> Text:
    if value is None:
        return T("—", "—")
    if value < 120:
        return T("{n} 分钟", "{n} min").format(n=f"{value:.0f}")
    return T("{n} 小时", "{n} h").format(n=f"{value / 60:.1f}")
