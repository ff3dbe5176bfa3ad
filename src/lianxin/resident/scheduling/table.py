"""Sessions of a hospital as a table (CSV) for systems that give no list: read whole, taken over by the same rules as a pull."""

from __future__ import annotations

import csv
import datetime as dt
import io

from lianxin.access.errors import Invalid
from lianxin.resident.scheduling.adapters import Theirs
from lianxin.standards import clock
from lianxin.standards.text import T

COLUMNS = (
    "external_id",
    "department",
    "practitioner",
    "kind",
    "clinic_type",
    "start",
    "end",
    "capacity",
    "fee",
    "status",
)
NEEDED = ("external_id", "department", "start", "end", "capacity")
MOST_ROWS = 20_000
MOST_BYTES = 5 * 1024 * 1024
ODD = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def read(data: bytes) -> list[Theirs]:
    """The sessions of a table, one a row; a row that cannot be read is told as such. Raises Invalid for what is no such table."""
    if len(data) > MOST_BYTES:
        raise Invalid({"file": T("文件超过 5 MB。", "The file is larger than 5 MB.")})
    text = ""
    for codec in ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(codec)
            break
        except UnicodeDecodeError:
            continue
    reader = csv.reader(io.StringIO(text.replace("\x00", "")))
    try:
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        rows = []
    head = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in NEEDED if name not in head]
    if missing:
        raise Invalid(
            {
                "file": T(
                    "不是号源表：缺少列 {columns}。",
                    "This is no table of sessions: columns are missing: {columns}.",
                ).format(columns=", ".join(missing))
            }
        )
    if len(rows) > MOST_ROWS:
        raise Invalid({"file": T("最多 {n} 行。", "At most {n} rows.").format(n=str(MOST_ROWS))})
    return [
        _one({n: c.strip() for n, c in zip(head, row, strict=False)}, at)
        for at, row in enumerate(rows[1:], 2)
    ]


def _one(row: dict[str, str], at: int) -> Theirs:
    rid = row.get("external_id", "")
    try:
        start, end = (dt.datetime.fromisoformat(row.get(n, "").replace("/", "-")) for n in ("start", "end"))
        start, end = (t if t.tzinfo else t.replace(tzinfo=clock.ZONE) for t in (start, end))
        capacity, fee = int(row.get("capacity", "")), round(float(row.get("fee") or 0) * 100)
        kind = row.get("kind") or "clinic"
        if (
            not rid
            or len(rid) > 80
            or end <= start
            or not 0 <= capacity <= 10_000
            or not 0 <= fee <= 10_000_000
        ):
            raise ValueError
        if kind not in ("clinic", "exam"):
            raise ValueError
    except (ValueError, OverflowError):
        bad = T("第 {n} 行不合要求", "Row {n} cannot be used").format(n=str(at))
        return Theirs(rid[:80], "", "", "clinic", "", ODD, ODD, 0, bad=bad)
    return Theirs(
        rid, row.get("department", ""), row.get("practitioner", ""), kind, (row.get("clinic_type") or "普通")[:20], start, end,
        capacity, row.get("status", "").lower() in ("stopped", "cancelled", "停诊"), fee,
    )  # fmt: skip
