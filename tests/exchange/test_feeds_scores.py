"""Scores and the figures by day they are computed from."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.exchange.feeds import scores
from lianxin.exchange.feeds.models import Arrival, Finding
from lianxin.exchange.feeds.quality.models import QualityDay
from lianxin.standards import clock
from tests.exchange.feeds_world import arrival, finding
from tests.factories import make_institution

pytestmark = pytest.mark.django_db
NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=clock.ZONE)


def test_the_worked_example_of_the_how_to():
    # 10 arrivals: one refused for a missing name, one quarantined (impossible value, twice), two with a warning, one of them late.
    each = [
        [("completeness", "refuse")], [("validity", "quarantine"), ("validity", "quarantine"), ("validity", "warn")],
        [("validity", "warn")], [("completeness", "warn"), ("timeliness", "warn")], *([[]] * 6),
    ]  # fmt: skip
    bad = dict.fromkeys(scores.DIMENSIONS, 0.0)
    for found in each:
        for name, weight in scores.worst(found).items():
            bad[name] += weight
    told = {name: scores.score(bad[name], 10) for name in scores.DIMENSIONS}
    assert told == {
        "completeness": 88.0,
        "timeliness": 90.0,
        "consistency": 100.0,
        "uniqueness": 100.0,
        "validity": 91.0,
    }
    # 0.25·88 + 0.15·90 + 0.2·100 + 0.1·100 + 0.3·91
    assert scores.total(told) == 92.8
    assert scores.score(0, 0) is None
    assert scores.total(dict.fromkeys(scores.DIMENSIONS)) is None


@pytest.fixture
def filled():
    place = make_institution("S-A")
    with clock.at(NOW):
        good = arrival(place, sent_at=NOW - dt.timedelta(seconds=30))
        held = arrival(place, state="quarantined", kind="ADT^A01", sent_at=NOW - dt.timedelta(seconds=90))
        finding(held, "value.impossible", "validity", "quarantine")
        finding(held, "value.unusual", "validity", "warn")
        arrival(place, state="refused", error="required PID-5\n缺\nmissing")
        arrival(place, state="refused", error="strange\n怪\nstrange")
        late = arrival(place, at=NOW - dt.timedelta(hours=2))
        finding(late, "late.result", "timeliness", "warn")
    return place, good, held, late


def rows():
    return list(
        QualityDay.objects.order_by("part", "door", "kind").values_list(
            "part", "kind", "arrivals", "taken", "refused", "late"
        )
    )


def test_counted_by_hour_again_the_same_and_folded_when_the_day_is_over(filled):
    place, _, held, _ = filled
    with clock.at(NOW):
        assert scores.count() == 2
        assert rows() == [(7, "ORU^R01", 1, 1, 0, 1), (9, "ADT^A01", 1, 0, 0, 0), (9, "ORU^R01", 3, 1, 2, 0)]
        first = rows()
        scores.count()
        assert rows() == first
        whole = scores.figures((), NOW.date(), NOW.date())[()]
        assert whole.arrivals == 5
        assert whole.bad == {
            "completeness": 1,
            "timeliness": 1,
            "consistency": 0,
            "uniqueness": 0,
            "validity": 1.7,
        }
        assert whole.scores["validity"] == 66.0
        assert (whole.lag, whole.counts["lag_most"], whole.trouble) == (60, 90, 3)
        by = scores.figures(("institution_id", "kind"), NOW.date(), NOW.date(), [place.pk])
        assert by[place.pk, "ADT^A01"].scores["validity"] == 30.0
        assert scores.figures(("day",), NOW.date(), NOW.date(), []) == {}
    # a replay takes the held one: its hour is counted anew
    with clock.at(NOW + dt.timedelta(minutes=20)):
        Arrival.objects.filter(pk=held.pk).update(state="taken", attempts=2, done_at=clock.now())
        Finding.objects.filter(arrival=held).delete()
        scores.count()
        assert rows()[1] == (9, "ADT^A01", 1, 1, 0, 0)
    with clock.at(NOW + dt.timedelta(days=4)):
        scores.count()
        assert [r[0] for r in rows()] == [-1, -1]
        assert scores.figures((), NOW.date(), NOW.date())[()].arrivals == 5
        Arrival.objects.filter(state="refused").update(state="dropped", attempts=2, done_at=clock.now())
        scores.count()
        assert [r[2:5] for r in rows()] == [(1, 1, 0), (4, 2, 0)]
        scores.recount(NOW.date())
        assert [r[0] for r in rows()] == [-1, -1]


def test_what_is_waived_does_not_count(filled):
    _, _, held, _ = filled
    with clock.at(NOW):
        Finding.objects.filter(arrival=held).update(state="waived")
        scores.recount(NOW.date())
        assert scores.figures(("kind",), NOW.date(), NOW.date())[("ADT^A01",)].scores["validity"] == 100.0
