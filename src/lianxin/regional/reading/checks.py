"""What ``lianxin check`` recounts of reading work: seats, readers' counters, states of cases against open seats, reports in force."""

from __future__ import annotations

from django.db import connection

_COUNTERS = """
SELECT r.id, r.open_now, count(e.id) FROM reading_reader r
  LEFT JOIN reading_entry e ON (e.account_id, e.institution_id, e.centre) = (r.account_id, r.institution_id, r.centre) AND e.state = 'claimed'
 GROUP BY r.id HAVING r.open_now <> count(e.id) ORDER BY r.id"""
# Which seat is open in which state; any other state has none.
_SEAT_OF = "(VALUES ('queued', 'first'), ('proposed', 'approve'), ('second_read', 'second'), ('arbitration', 'arbitrate')) AS w(state, seat)"
_MISSING = f"""
SELECT c.number, c.state FROM duty_case c JOIN {_SEAT_OF} ON w.state = c.state
 WHERE c.kind = 'reading' AND NOT EXISTS (
   SELECT 1 FROM reading_entry e WHERE e.reading_id = c.id AND e.seat = w.seat AND e.state IN ('waiting', 'claimed'))
 ORDER BY c.id"""
_STRAY = f"""
SELECT c.number, c.state, e.seat FROM reading_entry e JOIN duty_case c ON c.id = e.reading_id
 WHERE c.kind = 'reading' AND e.state IN ('waiting', 'claimed')
   AND NOT EXISTS (SELECT 1 FROM {_SEAT_OF} WHERE w.state = c.state AND w.seat = e.seat)
 ORDER BY c.id, e.id"""
_EXCLUDED = """
SELECT c.number, e.seat FROM reading_entry e JOIN duty_case c ON c.id = e.reading_id
 WHERE e.state IN ('claimed', 'done') AND e.account_id = ANY(e.excluded) ORDER BY c.id"""
_NO_READER = """
SELECT c.number, e.seat FROM reading_entry e JOIN duty_case c ON c.id = e.reading_id
 WHERE e.state = 'claimed' AND NOT EXISTS (SELECT 1 FROM reading_reader r
   WHERE (r.account_id, r.institution_id, r.centre) = (e.account_id, e.institution_id, e.centre)) ORDER BY c.id"""
_UNSIGNED = """
SELECT c.number FROM duty_case c JOIN reading_reading r ON r.case_id = c.id
 WHERE c.kind = 'reading' AND c.state IN ('issued', 'acknowledged')
   AND (r.issued_at IS NULL OR NOT EXISTS (SELECT 1 FROM reading_report p WHERE p.reading_id = r.case_id AND p.state = 'signed'))
 ORDER BY c.id"""


def _rows(sql: str) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def seats() -> list[str]:
    """Counters against seats held, states against open seats, holders who may not sit. (``queue.recount`` sets counters right.)"""
    found = [f"reader {r} counted {was} open, holds {holds}" for r, was, holds in _rows(_COUNTERS)]
    found += [f"{number} stands at {state} with no seat in the queue" for number, state in _rows(_MISSING)]
    found += [f"{number} stands at {state} with an open seat: {seat}" for number, state, seat in _rows(_STRAY)]  # fmt: skip
    found += [f"{number} {seat}: held by somebody excluded" for number, seat in _rows(_EXCLUDED)]
    found += [f"{number} {seat}: held by nobody's reader" for number, seat in _rows(_NO_READER)]
    return found


def reports() -> list[str]:
    """Work that went out without a signed report."""
    return [f"{number} was issued without a signed report" for (number,) in _rows(_UNSIGNED)]
