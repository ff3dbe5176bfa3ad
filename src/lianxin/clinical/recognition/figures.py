"""The indicator: recognised / (recognised + refused), reasons 98 and 99 and one's own results left out; yuan saved; by whom, of what, why
not. Every figure opens the decisions it counts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, Sum
from django.db.models.functions import TruncMonth

from lianxin.access.scope import Scope
from lianxin.clinical.recognition import shipped
from lianxin.clinical.recognition.models import Decision, Group
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

RECOGNISED = Q(verdict="recognised", own=False)
REFUSED = Q(verdict="refused", counted=True)
FIGURES: dict[str, tuple[Text, Q]] = {
    "recognised": (T("采用", "Recognised"), RECOGNISED),
    "refused": (T("未采用", "Not recognised"), REFUSED),
    "excluded": (
        T("不计入（98、99）", "Not counted (98, 99)"),
        Q(verdict="refused", counted=False, own=False),
    ),
    "own": (T("本机构结果再用", "Own results used again"), Q(own=True, verdict="recognised")),
    "saved": (T("节省费用", "Saved"), RECOGNISED),
}


@dataclass(frozen=True)
class Line:
    """One row of a table: what it is about, how often recognised and refused, what it saved."""

    code: str
    label: Any
    recognised: int
    refused: int
    saved: Money

    @property
    def rate(self) -> float | None:
        """Share recognised of those that count; None when there are none."""
        total = self.recognised + self.refused
        return self.recognised / total if total else None

    @property
    def percent(self) -> str:
        """The rate as it is shown."""
        return "—" if self.rate is None else f"{self.rate * 100:.0f}%"


def rows(scope: Scope, since: dt.date, until: dt.date, **narrowed: Any) -> Any:
    """Decisions of one's own institution and those one oversees, taken from ``since`` to ``until`` (both days included).

    ``institution`` (id), ``group`` (code), ``doctor`` (practitioner id), ``reason``, ``figure``, ``month`` ("2026-11") narrow them.
    """
    start = dt.datetime.combine(since, dt.time(), clock.ZONE)
    end = dt.datetime.combine(until + dt.timedelta(days=1), dt.time(), clock.ZONE)
    found = Decision.objects.unscoped("figures of one's own institution and those overseen").filter(
        institution_id__in=scope.institution_ids | scope.oversight_ids, at__gte=start, at__lt=end
    )
    if narrowed.get("institution"):
        found = found.filter(institution_id=narrowed["institution"])
    if narrowed.get("group"):
        found = found.filter(group__code=narrowed["group"])
    if narrowed.get("doctor"):
        found = found.filter(practitioner_id=narrowed["doctor"])
    if narrowed.get("reason"):
        found = found.filter(
            verdict="refused", reason="" if narrowed["reason"] == "--" else narrowed["reason"]
        )
    if narrowed.get("figure") in FIGURES:
        found = found.filter(FIGURES[narrowed["figure"]][1])
    if narrowed.get("month"):
        year, _, month = narrowed["month"].partition("-")
        first = dt.datetime(int(year), int(month), 1, tzinfo=clock.ZONE)
        found = found.filter(at__gte=first, at__lt=_next(first))
    return found


def _next(first: dt.datetime) -> dt.datetime:
    return (first + dt.timedelta(days=32)).replace(day=1)


_COUNTS = {
    "recognised": Count("pk", filter=RECOGNISED),
    "refused": Count("pk", filter=REFUSED),
    "saved": Sum("price_fen", filter=RECOGNISED),
}


def total(found: Any) -> tuple[Line, dict[str, int]]:
    """The whole, and how many are left out of it."""
    said = found.aggregate(
        **_COUNTS,
        excluded=Count("pk", filter=FIGURES["excluded"][1]),
        again=Count("pk", filter=FIGURES["own"][1]),
    )
    line = Line("", T("合计", "All"), said["recognised"], said["refused"], Money(said["saved"] or 0))
    return line, {"excluded": said["excluded"], "own": said["again"]}


def by_institution(found: Any) -> list[Line]:
    """One row for each institution that decided, the most decisions first."""
    return _lines(found, "institution_id", {i.pk: i.short_label for i in Institution.objects.filter(pk__in=found.values("institution_id"))})  # fmt: skip


def by_group(found: Any) -> list[Line]:
    """One row for each item group."""
    return _lines(
        found, "group__code", {g.code: g.label for g in Group.objects.filter(pk__in=found.values("group_id"))}
    )


def by_doctor(found: Any) -> list[Line]:
    """One row for each doctor."""
    pairs = found.exclude(practitioner=None).order_by().values_list("practitioner_id", "practitioner__name", "institution__short_name").distinct()  # fmt: skip
    return _lines(
        found.exclude(practitioner=None),
        "practitioner_id",
        {pk: f"{name} · {where}" for pk, name, where in pairs},
    )


def _lines(found: Any, by: str, labels: dict[Any, Any]) -> list[Line]:
    made = [
        Line(str(r[by]), labels.get(r[by], r[by]), r["recognised"], r["refused"], Money(r["saved"] or 0))
        for r in found.order_by().values(by).annotate(**_COUNTS)
    ]
    return sorted(
        (m for m in made if m.recognised or m.refused), key=lambda m: (-m.recognised - m.refused, m.code)
    )


def by_month(found: Any) -> list[Line]:
    """One row for each month, in order."""
    months = found.order_by().annotate(m=TruncMonth("at", tzinfo=clock.ZONE)).values("m").annotate(**_COUNTS)
    return [
        Line(f"{r['m']:%Y-%m}", f"{r['m']:%Y-%m}", r["recognised"], r["refused"], Money(r["saved"] or 0))
        for r in sorted(months, key=lambda r: r["m"])
        if r["recognised"] or r["refused"]
    ]


def by_reason(found: Any) -> list[tuple[str, Text, int, bool]]:
    """Why results were not used, the commonest first: code, words, how often, whether it counts as a refusal."""
    counted = found.filter(verdict="refused").order_by().values("reason").annotate(n=Count("pk"))
    known, blank = shipped.reasons(), T("未说明", "Not stated")
    lines = []
    for row in counted:
        reason = known.get(row["reason"])
        lines.append(
            (
                row["reason"] or "--",
                reason.label if reason else blank,
                row["n"],
                reason.counts if reason else True,
            )
        )
    return sorted(lines, key=lambda line: (-line[2], line[0]))
