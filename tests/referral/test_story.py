"""The golden story on the kernel: up to the hospital, operated, down to the TCM hospital, rounds, down to the township, closed."""

from __future__ import annotations

import datetime as dt

from lianxin.clinical.referral import service
from lianxin.clinical.referral.models import Followup, Letter
from lianxin.duty import proof
from lianxin.duty.models import Case
from lianxin.standards import clock
from tests.referral.world import DOWN_PACK, LETTER, START, World, key

WELL = {"stable": True, "wound_healing": True, "rehabilitation_stage": True}


def test_the_loop_closes_and_nobody_loses_sight(world: World) -> None:
    up = world.until("in_care")
    done = world.act("surgeon", "discharge", up, {"diagnosis_code": "D34", "facts": WELL})
    assert done.act.outcome["more"]["catalogue"] == "ready_down"
    assert world.referral(up).down_proposal["why"]["zh"]

    done = service.propose_down(
        world["surgeon"],
        up,
        {"to_institution": world.county.tcm.code, "specialty": "21", "pack": DOWN_PACK},
        key(),
    )
    down = service.child_number(done)
    assert world.state(down) == "draft"
    assert world.referral(down).parent_id == world.case(up).pk
    world.act("surgeon", "submit", down, {"consent": True, "consent_evidence": "signed"})
    world.act("surgeon", "send_outcome", up, LETTER)

    world.act("tcm_desk", "receive", down)
    world.act("tcm_desk", "accept", down)
    assert not Followup.objects.unscoped("test").exists(), (
        "a hospital is no family doctor: the follow-up waits for the township"
    )
    world.act(
        "tcm_desk",
        "book",
        down,
        {"appointment_at": START + dt.timedelta(days=1), "appointment_note": "康复病区"},
    )
    world.act("tcm_reception", "arrive", down, {"identity": world.person.card_number})
    world.act("tcm_clinician", "start_care", down, {"visit_kind": "inpatient"})
    with clock.at(START + dt.timedelta(days=3)):
        world.act("surgeon", "ward_round", down, {"findings": "切口愈合好", "advice": "继续颈部功能锻炼"})
        assert (
            Letter.objects.unscoped("test").filter(kind="ward_round", referral__case__number=down).count()
            == 1
        )
        done = world.act("gp0", "acknowledge", up, {"medication_reconciled": True})
        assert world.state(up) == "closed"
        first = done.act.outcome["more"]["followup"]
    with clock.at(START + dt.timedelta(days=10)):
        world.act("tcm_clinician", "discharge", down, {"facts": WELL})
        home = service.child_number(
            service.propose_down(
                world["tcm_clinician"], down,
                {"to_institution": world.county.townships[0].code, "specialty": "21", "pack": DOWN_PACK}, key(),
            )
        )  # fmt: skip
        world.act("tcm_clinician", "submit", home, {"consent": True, "consent_evidence": "signed"})
        world.act("gp0", "receive", home)
        done = world.act("gp0", "accept", home)
        second = done.act.outcome["more"]["followup"]
        assert world.case(second).due_at == clock.now() + dt.timedelta(days=7)
        assert (world.case(second).owner_institution_id, world.case(second).owner_role) == (
            world.county.townships[0].pk,
            "family_doctor",
        )
        world.act("tcm_clinician", "send_outcome", down, LETTER)
        world.act("surgeon", "acknowledge", down, {"medication_reconciled": True})
        world.act("gp0", "book", home, {"appointment_at": clock.now() + dt.timedelta(days=1)})
        world.act("gp0", "arrive", home, {"identity": world.person.number})
        world.act("family0", "start_care", home, {"visit_kind": "clinic"})
        world.act("family0", "send_outcome", home, LETTER)
        world.act("tcm_clinician", "acknowledge", home, {"medication_reconciled": True})
        world.act(
            "family0",
            "contact",
            second,
            {"mode": "home", "bp_systolic": 132, "bp_diastolic": 80, "findings": "恢复好"},
        )
        world.act("family0", "finish", second, {"conclusion": "康复良好"})
        world.act("family0", "contact", first, {"mode": "phone", "findings": "同上"})
        world.act("family0", "finish", first, {"conclusion": "已并入康复随访"})
    assert not Case.objects.unscoped("test").filter(terminal=False).exists()
    assert proof.check() == []


def test_a_merge_in_the_index_brings_the_referrals_along(world: World) -> None:
    from lianxin.access.scope import Scope
    from lianxin.clinical.referral.models import Referral
    from lianxin.index import registry
    from tests.referral.world import person_at

    twin = person_at(world.county.townships[0], "单雄信")
    first, second = world.send(), world.send(person=twin)
    twin.__class__.objects.unscoped("test").filter(pk=twin.pk).update(id_blind=None, id_sealed="", id_type="")
    registry.merge(Scope.system("test"), world.person, twin, "同一人")
    rows = Referral.objects.unscoped("test").filter(person=world.person)
    assert {r.case.number for r in rows} == {first, second}
    assert rows.filter(live=True).count() == 1
    world.act("desk", "receive", second)
    assert world.state(second) == "received"
