"""Bed board, examinations, theatres: who sees what, what a ward does with a bed, double clicks, refusals in words."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

from django.http import HttpResponse

from lianxin.access import relationships
from lianxin.pool import exclusive
from lianxin.pool.models import Claim, Place, Resource
from lianxin.standards import clock
from tests.factories import make_institution
from tests.referral.world import person_at

from .conftest import As, House

FAR = "2026-03-09T12:00"


def text(response: HttpResponse, status: int = 200) -> str:
    assert response.status_code == status
    return response.content.decode()


def known(house: House) -> str:
    """The patient's number, their care now the lead hospital's too."""
    relationships.grant(house.world.person.pk, house.world.county.lead.pk, "encounter", "test")
    return house.world.person.number


def test_townships_see_counts_and_no_name(house: House, as_: As) -> None:
    claim = exclusive.book(
        house.beds[0].pk, house.world.person.pk, clock.now(), clock.now() + dt.timedelta(days=3), "a"
    )
    exclusive.occupy(claim)
    for who in ("gp0", "village0", "tcm_desk"):
        page = text(as_(who).get("/beds"))
        assert "外科" in page
        assert house.world.person.name not in page
        assert "/now" not in page
    page = text(as_("ward").get("/beds"))
    assert house.world.person.name in page
    assert f"/beds/{house.beds[0].pk}/vacate/now" in page
    manager = text(as_("manager").get("/beds"))
    assert "/now" not in manager, "a manager looks"
    assert as_("pharmacist").get("/beds").status_code == 403


def test_a_bed_is_assigned_occupied_vacated_and_cleaned_from_the_board(house: House, as_: As) -> None:
    number, bed, ward = known(house), house.beds[0], as_("ward")
    form = {"person": number, "until": FAR, "_key": "one"}
    for _ in range(2):  # a double click
        assert ward.post(f"/beds/{bed.pk}/book", form).status_code == 302
    claim = Claim.objects.unscoped("test").get()
    for verb, state in (("occupy", "occupied"), ("vacate", "cleaning"), ("clean", "free")):
        page = text(ward.get("/beds"))
        found = re.search(rf'/beds/{bed.pk}/{verb}/now".*?name="claim" value="(\d+)"', page, re.S)
        assert found
        assert ward.post(f"/beds/{bed.pk}/{verb}/now", {"claim": found[1]}).status_code == 302
        assert exclusive.standing([bed])[bed.pk].state == state
    assert Claim.objects.unscoped("test").get(pk=claim.pk).state == "ended"


def test_what_cannot_be_is_said_on_the_page(house: House, as_: As) -> None:
    number, bed, ward = known(house), house.beds[0], as_("ward")
    path = f"/beds/{bed.pk}/book"
    assert "没有找到该患者" in text(ward.post(path, {"person": "nobody", "until": FAR}), 409)
    assert "预计离开" in text(ward.post(path, {"person": number, "until": "soon"}), 409)
    ward.post(path, {"person": number, "until": FAR, "_key": "one"})
    other = person_at(house.world.county.townships[0], "尤俊达")
    assert ward.post(path, {"person": other.number, "until": FAR}).status_code == 403, "no care relationship"
    relationships.grant(other.pk, house.world.county.lead.pk, "encounter", "test:2")
    page = text(ward.post(path, {"person": other.number, "until": FAR}), 409)
    assert "已有安排" in page
    assert house.beds[1].code in page, "the other bed is offered"
    assert "原因" in text(ward.post(f"/beds/{house.beds[1].pk}/block", {"reason": ""}), 409)
    for verb in ("nonsense", "occupy"):
        assert ward.post(f"/beds/{bed.pk}/{verb}", {"claim": "x"}).status_code == 404


def test_only_the_own_institution_acts_on_its_beds(house: House, as_: As) -> None:
    foreign = make_institution(kind="hospital")
    bed = Resource.objects.create(institution=foreign, kind="bed", code="F1", name="外院床")
    assert as_("ward").post(f"/beds/{bed.pk}/block", {"reason": "x"}).status_code == 404
    assert as_("gp0").post(f"/beds/{house.beds[0].pk}/block", {"reason": "x"}).status_code == 403
    assert "外院床" not in text(as_("ward").get("/beds"))
    assert not Claim.objects.unscoped("test").exists()


def test_prolonging_moving_and_out_of_use(house: House, as_: As) -> None:
    number, ward = known(house), as_("desk")
    one, other = house.beds
    ward.post(f"/beds/{one.pk}/book", {"person": number, "until": FAR, "_key": "one"})
    claim = Claim.objects.unscoped("test").get()
    exclusive.occupy(claim)
    assert (
        ward.post(f"/beds/{one.pk}/extend", {"claim": claim.pk, "until": "2026-03-12T12:00"}).status_code
        == 302
    )
    assert "将来" in text(
        ward.post(f"/beds/{one.pk}/extend", {"claim": claim.pk, "until": "2025-01-01T12:00"}), 409
    )
    assert str(other.code) in text(ward.get(f"/beds/{one.pk}/move"))
    assert (
        ward.post(f"/beds/{one.pk}/move", {"claim": claim.pk, "to": other.pk, "_key": "m"}).status_code == 302
    )
    assert exclusive.standing(house.beds)[other.pk].state == "occupied"
    assert (
        ward.post(
            f"/beds/{one.pk}/clean/now", {"claim": exclusive.standing([one])[one.pk].claim.pk}
        ).status_code
        == 302
    )  # type: ignore[union-attr]
    assert ward.post(f"/beds/{one.pk}/block", {"reason": "检修"}).status_code == 302
    assert "检修" in text(ward.get("/beds"))


def _book(house: House, **more: Any) -> dict[str, Any]:
    return {
        "item": "CT-CHEST", "person": house.world.person.number, "session": house.ct.pk, "_key": "one", **more,
    }  # fmt: skip


def test_a_township_finds_books_prints_and_cancels_an_examination(house: House, as_: As) -> None:
    gp, number = as_("gp0"), house.world.person.number
    page = text(gp.get(f"/exams?item=CT-CHEST&person={number}"))
    assert f'value="{house.ct.pk}"' in page
    assert "练习屏气" in page
    for _ in range(2):
        done = gp.post("/exams/book", _book(house))
        assert done.status_code == 302
    place = Place.objects.unscoped("test").get()
    assert (place.item, place.units, place.channel) == ("CT-CHEST", 1, "township")
    assert "练习屏气" in text(gp.get(done["Location"]))
    assert gp.get(f"/exams/{place.pk}/sheet.pdf").content.startswith(b"%PDF")
    assert as_("gp1").get(f"/exams/{place.pk}").status_code == 404
    assert "重叠" in text(
        gp.post("/exams/book", _book(house, item="US-HEART", session=house.us.pk, seat="1", _key="2")), 409
    )
    desk = as_("lead_reception")
    assert house.world.person.name in text(desk.get(f"/exams?day={place.at:%Y-%m-%d}"))
    assert desk.post(f"/exams/{place.pk}/arrive", {"back": "day"}).status_code == 302
    assert Place.objects.unscoped("test").get().state == "arrived"
    gp.post(f"/exams/{place.pk}/cancel")
    assert Place.objects.unscoped("test").get().state == "arrived", "too late to cancel, said on the page"
    assert gp.post(f"/exams/{place.pk}/arrive").status_code == 404, "not its own device"


def test_contrast_without_consent_is_refused_on_the_page(house: House, as_: As) -> None:
    gp = as_("gp0")
    form = _book(house, item="CT-ABDO-C")
    assert "知情同意" in text(gp.post("/exams/book", form), 409)
    assert "见证人" in text(gp.post("/exams/book", form | {"agree": "1", "how": "spoken"}), 409)
    assert not Place.objects.unscoped("test").exists()
    assert (
        gp.post("/exams/book", form | {"agree": "1", "how": "spoken", "witness": "王见证"}).status_code == 302
    )


def test_bad_input_is_words_never_an_error(house: House, as_: As) -> None:
    gp = as_("gp0")
    for bad in (
        {"item": "NONE"},
        {"session": "x"},
        {"session": "999999999"},
        {"person": ""},
        {"session": house.clinic.pk},
    ):
        assert gp.post("/exams/book", _book(house) | bad).status_code == 409
    assert text(gp.get("/exams?day=nonsense&item=%27%3C&person=%27"))
    stranger = person_at(house.world.county.townships[2], "尤俊达")
    assert gp.post("/exams/book", _book(house, person=stranger.number)).status_code == 403
    assert "没有诊疗关系" in text(gp.get(f"/exams?item=CT-CHEST&person={stranger.number}"))


def test_theatres_keep_the_turnover_between_two_operations(house: House, as_: As) -> None:
    number, desk = known(house), as_("ward")
    form = {
        "theatre": house.theatre.pk, "person": number, "procedure": "甲状腺腺叶切除术", "team": "仇立新、麻醉一、护士二",
        "at": "2026-03-04T09:00", "minutes": "90", "_key": "one",
    }  # fmt: skip
    for _ in range(2):
        assert desk.post("/theatres", form).status_code == 302
    claim = Claim.objects.unscoped("test").get()
    assert claim.during.upper - claim.during.lower == dt.timedelta(minutes=120)
    other = person_at(house.world.county.townships[0], "尤俊达")
    relationships.grant(other.pk, house.world.county.lead.pk, "encounter", "test:2")
    late = form | {"person": other.number, "at": "2026-03-04T10:45", "_key": "two"}
    assert "已有安排" in text(desk.post("/theatres", late), 409)
    assert desk.post("/theatres", late | {"at": "2026-03-04T11:00"}).status_code == 302
    page = text(desk.get("/theatres?day=2026-03-04"))
    assert "甲状腺腺叶切除术" in page
    for bad in ({"minutes": "5"}, {"at": "x"}, {"at": "2020-01-01T09:00"}, {"team": ""}, {"person": "0"}):
        assert desk.post("/theatres", form | {"_key": "z"} | bad).status_code == 409
    assert desk.post(f"/theatres/{claim.pk}/cancel").status_code == 302
    assert Claim.objects.unscoped("test").get(pk=claim.pk).state == "cancelled"
    assert as_("gp0").get("/theatres").status_code == 403


def test_merged_people_take_their_claims_along(house: House) -> None:
    from lianxin.index import hooks

    tables = {f.table for f in hooks.followers()}
    assert {"pool_claim", "places_contrastconsent", "places_operation"} <= tables
