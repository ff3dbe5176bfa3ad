"""What upper rooms do when numbers come back, a session is stopped, or somebody is turned away.

The functions run inside the pool's transaction while the session's row is locked, so what they write stands or falls with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lianxin.pool.models import Place, Session

Freed = Callable[[int], None]
Stopped = Callable[["Session", list["Place"], str], None]
Refused = Callable[[int, str, int], None]

_freed: list[Freed] = []
_stopped: list[Stopped] = []
_refused: list[Refused] = []


def on_freed(fn: Freed) -> None:
    """``fn(session_id)`` after numbers of a session came back (cancelled, run out, added): waiting lists are served here."""
    if fn not in _freed:
        _freed.append(fn)


def on_stopped(fn: Stopped) -> None:
    """``fn(session, places, reason)`` after a session was stopped; ``places`` as they stood before: whoever had one is owed another."""
    if fn not in _stopped:
        _stopped.append(fn)


def on_refused(fn: Refused) -> None:
    """``fn(session_id, channel, units)`` when a session that runs and is open had no number for somebody (outside its lock)."""
    if fn not in _refused:
        _refused.append(fn)


def freed(session_id: int) -> None:
    """Tell that numbers came back."""
    for fn in _freed:
        fn(session_id)


def stopped(session: Session, places: list[Place], reason: str) -> None:
    """Tell that a session was stopped."""
    for fn in _stopped:
        fn(session, places, reason)


def refused(session_id: int, channel: str, units: int) -> None:
    """Tell that somebody was turned away."""
    for fn in _refused:
        fn(session_id, channel, units)
