"""How good what came in is: a score a dimension, from the weights of findings; and the figures by day they are computed from.

For a dimension *d* over *n* arrivals::

    score(d) = 100 × (1 − Σ worst(d) / n)

where ``worst(d)`` of an arrival is the greatest weight among its findings in *d* (refuse 1, quarantine 0.7, warn 0.2; in timeliness
1 whatever the rule's severity, for late is late), and 1 when it was refused without a finding, in the dimension of the
reason.  The total is the mean of the five weighted as ``dimensions`` of ``data/quality_rules.yaml`` says.

:func:`count` keeps :class:`~.quality.models.QualityDay` up to date: hours in which something came or was tried again are counted
anew as a whole, so that counting twice gives the same; a day that is over is folded into one row a key.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson
from django.db import connection, transaction

from lianxin.exchange.feeds.models import (
    COMPLETENESS,
    CONSISTENCY,
    DIMENSIONS,
    TIMELINESS,
    UNIQUENESS,
    VALIDITY,
)
from lianxin.exchange.feeds.quality import rules
from lianxin.standards import clock
from lianxin.standards.text import T, Text

LABELS: dict[str, Text] = {
    COMPLETENESS: T("完整性", "Completeness"), TIMELINESS: T("及时性", "Timeliness"), CONSISTENCY: T("一致性", "Consistency"),
    UNIQUENESS: T("唯一性", "Uniqueness"), VALIDITY: T("有效性", "Validity"),
}  # fmt: skip
COUNTS = (
    "arrivals", "taken", "refused", "quarantined", "dropped", "findings", "late", "timed", "lag_seconds", "lag_most",
)  # fmt: skip
CODES = {
    "required": COMPLETENESS, "not-found": CONSISTENCY, "conflict": CONSISTENCY, "business-rule": CONSISTENCY, "duplicate": UNIQUENESS,
}  # fmt: skip
"""Dimension of a refusal by its reason's code, where it is not validity."""

_LEADING = dt.timedelta(minutes=2)  # a transaction may commit later than the time it bears
_OPEN_DAYS = 2  # days before today that stay counted by hour


@cache
def weights() -> tuple[dict[str, float], dict[str, float], float]:
    """Weights of severities, of dimensions, and of being late."""
    raw = rules.data()
    return raw["weights"], raw["dimensions"], float(raw["late_counts"])


