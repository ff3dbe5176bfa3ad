"""What happens to appointments without a person's move: stopped sessions, visits nobody came to.

A stopped session moves its appointments inside the pool's own transaction: either all have their duty, or the session is not stopped.
Nothing here ends a case (I2).
"""

from __future__ import annotations

import logging

from django.db import transaction

from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.pool.models import Place, Session
from lianxin.resident.booking import waiting
from lianxin.resident.booking.models import Appointment
from lianxin.resident.booking.moves import KIND
from lianxin.standards import clock

log = logging.getLogger(__name__)
BATCH = 500


def stopped(session: Session, places: list[Place], reason: str) -> None:
    """Every appointment of a stopped session is owed another time; the numbers of referrals are theirs to mend."""
    by = Scope.system("session stopped")
    why = reason.strip()[:200] or "停诊"
    ours = Case.objects.unscoped("appointments of the stopped session").filter(
        pk__in=[p.case_id for p in places if p.case_id is not None], kind=KIND, state__in=("requested", "booked")
    )  # fmt: skip
    number = {c.pk: c for c in ours}
    for place in places:
        case = number.get(place.case_id or 0)
        if case is not None:
            kernel.execute(
                "displaced", case, by, {"reason": why}, None, f"displaced:{case.number}:{place.pk}"
            )
    waiting.on_stopped(session, why)


def mark_missed(limit: int = BATCH) -> int:
    """Mark every booked visit whose session is over and whose grace has passed; returns how many. Missed days are made up for."""
    now = clock.now()
    rows = (
        Appointment.objects.unscoped("the watch on visits that nobody came to")
        .filter(live=True, ends_at__lte=now, case__state="booked")
        .select_related("case")
        .order_by("ends_at", "pk")[:limit]
    )
    by, count = Scope.system("missed visits"), 0
    for row in rows:
        try:
            with transaction.atomic():
                waiting.lock_sessions([row.session_id])
                kernel.execute(
                    "miss", row.case, by, {}, row.case.version, f"miss:{row.case.number}:{row.case.version}"
                )
            count += 1
        except kernel.MoveError as error:  # within the grace, or somebody moved it first
            log.info("visit %s not marked: %s", row.case.number, error)
    return count
