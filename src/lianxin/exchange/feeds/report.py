"""The weekly quality report of an institution: what it says, kept as it was made, and as paper.

:func:`make` works it out of the figures by day, the findings and the open duties; :func:`kept` keeps last week's, so that later replays
do not change what was reported.  The paper names messages by control id and says nothing of a patient.
"""

from __future__ import annotations

import datetime as dt
import statistics
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.template.loader import render_to_string

from lianxin.exchange.feeds import problems, scores
from lianxin.exchange.feeds.models import DIMENSIONS
from lianxin.exchange.feeds.quality import rules, words
from lianxin.exchange.feeds.quality.models import DataProblem, WeeklyReport
from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.standards import clock, paper
from lianxin.standards.text import T

TOP = 10
EXAMPLES = 3
WEEK = dt.timedelta(days=7)

_TOP = (
    "SELECT f.rule, min(f.dimension), count(*), count(DISTINCT f.arrival_id),"
    " (array_agg(DISTINCT f.arrival_id ORDER BY f.arrival_id DESC))[1:%s],"
    " max(CASE f.severity WHEN 'refuse' THEN 3 WHEN 'quarantine' THEN 2 ELSE 1 END)"
    " FROM exchange_finding f WHERE f.institution_id = %s AND f.day BETWEEN %s AND %s AND f.state <> 'waived'"
    " GROUP BY 1 ORDER BY 6 DESC, 4 DESC, 1 LIMIT %s"
)
_REFUSED = (
    "SELECT split_part(split_part(a.error, E'\\n', 1), ' ', 1), count(*), (array_agg(a.id ORDER BY a.id DESC))[1:%s]"
    " FROM exchange_arrival a WHERE a.institution_id = %s AND a.at >= %s AND a.at < %s AND a.state = 'refused'"
    " AND NOT EXISTS (SELECT 1 FROM exchange_finding f WHERE f.arrival_id = a.id) GROUP BY 1 ORDER BY 2 DESC LIMIT %s"
)


def peers(institution: Institution) -> frozenset[int]:
    """The institutions it is compared with: the members of its consortia (itself when it is in none)."""
    ids = {institution.pk}
    for consortium in directory.consortia_of(institution):
        ids.update(directory.members_of(consortium, below=True).values_list("pk", flat=True))
    return frozenset(ids)


def _problems(institution: Institution, monday: dt.date) -> list[dict[str, Any]]:
    sunday = monday + dt.timedelta(days=6)
    begin = dt.datetime.combine(monday, dt.time(), tzinfo=clock.ZONE)
    with connection.cursor() as cursor:
        cursor.execute(_TOP, [EXAMPLES, institution.pk, monday, sunday, TOP])
        found = [
            {"rule": rule, "dimension": dimension, "findings": n, "arrivals": m, "examples": ids, "severity": ("warn", "quarantine", "refuse")[grave - 1]}
            for rule, dimension, n, m, ids, grave in cursor.fetchall()
        ]  # fmt: skip
        cursor.execute(_REFUSED, [EXAMPLES, institution.pk, begin, begin + WEEK, TOP])
        found += [
            {"rule": code, "dimension": scores.CODES.get(code, "validity"), "findings": n, "arrivals": n, "examples": ids, "severity": "refuse"}
            for code, n, ids in cursor.fetchall()
        ]  # fmt: skip
        wanted = sorted({pk for one in found for pk in one["examples"]})
        cursor.execute("SELECT id, control_id FROM exchange_arrival WHERE id = ANY(%s)", [wanted])
        names = dict(cursor.fetchall())
    for one in found:
        one["examples"] = [[pk, names.get(pk, "")] for pk in one["examples"]]
    found.sort(
        key=lambda one: (
            -("warn", "quarantine", "refuse").index(one["severity"]),
            -one["arrivals"],
            one["rule"],
        )
    )
    return found[:TOP]


