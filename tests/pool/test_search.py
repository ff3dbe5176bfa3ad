"""Free numbers as calendar, list and sum say the same, and as booking would have it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from random import Random

import pytest

from lianxin.pool import booking, search
from lianxin.pool.booking import Full
from lianxin.pool.models import TIERS, Place, Session
from lianxin.standards import clock
from tests.factories import make_department, make_institution

from .test_booking import at, make_person, make_session

pytestmark = pytest.mark.django_db


def test_calendar_list_and_sum_agree_and_booking_gives_exactly_that() -> None:
    draw = Random(7)
    homes = [make_department(make_institution(kind="hospital"), specialty="03") for _ in range(3)]
    sessions = []
    for n in range(14):
        village, township, county = sorted(draw.randint(0, 4) for _ in range(3))
        day = 4 + n % 4
        sessions.append(
            make_session(
                homes[n % 3], starts_at=at(day, 8 + n % 9), ends_at=at(day, 23), capacity=draw.randint(4, 8), fee_fen=100 * n,
                reserved_county=county, reserved_township=township, reserved_village=village, release_county=at(3, draw.randint(0, 23)),
                status="stopped" if n == 5 else "open", opens_at=at(9, 7) if n == 6 else at(1, 7),
            )
        )  # fmt: skip
    with clock.at(at(3, 9)):
        for session in sessions:
            for _ in range(6):
                try:
                    booking.hold(
                        session.pk,
                        make_person(),
                        draw.choice(list(TIERS)),
                        f"h{draw.random()}",
                        draw.choice([5, 300]),
                    )
                except booking.BookingError:
                    continue
    ids = [h.institution_id for h in homes]
    with clock.at(at(3, 10)):
        for channel in TIERS:
            offers = search.find(specialty="03", channel=channel, until=at(30, 0))
            free: Counter[tuple[int, dt.date]] = Counter()
            for offer in offers:
                free[offer.institution_id, offer.starts_at.date()] += offer.free
            days = search.calendar("03", ids, at(3, 0).date(), 20, channel)
            assert {(d.institution_id, d.day): d.free for d in days if d.free} == dict(free)
            assert days == sorted(days)
            assert days == search.calendar(None, None, at(3, 0).date(), 20, channel)
            for day in days:
                of_day = [
                    o
                    for o in offers
                    if (o.institution_id, o.starts_at.date()) == (day.institution_id, day.day)
                ]
                if of_day:
                    assert day.fee_fen == min(o.fee_fen for o in of_day)
                    assert day.first_at == min(o.starts_at for o in of_day)
                assert day.sessions >= len(of_day)
            sums = search.free_by_institution("03", ids, channel)
            assert {k: v.free for k, v in sums.items()} == dict(
                sum((Counter({i: n}) for (i, _), n in free.items()), Counter())
            )
        for offer in search.find(specialty="03", channel="county")[:4]:
            for n in range(offer.free):
                booking.book(offer.session_id, make_person(), "county", f"b{offer.session_id}-{n}")
            with pytest.raises(Full):
                booking.book(offer.session_id, make_person(), "county", f"b{offer.session_id}-last")
    assert booking.recount() == []


def test_a_full_day_is_shown_as_full_and_what_is_not_open_not_at_all() -> None:
    session = make_session(capacity=1, fee_fen=700)
    with clock.at(at(2, 9)):
        booking.book(session.pk, make_person(), "public", "a")
        [day] = search.calendar(None, [session.institution_id])
        assert (day.free, day.sessions, day.fee_fen, day.first_at) == (0, 1, 700, session.starts_at)
        Session.objects.update(opens_at=at(4, 7))
        assert search.calendar(None, [session.institution_id]) == []
        assert search.calendar("99", []) == []
    assert Place.objects.unscoped("test").count() == 1
