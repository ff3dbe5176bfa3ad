"""Referral pages: sending, acting, being late or second, the desks, follow-ups and figures, by the people whose job it is."""

from __future__ import annotations

import re

import pytest

from lianxin.clinical.referral.models import Followup, Referral
from lianxin.duty.models import Act
from lianxin.record import timeline
from tests.pages.conftest import As
from tests.referral.world import DOWN_PACK, PACK, World


def _new(world: World, **more: str) -> dict[str, str]:
    pack = {f"pack_{k}": v for k, v in PACK.items()}
    return {
        "direction": "up", "diagnosis_code": "E04.1", "diagnosis_name": "甲状腺结节", "fact_tirads": "4",
        "to_institution": world.county.lead.code, "specialty": "04.01", "priority": "routine", "reason_code": "catalogue",
        "reason": "需专科评估", "consent": "on", "consent_evidence": "signed", "_key": "one", "_send": "1", **pack, **more,
    }  # fmt: skip


def _hidden(page: str, move: str) -> dict[str, str]:
    form = re.search(rf'action="[^"]*/act/{move}".*?</form>', page, re.S)
    assert form, f"no form for {move}"
    return dict(re.findall(r'name="(_version|_key)" value="([^"]+)"', form[0]))


def test_the_new_page_offers_answer_receivers_and_pack(world: World, as_: As) -> None:
    world.session()
    client, who = as_("gp0"), f"?person={world.person.number}"
    page = client.get(f"/referrals/new{who}&diagnosis_code=E04.1").content.decode()
    assert "青溪县人民医院" in page
    assert "pack_present" in page
    parts = client.post(f"/referrals/new/answer{who}", _new(world) | {"_part": "diagnosis"}).content.decode()
    assert "answer-refer_up" in parts
    assert 'hx-swap-oob="true"' in parts


def test_sending_twice_makes_one_referral(world: World, as_: As) -> None:
    client, path = as_("gp0"), f"/referrals/new?person={world.person.number}"
    first = client.post(path, _new(world))
    assert first.status_code == 302
    assert client.post(path, _new(world))["Location"] == first["Location"]
    assert Referral.objects.unscoped("test").count() == 1
    page = client.get(first["Location"]).content.decode()
    assert "data-draft-sent" in page
    assert "已提交" in page


def test_a_gap_in_the_pack_is_named_and_nothing_is_lost(world: World, as_: As) -> None:
    data = _new(world, pack_present="", reason="不要丢")
    page = as_("gp0").post(f"/referrals/new?person={world.person.number}", data)
    text = page.content.decode()
    assert page.status_code == 422
    assert "不要丢" in text
    assert "主要现病史" in text
    assert not Referral.objects.unscoped("test").exists()


def test_without_consent_nothing_is_sent(world: World, as_: As) -> None:
    data = _new(world)
    del data["consent"]
    assert as_("gp0").post(f"/referrals/new?person={world.person.number}", data).status_code == 422
    assert not Act.objects.exists()


def test_buttons_are_the_moves_that_succeed(world: World, as_: As) -> None:
    number = world.send()
    for name, mine, not_mine in (("desk", "receive", "cancel"), ("gp0", "cancel", "receive")):
        page = as_(name).get(f"/referrals/{number}").content.decode()
        assert f"/act/{mine}" in page
        assert f"/act/{not_mine}" not in page
        assert "为什么现在不能做" in page


def test_an_act_with_a_bad_field_comes_back_with_what_was_typed(world: World, as_: As) -> None:
    number = world.until("received")
    desk = as_("desk")
    page = desk.post(
        f"/referrals/{number}/act/reject", {"reason_code": "", "comment": "床位已满", "_key": "a"}
    )
    assert page.status_code == 422
    assert "床位已满" in page.content.decode()
    assert world.state(number) == "received"


def test_the_second_of_two_is_told_kindly_and_keeps_the_words(world: World, as_: As) -> None:
    number = world.until("received")
    page = as_("desk").get(f"/referrals/{number}?act=ask_info").content.decode()
    seen = _hidden(page, "ask_info")
    world.act("clinician", "accept", number)
    late = as_("desk").post(
        f"/referrals/{number}/act/ask_info", {"reason_code": "history", "question": "有无家族史？", **seen}
    )
    text = late.content.decode()
    assert late.status_code == 409
    assert "先一步办理" in text
    assert "有无家族史？" in text
    assert world.state(number) == "accepted"


def test_pressing_twice_acts_once(world: World, as_: As) -> None:
    number = world.send()
    desk = as_("desk")
    seen = _hidden(desk.get(f"/referrals/{number}").content.decode(), "receive")
    for _ in range(2):
        assert desk.post(f"/referrals/{number}/act/receive", seen).status_code == 302
    assert Act.objects.filter(move="receive").count() == 1


def test_booking_chooses_from_the_offered_numbers(world: World, as_: As) -> None:
    session = world.session(department="surgery")
    number = world.until("accepted")
    page = as_("desk").get(f"/referrals/{number}?act=book").content.decode()
    assert f'value="{session.pk}"' in page
    assert (
        as_("desk").post(f"/referrals/{number}/act/book", {"session": session.pk, "_key": "b"}).status_code
        == 302
    )
    assert (
        "data-act" not in as_("gp0").get(f"/referrals/{number}").content.decode()
        or world.state(number) == "booked"
    )


def test_an_office_sees_the_course_not_the_papers(world: World, as_: As) -> None:
    number = world.until("received")
    page = as_("manager").get(f"/referrals/{number}").content.decode()
    assert "已签收" in page
    assert "颈前肿物半年" not in page


