"""Arrivals in the database, many in a statement: what is known of them already, and keeping them with their answers."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import zstandard

from lianxin.access import seal, statements
from lianxin.exchange.feeds.models import TAKEN
from lianxin.record import rows as record_rows
from lianxin.standards import clock

if TYPE_CHECKING:
    from lianxin.exchange.feeds.inbox import Piece, Verdict

REMEMBERED = dt.timedelta(days=30)
"""For how long a control id is known again."""


class _Mine(threading.local):
    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=3)


_mine = _Mine()


def packed(body: bytes) -> bytes:
    """A body as it is kept: compressed, then sealed."""
    return seal.seal_bytes(_mine.compressor.compress(body))


def unpacked(kept: bytes) -> bytes:
    """The bytes of :func:`packed`."""
    return zstandard.decompress(seal.unseal_bytes(kept))


class Known(NamedTuple):
    """What came under a control id before."""

    id: int
    same: bytes
    state: str
    answer: bytes | None
    code: str
    person_id: int | None

    def told(self) -> bytes | None:
        """The answer that was given."""
        return seal.unseal_bytes(self.answer) if self.answer is not None else None


_KNOWN = (
    "SELECT g.n, a.id, a.same, a.state, a.answer, a.code, a.person_id"
    " FROM unnest(%s::text[], %s::text[], %s::text[]) WITH ORDINALITY AS g(door, sender, control_id, n)"
    " JOIN exchange_arrival a ON a.sender = g.sender AND a.control_id = g.control_id AND a.door = g.door"
    " WHERE a.at >= %s OR a.state <> 'taken' ORDER BY a.id"
)


def known(cur: Any, names: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], list[Known]]:
    """What came before under each (door, sender, control id)."""
    asked = list(dict.fromkeys(names))
    if not asked:
        return {}
    cur.execute(
        _KNOWN, [*(list(c) for c in zip(*asked, strict=True)), clock.now() - REMEMBERED], prepare=True
    )
    found: dict[tuple[str, str, str], list[Known]] = {}
    for n, pk, same, state, answer, code, person_id in cur.fetchall():
        one = Known(pk, bytes(same), state, None if answer is None else bytes(answer), code, person_id)
        found.setdefault(asked[n - 1], []).append(one)
    return found


def came_again(cur: Any, pk: int) -> None:
    """An arrival was sent once more."""
    cur.execute("UPDATE exchange_arrival SET attempts = attempts + 1 WHERE id = %s", [pk])


def refused_before(cur: Any, piece: Piece) -> int | None:
    """The arrival of the same content that was not taken."""
    cur.execute(
        "SELECT id FROM exchange_arrival WHERE sender = %s AND control_id = %s AND door = %s AND same = %s"
        " AND state <> 'taken' ORDER BY id LIMIT 1",
        [piece.sender, piece.control_id, piece.door, piece.same],
    )
    row = cur.fetchone()
    return row[0] if row else None


@dataclass
class Row:
    """An arrival that is to be kept; ``again``: in place of this one, which was not taken."""

    piece: Piece
    verdict: Verdict
    mapping: str = ""
    again: int | None = None

    def told(self) -> tuple[Any, ...]:
        """What became of it, in the order of ``_TOLD``."""
        verdict = self.verdict
        shown = [f"{r.rtype}/{r.id}/{r.version}" for r in verdict.results] if verdict.state == TAKEN else []
        return (
            seal.seal_bytes(verdict.answer) if verdict.answer is not None else None, verdict.state, verdict.code,
            verdict.reason.kept() if verdict.reason else "", self.mapping[:80], verdict.person_id, statements.text_array(shown),
        )  # fmt: skip

    def came(self) -> tuple[Any, ...]:
        """What it is, in the order of ``_CAME``."""
        piece = self.piece
        return (
            piece.door, piece.sender, piece.scope.institution_id, piece.client_id, piece.peer_id, piece.kind[:60],
            piece.control_id[:199], piece.same, packed(piece.body), piece.sent_at,
        )  # fmt: skip


_TOLD = (
    ("answer", "bytea"), ("state", "text"), ("code", "text"), ("error", "text"), ("mapping", "text"), ("person_id", "bigint"),
    ("resources", "text"),
)  # fmt: skip
_CAME = (
    ("door", "text"), ("sender", "text"), ("institution_id", "bigint"), ("client_id", "bigint"), ("peer_id", "bigint"),
    ("kind", "text"), ("control_id", "text"), ("same", "bytea"), ("body", "bytea"), ("sent_at", "timestamptz"),
)  # fmt: skip
_COLUMNS = (("id", "bigint"), *_TOLD, *_CAME)
_COPIED = [*(name for name, _ in _COLUMNS), "attempts", "at", "done_at"]
_NAMES = ", ".join(name for name, _ in _COLUMNS)
_INSERT = (
    f"INSERT INTO exchange_arrival ({_NAMES}, attempts, at, done_at)"
    f" SELECT {_NAMES.replace('resources', 'resources::text[]')}, 1, %s, %s"
    f" FROM unnest({', '.join(f'%s::{kind}[]' for _, kind in _COLUMNS)}) AS g({_NAMES})"
)
_UPDATE = (
    f"UPDATE exchange_arrival SET {', '.join(f'{name} = %s' for name, _ in _TOLD).replace('resources = %s', 'resources = %s::text[]')},"
    " done_at = %s, attempts = attempts + 1 WHERE id = %s"
)


def keep(cur: Any, rows: Sequence[Row]) -> list[int]:
    """Write arrivals (or bring those that came again up to date) and their findings; returns their ids."""
    now = clock.now()
    fresh = [row for row in rows if row.again is None]
    ids = iter(_numbers(cur, len(fresh)))
    kept = [next(ids) if row.again is None else row.again for row in rows]
    values = [(pk, *row.told(), *row.came()) for pk, row in zip(kept, rows, strict=True) if row.again is None]
    if len(values) >= record_rows.COPY_FROM:
        record_rows.copy(cur, "exchange_arrival", _COPIED, [(*one, 1, now, now) for one in values])
    elif values:
        cur.execute(_INSERT, [now, now, *(list(c) for c in zip(*values, strict=True))], prepare=True)
    for row in rows:
        if row.again is not None:
            cur.execute(_UPDATE, [*row.told(), now, row.again])
            cur.execute("DELETE FROM exchange_finding WHERE arrival_id = %s AND state = 'open'", [row.again])
    _findings(cur, rows, kept)
    return kept


def _numbers(cur: Any, count: int) -> list[int]:
    if not count:
        return []
    cur.execute(
        "SELECT nextval(pg_get_serial_sequence('exchange_arrival', 'id')) FROM generate_series(1, %s)",
        [count],
        prepare=True,
    )
    return sorted(row[0] for row in cur.fetchall())


def _findings(cur: Any, rows: Sequence[Row], kept: Sequence[int]) -> None:
    values = [
        (pk, row.piece.scope.institution_id, row.piece.door, row.piece.kind[:60], clock.today(), f.rule, f.dimension, f.severity,
         f.place[:200], f.text.zh, f.text.en)
        for pk, row in zip(kept, rows, strict=True)
        for f in row.verdict.found
    ]  # fmt: skip
    if values:
        cur.executemany(
            "INSERT INTO exchange_finding (arrival_id, institution_id, door, kind, day, rule, dimension, severity, place, zh, en,"
            " state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'open')",
            values,
        )
