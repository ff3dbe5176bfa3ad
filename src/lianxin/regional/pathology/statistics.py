"""Figures of the pathology centre over a month: turnaround in working days, frozen sections, concordance, fixation, refusals."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.regional.pathology import policy
from lianxin.regional.pathology.models import CONCORDANCE, REFUSALS, Specimen, Work
from lianxin.standards import calendar, clock

WHY = "figures of one's own centre"
DAY_MINUTES = 8 * 60


def span(text: str) -> tuple[dt.datetime, dt.datetime]:
    """A month ("2026-03") from its first midnight to the next month's; the present month for anything else."""
    try:
        first = dt.datetime.strptime(text, "%Y-%m").date()
    except ValueError:
        first = clock.today().replace(day=1)
    after = (first.replace(day=28) + dt.timedelta(days=4)).replace(day=1)
    return tuple(dt.datetime(d.year, d.month, d.day, tzinfo=clock.ZONE) for d in (first, after))  # type: ignore[return-value]


def figures(institution_ids: frozenset[int], start: dt.datetime, end: dt.datetime) -> dict[str, Any]:
    """Everything at once; each figure with the works it counts."""
    works = (
        Work.objects.unscoped(WHY)
        .filter(institution_id__in=institution_ids)
        .select_related("reading__case", "reading__orderer", "frozen__reading")
    )
    reported = list(works.filter(reading__issued_at__gte=start, reading__issued_at__lt=end).order_by("pk"))
    routine = sorted((w for w in reported if w.reading.modality != "FROZEN"), key=days)
    frozen = [w for w in reported if w.reading.modality == "FROZEN" and w.due_at is not None]
    timely = [w for w in frozen if w.reading.issued_at <= w.due_at]
    compared = list(works.filter(compared_at__gte=start, compared_at__lt=end))
    agree = [w for w in compared if w.concordance == "concordant"]
    specimens = list(
        Specimen.objects.unscoped(WHY)
        .filter(institution_id__in=institution_ids, received_at__gte=start, received_at__lt=end)
        .select_related("sender")
    )
    fixed = [s for s in specimens if s.fixative != "fresh" and s.fixed_at is not None]
    fit = [s for s in fixed if fitting(s)]
    refused = [s for s in specimens if s.state == "refused"]
    reasons: dict[str, int] = {}
    for s in refused:
        for code in s.refused_for:
            reasons[code] = reasons.get(code, 0) + 1
    return {
        "routine": len(routine), "median": days(routine[len(routine) // 2]) if routine else None, "p90": days(routine[int(len(routine) * 0.9)]) if routine else None,
        "on_time": share(len([w for w in routine if w.reading.issued_at <= w.reading.report_due_at]), len(routine)),
        "frozen": len(frozen), "timely": share(len(timely), len(frozen)), "compared": len(compared), "concordant": share(len(agree), len(compared)),
        "differences": [(CONCORDANCE[w.concordance], w) for w in compared if w.concordance in ("minor", "major")],
        "specimens": len(specimens), "fit": share(len(fit), len(fixed)), "unfit": [s for s in fixed if not fitting(s)][:50],
        "refused": share(len(refused), len(specimens)), "refused_n": len(refused), "reasons": [(REFUSALS[c], n) for c, n in sorted(reasons.items())],
        "late": [w for w in routine if w.reading.issued_at > w.reading.report_due_at][:50],
    }  # fmt: skip


def days(work: Work) -> float:
    """Working days from order to report, with one decimal; the work has been reported."""
    assert work.reading.issued_at is not None
    minutes = calendar.working_minutes(work.reading.ordered_at, work.reading.issued_at)
    return round(minutes / DAY_MINUTES, 1)


def fitting(specimen: Specimen) -> bool:
    """Formalin within the allowed ischaemia, and not grossed too early or too late."""
    minutes = specimen.ischaemia
    low, high = policy.value("fixation.hours", specimen.institution_id)
    if minutes is None or minutes > int(policy.value("ischaemia.minutes", specimen.institution_id)):
        return False
    if specimen.grossed_at is None or specimen.fixed_at is None or specimen.fixative != "nbf":
        return True
    return bool(low <= (specimen.grossed_at - specimen.fixed_at).total_seconds() / 3600 <= high)


def share(part: int, whole: int) -> str:
    """As ``92.3%``, or a dash when there is nothing to count."""
    return f"{100 * part / whole:.1f}%" if whole else "—"
