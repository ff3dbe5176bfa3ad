"""Stop a clinic and follow everybody it concerned until each has another number or has been told otherwise.

Stopping cancels the numbers and opens the duties (the rooms that booked listen to ``pool.hooks``); here is who is affected before,
and who has been rebooked, who is still owed, and by whom, after. Each session is stopped in a transaction of its own.

A stopped session may be opened again while it lies ahead. Nobody is moved back by that: who has been rebooked keeps the new
number, who is still owed one may be offered the old session like any other, and those who wait are served first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.access.scope import Scope
from lianxin.duty import machine
from lianxin.duty.models import Case, Duty
from lianxin.pool import booking, hooks
from lianxin.pool.models import Place, Session
from lianxin.resident.schedules import acts
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.models import Act
from lianxin.standards import clock
from lianxin.standards.text import T, Text


@dataclass(frozen=True)
class Affected:
    """Somebody with a number in a session that is to be stopped, or was."""

    place: Place
    case: Case | None
    phone: bool
    now: Place | None = None
    duties: tuple[Duty, ...] = ()

    @property
    def kind(self) -> Text:
        """How the number was booked: an appointment, a referral, or without a case."""
        if self.case is None:
            return T("无单据", "No case")
        return machine.get(self.case.kind).label

    @property
    def referral(self) -> str:
        """The referral's number, when the number belongs to one."""
        return self.case.number if self.case is not None and self.case.kind == "referral" else ""

    @property
    def state(self) -> Text | None:
        """Where the case stands, in words."""
        if self.case is None:
            return None
        return machine.get(self.case.kind).state(self.case.state).label

    @property
    def outcome(self) -> str:
        """``rebooked``, ``closed`` (the case has ended otherwise), ``owed``, or ``none`` (a hold without a case)."""
        if self.now is not None:
            return "rebooked"
        if self.case is None:
            return "none"
        return "closed" if self.case.terminal else "owed"


def _cases(places: Iterable[Place]) -> dict[int, Case]:
    ids = {p.case_id for p in places if p.case_id is not None}
    rows = Case.objects.unscoped("cases of numbers of sessions that the reader runs").filter(pk__in=ids)
    return {c.pk: c for c in rows}


def affected(by: Scope, sessions: Sequence[Session]) -> list[Affected]:
    """Who has a live number in these sessions and has not been there yet, in order of session and number."""
    places = list(
        Place.objects.within(by)
        .filter(session_id__in=[s.pk for s in sessions if s.institution_id in acts.mine(by)])
        .filter(state__in=("held", "booked"))
        .exclude(state="held", expires_at__lte=clock.now())
        .select_related("session__department", "session__practitioner", "person")
        .order_by("session__starts_at", "session_id", "seat_no")
    )
    cases = _cases(places)
    return [Affected(p, cases.get(p.case_id or 0), bool(p.person.phone_sealed)) for p in places]


def stop(by: Scope, sessions: Iterable[Session], reason: str, key: str) -> list[Act]:
    """Stop open sessions (a session already stopped or over is left out); returns one act for each that this form stopped.

    The same key again returns the same acts.
    """
    done = []
    for session in sorted(sessions, key=lambda s: s.pk):
        before = Act.objects.filter(key=f"stop:{key}:{session.pk}").first()
        if before is not None:
            done.append(before)
            continue
        if session.status != "open" or session.ends_at <= clock.now():
            continue

        def work(act: Act, session: Session = session) -> dict[str, Any]:
            row = Session.objects.select_for_update(of=("self",), no_key=True).filter(pk=session.pk).first()
            if row is None or row.status != "open":
                raise Refused(T("该场次刚刚已由他人停诊。", "Somebody else has just stopped this session."))
            places = booking.stop_session(session.pk, reason)
            return {"places": [p.pk for p in places], "numbers": sum(p.units for p in places)}

        try:
            done.append(
                acts.once(
                    by,
                    f"stop:{key}:{session.pk}",
                    "stop",
                    work,
                    institution_id=session.institution_id,
                    session_id=session.pk,
                    reason=reason,
                    batch=key,
                )
            )
        except Refused:
            continue
    return done


