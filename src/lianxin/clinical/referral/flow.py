"""Referral flow of a period: who sends to whom, how many close, come back, run late, and how long the stages take.

Every figure is counted by one SQL statement over the same base (referrals sent in the period that ``scope`` may count), and
:func:`cases` gives the list behind each. Closure rate leaves out withdrawn and returned referrals, "otherwise staff dare not
return a wrong referral" (referral_rules.md); closed without a return is counted apart.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.clinical.referral import reasons
from lianxin.clinical.referral.models import Referral
from lianxin.standards import clock
from lianxin.standards.text import T, Text

BASE = """
SELECT r.case_id, r.direction, r.from_institution_id AS a, l1.institution_id AS first_to, r.to_institution_id AS b,
       c.state, c.terminal, c.due_at, r.submitted_at, r.end_code, c.priority,
       EXISTS (SELECT 1 FROM referral_leg l WHERE l.referral_id = r.case_id AND l.status = 'returned') AS came_back
  FROM referral_referral r JOIN duty_case c ON c.id = r.case_id
  LEFT JOIN referral_leg l1 ON l1.referral_id = r.case_id AND l1.number = 1
 WHERE r.submitted_at >= %(since)s AND r.submitted_at < %(until)s
   AND (%(everything)s OR r.from_institution_id = ANY(%(mine)s) OR r.to_institution_id = ANY(%(mine)s)
        OR EXISTS (SELECT 1 FROM referral_leg l WHERE l.referral_id = r.case_id AND l.institution_id = ANY(%(mine)s)))
   AND (%(direction)s = '' OR r.direction = %(direction)s)
   AND (%(consortium)s = 0 OR r.consortium_id = %(consortium)s)"""

FIGURES: dict[str, tuple[Text, str]] = {
    "sent": (T("已发出", "Sent"), "true"),
    "open": (T("在途", "Open"), "NOT terminal"),
    "closed": (T("已闭环", "Closed"), "state = 'closed'"),
    "countable": (T("应闭环", "Should close"), "state <> 'cancelled' AND NOT (came_back AND state IN ('returned', 'closed_no_return')) AND state <> 'closed_no_return'"),
    "returned": (T("被退回", "Returned"), "came_back"),
    "withdrawn": (T("已撤回", "Withdrawn"), "state = 'cancelled'"),
    "no_return": (T("无回转结案", "Closed without return"), "state = 'closed_no_return' AND NOT came_back"),
    "overdue": (T("超时未办", "Overdue"), "NOT terminal AND due_at < %(now)s"),
    "emergency": (T("急诊绿色通道", "Green channel"), "priority = 'emergency'"),
}  # fmt: skip
STAGES: dict[str, tuple[Text, str, str]] = {
    "ack": (T("提交→签收", "Sent → acknowledged"), "submitted", "received"),
    "decide": (T("签收→接收", "Acknowledged → accepted"), "received", "accepted"),
    "book": (T("接收→预约", "Accepted → booked"), "accepted", "booked"),
    "wait": (T("预约→到诊", "Booked → arrived"), "booked", "arrived"),
    "care": (T("到诊→回转", "Arrived → outcome sent"), "arrived", "outcome_sent"),
    "ack_letter": (T("回转→闭环", "Outcome sent → closed"), "outcome_sent", "closed"),
}


@dataclass(frozen=True)
class Period:
    """What is counted: a period, perhaps one direction, perhaps one consortium."""

    since: dt.datetime
    until: dt.datetime
    direction: str = ""
    consortium_id: int = 0

    def params(self, scope: Scope) -> dict[str, Any]:
        """Parameters of the base statement."""
        return {
            "since": self.since,
            "until": self.until,
            "direction": self.direction,
            "consortium": self.consortium_id,
            "everything": scope.everything,
            "mine": sorted(scope.institution_ids | scope.oversight_ids),
            "now": clock.now(),
        }


def period(
    since: dt.datetime, until: dt.datetime, direction: str | None = None, consortium: Any = None
) -> Period:
    """A period to count (``since`` included, ``until`` not)."""
    return Period(since, until, direction or "", consortium.pk if consortium is not None else 0)


@dataclass(frozen=True)
class Link:
    """A band of the Sankey: so many referrals from one institution to another in one direction."""

    from_id: int
    from_name: str
    from_tier: str
    to_id: int
    to_name: str
    to_tier: str
    direction: str
    count: int
    closed: int


@dataclass(frozen=True)
class Stage:
    """How long a stage takes: median and ninth decile, in hours, over the referrals that passed it."""

    code: str
    label: Text
    count: int
    median_hours: float | None
    p90_hours: float | None


@dataclass
class Summary:
    """The figures of a period."""

    counts: dict[str, int]
    closure_rate: float | None
    return_rate: float | None
    links: list[Link] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    return_reasons: list[tuple[str, Text, int]] = field(default_factory=list)


def _rows(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def counts(scope: Scope, chosen: Period) -> dict[str, int]:
    """Every figure of :data:`FIGURES`."""
    columns = ", ".join(f"count(*) FILTER (WHERE {condition})" for _, condition in FIGURES.values())
    row = _rows(f"SELECT {columns} FROM ({BASE}) x", chosen.params(scope))[0]
    return dict(zip(FIGURES, row, strict=True))


def _named(alias: str) -> str:
    """SQL of an institution's short name in the reader's language (English where there is one)."""
    zh = f"coalesce(nullif({alias}.short_name, ''), {alias}.name)"
    return str(T(zh, f"coalesce(nullif({alias}.name_en, ''), {zh})"))


def links(scope: Scope, chosen: Period) -> list[Link]:
    """From → to (the receiver now), by direction, largest first."""
    sql = f"""
    SELECT f.id, {_named("f")}, f.tier, t.id, {_named("t")}, t.tier,
           x.direction, count(*), count(*) FILTER (WHERE x.state = 'closed')
      FROM ({BASE}) x JOIN network_institution f ON f.id = x.a JOIN network_institution t ON t.id = x.b
     GROUP BY 1, 2, 3, 4, 5, 6, 7 ORDER BY 8 DESC, f.code, t.code"""
    return [Link(*row) for row in _rows(sql, chosen.params(scope))]


def stages(scope: Scope, chosen: Period) -> list[Stage]:
    """Median and ninth decile of each stage, from the acts (first entry of each state)."""
    sql = f"""
    WITH x AS ({BASE}), entered AS (
      SELECT a.case_id, a.to_state, min(a.at) AS at FROM duty_act a JOIN x ON x.case_id = a.case_id
       WHERE a.from_state <> a.to_state GROUP BY 1, 2)
    SELECT s.code, count(*),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM z.at - y.at) / 3600),
           percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM z.at - y.at) / 3600)
      FROM unnest(%(codes)s::text[], %(starts)s::text[], %(ends)s::text[]) AS s(code, start, stop)
      JOIN entered y ON y.to_state = s.start JOIN entered z ON z.case_id = y.case_id AND z.to_state = s.stop AND z.at >= y.at
     GROUP BY 1"""
    params = chosen.params(scope) | {
        "codes": list(STAGES),
        "starts": [start for _, start, _ in STAGES.values()],
        "ends": [stop for _, _, stop in STAGES.values()],
    }
    found = {row[0]: row[1:] for row in _rows(sql, params)}
    made = []
    for code, (label, _, _) in STAGES.items():
        count, median, p90 = found.get(code, (0, None, None))
        made.append(
            Stage(
                code,
                label,
                count,
                None if median is None else float(median),
                None if p90 is None else float(p90),
            )
        )
    return made


def return_reasons(scope: Scope, chosen: Period) -> list[tuple[str, Text, int]]:
    """Why referrals came back: (code, words, legs), most frequent first."""
    sql = f"""SELECT l.end_code, count(*) FROM ({BASE}) x JOIN referral_leg l ON l.referral_id = x.case_id AND l.status = 'returned'
              GROUP BY 1 ORDER BY 2 DESC, 1"""
    own = {
        "advice": T("附建议退回", "Returned with advice"),
        "no_show": T("多次爽约交回", "Handed back after no-shows"),
    }
    return [
        (code, own.get(code) or reasons.label("reject", code), n)
        for code, n in _rows(sql, chosen.params(scope))
    ]


def summary(scope: Scope, chosen: Period) -> Summary:
    """All figures of a period."""
    found = counts(scope, chosen)
    return Summary(
        counts=found,
        closure_rate=found["closed"] / found["countable"] if found["countable"] else None,
        return_rate=found["returned"] / found["sent"] if found["sent"] else None,
        links=links(scope, chosen),
        stages=stages(scope, chosen),
        return_reasons=return_reasons(scope, chosen),
    )


def cases(
    scope: Scope,
    chosen: Period,
    figure: str = "sent",
    *,
    from_id: int | None = None,
    to_id: int | None = None,
    reason: str | None = None,
    stage: str | None = None,
    limit: int = 500,
) -> list[Referral]:
    """The referrals behind a figure, a band (``from_id``, ``to_id``), a return reason or a stage; KeyError for an unknown figure.

    Rows are referrals with case, person and institutions; the same scope as the count, so the list is as long as the figure.
    """
    conditions = [FIGURES[figure][1]]
    params = chosen.params(scope) | {"limit": limit}
    if from_id is not None:
        conditions.append("a = %(from_id)s")
        params["from_id"] = from_id
    if to_id is not None:
        conditions.append("b = %(to_id)s")
        params["to_id"] = to_id
    if reason is not None:
        conditions.append(
            "EXISTS (SELECT 1 FROM referral_leg l WHERE l.referral_id = case_id AND l.status = 'returned' AND l.end_code = %(reason)s)"
        )
        params["reason"] = reason
    if stage is not None:
        _, start, stop = STAGES[stage]
        conditions.append(
            "EXISTS (SELECT 1 FROM duty_act y JOIN duty_act z ON z.case_id = y.case_id WHERE y.case_id = x.case_id"
            " AND y.to_state = %(start)s AND y.from_state <> y.to_state AND z.to_state = %(stop)s AND z.from_state <> z.to_state"
            " AND z.at >= y.at)"
        )
        params |= {"start": start, "stop": stop}
    where = " AND ".join(f"({c})" for c in conditions)
    ids = [
        row[0]
        for row in _rows(
            f"SELECT case_id FROM ({BASE}) x WHERE {where} ORDER BY submitted_at DESC LIMIT %(limit)s", params
        )
    ]
    rows = (
        Referral.objects.unscoped("the statement above has applied the scope")
        .filter(pk__in=ids)
        .select_related("case", "person", "from_institution", "to_institution")
    )
    by_id = {row.pk: row for row in rows}
    return [by_id[i] for i in ids]
