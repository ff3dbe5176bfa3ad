"""One person's record as a page needs it: a timeline, and a summary."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Entry:
    """One line of the timeline."""

    date: datetime
    kind: str
    title: str
    institution: str
    ref: str
    summary: str = ""


@dataclass
class Summary:
    """Problems, medicines, allergies and latest results of one person."""

    problems: list[dict[str, Any]] = field(default_factory=list)
    medicines: list[dict[str, Any]] = field(default_factory=list)
    allergies: list[dict[str, Any]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)


def timeline(scope: Any, person_id: int, *, types: list[str] | None = None, before: datetime | None = None, limit: int = 50) -> list[Entry]:
    """Entries of one person, newest first."""
    raise RuntimeError("the record is being laid")


def summary(scope: Any, person_id: int) -> Summary:
    """Problems, medicines, allergies, latest results."""
    raise RuntimeError("the record is being laid")
