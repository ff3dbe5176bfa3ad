"""Partners in pages and over the wire: the self-test, from preparing to live, limits, exports, traffic, the catalogue."""

import datetime as dt
import json
from pathlib import Path

import pytest
from django.test import Client as Browser

from lianxin.access import tokens
from lianxin.access.models import AuditEvent
from lianxin.access.models import Client as System
from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.ihe import domains
from lianxin.exchange.partners import catalogue, exports, limits, traffic
from lianxin.exchange.partners.models import Export, Partner, PartnerClient, PartnerTest, TrafficHour
from lianxin.exchange.v2 import kinds as v2_kinds
from lianxin.exchange.v2 import receiving
from lianxin.exchange.v2.models import Peer
from lianxin.index.models import Person, SourceRecord
from lianxin.network import roles
from lianxin.standards import clock
from tests.exchange import smart_world as w
from tests.factories import make_consortium, make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db


def signed(role, institution):
    return w.signed_in(worlds.account_for(make_post(institution, role)))


@pytest.fixture
def place():
    lead, low = make_institution("PT-A", "hospital"), make_institution("PT-B", "township")
    make_consortium(lead, [low])
    domains.enter("urn:oid:2.999.8", low.pk, namespace="HIS", oid="2.999.8")
    bearer = tokens.issue("pt-his", "system/*.cruds", low.code)
    client = System.objects.get(name="pt-his")
    Peer.objects.create(
        name="PT",
        application="HIS-PT",
        facility="PT-B",
        client=client,
        created_at=clock.now(),
        default_system="urn:oid:2.999.8",
    )
    yield {"lead": lead, "low": low, "client": client, "bearer": bearer}
    limits.forget()


def partner(place, **more):
    made = Partner.objects.create(name="天台HIS", state_at=clock.now(), created_at=clock.now(), **more)
    made.institutions.add(place["low"])
    PartnerClient.objects.create(partner=made, client=place["client"])
    return made


def adt(control="S1", name="测试患者", charset="UNICODE UTF-8", codec="utf-8"):
    return (
        f"MSH|^~\\&|HIS-PT|PT-B|LIANXIN|LX|{clock.now():%Y%m%d%H%M%S}||ADT^A04|{control}|P|2.5||||||{charset}\rEVN|A04|{clock.now():%Y%m%d%H%M%S}\r"
        f"PID|1||P1^^^HIS&2.999.8&ISO^MR||{name}||19800101|F|||测试路1号||13800000000\rPV1|1|O\r"
    ).encode(codec)  # fmt: skip


def called(place, data=b"", **headers):
    return Browser().post(
        "/partners/selftest", data, content_type="application/octet-stream", headers={"authorization": f"Bearer {place['bearer']}", **headers}
    )  # fmt: skip


def test_a_vendor_tests_alone_and_nothing_is_stored(place):
    made = partner(place, steps=["adt"])
    before = (
        Arrival.objects.count(),
        Person.objects.unscoped("t").count(),
        SourceRecord.objects.unscoped("t").count(),
    )
    reply = called(place, adt())
    assert reply.status_code == 200, reply.content
    ran = {one["step"]: one for one in reply.json()["ran"]}
    assert {s: one["passed"] for s, one in ran.items()} == dict.fromkeys(
        ("credentials", "reach", "charset", "adt", "resend", "bad", "quality"), True
    ), ran
    assert ran["adt"]["resources"][0]["resourceType"] == "Patient"
    assert "MSA|AA|S1" in ran["adt"]["answer"]
    assert "MSA|A" in ran["bad"]["answer"]
    assert reply.json()["lacking"] == []
    after = (
        Arrival.objects.count(),
        Person.objects.unscoped("t").count(),
        SourceRecord.objects.unscoped("t").count(),
    )
    assert after == before
    made.refresh_from_db()
    assert (made.state, made.tested_at is not None) == ("testing", True)
    kept = PartnerTest.objects.get(step="adt")
    assert "测试患者".encode() not in bytes(kept.report)
    # the real thing afterwards is taken as new
    Partner.objects.update(state="live", waived="t")
    limits.forget()
    assert b"MSA|AA" in receiving.receive(adt())
    assert Arrival.objects.count() == before[0] + 1


def test_what_is_wrong_is_said(place):
    partner(place, steps=["adt"])
    ran = {one["step"]: one for one in called(place, adt(charset="ASCII", codec="gb18030")).json()["ran"]}
    assert not ran["charset"]["passed"]
    assert "GB 18030" in ran["charset"]["told"][0]
    ran = {one["step"]: one for one in called(place, adt().replace(b"HIS-PT", b"OTHER")).json()["ran"]}
    assert not ran["adt"]["passed"]
    assert "MSH-3" in ran["adt"]["told"][0]
    ran = {one["step"]: one for one in called(place, adt().replace(b"PID|1||P1", b"PID|1||")).json()["ran"]}
    assert not ran["adt"]["passed"]
    assert ran["adt"]["told"]
    ran = {one["step"]: one for one in called(place, b"<nothing").json()["ran"]}
    assert not ran["document"]["passed"]
    assert ran["bad"]["passed"]
    ran = {one["step"]: one for one in called(place, b"\xff\xfe\x00 junk").json()["ran"]}
    assert not ran["table"]["passed"]
    assert called(place, b"x" * (6 << 20)).status_code in (413, 422)
    assert called(place, b"MSH|").json()["ran"][-1]["passed"] is False


