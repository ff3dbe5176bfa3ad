"""A rule tried on arrivals that are here: each is understood once more in a transaction that is rolled back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from lianxin.exchange.feeds import errors, inbox
from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.feeds.quality import asking, rules
from lianxin.exchange.feeds.quality.rules import OFF, Rule, Setting
from lianxin.exchange.fhir import gate

COUNTS = ("20", "100", "500")
SECONDS = 15.0
LEAD = 5  # of ten arrivals looked through for one that the rule concerns


@dataclass
class Trial:
    """What a rule would have said. ``unread``: arrivals that cannot be understood any more; ``cut``: the time was up."""

    looked: int = 0
    unread: int = 0
    cut: bool = False
    hits: list[tuple[Arrival, list[str]]] = field(default_factory=list)


class _Undo(Exception):
    """Rolls the trial back."""


def attempt(rule: Rule, setting: Setting, rows: Any, count: int) -> Trial:
    """Try ``rule`` under ``setting`` on the last ``count`` arrivals of ``rows`` that it concerns; nothing is kept."""
    trial = Trial()
    if setting.severity == OFF:
        return trial
    until = time.monotonic() + SECONDS
    found = rows.order_by("-at", "-pk")
    if rule.doors:
        found = found.filter(door__in=rule.doors)
    for kept in found.select_related("institution")[: count * LEAD]:
        if not rule.concerns(kept.door, kept.kind):
            continue
        if trial.looked >= count:
            break
        if time.monotonic() > until:
            trial.cut = True
            break
        said = _one(rule, setting, kept)
        trial.looked += 1
        if said is None:
            trial.unread += 1
        elif said:
            trial.hits.append((kept, said))
    return trial


def _one(rule: Rule, setting: Setting, kept: Arrival) -> list[str] | None:
    """Where the rule would speak in an arrival; None when it is not understood."""
    places: list[str] = []

    def work(cur: Any) -> None:
        draft = piece.understand(cur)
        others = {code: Setting(OFF, ()) for code in rules.shipped() if code != rule.code}
        seen = rules.trial({**others, rule.code: setting}, piece.door, piece.kind).walk(piece, draft)
        asking.ask([seen], cur)
        places.extend(f.place for f in seen.found)
        raise _Undo

    try:
        piece = inbox.again(kept)
        gate.writing(work)
    except _Undo:
        return places
    except errors.REFUSALS:
        return None
    return places
