"""Glue: what a shared centre issues becomes recognisable in the transaction of its issue, and again with every amendment."""

from __future__ import annotations

from lianxin.clinical.recognition import knowing, results
from lianxin.regional.reading.models import Reading, Report


def issued(reading: Reading, report: Report) -> None:
    """Offer the report under the groups of its items, as of when it was taken; the institution that took it is the maker."""
    known = knowing.known()
    codes = reading.ordered.filter(active=True).exclude(item__group="").values_list("item__group", flat=True)
    groups = [known.by_code[code] for code in codes if code in known.by_code]
    if not groups:
        return
    limited = bool(reading.facts.get("quality") == "limited")
    results.offer(
        reading.person_id, groups, institution_id=maker(reading), at=reading.acquired_at or reading.ordered_at,
        ref=f"DiagnosticReport/{reading.case.number}", quality="limited" if limited else "",
    )  # fmt: skip


def maker(reading: Reading) -> int:
    """Whose result it is: of images and recordings who took them, of tests and tissue the laboratory that measured."""
    if reading.centre in ("laboratory", "pathology"):
        return reading.centre_of_id
    return reading.performer_id
