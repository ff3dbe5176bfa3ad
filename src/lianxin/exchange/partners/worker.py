"""The loop of scheduled exports, in a thread of each ticker: makes what is due and sends what waits, several receivers at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
from django.db import Error, close_old_connections, connection

from lianxin.duty import periodic
from lianxin.exchange.partners import delivery, exports, traffic
from lianxin.exchange.partners.models import Export
from lianxin.record import feed

log = logging.getLogger(__name__)

POLL, SOON, IDLE = 2.0, 0.05, 10.0
LONGEST_PAUSE = 30.0
SENDERS = 4


class Exporter:
    """Makes and sends; ``step`` does what there is to do now and tells how long one may wait."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self._watch = feed.Watch()
        self._pool = ThreadPoolExecutor(SENDERS, thread_name_prefix="exports")
        self._under_way: dict[int, Future[int]] = {}

    def step(self) -> float:
        """Make one run of each export that is due, and send what waits."""
        if not Export.objects.filter(active=True).exists():
            return IDLE
        made = sum(exports.make(pk, self._watch) is not None for pk in exports.due())
        self._under_way = {pk: f for pk, f in self._under_way.items() if not f.done()}
        for pk in delivery.due():
            if pk not in self._under_way and len(self._under_way) < SENDERS:
                self._under_way[pk] = self._pool.submit(self._deliver, pk)
        return SOON if made or self._watch.waiting else POLL

    def _deliver(self, pk: int) -> int:
        try:
            close_old_connections()
            return delivery.deliver(pk, self._stop)
        except Exception:  # whatever it was, it must not end the others
            log.exception("sending export %s failed", pk)
            return 0
        finally:
            with contextlib.suppress(Error):
                connection.close()

    def wait(self, seconds: float) -> None:
        """Until what is under way is done, at most so long."""
        for future in list(self._under_way.values()):
            with contextlib.suppress(TimeoutError):
                future.result(seconds)

    def close(self) -> None:
        """Let senders finish the file they are at."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)


def run(stop: threading.Event) -> None:
    """Work until ``stop`` is set; failures of the database are waited out."""
    exporter, pause, failed = Exporter(stop), SOON, 0
    try:
        while not stop.wait(pause):
            try:
                close_old_connections()
                pause, failed = exporter.step(), 0
            except (Error, psycopg.Error):
                failed += 1
                pause = min(LONGEST_PAUSE, 2.0**failed)
                log.exception("exports met a database error; trying again")
                connection.close()
    finally:
        exporter.close()
        connection.close()


def register() -> None:
    """Run in every ticker, and have the traffic of the last hours counted now and then."""
    periodic.register_worker("exports", run)
    periodic.register("partners.traffic", 300, traffic.roll_up)
