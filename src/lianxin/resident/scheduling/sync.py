"""A hospital's sessions in the pool: taken over, kept in step, and what happens when both sides differ.

Whose word is the last is said by rows (:class:`OwnerRule`). The rules of conflict:

====================================  ==========================================================================================
what comes                            what becomes of it
====================================  ==========================================================================================
a session that is the platform's      nothing is changed, the difference is noted (``ours``)
one that coincides with a platform's  not taken over, noted (``clash``)
a new session of the hospital's       taken over, ``owner="hospital"``, known by its own number
more numbers                          taken over
fewer numbers than are booked         those booked last are owed another number (*to_rebook*), nobody is deleted (``cut``)
another time                          nobody booked: changed; else stopped and taken over anew, its people are owed another (``moved``)
another doctor                        changed; the numbers stay
stopped, or gone from a whole list    stopped as any session: its people are owed another (``stopped``, ``vanished``)
more than half gone at once           nothing is stopped: a person must let it through (``held_back``)
an unknown department, a bad row      not taken over, noted (``unknown``, ``bad``); the rest goes on
====================================  ==========================================================================================

Every session is a transaction of its own: a row that cannot be taken spoils no other.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F

from lianxin.access.scope import Scope
from lianxin.clinical.referral import displaced
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.network.models import Department, Practitioner
from lianxin.pool import booking, hooks
from lianxin.pool.models import TIERS, Place, Session
from lianxin.resident.booking.models import Waiting
from lianxin.resident.booking.moves import KIND
from lianxin.resident.scheduling import adapters
from lianxin.resident.scheduling.adapters import Theirs, Unclear
from lianxin.resident.scheduling.models import BookingSystem, Note, OwnerRule, kept
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

WHOLE_EVERY = dt.timedelta(hours=1)
FEW = 5
"""So many sessions may vanish at once without being asked about."""
CUT = T("医院减少号源", "The hospital has fewer numbers")
MOVED = T("医院调整出诊时间", "The hospital moved the session")
STOPPED = T("医院停诊", "Stopped by the hospital")
VANISHED = T("医院已撤销该场次", "The hospital took the session back")


@dataclass
class Took:
    """What a synchronisation did."""

    seen: int = 0
    new: int = 0
    changed: int = 0
    stopped: int = 0
    displaced: int = 0
    noted: int = 0
    held_back: int = 0
    kept: list[str] = field(default_factory=list)


def owner_of(rules: Iterable[OwnerRule], department_id: int, clinic_type: str, kind: str) -> str:
    """Whose the sessions of a department, type and kind are: the most particular rule that fits; none: the platform's."""
    fitting = [
        r
        for r in rules
        if r.department_id in (None, department_id)
        and r.clinic_type in ("", clinic_type)
        and r.kind in ("", kind)
    ]
    return max(fitting, key=lambda r: (r.weight, -r.pk)).owner if fitting else "platform"


