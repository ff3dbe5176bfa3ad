"""How much is kept of what comes from nobody we know: enough for somebody to see it, never enough to fill the disk.

Counted in each process for an hour at a time, by address and altogether.  What is not kept is answered all the same.
"""

from __future__ import annotations

import logging
import threading
import time

log = logging.getLogger(__name__)

HOUR = 3600.0
EACH, ALL = 200, 2000
"""Messages kept of one address, and of all, within an hour."""
BYTES = 256 * 1024 * 1024
"""Bytes kept within an hour."""

_guard = threading.Lock()
_since = -HOUR
_count: dict[str, int] = {}
_bytes = 0


def may_keep(address: str, size: int) -> bool:
    """Whether a message of ``size`` bytes of nobody, from ``address``, is to be kept."""
    global _since, _bytes
    with _guard:
        now = time.monotonic()
        if now - _since >= HOUR:
            _count.clear()
            _since, _bytes = now, 0
        mine = _count.get(address, 0)
        if mine >= EACH or sum(_count.values()) >= ALL or _bytes + size > BYTES:
            if mine == EACH:
                _count[address] = EACH + 1
                log.warning("hl7v2: %s sends so much of nobody that no more of it is kept this hour", address)
            return False
        _count[address] = mine + 1
        _bytes += size
        return True


def forget() -> None:
    """Begin to count anew (tests)."""
    global _since
    with _guard:
        _since = -HOUR
