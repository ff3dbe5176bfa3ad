"""What surrounds a move: worklist, claims, escalation, outbox, chores, anchors, overrides of clocks."""

from __future__ import annotations

import datetime as dt

import pytest
from django.db import connection

from lianxin.access.models import Account
from lianxin.duty import claims, clocks, escalation, kernel, notices, outbox, periodic, proof, worklist
from lianxin.duty.errors import NotAllowed
from lianxin.duty.models import Act, Anchor, Case, Chore, Duty, Escalation, Outbox
from lianxin.standards import calendar, clock
from tests.factories import SINCE, make_consortium, make_post, make_practitioner

from .toy import World, monday

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> World:
    return World()


def _duty(case: Case) -> Duty:
    return Duty.objects.unscoped("test").get(case=case, ended="")


def _account(world: World, role: str, name: str) -> Account:
    person = make_practitioner()
    make_post(world.hospital, role, person, since=SINCE)
    return Account.objects.create(username=name, name=name, practitioner=person)


def test_the_worklist_puts_the_most_pressing_first(world: World) -> None:
    with clock.at(monday(9)):
        late = world.open().case
        world.do("hasten", late, world.desk)
    with clock.at(monday(10)):
        calm = world.open().case
    with clock.at(monday(14)):
        items = worklist.worklist(world.desk)
        assert [i.case_number for i in items] == [late.number, calm.number]
        first = items[0]
        assert (first.overdue, first.seconds_left, first.person_name, first.person_age) == (
            True,
            -3600,
            "测试甲",
            66,
        )
        assert (first.button.name, first.label.en, first.case_label.zh) == ("take", "Acknowledge", "远程阅片")
        assert [(c.kind, c.open, c.late) for c in worklist.counts(world.desk)] == [("ack", 2, 1)]
        assert worklist.worklist(world.desk, kind="read") == []
        assert worklist.worklist(world.reader) == []
        assert worklist.worklist(world.second_reader) == []


def test_buttons_of_a_list_cost_a_fixed_number_of_queries(
    world: World, django_assert_num_queries: object
) -> None:
    cases = [world.open().case for _ in range(5)]
    with django_assert_num_queries(2):  # type: ignore[operator]
        offers = kernel.allowed_many(cases, world.desk)
    assert {a.name for a in offers[cases[0].pk] if a.ok} == {"take", "hasten", "pass_on", "refuse"}


def test_a_duty_can_be_claimed_given_back_and_handed_over(world: World) -> None:
    one, two = _account(world, "referral_desk", "one"), _account(world, "referral_desk", "two")
    other = _account(world, "clinician", "other")
    first = World.scope(world.hospital, "referral_desk", one.pk)
    second = World.scope(world.hospital, "referral_desk", two.pk)
    duty = _duty(world.open().case)
    claims.claim(duty.pk, first)
    claims.claim(duty.pk, first)
    assert worklist.worklist(second) == []
    assert len(worklist.worklist(second, everyone=True)) == len(worklist.worklist(first)) == 1
    with pytest.raises(NotAllowed, match="同事"):
        claims.claim(duty.pk, second)
    with pytest.raises(NotAllowed, match="岗位"):
        claims.claim(duty.pk, world.reader)
    with pytest.raises(NotAllowed, match="受交人"):
        claims.transfer(duty.pk, other, first)
    claims.transfer(duty.pk, two, first)
    assert _duty(duty.case).owner_account_id == two.pk
    claims.release(duty.pk, first)
    assert _duty(duty.case).owner_account_id is None
    world.do("take", duty.case, world.desk)
    with pytest.raises(NotAllowed, match="办结"):
        claims.claim(duty.pk, first)


def test_a_late_duty_climbs_to_the_consortium_office_and_the_case_stays(world: World) -> None:
    make_consortium(world.hub, [world.hospital])
    with clock.at(monday()):
        case = world.open().case
        before = proof.standing(case, [], [])
        assert escalation.escalate() == 0
    due = Case.objects.unscoped("test").get(pk=case.pk).due_at
    assert escalation.escalate(due) == 1
    assert escalation.escalate(due) == 0
    for spec in ("4wh", "1wd", "2wd"):
        assert escalation.escalate(calendar.due(due, spec)) == 1
    assert escalation.escalate(due + dt.timedelta(days=60)) == 0
    rows = list(Escalation.objects.order_by("level").values_list("level", "institution_id", "role"))
    hospital, hub = world.hospital.pk, world.hub.pk
    assert rows == [
        (1, hospital, "referral_desk"), (2, hospital, "referral_desk"), (3, hospital, "manager"), (4, hub, "manager"),
    ]  # fmt: skip
    after = Case.objects.unscoped("test").get(pk=case.pk)
    assert proof.standing(after, [], []) == before
    assert proof.check() == []
    assert [n.level for n in notices.unread(world.office)] == [4]
    assert [i.case_number for i in worklist.escalated(world.office)] == [case.number]