class _Sync:
    """One run over what a system says."""

    def __init__(self, system: BookingSystem) -> None:
        self.system = system
        self.rules = list(system.rules.all())
        own = Department.objects.filter(institution_id=system.institution_id)
        self.departments = {d.code: d for d in own}
        code = system.institution.code
        self.departments |= {f"{code}-{d.code}"[:64]: d for d in own}
        self.took = Took()

    def one(self, said: Theirs) -> None:
        """Take one session over, in a transaction of its own."""
        self.took.seen += 1
        if said.bad is not None:
            self._note("bad", said, kept(said.bad))
            return
        department = self.departments.get(said.department)
        if department is None:
            self._note(
                "unknown",
                said,
                kept(Text(f"科室 {said.department[:60]}", f"department {said.department[:60]}")),
            )
            return
        doctor: Practitioner | None = None
        if said.practitioner:
            doctor = Practitioner.objects.filter(code=said.practitioner).first()
            if doctor is None:
                self._note(
                    "unknown",
                    said,
                    kept(Text(f"医生 {said.practitioner[:60]}", f"doctor {said.practitioner[:60]}")),
                )
                return
        self.took.kept.append(said.external_id)
        try:
            with transaction.atomic():
                self._take(said, department, doctor)
        except IntegrityError:
            self._note("clash", said, _words(said))

    def _take(self, said: Theirs, department: Department, doctor: Practitioner | None) -> None:
        known = (
            Session.objects.select_for_update(no_key=True, of=("self",))
            .filter(institution_id=self.system.institution_id, external_id=said.external_id)
            .first()
        )
        if known is not None and known.owner == "platform":
            self._note("ours", said, _words(said), known)
            return
        if known is None:
            if owner_of(self.rules, department.pk, said.clinic_type, said.kind) == "platform":
                self._note("ours", said, _words(said))
            elif not said.gone and said.ends_at > clock.now():
                self._make(said, department, doctor)
            return
        if known.status == "stopped" or known.ends_at <= clock.now():
            return
        if said.gone:
            self._stop(known, said, "stopped", STOPPED.zh)
            return
        moved = (known.starts_at, known.ends_at, known.department_id) != (
            said.starts_at,
            said.ends_at,
            department.pk,
        )
        if moved and _live(known.pk):
            Session.objects.filter(pk=known.pk).update(external_id=f"{said.external_id[:66]}#{known.pk}")
            self._stop(known, said, "moved", MOVED.zh)
            self._make(said, department, doctor)
            return
        self._change(known, said, department, doctor)

    def _make(self, said: Theirs, department: Department, doctor: Practitioner | None) -> None:
        Session.objects.create(
            institution_id=self.system.institution_id, department=department, practitioner=doctor, specialty=department.specialty,
            kind=said.kind, clinic_type=said.clinic_type, starts_at=said.starts_at, ends_at=said.ends_at, opens_at=clock.now(),
            capacity=said.capacity, fee_fen=said.fee_fen, owner="hospital", external_id=said.external_id,
        )  # fmt: skip
        self.took.new += 1

    def _change(
        self, known: Session, said: Theirs, department: Department, doctor: Practitioner | None
    ) -> None:
        lost = 0
        if said.capacity < known.capacity:
            lost = cut(known.pk, said.capacity, CUT.zh)
            if lost:
                self.took.displaced += lost
                self._note("cut", said, _words(said), known, lost)
            known.refresh_from_db()
        wanted: dict[str, Any] = {
            "starts_at": said.starts_at, "ends_at": said.ends_at, "department_id": department.pk, "specialty": department.specialty,
            "practitioner_id": doctor.pk if doctor is not None else None, "clinic_type": said.clinic_type, "fee_fen": said.fee_fen,
            "capacity": max(said.capacity, known.taken),
        }  # fmt: skip
        differs = {k: v for k, v in wanted.items() if getattr(known, k) != v}
        if differs:
            Session.objects.filter(pk=known.pk).update(**differs)
            if wanted["capacity"] > known.capacity:
                hooks.freed(known.pk)
        self.took.changed += bool(differs or lost)

    def _stop(self, known: Session, said: Theirs | None, kind: str, reason: str) -> None:
        people = booking.stop_session(known.pk, reason)
        self.took.stopped += 1
        self.took.displaced += len(people)
        self._note(kind, said, f"{known.starts_at.astimezone(clock.ZONE):%Y-%m-%d %H:%M}", known, len(people))

    def vanished(self, since: dt.datetime, until: dt.datetime) -> None:
        """Stop what a whole list no longer has; when that is more than half of it, nothing, until a person lets it through."""
        standing = Session.objects.filter(
            institution_id=self.system.institution_id, owner="hospital", status="open", starts_at__gte=since, starts_at__lt=until,
        ).exclude(external_id="")  # fmt: skip
        gone = standing.exclude(external_id__in=self.took.kept)
        count, whole = gone.count(), standing.count()
        if count > FEW and count * 2 > whole and not self.system.lets_vanish:
            self.took.held_back = count
            return
        for known in gone.order_by("starts_at", "pk"):
            with transaction.atomic():
                self._stop(known, None, "vanished", VANISHED.zh)

    def _note(
        self, kind: str, said: Theirs | None, text: str, known: Session | None = None, people: int = 0
    ) -> None:
        self.took.noted += 1
        now = clock.now()
        external = said.external_id if said is not None else known.external_id if known is not None else ""
        row, made = Note.objects.get_or_create(
            system=self.system, kind=kind, external_id=external[:80], text=text[:300],
            defaults={"session_id": known.pk if known is not None else None, "people": people, "at": now, "seen_at": now},
        )  # fmt: skip
        if not made:
            Note.objects.filter(pk=row.pk).update(
                seen_at=now, times=F("times") + 1, people=F("people") + people
            )


def _words(said: Theirs) -> str:
    local = said.starts_at.astimezone(clock.ZONE)
    return f"{said.department} {said.clinic_type} {local:%Y-%m-%d %H:%M} × {said.capacity}"


def _live(session_id: int) -> bool:
    return (
        Place.objects.unscoped("whether anybody is booked")
        .filter(session_id=session_id)
        .exclude(state="cancelled")
        .exists()
    )


