"""The listener's indexer: one thread that takes what the associations have made durable, as it comes, in batches.

A database that is away does not stop receiving: what is acknowledged is on disk and waits. Only file names wait in memory beyond
:data:`HELD` instances; their headers are read again when their turn comes.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections import deque
from pathlib import Path

from django.db import close_old_connections, connection
from django.db.models import F
from django.db.models.functions import Least

from lianxin.regional.archive import spool, taking
from lianxin.regional.archive.models import Study
from lianxin.regional.archive.spool import Arrived
from lianxin.regional.archive.walk import Damaged
from lianxin.standards import clock

log = logging.getLogger(__name__)

HELD = 2000
RETRY = 2.0
GATHER = 0.25
"""Seconds for which the first of a batch waits for more: a batch of one costs twenty times as much processor an instance as a full one."""
GRACE = dt.timedelta(seconds=3)
"""After its sender released the association a study is complete unless the next association brings more within this time."""


class Indexer:
    """See the module."""

    def __init__(self) -> None:
        self._waiting: deque[Arrived | str] = deque()
        self._guard = threading.Condition()
        self._stopping = False
        self._busy = False
        self._asked = 0  # who waits for everything to be indexed: a batch does not gather then
        self._adopt = True  # what a listener that is gone had acknowledged comes first
        self._ended: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="dicom-indexer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, arrived: Arrived) -> None:
        """Something durable waits."""
        with self._guard:
            self._waiting.append(arrived if len(self._waiting) < HELD else arrived.path)
            if len(self._waiting) in (1, spool.AT_ONCE):
                self._guard.notify_all()

    def ended(self, study_uids: set[str]) -> None:
        """The sender of these studies has released its association."""
        with self._guard:
            self._ended |= study_uids
            self._guard.notify_all()

    def drained(self, seconds: float) -> bool:
        """Wait until everything acknowledged before now is indexed; False when it is not within ``seconds``."""
        with self._guard:
            self._asked += 1
            self._guard.notify_all()
            try:
                return self._guard.wait_for(lambda: not self._waiting and not self._busy, seconds)
            finally:
                self._asked -= 1

    def stop(self, seconds: float = 10.0) -> None:
        """Index what waits and end; what cannot be indexed now stays in the spool."""
        with self._guard:
            self._stopping = True
            self._guard.notify_all()
        self._thread.join(seconds)

    def _enough(self) -> bool:
        return bool(len(self._waiting) >= spool.AT_ONCE or self._ended or self._stopping or self._asked)

    def _run(self) -> None:
        while True:
            with self._guard:
                self._guard.wait_for(
                    lambda: self._adopt or self._waiting or self._ended or self._stopping, 30.0
                )
                if self._waiting and not self._adopt:
                    self._guard.wait_for(self._enough, GATHER)
                if self._stopping and not self._waiting and not self._ended:
                    return
                batch = [self._waiting[n] for n in range(min(spool.AT_ONCE, len(self._waiting)))]
                ended = set(self._ended) if len(batch) == len(self._waiting) else set()
                self._busy = bool(batch)
            close_old_connections()
            try:
                if self._adopt:
                    spool.adopt()
                    self._adopt = False
                self._index(batch)
                if ended:
                    hasten(ended)
            except Exception as error:  # the database or the disk is away: everything is still in the spool
                log.warning("the archive cannot index now, %d wait: %s", len(self._waiting), error)
                connection.close()
                with self._guard:
                    self._busy = False
                    if self._stopping:
                        return
                    self._guard.wait_for(lambda: self._stopping, RETRY)
                continue
            with self._guard:
                for _ in batch:
                    self._waiting.popleft()
                self._ended -= ended
                self._busy = False
                self._guard.notify_all()

    def _index(self, batch: list[Arrived | str]) -> None:
        made: list[Arrived] = []
        for one in batch:
            if isinstance(one, Arrived):
                made.append(one)
                continue
            try:
                read = spool.found(Path(one))
            except FileNotFoundError:
                continue  # taken already, before an error of this batch
            except (Damaged, ValueError) as error:
                log.error("the archive's spool holds a broken file: %s: %s", one, error)
                continue
            if read is not None:
                made.append(read)
        taking.take([one for one in made if Path(one.path).exists()])


def hasten(study_uids: set[str]) -> None:
    """Studies whose sender has ended are complete soon."""
    Study.objects.unscoped("their sender has ended").filter(
        sent_uid__in=study_uids, settle_at__isnull=False
    ).update(settle_at=Least(F("settle_at"), clock.now() + GRACE))
