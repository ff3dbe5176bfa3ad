"""Why a move of a consultation may not be made now. Guards look at the case and never at the form."""

from __future__ import annotations

from lianxin.duty.machine import Ctx
from lianxin.regional.consult.models import MOST_LIVE, MOST_SEATS, Consult, Opinion, Seat
from lianxin.standards.text import T, Text


def seats(subject: Consult) -> list[Seat]:
    """Everybody asked, in order."""
    rows = Seat.objects.unscoped("the consultation's own seats").filter(consult=subject)
    return list(rows.select_related("practitioner", "institution", "department", "expert").order_by("number"))


def mine(ctx: Ctx) -> Seat | None:
    """The live seat of whoever acts: their own, else (a vendor, or a department's doctor) their institution's that nobody has taken."""
    live = [s for s in seats(ctx.subject) if s.state != "left" and s.institution_id in ctx.by.institution_ids]
    own = next((s for s in live if s.practitioner_id and s.practitioner_id == ctx.by.practitioner_id), None)
    if own is not None or ctx.by.machine:
        return own or next(iter(live), None)
    return next((s for s in live if s.practitioner_id is None), None)


def host(ctx: Ctx) -> Seat | None:
    """The host's live seat."""
    return next((s for s in seats(ctx.subject) if s.host and s.state != "left"), None)


def at_the_table(ctx: Ctx) -> Text | None:
    """One of the experts asked."""
    if mine(ctx) is None:
        return T("您不在本次会诊的专家之列。", "You are not among the experts of this consultation.")
    return None


def is_host(ctx: Ctx) -> Text | None:
    """The host."""
    seat = mine(ctx)
    if seat is None or not seat.host:
        return T("由主持专家办理。", "This is for the host to do.")
    return None


def not_host(ctx: Ctx) -> Text | None:
    """An invited expert who has not signed yet."""
    seat = mine(ctx)
    if seat is None or seat.host or seat.state == "given":
        return T(
            "主持专家请用「婉拒」或由会诊台改派；已签署意见的不能退出。",
            "The host declines or is replaced by the desk; who has signed does not leave.",
        )
    return None


def everybody_spoke(ctx: Ctx) -> Text | None:
    """Every invited expert has signed or left; an emergency does not wait."""
    if ctx.case.priority == "emergency":
        return None
    waiting = [s for s in seats(ctx.subject) if not s.host and s.state in ("invited", "accepted")]
    if not waiting:
        return None
    names = "、".join(s.practitioner.name if s.practitioner else s.institution.short for s in waiting)
    return T(
        "还有专家未签署意见：{who}。请等其签署，或请会诊台改派。",
        "Not everybody has signed: {who}. Wait, or have the desk release them.",
    ).format(who=names)


def room_at_table(ctx: Ctx) -> Text | None:
    """There is a free seat."""
    all_seats = seats(ctx.subject)
    live = [s for s in all_seats if s.state != "left"]
    if len(all_seats) >= MOST_SEATS or len(live) >= MOST_LIVE:
        return T("本次会诊的专家席位已满。", "All seats of this consultation are used.")
    return None


def has_signed(ctx: Ctx) -> Text | None:
    """The summary is there to be corrected."""
    rows = Opinion.objects.unscoped("the consultation's own opinions").filter(consult=ctx.subject, seat=None)
    return None if rows.exists() else T("尚无会诊意见。", "There is no opinion yet.")
