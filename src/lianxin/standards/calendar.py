"""The working calendar: which days are worked, and arithmetic in working time.

Holidays and make-up workdays (调休) come from ``chinesecalendar`` for the years it knows (2004 to its last notice; the
State Council announces a year only in November before it). Days beyond are judged by the weekday, and rows of
`CalendarDay` override both: a notice entered there is in force at once, without a release. A deadline that was computed
before the notice is not moved by it; whoever holds it sees the old time, which is never later than a holiday would make it.

Working hours are 08:00-12:00 and 14:00-17:30, Asia/Shanghai. All instants are aware; measure and addition are exact to
the microsecond, and adding then measuring gives back what was added.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from functools import lru_cache

import chinese_calendar

from lianxin.standards.clock import ZONE
from lianxin.standards.text import T, Text

HOURS: tuple[tuple[dt.time, dt.time], ...] = (
    (dt.time(8), dt.time(12)),
    (dt.time(14), dt.time(17, 30)),
)
OPEN, CLOSE = HOURS[0][0], HOURS[-1][1]
DAY_MINUTES = sum((b.hour - a.hour) * 60 + b.minute - a.minute for a, b in HOURS)
OVERRIDES_SECONDS = 30.0

_SPEC = re.compile(r"([0-9]{1,5})(m|h|d|wm|wh|wd)")
_overrides: tuple[float, dict[dt.date, bool]] | None = None


class SpecError(ValueError):
    """A clock specification that cannot be read; ``message`` is in both languages."""

    def __init__(self, spec: str) -> None:
        self.message: Text = T(
            "时限“{spec}”无法识别，应为数字加单位：m 分钟、h 小时、d 天、wm 工作分钟、wh 工作小时、wd 工作日，例如 4wh。",
            "The clock “{spec}” cannot be read: give a number and a unit, m minutes, h hours, d days, wm working "
            "minutes, wh working hours, wd working days, e.g. 4wh.",
        ).format(spec=spec)
        super().__init__(self.message.en)


def forget_overrides() -> None:
    """Read `CalendarDay` anew at the next question (called when a row changes; other processes follow in 30 s)."""
    global _overrides
    _overrides = None


def _override(day: dt.date) -> bool | None:
    global _overrides
    held = _overrides
    if held is None or time.monotonic() - held[0] > OVERRIDES_SECONDS:
        from lianxin.standards.models import CalendarDay  # models need the app registry; this module does not

        held = _overrides = (time.monotonic(), dict(CalendarDay.objects.values_list("day", "workday")))
    return held[1].get(day)


@lru_cache(maxsize=8192)
def _announced(day: dt.date) -> bool:
    """Workday by the notices built in, or by the weekday where there is none."""
    try:
        return bool(chinese_calendar.is_workday(day))
    except NotImplementedError:
        return day.weekday() < 5


def is_workday(day: dt.date) -> bool:
    """True when the day is worked: `CalendarDay` row, else the State Council's notice, else Monday to Friday."""
    chosen = _override(day)
    return _announced(day) if chosen is None else chosen


def next_workday(day: dt.date, count: int = 1) -> dt.date:
    """The ``count``-th workday after ``day``."""
    while count > 0:
        day += dt.timedelta(days=1)
        if is_workday(day):
            count -= 1
    return day


def in_working_hours(instant: dt.datetime) -> bool:
    """True when the instant lies in working hours (the closing minute is outside)."""
    local = instant.astimezone(ZONE)
    return is_workday(local.date()) and any(a <= local.time() < b for a, b in HOURS)


def _spans(day: dt.date) -> list[tuple[dt.datetime, dt.datetime]]:
    if not is_workday(day):
        return []
    return [(dt.datetime.combine(day, a, ZONE), dt.datetime.combine(day, b, ZONE)) for a, b in HOURS]


def working_time(a: dt.datetime, b: dt.datetime) -> dt.timedelta:
    """Working time between two instants; negative when ``b`` is before ``a``."""
    if b < a:
        return -working_time(b, a)
    a, b = a.astimezone(ZONE), b.astimezone(ZONE)
    total = dt.timedelta()
    day = a.date()
    while day <= b.date():
        for start, end in _spans(day):
            total += max(dt.timedelta(), min(b, end) - max(a, start))
        day += dt.timedelta(days=1)
    return total


def working_minutes(a: dt.datetime, b: dt.datetime) -> int:
    """Whole working minutes between two instants; negative when ``b`` is before ``a``."""
    seconds = working_time(a, b).total_seconds()
    return int(seconds / 60)


def add_working_time(start: dt.datetime, amount: dt.timedelta) -> dt.datetime:
    """The earliest instant at or after ``start`` by which ``amount`` of working time has passed."""
    if amount < dt.timedelta():
        raise ValueError("working time is added, not taken away")
    at = start.astimezone(ZONE)
    if not amount:
        return at
    day = at.date()
    while True:
        for begin, end in _spans(day):
            begin = max(begin, at)
            if begin >= end:
                continue
            if amount <= end - begin:
                return begin + amount
            amount -= end - begin
        day += dt.timedelta(days=1)


def add_working_minutes(start: dt.datetime, n: int) -> dt.datetime:
    """``start`` plus ``n`` working minutes."""
    return add_working_time(start, dt.timedelta(minutes=n))


def into_working_hours(instant: dt.datetime) -> dt.datetime:
    """The instant itself when it is worked, else the next opening."""
    at = instant.astimezone(ZONE)
    day = at.date()
    while True:
        for begin, end in _spans(day):
            if at < end:
                return max(at, begin)
        day += dt.timedelta(days=1)


@lru_cache(maxsize=512)
def parse(spec: str) -> tuple[int, str]:
    """``"4wh"`` -> (4, "wh"); raises `SpecError`."""
    found = _SPEC.fullmatch(spec.strip()) if isinstance(spec, str) else None
    if found is None:
        raise SpecError(str(spec))
    return int(found[1]), found[2]


def due(start: dt.datetime, spec: str) -> dt.datetime:
    """When something begun at ``start`` falls due.

    ``10m`` ``4h`` ``7d`` run on the wall clock; ``30wm`` ``4wh`` count working time; ``2wd`` is the same time of day two
    workdays on, counted from the next working moment. Raises `SpecError`.
    """
    number, unit = parse(spec)
    if unit in ("wm", "wh"):
        return add_working_minutes(start, number * (60 if unit == "wh" else 1))
    if unit == "wd":
        begin = into_working_hours(start)
        return dt.datetime.combine(next_workday(begin.date(), number), begin.timetz())
    return start.astimezone(ZONE) + dt.timedelta(minutes=number * {"m": 1, "h": 60, "d": 1440}[unit])


def words(spec: str) -> Text:
    """A clock in words: ``4wh`` -> “4个工作小时”, “4 working hours”."""
    number, unit = parse(spec)
    zh, en = {
        "m": ("分钟", "minute"),
        "h": ("小时", "hour"),
        "d": ("天", "day"),
        "wm": ("个工作分钟", "working minute"),
        "wh": ("个工作小时", "working hour"),
        "wd": ("个工作日", "working day"),
    }[unit]
    return Text(f"{number}{zh}", f"{number} {en}{'' if number == 1 else 's'}")
