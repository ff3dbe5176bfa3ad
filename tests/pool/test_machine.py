"""Any interleaving of what can happen to a session keeps its rules: a state machine on real PostgreSQL.

After every step: capacity, nested quotas, one number for a person, seats and steps apart, counters equal to the rows, every
place where a plain model of the rules says it is.
"""

from __future__ import annotations

import datetime as dt
from itertools import count
from typing import Any

import pytest
from django.db import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lianxin.pool import booking
from lianxin.pool.booking import AlreadyBooked, Full, NotPossible, SeatTaken
from lianxin.pool.models import RANK, TIERS, Place, Session
from lianxin.standards import clock
from tests.factories import make_department, make_institution

from .test_booking import at, make_person, make_session

pytestmark = pytest.mark.django_db
_keys = count(1)
CHANNELS = st.sampled_from(list(TIERS))
WHO = st.integers(0, 7)
WHICH = st.integers(0, 30)
SESSION = st.integers(0, 1)
LIVE = ("held", "booked", "arrived", "fulfilled", "no_show")


class Pool(RuleBasedStateMachine):
    """Two sessions of one department (a clinic and, in half of the runs, an examination's), eight people."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = transaction.atomic()
        self._whole.__enter__()
        self.now = at(2, 9)

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self._whole.__exit__(None, None, None)

    @initialize(
        capacity=st.integers(3, 7),
        kept=st.lists(st.integers(0, 3), min_size=3, max_size=3),
        hours=st.lists(st.integers(0, 40), min_size=3, max_size=3),
        exam=st.booleans(),
    )
    def begin(self, capacity: int, kept: list[int], hours: list[int], exam: bool) -> None:
        self.items = {1} if exam else set()
        village, township, county = sorted(min(k, capacity) for k in kept)
        releases = [at(2, 9) + dt.timedelta(hours=h) for h in hours]
        home = make_department(make_institution(kind="hospital"))
        self.sessions = [
            make_session(
                home, capacity=capacity, clinic_type="普通" if n == 0 else "专家", kind="exam" if n in self.items else "clinic",
                reserved_county=county, reserved_township=township, reserved_village=village,
                release_county=releases[0], release_township=releases[1], release_village=releases[2],
                starts_at=at(5, 8), ends_at=at(5, 12),
            ).pk
            for n in range(2)
        ]  # fmt: skip
        self.people = [make_person() for _ in range(8)]
        self.places: list[int] = []

    # ------------------------------------------------------------------------------------------------------------- helpers

    def _place(self, which: int) -> Place:
        return Place.objects.unscoped("test").get(pk=self.places[which % len(self.places)])

    def _try(self, work: Any, *allowed: type[Exception]) -> Any:
        with clock.at(self.now):
            try:
                return work()
            except allowed as refused:
                return refused

    def _room(self, session: Session, channel: str, units: int) -> bool:
        """The rule itself, from the rows: what may this channel take now?"""
        live = [
            p
            for p in Place.objects.unscoped("test").filter(session=session, state__in=LIVE)
            if not (p.state == "held" and p.expires_at <= self.now)
        ]
        taken = {tier: sum(p.units for p in live if p.channel == tier) for tier in TIERS}
        names = list(TIERS)
        return (
            session.status == "open"
            and sum(taken.values()) + units <= session.capacity
            and all(
                getattr(session, f"release_{names[n]}") <= self.now
                or sum(taken[t] for t in names[:n]) + units
                <= session.capacity - getattr(session, f"reserved_{names[n]}")
                for n in range(RANK[channel] + 1, len(names))
            )
        )

    def _take(self, what: str, nth: int, who: int, channel: str, units: int) -> None:
        session = Session.objects.get(pk=self.sessions[nth])
        item = "CT" if nth in self.items and units else ""
        room = self._room(session, channel, max(units, 1) if item else 1)
        more = {"units": max(units, 1), "item": item} if item else {}
        had = (
            Place.objects.unscoped("test")
            .filter(session=session, person_id=self.people[who], state__in=LIVE)
            .exclude(state="held", expires_at__lte=self.now)
            .exists()
        )
        got = self._try(
            lambda: getattr(booking, what)(session.pk, self.people[who], channel, f"m{next(_keys)}", **more),
            Full, AlreadyBooked, NotPossible,
        )  # fmt: skip
        if isinstance(got, Place):
            assert room, "taken although the rules leave no room"
            assert not had, "one patient, one number"
            self.places.append(got.pk)
        elif isinstance(got, AlreadyBooked):
            assert had
        elif nth not in self.items:  # steps may be scattered; a clinic's numbers never
            assert not room, "refused although there is room"

    # --------------------------------------------------------------------------------------------------------------- rules

    @rule(nth=SESSION, who=WHO, channel=CHANNELS, units=st.integers(0, 3))
    def book(self, nth: int, who: int, channel: str, units: int) -> None:
        self._take("book", nth, who, channel, units)

    @rule(nth=SESSION, who=WHO, channel=CHANNELS, units=st.integers(0, 3))
    def hold(self, nth: int, who: int, channel: str, units: int) -> None:
        self._take("hold", nth, who, channel, units)

    @precondition(lambda self: self.places)
    @rule(which=WHICH)
    def confirm(self, which: int) -> None:
        place = self._place(which)
        runs = place.state == "booked" or (place.state == "held" and place.expires_at > self.now)
        got = self._try(lambda: booking.confirm(place.pk), NotPossible)
        assert runs == isinstance(got, Place)

    @precondition(lambda self: self.places)
    @rule(which=WHICH, move=st.sampled_from(["cancel", "arrive", "no_show", "fulfil"]))
    def move(self, which: int, move: str) -> None:
        place = self._place(which)
        more = ("改期",) if move == "cancel" else ()
        self._try(lambda: getattr(booking, move)(place.pk, *more), NotPossible)

    @precondition(lambda self: self.places)
    @rule(which=WHICH, nth=SESSION, seat=st.one_of(st.none(), st.integers(1, 8)))
    def reschedule(self, which: int, nth: int, seat: int | None) -> None:
        old = self._place(which)
        got = self._try(
            lambda: booking.reschedule(old.pk, self.sessions[nth], f"m{next(_keys)}", "改期", seat=seat),
            Full, AlreadyBooked, NotPossible, SeatTaken,
        )  # fmt: skip
        after = self._place(which)
        if isinstance(got, Place):
            self.places.append(got.pk)
            assert after.state == "cancelled"
        elif after.state != old.state:  # only its own running out may have taken it
            assert (old.state, after.reason) == ("held", "expired")

    @rule(minutes=st.integers(1, 24 * 60))
    def time_passes(self, minutes: int) -> None:
        self.now = min(self.now + dt.timedelta(minutes=minutes), at(5, 7))

    @rule()
    def sweep(self) -> None:
        self._try(booking.sweep)
        assert (
            not Place.objects.unscoped("test")
            .filter(session_id__in=self.sessions, state="held", expires_at__lte=self.now)
            .exists()
        )

    @rule(nth=SESSION, numbers=st.integers(1, 2))
    def add_numbers(self, nth: int, numbers: int) -> None:
        self._try(lambda: booking.add_numbers(self.sessions[nth], numbers), NotPossible)

    @rule(nth=SESSION, sure=st.integers(0, 5))
    def stop(self, nth: int, sure: int) -> None:
        if sure == 0:  # rarely: a stopped session has nothing more to tell
            self._try(lambda: booking.stop_session(self.sessions[nth], "医生停诊"))
            assert (
                not Place.objects.unscoped("test")
                .filter(session_id=self.sessions[nth], state__in=["held", "booked"])
                .exists()
            )

    # ---------------------------------------------------------------------------------------------------------- invariants

    @invariant()
    def the_rules_hold(self) -> None:
        if not hasattr(self, "sessions"):
            return
        assert booking.recount() == []
        names = list(TIERS)
        for session in Session.objects.filter(pk__in=self.sessions):
            live = list(Place.objects.unscoped("test").filter(session=session, state__in=LIVE))
            steps = [n for p in live for n in range(p.seat_no, p.seat_no + p.units)]
            assert len(steps) == len(set(steps)), "two patients on one number or step"
            assert all(1 <= n <= session.capacity for n in steps)
            assert session.taken == len(steps) <= session.capacity
            assert len({p.person_id for p in live}) == len(live)
            taken = {tier: getattr(session, f"taken_{tier}") for tier in TIERS}
            for n in range(1, len(names)):
                if self.now < getattr(session, f"release_{names[n]}"):
                    before = sum(taken[t] for t in names[:n])
                    assert before <= session.capacity - getattr(session, f"reserved_{names[n]}")


def test_any_interleaving_keeps_capacity_quotas_and_one_number_each() -> None:
    run_state_machine_as_test(Pool, settings=settings(max_examples=15, stateful_step_count=20, deadline=None))
