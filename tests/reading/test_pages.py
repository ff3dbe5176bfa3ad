"""The readers' pages: queue, editor, blindness, a lost claim, amendments, templates, roster, readers, figures."""

from __future__ import annotations

import datetime as dt
import re

import pytest
from django.test import Client

from lianxin.access.models import Account
from lianxin.access.scope import Scope
from lianxin.duty.models import Case, Duty
from lianxin.regional.reading import queue, reports, roster, service, templates
from lianxin.regional.reading.models import Amendment, Entry, Item, Reader, Reading, Report, Shift, Template
from lianxin.standards import clock
from tests.reading import world

pytestmark = pytest.mark.django_db


def browser(scope: Scope) -> Client:
    client = Client()
    client.force_login(Account.objects.get(pk=scope.account_id))
    return client


def token_in(body: str) -> str:
    found = re.search(r'name="token" value="([0-9a-f-]{36})"', body)
    assert found, body[-3000:]
    return found[1]


def state(reading: Reading) -> str:
    return str(Case.objects.unscoped("test").get(pk=reading.pk).state)


def test_claim_write_sign_and_print() -> None:
    county = world.make_world()
    reading = world.queued(county)
    scope, _ = world.reader_of(county, "reader0")
    page, number = browser(scope), reading.case.number
    listed = page.get("/reading")
    assert "头颅 CT 平扫" in listed.content.decode()
    mark = re.search(r"mark=([0-9a-f.]+)", listed.content.decode())
    assert mark is not None
    assert page.get("/reading", {"part": "1", "mark": mark[1]}).status_code == 204
    assert page.get("/reading", {"modality": "MR"}).content.decode().count("data-line") == 0
    assert page.get("/reading", {"tab": "nonsense", "origin": "x", "priority": "9", "due": "?"}).status_code == 200  # fmt: skip
    opened = page.post("/reading/claim", {"centre": "imaging"})
    assert opened.headers["Location"] == f"/reading/{number}"
    assert page.post("/reading/claim", {"centre": "imaging", "number": number}).headers["Location"] == f"/reading/{number}"  # fmt: skip
    assert page.post("/reading/claim", {"centre": "nowhere"}).status_code == 404
    body = page.get(f"/reading/{number}").content.decode()
    token = token_in(body)
    typed = {"token": token, "findings": "左侧基底节区高密度影。", "conclusion": "", "template": "CT-HEAD-BLEED", "field_volume_ml": "31", "_key": "s1"}  # fmt: skip
    saved = page.post(f"/reading/{number}/save", typed, headers={"Accept": "application/json"})
    assert saved.json()["seconds"] > 800
    refused = page.post(f"/reading/{number}/act/sign", typed)
    assert refused.status_code == 422
    assert "左侧基底节区高密度影" in refused.content.decode()
    wrong = page.post(f"/reading/{number}/save", typed | {"field_volume_ml": "9000"}, headers={"Accept": "application/json"})  # fmt: skip
    assert (wrong.status_code, list(wrong.json()["errors"])) == (422, ["field_volume_ml"])
    whole = typed | {"conclusion": "左侧基底节区脑出血。", "measurements": "血肿长径 4.2 cm\n见图", "key_images": "1.2.3.4#12 最大层面\n胶片第三幅", "positive": "yes"}  # fmt: skip
    assert page.post(f"/reading/{number}/act/sign", whole).status_code == 302
    assert page.post(f"/reading/{number}/act/sign", whole).status_code == 302  # the second press
    assert state(reading) == "issued"
    reading.refresh_from_db()
    report = reports.issued(reading)
    assert report is not None
    assert report.structured == {"volume_ml": 31}
    assert report.measurements == [{"label": "血肿长径", "value": "4.2", "unit": "cm"}, {"label": "见图"}]
    assert report.key_images == [
        {"sop_uid": "1.2.3.4", "frame": 12, "note": "最大层面"},
        {"note": "胶片第三幅"},
    ]
    assert report.positive is True
    assert Report.objects.unscoped("test").count() == 1
    shown = page.get(f"/reading/{number}").content.decode()
    assert "左侧基底节区脑出血。" in shown
    paper = page.get(f"/reading/{number}/print.pdf")
    assert paper.content.startswith(b"%PDF")


