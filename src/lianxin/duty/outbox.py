"""The outbox: events written with the change they tell of, delivered afterwards at least once and in order per key.

Consumers register by topic. Dispatchers may run in any number: each takes a batch with SKIP LOCKED and only the oldest
waiting event of a key, so a key's events never overtake each other. A failing event is tried again later and later, and
holds back only its own key.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Any

from django.db import connection, transaction

from lianxin.duty.models import Outbox
from lianxin.standards import clock

log = logging.getLogger(__name__)

Consumer = Callable[[Outbox], None]
_consumers: dict[str, dict[str, Consumer]] = {}

KEEP = dt.timedelta(days=7)
_LONGEST = dt.timedelta(hours=1)

_TAKE = """
SELECT o.* FROM duty_outbox o
 WHERE o.done_at IS NULL AND o.not_before <= %s
   AND NOT EXISTS (SELECT 1 FROM duty_outbox e WHERE e.key = o.key AND e.id < o.id AND e.done_at IS NULL)
 ORDER BY o.id LIMIT %s FOR UPDATE SKIP LOCKED"""


def register(topic: str, name: str, consumer: Consumer) -> None:
    """``consumer(event)`` is called for every event of ``topic``; it must bear being called twice for one event."""
    _consumers.setdefault(topic, {})[name] = consumer


def emit(topic: str, key: str, payload: dict[str, Any]) -> None:
    """Write an event inside the caller's transaction."""
    now = clock.now()
    Outbox.objects.create(topic=topic, key=key, payload=payload, created_at=now, not_before=now)


def back_off(attempts: int) -> dt.timedelta:
    """Time to wait after this many failures: 5 s, 10 s, 20 s … at most an hour."""
    return min(_LONGEST, dt.timedelta(seconds=5 * 2 ** min(attempts - 1, 12)))


def dispatch(batch: int = 100) -> int:
    """Deliver one batch; returns how many events were delivered."""
    now = clock.now()
    with transaction.atomic():
        events = list(Outbox.objects.raw(_TAKE, [now, batch]))
        done = [event.pk for event in events if _deliver(event, now)]
        if done:
            Outbox.objects.filter(pk__in=done).update(done_at=now)
    return len(done)


def _deliver(event: Outbox, now: dt.datetime) -> bool:
    consumers = _consumers.get(event.topic)
    if not consumers:
        return True
    try:
        with transaction.atomic():
            for consumer in consumers.values():
                consumer(event)
    except Exception as failure:  # any consumer's failure is kept with the event and tried again
        log.warning("outbox event %s (%s) failed: %s", event.pk, event.topic, failure)
        event.attempts += 1
        event.last_error = f"{type(failure).__name__}: {failure}"[:400]
        event.not_before = now + back_off(event.attempts)
        event.save(update_fields=["attempts", "last_error", "not_before"])
        return False
    return True


def waiting() -> int:
    """How many events wait (for the metrics)."""
    return Outbox.objects.filter(done_at=None).count()


def tidy() -> int:
    """Delete events delivered more than a week ago."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM duty_outbox WHERE done_at < %s", [clock.now() - KEEP])
        return cursor.rowcount


def run() -> None:
    """The ticker's chore: deliver until nothing is ready."""
    while dispatch():
        pass
