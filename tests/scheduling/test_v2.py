"""HL7 v2: a hospital's system books in the shared pool (SRM), and tells of what it booked itself (SIU)."""

from __future__ import annotations

from typing import Any

import pytest

from lianxin.access import tokens
from lianxin.access.models import Client
from lianxin.duty.models import Case
from lianxin.exchange.v2 import message, outbound_changes, receiving
from lianxin.exchange.v2.models import Peer, V2Message
from lianxin.pool import booking as pool
from lianxin.pool.models import Place, Session
from lianxin.record import feed
from lianxin.resident.booking import service
from lianxin.resident.booking.models import Appointment
from lianxin.standards import clock
from tests.referral.world import START, World, key

from .world import session

HIS = "urn:oid:2.999.7"
PEOPLE = {"A1": "欧阳明月||19690517|F", "A2": "司徒建国||19830102|M"}


def peer(institution: Any, name: str = "HIS", scope: str = "system/*.cruds") -> Peer:
    tokens.issue(name, scope, institution.code)
    return Peer.objects.create(
        name=name,
        application=name,
        facility="F",
        client=Client.objects.get(name=name),
        default_system=HIS,
        created_at=clock.now(),
    )


def send(kind: str, control: str, *segments: str, who: str = "A1", name: str = "HIS") -> message.Message:
    head = f"MSH|^~\\&|{name}|F|LIANXIN|LX|20260302090000||{kind}|{control}|P|2.5"
    pid = f"PID|1||{who}^^^HISA&2.999.1&ISO^MR||{PEOPLE[who]}"
    return message.parse(receiving.receive("\r".join([head, *segments[:1], pid, *segments[1:]]).encode()))


def srm(
    event: str, control: str, number: str, one: Session | None = None, seat: str = "", **more: Any
) -> message.Message:
    schedule = f"slot-{one.pk}" if one is not None else ""
    return send(
        f"SRM^{event}^SRM_S01",
        control,
        f"ARQ|{number}||||{schedule}",
        "RGS|1",
        f"AIS|1||{schedule}^{seat}",
        **more,
    )


def siu(
    event: str, control: str, number: str, schedule: str = "", when: str = "", tail: str = "", **more: Any
) -> message.Message:
    return send(
        f"SIU^{event}^SIU_S12", control, f"SCH|{number}|F{number}|||{schedule}||||||{'^^^' + when if when else ''}", "RGS|1", tail or "AIL|1", **more
    )  # fmt: skip


def booked() -> list[Appointment]:
    return list(Appointment.objects.unscoped("test").select_related("case", "place").order_by("pk"))


def test_a_hospital_books_moves_and_cancels_in_the_pool(committed: World) -> None:
    world = committed
    with clock.at(START):
        peer(world.county.townships[0])
        one, two = session(world, 2), session(world, 1, days=3)
        made = srm("S01", "1", "P1", one, seat="2")
        assert (made.kind, made.text("MSA", 1), made.text("SCH", 25)) == (("SRR", "S01"), "AA", "Booked")
        number = made.text("SCH", 2)
        assert number == booked()[0].case.number
        assert booked()[0].place.seat_no == 2
        assert srm("S01", "1", "P1", one, seat="2").text("SCH", 2) == number, "the same message again"
        assert srm("S01", "2", "P1", one, seat="2").text("SCH", 2) == number, (
            "the same number in another message"
        )
        assert len(booked()) == 1
        moved = srm("S03", "3", "P1", two)
        assert (moved.text("MSA", 1), moved.text("SCH", 5)) == ("AA", f"slot-{two.pk}")
        full = srm("S01", "4", "P2", two, who="A2")
        assert (full.text("MSA", 1), full.text("SCH", 25)) == ("AE", "Cancelled")
        assert f"slot-{one.pk}" in full.text("NTE", 3), "another that is free"
        assert srm("S01", "4", "P2", two, who="A2").text("MSA", 1) == "AE", "answered alike"
        off = srm("S04", "5", "P1")
        assert (off.text("MSA", 1), off.text("SCH", 25)) == ("AA", "Cancelled")
        assert srm("S04", "6", "P1").text("MSA", 1) == "AA"
        again = srm("S01", "7", "P1", two)
        assert again.text("SCH", 2) not in ("", number), "a number that ended may be used again"
        assert pool.recount() == []