def test_a_lost_claim_keeps_what_was_typed_and_nobody_else_gets_in() -> None:
    county = world.make_world()
    reading = world.queued(county)
    number = reading.case.number
    one, _ = world.reader_of(county, "reader0")
    two, _ = world.reader_of(county, "reader1")
    page = browser(one)
    page.post("/reading/claim", {"centre": "imaging"})
    token = token_in(page.get(f"/reading/{number}").content.decode())
    typed = {"token": token, "findings": "刚刚书写的所见", "conclusion": "意见", "_key": "l1"}
    assert page.post(f"/reading/{number}/renew", {"token": token}).status_code == 200
    with clock.at(clock.now() + dt.timedelta(minutes=20)):
        assert service.sweep() == 1
        assert world.published("Task", f"{number}-read")["owner"]["reference"].startswith("Organization/")
        said = page.post(f"/reading/{number}/save", typed, headers={"Accept": "application/json"})
        assert (said.status_code, "到期" in said.json()["lost"]) == (409, True)
        lost = page.post(f"/reading/{number}/act/sign", typed)
        assert lost.status_code == 409
        assert "刚刚书写的所见" in lost.content.decode()
        assert page.post(f"/reading/{number}/renew", {"token": token}).status_code == 409
        other = browser(two)
        other.post("/reading/claim", {"centre": "imaging"})
        assert page.post("/reading/claim", {"centre": "imaging", "number": number}).headers["Location"] == "/reading?centre=imaging"  # fmt: skip
        assert "刚刚" not in other.get(f"/reading/{number}").content.decode()
        holder = world.published("Task", f"{number}-read")
        assert (holder["owner"]["reference"].partition("/")[0], holder["status"]) == ("Practitioner", "in-progress")  # fmt: skip
        other.post(f"/reading/{number}/give-back", {"token": "", "reason": "会诊"})
        assert state(reading) == "queued"
    assert browser(world.scope_of(county, "gp0")).get(f"/reading/{number}").status_code == 403
    stranger = world.make_world("ZZ")
    outside, _ = world.reader_of(stranger, "reader0")
    assert browser(outside).get(f"/reading/{number}").status_code == 404
    assert number not in browser(outside).get("/reading").content.decode()


def test_the_second_reader_is_blind_until_their_own_is_complete() -> None:
    county = world.make_world()
    Item.objects.filter(code="CT-HEAD").update(double_read=True)
    reading = world.queued(county)
    number = reading.case.number
    one, _ = world.reader_of(county, "reader0")
    two, _ = world.reader_of(county, "reader1")
    three, _ = world.reader_of(county, "reader2", approves=True)
    got = service.claim(one, "imaging")
    assert got
    world.write(one, got[1], reading, "初读的秘密意见")
    service.act(one, number, "sign", {}, None, "b1")
    second, third = browser(two), browser(three)
    assert "秘密" not in third.get(f"/reading/{number}").content.decode()
    second.post("/reading/claim", {"centre": "imaging"})
    body = second.get(f"/reading/{number}").content.decode()
    assert "秘密" not in body
    assert "RADPEER" not in body
    token = token_in(body)
    own = {"token": token, "findings": "所见", "conclusion": "", "_key": "b2"}
    assert second.post(f"/reading/{number}/complete", own).status_code == 422
    assert second.post(f"/reading/{number}/complete", own | {"conclusion": "右侧出血"}).status_code == 302
    compared = second.get(f"/reading/{number}").content.decode()
    assert "秘密" in compared
    assert "RADPEER" in compared
    changed = second.post(f"/reading/{number}/save", own | {"conclusion": "同初读"}, headers={"Accept": "application/json"})  # fmt: skip
    assert changed.status_code == 409
    assert "秘密" not in third.get(f"/reading/{number}").content.decode()
    assert second.post(f"/reading/{number}/act/second", {"score": "9", "_key": "b3"}).status_code == 422
    assert second.post(f"/reading/{number}/act/second", {"score": "3b", "note": "漏诊", "_key": "b4"}).status_code == 302  # fmt: skip
    assert state(reading) == "arbitration"
    third.post("/reading/claim", {"centre": "imaging"})
    both = third.get(f"/reading/{number}").content.decode()
    assert "秘密" in both
    assert "右侧出血" in both
    assert third.post(f"/reading/{number}/act/arbitrate", {"decided": "own", "note": "均不全", "_key": "b5"}).status_code == 422  # fmt: skip
    assert third.post(f"/reading/{number}/act/arbitrate", {"decided": "second", "note": "出血明确", "_key": "b6"}).status_code == 302  # fmt: skip
    assert state(reading) == "issued"


