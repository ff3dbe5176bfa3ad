"""The working calendar: holidays, make-up days, and arithmetic that must round-trip."""

import datetime as dt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.standards import calendar, clock
from lianxin.standards.models import CalendarDay

ZONE = clock.ZONE
instants = st.datetimes(
    dt.datetime(2025, 9, 1), dt.datetime(2027, 3, 1), timezones=st.just(ZONE)
)  # across a Spring Festival, make-up days and the end of the announced years
minutes = st.integers(0, 6000)


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZONE)


@pytest.fixture(autouse=True)
def _no_rows(monkeypatch, request):
    """Without a database the calendar stands on the notices alone."""
    if "db" not in request.fixturenames and "django_db" not in {m.name for m in request.node.iter_markers()}:
        monkeypatch.setattr(calendar, "_override", lambda day: None)
    calendar.forget_overrides()
    yield
    calendar.forget_overrides()


@pytest.mark.parametrize(
    ("day", "worked"),
    [
        ("2025-10-01", False), ("2025-10-08", False), ("2025-10-09", True), ("2025-10-11", True), ("2025-09-28", True),
        ("2026-11-23", True), ("2026-11-22", False), ("2024-02-04", True), ("2024-02-18", True), ("2020-01-31", False),
        ("2027-01-04", True), ("2027-01-03", False), ("2099-12-31", True), ("1999-01-04", True),
    ],
)  # fmt: skip
def test_notices_make_up_days_and_years_without_a_notice(day, worked):
    assert calendar.is_workday(dt.date.fromisoformat(day)) is worked


@pytest.mark.django_db
def test_a_row_overrides_the_notice_at_once():
    day = dt.date(2027, 2, 8)  # a Monday no built-in notice knows
    assert calendar.is_workday(day)
    row = CalendarDay.objects.create(day=day, workday=False, name="春节")
    assert not calendar.is_workday(day)
    start = at("2027-02-05T17:00")
    assert calendar.due(start, "1wd") == at("2027-02-09T17:00")
    row.delete()
    assert calendar.is_workday(day)


@pytest.mark.parametrize(
    ("start", "spec", "due"),
    [
        ("2026-11-23T09:00", "10m", "2026-11-23T09:10"),
        ("2026-11-23T23:50", "4h", "2026-11-24T03:50"),
        ("2026-11-23T09:00", "7d", "2026-11-30T09:00"),
        ("2026-11-23T09:00", "4wh", "2026-11-23T15:00"),
        ("2026-11-23T08:00", "4wh", "2026-11-23T12:00"),
        ("2026-11-23T16:30", "4wh", "2026-11-24T11:00"),
        ("2026-11-27T17:00", "4wh", "2026-11-30T11:30"),
        ("2026-11-23T12:30", "30wm", "2026-11-23T14:30"),
        ("2026-11-28T03:00", "30wm", "2026-11-30T08:30"),
        ("2026-11-23T10:00", "1wd", "2026-11-24T10:00"),
        ("2026-11-27T10:00", "1wd", "2026-11-30T10:00"),
        ("2026-11-27T20:00", "1wd", "2026-12-01T08:00"),
        ("2026-11-23T13:00", "1wd", "2026-11-24T14:00"),
        ("2026-11-23T06:00", "2wd", "2026-11-25T08:00"),
        ("2025-09-30T15:00", "1wd", "2025-10-09T15:00"),
        ("2025-10-10T15:00", "1wd", "2025-10-11T15:00"),
        ("2025-09-30T17:00", "1wh", "2025-10-09T08:30"),
    ],
)
def test_due(start, spec, due):
    assert calendar.due(at(start), spec) == at(due)


def test_due_takes_an_instant_in_any_zone():
    assert calendar.due(dt.datetime(2026, 11, 23, 1, 0, tzinfo=dt.UTC), "4wh") == at("2026-11-23T15:00")


@pytest.mark.parametrize("bad", ["", "4", "wh", "-1h", "4 wh", "1w", "1.5h", "４h", "1000000m", None, "4hh"])
def test_specs_that_cannot_be_read(bad):
    with pytest.raises(calendar.SpecError) as caught:
        calendar.due(at("2026-11-23T09:00"), bad)
    assert caught.value.message.zh
    assert caught.value.message.en


def test_specs_in_words():
    assert calendar.words("4wh").zh == "4个工作小时"
    assert calendar.words("1wd").en == "1 working day"


@given(instants, minutes)
@settings(deadline=None, max_examples=150)
def test_adding_then_measuring_gives_back_what_was_added(start, n):
    end = calendar.add_working_minutes(start, n)
    assert end >= start
    assert calendar.working_minutes(start, end) == n
    assert calendar.working_minutes(end, start) == -n


@given(instants, minutes, minutes)
@settings(deadline=None, max_examples=100)
def test_adding_twice_is_adding_the_sum(start, a, b):
    assert calendar.add_working_minutes(
        calendar.add_working_minutes(start, a), b
    ) == calendar.add_working_minutes(start, a + b)


@given(instants, instants, instants)
@settings(deadline=None, max_examples=60)
def test_measures_add_up(a, b, c):
    a, b, c = sorted((a, b, c))
    assert calendar.working_time(a, b) + calendar.working_time(b, c) == calendar.working_time(a, c)
    assert dt.timedelta() <= calendar.working_time(a, b) <= b - a


@given(
    instants,
    st.timedeltas(dt.timedelta(), dt.timedelta(days=30)),
    st.sampled_from(["30m", "4h", "2d", "45wm", "4wh", "1wd", "3wd"]),
)
@settings(deadline=None, max_examples=200)
def test_due_is_monotone_and_never_before_its_start(start, later, spec):
    first, second = calendar.due(start, spec), calendar.due(start + later, spec)
    assert start < first <= second
    if spec.endswith("wd"):
        assert calendar.in_working_hours(first)


@given(instants)
def test_moving_into_working_hours_is_idempotent_and_costs_no_working_time(start):
    moved = calendar.into_working_hours(start)
    assert calendar.in_working_hours(moved)
    assert calendar.into_working_hours(moved) == moved
    assert not calendar.working_time(start, moved)
