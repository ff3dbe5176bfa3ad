"""Templates, single days and sessions: what follows, what stays, what is refused."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.duty import periodic
from lianxin.pool.models import RosterChange, Session
from lianxin.resident.schedules import jobs, planning, stopping
from lianxin.resident.schedules.acts import Refused
from lianxin.resident.schedules.models import Act
from lianxin.standards import calendar, clock
from lianxin.standards.models import CalendarDay
from tests.schedules.world import World, at, places


def test_sessions_are_made_ahead_once_and_after_a_pause_of_days(world: World) -> None:
    template = world.template()
    assert jobs.make_ahead() == 4  # four Tuesdays in four weeks
    assert jobs.make_ahead() == 0
    with clock.at(at(20, 9)):
        assert "schedules.make" in periodic.run_due()
        assert "schedules.make" not in periodic.run_due()
    days = [s.starts_at.astimezone(clock.ZONE).date() for s in Session.objects.filter(template=template)]
    assert sorted(days)[-1] == dt.date(2026, 12, 15)
    assert len(set(days)) == len(days) == 7


def test_sessions_are_made_before_the_earliest_numbers_open(world: World) -> None:
    world.template(opens_days=60)
    assert jobs.ahead_days() == 67
    assert jobs.make_ahead([world.county.tcm.pk]) == 0


def test_a_changed_template_changes_what_nobody_booked_and_names_what_differs(world: World) -> None:
    template = world.template()
    jobs.make_ahead()
    first, second, third, fourth = Session.objects.order_by("starts_at")
    world.book(first)
    planning.add_extra(second.pk, 1)
    Act.objects.create(key="x", kind="extra", session=second)
    template.start, template.capacity = dt.time(9), 12
    template.save()
    done = planning.apply(world.scope("desk"), template)
    assert (done.changed, done.kept, done.made, done.withdrawn) == (2, 2, 0, 0)
    for session, hour, capacity in ((first, 8, 10), (second, 8, 11), (third, 9, 12), (fourth, 9, 12)):
        session.refresh_from_db()
        assert (session.starts_at.astimezone(clock.ZONE).hour, session.capacity) == (hour, capacity)
    found = planning.differing(template)
    assert [(d.session.pk, d.taken, d.by_hand) for d in found] == [(first.pk, 1, False), (second.pk, 0, True)]
    assert {str(f) for f in found[0].fields or ()} == {"开始时间", "号数"}
    assert planning.apply(world.scope("desk"), template).changed == 0


def test_a_session_no_longer_wanted_is_removed_or_stopped_and_comes_back(world: World) -> None:
    template = world.template()
    jobs.make_ahead()
    booked = Session.objects.order_by("starts_at")[1]
    world.book(booked)
    template.weekday = 2
    template.save()
    done = planning.apply(world.scope("desk"), template)
    # the first Tuesday's numbers are open: it is stopped so that whoever is booking gets an answer; two later ones go
    assert (done.withdrawn, done.kept, done.made) == (3, 1, 4)
    assert Session.objects.filter(status="stopped").count() == 1
    assert [d.fields for d in planning.differing(template)] == [None]
    template.weekday = 1
    template.save()
    done = planning.apply(world.scope("desk"), template)
    assert done.changed == 1
    assert not Session.objects.filter(starts_at__week_day=3, status="stopped").exists()
    assert not Act.objects.filter(kind="withdraw", session__status="open").exists()


def test_a_day_that_differs(world: World) -> None:
    template, by = world.template(), world.scope("desk")
    jobs.make_ahead()
    surgeon = world.county.posts["surgeon"].practitioner
    values = {"off": False, "practitioner_id": surgeon.pk, "capacity": 6, "reason": "进修"}
    planning.change_day(by, template, dt.date(2026, 11, 10), **values)  # type: ignore[arg-type]
    session = Session.objects.get(starts_at=at(10, 8))
    assert (session.practitioner_id, session.capacity) == (surgeon.pk, 6)
    planning.undo_day(by, RosterChange.objects.get())
    session.refresh_from_db()
    assert session.capacity == 10
    world.book(session)
    with pytest.raises(Refused) as refused:
        planning.change_day(
            by, template, dt.date(2026, 11, 10), off=True, practitioner_id=None, capacity=None, reason="请假"
        )
    assert refused.value.status == 409
    with pytest.raises(Refused):
        planning.change_day(
            by, template, dt.date(2026, 11, 11), off=True, practitioner_id=None, capacity=None, reason="请假"
        )
    done = planning.change_day(
        by, template, dt.date(2026, 11, 17), off=True, practitioner_id=None, capacity=None, reason="请假"
    )
    assert done.withdrawn == 1
    assert jobs.make_ahead() == 0


def test_fewer_numbers_never_move_anybody(world: World) -> None:
    session = world.session(capacity=6, ends_at=at(3, 14))
    place = world.book(session).place
    with pytest.raises(Refused):
        planning.fewer(session.pk, 6)
    planning.fewer(session.pk, 4)
    session.refresh_from_db()
    assert (session.capacity, session.ends_at) == (2, at(3, 10))
    assert places(session)[0].at == place.at
    assert session.time_of(2) == at(3, 9)


def test_quotas_extra_numbers_and_substitutes_say_why_not(world: World) -> None:
    session = world.session()
    for wanted in ((1, 2, 0), (4, 0, 0), (2, 1, -1)):
        with pytest.raises(Refused):
            planning.set_quotas(session.pk, *wanted)
    assert planning.set_quotas(session.pk, 3, 2, 1).reserved_county == 3
    with pytest.raises(Refused):
        planning.add_extra(session.pk, 11)
    assert planning.add_extra(session.pk, 10).extra == 10
    with pytest.raises(Refused):
        planning.add_extra(session.pk, 1)
    surgeon = world.county.posts["surgeon"].practitioner
    world.session(department=world.county.departments["surgery"], practitioner=surgeon, starts_at=at(3, 10), ends_at=at(3, 12))  # fmt: skip
    with pytest.raises(Refused):
        planning.substitute(session.pk, surgeon.pk)
    session.status = "stopped"
    session.save()
    with pytest.raises(Refused):
        planning.set_quotas(session.pk, 0, 0, 0)


def test_a_week_is_copied_without_days_off_and_never_twice(world: World) -> None:
    template = world.template()
    jobs.make_ahead()
    wednesday = world.session(at(4, 14))
    CalendarDay.objects.create(day=dt.date(2026, 11, 11), workday=False, name="试")
    calendar.forget_overrides()
    try:
        rows = list(Session.objects.filter(starts_at__lt=at(8, 0)).select_related("template"))
        done = planning.copy_week(rows, 1)
        assert (done.made, done.there, done.holidays) == (0, 1, 1)
        done = planning.copy_week(rows, 5)
        assert (done.made, done.there, done.holidays) == (2, 0, 0)
        assert planning.copy_week(rows, 5).there == 2
    finally:
        CalendarDay.objects.all().delete()
        calendar.forget_overrides()
    copied = Session.objects.get(starts_at=wednesday.starts_at + dt.timedelta(weeks=5))
    assert (copied.capacity, copied.template_id) == (3, None)
    assert Session.objects.filter(template=template, starts_at=at(3, 8) + dt.timedelta(weeks=5)).count() == 1


def test_a_stopped_session_opens_again_only_while_it_lies_ahead(world: World) -> None:
    session, by = world.session(), world.scope("desk")
    visit = world.book(session)
    acts = stopping.stop(by, [session], "医生请假", "k")
    assert acts[0].detail["numbers"] == 1
    assert stopping.stop(by, [session], "医生请假", "k") == acts  # the same form
    session.refresh_from_db()
    assert stopping.stop(by, [session], "医生请假", "other") == []
    after = stopping.aftermath(by, acts)
    assert [a.outcome for a in after] == ["owed"]
    assert after[0].duties
    assert after[0].case is not None
    assert after[0].case.number == visit.number
    other = world.session(at(3, 14))
    from lianxin.resident.booking import service

    service.reschedule(by, visit.number, other.pk, "again")
    after = stopping.aftermath(by, acts)
    assert [a.outcome for a in after] == ["rebooked"]
    assert after[0].now is not None
    assert after[0].now.session_id == other.pk
    act = stopping.reopen(by, session, "医生已返岗", "r")
    assert act.detail == {"rebooked": 1, "owed": 0}
    session.refresh_from_db()
    assert (session.status, session.taken) == ("open", 0)
    with pytest.raises(Refused):
        stopping.reopen(by, session, "再来", "r2")
    stopping.stop(by, [session], "设备故障", "k3")
    with clock.at(at(3, 8, 1)), pytest.raises(Refused):
        stopping.reopen(by, session, "修好了", "r3")