def test_an_expert_gets_what_was_handed_over_and_an_approver_may_open_it() -> None:
    county = world.make_world()
    reading = world.queued(county)
    number = reading.case.number
    one, _ = world.reader_of(county, "reader0")
    two, expert = world.reader_of(county, "reader1", expert=True)
    three, _ = world.reader_of(county, "reader2", approves=True)
    page = browser(one)
    page.post("/reading/claim", {"centre": "imaging"})
    assert "转专家" in page.get(f"/reading/{number}").content.decode()
    assert page.post(f"/reading/{number}/hand-over", {"expert": "x", "reason": "疑难"}).status_code == 422
    assert (
        page.post(f"/reading/{number}/hand-over", {"expert": str(expert.pk), "reason": " "}).status_code
        == 422
    )
    assert page.post(f"/reading/{number}/hand-over", {"expert": str(expert.pk), "reason": "疑难"}).status_code == 302  # fmt: skip
    assert service.claim(one, "imaging") is None
    assert "头颅 CT" in browser(two).get("/reading", {"tab": "handed"}).content.decode()
    entry = Entry.objects.unscoped("test").get(reading=reading, state="waiting")
    assert browser(two).post(f"/reading/open/{entry.pk}", {"centre": "imaging"}).status_code == 302
    entry.refresh_from_db()
    assert entry.only == two.account_id  # an approver's to decide
    browser(three).post(f"/reading/open/{entry.pk}", {"centre": "imaging"})
    assert service.claim(one, "imaging") is not None


def test_an_amendment_after_acknowledgement_is_owed_again() -> None:
    county = world.make_world()
    reading = world.queued(county, priority="emergency")
    number = reading.case.number
    scope, _ = world.reader_of(county, "reader0")
    got = service.claim(scope, "imaging")
    assert got
    world.write(scope, got[1], reading)
    service.act(scope, number, "sign", {}, None, "m1")
    orderer = world.scope_of(county, "gp0")
    service.act(orderer, number, "acknowledge", {}, None, "m2")
    page = browser(scope)
    assert "更正报告" in page.get(f"/reading/{number}").content.decode()
    same = {"findings": "所见如常。", "conclusion": "未见异常。", "reason": "笔误"}
    assert page.post(f"/reading/{number}/act/amend", same | {"_key": "m3"}).status_code == 422
    done = page.post(f"/reading/{number}/act/amend", same | {"conclusion": "右肺小结节。", "_key": "m4"})
    assert done.status_code == 302
    again = page.post(f"/reading/{number}/act/amend", same | {"conclusion": "右肺小结节。", "_key": "m4"})
    assert again.headers["Location"] == done.headers["Location"]
    amended = Amendment.objects.unscoped("test").get()
    duty = Duty.objects.unscoped("test").get(case_id=amended.pk, ended="")
    assert (duty.kind, duty.owner_institution_id) == ("look_again", county.townships[0].pk)
    assert world.published("DiagnosticReport", number)["conclusion"] == "右肺小结节。"
    assert page.post(f"/reading/{number}/act/amend", same | {"conclusion": "右肺上叶结节。", "seen": "old", "_key": "m5"}).status_code == 422  # fmt: skip
    assert page.post(f"/reading/{number}/act/amend", same | {"conclusion": "右肺上叶结节。", "_key": "m6"}).status_code == 302  # fmt: skip
    assert Amendment.objects.unscoped("test").count() == 1
    doctor = browser(orderer)
    shown = doctor.get(f"/reading/amended/{amended.case.number}").content.decode()
    assert "<ins>" in shown
    assert (
        doctor.post(f"/reading/amended/{amended.case.number}/acknowledge", {"_key": "a"}).status_code == 302
    )
    assert not Duty.objects.unscoped("test").filter(case_id=amended.pk, ended="").exists()
    reading.refresh_from_db()
    assert [r.version for r in reports.outgoing(reading)] == [1, 2, 3]
    page.post(f"/reading/{number}/act/amend", same | {"conclusion": "左肺结节。", "_key": "m7"})
    assert Amendment.objects.unscoped("test").filter(live=True).count() == 1
    neighbour = browser(world.scope_of(county, "gp1"))
    assert neighbour.get(f"/reading/amended/{amended.case.number}").status_code == 404


