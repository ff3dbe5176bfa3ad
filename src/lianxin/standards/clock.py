"""The one clock. Domain time is read here and nowhere else, so that tests and scenarios can set it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from zoneinfo import ZoneInfo

ZONE = ZoneInfo("Asia/Shanghai")

_fixed: ContextVar[dt.datetime | None] = ContextVar("lianxin_clock", default=None)
_offset = dt.timedelta()


def now() -> dt.datetime:
    """Current instant as an aware datetime in Asia/Shanghai (or the instant set by :func:`at`, or shifted by :func:`shift`)."""
    return _fixed.get() or dt.datetime.now(ZONE) + _offset


def today() -> dt.date:
    """Today's date in Asia/Shanghai."""
    return now().date()


@contextmanager
def at(instant: dt.datetime) -> Iterator[None]:
    """Within the block (this context only) the clock stands at ``instant`` (aware)."""
    if instant.tzinfo is None:
        raise ValueError("the clock is set to an aware datetime only")
    token = _fixed.set(instant.astimezone(ZONE))
    try:
        yield
    finally:
        _fixed.reset(token)


def shift(delta: dt.timedelta) -> None:
    """Move the whole process's clock by ``delta`` from real time (zero restores it)."""
    global _offset
    _offset = delta
