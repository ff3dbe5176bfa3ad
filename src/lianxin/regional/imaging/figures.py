"""Figures of image quality: what arrived, passed, was noted, returned, taken again, by institution and by reason."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.regional.imaging.models import RATINGS
from lianxin.regional.imaging.rules import WORDS
from lianxin.regional.reading.forms import RETAKE
from lianxin.standards import clock
from lianxin.standards.text import T, Text

_GATE = """
SELECT q.institution_id, count(*), count(*) FILTER (WHERE verdict = 'pass'), count(*) FILTER (WHERE verdict = 'flag'),
       count(*) FILTER (WHERE verdict = 'return'), count(*) FILTER (WHERE anyway <> ''),
       count(*) FILTER (WHERE r.facts ->> 'rating' = 'good'), count(*) FILTER (WHERE r.facts ->> 'rating' = 'fair'),
       count(*) FILTER (WHERE r.facts ->> 'rating' = 'poor')
  FROM imaging_quality q JOIN reading_reading r ON r.case_id = q.reading_id
 WHERE q.judged_at >= %(since)s AND q.judged_at < %(until)s AND (q.institution_id = ANY(%(mine)s) OR q.centre_id = ANY(%(mine)s))
 GROUP BY 1"""
_CODES = """
SELECT q.institution_id, code, count(*) FROM imaging_quality q, unnest(q.codes) AS code
 WHERE q.judged_at >= %(since)s AND q.judged_at < %(until)s AND (q.institution_id = ANY(%(mine)s) OR q.centre_id = ANY(%(mine)s))
 GROUP BY 1, 2"""
_RETAKES = """
SELECT r.performer_id, a.form ->> 'code', count(*) FROM duty_act a JOIN reading_reading r ON r.case_id = a.case_id
 WHERE a.move = 'return_retake' AND r.centre = 'imaging' AND a.at >= %(since)s AND a.at < %(until)s
   AND (r.performer_id = ANY(%(mine)s) OR r.centre_of_id = ANY(%(mine)s))
 GROUP BY 1, 2"""
GATE: dict[str, Text] = {
    "no_images": T("无影像", "No images"),
    "no_pixels": T("无像素", "No pixels"),
    "unreadable": T("无法解码", "Unreadable"),
    "few_images": T("图像过少", "Too few"),
    "empty": T("全黑或饱和", "Empty"),
    "matrix": T("矩阵过小", "Small matrix"),
    "modality": T("类型不符", "Other modality"),
    "part": T("部位不符", "Other body part"),
    "side": T("侧别不符", "Other side"),
    "clock": T("时钟不准", "Clock wrong"),
}
assert set(GATE) == set(WORDS)


def table(scope: Scope, since: dt.date, until: dt.date) -> dict[str, Any]:
    """Rows by institution, reasons of the gate and of readers with their counts. ``until`` is included."""
    mine = sorted(scope.institution_ids | scope.oversight_ids)
    span: dict[str, Any] = {
        "since": dt.datetime.combine(since, dt.time(), clock.ZONE), "mine": mine,
        "until": dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), clock.ZONE),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(_GATE, span)
        gate = {row[0]: row[1:] for row in cursor.fetchall()}
        cursor.execute(_CODES, span)
        codes = cursor.fetchall()
        cursor.execute(_RETAKES, span)
        retakes = cursor.fetchall()
    again: dict[int, int] = {}
    for institution, _, count in retakes:
        again[institution] = again.get(institution, 0) + count
    rows = []
    for place in Institution.objects.filter(pk__in={*gate, *again}).order_by("code"):
        total, passed, flagged, returned, anyway, *graded = gate.get(place.pk, (0,) * 8)
        rows.append(
            {"place": place, "total": total, "passed": passed, "flagged": flagged, "returned": returned, "anyway": anyway,
             "retakes": again.get(place.pk, 0), "rate": f"{100 * passed / total:.0f}%" if total else "—", "graded": graded}
        )  # fmt: skip
    return {
        "rows": rows, "ratings": RATINGS,
        "reasons": _sum(codes, GATE), "retake_reasons": _sum(retakes, RETAKE),
    }  # fmt: skip


def _sum(found: list[tuple[int, str, int]], words: dict[str, Text]) -> list[tuple[Text, int]]:
    counts: dict[str, int] = {}
    for _, code, count in found:
        counts[code or "other"] = counts.get(code or "other", 0) + count
    return [
        (words.get(code, T(code, code)), n) for code, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))
    ]
