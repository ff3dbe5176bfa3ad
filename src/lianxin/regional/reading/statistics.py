"""Figures of the shared centres: turnaround by stage against the target, overdue, retakes, double reading, load of readers.

Every figure is counted from rows that its filter finds again (``rows``), so that it opens down to them. Times are in minutes. A piece of
work belongs to the day on which it was ordered.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.network.models import Institution
from lianxin.regional.reading.forms import RETAKE
from lianxin.regional.reading.models import CENTRES, SCORES, Reader
from lianxin.standards import clock
from lianxin.standards.text import T, Text

STAGES: dict[str, tuple[Text, str, str]] = {
    "wait": (T("申请→采集", "Order → acquired"), "ordered_at", "acquired_at"),
    "send": (T("采集→入队", "Acquired → queued"), "acquired_at", "queued_at"),
    "claim": (T("入队→认领", "Queued → claimed"), "queued_at", "claimed_at"),
    "write": (T("认领→签署", "Claimed → signed"), "claimed_at", "signed_at"),
    "issue": (T("签署→签发", "Signed → issued"), "signed_at", "issued_at"),
    "centre": (T("中心用时（入队→签发）", "At the centre (queued → issued)"), "queued_at", "issued_at"),
    "seen": (T("签发→已阅", "Issued → acknowledged"), "issued_at", "acknowledged_at"),
    "whole": (T("全程（申请→签发）", "Whole (order → issued)"), "ordered_at", "issued_at"),
}
"""Stages of the work: words, first and last instant (columns of reading_reading)."""
GROUPS: dict[str, tuple[Text, str]] = {
    "modality": (T("按检查类型", "By modality"), "r.modality"),
    "priority": (T("按优先级", "By priority"), "c.priority"),
    "origin": (T("按来源机构", "By origin"), "r.origin_id::text"),
    "performer": (T("按采集机构", "By performer"), "r.performer_id::text"),
}
LATE = "coalesce(r.issued_at, %(now)s) > r.report_due_at AND c.state <> 'cancelled'"
SHOWS: dict[str, tuple[Text, str]] = {
    "all": (T("全部申请", "All orders"), "TRUE"),
    "issued": (T("已签发", "Issued"), "r.issued_at IS NOT NULL"),
    "open": (T("未签发", "Not issued"), "r.issued_at IS NULL AND c.state <> 'cancelled'"),
    "late": (T("超时", "Overdue"), LATE),
    "late_open": (T("超时未签发", "Overdue, not issued"), f"{LATE} AND r.issued_at IS NULL"),
    "retake": (T("曾退回重做", "Taken again"), "r.retakes > 0"),
    "double": (T("双读", "Read twice"), "r.double <> ''"),
    "arbitrated": (T("经仲裁", "Arbitrated"), "v.decided <> ''"),
    "positive": (T("阳性", "Positive"), "EXISTS (SELECT 1 FROM reading_report p WHERE p.reading_id = r.case_id AND p.state = 'signed' AND p.positive)"),
    "amended": (T("更正过", "Amended"), "EXISTS (SELECT 1 FROM reading_report p WHERE p.reading_id = r.case_id AND p.state = 'signed' AND p.reason <> '')"),
    "cancelled": (T("已取消", "Cancelled"), "c.state = 'cancelled'"),
}  # fmt: skip
MOST_DAYS = 400
MOST_ROWS = 20_000
_FROM = """
  FROM reading_reading r JOIN duty_case c ON c.id = r.case_id LEFT JOIN reading_review v ON v.reading_id = r.case_id
 WHERE r.centre_of_id = ANY(%(centres)s) AND r.centre = %(centre)s AND r.ordered_at >= %(since)s AND r.ordered_at < %(until)s"""


@dataclass(frozen=True)
class Period:
    """What is looked at: one kind of centre at some institutions, days from ``since`` to ``until`` (both included)."""

    centre: str
    institutions: tuple[int, ...]
    since: dt.date
    until: dt.date

    @property
    def args(self) -> dict[str, Any]:
        """Parameters of every statement."""
        start = dt.datetime.combine(self.since, dt.time(), clock.ZONE)
        end = dt.datetime.combine(self.until + dt.timedelta(days=1), dt.time(), clock.ZONE)
        return {"centre": self.centre, "centres": list(self.institutions), "since": start, "until": end, "now": clock.now()}  # fmt: skip

    def query(self, **more: Any) -> str:
        """The address of this period, with ``more``."""
        return urlencode({"centre": self.centre, "since": self.since, "until": self.until, **{k: v for k, v in more.items() if v not in ("", None)}})  # fmt: skip


def centres_of(scope: Scope) -> tuple[int, ...]:
    """Institutions whose centres somebody may follow: their own, and those of the consortium for its office."""
    return tuple(sorted(scope.institution_ids | scope.oversight_ids))


def period(scope: Scope, get: Any) -> Period:
    """The period asked for in an address; four weeks to today when it says nothing sensible."""
    today = clock.today()
    since, until = _day(get.get("since")), _day(get.get("until"))
    until = min(until or today, today)
    since = since or until - dt.timedelta(days=27)
    if since > until:
        since, until = until, since
    since = max(since, until - dt.timedelta(days=MOST_DAYS))
    centre = get.get("centre", "")
    if centre not in CENTRES:
        mine = Reader.objects.filter(account_id=scope.account_id or 0, active=True).order_by("pk").first()
        centre = mine.centre if mine else "imaging"
    return Period(centre, centres_of(scope), since, until)


def _day(text: str | None) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text or "")
    except ValueError:
        return None


def _ask(sql: str, args: dict[str, Any]) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def totals(p: Period) -> list[dict[str, Any]]:
    """The counts, each with the filter that finds its rows."""
    wanted = ", ".join(f"count(*) FILTER (WHERE {condition})" for _, condition in SHOWS.values())
    row = _ask(f"SELECT {wanted} {_FROM}", p.args)[0]
    return [{"code": code, "label": label, "count": n, "query": p.query(show=code)} for (code, (label, _)), n in zip(SHOWS.items(), row, strict=True)]  # fmt: skip


def stages(p: Period) -> list[dict[str, Any]]:
    """p50 and p90 of every stage in minutes, with how many rows have both instants."""
    parts = []
    for _, first, last in STAGES.values():
        span = f"extract(epoch FROM r.{last} - r.{first}) / 60"
        parts += [f"count({span})", f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {span})", f"percentile_cont(0.9) WITHIN GROUP (ORDER BY {span})"]  # fmt: skip
    row = _ask(f"SELECT {', '.join(parts)} {_FROM} AND c.state <> 'cancelled'", p.args)[0]
    return [
        {"code": code, "label": label, "count": row[i * 3], "p50": row[i * 3 + 1], "p90": row[i * 3 + 2], "query": p.query(stage=code)}
        for i, (code, (label, _, _)) in enumerate(STAGES.items())
    ]  # fmt: skip


def turnaround(p: Period, group: str) -> list[dict[str, Any]]:
    """By modality, priority, origin or performer: how many, p50 and p90 of the whole way, the target's median, how many in time."""
    column = GROUPS[group][1]
    rows = _ask(
        f"""SELECT {column}, count(*), count(r.issued_at),
              percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.issued_at - r.ordered_at) / 60),
              percentile_cont(0.9) WITHIN GROUP (ORDER BY extract(epoch FROM r.issued_at - r.ordered_at) / 60),
              percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM r.report_due_at - r.ordered_at) / 60),
              count(*) FILTER (WHERE {LATE}), count(*) FILTER (WHERE r.retakes > 0)
            {_FROM} AND c.state <> 'cancelled' GROUP BY 1 ORDER BY 2 DESC, 1""",
        p.args,
    )
    labels = _labels(group, [row[0] for row in rows])
    return [
        {
            "key": key, "label": labels.get(key, Text(key, key)), "count": n, "issued": issued, "p50": p50, "p90": p90, "target": target,
            "late": late, "retakes": retakes, "in_time": round((n - late) * 100 / n, 1) if n else None,
            "query": p.query(group=group, key=key), "late_query": p.query(group=group, key=key, show="late"),
            "retake_query": p.query(group=group, key=key, show="retake"),
        }
        for key, n, issued, p50, p90, target, late, retakes in rows
    ]  # fmt: skip


