"""Pages of feeds: overview, arrivals with their lineage and content, replays, rules, ranking and weekly report."""

from __future__ import annotations

import datetime as dt
import io
import threading

import pytest
from django.db import connections
from django.test import Client as Browser

from lianxin.access.models import AuditEvent
from lianxin.exchange.feeds import inbox, report, scores
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.inbox import Draft
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.exchange.feeds.quality import Found, replaying, rules, selecting
from lianxin.exchange.feeds.quality.models import Replay, RuleSetting, WeeklyReport
from lianxin.network import roles
from lianxin.standards import clock
from lianxin.standards.text import T
from tests.exchange import smart_world as w
from tests.exchange.feeds_world import arrival, door, finding
from tests.factories import make_consortium, make_institution, make_post
from tests.referral import world as worlds

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 3, 4, 9, 30, tzinfo=clock.ZONE)  # a Wednesday


@pytest.fixture(autouse=True)
def _wednesday():
    rules.forget()
    before = dict(inbox._doors)
    with clock.at(NOW):
        yield
    inbox._doors.clear()
    inbox._doors.update(before)
    rules.forget()


class World:
    def __init__(self) -> None:
        self.lead = make_institution("FD-L", "hospital", name="青溪县人民医院", short_name="县医院")
        self.place = make_institution("FD-T", "township", name="柳林镇卫生院", short_name="柳林")
        self.other = make_institution("FD-X", "township", name="外县卫生院", short_name="外县")
        make_consortium(self.lead, [self.place])
        self.manager = self.signed(roles.INDEX_MANAGER, self.lead)

    def signed(self, role: str, institution) -> Browser:
        return w.signed_in(worlds.account_for(make_post(institution, role)))


@pytest.fixture
def world() -> World:
    return World()


def text(browser: Browser, path: str, status: int = 200) -> str:
    reply = browser.get(path)
    assert reply.status_code == status, reply.content.decode()[:2000]
    return reply.content.decode()


def test_the_overview_counts_what_one_follows_and_opens_down_to_the_messages(world):
    arrival(world.place, sent_at=NOW - dt.timedelta(minutes=5))
    arrival(world.place, state="refused", error="required PID-5\n缺少患者姓名\nmissing")
    arrival(world.other, state="refused")
    scores.count()
    page = text(world.manager, "/feeds")
    assert "柳林" in page
    assert "外县" not in page
    assert "/feeds/messages?institution=FD-T&amp;state=waiting" in page
    listed = text(world.manager, "/feeds/messages?institution=FD-T&state=waiting")
    assert "缺少患者姓名" in listed
    assert text(world.signed(roles.SYSTEM_ADMIN, world.lead), "/feeds").count("外县") == 1
    for role in (roles.CLINICIAN, roles.RECEPTION, roles.AUDIT_ADMIN):
        assert world.signed(role, world.lead).get("/feeds").status_code == 403


