"""One's own record: readable, one's own alone, every look written down; mistakes reported and answered; consents at once."""

from __future__ import annotations

import pytest

from lianxin.access import consent, sharing
from lianxin.access.models import AuditEvent
from lianxin.access.scope import scope_for_account
from lianxin.duty import worklist
from lianxin.resident.phone import corrections, looks
from lianxin.resident.phone.models import Correction
from tests.phone import world

pytestmark = pytest.mark.django_db


@pytest.fixture
def county() -> world.County:
    made = world.build()
    world.record(made)
    return made


def test_the_record_is_read_in_plain_words_and_every_look_is_written_down(county: world.County) -> None:
    client = county.client()
    page = client.get("/m/record").content.decode()
    assert all(word in page for word in ("青霉素", "高血压", "氨氯地平片", "每日一次", "空腹血糖", "偏高"))
    results = client.get("/m/record/results").content.decode()
    assert "<svg" in results
    assert "t-band" in results
    assert "高于正常范围" in results
    assert "3.9–6.1" in results
    assert "<script" not in results.partition("<body")[2]
    assert "窦性心律" in client.get("/m/record/entries/DiagnosticReport/ph-r").content.decode()
    assert "心电图报告" in client.get("/m/record/list/reports").content.decode()
    for kind in ("documents", "visits", "immunisations", "images"):
        assert client.get(f"/m/record/list/{kind}").status_code == 200
    seen = AuditEvent.objects.filter(person_id=county.me.pk, account_id=county.account.pk, action="read")
    assert {"summary", "DiagnosticReport/ph-r"} <= set(seen.values_list("what", flat=True))


@pytest.mark.parametrize(
    "path",
    ["/m/record/entries/DiagnosticReport/ph-r", "/m/record/entries/DiagnosticReport/ph-r/wrong", "/m/record/entries/Patient/x",
     "/m/record/entries/Nonsense/x", "/m/record/list/nonsense", "/m/record/documents/1", "/m/record/documents/1.pdf", "/m/referrals/ZZ1",
     "/m/corrections/GZ1", "/m/visits/YY1"],
)  # fmt: skip
def test_what_is_not_ones_own_is_not_there(county: world.County, path: str) -> None:
    stranger = world.signed_in(world.make_resident(world.make_person("旁人")))
    assert stranger.get(path).status_code == 404


def test_the_childs_page_shows_nothing_of_the_mother(county: world.County) -> None:
    client = county.client()
    client.post("/m/who", {"person": county.child.pk})
    assert "青霉素" not in client.get("/m/record").content.decode()
    assert client.get("/m/record/entries/DiagnosticReport/ph-r").status_code == 404


def test_a_mistake_is_owed_an_answer_by_who_sent_it(county: world.County) -> None:
    client = county.client()
    path = "/m/record/entries/DiagnosticReport/ph-r/wrong"
    assert client.post(path, {"text": " "}).status_code == 422
    assert client.post(path, {"text": "长" * 1001}).status_code == 422
    first = client.post(path, {"text": "这不是我的报告", "key": "k"})
    assert first.status_code == 302
    assert (
        client.post(path, {"text": "这不是我的报告", "key": "k"}).headers["Location"]
        == first.headers["Location"]
    )
    assert client.post(path, {"text": "再说一次", "key": "z"}).status_code == 422
    row = Correction.objects.unscoped("test").select_related("case").get()
    assert (row.institution_id, row.reference, row.case.state) == (
        county.hospital.pk,
        "DiagnosticReport/ph-r",
        "asked",
    )
    assert "最晚" in client.get(first.headers["Location"]).content.decode()
    assert "正在核实" in client.get("/m/record/entries/DiagnosticReport/ph-r").content.decode()
    clerk = world.staff(county.hospital, "clinician")
    owed = worklist.worklist(scope_for_account(clerk))
    assert [d.kind for d in owed] == ["answer_correction"]
    desk, number = world.signed_in(clerk), row.case.number
    shown = desk.get(f"/corrections/{number}").content.decode()
    assert "这不是我的报告" in shown
    assert "窦性心律" in shown
    assert desk.post(f"/corrections/{number}/correct", {"words": "", "key": "1"}).status_code == 422
    assert (
        desk.post(
            f"/corrections/{number}/correct", {"words": "已更正", "version": "99", "key": "1"}
        ).status_code
        == 409
    )
    assert (
        desk.post(f"/corrections/{number}/correct", {"words": "报告已归还本人", "key": "1"}).status_code
        == 302
    )
    assert "报告已归还本人" in client.get(first.headers["Location"]).content.decode()
    assert "已更正" in client.get("/m/corrections").content.decode()
    elsewhere = world.signed_in(world.staff(county.clinic, "gp"))
    assert elsewhere.get(f"/corrections/{number}").status_code == 404


def test_a_report_may_be_taken_back_and_the_institution_may_say_no(county: world.County) -> None:
    one = corrections.ask(county.scope, county.me.pk, "Condition/ph-c", "高血压", "我没有高血压", "c1")
    client = county.client()
    client.post(f"/m/corrections/{one.case.number}/withdraw")
    assert "已撤回" in client.get(f"/m/corrections/{one.case.number}").content.decode()
    two = corrections.ask(county.scope, county.me.pk, "Condition/ph-c", "高血压", "我没有高血压", "c2")
    desk = world.signed_in(world.staff(county.hospital, "manager"))
    assert (
        desk.post(f"/corrections/{two.case.number}/keep", {"words": "三次测量均高", "key": "1"}).status_code
        == 302
    )
    assert "三次测量均高" in client.get(f"/m/corrections/{two.case.number}").content.decode()


def test_who_looked_says_where_in_which_role_and_why_but_no_full_name(county: world.County) -> None:
    doctor = world.staff(county.hospital, "clinician")
    desk = world.signed_in(doctor)
    assert desk.get(f"/people/{county.me.number}").status_code == 200
    page = county.client().get("/m/looked").content.decode()
    assert county.hospital.name in page
    assert looks.masked(doctor.name) in page
    assert doctor.name not in page
    assert "您在那里就诊" in page
    assert county.account.name not in page.partition("<main")[2]
    assert (
        county.account.name in county.client().get("/m/looked?own=1").content.decode().partition("<main")[2]
    )


def test_sharing_is_stopped_and_given_again_at_once(county: world.County) -> None:
    client, person = county.client(), county.me.pk
    for _ in range(2):
        assert client.post("/m/consents", {"do": "refuse", "institution": ""}).status_code == 302
    (row,) = [c for c in consent.of_person(person) if c.withdrawn_at is None]
    assert (row.decision, row.institution_id) == ("deny", None)
    assert "不共享" in client.get("/m/consents").content.decode()
    client.post("/m/consents", {"do": "withdraw", "consent": row.pk})
    assert not [c for c in consent.of_person(person) if c.withdrawn_at is None]
    for _ in range(2):
        client.post("/m/consents", {"do": "share", "institution": county.clinic.pk})
    assert consent.holds(person, "share", county.clinic.pk)
    assert len([c for c in consent.of_person(person) if c.withdrawn_at is None]) == 1
    for fields in (
        {"do": "share", "institution": "999999"},
        {"do": "x"},
        {"do": "withdraw", "consent": "x"},
        {},
    ):
        assert client.post("/m/consents", fields).status_code == 422
    stranger = world.signed_in(world.make_resident(world.make_person("旁人")))
    mine = next(c for c in consent.of_person(person) if c.withdrawn_at is None)
    assert stranger.post("/m/consents", {"do": "withdraw", "consent": mine.pk}).status_code == 422
    assert sharing.partners([county.hospital.pk])