def _labels(group: str, keys: list[str]) -> dict[str, Text]:
    if group in ("origin", "performer"):
        found = Institution.objects.filter(pk__in=[int(k) for k in keys])
        return {str(i.pk): i.short_label for i in found}
    if group == "priority":
        from lianxin.duty.machine import PRIORITIES

        return dict(PRIORITIES)
    return {}


def retakes(p: Period) -> list[dict[str, Any]]:
    """Studies sent back to be taken again, by coded reason, and what part of all that were acquired."""
    rows = _ask(
        f"""SELECT a.form->>'code', count(*), count(DISTINCT a.case_id) FROM duty_act a WHERE a.move = 'return_retake'
              AND a.case_id IN (SELECT r.case_id {_FROM}) GROUP BY 1 ORDER BY 2 DESC, 1""",
        p.args,
    )
    taken = _ask(f"SELECT count(r.acquired_at) {_FROM}", p.args)[0][0]
    return [
        {"code": code, "label": RETAKE.get(code, RETAKE["other"]), "count": n, "studies": studies,
         "percent": round(studies * 100 / taken, 1) if taken else None, "query": p.query(show="retake", retake=code)}
        for code, n, studies in rows
    ]  # fmt: skip


def scores(p: Period) -> dict[str, Any]:
    """Double reading: why read twice, RADPEER scores, decisions of arbiters, part concordant."""
    rows = dict(_ask(f"SELECT v.score, count(*) {_FROM} AND v.score IS NOT NULL GROUP BY 1", p.args))
    whys = dict(_ask(f"SELECT r.double, count(*) {_FROM} AND r.double <> '' GROUP BY 1", p.args))
    decided = dict(_ask(f"SELECT v.decided, count(*) {_FROM} AND v.decided <> '' GROUP BY 1", p.args))
    whole = sum(rows.values())
    words = {"selected": T("指定项目", "Selected"), "random": T("随机抽查", "Random"), "new_reader": T("新任医师", "New reader")}  # fmt: skip
    stood = {
        "first": T("采用初读", "First"),
        "second": T("采用双读", "Second"),
        "own": T("仲裁另写", "Arbiter's own"),
    }
    return {
        "scores": [{"code": s, "label": label, "count": rows.get(s, 0), "percent": round(rows.get(s, 0) * 100 / whole, 1) if whole else None, "query": p.query(score=s)} for s, label in SCORES.items()],
        "whys": [{"label": words[k], "count": n, "query": p.query(why=k)} for k, n in sorted(whys.items())],
        "decided": [{"label": stood[k], "count": n, "query": p.query(show="arbitrated", decided=k)} for k, n in sorted(decided.items())],
        "whole": whole, "concordant": round((rows.get("1", 0) + rows.get("2a", 0)) * 100 / whole, 1) if whole else None,
    }  # fmt: skip


