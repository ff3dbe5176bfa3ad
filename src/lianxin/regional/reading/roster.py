"""Who is on duty at a centre: shifts by reader and kind, who stands now, and who is called when nobody does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import IntegrityError, transaction

from lianxin.duty.errors import Refused
from lianxin.regional.reading.models import Reader, Shift
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "read": T("阅片", "Reading"),
    "approve": T("审核", "Approving"),
    "oncall": T("听班", "On call"),
}
ORDER = {"read": 0, "approve": 1, "oncall": 2}
LONGEST = dt.timedelta(hours=26)
"""A shift longer than a day and a handover is a slip of the pen."""
MOST_WEEKS = 12


@dataclass(frozen=True)
class OnDuty:
    """Somebody who stands now: account, practitioner (None for an account of no practitioner), name, kind of shift, until when."""

    account_id: int
    practitioner_id: int | None
    name: str
    kind: str
    until: dt.datetime


def on_duty(
    institution_id: int,
    centre: str,
    at: dt.datetime | None = None,
    kinds: Iterable[str] = ("read", "approve", "oncall"),
) -> list[OnDuty]:
    """Who stands at a centre of an institution at an instant (default now): readers first, then approvers, then whoever is on call.

    Empty when nobody was entered; the caller then turns to the role. Accounts closed meanwhile are left out.
    """
    when = at or clock.now()
    rows = Shift.objects.filter(
        institution_id=institution_id, centre=centre, kind__in=list(kinds), starts_at__lte=when, ends_at__gt=when,
        account__is_active=True,
    ).select_related("account")  # fmt: skip
    found = [OnDuty(s.account_id, s.account.practitioner_id, s.account.name, s.kind, s.ends_at) for s in rows]
    return sorted(found, key=lambda who: (ORDER[who.kind], who.until, who.account_id))


def of_week(institution_id: int, centre: str, monday: dt.date) -> list[Shift]:
    """Shifts that touch the week from ``monday``, in time order."""
    since = dt.datetime.combine(monday, dt.time(), clock.ZONE)
    rows = Shift.objects.filter(
        institution_id=institution_id, centre=centre, starts_at__lt=since + dt.timedelta(days=7), ends_at__gt=since
    )  # fmt: skip
    return list(rows.select_related("account").order_by("starts_at", "kind", "pk"))


def add(reader: Reader, kind: str, day: dt.date, start: dt.time, end: dt.time, weeks: int = 1) -> list[Shift]:
    """Enter a shift on ``day`` and on the same weekday of the following weeks; one that ends before it starts runs into the next day.

    All or none: Refused when the reader already stands in one of those times or a time is impossible.
    """
    if kind not in KINDS:
        raise Refused({"kind": T("没有这种班次。", "There is no such kind of shift.")})
    if not 1 <= weeks <= MOST_WEEKS:
        raise Refused({"weeks": T("重复 1 至 12 周。", "Repeat for 1 to 12 weeks.")})
    if not reader.active:
        raise Refused({"reader": T("该人员已停用。", "This reader is not active.")})
    if kind == "approve" and not reader.approves:
        raise Refused({"kind": T("该人员没有审核权限。", "This reader does not approve.")})
    starts = dt.datetime.combine(day, start, clock.ZONE)
    ends = dt.datetime.combine(day, end, clock.ZONE)
    if ends <= starts:
        ends += dt.timedelta(days=1)
    if ends - starts > LONGEST:
        raise Refused({"end": T("班次过长，请检查时间。", "The shift is too long; check its times.")})
    rows = [
        Shift(
            institution_id=reader.institution_id, centre=reader.centre, account_id=reader.account_id, kind=kind,
            starts_at=starts + dt.timedelta(weeks=n), ends_at=ends + dt.timedelta(weeks=n),
        )
        for n in range(weeks)
    ]  # fmt: skip
    try:
        with transaction.atomic():
            return list(Shift.objects.bulk_create(rows))
    except IntegrityError as error:
        raise Refused(
            {
                "start": T(
                    "该人员在其中一个时间段已有同类班次，未保存。",
                    "They already stand in one of these times; nothing was saved.",
                )
            }
        ) from error


def remove(institution_id: int, centre: str, shift_id: int) -> bool:
    """Take a shift that has not ended off the roster; what was stood stays on it. False when there is none."""
    rows = Shift.objects.filter(
        pk=shift_id, institution_id=institution_id, centre=centre, ends_at__gt=clock.now()
    )
    return bool(rows.delete()[0])
