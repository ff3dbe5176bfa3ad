"""Whatever people do with three beds in whatever order, the books agree with a simple model; sixty at once get one."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

from lianxin.pool import exclusive
from lianxin.pool.errors import BookingError
from lianxin.pool.exclusive import Taken
from lianxin.pool.models import LIVE_CLAIMS, Claim
from lianxin.standards import clock

from .test_booking import at, make_person
from .test_concurrency import at_once
from .test_exclusive import bed, ward


class Undo(Exception):
    """Leaves the example's transaction."""


@contextmanager
def undone() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
            raise Undo
    except Undo:
        pass


class Beds(RuleBasedStateMachine):
    """Three beds, four patients, a clock that only goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.undo = undone()
        self.undo.__enter__()
        where = ward()
        self.beds = [bed(where).pk for _ in range(3)]
        self.people = [make_person() for _ in range(4)]
        self.now = at(2, 8)
        self.serial = 0

    def teardown(self) -> None:
        self.undo.__exit__(None, None, None)

    def claims(self, *states: str) -> list[Claim]:
        rows = Claim.objects.unscoped("test").filter(resource_id__in=self.beds)
        return list((rows.filter(state__in=states) if states else rows).order_by("pk"))

    def attempt(self, work: Any) -> None:
        """Do it, or be refused and find that nothing has changed."""
        before = [(c.pk, c.state, c.during) for c in self.claims() if not self.lapsed(c)]
        with clock.at(self.now):
            refused = False
            try:
                with transaction.atomic():
                    work()
            except BookingError:
                refused = True
            if refused:
                after = {c.pk: (c.pk, c.state, c.during) for c in self.claims()}
                assert all(after[row[0]] == row for row in before)

    def lapsed(self, claim: Claim) -> bool:
        return claim.state == "held" and claim.expires_at <= self.now

    def key(self) -> str:
        self.serial += 1
        return f"s{id(self)}-{self.serial}"

    @rule(data=st.data(), start=st.integers(-2, 30), hours=st.integers(1, 40), firm=st.booleans())
    def somebody_wants_a_bed(self, data: Any, start: int, hours: int, firm: bool) -> None:
        chosen, person = data.draw(st.sampled_from(self.beds)), data.draw(st.sampled_from(self.people))
        since = self.now + dt.timedelta(hours=start)
        window = (since, since + dt.timedelta(hours=hours))
        with clock.at(self.now):
            offered = chosen in {r.pk for r in exclusive.find("bed", self.institutions(), *window)}
        has = any(
            c.person_id == person and c.during.lower < window[1] and window[0] < c.during.upper
            for c in self.claims("held", "assigned", "occupied")
            if not self.lapsed(c)
        )
        got: list[Claim] = []
        take = exclusive.book if firm else exclusive.hold
        self.attempt(lambda: got.append(take(chosen, person, *window, self.key())))
        assert bool(got) == (offered and not has), "found exactly when it can be taken"

    def institutions(self) -> list[int]:
        from lianxin.pool.models import Resource

        return list(Resource.objects.filter(pk__in=self.beds).values_list("institution_id", flat=True))

    @precondition(lambda self: self.claims())
    @rule(
        data=st.data(),
        verb=st.sampled_from(["assign", "occupy", "occupy", "vacate", "clean", "cancel", "extend", "move"]),
        hours=st.integers(-3, 50),
    )
    def something_becomes_of_it(self, data: Any, verb: str, hours: int) -> None:
        claim = data.draw(st.sampled_from(self.claims()))
        if verb == "extend":
            until = self.now + dt.timedelta(hours=hours)
            self.attempt(lambda: exclusive.extend(claim, until))
        elif verb == "move":
            other = data.draw(st.sampled_from(self.beds))
            self.attempt(lambda: exclusive.move(claim, other, self.key()))
        elif verb == "cancel":
            self.attempt(lambda: exclusive.cancel(claim, "x"))
        else:
            self.attempt(lambda: getattr(exclusive, verb)(claim))

    @rule(data=st.data(), hours=st.integers(1, 30))
    def out_of_use(self, data: Any, hours: int) -> None:
        chosen = data.draw(st.sampled_from(self.beds))
        until = self.now + dt.timedelta(hours=hours)
        self.attempt(lambda: exclusive.block(chosen, self.now, until, self.key(), "x"))

    @rule(hours=st.sampled_from([1, 3, 9, 30]))
    def time_passes(self, hours: int) -> None:
        self.now += dt.timedelta(hours=hours)

    @invariant()
    def the_books_hold(self) -> None:
        with clock.at(self.now):
            assert exclusive.recount() == []
        live = [c for c in self.claims(*LIVE_CLAIMS) if not self.lapsed(c)]
        for one in live:
            for other in live:
                if one.pk < other.pk and one.resource_id == other.resource_id:
                    assert one.during.upper <= other.during.lower or other.during.upper <= one.during.lower
        stays = Counter(c.resource_id for c in live if c.state in exclusive.STAYS)
        assert all(n == 1 for n in stays.values())


def test_any_order_of_doings_keeps_one_patient_to_a_bed(db: None) -> None:
    run_state_machine_as_test(
        Beds, settings=settings(max_examples=10, stateful_step_count=20, deadline=None, print_blob=True)
    )


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_sixty_at_once_on_one_bed_get_exactly_one() -> None:
    where = ward()
    one, other = bed(where), bed(where)
    people = [make_person() for _ in range(60)]
    with clock.at(at(2, 6)):
        exclusive.hold(one.pk, make_person(), at(2, 6), at(9, 9), "ran out", minutes=5)
    window = (at(3, 9), at(6, 9))
    results = at_once([lambda p=p: exclusive.hold(one.pk, p, *window, f"h{p}") for p in people])
    assert Counter(type(r).__name__ for r in results) == {"Claim": 1, "Taken": 59}
    assert all(r.alternatives == [other] for r in results if isinstance(r, Taken))
    assert exclusive.recount() == []


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_one_patient_on_many_beds_at_once_gets_one() -> None:
    where, person = ward(), make_person()
    beds = [bed(where).pk for _ in range(12)]
    results = at_once(
        [lambda b=b: exclusive.book(b, person, at(3, 9), at(6, 9), f"b{b}") for b in beds]
    )  # fmt: skip
    assert Counter(type(r).__name__ for r in results) == {"Claim": 1, "HasOne": 11}
