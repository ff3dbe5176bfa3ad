"""Words for time and people."""

from __future__ import annotations

import datetime as dt

import pytest

from lianxin.portal import lines, words
from lianxin.standards import clock

NOW = dt.datetime(2026, 11, 23, 10, 0, tzinfo=clock.ZONE)


@pytest.mark.parametrize(
    ("minutes", "state", "zh", "en"),
    [
        (25, "soon", "还剩 25 分钟", "25 min left"),
        (120, "soon", "还剩 2 小时", "2 h left"),
        (121, "calm", "还剩 2 小时", "2 h left"),
        (47 * 60, "calm", "还剩 47 小时", "47 h left"),
        (3 * 1440, "calm", "还剩 3 天", "3 days left"),
        (-180, "late", "已超时 3 小时", "3 h overdue"),
        (-0.5, "late", "已超时 1 分钟", "1 min overdue"),
    ],
)
def test_time_left_is_said_in_one_unit(minutes: float, state: str, zh: str, en: str) -> None:
    with clock.at(NOW):
        said = words.time_left(NOW + dt.timedelta(minutes=minutes))
    assert (said.state, said.words.zh, said.words.en) == (state, zh, en)


def test_a_paused_clock_and_no_clock_say_so() -> None:
    with clock.at(NOW):
        assert words.time_left(NOW - dt.timedelta(days=1), paused=True).state == "paused"
        assert words.time_left(None).state == "none"


@pytest.mark.parametrize(
    ("birth", "zh"),
    [
        (dt.date(1969, 5, 17), "57 岁"),
        (dt.date(1969, 11, 24), "56 岁"),
        (dt.date(2025, 1, 1), "22 个月"),
        (dt.date(2026, 11, 1), "22 天"),
        (None, "年龄不详"),
    ],
)
def test_age(birth: dt.date | None, zh: str) -> None:
    assert words.age(birth, dt.date(2026, 11, 23)).zh == zh


def test_the_year_is_left_out_when_it_is_this_one() -> None:
    with clock.at(NOW):
        assert words.moment(NOW) == "11-23 10:00"
        assert words.moment(NOW.replace(year=2024)) == "2024-11-23 10:00"
        assert words.moment(dt.date(2026, 1, 2)) == "2026-01-02"
        assert words.moment(None) == "—"


def test_masking_keeps_the_family_name_only() -> None:
    assert lines.mask("诸葛秀英") == "诸***"
    assert lines.mask("王") == "王*"
