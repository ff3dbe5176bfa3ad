"""Words people use for time and people: how long is left, how old, which day. Pure functions, both languages."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from lianxin.standards import clock
from lianxin.standards.text import T, Text

SOON = 2 * 3600
"""Seconds before the due time from which a clock is called *soon*."""

SEX = {
    "male": T("男", "Male"),
    "female": T("女", "Female"),
    "other": T("其他", "Other"),
    "unknown": T("未知", "Unknown"),
}

TIERS = {
    "village": T("村", "Village"),
    "township": T("乡", "Township"),
    "county": T("县", "County"),
    "city": T("市", "City"),
    "province": T("省", "Province"),
}


@dataclass(frozen=True)
class Clock:
    """What a clock badge shows: ``state`` is ``calm``, ``soon``, ``late``, ``paused`` or ``none``."""

    state: str
    icon: str
    words: Text


def span(seconds: float) -> Text:
    """A length of time in one unit people use: minutes below an hour, hours below two days, then days."""
    seconds = abs(seconds)
    minutes = int(seconds // 60)
    if minutes < 60:
        n = max(minutes, 1)
        return T(f"{n} 分钟", f"{n} min")
    hours = int(seconds // 3600)
    if hours < 48:
        return T(f"{hours} 小时", f"{hours} h")
    days = int(seconds // 86400)
    return T(f"{days} 天", f"{days} days")


def time_left(due: dt.datetime | None, *, paused: bool = False) -> Clock:
    """Say how long is left until ``due`` (aware), or how long it has been over."""
    if due is None:
        return Clock("none", "dash", T("无时限", "No deadline"))
    if paused:
        return Clock("paused", "pause-circle", T("计时暂停", "Clock paused"))
    left = (due - clock.now()).total_seconds()
    if left < 0:
        return Clock("late", "exclamation-circle-fill", T("已超时 {s}", "{s} overdue").format(s=span(left)))
    if left <= SOON:
        return Clock("soon", "hourglass-split", T("还剩 {s}", "{s} left").format(s=span(left)))
    return Clock("calm", "clock", T("还剩 {s}", "{s} left").format(s=span(left)))


def age(birth: dt.date | None, on: dt.date | None = None) -> Text:
    """Age in whole years; for children under two in months, under two months in days."""
    if birth is None:
        return T("年龄不详", "Age unknown")
    on = on or clock.today()
    months = (on.year - birth.year) * 12 + on.month - birth.month - (on.day < birth.day)
    if months >= 24:
        return T(f"{months // 12} 岁", f"{months // 12} y")
    if months >= 2:
        return T(f"{months} 个月", f"{months} mo")
    days = max((on - birth).days, 0)
    return T(f"{days} 天", f"{days} d")


def moment(value: dt.datetime | dt.date | None, *, with_time: bool = True) -> str:
    """Date (and time of day) in the platform's zone, digits only, the year left out when it is this year."""
    if value is None:
        return "—"
    if isinstance(value, dt.datetime):
        local = value.astimezone(clock.ZONE)
        day = local.strftime("%m-%d" if local.year == clock.today().year else "%Y-%m-%d")
        whole_day = not (
            local.hour or local.minute or local.second
        )  # recorded by the day: no invented midnight
        return f"{day} {local:%H:%M}" if with_time and not whole_day else day
    return value.isoformat()
