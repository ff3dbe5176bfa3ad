"""Why an appointment's move may not be made now. Guards look at the case and never at the form."""

from __future__ import annotations

import datetime as dt

from lianxin.duty.machine import Ctx
from lianxin.resident.booking import policy
from lianxin.standards import clock
from lianxin.standards.text import T, Text


def on_the_day(ctx: Ctx) -> Text | None:
    """Nobody arrives before the day of the visit."""
    if ctx.now.date() < ctx.subject.day:
        return T(
            "就诊日为 {day}，请在当日登记到诊。", "The visit is on {day}; register the arrival that day."
        ).format(day=f"{ctx.subject.day:%Y-%m-%d}")
    return None


def over(ctx: Ctx) -> Text | None:
    """Missed only when the session is over and the grace has passed."""
    grace = dt.timedelta(minutes=policy.value("miss.grace_minutes", ctx.subject.institution_id))
    if ctx.now < ctx.subject.ends_at + grace:
        return T("就诊时段尚未结束。", "The session is not over yet.")
    return None


def may_change(ctx: Ctx) -> Text | None:
    """Residents change a visit until some time before its session, who booked it until it starts, the provider until it is over."""
    subject = ctx.subject
    if ctx.case.state == "to_rebook":
        return None
    if ctx.by.resident:
        limit = subject.starts_at - dt.timedelta(
            minutes=policy.value("cancel.minutes", subject.institution_id)
        )
        if ctx.now > limit:
            return T(
                "已过自助改约、取消的截止时间（{at}），请联系就诊机构。",
                "The time to change or cancel this yourself ended at {at}; please call the provider.",
            ).format(at=f"{limit.astimezone(clock.ZONE):%Y-%m-%d %H:%M}")
        return None
    if ctx.now >= (subject.ends_at if ctx.is_party("provider") else subject.starts_at):
        return T(
            "该场次已开始或已结束，请由就诊机构登记到诊或核实爽约。",
            "The session has begun or is over; the provider registers what happened.",
        )
    return None


def moves_left(ctx: Ctx) -> Text | None:
    """Residents move one visit so many times and no more."""
    limit = policy.value("limit.moves", ctx.subject.institution_id)
    if ctx.by.resident and ctx.subject.moves >= limit:
        return T(
            "该预约已改约 {n} 次，不能再改；可取消后重新预约。",
            "This visit was moved {n} times already; cancel it and book anew.",
        ).format(n=str(limit))
    return None
