"""Words that every resource shares: texts of codes (for ``:text``) and UCUM units (for conversion).

Both tables only grow.  What a process has seen committed it remembers, so that a write asks the database only about new
words; new ones are put down on a connection of their own, at once, so that no two transactions can wait for each other over
them (a word that stays behind when a write is rolled back harms nobody).
"""

import threading
from collections.abc import Iterable

from lianxin.access import connections
from lianxin.record.extract import Rows

MOST = 500_000  # words remembered; beyond, the process begins anew

_seen: dict[str, set[int | str]] = {}
_guard = threading.Lock()


def remember(batch: Iterable[Rows]) -> None:
    """Put down the words of some resources that are not there yet."""
    seen = _seen.setdefault(connections.database(), set())
    texts = {row[0]: row for rows in batch for row in rows.texts if row[0] not in seen}
    units = {unit for rows in batch for unit in rows.units if unit not in seen}
    if texts or units:
        _put_down(list(texts.values()), sorted(units))
        with _guard:
            if len(seen) > MOST:
                seen.clear()
            seen.update(texts, units)


def _put_down(texts: list[tuple[int, int, str]], units: list[str]) -> None:
    with connections.cursor() as cur:
        if texts:
            texts.sort()
            cur.execute(
                "INSERT INTO record_text (key, number, val) SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::text[])"
                " ON CONFLICT DO NOTHING",
                [list(column) for column in zip(*texts, strict=True)],
            )
        if units:
            cur.execute("INSERT INTO record_unit SELECT unnest(%s::text[]) ON CONFLICT DO NOTHING", [units])


def forget() -> None:
    """Remember nothing (another database under the same name; tests)."""
    with _guard:
        _seen.clear()