def test_templates_of_ones_own_and_of_the_centre() -> None:
    county = world.make_world()
    scope, _ = world.reader_of(county, "reader0")
    boss, _ = world.reader_of(county, "reader1", approves=True)
    page, chief = browser(scope), browser(boss)
    listed = page.get("/reading/templates").content.decode()
    assert "头颅 CT（脑出血）" in listed
    fields = {
        "name": "我的模板",
        "modality": "CT",
        "conclusion": "阴性。",
        "phrases": "甲\n\n乙",
        "active": "on",
    }
    assert page.post("/reading/templates/new", fields | {"name": ""}).status_code == 422
    assert page.post("/reading/templates/new", fields).status_code == 302
    own = Template.objects.get(name="我的模板")
    assert (own.account_id, own.phrases) == (scope.account_id, ["甲", "乙"])
    assert chief.get(f"/reading/templates/{own.pk}").status_code == 404
    shipped = Template.objects.get(code="CT-HEAD-N")
    assert page.post(f"/reading/templates/{shipped.pk}", fields).status_code == 404
    assert chief.post("/reading/templates/new", fields | {"name": "中心模板", "for_centre": "on"}).status_code == 302  # fmt: skip
    assert "中心模板" in page.get("/reading/templates").content.decode()
    assert page.post(f"/reading/templates/{own.pk}", fields | {"active": ""}).status_code == 302
    reader = Reader.objects.get(account_id=scope.account_id)
    assert own not in templates.of_reader(reader)
    assert page.get("/reading/templates/new", {"copy": "CT-HEAD-N"}).content.decode().count("未见异常") >= 1


