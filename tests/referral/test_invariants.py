"""The ten invariants of referral_machine.md as properties: random people press random buttons, time travels, timers run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lianxin.clinical.referral import jobs, moves, reasons
from lianxin.clinical.referral.models import Leg, Letter, Referral
from lianxin.duty import escalation, kernel, proof
from lianxin.duty.models import Act, Case, Duty
from lianxin.network.models import Institution
from lianxin.pool import booking
from lianxin.pool.models import Place, Session
from lianxin.standards import calendar, clock
from tests.referral import world as worlds
from tests.referral.world import DOWN_PACK, LETTER, PACK, START, World, key, person_at

ACTORS = [
    "gp0",
    "gp1",
    "family0",
    "desk",
    "surgeon",
    "lead_reception",
    "tcm_desk",
    "tcm_clinician",
    "manager",
    "village0",
    "ward",
]
REASON_SETS = {
    "reject": "reject",
    "cancel": "cancel",
    "close_no_return": "no_return",
    "request_cancel": "cancel",
}
# A hold needs a session with a free number, which may be gone by then: tests/pool walks those.
EVERY = sorted(m.name for m in moves.MOVES if m.sources and m.name != "hold")
WD = 7 * 60 + 30  # working minutes of a day


class Undo(Exception):
    """Leaves the example's transaction."""


@contextmanager
def undone() -> Iterator[None]:
    """Everything inside is rolled back."""
    try:
        with transaction.atomic():
            yield
            raise Undo
    except Undo:
        pass


