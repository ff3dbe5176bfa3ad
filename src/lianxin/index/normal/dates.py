"""Dates of birth and death as whole numbers yyyymmdd (0: unknown)."""

from __future__ import annotations

import datetime as dt

from lianxin.standards import clock


def packed(date: dt.date | None) -> int:
    """yyyymmdd."""
    return date.year * 10000 + date.month * 100 + date.day if date else 0


def read(date: dt.date | None, text: str, notes: list[str]) -> tuple[int, int, int]:
    """(born, looks like a filler, solar date if it had been lunar) of a birth date."""
    born = packed(date)
    if born > packed(clock.today()):
        notes.append("born_future")
        born = 0
    return born, int(born % 10000 == 101), 0