def readers(p: Period) -> list[dict[str, Any]]:
    """Load of each reader: first readings signed, approved, second readings, median minutes from claim to signature, claims lapsed or
    given back, scores of their double-read reports."""
    rows = _ask(
        f"""
WITH work AS (SELECT r.case_id, r.claimed_at {_FROM}),
mine AS (
  SELECT p.account_id AS who, count(*) FILTER (WHERE p.seat = 'first' AND p.reason = '') AS firsts,
         count(*) FILTER (WHERE p.seat = 'second') AS seconds, count(*) FILTER (WHERE p.seat = 'arbitrate') AS arbitrations,
         count(*) FILTER (WHERE p.reason <> '') AS amendments,
         percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM p.signed_at - w.claimed_at) / 60) FILTER (WHERE p.seat = 'first' AND p.reason = '' AND p.signed_at >= w.claimed_at) AS median
    FROM reading_report p JOIN work w ON w.case_id = p.reading_id WHERE p.state = 'signed' GROUP BY 1),
approved AS (
  SELECT a.id AS who, count(*) AS n FROM reading_report p JOIN work w ON w.case_id = p.reading_id
    JOIN access_account a ON a.practitioner_id = p.approver_id WHERE p.state = 'signed' GROUP BY 1),
given AS (
  SELECT e.account_id AS who, count(*) FILTER (WHERE e.what = 'lapsed') AS lapsed, count(*) FILTER (WHERE e.what = 'returned') AS returned
    FROM reading_claimevent e JOIN reading_entry s ON s.id = e.entry_id JOIN work w ON w.case_id = s.reading_id
   WHERE e.what IN ('lapsed', 'returned') GROUP BY 1),
scored AS (
  SELECT p.account_id AS who, count(*) AS n, count(*) FILTER (WHERE v.score IN ('1', '2a') OR v.decided = 'first') AS good
    FROM reading_review v JOIN reading_report p ON p.id = v.first_id JOIN work w ON w.case_id = v.reading_id GROUP BY 1)
SELECT u.id, u.name, coalesce(m.firsts, 0), coalesce(approved.n, 0), coalesce(m.seconds, 0), coalesce(m.arbitrations, 0), coalesce(m.amendments, 0),
       m.median, coalesce(g.lapsed, 0), coalesce(g.returned, 0), coalesce(s.n, 0), coalesce(s.good, 0),
       (SELECT sum(x.open_now) FROM reading_reader x WHERE x.account_id = u.id AND x.institution_id = ANY(%(centres)s) AND x.centre = %(centre)s)
  FROM access_account u LEFT JOIN mine m ON m.who = u.id LEFT JOIN approved ON approved.who = u.id LEFT JOIN given g ON g.who = u.id LEFT JOIN scored s ON s.who = u.id
 WHERE m.who IS NOT NULL OR approved.who IS NOT NULL OR g.who IS NOT NULL
    OR u.id IN (SELECT account_id FROM reading_reader x WHERE x.institution_id = ANY(%(centres)s) AND x.centre = %(centre)s AND x.active)
 ORDER BY 3 DESC, u.id""",
        p.args,
    )
    names = ("account", "name", "firsts", "approved", "seconds", "arbitrations", "amendments", "median", "lapsed", "returned", "reviewed", "good", "open")  # fmt: skip
    return [dict(zip(names, row, strict=True)) | {"query": p.query(reader=row[0])} for row in rows]


