"""Plain words for days, times and ways: what a resident reads on the phone. Pure functions."""

from __future__ import annotations

import datetime as dt

from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

WEEKDAYS = (
    T("周一", "Mon"), T("周二", "Tue"), T("周三", "Wed"), T("周四", "Thu"), T("周五", "Fri"), T("周六", "Sat"), T("周日", "Sun"),
)  # fmt: skip
ROAD_FACTOR = 1.4
"""How much longer the road is than the straight line in hill country (a rule of thumb; the pages call the time an estimate)."""
ROAD_KMH = 35.0
NEAR_KM = 1.0


def local(at: dt.datetime) -> dt.datetime:
    """An instant in the platform's zone."""
    return at.astimezone(clock.ZONE)


def day_words(day: dt.date, today: dt.date | None = None) -> Text:
    """``今天``, ``明天`` or ``周三``."""
    today = today or clock.today()
    gap = (day - today).days
    if gap in (0, 1, 2):
        return (T("今天", "today"), T("明天", "tomorrow"), T("后天", "the day after tomorrow"))[gap]
    return WEEKDAYS[day.weekday()]


def date_words(day: dt.date) -> Text:
    """``11月25日 周三`` (with 今天 or 明天 instead of the weekday when it is so near)."""
    near = day_words(day)
    zh = f"{day.month}月{day.day}日" + (f" {near.zh}" if near else "")
    en = f"{day.day} {day:%b}, {near.en}"
    if day.year != clock.today().year:
        zh, en = f"{day.year}年{zh}", f"{day.day} {day:%b} {day.year}, {near.en}"
    return Text(zh, en)


def when_words(at: dt.datetime) -> Text:
    """``明天 17:00`` or ``11月25日 周三 09:12``: a moment as one says it."""
    at = local(at)
    gap = (at.date() - clock.today()).days
    day = day_words(at.date()) if 0 <= gap <= 2 else date_words(at.date())
    return Text(f"{day.zh} {at:%H:%M}", f"{day.en} {at:%H:%M}")


def half_day(at: dt.datetime) -> Text:
    """上午, 下午 or 晚上."""
    hour = local(at).hour
    return (
        T("上午", "morning") if hour < 12 else T("下午", "afternoon") if hour < 18 else T("晚上", "evening")
    )


def travel(home: Institution | None, there: Institution) -> Text | None:
    """How far it is from the person's own clinic, and roughly how long by road; None when a position is not known.

    The straight line is measured; the time is reckoned from it and called an estimate.
    """
    km = directory.distance_km(home, there) if home is not None else None
    if km is None:
        return None
    if km < NEAR_KM:
        return T("就在附近", "close by")
    minutes = max(5, round(km * ROAD_FACTOR / ROAD_KMH * 60 / 5) * 5)
    return T(
        "直线约 {km} 公里，乘车估计 {m} 分钟", "about {km} km as the crow flies, some {m} min by road"
    ).format(km=f"{km:.0f}", m=str(minutes))
