"""Finding: what people type leads to a department, a doctor, a house; days and numbers are what booking would give."""

from __future__ import annotations

import pytest

from lianxin.pool import booking
from lianxin.resident.phone import finding, words
from lianxin.resident.phone.trend import drawing, said
from lianxin.standards import clock
from tests.phone import world

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("血压高", "specialty"), ("gxy", "specialty"), ("gaoxueya", "specialty"), ("chest pain", "specialty"), ("心血管", "department"),
        ("xinxueguan", "department"), ("甄心", "doctor"), ("zx", "doctor"), ("人民医院", "institution"), ("cardiology", "department"),
    ],
)  # fmt: skip
def test_words_pinyin_and_initials_find(typed: str, kind: str) -> None:
    world.build()
    assert kind in {hit.kind for hit in finding.suggest(typed)}


@pytest.mark.parametrize("typed", ["", " ", "%", "'; --", "zzzz", "a", "\u200b", "测" * 500])
def test_nonsense_finds_nothing_and_breaks_nothing(typed: str) -> None:
    county = world.build()
    assert finding.suggest(typed) == []
    assert county.client().get("/m/find", {"q": typed}).status_code == 200


def test_days_count_what_booking_gives_and_full_ones_stay_in_the_list() -> None:
    county = world.build()
    world.fill(county)
    found = finding.numbers(finding.Wanted(specialty="03.04"), None, county.clinic)
    day = next(d for d in found.days if d.chosen)
    assert (day.day, day.free, day.sessions) == (world.tomorrow(8).date(), 5, 2)
    assert [(line.session.pk, line.free) for line in found.lines] == [
        (county.session.pk, 5),
        (county.full.pk, 0),
    ]
    assert "估计" in str(found.lines[0].travel)
    booking.book(county.session.pk, county.me.pk, "public", "one")
    county.session.refresh_from_db()
    assert finding.public_free(county.session, clock.now()) == 4
    assert [n for n, _ in finding.free_seats(county.session, clock.now())] == [2, 3, 4, 5]


def test_what_is_kept_for_the_grassroots_is_not_offered_to_the_public() -> None:
    county = world.build()
    session = world.make_session(
        county.cardiology, starts_at=world.tomorrow(18), ends_at=world.tomorrow(20), capacity=4, reserved_county=3,
        reserved_township=3, reserved_village=1, release_county=world.tomorrow(7), release_township=world.tomorrow(7),
        release_village=world.tomorrow(7),
    )  # fmt: skip
    assert finding.public_free(session, clock.now()) == 1
    booking.book(session.pk, county.me.pk, "public", "last-public")
    session.refresh_from_db()
    assert finding.public_free(session, clock.now()) == 0
    assert county.client().get(f"/m/numbers/{session.pk}").status_code == 200


def test_a_way_without_a_position_is_not_invented() -> None:
    county = world.build()
    assert words.travel(None, county.hospital) is None
    county.clinic.lon = county.clinic.lat = None
    assert words.travel(county.clinic, county.hospital) is None
    assert str(words.travel(county.hospital, county.hospital)) == "就在附近"


@pytest.mark.parametrize(
    "query",
    [
        "day=2026-99-99",
        "day=x",
        "institution=99999999999999999999",
        "doctor=-1",
        "department=abc",
        "sort=x",
    ],
)
def test_a_broken_address_shows_the_page(query: str) -> None:
    county = world.build()
    assert county.client().get(f"/m/numbers?specialty=03.04&{query}").status_code == 200
    assert county.client().get(f"/m/numbers?{query}").status_code in (200, 302)


def test_no_points_no_picture() -> None:
    assert drawing([]) == ""
    assert said([]).en == "No numeric results."