def cut(session_id: int, capacity: int, reason: str) -> int:
    """Fewer numbers: those with the highest numbers give theirs back and are owed another; returns how many.

    Who was seen, is here or did not come keeps the number; holds go first. Raises nothing when there is nothing to cut.
    """
    with transaction.atomic():
        session = Session.objects.select_for_update(no_key=True, of=("self",)).get(pk=session_id)
        places = list(
            Place.objects.unscoped("who has a number that is no longer there").filter(
                session_id=session_id, state__in=("held", "booked")
            )
        )
        places.sort(
            key=lambda p: (p.state != "held", -p.seat_no) if p.state == "held" else (True, -p.seat_no)
        )
        over, gone = session.taken - capacity, []
        for place in places:
            if over <= 0:
                break
            gone.append(place)
            over -= place.units
        now = clock.now()
        Place.objects.unscoped("numbers that are no longer there").filter(pk__in=[p.pk for p in gone]).update(
            state="cancelled", expires_at=None, reason=reason[:200], changed_at=now
        )
        taken = {
            tier: getattr(session, f"taken_{tier}") - sum(p.units for p in gone if p.channel == tier)
            for tier in TIERS
        }
        left = max(capacity, sum(taken.values()))
        fields: dict[str, int] = {f"taken_{tier}": n for tier, n in taken.items()}
        fields |= {f"reserved_{t}": min(getattr(session, f"reserved_{t}"), left) for t in list(TIERS)[1:]}
        Session.objects.filter(pk=session_id).update(capacity=left, extra=min(session.extra, left), **fields)
        if gone:
            _owed(session_id, gone, reason)
    return len(gone)


def _owed(session_id: int, gone: list[Place], reason: str) -> None:
    """Whoever lost a number is owed another; the session itself goes on, so its waiting list stays."""
    session = Session.objects.select_related("institution", "department", "practitioner").get(pk=session_id)
    by, lost = Scope.system("fewer numbers"), {p.case_id: p for p in gone if p.case_id is not None}
    cases = Case.objects.unscoped("bookings whose number is no longer there").filter(
        pk__in=lost, kind=KIND, state__in=("requested", "booked")
    )
    for case in cases.order_by("pk"):
        key = f"displaced:{case.number}:{lost[case.pk].pk}"
        kernel.execute("displaced", case, by, {"reason": reason}, None, key)
    displaced.on_stopped(session, gone, reason)
    Waiting.objects.unscoped("offers whose number is no longer there").filter(
        place_id__in=[p.pk for p in gone], state="offered"
    ).update(state="waiting", place=None, offered_at=None, offer_until=None, changed_at=clock.now())


# ------------------------------------------------------------------------------------------------------------------ runs


def take(
    system: BookingSystem, said: Iterable[Theirs], since: dt.datetime, until: dt.datetime, *, whole: bool
) -> Took:
    """Take over what a system says of the sessions between ``since`` and ``until``; ``whole``: what it does not name is gone."""
    run = _Sync(system)
    for one in said:
        if one.bad is not None or since <= one.starts_at < until:
            run.one(one)
    if whole:
        run.vanished(since, until)
    return run.took


def pull(pk: int, *, whole: bool = False) -> Took | None:
    """Read a system's sessions and take them over: what changed since the last time, every hour all of them.

    One process at a time; None when another has it, or the system is not pulled from. What goes wrong is kept with the system.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_SPACE, pk])
        if not cursor.fetchone()[0]:
            return None
        try:
            return _pull(pk, whole)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_SPACE, pk])


_SPACE = 0x73796E63


def _pull(pk: int, whole: bool) -> Took | None:
    system = BookingSystem.objects.select_related("institution").get(pk=pk)
    if not system.pulls or not system.active or system.way != "fhir":
        return None
    now = clock.now()
    all_of_it = (
        whole or not system.pulled_to or system.whole_at is None or now - system.whole_at >= WHOLE_EVERY
    )
    since, until = now, now + dt.timedelta(days=system.days)
    adapter = adapters.of(system)
    try:
        said = list(adapter.sessions(since, until, "" if all_of_it else system.pulled_to))
    except Unclear as unclear:
        BookingSystem.objects.filter(pk=pk).update(pull_error=kept(unclear.text)[:2000], pulled_at=now)
        return None
    took = take(system, said, since, until, whole=all_of_it)
    fields: dict[str, Any] = {
        "pulled_at": now, "pulled_to": adapter.mark()[:40], "pull_error": "", "heard_at": now, "held_back": took.held_back,
    }  # fmt: skip
    if all_of_it:
        fields |= {"whole_at": now, "lets_vanish": False}
    else:
        fields.pop("held_back")
    BookingSystem.objects.filter(pk=pk).update(**fields)
    return took


def run() -> None:
    """The chore: every system whose time has come."""
    now = clock.now()
    for system in BookingSystem.objects.filter(active=True, paused=False, pulls=True, way="fhir"):
        if system.pulled_at is None or now - system.pulled_at >= dt.timedelta(minutes=system.pull_minutes):
            pull(system.pk)
