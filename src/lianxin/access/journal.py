"""Audit events of the FHIR door's busiest paths: kept on disk before the answer leaves, in the chain some milliseconds later.

An insert of its own for every read would cost more than the read.  So :func:`keep` appends the event to this process's journal
file (it survives the process being killed at any moment), and a thread puts what has gathered into the audit in one
transaction, with one link.  How far a file has been taken is noted in that same transaction (``access_journal``): after a kill
nothing is lost and nothing is there twice.  Files of dead processes are adopted by the ticker, every minute.

Only the loss of the whole machine's power can take events with it: those of the last :data:`PAUSE` seconds.
"""

import datetime as dt
import fcntl
import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from lianxin.access import audit, connections
from lianxin.access.audit import Entry

log = logging.getLogger(__name__)

PAUSE = 0.05  # seconds between an event and its place in the chain
RETRY = 2.0  # seconds, while the database is away
TURN_OVER = 4 * 1024 * 1024  # bytes after which a file that has been taken begins anew
AT_ONCE = False
"""Put events in the chain within :func:`keep` itself (tests, which look right after the answer)."""


class _Journal:
    """The journal of one process for one database."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.pid = os.getpid()
        self.folder = folder
        self.guard = threading.Lock()
        self.draining = threading.Lock()
        self.waiting: list[tuple[Entry, int]] = []  # with the place in the file where each ends
        self.unlinked: list[tuple[int, bytes]] = []
        self.due = threading.Event()
        self._open()
        if not AT_ONCE:
            threading.Thread(target=self._run, name="audit-journal", daemon=True).start()

    def _open(self) -> None:
        name = f"{self.pid}-{time.time_ns()}"
        unseen, self.path = self.folder / f"{name}.new", self.folder / f"{name}.jsonl"
        self.file = os.open(unseen, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        unseen.rename(self.path)  # locked before adopt() can see it
        self.size = 0

    def keep(self, entries: Sequence[Entry]) -> None:
        """Append entries to the file."""
        lines = [orjson.dumps(tuple(e), option=orjson.OPT_APPEND_NEWLINE) for e in entries]
        with self.guard:
            os.write(self.file, b"".join(lines))
            for entry, line in zip(entries, lines, strict=True):
                self.size += len(line)
                self.waiting.append((entry, self.size))
        self._call()

    def link_later(self, event_id: int, digest: bytes) -> None:
        """An event that is stored already waits for its link."""
        with self.guard:
            self.unlinked.append((event_id, digest))
        self._call()

    def _call(self) -> None:
        if AT_ONCE:
            self.drain()
        elif not self.due.is_set():
            self.due.set()

    def _run(self) -> None:
        while True:
            self.due.wait()
            time.sleep(PAUSE)
            self.due.clear()
            try:
                self.drain()
            except Exception:
                log.exception("the audit journal waits for the database")
                time.sleep(RETRY)
                self.due.set()

    def drain(self) -> None:
        """Put everything that has gathered into the audit."""
        with self.draining:
            with self.guard:
                entries, events = self.waiting, self.unlinked
                self.waiting, self.unlinked = [], []
            try:
                while entries or events:
                    part = entries[: audit.BATCH]
                    _store(
                        self.path.name,
                        [e for e, _ in part],
                        events[: audit.BATCH],
                        part[-1][1] if part else None,
                    )
                    entries, events = entries[audit.BATCH :], events[audit.BATCH :]
            finally:
                with self.guard:  # what could not be stored comes again, before what came since
                    self.waiting[:0], self.unlinked[:0] = entries, events
            if self.size > TURN_OVER:
                self._turn_over()

    def _turn_over(self) -> None:
        """Begin a new file; the old one has been taken to its end."""
        with self.guard:
            if self.waiting:
                return
            old, file = self.path, self.file
            self._open()
        os.close(file)
        _discard(old)


def _store(
    name: str, entries: Sequence[Entry], events: Sequence[tuple[int, bytes]], upto: int | None
) -> None:
    def work(cur: Any) -> None:
        with cur.connection.transaction():
            if upto is not None:
                cur.execute(
                    "INSERT INTO access_journal (name, upto) VALUES (%s, %s) ON CONFLICT (name) DO UPDATE SET upto = EXCLUDED.upto",
                    [name, upto],
                )
            audit.append(cur, entries, events)

    connections.steady(work, again=False)


_journals: dict[str, _Journal] = {}
_guard = threading.Lock()


def _folder() -> Path:
    return Path(settings.HOME) / "journal" / connections.database().replace("/", "_")


def _mine() -> _Journal:
    name = connections.database()
    found = _journals.get(name)
    if found is None or found.pid != os.getpid():
        with _guard:
            found = _journals.get(name)
            if found is None or found.pid != os.getpid():
                found = _journals[name] = _Journal(_folder())
    return found


def keep(entries: Sequence[Entry]) -> None:
    """Keep events of answers that are about to leave; on disk when this returns."""
    if entries:
        _mine().keep(entries)


def link_later(event_id: int, digest: bytes) -> None:
    """Give a stored event (:data:`lianxin.access.audit.INSERTION`) its link with the next batch."""
    _mine().link_later(event_id, digest)


def drain() -> None:
    """Put what this process has gathered into the audit now."""
    for journal in list(_journals.values()):
        if journal.pid == os.getpid():
            journal.drain()


def adopt() -> int:
    """Take over the journals that dead processes left (the ticker does, every minute); returns how many events they held."""
    taken = 0
    for path in sorted(_folder().glob("*.jsonl")):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue  # another has taken it meanwhile
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its process lives
            if not os.fstat(file.fileno()).st_nlink:
                continue  # another took it between our opening and our lock
            with connections.cursor() as cur:
                cur.execute("SELECT upto FROM access_journal WHERE name = %s", [path.name])
                row = cur.fetchone()
            start = row[0] if row else 0
            file.seek(start)
            entries = []
            for line in file:
                start += len(line)
                if (found := _read(line)) is not None:
                    entries.append((found, start))
            for first in range(0, len(entries), audit.BATCH):
                part = entries[first : first + audit.BATCH]
                _store(path.name, [e for e, _ in part], [], part[-1][1])
            _discard(path)
            taken += len(entries)
    return taken


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)
    with connections.cursor() as cur:
        cur.execute("DELETE FROM access_journal WHERE name = %s", [path.name])


def _read(line: bytes) -> Entry | None:
    """An entry of a file; None for a line cut off by a kill in the middle of its write (that answer never left)."""
    try:
        at, *rest = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return Entry(dt.datetime.fromisoformat(at), *rest)


def forget() -> None:
    """Let go of this process's journals (tests, another database)."""
    with _guard:
        for journal in _journals.values():
            os.close(journal.file)
            journal.path.unlink(missing_ok=True)
        _journals.clear()