def test_strangers_get_nothing(world: World, as_: As) -> None:
    number = world.send()
    for name in ("gp1", "tcm_desk", "village2"):
        assert as_(name).get(f"/referrals/{number}").status_code == 404
        assert as_(name).post(f"/referrals/{number}/act/receive", {"_key": "x"}).status_code == 404


def test_the_receiving_desk_heaps_by_state(world: World, as_: As) -> None:
    number = world.until("accepted")
    desk = as_("desk")
    assert number in desk.get("/desk/receiving?show=book").content.decode()
    assert number not in desk.get("/desk/receiving?show=new").content.decode()
    row = desk.get(
        f"/referrals/{number}/act/no_capacity?next=/desk/receiving", headers={"HX-Request": "true"}
    )
    assert 'name="_next" value="/desk/receiving"' in row.content.decode()
    done = desk.post(f"/referrals/{number}/act/no_capacity", {"_key": "c", "_next": "/desk/receiving"})
    assert done["Location"] == "/desk/receiving"
    away = desk.post(
        f"/referrals/{number}/act/note", {"text": "已候诊", "_key": "d", "_next": "https://evil.example/"}
    )
    assert away["Location"].startswith("/referrals/")


def test_a_rejected_down_referral_stays_on_the_hospitals_desk(world: World, as_: As) -> None:
    number = world.until("discharged")
    surgeon = as_("surgeon")
    data = {
        "to_institution": world.county.townships[0].code,
        "_key": "p",
        **{f"pack_{k}": v for k, v in DOWN_PACK.items()},
    }
    assert surgeon.post(f"/referrals/{number}/act/propose_down", data).status_code == 302
    child = Referral.objects.unscoped("test").get(direction="down").case.number
    sent = surgeon.post(
        f"/referrals/{child}/act/submit", {"consent": "on", "consent_evidence": "signed", "_key": "q"}
    )
    assert sent.status_code == 302
    assert child in as_("gp0").get("/desk/down?show=coming").content.decode()
    world.act("gp0", "receive", child)
    world.act("gp0", "return_with_advice", child, {"advice": "本院无康复条件"})
    assert child in surgeon.get("/desk/down?show=returned").content.decode()


def test_reception_matches_a_card_and_registers_the_arrival(world: World, as_: As) -> None:
    number = world.until("booked")
    desk = as_("lead_reception")
    page = desk.get("/desk/reception", {"q": world.person.card_number}).content.decode()
    assert number in page
    assert "颈前肿物半年" not in page
    done = desk.post(f"/referrals/{number}/act/arrive", {"identity": world.person.card_number, "_key": "r"})
    assert done.status_code == 302
    assert world.state(number) == "arrived"


def test_a_follow_up_is_two_numbers_and_lands_in_the_record(world: World, as_: As) -> None:
    world.until("closed")
    follow = Followup.objects.unscoped("test").get()
    family, path = as_("family0"), f"/followups/{follow.case.number}"
    assert world.person.name in family.get("/followups").content.decode()
    assert family.get(path).status_code == 200
    data = {"mode": "home", "bp_systolic": "138", "bp_diastolic": "86", "_key": "f"}
    assert family.post(f"{path}/act/contact", data | {"bp_systolic": "9"}).status_code == 422
    assert family.post(f"{path}/act/contact", data).status_code == 302
    found = timeline.summary(world["family0"], world.person.pk)
    assert [r["value"] for r in found.results if r["title"] == "血压"] == ["138/86 mm[Hg]"]
    assert as_("gp1").get(path).status_code == 404


def test_figures_open_as_many_cases_as_they_count(world: World, as_: As) -> None:
    world.until("closed")
    page = as_("manager").get("/flow").content.decode()
    assert 'data-chart="sankey"' in page
    links = re.findall(r'href="(/flow/cases\?[^"]+)"', page)
    assert links
    for link in links:
        assert as_("manager").get(link.replace("&amp;", "&")).status_code == 200
    opened = as_("manager").get("/flow/cases?figure=closed").content.decode()
    assert "单*信" in opened
    assert "单雄信" not in opened


@pytest.mark.parametrize("language", ["zh-hans", "en"])
def test_catalogues_read_in_both_languages(world: World, as_: As, language: str) -> None:
    client = as_("gp0")
    client.cookies["lianxin_lang"] = language
    page = client.get("/catalogues").content.decode()
    book = re.search(r'href="(/catalogues/\d+)"', page)
    assert book
    text = client.get(book[1]).content.decode()
    assert ("Disease catalogues" in text) == (language == "en")


def test_the_form_prints_as_pdf_and_is_audited(world: World, as_: As) -> None:
    from lianxin.access.models import AuditEvent

    number = world.send()
    paper = as_("gp0").get(f"/referrals/{number}/form.pdf")
    assert paper["Content-Type"] == "application/pdf"
    assert paper.content.startswith(b"%PDF")
    assert AuditEvent.objects.filter(action="print", person_id=world.person.pk).exists()


def test_a_draft_opens_with_its_words_and_is_sent(world: World, as_: As) -> None:
    data = _new(world)
    del data["_send"]
    client = as_("gp0")
    draft = client.post(f"/referrals/new?person={world.person.number}", data)["Location"].split("?")[0]
    page = client.get(f"{draft}?act=edit").content.decode()
    assert "颈前肿物半年" in page
    assert "需专科评估" in page
    assert (
        client.post(
            f"{draft}/act/submit", {"consent": "on", "consent_evidence": "signed", "_key": "s"}
        ).status_code
        == 302
    )
    assert world.state(draft.rsplit("/", 1)[1]) == "submitted"
