"""Number, examinations and bed of one referral: taken together, given back together, owed again when a session stops."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from lianxin.clinical.places import consents
from lianxin.clinical.places.consents import Given
from lianxin.clinical.referral import displaced, jobs
from lianxin.clinical.referral.print import html as form_html
from lianxin.duty import kernel, outbox, proof
from lianxin.duty.models import Act, Duty, Notice
from lianxin.pool import booking, exams, exclusive, plan
from lianxin.pool.models import Claim, Place
from lianxin.standards import clock

from .conftest import As, House


def wish(house: House, *codes: str, **more: Any) -> plan.Plan:
    world = house.world
    wanted = plan.Wanted(codes, specialty="04.01", **{"clinic": True, "bed": True} | more)
    found = plan.plans(wanted, world.person.pk, world.county.lead.pk, "township", sex=world.person.sex)
    return found[0]


def arranged(house: House, by: str = "gp0", *codes: str) -> str:
    """A referral booked as a whole plan; its number."""
    number = house.world.until("accepted")
    house.world.act(by, "book", number, {"plan": wish(house, *(codes or ("CT-CHEST",))).token})
    return number


def live(house: House, number: str) -> tuple[int, int]:
    case = house.world.case(number).pk
    places = Place.objects.unscoped("test").filter(case_id=case, state__in=("held", "booked", "arrived"))
    return places.count(), Claim.objects.unscoped("test").filter(
        case_id=case, state__in=("held", "assigned")
    ).count()


def test_the_township_takes_number_ct_and_bed_at_once(house: House) -> None:
    number = arranged(house)
    referral = house.world.referral(number)
    assert house.world.state(number) == "booked"
    assert live(house, number) == (2, 1)
    assert referral.place is not None
    assert referral.place.session_id == house.clinic.pk
    assert referral.appointment_at == house.ct.starts_at, "when the patient has to be there"
    claim = exclusive.of_case(referral.pk)[0]
    assert (claim.resource, claim.state) == (house.beds[1], "assigned"), (
        "the women's bed before the one for anybody"
    )
    assert "胸部 CT 平扫" in form_html(referral)


@pytest.mark.parametrize(
    ("who", "move", "form"),
    [
        ("desk", "slot_cancelled_by_provider", {"reason_code": "stopped"}),
        ("gp0", "slot_cancelled_by_patient", {"reason_code": "patient_time"}),
        ("desk", "redirect", None),
        ("gp0", "close_no_return", {"reason_code": "treated_elsewhere", "comment": "x"}),
    ],
)
def test_whatever_ends_the_booking_gives_all_of_it_back(
    house: House, who: str, move: str, form: dict[str, Any] | None
) -> None:
    from lianxin.clinical.referral import reasons

    number = arranged(house)
    if move == "redirect":
        house.world.act(
            "desk",
            "slot_cancelled_by_provider",
            number,
            {"reason_code": reasons.choices("slot")[0][0], "comment": "x"},
        )
        form = {"to_institution": house.world.county.tcm.code, "reason_code": "capacity"}
    elif form is not None:
        name = "slot" if move.startswith("slot") else "no_return"
        form = {"reason_code": reasons.choices(name)[0][0], "comment": "x"}
    house.world.act(who, move, number, form)
    assert live(house, number) == (0, 0)
    assert booking.recount() == []
    assert exclusive.recount() == []


def test_arrival_keeps_examinations_and_bed_and_discharge_empties_it(house: House) -> None:
    number = arranged(house)
    world, case = house.world, house.world.case(number).pk
    with clock.at(world.referral(number).appointment_at or clock.now()):
        world.act("lead_reception", "arrive", number, {"identity": world.person.number})
        assert live(house, number) == (2, 1)
        claim = exclusive.of_case(case)[0]
        exclusive.occupy(claim)
        world.act("surgeon", "start_care", number, {"visit_kind": "inpatient"})
        world.act("surgeon", "discharge", number)
        assert Claim.objects.unscoped("test").get(pk=claim.pk).state == "ended"
        assert exclusive.standing([claim.resource])[claim.resource_id].state == "cleaning"


def test_a_no_show_gives_back_what_lies_ahead(house: House) -> None:
    number = arranged(house)
    end = house.world.referral(number).appointment_end
    assert end == house.clinic.ends_at
    with clock.at(end + dt.timedelta(days=1)):
        assert jobs.mark_no_shows() == 1
    assert house.world.state(number) == "no_show"
    assert live(house, number) == (0, 0)
    states = Place.objects.unscoped("test").values_list("state", flat=True)
    assert set(states) == {"no_show"}
    assert booking.recount() == []


def test_another_plan_replaces_the_first(house: House) -> None:
    from lianxin.clinical.referral import reasons

    number = arranged(house)
    why = reasons.choices("slot")[0][0]
    other = wish(house, "US-HEART", bed=False)
    house.world.act("gp0", "reschedule", number, {"plan": other.token, "reason_code": why, "comment": "x"})
    assert live(house, number) == (2, 0)
    assert {p.item for p in Place.objects.unscoped("test").filter(state="booked")} == {"", "US-HEART"}


@pytest.mark.parametrize("which", ["ct", "clinic"])
def test_a_stopped_session_makes_the_booking_owed_again(house: House, which: str) -> None:
    number = arranged(house)
    booking.stop_session(getattr(house, which).pk, "设备故障")
    case = house.world.case(number)
    assert (case.state, case.facts["booking"]) == ("accepted", "none")
    assert live(house, number) == (0, 0)
    duty = Duty.objects.unscoped("test").get(case=case, ended="")
    assert (duty.kind, duty.owner_role) == ("book", "referral_desk")
    told = Notice.objects.filter(case=case, text_zh__contains="停诊")
    assert {n.institution_id for n in told} == {
        house.world.county.lead.pk,
        house.world.county.townships[0].pk,
    }
    assert proof.check() == []


def test_told_twice_or_later_it_moves_once(house: House) -> None:
    number = arranged(house)
    lost = Place.objects.unscoped("test").get(item="CT-CHEST")
    booking.stop_session(house.ct.pk, "设备故障")
    displaced.settle(number, lost.pk)
    house.world.act("desk", "book", number, {"session": house.clinic.pk})
    outbox.emit(displaced.TOPIC, number, {"case": number, "place": lost.pk})
    outbox.dispatch()
    assert house.world.state(number) == "booked"
    assert Act.objects.filter(move="displaced").count() == 1


def test_a_stopped_examination_of_somebody_already_here_tells_and_moves_nothing(house: House) -> None:
    number = arranged(house)
    house.world.act("lead_reception", "arrive", number, {"identity": house.world.person.number})
    booking.stop_session(house.ct.pk, "设备故障")
    assert house.world.state(number) == "arrived"
    assert Act.objects.filter(move="part_lost").count() == 1


def test_contrast_needs_consent_and_the_township_takes_it(house: House) -> None:
    world = house.world
    number = world.until("accepted")
    best = wish(house, "CT-ABDO-C")
    with pytest.raises(kernel.Refused) as refused:
        world.act("gp0", "book", number, {"plan": best.token})
    assert "知情同意" in refused.value.errors["plan"].zh
    assert live(house, number) == (0, 0)
    for bad in (Given("spoken"), Given("signed", scan=b"text"), Given("")):
        with pytest.raises(kernel.Refused):
            consents.take(world["gp0"], world.person.pk, ["CT-ABDO-C"], bad)
    consents.take(world["gp0"], world.person.pk, ["CT-ABDO-C"], Given("spoken", "王见证"))
    world.act("gp0", "book", number, {"plan": best.token})
    assert live(house, number) == (2, 1)
    with clock.at(clock.now() + dt.timedelta(days=40)):
        assert exams.missing(world.person.pk, [exams.item("CT-ABDO-C")]) is not None, "it held for a month"


def test_somebody_faster_gives_the_next_plan_of_the_day(house: House) -> None:
    number = house.world.until("accepted")
    best = wish(house, "CT-CHEST")
    from tests.pool.test_booking import make_person

    exclusive.book(
        best.bed.resource_id if best.bed else 0,
        _woman(make_person()),
        best.at,
        best.at + dt.timedelta(days=3),
        "faster",
    )
    house.world.act("desk", "book", number, {"plan": best.token})
    assert exclusive.of_case(house.world.case(number).pk)[0].resource == house.beds[0]


def _woman(pk: int) -> int:
    from lianxin.index.models import Person

    Person.objects.unscoped("test").filter(pk=pk).update(sex="female")
    return pk


def test_a_consortium_may_keep_beds_to_the_receiver(house: House) -> None:
    number = house.world.until("accepted")
    consortium = house.world.county.consortium
    consortium.rules = {"referral": {"plan.referrer_beds": False}}
    consortium.save()
    token = wish(house, "CT-CHEST").token
    with pytest.raises(kernel.Refused, match="接诊机构"):
        house.world.act("gp0", "book", number, {"plan": token})
    house.world.act("gp0", "book", number, {"plan": wish(house, "CT-CHEST", bed=False).token})
    assert live(house, number) == (2, 0)


def test_nothing_left_is_said_in_words_and_changes_nothing(house: House) -> None:
    number = house.world.until("accepted")
    best = wish(house, "CT-CHEST")
    for bed in house.beds:
        exclusive.block(bed.pk, clock.now(), None, f"b{bed.pk}", "维修")
    with pytest.raises(kernel.Refused) as refused:
        house.world.act("desk", "book", number, {"plan": best.token})
    assert "约走" in refused.value.errors["plan"].zh
    assert live(house, number) == (0, 0)
    for bad in ("{}", "x", '{"s":[["clinic",1,99999]],"b":null}'):
        with pytest.raises(kernel.Refused):
            house.world.act("desk", "book", number, {"plan": bad})


def test_the_page_offers_the_plan_and_books_it_in_one_form(house: House, as_: As) -> None:
    world = house.world
    number = world.until("accepted")
    gp = as_("gp0")
    assert f"/referrals/{number}/plan" in gp.get(f"/referrals/{number}").content.decode()
    query = {"asked": "1", "clinic": "1", "bed": "1", "results": "1", "exam": ["CT-ABDO-C"]}
    page = gp.get(f"/referrals/{number}/plan", query, headers={"hx-request": "true"}).content.decode()
    assert page.count("data-plan") == 1
    assert "joint-consent" in page
    assert "禁食 6 小时" in page
    token = wish(house, "CT-ABDO-C").token
    form = {**query, "plan": token, "_key": "one", "agree": "1", "how": "spoken", "_move": "book"}
    refused = gp.post(f"/referrals/{number}/plan", form)
    assert refused.status_code == 422
    assert "见证人" in refused.content.decode()
    for _ in range(2):  # a double click
        done = gp.post(f"/referrals/{number}/plan", form | {"witness": "王见证"})
        assert done.status_code == 302
    assert live(house, number) == (2, 1)
    shown = gp.get(f"/referrals/{number}").content.decode()
    assert "造影剂知情同意已记录" in shown
    assert "床位 W2" in shown
    sheet = gp.get(f"/referrals/{number}/preparation.pdf")
    assert sheet.content.startswith(b"%PDF")
    assert as_("gp1").get(f"/referrals/{number}/plan").status_code == 404
    assert gp.get(f"/referrals/{number}/plan").status_code == 200
    empty = gp.get(f"/referrals/{number}/plan", {"asked": "1"}, headers={"hx-request": "true"})
    assert "至少选择一项" in empty.content.decode()
