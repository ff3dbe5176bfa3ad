"""What runs by itself: old codes and counters go, the national service is told what it missed."""

from __future__ import annotations

import datetime as dt

from lianxin.resident.card import national, qr
from lianxin.resident.card.models import Attempt, LoginCode, Seen
from lianxin.standards import clock

KEEP_CODES = dt.timedelta(days=2)


def tidy() -> int:
    """Remove what no limit counts any more; returns how many rows went."""
    now = clock.now()
    gone = LoginCode.objects.filter(created_at__lt=now - KEEP_CODES).delete()[0]
    gone += Attempt.objects.filter(at__lt=now - KEEP_CODES).delete()[0]
    return gone + Seen.objects.filter(at__lt=now - qr.KEEP_SEEN).delete()[0]


def tell_service() -> int:
    """See :func:`lianxin.resident.card.national.catch_up`."""
    return national.catch_up()
