"""The quality gate: what is wrong with a piece, by rules that are data."""

from __future__ import annotations

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
    return []
