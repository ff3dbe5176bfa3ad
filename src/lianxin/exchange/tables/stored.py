"""Rows and resources as they are kept: what the record holds under some keys, and rows as the text of an arrival."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.exchange.tables.reading import Row
from lianxin.record import store, text


@dataclass(slots=True)
class Old:
    """A resource as it is stored."""

    rtype: str
    version: int
    updated: Any
    packed: bytes
    deleted: bool
    parsed: dict[str, Any] | None = None

    def says(self, raw: bytes, rid: str) -> bool:
        """Whether it is stored in just these words."""
        return text.splice(raw, rid, self.version, store.stamp(self.updated)) == store.opened(
            self.rtype, self.packed
        )

    def body(self) -> dict[str, Any]:
        """The resource."""
        if self.parsed is None:
            self.parsed = text.parse(store.opened(self.rtype, self.packed).encode())
        return self.parsed

    def patient(self) -> str:
        """Whose it is, as a reference."""
        body = self.body()
        return str((body.get("subject") or body.get("patient") or {}).get("reference", ""))


def found(cur: Any, keys: list[int]) -> dict[int, Old]:
    """What the record holds under these keys."""
    if not keys:
        return {}
    cur.execute(
        "SELECT key, rtype, version, updated, body, deleted FROM record_resource WHERE key = ANY(%s::bigint[])",
        [keys],
        prepare=True,
    )
    return {row[0]: Old(row[1], row[2], row[3], bytes(row[4]), row[5]) for row in cur.fetchall()}


def body_of(names: Sequence[str], rows: Iterable[Row]) -> bytes:
    """Rows as they are kept: CSV with a header, each with its number in the file."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["#", *names])
    writer.writerows([[row.number, *row.cells] for row in rows])
    return out.getvalue().encode("utf-8", "replace")