def test_a_hospital_tells_of_its_own_bookings(committed: World) -> None:
    world = committed
    department = world.county.departments["surgery"]
    with clock.at(START):
        peer(world.county.lead)
        one = session(world, 1, owner="hospital", external_id="EXT-1")
        two = session(world, 3, days=3, owner="hospital", external_id="EXT-2")
        assert siu("S12", "1", "N1", "EXT-1").text("MSA", 1) == "AA"
        assert [(a.case.state, a.session_id) for a in booked()] == [("booked", one.pk)], (
            "its own word needs no yes"
        )
        assert siu("S12", "2", "N2", "EXT-1", who="A2").text("MSA", 1) == "AA"
        one.refresh_from_db()
        assert one.capacity == 2, "its own numbers: it has the last word on how many"
        when = f"{two.starts_at.astimezone(clock.ZONE):%Y%m%d%H%M}"
        moved = siu("S13", "3", "N1", when=when, tail=f"AIL|1||{department.code}")
        assert moved.text("MSA", 1) == "AA", [x.line for x in moved.segments]
        assert [(a.case.state, a.session_id) for a in booked()] == [("booked", two.pk), ("booked", one.pk)]
        assert siu("S15", "4", "N2").text("MSA", 1) == "AE", "of another patient"
        assert siu("S15", "5", "N2", who="A2").text("MSA", 1) == "AA"
        assert booked()[1].case.state == "cancelled"
        early = siu("S26", "6", "N1")
        assert (early.text("MSA", 1), booked()[0].case.state) == ("AE", "booked"), "not before it is over"
    with clock.at(two.ends_at + (two.ends_at - two.starts_at)):
        assert siu("S26", "7", "N1").text("MSA", 1) == "AA"
        assert booked()[0].case.state == "no_show"
        assert Place.objects.unscoped("test").get(pk=booked()[0].place_id).state == "no_show"
        assert pool.recount() == []


def test_platforms_numbers_are_not_the_hospitals_to_add(committed: World) -> None:
    world = committed
    with clock.at(START):
        peer(world.county.lead)
        one = session(world, 1, external_id="P-1")
        assert siu("S12", "1", "N1", "P-1").text("MSA", 1) == "AA"
        assert siu("S12", "2", "N2", "P-1", who="A2").text("MSA", 1) == "AE"
        one.refresh_from_db()
        assert (one.capacity, one.taken) == (1, 1)


def test_other_bookings_stay_part_of_the_record_only(committed: World) -> None:
    with clock.at(START):
        peer(committed.county.lead)
        told = siu("S12", "1", "N1", "ELSEWHERE", when="20260305080000^20260305081000", tail="AIL|1||门诊3")
        assert told.text("MSA", 1) == "AA"
        assert booked() == []


@pytest.mark.parametrize(
    ("event", "number", "schedule"),
    [("S01", "", "slot-1"), ("S01", "P1", "slot-999999999"), ("S01", "P1", "slot-99999999999999999999"), ("S01", "P1", ""),
     ("S04", "P9", ""), ("S03", "P9", "slot-1"), ("S01", "P1", "slot--1"), ("S01", "P1", "slot-１")],
)  # fmt: skip
def test_what_cannot_be_done_is_told(committed: World, event: str, number: str, schedule: str) -> None:
    with clock.at(START):
        peer(committed.county.townships[0])
        told = send(f"SRM^{event}^SRM_S01", "1", f"ARQ|{number}||||{schedule}", "RGS|1")
        assert told.text("MSA", 1) == "AE"
        assert told.text("ERR", 8) or told.text("ERR", 7)
        assert booked() == []


def test_who_may_not_book_is_told(committed: World) -> None:
    with clock.at(START):
        one = session(committed, 2)
        peer(committed.county.townships[0], "LAB", "system/Patient.cruds")
        assert srm("S01", "1", "P1", one, name="LAB").text("MSA", 1) == "AE"
        peer(committed.county.townships[0])
        peer(committed.county.tcm, "OTHER")
        number = srm("S01", "1", "P1", one).text("SCH", 2)
        assert srm("S04", "2", "P1", name="OTHER").text("MSA", 1) == "AE", "another system's number"
        stolen = send("SRM^S04^SRM_S01", "3", f"ARQ|X|{number}", "RGS|1", name="OTHER")
        assert stolen.text("MSA", 1) == "AE"
        assert Case.objects.unscoped("test").get(number=number).state == "booked"


def test_who_booked_elsewhere_hears_of_it(committed: World) -> None:
    world = committed
    with clock.at(START):
        told = peer(world.county.townships[0])
        Peer.objects.filter(pk=told.pk).update(
            host="127.0.0.1", port=9, wants=["SIU"], told_rid=outbound_changes.begin_record()
        )
        one = session(world, 2)
        made = service.book(world["gp0"], one.pk, world.person.pk, key())
        outbound_changes.compose(feed.Watch())
        service.cancel(world["gp0"], made.case.number, key(), "改主意")
        outbound_changes.compose(feed.Watch())
        assert list(V2Message.objects.order_by("pk").values_list("kind", flat=True)) == ["SIU^S12", "SIU^S15"]