def test_a_long_sleep_climbs_one_step_at_a_time(world: World) -> None:
    with clock.at(monday()):
        case = world.open().case
    later = monday() + dt.timedelta(days=40)
    assert [escalation.escalate(later + dt.timedelta(minutes=n)) for n in range(5)] == [1, 1, 1, 1, 0]
    assert _duty(case).level == 4


def test_events_are_delivered_in_order_of_their_key_and_tried_again(world: World) -> None:
    Outbox.objects.all().delete()
    seen: list[tuple[str, int]] = []
    broken = {"a"}

    def consumer(event: Outbox) -> None:
        if event.key in broken:
            raise RuntimeError("not now")
        seen.append((event.key, event.payload["n"]))

    outbox.register("test", "t", consumer)
    with clock.at(monday()):
        for n in range(3):
            outbox.emit("test", "a", {"n": n})
            outbox.emit("test", "b", {"n": n})
        outbox.run()
        assert seen == [("b", 0), ("b", 1), ("b", 2)]
        assert outbox.waiting() == 3
    stuck = Outbox.objects.filter(done_at=None).earliest("id")
    assert (stuck.attempts, stuck.last_error) == (1, "RuntimeError: not now")
    broken.clear()
    with clock.at(monday() + dt.timedelta(seconds=4)):
        assert outbox.dispatch() == 0
    with clock.at(monday() + dt.timedelta(seconds=6)):
        outbox.run()
    assert seen[3:] == [("a", 0), ("a", 1), ("a", 2)]
    with clock.at(monday() + dt.timedelta(days=8)):
        assert outbox.tidy() == 6


def test_chores_run_when_due_and_their_failure_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periodic, "_jobs", {})
    ran: list[str] = []

    def bad() -> None:
        raise RuntimeError("broken pipe")

    periodic.register("good", 60, lambda: ran.append("good"))
    periodic.register("bad", 60, bad)
    with clock.at(monday()):
        assert periodic.run_due() == ["good", "bad"]
        assert periodic.run_due() == []
    with clock.at(monday() + dt.timedelta(seconds=61)):
        assert periodic.run_due() == ["good", "bad"]
    assert ran == ["good", "good"]
    assert Chore.objects.get(name="bad").error == "RuntimeError: broken pipe"


def test_removing_a_whole_case_is_noticed_by_the_anchor(world: World) -> None:
    keep, gone = world.open().case, world.open().case
    day = clock.today()
    assert proof.anchor(day).acts == 2
    assert proof.anchor(day) is None
    world.do("take", keep, world.desk)
    assert proof.anchor(day + dt.timedelta(days=1)).acts == 1
    assert proof.check_anchors() == []
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE duty_act DISABLE TRIGGER USER")
        for table in ("act", "duty", "caseparty", "notice"):
            cursor.execute(f"DELETE FROM duty_{table} WHERE case_id = %s", [gone.pk])
        cursor.execute("DELETE FROM duty_case WHERE id = %s", [gone.pk])
        cursor.execute("ALTER TABLE duty_act ENABLE TRIGGER USER")
    assert proof.check() == []
    assert [line.split(":")[1] for line in proof.check_anchors()] == [
        " 2 acts were anchored, 1 are there", " does not fit the acts it covers",
    ]  # fmt: skip
    assert Anchor.objects.count() == 2
    assert Act.objects.filter(case=keep).count() == 2


def test_a_consortium_sets_its_own_clocks(world: World) -> None:
    make_consortium(
        world.hub, [world.hospital], rules={"clocks": {"toy": {"ack": {"routine": "2h"}, "read": "9wd"}}}
    )
    clocks.forget_overrides()
    try:
        with clock.at(monday()):
            case = world.open().case
            assert case.due_at == monday(11)
            world.do("take", case, world.desk)
            assert _duty(case).spec == "9wd"
    finally:
        clocks.forget_overrides()
