"""Both languages at the source; the one clock."""

import datetime as dt
import threading

import pytest
from django.utils import translation

from lianxin.standards import clock
from lianxin.standards.text import T


def test_text_picks_the_active_language_late():
    word = T("转诊", "Referral")
    with translation.override("zh-hans"):
        assert f"{word}" == "转诊"
    with translation.override("en"):
        assert f"{word}" == "Referral"


def test_format_renders_each_value_in_its_language():
    filled = T("{who}拒绝", "{who} refused").format(who=T("医院", "The hospital"))
    assert (filled.zh, filled.en) == ("医院拒绝", "The hospital refused")
    assert filled == T("医院拒绝", "The hospital refused")
    assert len({filled, T("医院拒绝", "The hospital refused")}) == 1


def test_the_clock_stands_within_the_block_and_only_in_this_context():
    instant = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    elsewhere = []
    with clock.at(instant):
        assert clock.now() == instant
        assert clock.now().utcoffset() == dt.timedelta(hours=8)
        assert clock.today() == dt.date(2026, 1, 1)
        thread = threading.Thread(target=lambda: elsewhere.append(clock.now()))
        thread.start()
        thread.join()
    assert elsewhere[0] != instant
    assert clock.now() != instant


def test_a_naive_instant_is_refused():
    with pytest.raises(ValueError, match="aware"), clock.at(dt.datetime(2026, 1, 1)):
        pass


def test_shift_moves_the_process():
    before = clock.now()
    clock.shift(dt.timedelta(days=3))
    try:
        assert clock.now() - before >= dt.timedelta(days=3)
    finally:
        clock.shift(dt.timedelta())