class Referrals(RuleBasedStateMachine):
    """Two people's referrals in a small county; ``world`` is set by the test."""

    world: World
    others: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self.undo = undone()
        self.undo.__enter__()
        self.now = START
        self.last: tuple[Any, ...] | None = None
        with clock.at(self.now):
            self.sessions = [self.world.session(capacity=1 + n, days=1 + n) for n in range(2)]
        self.ended: set[int] = set()

    def teardown(self) -> None:
        self.undo.__exit__(None, None, None)

    # -------------------------------------------------------------------------------- what happens

    def cases(self) -> list[Case]:
        return list(Case.objects.unscoped("test").filter(kind="referral", terminal=False).order_by("id"))

    @rule(data=st.data())
    def somebody_refers(self, data: Any) -> None:
        person = data.draw(st.sampled_from([self.world.person, *self.others]))
        emergency = data.draw(st.booleans())
        specialty = data.draw(st.sampled_from(["04.01", "03.04"]))
        down = data.draw(st.integers(0, 3)) == 0
        more: dict[str, Any] = {"emergency": emergency, "specialty": specialty}
        if down:
            target = self.world.county.townships[0].code
            more |= {
                "direction": "down",
                "to_institution": target,
                "pack": DOWN_PACK,
                "override_reason": "家属要求",
            }
        with clock.at(self.now), transaction.atomic():
            number = self.world.open("surgeon" if down else "gp0", person, **more)
            assert self.world.state(number) == "draft"

    @initialize(
        state=st.sampled_from(
            ["submitted", "received", "accepted", "booked", "in_care", "discharged", "outcome_sent"]
        )
    )
    def one_is_under_way(self, state: str) -> None:
        with clock.at(self.now), transaction.atomic():
            self.world.until(state)

    @rule(data=st.data())
    @precondition(lambda self: self.cases())
    def somebody_presses_a_button(self, data: Any) -> None:
        self.I7_offered_succeeds_and_the_rest_is_refused(data)

    @rule(data=st.data())
    @precondition(lambda self: self.cases())
    def several_press_one_after_the_other(self, data: Any) -> None:
        for _ in range(6):
            if self.cases():
                self.I7_offered_succeeds_and_the_rest_is_refused(data)

    def I7_offered_succeeds_and_the_rest_is_refused(self, data: Any) -> None:
        """What is offered succeeds with a sound form; what is not offered is refused."""
        case = data.draw(st.sampled_from(self.cases()), label="case")
        offers: dict[str, list[str]] = {}
        with clock.at(self.now):
            for name in ACTORS:
                for offer in kernel.allowed(case, self.world[name]):
                    if offer.ok and offer.name in EVERY:
                        offers.setdefault(offer.name, []).append(name)
            # forward moves are drawn more often, or few referrals would ever get far
            forward = [
                m
                for m in (
                    "submit",
                    "receive",
                    "accept",
                    "book",
                    "arrive",
                    "start_care",
                    "discharge",
                    "send_outcome",
                    "acknowledge",
                )
                if m in offers
            ]
            move = data.draw(st.sampled_from(forward * 4 + sorted(offers) * 2 + EVERY), label="move")
            who = data.draw(st.sampled_from(offers.get(move) or ACTORS), label="actor")
            with transaction.atomic():
                form = self.form(case, move, data)
                used = key()
                if who in offers.get(move, []):
                    done = self.world_execute(move, case, who, form, used)
                    assert done.act.seq == case.version + 1
                    self.last = (move, case.number, who, form, used, done.act.pk)
                else:
                    with pytest.raises(kernel.NotAllowed):
                        self.world_execute(move, case, who, form, used)

    def world_execute(self, move: str, case: Case, who: str, form: dict[str, Any], used: str) -> kernel.Done:
        return kernel.execute(move, case.number, self.world[who], form, case.version, used)

    @rule()
    @precondition(lambda self: self.last)
    def I6_the_same_request_again_gives_the_first_result(self) -> None:
        assert self.last is not None
        move, number, who, form, used, act = self.last
        before = Act.objects.count()
        with clock.at(self.now):
            again = kernel.execute(move, number, self.world[who], form, None, used)
            assert again.replayed
            assert again.act.pk == act
            with pytest.raises(kernel.KeyReused), transaction.atomic():
                kernel.execute("note", number, self.world[who], {"text": "别的"}, None, used)
        assert Act.objects.count() == before

    @rule(data=st.data())
    @precondition(lambda self: self.cases())
    def I6_an_old_version_is_told(self, data: Any) -> None:
        case = data.draw(st.sampled_from(self.cases()))
        with clock.at(self.now):
            who = next(self.world[n] for n in ACTORS if kernel.context(case, self.world[n]).mine)
            with pytest.raises(kernel.Stale) as told, transaction.atomic():
                kernel.execute("note", case.number, who, {"text": "x"}, case.version - 1, key())
        assert told.value.current_version == case.version

    @rule(hours=st.sampled_from([1, 5, 26, 80, 200]))
    def time_passes(self, hours: int) -> None:
        self.now += dt.timedelta(hours=hours)

    @rule()
    def I2_timers_end_nothing(self) -> None:
        before = set(Case.objects.unscoped("test").filter(terminal=True).values_list("pk", flat=True))
        with clock.at(self.now):
            escalation.escalate(clock.now())
            jobs.mark_no_shows()
            booking.sweep()
        assert set(Case.objects.unscoped("test").filter(terminal=True).values_list("pk", flat=True)) == before
        assert not Act.objects.filter(
            account_id=None, client_id=None, to_state__in=["closed", "cancelled", "closed_no_return"]
        ).exists()

    # -------------------------------------------------------------------------------- sound forms

    def form(self, case: Case, move: str, data: Any) -> dict[str, Any]:
        referral = moves.load(case)
        assert referral is not None
        path = {leg.institution_id for leg in Leg.objects.unscoped("test").filter(referral=referral)}
        free = [i for i in [self.world.county.lead, self.world.county.tcm, *self.world.county.townships]
                if i.pk not in path | {referral.from_institution_id}]  # fmt: skip
        elsewhere = free[0].code if free else "none"
        if referral.direction == "down" and free:
            elsewhere = min(free, key=lambda i: i.tier != "township").code
        reason = {
            name: codes for name in reasons.shipped() if (codes := [c for c, _ in reasons.choices(name)])
        }

        def coded(name: str) -> dict[str, Any]:
            return {
                "reason_code": data.draw(st.sampled_from(reason[name])),
                "comment": "说明",
                "question": "问题",
            }

        receiver = referral.to_institution or self.world.county.lead
        below = next(i for i in self.world.county.townships if i.pk != receiver.pk)
        forms: dict[str, dict[str, Any]] = {
            "edit": self.world.draft_data(
                direction=referral.direction, to_institution=receiver.code, specialty=referral.specialty, emergency=referral.emergency,
                pack=DOWN_PACK if referral.direction == "down" else PACK, override_reason="x",
            ),
            "submit": {"consent": True, "consent_evidence": "signed"},
            "ask_info": coded("question"), "answer_info": {"text": "答"}, "note": {"text": "留言"}, "interim_note": {"text": "进展"},
            "accept": {"waitlist": data.draw(st.booleans())},
            "accept_other": {"priority": data.draw(st.sampled_from(["routine", "urgent", "emergency"])), **coded("priority")},
            "return_with_advice": {"advice": "建议"}, "reject": coded("reject"), "redirect": {"to_institution": elsewhere, **coded("redirect")},
            "resend": {"to_institution": elsewhere}, "book": self.slot(case, referral, data), "rebook": self.slot(case, referral, data),
            "reschedule": {"appointment_at": self.now + dt.timedelta(days=2), **coded("slot")},
            "slot_cancelled_by_provider": coded("slot"), "slot_cancelled_by_patient": coded("slot"),
            "arrive": {"identity": case.person.number}, "arrive_green": {"identity": case.person.card_number},
            "start_care": {"visit_kind": data.draw(st.sampled_from(["clinic", "inpatient"]))},
            "discharge": {"facts": {"stable": True, "wound_healing": True}}, "decline_down": coded("not_down"), "send_outcome": LETTER,
            "acknowledge": {"medication_reconciled": True}, "dispute": coded("dispute"), "cancel": coded("cancel"),
            "request_cancel": coded("cancel"), "agree_cancel": {"comment": "同意"}, "refuse_cancel": {"comment": "不同意"},
            "close_no_return": coded("no_return"), "settle_return": coded("settle"),
            "backfill": {"consent_evidence": "emergency", "comment": "补记"},
            "propose_down": {"to_institution": below.code, "pack": DOWN_PACK}, "ward_round": {"findings": "a", "advice": "b"},
        }  # fmt: skip
        return forms.get(move, {})

    def slot(self, case: Case, referral: Referral, data: Any) -> dict[str, Any]:
        """A session with a free number when there is one, else a time of the receiver's own."""
        for session in Session.objects.filter(pk__in=[s.pk for s in self.sessions], ends_at__gt=self.now):
            taken = (
                Place.objects.unscoped("test")
                .filter(session=session, person_id=case.person_id)
                .exclude(state="cancelled")
            )
            room = session.capacity - session.taken
            if (
                room
                and not taken.exists()
                and referral.to_institution_id == session.institution_id
                and data.draw(st.booleans())
            ):
                return {"session": session.pk}
        return {"appointment_at": self.now + dt.timedelta(days=1)}

    # -------------------------------------------------------------------------------- what must hold

    def rows(self) -> list[Referral]:
        return list(Referral.objects.unscoped("test").select_related("case"))

    @invariant()
    def I1_every_open_referral_has_one_owner_and_one_due(self) -> None:
        for case in Case.objects.unscoped("test"):
            open_duties = Duty.objects.unscoped("test").filter(case=case, ended="")
            if case.terminal:
                assert not open_duties.exists()
                continue
            owned = {(d.owner_institution_id, d.owner_role, d.due_at) for d in open_duties}
            assert (case.owner_institution_id, case.owner_role, case.due_at) in owned

    @invariant()
    def I3_an_ended_referral_keeps_no_booking(self) -> None:
        for row in self.rows():
            if row.case.terminal:
                assert (row.booking, row.live, row.place_id) == ("none", False, None)
                assert (
                    not Place.objects.unscoped("test")
                    .filter(case_id=row.pk, state__in=["held", "booked", "arrived"])
                    .exists()
                )
        assert booking.recount() == []

    @invariant()
    def I4_rejecting_and_cancelling_have_a_reason_of_that_day(self) -> None:
        for act in Act.objects.filter(move__in=REASON_SETS):
            day = act.at.astimezone(clock.ZONE).date()
            comment = act.form.get("comment") or ""
            assert reasons.check(REASON_SETS[act.move], act.form["reason_code"], comment, day) is None

    @invariant()
    def I5_legs_form_a_path_without_repeats(self) -> None:
        for row in self.rows():
            legs = list(Leg.objects.unscoped("test").filter(referral=row).order_by("number"))
            assert [leg.number for leg in legs] == list(range(1, len(legs) + 1))
            visited = [leg.institution_id for leg in legs]
            assert len(set(visited)) == len(visited) <= 4
            assert row.from_institution_id not in visited
            assert row.hops == max(0, len(legs) - 1)

    @invariant()
    def I8_closed_means_the_letter_was_acknowledged(self) -> None:
        for row in self.rows():
            if row.case.state == "closed":
                letter = Letter.objects.unscoped("test").filter(referral=row, kind="outcome").latest("number")
                assert letter.acknowledged_at is not None
                assert letter.medication_reconciled

    @invariant()
    def I9_clocks_count_working_time_and_bounded_pauses(self) -> None:
        for duty in Duty.objects.unscoped("test").filter(
            kind="decide", ended="", paused_since=None, spec__endswith="wd"
        ):
            own = calendar.working_minutes(duty.opened_at, calendar.due(duty.opened_at, duty.spec))
            assert calendar.working_minutes(duty.opened_at, duty.due_at) == own + duty.paused_minutes
            assert duty.paused_minutes <= 10 * WD

    @invariant()
    def I10_the_acts_replay_to_the_row(self) -> None:
        assert proof.check() == []
        for row in self.rows():
            assert {"info": row.info, "booking": row.booking, "cancel": row.cancel} == row.case.facts


