"""Dates of birth and death as whole numbers yyyymmdd (0: unknown; yyyy0000: only the year is known).

A date may have been counted by the lunar calendar (农历), which lies 18 to 55 days earlier: :func:`to_solar` says what it would
be, from a table of the lunar years 1900-2100 (``data/lunar_years.txt``).
"""

from __future__ import annotations

import datetime as dt
import re

from rapidfuzz.distance import Levenshtein

from lianxin.index.normal import chars, tables
from lianxin.standards import clock
from lianxin.standards.identifiers import OLDEST_YEARS

FILLED, OF_NUMBER = 1, 2
"""Birth dates that look filled in; that nobody stated and the identity number gave."""

_LENGTHS = (0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FILLERS = frozenset(int(d) for d in tables.fillers()["dates"])
_DEFAULTS = frozenset(int(d) for d in tables.fillers()["defaults"])


def today() -> int:
    """Today as yyyymmdd, by the house's clock."""
    return packed(clock.today())


def packed(date: dt.date | None) -> int:
    """yyyymmdd of a date, 0 for none."""
    return date.year * 10000 + date.month * 100 + date.day if date else 0


def exists(day: int) -> bool:
    """Whether yyyymmdd is a day of the calendar."""
    year, month, date = day // 10000, day // 100 % 100, day % 100
    if not (1 <= month <= 12 and date >= 1 and 1 <= year <= 9999):
        return False
    if month == 2 and date == 29:
        return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    return date <= _LENGTHS[month]


def apart(one: int, other: int) -> bool:
    """Whether two full dates differ in a way that no slip of typing and no lunar calendar explains."""
    if not (one % 100 and other % 100):
        return False
    if one // 100 == other // 100 or one % 10000 == other % 10000 or one // 10000 == other // 10000:
        return False
    if Levenshtein.distance(str(one), str(other)) <= 2:
        return False
    return to_solar(one) != other and to_solar(other) != one


class _Months(dict[int, tuple[int, int]]):
    """Lunar year * 100 + month -> (ordinal of its first day, days in it); the regular month where there is a leap one too."""

    def load(self) -> None:
        """Read the table: ``year first-day leap-month lengths`` with lengths of 12 or 13 months as 0 (29) and 1 (30)."""
        for line in tables.lines("lunar_years.txt"):
            year, first, leap, lengths = line.split()
            at = dt.date.fromisoformat(first).toordinal()
            month = 0
            for index, long in enumerate(lengths):
                days = 29 + int(long)
                if int(leap) == 0 or index != int(leap):
                    month += 1
                    self[int(year) * 100 + month] = (at, days)
                at += days


_months = _Months()


def to_solar(born: int) -> int:
    """The solar date (yyyymmdd) of ``born`` if year, month and day are lunar; 0 when there is no such lunar day."""
    if not _months:
        _months.load()
    found = _months.get(born // 100)
    day = born % 100
    if found is None or not 1 <= day <= found[1]:
        return 0
    solar = dt.date.fromordinal(found[0] + day - 1)
    return solar.year * 10000 + solar.month * 100 + solar.day


def read(date: dt.date | None, text: str, notes: list[str], now: int = 0) -> tuple[int, int, int]:
    """(born, looks like a filler, solar date if it had been lunar) of a birth date, or of a date as typed.

    Dates in the future or older than 130 years are 0, with a note.
    """
    born = packed(date) if date else _typed(text, notes) if text else 0
    if not born:
        return 0, 0, 0
    now = now or today()
    if born in _FILLERS:
        notes.append("born_filler")
        return 0, 0, 0
    if born > now or born < now - OLDEST_YEARS * 10000:
        notes.append("born_future" if born > now else "born_absurd")
        return 0, 0, 0
    if born % 10000 == 0:
        return born, 0, 0
    solar = to_solar(born)
    return born, FILLED if born % 10000 in _DEFAULTS else 0, solar if solar <= now else 0


_LUNAR = re.compile(r"农历|阴历|旧历|古历|夏历")
_PLAIN = re.compile(r"^(\d{4})[年./\-· ]+(\d{1,2})[月./\-· ]+(\d{1,2})日?$")
_EIGHT = re.compile(r"^(\d{4})(\d{2})(\d{2})(?:\d{4,6})?$")
_YEAR = re.compile(r"^(\d{4})年?(?:[./\-·]?\d{0,2}月?)?$")
_BACKWARDS = re.compile(r"^(\d{1,2})[./\-· ]+(\d{1,2})[./\-· ]+(\d{4})$")
_TIME = re.compile(r"[tT ]\d{1,2}:\d{2}.*$")


def _typed(text: str, notes: list[str]) -> int:
    """yyyymmdd of a date in words or figures, lunar ones converted; 0 when it cannot be read."""
    raw = chars.fold(_TIME.sub("", text[:60])).replace(",", "").strip()
    lunar = bool(_LUNAR.search(raw)) or any(c in raw for c in "腊廿初冬正")
    raw = _LUNAR.sub("", raw).strip(" ()")
    if not raw.isascii():
        raw = _figures(raw)
    for pattern in (_EIGHT, _PLAIN):
        if found := pattern.match(raw):
            day = int(found[1]) * 10000 + int(found[2]) * 100 + int(found[3])
            return _counted(day, lunar, notes)
    if found := _BACKWARDS.match(raw):
        first, second, year = int(found[1]), int(found[2]), int(found[3])
        month, date = (second, first) if first > 12 or second <= 12 else (first, second)
        return _counted(year * 10000 + month * 100 + date, lunar, notes)
    if found := _YEAR.match(raw):
        notes.append("born_year_only")
        return int(found[1]) * 10000
    notes.append("born_unreadable")
    return 0


def _counted(day: int, lunar: bool, notes: list[str]) -> int:
    if lunar and (solar := to_solar(day)):
        notes.append("born_lunar")
        return solar
    if exists(day):
        return day
    swapped = day // 10000 * 10000 + day % 100 * 100 + day // 100 % 100
    if exists(swapped):
        notes.append("born_swapped")
        return swapped
    year = day // 10000
    notes.append("born_no_such_day")
    return year * 10000 if 1800 < year < 2200 else 0


_UNITS = {c: n for n, c in enumerate("零一二三四五六七八九")} | {"〇": 0, "元": 1, "正": 1, "?": 0}


def _figures(raw: str) -> str:
    """``一九八〇年腊月初八`` -> ``1980年12月8日``."""
    raw = (
        raw.replace("冬月", "11月")
        .replace("腊月", "12月")
        .replace("正月", "1月")
        .replace("初", "")
        .replace("闰", "")
    )
    raw = re.sub(r"廿|二十|念", "贰", raw).replace("卅", "叁").replace("三十", "叁")
    out, pending = [], ""
    for char in raw:
        if char in "贰叁十":
            pending = {"贰": "2", "叁": "3", "十": "1"}[char]
            continue
        digit = str(_UNITS[char]) if char in _UNITS else char if char.isdecimal() else ""
        if pending:
            out.append(pending + (digit or "0"))
            pending = ""
            if digit:
                continue
        out.append(digit or char)
    out.append(pending + "0" if pending else "")
    plain = "".join(out)
    found = re.match(r"^(\d{4})年(\d{1,2})月(\d{1,2})", plain)
    return f"{found[1]}-{found[2]}-{found[3]}" if found else plain
