"""The dispatcher: matches what has changed and has it sent, a little every half second, in a thread of each ticker.

Several may run.  Matching is done by one at a time; sending is shared by leases.  Senders are a bounded number of threads, of
which receivers that are slow or failing get at most half, so that they cannot hold up the others.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import secrets
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from django.conf import settings
from django.db import Error, close_old_connections, connection

from lianxin.duty import periodic
from lianxin.exchange.subscriptions import lifecycle, matching, sending
from lianxin.record import feed
from lianxin.standards import checks

log = logging.getLogger(__name__)

SENDERS = 16
SLOW_SENDERS = SENDERS // 2
POLL, SOON, IDLE = (
    0.5,
    0.05,
    2.0,
)  # seconds between looks: usually; while something is under way; while nobody subscribes
MOST_STEPS = 20  # slices matched before sending is looked at again
END_EVERY = 10.0  # seconds between looks for subscriptions whose end has come
TIDY_EVERY = 3600
LONGEST_PAUSE = 30.0  # seconds after failures of the database


class Dispatcher:
    """Matches and sends; ``step`` does what there is to do now and tells how long one may wait."""

    def __init__(self, senders: int = SENDERS) -> None:
        self.owner = secrets.randbelow(2**31 - 1) + 1
        self._alive: object = None
        self.watch = feed.Watch()
        self._senders = senders
        self._pool = ThreadPoolExecutor(senders, thread_name_prefix="subscriptions")
        self._under_way: dict[int, tuple[Future[int], bool]] = {}
        self._ended = 0.0
        self._stopping = threading.Event()

    def step(self) -> float:
        """Match, and hand out what is due; returns the seconds to wait before the next step."""
        if not _anybody():
            return IDLE
        self._live()
        if time.monotonic() - self._ended > END_EVERY:
            lifecycle.end_due()
            self._ended = time.monotonic()
        more = False
        for _ in range(MOST_STEPS):
            more = matching.step(self.watch).more
            if not more:
                break
        due = self._hand_out()
        return SOON if more or due or self.watch.waiting or self._under_way else POLL

    def _live(self) -> None:
        """Hold the lock by which others know that this dispatcher, and so its leases, are alive; it dies with the connection."""
        connection.ensure_connection()
        if self._alive is not connection.connection:
            sending.announce(self.owner)
            connection.close_at = None  # it must not be retired for its age
            self._alive = connection.connection

    def _hand_out(self) -> int:
        self._under_way = {pk: (f, slow) for pk, (f, slow) in self._under_way.items() if not f.done()}
        free = self._senders - len(self._under_way)
        slow = sum(slow for _, slow in self._under_way.values())
        room = max(1, self._senders // 2) - slow
        due: list[tuple[int, bool]] = []
        if free > 0:
            due = self._lease(free, [], slow=False)
        if free > len(due) and room > 0:
            due += self._lease(min(room, free - len(due)), due, slow=True)
        for pk, is_slow in due:
            self._under_way[pk] = (self._pool.submit(_serve, pk, self.owner, self._stopping), is_slow)
        return len(due)

    def _lease(self, most: int, taken: list[tuple[int, bool]], *, slow: bool) -> list[tuple[int, bool]]:
        busy = [*self._under_way, *(pk for pk, _ in taken)]
        return sending.lease(self.owner, most, busy, slow=slow, settled=self.watch.settled)

    def settle(self, seconds: float = 60.0) -> None:
        """Step until nothing is due or under way (receivers that wait for their next attempt are not waited for)."""
        deadline = time.monotonic() + seconds
        while self.step() == SOON and time.monotonic() < deadline:
            for future, _ in list(self._under_way.values()):
                future.exception()

    def close(self) -> None:
        """Let senders finish the request they are at."""
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _serve(pk: int, owner: int, stopping: threading.Event) -> int:
    """A sender's thread: it keeps no connection to the database while it rests."""
    try:
        close_old_connections()
        return sending.serve(pk, owner, stopping)
    except Exception:  # whatever it was, it must not end the others
        log.exception("sending for subscription %s failed", pk)
        with contextlib.suppress(Error):  # of the database: then the lease runs out by itself
            connection.close()
            sending.stumbled(pk)
        return 0
    finally:
        connection.close()


def _anybody() -> bool:
    with connection.cursor() as cur:
        cur.execute("SELECT EXISTS (SELECT 1 FROM exchange_subscription WHERE status <> 'off')")
        return bool(cur.fetchone()[0])


def run(stop: threading.Event) -> None:
    """Work until ``stop`` is set; failures of the database are waited out."""
    dispatcher = Dispatcher()
    pause, failed = SOON, 0
    try:
        while not stop.wait(pause):
            try:
                close_old_connections()
                pause, failed = dispatcher.step(), 0
            except Error:
                failed += 1
                pause = min(LONGEST_PAUSE, 2.0**failed)
                log.exception("subscriptions met a database error; trying again")
                connection.close()
    finally:
        dispatcher.close()
        connection.close()


def register() -> None:
    """Run a dispatcher in every ticker, clear away old events now and then, and let the house check the numbers."""
    periodic.register_worker("subscriptions", run)
    periodic.register("subscriptions: old events", TIDY_EVERY, _tidy)
    checks.register("subscriptions: every number once", lifecycle.check)


def _tidy() -> int:
    return lifecycle.tidy(dt.timedelta(days=settings.SUBSCRIPTION_KEEP_DAYS))