def test_the_wire_knows_its_callers(place):
    assert Browser().post("/partners/selftest").status_code == 401
    assert called(place).status_code == 404
    made = partner(place)
    assert called(place).json()["state"] == "testing"
    assert (
        Browser()
        .put("/partners/selftest", headers={"authorization": f"Bearer {place['bearer']}"})
        .status_code
        == 405
    )
    Partner.objects.filter(pk=made.pk).update(state="suspended")
    assert called(place).status_code == 422


def test_from_preparing_to_live_and_back(place):
    made = partner(place, steps=["adt"])
    his, boss = signed(roles.SYSTEM_ADMIN, place["low"]), signed(roles.MANAGER, place["lead"])
    url = f"/feeds/partners/{made.pk}"

    def do(browser, what, **data):
        status = browser.post(f"{url}/move/{what}", data).status_code
        made.refresh_from_db()
        return status, made.state

    assert do(his, "ask") == (302, "preparing")  # tests are lacking
    assert do(his, "approve") == (403, "preparing")
    called(place, adt())
    assert do(his, "ask") == (302, "ready")
    assert do(his, "approve") == (403, "ready")
    assert do(boss, "approve") == (302, "live")
    assert do(boss, "approve") == (302, "live")  # said in words, nothing changes
    assert do(his, "suspend") == (403, "live")
    assert do(boss, "suspend") == (302, "suspended")
    assert do(boss, "resume") == (302, "live")
    assert do(boss, "nonsense") == (404, "live")
    assert his.get(f"{url}/move/suspend").status_code == 405
    assert AuditEvent.objects.filter(action="admin", what="partner 天台HIS").count() >= 4
    other = Partner.objects.create(name="旧", state_at=clock.now(), created_at=clock.now())
    other.institutions.add(place["low"])
    boss.post(f"/feeds/partners/{other.pk}/move/adopt", {"note": ""})
    other.refresh_from_db()
    assert other.state == "preparing"
    boss.post(f"/feeds/partners/{other.pk}/move/adopt", {"note": "已运行三年"})
    other.refresh_from_db()
    assert (other.state, other.waived) == ("live", "已运行三年")


def test_partners_are_entered_and_limits_are_the_consortiums(place):
    his, boss = signed(roles.SYSTEM_ADMIN, place["low"]), signed(roles.MANAGER, place["lead"])
    given = {
        "name": "新厂商",
        "vendor": "某厂",
        "institutions": [place["low"].pk],
        "systems": [place["client"].pk],
        "steps": ["adt"],
        "threshold": "80",
    }
    assert his.post("/feeds/partners/new", {**given, "name": ""}).status_code == 400
    assert his.post("/feeds/partners/new", {**given, "institutions": [place["lead"].pk]}).status_code == 400
    assert his.post("/feeds/partners/new", {**given, "threshold": "101"}).status_code == 400
    assert his.post("/feeds/partners/new", {**given, "per_day": "5"}).status_code == 302
    made = Partner.objects.get()
    assert (made.per_day, made.links.get().client, made.state) == (None, place["client"], "preparing")
    url = f"/feeds/partners/{made.pk}"
    assert his.post(f"{url}/limits", {"per_day": "5"}).status_code == 403
    assert boss.post(f"{url}/limits", {"per_day": "0", "per_minute": ""}).status_code == 400
    assert boss.post(f"{url}/limits", {"per_day": "5", "per_minute": "60"}).status_code == 302
    made.refresh_from_db()
    assert (made.per_day, made.per_minute) == (5, 60)
    for page in ("", "/edit", "/selftest", "/traffic", "/traffic?by=day"):
        assert his.get(url + page).status_code == 200, page
    for page in (
        "/feeds/partners",
        "/feeds/partners?state=preparing",
        "/feeds/catalogue",
        url,
        f"{url}/limits",
    ):
        assert boss.get(page).status_code == 200, page
    sent = his.post(
        f"{url}/selftest", {"client": place["client"].pk, "text": adt("S9").decode().replace("\r", "\r\n")}
    )
    assert sent.status_code == 200
    assert "将登记为新居民" in sent.content.decode()
    assert his.post(f"{url}/selftest", {"client": "9999999"}).status_code == 404
    made.institutions.add(place["lead"])
    assert his.post(f"{url}/edit", given).status_code == 302  # what is beyond its reach stays
    assert made.institutions.count() == 2
    outside = signed(roles.SYSTEM_ADMIN, make_institution("PT-Z", "hospital"))
    assert "新厂商" not in outside.get("/feeds/partners").content.decode()
    for page in (url, f"{url}/edit", f"{url}/selftest"):
        assert outside.get(page).status_code == 404
    assert signed(roles.CLINICIAN, place["low"]).get("/feeds/partners").status_code == 403


