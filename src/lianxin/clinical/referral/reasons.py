"""Coded reasons with the days on which they hold, and whether a comment must be written.

The shipped list (``data/reasons.csv``) is stored as one code system per set in ``standards`` (``…/cs/referral-<set>``), so a
county may bring a new version with the ordinary importer; what counts is the version in force on the day of the act.
"""

from __future__ import annotations

import csv
import datetime as dt
import functools
from dataclasses import dataclass
from pathlib import Path

from django.db import transaction
from django.db.models import Q, Subquery

from lianxin.standards import clock
from lianxin.standards.models import CodeSystem, Concept
from lianxin.standards.text import T, Text

DATA = Path(__file__).parent / "data" / "reasons.csv"
VERSION = "2026.1"


@dataclass(frozen=True)
class Reason:
    """One reason of a set."""

    code: str
    label: Text
    needs_comment: bool
    since: dt.date | None
    until: dt.date | None

    def valid(self, day: dt.date) -> bool:
        """Whether it may be used on ``day``."""
        return (self.since is None or self.since <= day) and (self.until is None or day < self.until)


def url(name: str) -> str:
    """Code system of a set of reasons."""
    return f"http://lianxin.example/cs/referral-{name}"


@functools.cache
def shipped() -> dict[str, list[Reason]]:
    """The shipped sets."""
    sets: dict[str, list[Reason]] = {}
    with DATA.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sets.setdefault(row["set"], []).append(
                Reason(
                    row["code"],
                    Text(row["zh"], row["en"]),
                    row["needs_comment"] == "1",
                    dt.date.fromisoformat(row["since"]) if row["since"] else None,
                    dt.date.fromisoformat(row["until"]) if row["until"] else None,
                )
            )
    return sets


def load_shipped() -> None:
    """Store the shipped sets in standards (idempotent)."""
    with transaction.atomic():
        for name, rows in shipped().items():
            system, created = CodeSystem.objects.get_or_create(
                url=url(name),
                version=VERSION,
                defaults={
                    "name": f"referral-{name}",
                    "title": f"转诊原因：{name}",
                    "title_en": f"Referral reasons: {name}",
                    "effective_from": dt.date(2020, 1, 1),
                    "imported_at": clock.now(),
                },
            )
            if created:
                Concept.objects.bulk_create(
                    Concept(
                        system=system,
                        code=row.code,
                        display=row.label.zh,
                        display_en=row.label.en,
                        position=position,
                        since=row.since,
                        until=row.until,
                        props={"needs_comment": row.needs_comment},
                    )
                    for position, row in enumerate(rows)
                )


def all_of(name: str, day: dt.date | None = None) -> list[Reason]:
    """Every reason of the set in the version in force on ``day`` (today), also those not valid that day."""
    day = day or clock.today()
    system = (
        CodeSystem.objects.filter(url=url(name), effective_from__lte=day)
        .filter(Q(effective_to=None) | Q(effective_to__gt=day))
        .order_by("-effective_from")
    )
    found = [
        Reason(c.code, c.label, bool(c.props.get("needs_comment")), c.since, c.until)
        for c in Concept.objects.filter(system_id=Subquery(system.values("pk")[:1])).order_by("position")
    ]
    return found or shipped()[name]


def choices(name: str, day: dt.date | None = None) -> list[tuple[str, Text]]:
    """(code, words) of the reasons that may be used on ``day``."""
    day = day or clock.today()
    return [(r.code, r.label) for r in all_of(name, day) if r.valid(day)]


def label(name: str, code: str) -> Text:
    """Words for a code; one that is not in the set stands as written."""
    return next((r.label for r in all_of(name) if r.code == code), T(code, code))


def check(name: str, code: str, comment: str, day: dt.date | None = None) -> tuple[str, Text] | None:
    """(field, what to do) when the code may not be used on ``day`` or demands a comment that is not there."""
    day = day or clock.today()
    reason = next((r for r in all_of(name, day) if r.code == code), None)
    if reason is None or not reason.valid(day):
        return "reason_code", T(
            "原因代码「{code}」在 {day} 不可用，请从列表中选择",
            "Reason “{code}” is not valid on {day}; choose one from the list",
        ).format(code=code, day=day.isoformat())
    if reason.needs_comment and not comment.strip():
        return "comment", T(
            "选择「{label}」时须写明说明", "Write a comment when the reason is “{label}”"
        ).format(label=reason.label)
    return None