def make(institution: Institution, monday: dt.date) -> dict[str, Any]:
    """The report of a week as plain data (JSON)."""
    sunday = monday + dt.timedelta(days=6)
    near = peers(institution)
    now = scores.figures(("institution_id",), monday, sunday, near)
    before = scores.figures((), monday - WEEK, sunday - WEEK, [institution.pk]).get((), scores.Figures())
    mine = now.get((institution.pk,), scores.Figures())
    others = [f for f in now.values() if f.arrivals]
    medians: dict[str, float | None] = {
        name: _median([f.scores[name] for f in others]) for name in DIMENSIONS
    }
    medians["total"] = _median([f.total for f in others])
    ranked = sorted((f.total for f in others if f.total is not None), reverse=True)
    days = scores.figures(("day",), monday, sunday, [institution.pk])
    kinds = scores.figures(("door", "kind"), monday, sunday, [institution.pk])
    duties = DataProblem.objects.filter(institution=institution, case__terminal=False).select_related("case")
    return {
        "institution": institution.pk, "week": monday.isoformat(), "until": sunday.isoformat(), "made": clock.now().isoformat(),
        "arrivals": mine.arrivals, "before": before.arrivals, "counts": mine.counts, "lag": mine.lag, "in_time": mine.in_time,
        "scores": {**mine.scores, "total": mine.total}, "last": {**before.scores, "total": before.total}, "median": medians,
        "rank": ranked.index(mine.total) + 1 if mine.total is not None else None, "of": len(ranked),
        "days": [
            {"day": d.isoformat(), "arrivals": f.arrivals, "trouble": f.trouble, "total": f.total}
            for d in (monday + dt.timedelta(days=n) for n in range(7))
            for f in [days.get((d,), scores.Figures())]
        ],
        "kinds": sorted(
            ({"door": door, "kind": kind, **{c: f.counts[c] for c in ("arrivals", "taken", "refused", "quarantined", "late")}, "total": f.total}
             for (door, kind), f in kinds.items()),
            key=lambda row: -row["arrivals"],
        )[:20],
        "problems": _problems(institution, monday),
        "duties": [
            {"number": p.case.number, "rule": p.rule, "kind": p.kind, "arrivals": p.number, "state": p.case.state,
             "due": p.case.due_at.isoformat() if p.case.due_at else None}
            for p in duties.order_by("case__due_at")[:20]
        ],
    }  # fmt: skip


def _median(values: list[float | None]) -> float | None:
    told = [v for v in values if v is not None]
    return round(statistics.median(told), 1) if told else None


def kept(institution: Institution, monday: dt.date) -> dict[str, Any]:
    """The report of a week: as it was kept; worked out now (and not kept) while the week is under way."""
    row = WeeklyReport.objects.filter(institution=institution, week=monday).first()
    if row is not None:
        return row.content
    return make(institution, monday)


def keep(institution: Institution, monday: dt.date) -> WeeklyReport:
    """Make and keep the report of a week that is over; the one that is kept already stays. ValueError while the week runs."""
    if monday.weekday() or monday + WEEK > clock.today():
        raise ValueError("a report is kept of a week that is over, from a Monday")
    found = WeeklyReport.objects.filter(institution=institution, week=monday).first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            return WeeklyReport.objects.create(
                institution=institution, week=monday, content=make(institution, monday), made_at=clock.now()
            )
    except IntegrityError:  # somebody was faster
        return WeeklyReport.objects.get(institution=institution, week=monday)


def run() -> int:
    """The chore: keep last week's report of everybody that sent anything (or owes something), once it is Monday; returns how many."""
    monday = problems.monday(clock.today()) - WEEK
    scores.count()
    sent = scores.figures(("institution_id",), monday, monday + dt.timedelta(days=6))
    ids = {i for (i,) in sent if i is not None}
    ids |= set(DataProblem.objects.filter(case__terminal=False).values_list("institution_id", flat=True))
    ids -= set(WeeklyReport.objects.filter(week=monday).values_list("institution_id", flat=True))
    for institution in Institution.objects.filter(pk__in=ids).order_by("pk"):
        keep(institution, monday)
    return len(ids)


# --------------------------------------------------------------------------------------------------------------- showing


def context(institution: Institution, content: dict[str, Any]) -> dict[str, Any]:
    """The report with words, for the page and the paper."""
    table = [
        {
            "label": scores.LABELS[name] if name != "total" else T("总分", "Total"), "name": name, "now": content["scores"][name],
            "last": content["last"][name], "median": content["median"][name], "change": _change(content["scores"][name], content["last"][name]),
        }
        for name in ("total", *DIMENSIONS)
    ]  # fmt: skip
    top = [
        {**one, "title": problems.rule_words(one["rule"]), "words": words.SEVERITIES[one["severity"]], "tone": words.TONES[one["severity"]],
         "label": scores.LABELS[one["dimension"]], "shipped": one["rule"] in rules.shipped()}
        for one in content["problems"]
    ]  # fmt: skip
    duties = [
        {**one, "title": problems.rule_words(one["rule"]), "label": problems.MACHINE.state(one["state"]).label,
         "due": dt.datetime.fromisoformat(one["due"]) if one["due"] else None}
        for one in content["duties"]
    ]  # fmt: skip
    kinds = [{**one, "label": words.DOORS[one["door"]]} for one in content["kinds"]]
    return {
        "place": institution, "r": content, "table": table, "top": top, "duties": duties, "kinds": kinds,
        "week": dt.date.fromisoformat(content["week"]), "until": dt.date.fromisoformat(content["until"]),
        "made": dt.datetime.fromisoformat(content["made"]), "days": [{**d, "day": dt.date.fromisoformat(d["day"])} for d in content["days"]],
    }  # fmt: skip


def _change(now: float | None, last: float | None) -> float | None:
    return round(now - last, 1) if now is not None and last is not None else None


def html(institution: Institution, content: dict[str, Any]) -> str:
    """The paper as HTML, in the language in force."""
    return render_to_string("feeds/report_print.html", context(institution, content))


def pdf(institution: Institution, content: dict[str, Any]) -> bytes:
    """The report as PDF, A4. The caller has checked that the reader may have it."""
    return paper.pdf(html(institution, content))