def test_exports_in_pages(place, monkeypatch):
    made = partner(place, state="live", waived="t")
    his = signed(roles.SYSTEM_ADMIN, place["low"])
    url = f"/feeds/partners/{made.pk}/exports/new"
    given = {
        "name": "日报", "client": place["client"].pk, "what": "resources", "kinds": "Patient Observation", "format": "ndjson", "method": "POST",
        "url": "http://127.0.0.1:9/x", "auth": "bearer", "secret": "s3cret", "every": "30", "active": "on",
    }  # fmt: skip
    wrong = [
        {"kinds": "Patien"}, {"format": "csv"}, {"url": "ftp://x"}, {"url": ""}, {"every": ""}, {"daily": "03:00"}, {"secret": ""},
        {"auth": "mtls"}, {"auth": "basic"}, {"method": "folder", "folder": "../x"}, {"what": "table", "format": "csv", "kinds": "Patient", "columns": "a"},
    ]  # fmt: skip
    for one in wrong:
        assert his.post(url, given | one).status_code == 400, one
    assert his.post(url, given).status_code == 302
    export = Export.objects.get()
    assert "s3cret" not in export.secret
    page = f"/feeds/exports/{export.pk}"
    assert "s3cret" not in his.get(f"/feeds/partners/{made.pk}/exports/{export.pk}/edit").content.decode()
    same = {**given, "secret": "", "name": "日报2"}
    assert his.post(f"/feeds/partners/{made.pk}/exports/{export.pk}/edit", same).status_code == 302
    for what in ("pause", "resume", "run", "restart", "retry"):
        assert his.post(f"{page}/{what}").status_code == 302
    assert his.post(f"{page}/what").status_code == 404
    receiving_ok = receiving.receive(adt("E1"))
    assert b"MSA|AA" in receiving_ok
    run = exports.make(export.pk)
    assert run is not None
    shown = his.get(page).content.decode()
    assert "Patient.1.ndjson" in shown
    file = run.files.get(number=1)
    assert his.get(f"/feeds/exports/files/{file.pk}").status_code == 403
    keeper = signed(roles.INDEX_MANAGER, place["low"])
    assert json.loads(keeper.get(f"/feeds/exports/files/{file.pk}").content)["resourceType"] == "Patient"
    for what in ("hold", "again"):
        assert his.post(f"/feeds/exports/runs/{run.pk}/{what}").status_code == 302
    outside = signed(roles.INDEX_MANAGER, make_institution("PT-Z", "hospital"))
    for one in (page, f"/feeds/exports/files/{file.pk}"):
        assert outside.get(one).status_code == 404


def test_traffic_is_counted_by_the_hour(place):
    made = partner(place, state="live", waived="t")
    for n in range(5):
        receiving.receive(adt(f"T{n}"))
    receiving.receive(adt("T9").replace(b"PID|1||P1", b"PID|1||"))
    assert traffic.roll_up() >= 1
    traffic.roll_up()
    row = TrafficHour.objects.get(way="in")
    assert (row.total, row.bad, sum(row.lags)) == (6, 1, 6)
    spans = traffic.spans(made)["in"]
    assert (len(spans), spans[-1].total, round(spans[-1].rate)) == (24, 6, 17)
    assert sum(s.total for s in traffic.spans(made, days=30)["in"]) == 6
    assert traffic.p95([0] * 12) == 0
    assert traffic.p95([95, 5] + [0] * 10) == 1
    assert traffic.p95([0] * 11 + [1]) is None
    TrafficHour.objects.update(hour=clock.now() - dt.timedelta(days=500))
    traffic.roll_up(dt.timedelta(0))
    assert not TrafficHour.objects.filter(hour__lt=clock.now() - dt.timedelta(days=400)).exists()


def test_the_catalogue_is_what_is_registered(place):
    found = {s.code: s for s in catalogue.services("https://x")}
    assert [i.code for i in found["hl7v2"].items] == v2_kinds.taken()
    assert {"Patient", "Observation"} <= {i.code for i in found["fhir"].items}
    assert len(found["documents"].items) >= 53
    assert (Path(__file__).parents[2] / found["exports"].guide).exists()
    browser = signed(roles.SYSTEM_ADMIN, place["low"])
    for service in found.values():
        for item in service.items:
            if item.sample:
                assert browser.get(f"/feeds/catalogue/samples/{item.sample}").status_code == 200
    assert browser.get("/feeds/catalogue/samples/none").status_code == 404
