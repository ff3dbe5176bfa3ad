"""Any interleaving of what people and the clock do to a consultation keeps what must never break.

One open duty at least while it is open and none after; one live host at most; access exactly for the institutions that play a part; an
opinion never changes; the act log replays to what stands; the offered moves are the moves that succeed.
"""

from __future__ import annotations

import datetime as dt
from contextlib import ExitStack
from itertools import count

import pytest
from django.db import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from lianxin.access import relationships
from lianxin.duty import kernel, proof
from lianxin.duty.errors import MoveError
from lianxin.duty.models import Case, CaseParty, Duty
from lianxin.regional.consult import diagram, moves, service
from lianxin.regional.consult.models import Opinion, Seat
from lianxin.standards import clock
from tests.consult import world

pytestmark = pytest.mark.django_db
WHO = ("gp0", "desk", "clinician", "surgeon", "tcm_clinician", "gp1")
_keys = count(1)


class Consultations(RuleBasedStateMachine):
    """One consultation, three experts of two hospitals, the desk, the requester and somebody who has no part in it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(transaction.atomic())
        self.county = world.make_world()
        self.scopes = {key: world.scope_of(self.county, key) for key in WHO}
        self.experts = [
            str(world.expert(self.county, key).pk) for key in ("clinician", "surgeon", "tcm_clinician")
        ]
        self.consult = world.ask(self.county, priority="urgent")
        self.now = clock.now()
        self.said: dict[int, str] = {}

    def teardown(self) -> None:
        """The act log replays to what stands; then everything goes back."""
        assert proof.check() == []
        transaction.set_rollback(True)
        self.stack.close()

    def case(self) -> Case:
        """The case as it stands."""
        found: Case = Case.objects.unscoped("test").get(pk=self.consult.pk)
        return found

    @rule(
        who=st.sampled_from(WHO),
        move=st.sampled_from([m.name for m in moves.MOVES if m.sources and not m.system]),
        n=st.integers(0, 2),
    )
    def act(self, who: str, move: str, n: int) -> None:
        """Somebody tries a move with a form that is good; it succeeds exactly when it was offered."""
        form = {
            "experts": [self.experts[n], self.experts[(n + 1) % 3]], "expert": self.experts[n], "reason": f"说明{next(_keys)}", "code": "other" if move == "decline" else "both",
            "impression": f"印象{next(_keys)}", "advice": "建议观察", "action": "followed",
            "scheduled_at": (self.now + dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M"),
        }  # fmt: skip
        with clock.at(self.now):
            offered = {a.name: a.ok for a in kernel.allowed(self.case(), self.scopes[who])}
            try:
                with transaction.atomic():
                    service.act(
                        self.scopes[who], self.consult.case.number, move, form, None, f"m{next(_keys)}"
                    )
                done = True
            except kernel.Refused:
                done = True  # offered, and the form (an expert who sits already) was not
            except MoveError:
                done = False
        assert done == offered.get(move, False)

    @rule(minutes=st.sampled_from([5, 130, 600]))
    def time_passes(self, minutes: int) -> None:
        """The ticker gives what nobody answered back to the desk."""
        self.now += dt.timedelta(minutes=minutes)
        with clock.at(self.now):
            service.unanswered()

    @invariant()
    def somebody_owes_while_it_is_open(self) -> None:
        """And nobody afterwards."""
        case = self.case()
        owed = Duty.objects.unscoped("test").filter(case_id=case.pk, ended="").count()
        assert (owed == 0) == case.terminal

    @invariant()
    def one_host_and_parts_are_seats(self) -> None:
        """A live seat is a part of its institution; at most one of them hosts."""
        live = list(Seat.objects.unscoped("test").filter(consult=self.consult).exclude(state="left"))
        assert sum(s.host for s in live) <= 1
        parts = dict(
            CaseParty.objects.filter(case_id=self.consult.pk, until_seq=None).values_list(
                "part", "institution_id"
            )
        )
        assert parties_of(parts) == {s.part: s.institution_id for s in live} or self.case().terminal

    @invariant()
    def access_follows_the_part(self) -> None:
        """The TCM hospital reads the record while it sits at the table, and not otherwise."""
        if self.case().terminal:
            return
        sits = (
            Seat.objects.unscoped("test")
            .filter(consult=self.consult, institution=self.county.tcm)
            .exclude(state="left")
            .exists()
        )
        with clock.at(self.now + dt.timedelta(seconds=1)):
            assert relationships.sees(self.scopes["tcm_clinician"], self.consult.person_id) == sits

    @invariant()
    def what_was_signed_stands(self) -> None:
        """No opinion that was ever seen is different now."""
        for row in Opinion.objects.unscoped("test").filter(consult=self.consult):
            assert self.said.setdefault(row.pk, row.impression) == row.impression


def parties_of(parts: dict[str, int]) -> dict[str, int]:
    """The parts that are seats."""
    return {p: i for p, i in parts.items() if p.startswith("seat")}


def test_any_interleaving() -> None:
    run_state_machine_as_test(
        Consultations, settings=settings(max_examples=6, stateful_step_count=18, deadline=None)
    )


def test_the_page_of_the_table_is_true() -> None:
    assert diagram.PAGE.read_text("utf-8") == diagram.page(), "run python -m lianxin.regional.consult.diagram"
