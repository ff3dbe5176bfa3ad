"""Booking by phone: once however often it is sent; full, waiting, moving, cancelling, barred; nobody else's."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.pool import booking
from lianxin.pool.models import Place
from lianxin.resident.booking.models import Appointment, Bar, Waiting
from lianxin.standards import clock
from tests.phone import world

pytestmark = pytest.mark.django_db


def appointments() -> list[Appointment]:
    return list(Appointment.objects.unscoped("test").select_related("case").order_by("pk"))


def book(county: world.County, session: int, **fields: str) -> str:
    """Book by the page; the address of the visit."""
    answer = county.client().post(f"/m/numbers/{session}/book", {"key": "one", **fields})
    assert answer.status_code == 302, answer.content.decode()
    return str(answer.headers["Location"])


def test_the_same_form_twice_is_one_visit_with_what_one_has_to_know() -> None:
    county = world.build()
    page = county.client().get(f"/m/numbers/{county.session.pk}").content.decode()
    assert "居试娘" in page
    assert "12.00" in page
    assert "08:00" in page
    assert "估计" in page
    first, second = book(county, county.session.pk), book(county, county.session.pk)
    assert first == second
    assert len(appointments()) == 1
    again = county.client().post(f"/m/numbers/{county.session.pk}/book", {"key": "another"})
    assert again.headers["Location"] == first
    assert len(appointments()) == 1
    shown = county.client().get(first).content.decode()
    assert "已预约" in shown
    assert "去之前" in shown
    assert "取消预约" in shown
    assert first.rpartition("/")[2] in county.client().get("/m/").content.decode()


def test_a_time_of_ones_choice_and_a_time_that_has_just_gone() -> None:
    county = world.build()
    booking.book(county.session.pk, world.make_person().pk, "public", "x", seat=2)
    answer = county.client().post(f"/m/numbers/{county.session.pk}/book", {"key": "k", "seat": "2"})
    assert answer.status_code == 409
    assert "刚刚被约走" in answer.content.decode()
    assert not appointments()
    book(county, county.session.pk, seat="3")
    assert appointments()[0].place.seat_no == 3


@pytest.mark.parametrize("fields", [{}, {"key": ""}, {"seat": "1"}])
def test_a_form_without_its_key_books_nothing(fields: dict[str, str]) -> None:
    county = world.build()
    answer = county.client().post(f"/m/numbers/{county.session.pk}/book", fields)
    assert answer.status_code == 422
    assert not appointments()


def test_full_names_others_and_one_may_wait_and_take_what_comes_back() -> None:
    county = world.build()
    world.fill(county)
    answer = county.client().post(f"/m/numbers/{county.full.pk}/book", {"key": "k"})
    page = answer.content.decode()
    assert answer.status_code == 409
    assert f"/m/numbers/{county.session.pk}" in page
    assert "候补" in page
    assert not appointments()
    county.client().post(f"/m/numbers/{county.full.pk}/wait", {"key": "w"})
    county.client().post(f"/m/numbers/{county.full.pk}/wait", {"key": "w"})
    row = Waiting.objects.unscoped("test").get()
    assert "您排第一" in county.client().get("/m/").content.decode()
    booking.cancel(Place.objects.unscoped("test").get(session=county.full), "gone")
    row.refresh_from_db()
    assert row.state == "offered"
    assert "轮到您了" in county.client().get("/m/").content.decode()
    taken = county.client().post(f"/m/waiting/{row.pk}", {"do": "take"})
    assert taken.status_code == 302
    assert "/m/visits/" in taken.headers["Location"]
    assert appointments()[0].session_id == county.full.pk


def test_waiting_is_left_or_an_unknown_answer_changes_nothing() -> None:
    county = world.build()
    world.fill(county)
    client = county.client()
    client.post(f"/m/numbers/{county.full.pk}/wait", {"key": "w"})
    row = Waiting.objects.unscoped("test").get()
    client.post(f"/m/waiting/{row.pk}", {"do": "nonsense"})
    row.refresh_from_db()
    assert row.state == "waiting"
    client.post(f"/m/waiting/{row.pk}", {"do": "leave"})
    row.refresh_from_db()
    assert row.state == "left"


def test_moving_keeps_the_visit_and_cancelling_gives_the_number_back() -> None:
    county = world.build()
    later = world.make_session(
        county.cardiology, starts_at=world.tomorrow(8, days=3), ends_at=world.tomorrow(11, days=3)
    )
    visit = book(county, county.session.pk)
    number = visit.rpartition("/")[2]
    page = county.client().get(f"/m/numbers/{later.pk}?move={number}").content.decode()
    assert number in page
    assert "改到这个时间" in page
    assert book(county, later.pk, key="m", move=number) == visit
    assert book(county, later.pk, key="m", move=number) == visit
    (row,) = appointments()
    assert row.session_id == later.pk
    county.session.refresh_from_db()
    assert county.session.taken == 0
    assert "取消这个预约" in county.client().get(f"{visit}/cancel").content.decode()
    for _ in range(2):
        answer = county.client().post(f"{visit}/cancel", {"key": "c", "reason": "有事"})
        assert answer.status_code == 302, answer.content.decode()
    later.refresh_from_db()
    assert later.taken == 0
    assert appointments()[0].case.state == "cancelled"
    assert "已取消" in county.client().get(visit).content.decode()


def test_who_is_barred_learns_until_when_and_may_appeal_once() -> None:
    county = world.build()
    now = clock.now()
    book(county, county.session.pk)
    Appointment.objects.unscoped("test").update(missed_at=now - dt.timedelta(days=1), live=False)
    later = world.make_session(
        county.cardiology, starts_at=world.tomorrow(8, days=4), ends_at=world.tomorrow(11, days=4)
    )
    Bar.objects.create(
        person=county.me, institution=county.hospital, since=now - dt.timedelta(days=1), until=now + dt.timedelta(days=30), misses=3,
        reason="180 天内爽约 3 次（规定 3 次）。", reason_en="Three visits missed.",
    )  # fmt: skip
    answer = county.client().post(f"/m/numbers/{later.pk}/book", {"key": "k"})
    page = answer.content.decode()
    assert answer.status_code == 403
    assert "前暂时不能约公开号" in page
    assert "/m/appeal" in page
    assert len(appointments()) == 1
    assert county.client().post("/m/appeal", {"text": " "}).status_code == 422
    assert county.client().post("/m/appeal", {"text": "长" * 1001}).status_code == 422
    assert county.client().post("/m/appeal", {"text": "当天在外院抢救", "key": "a"}).status_code == 302
    assert "正在处理" in county.client().get("/m/appeal").content.decode()


def test_one_acts_for_family_and_for_nobody_else() -> None:
    county = world.build()
    client = county.client()
    assert (
        client.post("/m/who", {"person": county.child.pk, "next": "/m/find"}).headers["Location"] == "/m/find"
    )
    page = client.get("/m/").content.decode()
    assert "正在为家人办理" in page
    assert "居试儿" in page
    client.post(f"/m/numbers/{county.session.pk}/book", {"key": "k"})
    assert appointments()[0].person_id == county.child.pk
    stranger = world.make_person("陌生人")
    for value in (str(stranger.pk), "", "x", "9" * 30):
        assert client.post("/m/who", {"person": value}).status_code == 422
    assert (
        client.post("/m/who", {"person": county.me.pk, "next": "//evil.example"}).headers["Location"] == "/m/"
    )


def test_what_is_somebody_elses_is_not_there() -> None:
    county = world.build()
    visit = book(county, county.session.pk)
    other = world.signed_in(world.make_resident(world.make_person("旁人")))
    assert other.get(visit).status_code == 404
    assert other.post(f"{visit}/cancel", {"key": "c"}).status_code == 404
    assert other.get(f"/m/numbers/{county.session.pk}?move={visit.rpartition('/')[2]}").status_code == 200
    answer = other.post(
        f"/m/numbers/{county.session.pk}/book", {"key": "k", "move": visit.rpartition("/")[2]}
    )
    assert answer.status_code == 404
    assert appointments()[0].case.state == "booked"


def test_the_pages_are_for_residents_who_are_signed_in() -> None:
    county = world.build()
    staff = world.signed_in(world.staff(county.hospital, "clinician"))
    for path in ("/m/", "/m/find", "/m/record", "/m/looked", f"/m/numbers/{county.session.pk}"):
        assert staff.get(path).status_code == 403, path
        answer = world.Client().get(path)
        assert answer.status_code == 302, path
        assert answer.headers["Location"].startswith("/m/login"), path
    unbound = world.Account.objects.create(username="ungebunden", name="x", resident=True)
    client = world.signed_in(unbound)
    assert "先绑定身份" in client.get("/m/").content.decode()
    assert client.post(f"/m/numbers/{county.session.pk}/book", {"key": "k"}).status_code == 302
    assert not appointments()
    assert client.get("/m/find").status_code == 200


def test_a_session_that_is_stopped_or_over_is_said_to_be() -> None:
    county = world.build()
    visit = book(county, county.session.pk)
    booking.stop_session(county.session.pk, "医生出差")
    page = county.client().get("/m/").content.decode()
    assert "需要改约" in page
    assert "改时间" in county.client().get(visit).content.decode()
    answer = county.client().get(f"/m/numbers/{county.session.pk}")
    assert answer.status_code == 200
    assert "不能预约了" in answer.content.decode()