# ------------------------------------------------------------------------------------------------- down to the rows

COLUMNS: dict[str, Text] = {
    "number": T("申请单号", "Number"),
    "accession": T("检查号", "Accession"),
    "modality": T("类型", "Modality"),
    "priority": T("优先级", "Priority"),
    "origin": T("来源", "Origin"),
    "performer": T("采集机构", "Performer"),
    "state": T("状态", "State"),
    "ordered_at": T("申请", "Ordered"),
    "acquired_at": T("采集", "Acquired"),
    "queued_at": T("入队", "Queued"),
    "claimed_at": T("认领", "Claimed"),
    "signed_at": T("签署", "Signed"),
    "issued_at": T("签发", "Issued"),
    "acknowledged_at": T("已阅", "Acknowledged"),
    "due_at": T("时限", "Due"),
    "minutes": T("用时（分）", "Minutes"),
    "retakes": T("重做", "Retakes"),
    "score": T("双读评分", "Score"),
}


def rows(p: Period, get: Any, limit: int = MOST_ROWS) -> list[dict[str, Any]]:
    """The pieces of work a figure was counted from (filters as the figures' own addresses name them), newest first.

    Numbers and times only, never a patient's name: whoever follows figures need not know whose they are.
    """
    conditions, args = [], p.args
    show = get.get("show", "")
    if show in SHOWS:
        conditions.append(SHOWS[show][1])
    if get.get("stage", "") in STAGES:
        _, first, last = STAGES[get["stage"]]
        conditions.append(f"r.{first} IS NOT NULL AND r.{last} IS NOT NULL AND c.state <> 'cancelled'")
    if get.get("group", "") in GROUPS:
        conditions.append(f"{GROUPS[get['group']][1]} = %(key)s AND c.state <> 'cancelled'")
        args["key"] = get.get("key", "")[:40]
    for name, condition in (
        ("score", "v.score = %(score)s"), ("why", "r.double = %(why)s"), ("decided", "v.decided = %(decided)s"),
        ("retake", "EXISTS (SELECT 1 FROM duty_act a WHERE a.case_id = r.case_id AND a.move = 'return_retake' AND a.form->>'code' = %(retake)s)"),
    ):  # fmt: skip
        if get.get(name):
            conditions.append(condition)
            args[name] = get[name][:40]
    reader = get.get("reader", "")
    if reader.isascii() and reader.isdigit() and len(reader) < 10:
        conditions.append(
            "EXISTS (SELECT 1 FROM reading_report p WHERE p.reading_id = r.case_id AND p.state = 'signed' AND (p.account_id = %(reader)s"
            " OR p.approver_id IN (SELECT practitioner_id FROM access_account WHERE id = %(reader)s)))"
        )
        args["reader"] = int(reader)
    found = _ask(
        f"""SELECT c.number, r.accession, r.modality, c.priority, o.name, f.name, c.state, r.ordered_at, r.acquired_at, r.queued_at,
                   r.claimed_at, r.signed_at, r.issued_at, r.acknowledged_at, r.report_due_at,
                   round(extract(epoch FROM r.issued_at - r.ordered_at) / 60), r.retakes, coalesce(v.score, '')
              FROM (SELECT r.case_id AS id {_FROM} {"".join(f" AND ({x})" for x in conditions)} ORDER BY r.ordered_at DESC, r.case_id DESC LIMIT {int(limit)}) q
              JOIN reading_reading r ON r.case_id = q.id JOIN duty_case c ON c.id = r.case_id LEFT JOIN reading_review v ON v.reading_id = r.case_id
              JOIN network_institution o ON o.id = r.origin_id JOIN network_institution f ON f.id = r.performer_id
             ORDER BY r.ordered_at DESC, r.case_id DESC""",
        args,
    )  # fmt: skip
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]