def test_I1_to_I10_hold_whatever_people_press(db: None) -> None:
    with clock.at(START):
        world = worlds.build()
        others = [person_at(world.county.townships[0], "尤俊达")]
        for person in [world.person, *others]:
            from lianxin.access import relationships

            relationships.grant(person.pk, world.county.lead.pk, "encounter", f"test:{person.pk}")
    machine = type("Play", (Referrals,), {"world": world, "others": others})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12, stateful_step_count=16, deadline=None, print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
        ),
    )  # fmt: skip


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.integers(0, 3000), rested=st.integers(0, 20000))
def test_I9_a_question_rests_the_clock_no_longer_than_the_policy(
    world: World, asked: int, rested: int
) -> None:
    with undone():
        number = world.until("received")
        first = Duty.objects.unscoped("test").get(case__number=number, kind="decide").due_at
        ask_at = START + dt.timedelta(minutes=asked)
        answer_at = ask_at + dt.timedelta(minutes=rested)
        with clock.at(ask_at):
            world.act("desk", "ask_info", number, {"reason_code": "consent", "question": "?"})
        with clock.at(answer_at):
            world.act("gp0", "answer_info", number, {"text": "!"})
        due = Duty.objects.unscoped("test").get(case__number=number, kind="decide").due_at
        if ask_at >= first:
            assert due == first, "late already: a pause forgives nothing"
        else:
            allowed = calendar.working_minutes(ask_at, calendar.due(ask_at, "10wd"))
            paused = min(calendar.working_minutes(ask_at, answer_at), allowed)
            assert calendar.working_minutes(START, due) == calendar.working_minutes(START, first) + paused


@pytest.mark.parametrize("code", ["paper_form", "", "nothing", "not_indicated"])
def test_I4_a_bad_reason_is_refused_and_changes_nothing(world: World, code: str) -> None:
    number = world.until("received")
    with pytest.raises(kernel.Refused):
        world.act("desk", "reject", number, {"reason_code": code})
    assert world.state(number) == "received"
    with clock.at(START.replace(year=2023)):
        assert reasons.check("reject", "paper_form", "", None) is None, "it was valid then"


def test_I5_the_database_itself_refuses_a_second_visit_and_a_fifth_leg(world: World) -> None:
    from django.db import IntegrityError

    number = world.send()
    referral = world.referral(number)
    for n, institution in ((2, world.county.lead), (5, world.county.tcm)):
        with pytest.raises(IntegrityError), transaction.atomic():
            Leg.objects.create(
                referral=referral,
                person_id=referral.person_id,
                number=n,
                institution=institution,
                opened_at=START,
                status="redirected",
            )
    with pytest.raises(IntegrityError), transaction.atomic():
        Referral.objects.unscoped("test").filter(pk=referral.pk).update(ended_at=START)
    assert Institution.objects.exists()