def test_roster_and_readers() -> None:
    county = world.make_world()
    scope, reader = world.reader_of(county, "reader0")
    boss, _ = world.reader_of(county, "reader1", approves=True)
    page, chief = browser(scope), browser(boss)
    day = clock.today() + dt.timedelta(days=1)
    shift = {"centre": "imaging", "reader": str(reader.pk), "kind": "oncall", "day": day.isoformat(), "start": "20:00", "end": "08:00", "weeks": "2"}  # fmt: skip
    page.post("/reading/roster", shift)
    assert not Shift.objects.exists()  # an approver's or the office's to enter
    assert chief.post("/reading/roster", shift).status_code == 302
    assert Shift.objects.count() == 2
    assert chief.post("/reading/roster", shift | {"start": "23:00", "weeks": "1"}).status_code == 422
    assert chief.post("/reading/roster", shift | {"weeks": "99"}).status_code == 422
    assert chief.post("/reading/roster", shift | {"kind": "approve"}).status_code == 422
    midnight = dt.datetime.combine(day + dt.timedelta(days=1), dt.time(1), clock.ZONE)
    now_on = roster.on_duty(county.lead.pk, "imaging", midnight)
    assert [(w.account_id, w.kind) for w in now_on] == [(scope.account_id, "oncall")]
    assert roster.on_duty(county.lead.pk, "ecg", midnight) == []
    row = Shift.objects.order_by("starts_at").first()
    assert row is not None
    assert "听班" in page.get("/reading/roster", {"week": day.isoformat()}).content.decode()
    page.post(f"/reading/roster/remove/{row.pk}", {"centre": "imaging"})
    chief.post(f"/reading/roster/remove/{row.pk}", {"centre": "imaging"})
    assert Shift.objects.count() == 1
    assert page.get("/reading/readers").status_code == 200
    kept = {"modalities": ["CT"], "most_open": "5", "signs": "on", "new": "on", "active": "on"}
    page.post(f"/reading/readers/{reader.pk}", kept)
    assert not Reader.objects.get(pk=reader.pk).new
    assert chief.post(f"/reading/readers/{reader.pk}", kept).status_code == 302
    reader.refresh_from_db()
    assert (reader.new, reader.most_open, reader.new_since is not None) == (True, 5, True)
    assert chief.post(f"/reading/readers/{reader.pk}", kept | {"modalities": ["XX"]}).status_code == 422
    assert chief.post(f"/reading/readers/{reader.pk}", kept | {"approves": "on", "signs": ""}).status_code == 422  # fmt: skip
    world.queued(county)
    assert service.claim(scope, "imaging")
    chief.post(f"/reading/readers/{reader.pk}", {k: v for k, v in kept.items() if k != "active"})
    reader.refresh_from_db()
    assert (reader.active, reader.open_now) == (False, 0)
    assert Entry.objects.unscoped("test").get().state == "waiting"
    stranger = world.make_world("ZZ")
    manager = browser(world.scope_of(stranger, "manager"))
    assert manager.get(f"/reading/readers/{reader.pk}").status_code == 404


def test_figures_open_down_to_their_rows() -> None:
    county = world.make_world()
    for n in range(3):
        reading = world.queued(county, by=f"gp{n % 2}", priority="emergency" if n == 2 else "routine")
    scope, _ = world.reader_of(county, "reader0", most_open=9)
    while got := service.claim(scope, "imaging"):
        world.write(scope, got[1], got[0].reading)
        if got[0].reading_id == reading.pk:
            service.act(scope, got[0].reading.case.number, "return_retake", {"code": "motion", "reason": "重拍"}, None, f"r{got[0].pk}")  # fmt: skip
        else:
            service.act(scope, got[0].reading.case.number, "sign", {}, None, f"f{got[0].pk}")
    page = browser(scope)
    for by in ("modality", "priority", "origin", "performer", "x"):
        assert page.get("/reading/statistics", {"by": by, "since": "bad"}).status_code == 200
    shown = page.get("/reading/statistics").content.decode()
    assert "运动伪影" in shown
    links = set(re.findall(r'href="(/reading/statistics/rows\?[^"]+)"', shown))
    assert len(links) > 15
    for link in sorted(links):
        assert page.get(link.replace("&amp;", "&")).status_code == 200, link
    rows = page.get("/reading/statistics/rows", {"show": "retake", "retake": "motion"}).content.decode()
    assert reading.case.number in rows
    assert "测试" not in rows
    sheet = page.get("/reading/statistics.csv", {"show": "issued"})
    assert len(sheet.content.decode("utf-8-sig").splitlines()) == 3
    manager = browser(world.scope_of(county, "manager"))
    assert manager.get("/reading/statistics").status_code == 200
    assert browser(world.scope_of(county, "gp0")).get("/reading/statistics").status_code == 403
    stranger = browser(world.scope_of(world.make_world("ZZ"), "manager"))
    assert reading.case.number not in stranger.get("/reading/statistics/rows", {"centre": "imaging"}).content.decode()  # fmt: skip
    assert queue.recount() == []
