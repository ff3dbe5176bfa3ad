"""Random moves by random parties at random times: the invariants of referral_machine.md hold after every step."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.duty import escalation, kernel, proof
from lianxin.duty.kernel import NotAllowed, Refused, Stale
from lianxin.duty.models import Act, Case, Duty
from lianxin.standards import calendar, clock

from .toy import MACHINE, World, monday

pytestmark = pytest.mark.django_db

ACTORS = ("gp", "desk", "reader", "second_reader", "office", "stranger", "system")
MOVES = [m.name for m in MACHINE.moves if m.sources] + ["unheard_of"]
STEP = st.tuples(
    st.sampled_from(ACTORS),
    st.sampled_from(MOVES),
    st.booleans(),  # a good form?
    st.sampled_from(["", "repeat", "stale"]),
    st.integers(0, 3000),  # minutes that pass
)


def _form(world: World, move: str, good: bool) -> dict[str, Any]:
    if move == "refuse":
        return {"reason": "scope" if good else "mood"}
    if move == "pass_on":
        return {"to": world.second.pk if good else "somewhere"}
    return {}


def _takes_form(move: str) -> bool:
    found = MACHINE.move(move)
    return found is not None and found.form is not None


class Player:
    """Plays steps on one case and asks the invariants after each."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.number = world.open().case.number
        self.version = 1

    def case(self) -> Case:
        return Case.objects.unscoped("test").get(number=self.number)

    def play(self, actor: str, move: str, good: bool, twist: str) -> None:
        world, before = self.world, self.case()
        by = Scope.system("test") if actor == "system" else getattr(world, actor)
        offered = {a.name for a in kernel.allowed(before, by) if a.ok}
        form, key = _form(world, move, good), world.key()
        version = before.version - 1 if twist == "stale" else before.version
        done: kernel.Done | None = None
        failure: Exception | None = None
        try:
            done = kernel.execute(move, self.number, by, form, version, key)
        except (Stale, NotAllowed, Refused) as raised:
            failure = raised
        if isinstance(failure, Stale):
            assert twist == "stale"
            assert failure.current_version == before.version
        if isinstance(failure, NotAllowed):
            assert move not in offered, failure.text  # I7
            assert failure.text.zh
            assert failure.text.en
        if isinstance(failure, Refused):
            assert not good  # I4: a reason that is not in the list never gets in
            assert _takes_form(move)
            assert failure.errors
        after = self.case()
        if done is None:
            assert after.version == before.version
            return
        assert twist != "stale"
        assert move in offered or by.everything  # I7
        assert after.version == before.version + 1
        if by.everything:
            assert not after.terminal  # I2
        if twist == "repeat":  # I6
            again = kernel.execute(move, self.number, by, form, version, key)
            assert again.replayed
            assert again.act.pk == done.act.pk
            assert self.case().version == after.version

    def ask(self) -> None:
        case = self.case()
        duties = list(Duty.objects.unscoped("test").filter(case=case))
        running = [d for d in duties if not d.ended]
        if case.terminal:
            assert not running
            assert case.owner_institution_id is None
        else:  # I1
            leads = [
                d for d in running
                if (d.owner_institution_id, d.owner_role, d.due_at)
                == (case.owner_institution_id, case.owner_role, case.due_at)
            ]  # fmt: skip
            assert leads
            for duty in running:
                reader = World.scope(self.world.hospital, "clinician")
                reader = Scope(institution_ids=frozenset({duty.owner_institution_id}), roles=reader.roles)
                assert relationships.sees(reader, case.person_id)
        for duty in duties:  # I9
            assert duty.due_at >= duty.opened_at or duty.since == "pathway"
            allowance = calendar.working_minutes(monday(), calendar.due(monday(), "2wd"))
            assert 0 <= duty.paused_minutes <= allowance
        assert proof.replay(case) == proof.standing(  # I10
            case, running, case.party_rows.filter(until_seq=None)
        )


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=4, max_size=14))
def test_invariants(steps: list[tuple[str, str, bool, str, int]]) -> None:
    with transaction.atomic():
        now = monday()
        with clock.at(now):
            player = Player(World())
        for actor, move, good, twist, minutes in steps:
            now += dt.timedelta(minutes=minutes)
            with clock.at(now):
                state = player.case().state
                escalation.escalate()
                assert player.case().state == state  # I2
                player.play(actor, move, good, twist)
                player.ask()
        assert proof.check() == []
        assert Act.objects.filter(case=player.case()).count() == player.case().version
        transaction.set_rollback(True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2000)), min_size=2, max_size=12))
def test_a_paused_clock_keeps_what_was_left(marks: list[tuple[bool, int]]) -> None:
    """I9 on the arithmetic alone: due = working time of the span plus the working time paused within the allowance."""
    from lianxin.duty import clocks
    from lianxin.duty.plan import Owed
    from lianxin.standards.text import T

    now = monday()
    duty = Owed(
        kind="x", label=T("", ""), party="p", institution_id=1, role="r", account_id=None, button="", clock="c",
        spec="9wd", since="now", opened_at=now, due_at=calendar.due(now, "9wd"),
    )  # fmt: skip
    total = calendar.working_minutes(now, duty.due_at)
    for pausing, minutes in marks:
        now += dt.timedelta(minutes=minutes)
        if pausing:
            clocks.pause(duty, now, "2wd")
        else:
            clocks.resume(duty, now)
        if duty.paused_since is None:
            assert calendar.working_minutes(monday(), duty.due_at) == total + duty.paused_minutes
        assert duty.paused_minutes <= calendar.working_minutes(monday(), calendar.due(monday(), "2wd"))