def test_arrivals_are_found_by_every_filter_and_pages_stay_where_they_are(world):
    for n in range(120):
        arrival(world.place, control_id=f"N{n}", at=NOW - dt.timedelta(minutes=n // 3))
    odd = arrival(
        world.place, control_id="ODD", kind="ADT^A01", state="quarantined", at=NOW - dt.timedelta(days=3)
    )
    finding(odd)
    arrival(world.other, control_id="ODD")
    seen = []
    path = "/feeds/messages?kind=ORU"
    while path:
        page = world.manager.get(path)
        seen += [line["row"].control_id for line in page.context["lines"]]
        arrival(world.place, control_id="LATER")  # what comes meanwhile moves nothing
        path = f"/feeds/messages{page.context['next']}" if page.context["next"] else ""
    assert [c for c in seen if c != "LATER"] == [
        f"N{n}" for g in range(40) for n in (3 * g + 2, 3 * g + 1, 3 * g)
    ]
    for query in (
        "q=ODD",
        "state=quarantined",
        "state=waiting",
        "kind=ADT",
        "until=2026-03-02",
        "reason=value.impossible",
        "q=ODD&sender=peer:1",
    ):
        found = world.manager.get(f"/feeds/messages?{query}").context["lines"]
        assert [line["row"].pk for line in found if line["row"].control_id != "LATER"] == [odd.pk], query
    for query in (
        "q=%01%0a",
        "after=x_y",
        "after=2026-03-04_9",
        "since=9999-99-99",
        "door=nothing",
        "sender=peer:99999999999999999999",
        "q=" + "x" * 5000,
    ):
        assert world.manager.get(f"/feeds/messages?{query}").status_code == 200


def test_one_arrival_its_findings_lineage_and_content_with_an_audit(world):
    one = arrival(world.place, resources=["Observation/ab/1", "Patient/p/2"], person_id=None)
    finding(one, state="open")
    page = text(world.manager, f"/feeds/messages/{one.pk}")
    assert "数值在可能范围内" in page
    assert "Observation/ab" in page
    assert "GLU" not in page
    opened = world.manager.post(f"/feeds/messages/{one.pk}/open").content.decode()
    assert "GLU||5.6" in opened
    assert AuditEvent.objects.filter(action="read", what=f"arrival {one.pk}").count() == 1
    original = world.manager.post(f"/feeds/messages/{one.pk}/open", {"original": "1"})
    assert original.content == inbox.body_of(one)
    assert original["Content-Type"] == "application/octet-stream"
    admin = world.signed(roles.SYSTEM_ADMIN, world.lead)
    assert "Observation/ab" not in text(admin, f"/feeds/messages/{one.pk}")
    assert admin.post(f"/feeds/messages/{one.pk}/open").status_code == 403
    assert world.manager.get(f"/feeds/messages/{one.pk}/open").status_code == 405
    found = world.manager.get("/feeds/messages/lineage?resource=Observation/ab").context["lines"]
    assert [line["row"].pk for line in found] == [one.pk]
    assert world.manager.get("/feeds/messages/lineage?resource=rubbish").status_code == 400
    assert world.manager.get("/feeds/messages/lineage?resource=Observation/none").status_code == 200


@pytest.mark.parametrize(
    ("door_", "body", "word"),
    [
        ("cda", "<a><b>诊断</b></a>".encode(), "诊断"), ("cda", b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", "&amp;x;"),
        ("cda", b"<broken", "&lt;broken"), ("table", '{"姓名": "甄", "血糖": 5.6}'.encode(), "血糖"), ("table", b"[1]", "[1]"),
        ("hl7v2", "MSH|^~\\&|张".encode("gb18030"), "张"), ("hl7v2", b"\xff\xfe\x00<script>", "&lt;script&gt;"), ("settlement", b"x" * 300_000, "只显示开头"),
    ],
)  # fmt: skip
def test_content_of_any_door_is_shown_safely(world, door_, body, word):
    one = arrival(world.place, body, door=door_)
    page = world.manager.post(f"/feeds/messages/{one.pk}/open").content.decode()
    assert word in page
    assert "root:x" not in page


def test_others_arrivals_are_not_there(world):
    one = arrival(world.other, state="quarantined")
    nobody = arrival(None, state="refused")
    for pk in (one.pk, nobody.pk, 10**25):
        assert world.manager.get(f"/feeds/messages/{pk}").status_code == 404
        assert world.manager.post(f"/feeds/messages/{pk}/open").status_code == 404
        assert world.manager.post(f"/feeds/messages/{pk}/replay").status_code == 404
    assert world.signed(roles.SYSTEM_ADMIN, world.lead).get(f"/feeds/messages/{nobody.pk}").status_code == 200
    assert world.signed(roles.MANAGER, world.lead).post(f"/feeds/messages/{arrival(world.place, state='refused').pk}/replay").status_code == 403  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------ acts


def taken(kept: Arrival) -> Draft:
    return Draft()


def bad(kept: Arrival) -> Draft:
    raise Refusal("required", T("还是缺", "still missing"), "PID-5")


def held(kept: Arrival) -> Draft:
    return Draft(found=[Found("value.impossible", "quarantine", "x", T("不可能", "impossible"), "validity")])


def test_replay_of_one_takes_it_or_says_why_not(world):
    one = arrival(world.place, door="table", state="refused", error="x\n旧\nold")
    door(bad)
    page = world.manager.post(f"/feeds/messages/{one.pk}/replay", follow=True).content.decode()
    assert "仍未入库" in page
    assert "还是缺" in page
    door(taken)
    assert "已入库" in world.manager.post(f"/feeds/messages/{one.pk}/replay", follow=True).content.decode()
    one.refresh_from_db()
    assert (one.state, one.attempts, Arrival.objects.count()) == ("taken", 3, 1)
    world.manager.post(f"/feeds/messages/{one.pk}/replay")
    assert Arrival.objects.get().attempts == 3  # what is in the record is not taken again
    assert AuditEvent.objects.filter(action="admin", what=f"arrival {one.pk}").count() == 2


def test_what_came_without_a_control_id_is_taken_once_however_often_it_is_replayed(world):
    one = arrival(world.place, door="table", state="refused", control_id="")
    door(taken)
    assert [replaying.one(one.pk) for _ in range(2)] == ["taken", "taken"]
    assert sorted(Arrival.objects.values_list("state", flat=True)) == ["dropped", "taken"]


def test_release_refuse_and_set_aside_need_a_reason(world):
    door(held)
    one, two, three = (arrival(world.place, door="table", state="quarantined") for _ in range(3))
    for row in (one, two, three):
        finding(row)
    for what in ("release", "refuse", "drop"):
        reply = world.manager.post(f"/feeds/messages/{one.pk}/{what}", {"why": "x"})
        assert reply.status_code == 422
        assert "理由" in reply.content.decode()
    assert world.manager.post(f"/feeds/messages/{one.pk}/replay").status_code == 302
    one.refresh_from_db()
    assert one.state == "quarantined"
    world.manager.post(f"/feeds/messages/{one.pk}/release", {"why": "与原始报告核对无误"})
    world.manager.post(f"/feeds/messages/{two.pk}/refuse", {"why": "确属误传"})
    world.manager.post(f"/feeds/messages/{three.pk}/drop", {"why": "测试数据"})
    assert [Arrival.objects.get(pk=r.pk).state for r in (one, two, three)] == ["taken", "refused", "dropped"]
    assert set(Finding.objects.filter(arrival=one).values_list("state", flat=True)) == {"waived"}
    assert (
        "与原始报告核对无误"
        in AuditEvent.objects.filter(what=f"arrival {one.pk}").order_by("-pk").first().detail
    )
    assert world.manager.post(f"/feeds/messages/{one.pk}/drop", {"why": "已经入库"}).status_code == 302
    assert Arrival.objects.get(pk=one.pk).state == "taken"
    assert world.manager.post(f"/feeds/messages/{one.pk}/explode").status_code == 404


def test_replay_of_a_filter_goes_on_in_slices_and_shows_its_progress(world, monkeypatch):
    rows = [arrival(world.place, door="table", state="refused", control_id=f"R{n}") for n in range(7)]
    arrival(world.place, door="table", state="dropped")
    arrival(world.other, door="table", state="refused")
    door(lambda kept: bad(kept) if kept.control_id == "R3" else taken(kept))
    reply = world.manager.post("/feeds/messages/replay", {"state": "waiting", "door": "table"})
    replay = Replay.objects.get()
    assert (replay.total, reply["Location"]) == (7, f"/feeds/replays/{replay.pk}")
    arrival(world.place, door="table", state="refused", control_id="AFTER")
    assert replaying.run(seconds=0) == 0
    assert "0 / 7" in text(world.manager, f"/feeds/replays/{replay.pk}")
    assert replaying.run() == 7
    assert replaying.run() == 0
    replay.refresh_from_db()
    assert (replay.state, replay.done, replay.taken) == ("done", 7, 6)
    assert Arrival.objects.filter(pk__in=[r.pk for r in rows], state="taken").count() == 6
    assert Arrival.objects.filter(state="refused").count() == 3
    assert world.manager.post("/feeds/messages/replay", {}).status_code == 302
    assert Replay.objects.count() == 1
    stranger = world.signed(roles.INDEX_MANAGER, world.other)
    assert stranger.get(f"/feeds/replays/{replay.pk}").status_code == 404
    world.manager.post("/feeds/messages/replay", {"state": "refused"})
    second = Replay.objects.latest("pk")
    world.manager.post(f"/feeds/replays/{second.pk}/stop")
    assert replaying.run() == 0


# ----------------------------------------------------------------------------------------------------------------- rules


def test_rules_are_listed_with_their_hits_and_set_otherwise_with_a_reason(world):
    finding(arrival(world.place, state="quarantined"))
    page = text(world.manager, "/feeds/rules")
    assert "数值在可能范围内" in page
    assert "reason=value.impossible" in page
    good = {
        "severity": "warn",
        "institution": world.place.pk,
        "effective_from": "2026-03-04",
        "reason": "设备校准期间",
    }
    for wrong in (
        {"reason": "x"},
        {"effective_from": "2026-03-03"},
        {"severity": ""},
        {"institution": ""},
        {"institution": world.other.pk},
        {"severity": "loud"},
    ):
        assert world.manager.post("/feeds/rules/value.impossible", {**good, **wrong}).status_code == 422
    assert world.manager.post("/feeds/rules/value.impossible", good).status_code == 302
    assert (
        world.manager.post("/feeds/rules/value.impossible", good).status_code == 422
    )  # the same place and day
    one = RuleSetting.objects.get()
    assert (one.severity, one.institution_id, one.reason) == ("warn", world.place.pk, "设备校准期间")
    assert "设备校准期间" in text(world.manager, "/feeds/rules/value.impossible")
    assert AuditEvent.objects.filter(action="admin", what="quality rule value.impossible").exists()
    assert (
        world.manager.post("/feeds/rules/late.result", {**good, "severity": "", "hours": "48"}).status_code
        == 302
    )
    assert RuleSetting.objects.get(rule="late.result").thresholds == {"hours": 48.0}
    assert world.signed(roles.MANAGER, world.lead).post("/feeds/rules/late.result", good).status_code == 403
    assert world.manager.get("/feeds/rules/none.such").status_code == 404


def test_a_rule_is_tried_on_what_is_here_and_changes_nothing(world):
    for n in range(3):
        arrival(world.place, door="table", control_id=f"T{n}", sent_at=NOW - dt.timedelta(hours=50 * n))
    arrival(world.other, door="table", sent_at=NOW - dt.timedelta(days=30))
    door(taken)
    reply = world.manager.post("/feeds/rules/late.table/try", {"count": "100", "hours": "60"})
    trial = reply.context["trial"]
    assert (trial.looked, [row.control_id for row, _ in trial.hits]) == (3, ["T2"])
    assert "命中 1 条" in reply.content.decode()
    assert Finding.objects.count() == 0
    assert world.manager.post("/feeds/rules/late.table/try", {"count": "x", "hours": "x"}).status_code == 200


# --------------------------------------------------------------------------------------------------- scores and reports


def test_the_ranking_puts_the_best_first_and_opens_an_institution(world):
    arrival(world.lead)
    finding(arrival(world.place, state="quarantined"))
    scores.count()
    page = text(world.manager, "/feeds/quality")
    assert page.index("县医院") < page.index("柳林")
    one = text(world.manager, "/feeds/quality/FD-T?days=28")
    assert "数值在可能范围内" in one
    assert "79.0" in one  # 0.7 of the one arrival, weighted 0.3
    assert world.manager.get("/feeds/quality/FD-X").status_code == 404
    assert world.manager.get("/feeds/quality/FD-X/report").status_code == 404


def filled(world) -> dt.date:
    """A week with figures: Monday 2026-02-23."""
    monday = dt.date(2026, 2, 23)
    with clock.at(dt.datetime(2026, 2, 25, 10, tzinfo=clock.ZONE)):
        for n in range(9):
            arrival(world.place, control_id=f"W{n}", sent_at=clock.now() - dt.timedelta(seconds=60))
        finding(arrival(world.place, control_id="WRONG-7", state="quarantined"))
        arrival(world.lead)
        arrival(
            world.place, control_id="NO-NAME", state="refused", error="required PID-5\n缺少患者姓名\nno name"
        )
        scores.count()
    return monday


def test_the_weekly_report_is_kept_as_it_was_and_has_its_figures(world):
    monday = filled(world)
    with clock.at(dt.datetime(2026, 3, 2, 0, 20, tzinfo=clock.ZONE)):
        assert report.run() == 2
        assert report.run() == 0
    kept = WeeklyReport.objects.get(institution=world.place, week=monday).content
    assert (kept["arrivals"], kept["counts"]["taken"], kept["rank"], kept["of"]) == (11, 9, 2, 2)
    assert kept["scores"] == {
        "completeness": 90.9,
        "timeliness": 100.0,
        "consistency": 100.0,
        "uniqueness": 100.0,
        "validity": 93.6,
        "total": 95.8,
    }
    assert kept["median"]["total"] == 97.9
    assert [p["rule"] for p in kept["problems"]] == ["required", "value.impossible"]
    Arrival.objects.filter(control_id="WRONG-7").update(state="taken", attempts=2, done_at=NOW)
    Finding.objects.all().delete()
    scores.count()
    assert report.kept(world.place, monday)["scores"]["total"] == 95.8
    page = text(world.manager, "/feeds/quality/FD-T/report?week=2026-02-25")
    assert "95.8" in page
    assert "WRONG-7" in page
    assert "本周尚未结束" in text(world.manager, "/feeds/quality/FD-T/report?week=2026-03-04")
    for week in ("2026-03-09", "x", "1850-01-01", "0001-01-01"):
        assert world.manager.get(f"/feeds/quality/FD-T/report?week={week}").status_code == 404
    with pytest.raises(ValueError, match="over"):
        report.keep(world.place, dt.date(2026, 3, 2))


def test_the_report_on_paper_has_the_figures_in_both_languages_and_no_patient(world):
    monday = filled(world)
    reply = world.manager.get(f"/feeds/quality/FD-T/report.pdf?week={monday}")
    assert reply["Content-Type"] == "application/pdf"
    assert reply.content.startswith(b"%PDF")
    from django.utils.translation import override

    content = report.kept(world.place, monday)
    for language, words in (
        ("zh-hans", ("数据质量周报", "柳林镇卫生院", "2 / 2", "95.8", "WRONG-7", "NO-NAME", "缺少必填项")),
        ("en", ("Weekly data quality report", "95.8", "Something required")),
    ):
        with override(language):
            markup = report.html(world.place, content)
        assert [word for word in words if word not in markup] == []
        assert "甄" not in markup
    assert io.BytesIO(reply.content).read(5) == b"%PDF-"
    assert AuditEvent.objects.filter(action="print").exists()


# ------------------------------------------------------------------------------------------------------------ concurrency


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_two_replays_at_once_take_an_arrival_once():
    place = make_institution("FD-C")
    rows = [
        arrival(place, door="table", state="refused", control_id="" if n % 2 else f"K{n}").pk
        for n in range(6)
    ]
    stored: list[int] = []

    def once(kept: Arrival) -> Draft:
        stored.append(kept.pk)
        return Draft()

    door(once)
    start = threading.Barrier(3)

    def work() -> None:
        try:
            start.wait()
            for pk in rows:
                replaying.one(pk)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(stored) == rows
    assert Arrival.objects.filter(state="taken").count() == 6


def test_senders_are_listed_by_jumping_along_the_index(world):
    for name in ("peer:1", "peer:1", "client:2", ""):
        arrival(world.place, sender=name)
    assert selecting.senders() == ["", "client:2", "peer:1"]