def aftermath(by: Scope, stops: Sequence[Act]) -> list[Affected]:
    """Everybody a stop displaced, with the number they have now or the duties still owed to them."""
    ids = [pk for act in stops for pk in act.detail.get("places", [])]
    places = list(
        Place.objects.within(by)
        .filter(pk__in=ids)
        .select_related("session__department", "session__practitioner", "person")
        .order_by("session__starts_at", "session_id", "seat_no")
    )
    cases = _cases(places)
    now: dict[int, Place] = {
        p.case_id: p
        for p in Place.objects.unscoped("the new number of a case whose old one the reader stopped")
        .filter(case_id__in=list(cases))
        .exclude(state="cancelled")
        .select_related("session__institution", "session__department")
        .order_by("made_at")
        if p.case_id is not None
    }
    duties: dict[int, list[Duty]] = {}
    for duty in (
        Duty.objects.unscoped("what is owed in cases whose numbers the reader stopped")
        .filter(case_id__in=list(cases), ended="")
        .select_related("owner_institution")
        .order_by("due_at")
    ):
        duties.setdefault(duty.case_id, []).append(duty)
    return [
        Affected(
            p, cases.get(p.case_id or 0), bool(p.person.phone_sealed), now.get(p.case_id or 0),
            tuple(duties.get(p.case_id or 0, ())),
        )
        for p in places
    ]  # fmt: skip


def reopen(by: Scope, session: Session, reason: str, key: str) -> Act:
    """Open a stopped session again, while it lies ahead; raises Refused otherwise. Those who wait for it are served first."""

    def work(act: Act) -> dict[str, Any]:
        row = Session.objects.select_for_update(of=("self",), no_key=True).get(pk=session.pk)
        if row.status != "stopped":
            raise Refused(T("该场次未停诊，无需恢复。", "This session is not stopped."))
        if row.starts_at <= clock.now():
            raise Refused(
                T(
                    "该场次已过开始时间，不能恢复；请另排场次。",
                    "This session's time has begun; make another session instead.",
                )
            )
        if _busy(row):
            raise Refused(
                T(
                    "该医生此时段已另有门诊，不能恢复。",
                    "The doctor has another clinic at that time by now; the session cannot be opened again.",
                )
            )
        row.status = "open"
        row.save(update_fields=["status"])
        Act.objects.filter(session=row, kind="withdraw").delete()
        hooks.freed(row.pk)
        stops = list(Act.objects.filter(session=row, kind="stop"))
        after = aftermath(by, stops)
        return {
            "rebooked": sum(a.outcome == "rebooked" for a in after),
            "owed": sum(a.outcome == "owed" for a in after),
        }

    return acts.once(
        by, key, "reopen", work, institution_id=session.institution_id, session_id=session.pk, reason=reason
    )


def _busy(session: Session) -> bool:
    if session.practitioner_id is None:
        return False
    return (
        Session.objects.filter(
            practitioner_id=session.practitioner_id,
            status="open",
            starts_at__lt=session.ends_at,
            ends_at__gt=session.starts_at,
        )
        .exclude(pk=session.pk)
        .exists()
    )


def chosen(by: Scope, *, ids: Iterable[int] = (), practitioner: int | None = None, department: int | None = None,
           resource: int | None = None, since: dt.date | None = None, until: dt.date | None = None) -> list[Session]:  # fmt: skip
    """The sessions meant by a list of ids, or by a doctor's (device's, department's) days; own ones that lie ahead only."""
    rows = Session.objects.filter(institution_id__in=acts.mine(by), ends_at__gt=clock.now()).select_related(
        "institution", "department", "practitioner", "resource"
    )
    wanted = list(ids)
    if wanted:
        rows = rows.filter(pk__in=wanted)
    elif since is not None and (practitioner or department or resource):
        last = until or since
        rows = rows.filter(
            starts_at__gte=dt.datetime.combine(since, dt.time(), clock.ZONE),
            starts_at__lt=dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), clock.ZONE),
        )
        if practitioner:
            rows = rows.filter(practitioner_id=practitioner)
        if department:
            rows = rows.filter(department_id=department)
        if resource:
            rows = rows.filter(resource_id=resource)
    else:
        return []
    return list(rows.order_by("starts_at", "pk")[:300])
