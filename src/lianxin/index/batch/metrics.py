"""A day's figures of every institution's registrations: what linked, what is suspected twice, and how good the data are.

Kept per day (``index_day``), so that trends outlive the events they were counted from. Quality is looked at in a sample of the
day's registrations (all of them on a usual day): they lie sealed, and opening millions after a load would tell nothing more.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

from django.db import connection, transaction

from lianxin.index import active, payload
from lianxin.index.batch.models import Day
from lianxin.index.form import NAMED, NOTHING, form_of
from lianxin.index.normal.documents import INVALID, NONE, OTHERS
from lianxin.standards import clock

SAMPLE = 500
"""Registrations of one institution and day that are opened at most, spread evenly over the day's."""
_FIGURES = (
    "registrations", "linked", "created", "reviews", "suspected", "doubles", "people", "alone",
    "sampled", "no_id", "wrong_id", "no_birth", "no_phone", "generic", "nameless",
)  # fmt: skip

_EVENTS = """
SELECT s.institution_id, count(*), count(*) FILTER (WHERE e.kind = 'linked'), count(*) FILTER (WHERE e.kind = 'created')
 FROM index_linkevent e JOIN index_sourcerecord s ON s.id = e.source_id
 WHERE e.at >= %s AND e.at < %s AND e.kind IN ('linked', 'created') GROUP BY 1"""
_REVIEWS = """
SELECT i, count(DISTINCT r.id), count(DISTINCT r.id) FILTER (WHERE inside)
 FROM index_reviewitem r, LATERAL (
  SELECT a.institution_id AS i, EXISTS (SELECT 1 FROM index_sourcerecord b WHERE b.person_id = r.person_b_id
    AND b.institution_id = a.institution_id AND r.person_a_id <> r.person_b_id) AS inside
  FROM index_sourcerecord a WHERE a.person_id IN (r.person_a_id, r.person_b_id)) t
 WHERE {which} GROUP BY 1"""
_STOCK = """
SELECT institution_id, count(*), sum(n - systems), count(*) FILTER (WHERE NOT EXISTS (
   SELECT 1 FROM index_sourcerecord o WHERE o.person_id = t.person_id AND o.institution_id <> t.institution_id))
 FROM (SELECT institution_id, person_id, count(*) AS n, count(DISTINCT system) AS systems FROM index_sourcerecord
  GROUP BY 1, 2) t GROUP BY 1"""
_SAMPLED = """
SELECT institution_id, payload FROM (
  SELECT s.institution_id, s.payload, row_number() OVER w AS at, count(*) OVER (PARTITION BY s.institution_id) AS n
  FROM index_linkevent e JOIN index_sourcerecord s ON s.id = e.source_id
  WHERE e.at >= %(since)s AND e.at < %(until)s AND e.kind IN ('linked', 'created')
  WINDOW w AS (PARTITION BY s.institution_id ORDER BY s.id)) t
 WHERE n <= %(sample)s OR at %% (n / %(sample)s + 1) = 0"""


def refresh(day: dt.date | None = None) -> int:
    """Count a day (default: yesterday if nobody has yet, and today so far); how many institutions have figures now."""
    if day is not None:
        return _count(day)
    today = clock.today()
    yesterday = today - dt.timedelta(days=1)
    last = Day.objects.filter(day=yesterday)
    # Yesterday is counted once more after it has ended: what today's first run finds unfinished.
    done = _count(yesterday) if not last.exists() or not Day.objects.filter(day=today).exists() else 0
    return done + _count(today)


@transaction.atomic
def _count(day: dt.date) -> int:
    zone = clock.now().tzinfo
    since = dt.datetime.combine(day, dt.time(), zone)
    until = since + dt.timedelta(days=1)
    found: dict[int, Counter[str]] = {}

    def add(rows: Any, *names: str) -> None:
        for institution, *values in rows:
            mine = found.setdefault(institution, Counter())
            for name, value in zip(names, values, strict=True):
                mine[name] += int(value or 0)

    with connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(hashtext('index_day'))")
        cur.execute(_EVENTS, [since, until])
        add(cur.fetchall(), "registrations", "linked", "created")
        cur.execute(_REVIEWS.format(which="r.opened_at >= %s AND r.opened_at < %s"), [since, until])
        add([row[:2] for row in cur.fetchall()], "reviews")
        cur.execute(_REVIEWS.format(which="r.state IN ('open', 'second')"))
        add([(row[0], row[2]) for row in cur.fetchall()], "suspected")
        cur.execute(_STOCK)
        add(cur.fetchall(), "people", "doubles", "alone")
        generic = active.fresh(cur).generic
        cur.execute(_SAMPLED, {"since": since, "until": until, "sample": SAMPLE})
        for institution, stored in cur.fetchall():
            found.setdefault(institution, Counter()).update(_quality(bytes(stored), generic))
        if found:
            names = ", ".join(_FIGURES)
            sets = ", ".join(f"{name} = EXCLUDED.{name}" for name in _FIGURES)
            marks = ", ".join(["%s"] * (2 + len(_FIGURES)))
            cur.executemany(
                f"INSERT INTO index_day (institution_id, day, {names}) VALUES ({marks})"
                f" ON CONFLICT (institution_id, day) DO UPDATE SET {sets}",
                [[i, day, *(counts[name] for name in _FIGURES)] for i, counts in sorted(found.items())],
            )
    return len(found)


def _quality(stored: bytes, generic: Any) -> Counter[str]:
    """What one registration lacks."""
    reg = payload.unpack(stored)
    plain, form = form_of(reg, NOTHING), form_of(reg, generic)
    return Counter(
        sampled=1,
        no_id=form.id_state == NONE,
        wrong_id=form.id_state in (INVALID, OTHERS),
        no_birth=form.born == 0,
        no_phone=not form.phone,
        generic=(plain.phone, plain.id_no) != (form.phone, form.id_no),
        nameless=form.kind != NAMED,
    )
