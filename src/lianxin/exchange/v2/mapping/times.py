"""Dates and times of HL7 v2 (DT, TM, TS, DTM) as FHIR's; what is none is "" and told, never guessed."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from lianxin.standards import clock

_TIME = re.compile(
    r"(\d{4})(?:[-/.年]?(\d{1,2})(?:[-/.月]?(\d{1,2})日?)?)?"
    r"(?:[T ]?(\d{2})(?::?(\d{2})(?::?(\d{2})(\.\d+)?)?)?)?\s*(Z|[+-]\d{2}:?\d{2})?"
)
_CLOCK = re.compile(r"(\d{2}):?(\d{2})?:?(\d{2})?(?:\.\d+)?(?:[+-]\d{4})?")
_PACKED = re.compile(r"\d+(\.\d+)?([+-]\d{4})?")
FILLERS = frozenset(
    {"00010101", "00010101000000", "18991230", "18991230000000", "99991231", "99991231235959"}
)
"""What databases send for "no date"."""


@lru_cache(maxsize=64)
def zone_of(name: str) -> dt.tzinfo | None:
    """A time zone by name (``Asia/Shanghai``) or offset (``+0800``); None when there is none such."""
    if not name:
        return clock.ZONE
    found = re.fullmatch(r"([+-])(\d{2}):?(\d{2})", name)
    if found:
        delta = dt.timedelta(hours=int(found[2]), minutes=int(found[3]))
        return dt.timezone(-delta if found[1] == "-" else delta) if delta < dt.timedelta(hours=15) else None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


@lru_cache(maxsize=16384)
def time_of(given: str, zone: str = "") -> str | None:
    """A DTM as dateTime, as exact as it is said; "" for none (or a filler), None for what is no time."""
    plain = given.strip()
    if not plain.strip("0 -:/.T") or plain in FILLERS:
        return ""
    found = _TIME.fullmatch(plain)
    if found is None or (_PACKED.fullmatch(plain) and not _whole(plain)):
        return None
    year, month, day, hour, minute, second, part, offset = found.groups()
    if not 1 <= int(year) <= 9998:
        return None
    month = "" if month in (None, "00", "0") else month
    day = "" if day in (None, "00", "0") or not month else day
    try:
        date = dt.date(int(year), int(month or 1), int(day or 1))
        if not month:
            return year
        if not day:
            return f"{year}-{date.month:02}"
        if hour is None:
            return date.isoformat()
        if hour == "24" and minute in (None, "00") and second in (None, "00"):
            date, hour = date + dt.timedelta(days=1), "00"
        seconds = 59 if second == "60" else int(second or 0)
        moment = dt.datetime(date.year, date.month, date.day, int(hour), int(minute or 0), seconds)
    except (ValueError, OverflowError):
        return None
    where = zone_of(offset.replace("Z", "+0000") if offset else zone)
    text = moment.replace(tzinfo=where or clock.ZONE).isoformat()
    return f"{text[:19]}{part[:7] if part and part.strip('.0') else ''}{text[19:25]}"


def _whole(plain: str) -> bool:
    """Whether packed digits have a length that a time can have (4, 6, 8, 10, 12 or 14)."""
    return len(re.split(r"[.+-]", plain, maxsplit=1)[0]) in (4, 6, 8, 10, 12, 14)


def day_of(given: str) -> str | None:
    """The day (month, year) of a DTM, as FHIR's date."""
    found = time_of(given)
    return found[:10] if found else found


def clock_of(given: str) -> str | None:
    """A TM as FHIR's time; None for what is none."""
    found = _CLOCK.fullmatch(given.strip())
    if found is None:
        return None
    hour, minute, second = found[1], found[2] or "00", found[3] or "00"
    return f"{hour}:{minute}:{second}" if hour < "24" and minute < "60" and second < "60" else None
