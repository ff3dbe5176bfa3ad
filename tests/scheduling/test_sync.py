"""A hospital's sessions in the pool, and what happens when both sides differ."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.duty.models import Case
from lianxin.pool import booking as pool
from lianxin.pool.models import Session
from lianxin.resident.booking import service
from lianxin.resident.scheduling import asking, sync
from lianxin.resident.scheduling.adapters import Theirs
from lianxin.resident.scheduling.models import BookingSystem, Note, OwnerRule
from lianxin.standards import clock
from tests.referral.world import START, World, key

from .hospital import running
from .world import people, session

DAY = START + dt.timedelta(days=3)
END = START + dt.timedelta(days=28)


def made(world: World, **more: Any) -> BookingSystem:
    own = BookingSystem.objects.create(
        name="HIS",
        institution=world.county.lead,
        way="fhir",
        url="http://127.0.0.1:9/fhir",
        created_at=clock.now(),
        **more,
    )
    OwnerRule.objects.create(system=own, owner="hospital")
    OwnerRule.objects.create(system=own, department=world.county.departments["internal"], owner="platform")
    return own


def said(
    number: str = "A1", department: str = "WK", capacity: int = 4, hours: int = 0, **more: Any
) -> Theirs:
    start = DAY + dt.timedelta(hours=hours)
    given: dict[str, Any] = {"practitioner": "", "kind": "clinic", "clinic_type": "普通"}
    given |= more
    return Theirs(number, department, given.pop("practitioner"), given.pop("kind"), given.pop("clinic_type"), start, start + dt.timedelta(hours=4), capacity, **given)  # fmt: skip


def notes() -> set[str]:
    return set(Note.objects.values_list("kind", flat=True))


def test_sessions_are_taken_over_and_kept_in_step(world: World) -> None:
    own = made(world)
    took = sync.take(own, [said(), said("A2", hours=5)], START, END, whole=True)
    assert (took.new, took.changed, took.stopped) == (2, 0, 0)
    one = Session.objects.get(external_id="A1")
    assert (one.owner, one.capacity) == ("hospital", 4)
    again = sync.take(own, [said(), said("A2", hours=5)], START, END, whole=True)
    assert (again.new, again.changed, again.stopped) == (0, 0, 0), "taking the same again changes nothing"
    sync.take(own, [said(capacity=9), said("A2", hours=6)], START, END, whole=True)
    one.refresh_from_db()
    assert one.capacity == 9
    assert Session.objects.get(external_id="A2").starts_at == DAY + dt.timedelta(hours=6)
    gone = sync.take(own, [said(capacity=9)], START, END, whole=True)
    assert gone.stopped == 1
    assert Session.objects.get(external_id="A2").status == "stopped"
    assert notes() == {"vanished"}


def test_the_platforms_numbers_never_change(world: World) -> None:
    own = made(world)
    mine = session(
        world, 5, days=3, hour=9, department=world.county.departments["internal"], external_id="P1"
    )
    clash = session(world, 5, days=3, hour=9)
    before = list(Session.objects.order_by("pk").values())
    given = [
        said("P1", "NK", 1, gone=True),
        said("N1", "NK"),
        said("C1"),
        said("U1", "XX"),
        said("U2", practitioner="nobody"),
    ]
    took = sync.take(own, given, START, END, whole=True)
    assert list(Session.objects.order_by("pk").values()) == before
    assert (took.new, took.noted) == (0, 5)
    assert notes() == {"ours", "clash", "unknown"}
    assert mine.starts_at == clash.starts_at


def test_fewer_numbers_than_are_booked_delete_nobody(world: World) -> None:
    own = made(world)
    sync.take(own, [said()], START, END, whole=True)
    one = Session.objects.get(external_id="A1")
    booked = [service.book(world["gp0"], one.pk, p.pk, key()) for p in people(world, 3)]
    assert asking.step() == 0 or own.failures >= 0
    took = sync.take(own, [said(capacity=1)], START, END, whole=True)
    assert took.displaced == 2
    one.refresh_from_db()
    assert (one.capacity, one.taken) == (1, 1)
    states = [Case.objects.unscoped("test").get(pk=b.pk).state for b in booked]
    assert states == ["requested", "to_rebook", "to_rebook"], "who booked last is owed another number"
    assert pool.recount() == []
    assert notes() == {"cut"}
    assert sync.take(own, [said(capacity=1)], START, END, whole=True).displaced == 0


def test_a_session_at_another_time_is_another_session(world: World) -> None:
    own = made(world)
    sync.take(own, [said()], START, END, whole=True)
    one = Session.objects.get(external_id="A1")
    mine = service.book(world["gp0"], one.pk, world.person.pk, key())
    took = sync.take(own, [said(hours=3)], START, END, whole=True)
    assert (took.stopped, took.new, took.displaced) == (1, 1, 1)
    assert Case.objects.unscoped("test").get(pk=mine.pk).state == "to_rebook"
    assert Session.objects.get(external_id="A1").pk != one.pk
    assert notes() == {"moved"}


def test_more_than_half_gone_at_once_is_asked_about(world: World) -> None:
    own = made(world)
    sync.take(own, [said(f"A{n}", hours=5 * n) for n in range(8)], START, END, whole=True)
    took = sync.take(own, [said("A0")], START, END, whole=True)
    assert (took.stopped, took.held_back) == (0, 7)
    own.lets_vanish = True
    assert sync.take(own, [said("A0")], START, END, whole=True).stopped == 7


def test_sessions_are_pulled_page_by_page_and_then_only_what_changed(committed: World) -> None:
    world = committed

    def slot(number: str, hour: int, updated: str, **more: Any) -> dict[str, Any]:
        start = (DAY + dt.timedelta(hours=hour)).isoformat()
        end = (DAY + dt.timedelta(hours=hour + 2)).isoformat()
        url = "http://lianxin.example/StructureDefinition/slot-numbers"
        return {
            "resourceType": "Slot", "id": number, "meta": {"lastUpdated": updated}, "schedule": {"reference": "Schedule/SC-RMYY-WK"},
            "status": "free", "start": start, "end": end, "extension": [{"url": url, "valuePositiveInt": 7}], **more,
        }  # fmt: skip

    with running() as hospital, clock.at(START):
        own = made(world, pulls=True)
        BookingSystem.objects.filter(pk=own.pk).update(url=hospital.url)
        hospital.slots = [slot(f"S{n}", 3 * n, f"2026-03-01T00:0{n}:00Z") for n in range(5)]
        hospital.slots.append(slot("BAD", 1, "2026-03-01T00:00:00Z", start="tomorrow"))
        took = sync.pull(own.pk)
        assert took is not None
        assert (took.new, took.noted) == (5, 1)
        assert Session.objects.get(external_id="S0").capacity == 7
        own.refresh_from_db()
        assert own.pulled_to == "2026-03-01T00:04:00Z"
        hospital.slots.append(slot("S9", 40, "2026-03-02T00:00:00Z"))
        took = sync.pull(own.pk)
        assert took is not None
        assert (took.seen, took.new, took.stopped) == (2, 1, 0), "only what changed since"
        hospital.up = False
        assert sync.pull(own.pk) is None
        own.refresh_from_db()
        assert own.pull_error
