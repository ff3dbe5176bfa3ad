"""From the order to the acknowledged report, with everything a centre may do in between."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.duty import kernel
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.duty.models import Case, Duty
from lianxin.regional.reading import queue, reports, service
from lianxin.regional.reading.models import Entry, Item, Reader, Reading, Report, Review
from lianxin.standards import clock
from tests.reading import world

pytestmark = pytest.mark.django_db


def state(reading: Reading) -> str:
    """Where its case stands."""
    return str(Case.objects.unscoped("test").get(pk=reading.pk).state)


def test_from_order_to_acknowledgement() -> None:
    county = world.make_world()
    reading = world.order(county)
    assert state(reading) == "ordered"
    number = reading.case.number
    technician = world.scope_of(county, "technician0")
    service.act(technician, number, "check_in", {}, None, "k1")
    service.act(technician, number, "acquire", {"device": "CT1"}, None, "k2")
    assert service.arrived(reading.accession, "1.2.3", "CT1")
    scope, reader = world.reader_of(county, "reader0")
    got = service.claim(scope, "imaging")
    assert got is not None
    entry, claim = got
    assert entry.reading_id == reading.pk
    with pytest.raises(Refused):
        service.act(scope, number, "sign", {}, None, "k3")
    world.write(scope, claim, reading)
    service.act(scope, number, "sign", {}, None, "k4")
    assert state(reading) == "issued"
    reader.refresh_from_db()
    assert reader.open_now == 0
    duty = Duty.objects.unscoped("test").get(case_id=reading.pk, ended="")
    assert (duty.kind, duty.owner_institution_id) == ("acknowledge", county.townships[0].pk)
    assert world.published("DiagnosticReport", number)["status"] == "final"
    assert world.published("Task", f"{number}-read")["status"] == "completed"
    service.act(world.scope_of(county, "gp0"), number, "acknowledge", {"note": "已告知"}, None, "k5")
    assert state(reading) == "acknowledged"
    assert kernel.get_case(number, world.scope_of(county, "gp0")).terminal


def test_a_junior_proposes_and_a_senior_approves() -> None:
    county = world.make_world()
    reading = world.queued(county)
    number = reading.case.number
    junior, _ = world.reader_of(county, "reader0", signs=False)
    senior, _ = world.reader_of(county, "reader1", approves=True)
    got = service.claim(junior, "imaging")
    assert got
    world.write(junior, got[1], reading)
    with pytest.raises(NotAllowed):
        service.act(junior, number, "sign", {}, None, "a1")
    service.act(junior, number, "propose", {}, None, "a2")
    assert service.claim(junior, "imaging") is None
    got = service.claim(senior, "imaging")
    assert got is not None
    assert got[0].seat == "approve"
    service.act(senior, number, "send_back", {"reason": "写明部位"}, None, "a3")
    assert service.claim(senior, "imaging") is None  # the author's own again
    got = service.claim(junior, "imaging")
    assert got
    world.write(junior, got[1], reading, "左侧颞叶未见异常。")
    service.act(junior, number, "propose", {}, None, "a4")
    got = service.claim(senior, "imaging")
    assert got
    service.act(senior, number, "approve", {}, None, "a5")
    assert state(reading) == "issued"
    reading.refresh_from_db()
    report = reports.issued(reading)
    assert report is not None
    assert report.conclusion == "左侧颞叶未见异常。"
    assert report.approver_id == senior.practitioner_id


def test_a_difference_that_matters_is_arbitrated() -> None:
    county = world.make_world()
    Item.objects.filter(code="CT-HEAD").update(double_read=True)
    reading = world.queued(county)
    number = reading.case.number
    one, _ = world.reader_of(county, "reader0")
    two, _ = world.reader_of(county, "reader1")
    three, _ = world.reader_of(county, "reader2", approves=True)
    got = service.claim(one, "imaging")
    assert got
    world.write(one, got[1], reading)
    service.act(one, number, "sign", {}, None, "d1")
    assert state(reading) == "second_read"
    assert service.claim(one, "imaging") is None  # blind: not the first reader
    got = service.claim(two, "imaging")
    assert got
    world.write(two, got[1], reading, "右侧基底节区出血。")
    service.act(two, number, "second", {"score": "3b"}, None, "d2")
    assert state(reading) == "arbitration"
    got = service.claim(three, "imaging")
    assert got
    service.act(three, number, "arbitrate", {"decided": "second", "note": "出血明确"}, None, "d3")
    assert state(reading) == "issued"
    reading.refresh_from_db()
    report = reports.issued(reading)
    assert report is not None
    assert report.conclusion == "右侧基底节区出血。"
    assert Review.objects.unscoped("test").get(pk=reading.pk).decided == "second"


def test_an_amendment_is_a_new_version_and_told_again() -> None:
    county = world.make_world()
    reading = world.queued(county, priority="emergency")
    number = reading.case.number
    scope, _ = world.reader_of(county, "reader0")
    got = service.claim(scope, "imaging")
    assert got
    world.write(scope, got[1], reading)
    service.act(scope, number, "sign", {}, None, "m1")
    with pytest.raises(Refused):
        service.act(scope, number, "amend", {"findings": "所见如常。", "conclusion": "未见异常。", "reason": "无"}, None, "m2")  # fmt: skip
    service.act(scope, number, "amend", {"findings": "所见如常。", "conclusion": "右肺小结节。", "reason": "漏诊"}, None, "m3")  # fmt: skip
    reading.refresh_from_db()
    assert [r.version for r in reports.versions(reading)] == [1, 2]
    now = reports.issued(reading)
    assert now is not None
    assert now.conclusion == "右肺小结节。"
    assert Duty.objects.unscoped("test").filter(case_id=reading.pk, kind="acknowledge", ended="").count() == 1


def test_a_lapsed_claim_goes_back_and_what_was_written_is_kept() -> None:
    county = world.make_world()
    reading = world.queued(county)
    one, reader = world.reader_of(county, "reader0")
    two, _ = world.reader_of(county, "reader1")
    got = service.claim(one, "imaging")
    assert got
    world.write(one, got[1], reading)
    with clock.at(clock.now() + dt.timedelta(minutes=16)):
        assert queue.sweep() == 1
        reader.refresh_from_db()
        assert reader.open_now == 0
        with pytest.raises(NotAllowed):
            world.write(one, got[1], reading)
        again = service.claim(two, "imaging")
        assert again
        world.write(two, again[1], reading, "另一份意见。")
    assert set(Report.objects.unscoped("test").values_list("state", flat=True)) == {"dropped", "draft"}


def test_rounds_let_a_small_township_through() -> None:
    county = world.make_world()
    many = [world.queued(county, by="gp0") for _ in range(6)]
    few = world.queued(county, by="gp1")
    rounds = dict(Entry.objects.unscoped("test").values_list("reading_id", "round"))
    assert [rounds[r.pk] for r in many] == [0, 0, 1, 1, 2, 2]
    assert rounds[few.pk] == 0
    scope, _ = world.reader_of(county, "reader0", most_open=9)
    order = []
    while got := service.claim(scope, "imaging"):
        order.append(got[0].reading_id)
    assert order.index(few.pk) == 2


def test_at_the_limit_nothing_is_taken() -> None:
    county = world.make_world()
    for _ in range(2):
        world.queued(county)
    scope, reader = world.reader_of(county, "reader0", most_open=1)
    assert service.claim(scope, "imaging")
    with pytest.raises(NotAllowed):
        service.claim(scope, "imaging")
    reader.refresh_from_db()
    assert reader.open_now == 1
    assert queue.recount() == []
    Reader.objects.update(open_now=0)
    assert len(queue.recount()) == 1


@pytest.mark.parametrize(
    ("percent", "priority", "others", "then"),
    [
        (0, "routine", True, "issued"),
        (100, "routine", True, "second_read"),
        (100, "routine", False, "issued"),  # nobody else could read it
        (100, "emergency", True, "issued"),
    ],
)
def test_the_draw_for_a_second_reading(percent: int, priority: str, others: bool, then: str) -> None:
    county = world.make_world()
    world.draw(percent)
    reading = world.queued(county, priority=priority)
    scope, _ = world.reader_of(county, "reader0")
    if others:
        world.reader_of(county, "reader1")
    got = service.claim(scope, "imaging")
    assert got
    world.write(scope, got[1], reading)
    service.act(scope, reading.case.number, "sign", {}, None, "draw")
    assert state(reading) == then
    reading.refresh_from_db()
    assert reading.double == ("random" if then == "second_read" else "")
