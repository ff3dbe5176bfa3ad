"""The watch on booked visits: when the session has ended and the grace has passed and nobody came, the system says no-show.

It moves a case from booked to no_show and no further: no timer ends a referral (I2).
"""

from __future__ import annotations

import datetime as dt
import logging

from lianxin.access.scope import Scope
from lianxin.clinical.referral import policy
from lianxin.clinical.referral.models import Referral
from lianxin.duty import kernel, periodic
from lianxin.standards import clock

log = logging.getLogger(__name__)
BATCH = 500


def mark_no_shows(limit: int = BATCH) -> int:
    """Mark every booked referral whose session is over; returns how many."""
    now = clock.now()
    waiting = (
        Referral.objects.unscoped("the no-show watch looks at every booked referral")
        .filter(booking="booked", case__state="booked", appointment_end__lte=now)
        .select_related("case", "consortium")
        .order_by("appointment_end")[:limit]
    )
    by, count = Scope.system("no-show watch"), 0
    for referral in waiting:
        own = dt.timedelta(minutes=policy.minutes(str(policy.value("grace.no_show", referral.consortium))))
        if referral.appointment_end is None or now < referral.appointment_end + own:
            continue
        try:
            kernel.execute(
                "no_show",
                referral.case.number,
                by,
                {},
                referral.case.version,
                f"no-show:{referral.case.number}:{referral.case.version}",
            )
            count += 1
        except kernel.MoveError as error:
            log.info("no-show of %s not marked: %s", referral.case.number, error)
    return count


def register() -> None:
    """Run the watch every minute."""
    periodic.register("referral.no_show", 60, mark_no_shows)
