"""Finding, registering and reading a person: what each role sees, what strangers do not, and that every look is kept."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection

from lianxin.access import relationships, seal
from lianxin.access.models import AuditEvent
from lianxin.clinical.referral import bedside
from lianxin.index.models import Person
from lianxin.record import store
from tests.factories import make_resident_id
from tests.pages.conftest import As
from tests.referral.world import World, person_at

TABS = (
    "overview",
    "timeline",
    "results",
    "encounters",
    "documents",
    "referrals",
    "identity",
    "looked",
    "consents",
)


def _record(world: World, times: int = 3) -> None:
    numbers = {"bp_systolic": 150, "bp_diastolic": 95, "glucose": 7.2}
    made = [r for _ in range(times) for r in bedside.measurements(world.person.number, None, numbers)]
    with connection.cursor() as cursor:
        store.apply(cursor, world["gp0"], [store.Write("create", r["resourceType"], None, r) for r in made])


def test_a_stranger_is_masked_and_a_resident_is_not(world: World, as_: As) -> None:
    far = person_at(world.county.townships[1], "仇小满")
    page = as_("gp0").get("/people", {"q": "仇小满"}, headers={"HX-Request": "true"}).content.decode()
    assert "仇*满" in page
    assert "仇小满</strong>" not in page
    assert "需先建立服务关系" in page
    assert far.number in page
    own = as_("gp0").get("/people", {"q": "单雄信"}, headers={"HX-Request": "true"}).content.decode()
    assert "<strong>单雄信</strong>" in own
    assert "<html" not in own


def test_pinyin_initials_find_and_a_whole_number_opens(world: World, as_: As) -> None:
    client = as_("gp0")
    assert "单雄信" in client.get("/people", {"q": "sxx"}).content.decode()
    opened = client.get("/people", {"q": world.person.number})
    assert opened.status_code == 302
    assert opened["Location"].endswith(f"/people/{world.person.number}")
    assert "再输一个字" in client.get("/people", {"q": "d"}).content.decode()


@pytest.mark.parametrize("tab", TABS)
def test_every_part_of_the_record_opens_whole_and_alone(world: World, as_: As, tab: str) -> None:
    _record(world)
    client, path = as_("gp0"), f"/people/{world.person.number}?tab={tab}"
    whole = client.get(path)
    assert whole.status_code == 200
    assert "单雄信" in whole.content.decode()
    part = client.get(path, headers={"HX-Request": "true", "HX-Target": "chart"}).content.decode()
    assert "<html" not in part
    assert 'aria-current="page"' in part
    assert AuditEvent.objects.filter(
        person_id=world.person.pk, action="read", account_id=world["gp0"].account_id
    ).exists()


def test_results_show_trend_table_and_words(world: World, as_: As) -> None:
    _record(world)
    page = as_("gp0").get(f"/people/{world.person.number}?tab=results").content.decode()
    assert 'data-chart="trend"' in page
    assert "150/95" in page
    assert "3 次" in page
    assert "超出参考范围" in page


def test_without_a_relationship_only_the_door_opens(world: World, as_: As) -> None:
    _record(world)
    far = as_("gp1")
    page = far.get(f"/people/{world.person.number}")
    text = page.content.decode()
    assert page.status_code == 403
    assert "单*信" in text
    assert "单雄信" not in text
    assert "150/95" not in text
    assert AuditEvent.objects.filter(person_id=world.person.pk, action="deny").exists()
    for tab in TABS:
        assert far.get(f"/people/{world.person.number}?tab={tab}").status_code == 403
    assert far.get(f"/people/{world.person.number}/note").status_code == 403
    assert far.get(f"/referrals/new?person={world.person.number}").status_code == 403


def test_the_right_card_checks_in_and_the_wrong_one_says_why(world: World, as_: As) -> None:
    far, path = as_("gp1"), f"/people/{world.person.number}"
    wrong = far.post(f"{path}/check-in", {"evidence": make_resident_id(seq=77)})
    assert wrong.status_code == 403
    assert "不符" in wrong.content.decode()
    right = far.post(f"{path}/check-in", {"evidence": world.person.card_number})
    assert right.status_code == 302
    assert far.get(path).status_code == 200
    assert relationships.sees(world["gp1"], world.person.pk)


def test_break_glass_needs_a_reason_and_shows_it(world: World, as_: As) -> None:
    far, path = as_("clinician"), f"/people/{world.person.number}"
    assert "至少" in far.post(f"{path}/break-glass", {"reason": "急"}).content.decode()
    assert far.post(f"{path}/break-glass", {"reason": "昏迷患者急诊抢救，需了解用药史"}).status_code == 302
    assert "昏迷患者急诊抢救" in far.get(path).content.decode()
    assert AuditEvent.objects.filter(person_id=world.person.pk, action="break_glass").exists()


def test_offices_and_administrators_never_open_a_record(world: World, as_: As) -> None:
    for role in ("manager", "system_admin", "security_admin", "audit_admin"):
        assert as_(role).get(f"/people/{world.person.number}").status_code == 403
        assert as_(role).get("/people").status_code == 403
    assert as_("reception0").get(f"/people/{world.person.number}?tab=results").status_code == 403


def test_registration_names_the_bad_field_and_keeps_what_was_typed(world: World, as_: As) -> None:
    number = make_resident_id(dt.date(1980, 3, 4))
    bad = number[:-1] + ("0" if number[-1] != "0" else "1")
    data = {"id_type": "01", "id_no": bad, "name": "盖有田", "phone": "13800001234"}
    page = as_("reception0").post("/people/new", data)
    assert page.status_code == 422
    assert "id_id_no_error" in page.content.decode()
    assert "盖有田" in page.content.decode()
    assert not Person.objects.unscoped("test").filter(name="盖有田").exists()


def test_registration_takes_sex_and_birth_from_the_number_and_never_doubles(world: World, as_: As) -> None:
    number = make_resident_id(dt.date(1980, 3, 4))
    data = {
        "id_type": "01",
        "id_no": number.lower(),
        "name": "盖有田",
        "phone": "13800001234",
        "home_here": "on",
    }
    first = as_("gp0").post("/people/new", data)
    assert first.status_code == 302
    person = Person.objects.unscoped("test").get(name="盖有田")
    assert person.birth_date == dt.date(1980, 3, 4)
    assert seal.unseal(person.id_sealed) == number
    assert as_("gp1").post("/people/new", data)["Location"] == first["Location"]
    assert Person.objects.unscoped("test").filter(name="盖有田").count() == 1


def test_a_note_asks_the_catalogue_and_lands_in_the_record(world: World, as_: As) -> None:
    client, path = as_("gp0"), f"/people/{world.person.number}/note"
    data = {"diagnosis_code": "I10", "diagnosis_name": "高血压", "bp_systolic": "190", "bp_diastolic": "112"}
    said = client.post(
        f"{path}/answer", data | {"fact_severe_headache": "true", "_part": "facts"}
    ).content.decode()
    assert "answer-refer_up" in said
    assert client.post(path, data | {"bp_diastolic": ""}).status_code == 422
    assert client.post(path, data | {"complaint": "头痛两天"}).status_code == 302
    record = client.get(f"/people/{world.person.number}").content.decode()
    assert "190/112" in record
    assert "头痛两天" in record
    refer = client.post(path, data | {"_refer": "1"})
    assert "diagnosis_code=I10" in refer["Location"]
    assert "fact_bp_systolic=190" in refer["Location"]


def test_a_document_shows_words_never_markup(world: World, as_: As) -> None:
    report = {
        "resourceType": "DiagnosticReport", "status": "final", "code": {"text": "甲状腺彩超"},
        "subject": {"reference": f"Patient/{world.person.number}"}, "effectiveDateTime": "2026-03-01T08:00:00+08:00",
        "conclusion": "<script>alert(1)</script>右叶结节",
    }  # fmt: skip
    with connection.cursor() as cursor:
        done = store.apply(cursor, world["gp0"], [store.Write("create", "DiagnosticReport", None, report)])
    page = as_("gp0").get(f"/people/{world.person.number}/document/DiagnosticReport/{done[0].id}")
    assert page.status_code == 200
    assert "右叶结节" in page.content.decode()
    assert "<script>alert" not in page.content.decode()
    assert (
        as_("gp1").get(f"/people/{world.person.number}/document/DiagnosticReport/{done[0].id}").status_code
        == 403
    )


def test_consent_is_recorded_and_withdrawn(world: World, as_: As) -> None:
    client, path = as_("gp0"), f"/people/{world.person.number}/consent"
    client.post(path, {"kind": "share", "evidence": "签字单 12", "text_version": "2026-1"})
    page = client.get(f"/people/{world.person.number}?tab=consents").content.decode()
    assert "签字单 12" in page
    from lianxin.access.consent import of_person

    client.post(path, {"withdraw": of_person(world.person.pk)[0].pk})
    assert of_person(world.person.pk)[0].withdrawn_at is not None