def worst(found: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Greatest weight by dimension of an arrival's findings, each (dimension, severity)."""
    severities, _, late = weights()
    result = dict.fromkeys(DIMENSIONS, 0.0)
    for dimension, severity in found:
        weight = late if dimension == TIMELINESS else severities[severity]
        result[dimension] = max(result[dimension], weight)
    return result


def score(bad: float, arrivals: int) -> float | None:
    """The score of a dimension, 0 to 100 with one decimal; None when nothing came."""
    return round(100 * (1 - min(bad, arrivals) / arrivals), 1) if arrivals else None


def total(scores: Mapping[str, float | None]) -> float | None:
    """The weighted mean of the five dimensions; None when nothing came."""
    _, dimensions, _ = weights()
    told = [(value, dimensions[name]) for name, value in scores.items() if value is not None]
    return round(sum(v * w for v, w in told) / sum(w for _, w in told), 1) if told else None


@dataclass
class Figures:
    """Sums of some :class:`QualityDay` rows with their scores."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    bad: dict[str, float] = field(default_factory=lambda: dict.fromkeys(DIMENSIONS, 0.0))

    def add(self, counts: Mapping[str, int], bad: Mapping[str, float]) -> None:
        """Add a row."""
        for name in COUNTS:
            value = int(counts[name] or 0)  # sums of bigints come as Decimal
            self.counts[name] = (
                max(self.counts[name], value) if name == "lag_most" else self.counts[name] + value
            )
        for name in DIMENSIONS:
            self.bad[name] += bad[name] or 0.0

    @property
    def arrivals(self) -> int:
        """How many came."""
        return self.counts["arrivals"]

    @property
    def scores(self) -> dict[str, float | None]:
        """Scores by dimension."""
        return {name: score(self.bad[name], self.arrivals) for name in DIMENSIONS}

    @property
    def total(self) -> float | None:
        """The score of all."""
        return total(self.scores)

    @property
    def trouble(self) -> int:
        """How many are not in the record."""
        return self.counts["refused"] + self.counts["quarantined"]

    @property
    def lag(self) -> float | None:
        """Mean seconds from sending to arrival."""
        return self.counts["lag_seconds"] / self.counts["timed"] if self.counts["timed"] else None

    @property
    def in_time(self) -> float | None:
        """Per cent that were not late."""
        return round(100 * (1 - self.counts["late"] / self.arrivals), 1) if self.arrivals else None


_SUMS = ", ".join(
    [*(f"{'max' if c == 'lag_most' else 'sum'}({c})" for c in COUNTS), *(f"sum({d})" for d in DIMENSIONS)]
)
KEYS = ("day", "institution_id", "vendor", "door", "kind")


def figures(
    by: tuple[str, ...], since: dt.date, until: dt.date, institutions: Iterable[int] | None = None
) -> dict[tuple[Any, ...], Figures]:
    """Figures from ``since`` to ``until`` (both included) by some of :data:`KEYS`; ``institutions`` None: of everybody."""
    if unknown := set(by) - set(KEYS):
        raise ValueError(f"no keys: {unknown}")
    where, params = "day BETWEEN %s AND %s", [since, until]
    if institutions is not None:
        where, params = where + " AND institution_id = ANY(%s)", [*params, sorted(institutions)]  # type: ignore[list-item]
    head = "".join(f"{name}, " for name in by)
    group = f" GROUP BY {', '.join(by)}" if by else ""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {head}{_SUMS} FROM exchange_qualityday WHERE {where}{group}", params)
        rows = cursor.fetchall()
    found: dict[tuple[Any, ...], Figures] = {}
    for row in rows:
        values = row[len(by) :]
        one = found.setdefault(row[: len(by)], Figures())
        one.add(
            dict(zip(COUNTS, values, strict=False)),
            dict(zip(DIMENSIONS, values[len(COUNTS) :], strict=True)),
        )
    return found


# --------------------------------------------------------------------------------------------------------------- counting

_TOUCHED = """
SELECT DISTINCT (x.at AT TIME ZONE %(zone)s)::date AS day, extract(hour FROM x.at AT TIME ZONE %(zone)s)::int AS hour FROM (
    SELECT at FROM exchange_arrival WHERE at >= %(since)s
    UNION ALL SELECT at FROM exchange_arrival WHERE attempts > 1 AND done_at >= %(since)s) x"""

_COUNT = """
WITH a AS (
  SELECT a.id, a.institution_id, coalesce(c.vendor, '') AS vendor, a.door, a.kind, a.state, a.sent_at, a.at,
         split_part(split_part(a.error, E'\\n', 1), ' ', 1) AS why
    FROM exchange_arrival a LEFT JOIN access_client c ON c.id = a.client_id
   WHERE a.at >= %(since)s AND a.at < %(until)s),
w AS (
  SELECT f.arrival_id, f.dimension, max(CASE WHEN f.dimension = 'timeliness' THEN %(late)s::float8
         WHEN f.severity = 'refuse' THEN %(refuse)s::float8 WHEN f.severity = 'quarantine' THEN %(quarantine)s::float8
         ELSE %(warn)s::float8 END) AS weight, count(*) AS n
    FROM exchange_finding f JOIN a ON a.id = f.arrival_id WHERE f.state NOT IN ('waived', 'mended') GROUP BY 1, 2),
v AS (
  SELECT arrival_id, sum(n) AS n, {pivot} FROM w GROUP BY 1),
x AS (
  SELECT a.*, coalesce(v.n, 0) AS n, {own}
    FROM a LEFT JOIN v ON v.arrival_id = a.id
    LEFT JOIN LATERAL (SELECT CASE WHEN a.state = 'refused' AND v.arrival_id IS NULL
                       THEN coalesce(%(codes)s::jsonb ->> a.why, 'validity') END AS dimension) r ON TRUE)
INSERT INTO exchange_qualityday (day, part, institution_id, vendor, door, kind, arrivals, taken, refused, quarantined, dropped,
       findings, late, timed, lag_seconds, lag_most, {names})
SELECT %(day)s, %(part)s, institution_id, vendor, door, kind, count(*), count(*) FILTER (WHERE state = 'taken'),
       count(*) FILTER (WHERE state = 'refused'), count(*) FILTER (WHERE state = 'quarantined'),
       count(*) FILTER (WHERE state = 'dropped'), sum(n), count(*) FILTER (WHERE timeliness > 0), count(sent_at),
       coalesce(sum(greatest(extract(epoch FROM at - sent_at), 0)), 0)::bigint,
       coalesce(max(greatest(extract(epoch FROM at - sent_at), 0)), 0)::bigint, {sums}
  FROM x GROUP BY institution_id, vendor, door, kind""".format(
    pivot=", ".join(f"coalesce(max(weight) FILTER (WHERE dimension = '{d}'), 0) AS {d}" for d in DIMENSIONS),
    own=", ".join(
        f"CASE WHEN r.dimension = '{d}' THEN 1 ELSE coalesce(v.{d}, 0) END AS {d}" for d in DIMENSIONS
    ),
    names=", ".join(DIMENSIONS),
    sums=", ".join(f"sum({d})" for d in DIMENSIONS),
)

_FOLD = f"""
WITH gone AS (DELETE FROM exchange_qualityday WHERE day = %s AND part >= 0 RETURNING *)
INSERT INTO exchange_qualityday (day, part, institution_id, vendor, door, kind, {", ".join(COUNTS)}, {", ".join(DIMENSIONS)})
SELECT day, -1, institution_id, vendor, door, kind, {_SUMS} FROM gone GROUP BY day, institution_id, vendor, door, kind"""


def _begin(day: dt.date, hour: int = 0) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(hour), tzinfo=clock.ZONE)


def _insert(cursor: Any, day: dt.date, part: int) -> None:
    severities, _, late = weights()
    since = _begin(day, max(part, 0))
    until = since + (dt.timedelta(hours=1) if part >= 0 else dt.timedelta(days=1))
    cursor.execute(
        _COUNT,
        {"since": since, "until": until, "day": day, "part": part, "late": late, "codes": orjson.dumps(CODES).decode(), **severities},
    )  # fmt: skip


def count(now: dt.datetime | None = None) -> int:
    """Count what came or changed since the last time; returns how many hours (or whole days) were counted."""
    now = now or clock.now()
    today = now.astimezone(clock.ZONE).date()
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('feeds.scores'))")
        cursor.execute("SELECT counted FROM exchange_qualitymark WHERE id = 1")
        row = cursor.fetchone()
        since = row[0] - _LEADING if row else dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
        cursor.execute(_TOUCHED, {"since": since, "zone": str(clock.ZONE)})
        touched = sorted(cursor.fetchall())
        closed = today - dt.timedelta(days=_OPEN_DAYS)
        todo = sorted({(day, hour if day >= closed else -1) for day, hour in touched})
        for day, part in todo:
            if part < 0:
                cursor.execute("DELETE FROM exchange_qualityday WHERE day = %s", [day])
            else:
                cursor.execute("DELETE FROM exchange_qualityday WHERE day = %s AND part = %s", [day, part])
            _insert(cursor, day, part)
        cursor.execute("SELECT DISTINCT day FROM exchange_qualityday WHERE part >= 0 AND day < %s", [closed])
        for (day,) in cursor.fetchall():
            cursor.execute(_FOLD, [day])
        cursor.execute(
            "INSERT INTO exchange_qualitymark (id, counted) VALUES (1, %s)"
            " ON CONFLICT (id) DO UPDATE SET counted = EXCLUDED.counted",
            [now],
        )
    return len(todo)


def recount(day: dt.date) -> None:
    """Count a day anew (its findings were waived or mended)."""
    today = clock.today()
    parts = range(24) if day >= today - dt.timedelta(days=_OPEN_DAYS) else (-1,)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('feeds.scores'))")
        cursor.execute("DELETE FROM exchange_qualityday WHERE day = %s", [day])
        for part in parts:
            _insert(cursor, day, part)


def counted_at() -> dt.datetime | None:
    """When the figures were counted last."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT counted FROM exchange_qualitymark WHERE id = 1")
        row = cursor.fetchone()
    return row[0].astimezone(clock.ZONE) if row else None


def run() -> None:
    """The ticker's chore: count, and forget marks of content older than thirteen months."""
    count()
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM exchange_contentmark WHERE (institution_id, mark) IN (SELECT institution_id, mark FROM"
            " exchange_contentmark WHERE day < %s LIMIT 5000)",
            [clock.today() - dt.timedelta(days=400)],
        )
