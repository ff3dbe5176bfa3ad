"""What is known of one piece while the rules look at it, and what the database has still to say."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from lianxin.exchange.feeds.quality import Found
from lianxin.exchange.feeds.quality.ranges import Limits, Range
from lianxin.standards import clock
from lianxin.standards.text import Text

if TYPE_CHECKING:
    from lianxin.exchange.feeds.inbox import Draft, Piece

MOST = 50
"""Findings kept of one piece: a document that is wrong throughout is no clearer with a thousand."""


class Told(NamedTuple):
    """How a rule reports: its code, severity and dimension in force, and its words."""

    rule: str
    severity: str
    dimension: str
    words: Text


class Seen:
    """One piece under examination. ``day``/``now`` are the house's; ``birth``/``sex``/``name`` what the piece says of its patient.

    ``measured``, ``times`` and ``said`` hold what several rules ask of the same resource; they are cleared with each resource.
    ``sexed`` (rule, the sex it needs, place), ``wanted`` (rule, reference, place) and ``content`` are questions to the database.
    """

    __slots__ = (
        "about", "birth", "content", "content_rule", "day", "draft", "found", "identity", "ids", "local", "measured", "n", "name",
        "newest", "now", "once", "person_id", "piece", "resources", "rtype", "said", "sex", "sexed", "times", "wanted",
    )  # fmt: skip

    def __init__(self, piece: Piece, draft: Draft) -> None:
        self.piece, self.draft = piece, draft
        self.found: list[Found] = []
        self.now: dt.datetime = clock.now()
        self.day = self.now.date().isoformat()
        self.person_id: int | None = draft.person_id
        self.rtype, self.n = "", 0
        self.measured: list[tuple[Range, float | None, Limits | None, str]] | None = None
        self.times: list[tuple[str, str]] | None = None
        self.said: str | None = None
        self.birth = self.sex = self.name = self.newest = ""
        self.about: dict[str, Any] | None = None
        self.resources: list[tuple[str, dict[str, Any]]] = []
        self.local: set[str] = set()
        self.sexed: list[tuple[Told, str, str]] = []
        self.wanted: list[tuple[Told, str, str]] = []
        self.identity: tuple[Told | None, Told | None] | None = None
        self.content: list[str] = []
        self.content_rule: Told | None = None
        self.ids: list[str] = []
        self.once: set[str] = set()

    def say(self, told: Told, place: str, **values: Any) -> None:
        """Note a finding; ``place`` is a path within the resource being looked at (a whole place when it begins with "/")."""
        if len(self.found) >= MOST:
            return
        text = told.words.format(**values) if values else told.words
        where = (
            place[1:] if place.startswith("/") else f"{self.rtype}[{self.n}].{place}" if place else self.here
        )
        self.found.append(Found(told.rule, told.severity, where, text, told.dimension))

    @property
    def here(self) -> str:
        """The resource being looked at."""
        return f"{self.rtype}[{self.n}]"
