"""The quality gate: what is wrong with a piece, by rules that are data.

``data/quality_rules.yaml`` names the rules, :mod:`.kinds` has the mechanism of each kind, :mod:`.rules` puts together what is in
force for an institution (consortia and institutions may set severities and thresholds otherwise, from a day on, for a
reason).  Rules are compiled to closures by resource type once; a piece is walked once.  What only the database knows (who the
person is, whether a reference exists, whether the content came before) is asked by :mod:`.asking` in one statement each for
all pieces together: :func:`check_many` is what a batch calls, :func:`check` is the same for one piece.

Whom a message is about is read from the Patient among ``draft.writes``, else from ``patient`` (a FHIR Patient) of ``draft.extra``,
else from the Patient among ``draft.results``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lianxin.standards.text import Text

if TYPE_CHECKING:
    from lianxin.exchange.feeds.inbox import Draft, Piece


@dataclass(frozen=True)
class Found:
    """One thing that is wrong: which rule, how bad (refuse, quarantine, warn), where, and in words."""

    rule: str
    severity: str
    place: str
    text: Text
    dimension: str


def check(piece: Piece, draft: Draft, cur: Any) -> list[Found]:
    """What the rules find wrong with a piece, before it is stored."""
    return check_many([(piece, draft)], cur)[0]


def check_many(pairs: Sequence[tuple[Piece, Draft]], cur: Any) -> list[list[Found]]:
    """What the rules find wrong with each of several pieces, in their order; at most one statement a kind of question."""
    from lianxin.exchange.feeds.quality import asking, rules

    seen = [rules.plan_for(piece, cur).walk(piece, draft) for piece, draft in pairs]
    asking.ask(seen, cur)
    return [one.found for one in seen]
