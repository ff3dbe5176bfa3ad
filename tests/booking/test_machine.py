"""Any interleaving of booking, holding, cancelling, waiting, offering, moving, stopping and missing keeps what must never break.

The rules, on PostgreSQL itself: no session over its capacity, one live number per person and session, counters equal to rows, every live
appointment backed by exactly one number (or owed a new one by an open duty), every offer backed by a held number, and among those who wait
for a session nobody is served before somebody who stands before them.
"""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from itertools import count

import pytest
from django.db import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lianxin.access.scope import Scope
from lianxin.duty import proof
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case, Duty
from lianxin.network import roles
from lianxin.pool import booking as pool
from lianxin.pool.errors import BookingError
from lianxin.pool.models import Session
from lianxin.resident.booking import jobs, service, waiting
from lianxin.resident.booking.models import Appointment, Waiting
from lianxin.standards import clock
from tests.booking.world import at, make_hospital, make_person, make_session, resident, staff

pytestmark = pytest.mark.django_db
PEOPLE, SESSIONS = 5, 3
REFUSALS = (BookingError, MoveError, Waiting.DoesNotExist)
_keys = count(1)
who, which = st.integers(0, PEOPLE - 1), st.integers(0, SESSIONS - 1)


class Bookings(RuleBasedStateMachine):
    """Five residents, three small sessions of one department, a reception; time only goes forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(transaction.atomic())
        house = make_hospital()
        self.sessions = [
            make_session(house, capacity=2 - n % 2, starts_at=at(5 + n, 8), ends_at=at(5 + n, 12),
                         **({"reserved_county": 1, "reserved_township": 1} if n == 2 else {}))
            for n in range(SESSIONS)
        ]  # fmt: skip
        self.people = [make_person() for _ in range(PEOPLE)]
        self.scopes: list[Scope] = [resident(p) for p in self.people]
        self.desk = staff(house.institution, roles.RECEPTION)
        self.now = at(2, 9)

    def teardown(self) -> None:
        """The act log replays to what stands; then everything goes back."""
        assert proof.check() == []
        transaction.set_rollback(True)
        self.stack.close()

    def try_(self, call: object, *args: object, **kwargs: object) -> object:
        """Do it or be refused; a refusal leaves nothing behind (the invariants see to that)."""
        with clock.at(self.now):
            try:
                return call(*args, **kwargs)  # type: ignore[operator]
            except REFUSALS:
                return None

    def visits(self) -> list[Appointment]:
        return list(
            Appointment.objects.unscoped("test")
            .filter(session__in=self.sessions, live=True)
            .select_related("case")
            .order_by("pk")
        )

    def waits(self) -> list[Waiting]:
        return list(
            Waiting.objects.unscoped("test")
            .filter(person_id__in=self.people, state__in=("waiting", "offered"))
            .order_by("pk")
        )

    def order(self, session_id: int) -> list[int]:
        rows = Waiting.objects.unscoped("test").filter(session_id=session_id, state="waiting")
        return list(rows.order_by("rank", "since", "id").values_list("pk", flat=True))

    @rule(p=who, s=which)
    def book(self, p: int, s: int) -> None:
        key = f"b{next(_keys)}"
        before = self.order(self.sessions[s].pk)
        got = self.try_(service.book, self.scopes[p], self.sessions[s].pk, self.people[p], key)
        again = self.try_(service.book, self.scopes[p], self.sessions[s].pk, self.people[p], key)
        assert (got is None and again is None) or got == again
        if got is not None and before:  # whoever booked overtook nobody who could have had that number
            with clock.at(self.now):
                session = Session.objects.get(pk=self.sessions[s].pk)
                left = self.order(session.pk)
                assert not left or not waiting.free(session, "public", self.now)

    @rule(p=who, s=which)
    def hold(self, p: int, s: int) -> None:
        self.try_(pool.hold, self.sessions[s].pk, self.people[p], "public", f"h{next(_keys)}")

    @rule(p=who, s=which, day=st.booleans())
    def wait(self, p: int, s: int, day: bool) -> None:
        self.try_(
            service.wait,
            self.scopes[p],
            self.sessions[s].pk,
            self.people[p],
            f"w{next(_keys)}",
            whole_day=day,
        )

    @rule(n=st.integers(0, 30), what=st.sampled_from(["take", "leave", "decline"]))
    def answer(self, n: int, what: str) -> None:
        rows = self.waits()
        if not rows:
            return
        row = rows[n % len(rows)]
        by = self.scopes[self.people.index(row.person_id)]
        if what == "take":
            self.try_(service.take_offer, by, row.pk, f"t{next(_keys)}")
        else:
            self.try_(getattr(service, what), by, row.pk)

    @rule(n=st.integers(0, 30))
    def cancel(self, n: int) -> None:
        rows = self.visits()
        if rows:
            row = rows[n % len(rows)]
            self.try_(service.cancel, self.desk, row.case.number, f"c{next(_keys)}")

    @rule(n=st.integers(0, 30), s=which)
    def move(self, n: int, s: int) -> None:
        rows = self.visits()
        if rows:
            row = rows[n % len(rows)]
            self.try_(service.reschedule, self.desk, row.case.number, self.sessions[s].pk, f"m{next(_keys)}")

    @rule(n=st.integers(0, 30), what=st.sampled_from(["arrive", "fulfil", "confirm_missed"]))
    def desk_says(self, n: int, what: str) -> None:
        rows = self.visits()
        if rows:
            row = rows[n % len(rows)]
            self.try_(service.act, self.desk, row.case.number, what, {}, None, f"d{next(_keys)}")

    @rule(hours=st.sampled_from([0.5, 2, 12, 30]))
    def time_passes(self, hours: float) -> None:
        self.now += dt.timedelta(hours=hours)
        with clock.at(self.now):
            jobs.mark_missed()

    @rule()
    def ticker(self) -> None:
        with clock.at(self.now):
            waiting.upkeep()

    @precondition(lambda self: self.now > at(3, 9))
    @rule(s=which)
    def stop(self, s: int) -> None:
        with clock.at(self.now):
            pool.stop_session(self.sessions[s].pk, "停诊")

    @invariant()
    def counters_are_rows(self) -> None:
        assert pool.recount() == []

    @invariant()
    def every_visit_has_its_number_or_a_duty(self) -> None:
        for visit in (
            Appointment.objects.unscoped("test")
            .filter(session__in=self.sessions)
            .select_related("case", "place")
        ):
            wanted = {
                "requested": ("booked",), "booked": ("booked",), "missed": ("booked",), "arrived": ("arrived",),
                "to_rebook": ("cancelled",), "fulfilled": ("fulfilled",), "no_show": ("no_show",), "cancelled": ("cancelled",),
            }[visit.case.state]  # fmt: skip
            assert visit.place.state in wanted, (visit.case.state, visit.place.state)
            assert visit.live == (not visit.case.terminal)
            if visit.case.state != "to_rebook" and visit.live:
                assert visit.place.case_id == visit.pk
            open_duties = Duty.objects.unscoped("test").filter(case_id=visit.pk, ended="").count()
            assert (open_duties == 0) == visit.case.terminal

    @invariant()
    def every_offer_is_a_held_number(self) -> None:
        for row in self.waits():
            if row.state == "offered" and row.offer_until is not None and row.offer_until > self.now:
                assert row.place is not None
                assert (row.place.state, row.place.person_id) == ("held", row.person_id)


def test_any_interleaving_keeps_the_rules() -> None:
    run_state_machine_as_test(
        Bookings, settings=settings(max_examples=20, stateful_step_count=20, deadline=None)
    )
    assert Case.objects.unscoped("test").count() == 0
