"""ECG as a table: ``# key: value`` lines, then a row of lead names, then one row a sample.

Keys: ``hz`` (or a first column ``time`` in seconds), ``unit`` (uV or mV, default mV), ``patient``, ``name``, ``sex``, ``birth``, ``time``.
"""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

import numpy as np

from lianxin.regional.ecg import errors, wave
from lianxin.regional.ecg.wave import STANDARD
from lianxin.standards import clock

if TYPE_CHECKING:
    from lianxin.regional.ecg.importing import Recording

_NAMES = {name.upper(): name for name in STANDARD}
_NOTE = re.compile(r"#\s*([A-Za-z]+)\s*[:=]\s*(.*)")
_MOST_LINES = 400_000


def _text(data: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise errors.broken("CSV")


def is_csv(data: bytes) -> bool:
    """Do the first lines name leads as columns?"""
    if b"\0" in data[:4096] or data[:1] in (b"<", b"{"):
        return False
    head = data[:4096].decode("latin-1").lstrip("\xef\xbb\xbf").splitlines()
    line = next((row for row in head if row.strip() and not row.startswith("#")), "")
    columns = [c.strip().strip('"').upper() for c in re.split(r"[,;\t]", line)]
    return sum(c in _NAMES for c in columns) >= 1 and len(columns) > 1


def read(data: bytes) -> Recording:
    """The recording in a table. Refused for a table that is cut off, without a rate, or with words among its numbers."""
    from lianxin.regional.ecg.importing import Patient, Recording

    notes: dict[str, str] = {}
    lines = _text(data).splitlines()
    if len(lines) > _MOST_LINES:
        raise errors.too_big(12)
    body = []
    for line in lines:
        if line.startswith("#"):
            if note := _NOTE.match(line):
                notes[note[1].lower()] = note[2].strip()
        elif line.strip():
            body.append(line)
    mark = next((m for m in ("\t", ";", ",") if m in body[0]), ",")
    columns = [c.strip().strip('"') for c in body[0].split(mark)]
    try:
        table = np.array([[float(v) if v.strip() else np.nan for v in row.split(mark)] for row in body[1:]], dtype=np.float64)  # fmt: skip
    except ValueError:
        raise errors.broken("CSV") from None
    if table.ndim != 2 or table.shape[1] != len(columns):
        raise errors.broken("CSV")
    names = [_NAMES.get(c.upper(), "") for c in columns]
    leads = [n for n in STANDARD if n in names]
    if not leads:
        raise errors.no_leads()
    scale = {"uv": 1.0, "µv": 1.0, "mv": 1000.0}.get(notes.get("unit", "mV").lower())
    if scale is None:
        raise errors.unscaled()
    rows = [table[:, names.index(n)] * scale for n in leads]
    made = wave.from_physical(leads, _rate(notes, columns, table), rows, [1.0] * len(rows))
    sex = {"M": "male", "F": "female", "男": "male", "女": "female"}.get(notes.get("sex", "")[:1].upper(), "")
    patient = Patient(
        notes.get("patient", "")[:64], notes.get("name", "")[:80], sex, _day(notes.get("birth", ""))
    )
    return Recording("CSV", made, patient, _moment(notes.get("time", "")))


def _rate(notes: dict[str, str], columns: list[str], table: np.ndarray) -> float:
    try:
        hz = float(notes["hz"]) if "hz" in notes else 0.0
    except ValueError:
        hz = 0.0
    if not hz and columns[0].lower() in ("time", "t", "seconds") and len(table) > 1:
        step = float(np.median(np.diff(table[:, 0])))
        hz = round(1 / step, 3) if step > 0 else 0.0
    if not 50 <= hz <= 16_000:
        raise errors.broken("CSV")
    return hz


def _day(text: str) -> dt.date | None:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        return None


def _moment(text: str) -> dt.datetime | None:
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=clock.ZONE)
