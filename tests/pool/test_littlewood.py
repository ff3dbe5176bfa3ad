"""The quota arithmetic against brute force on small cases."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lianxin.pool import littlewood as lw


@st.composite
def pmfs(draw: st.DrawFn) -> lw.Pmf:
    weights = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    weights[draw(st.integers(0, len(weights) - 1))] += 1
    return tuple(w / sum(weights) for w in weights)


def expected(demand: Sequence[lw.Pmf], values: Sequence[float], capacity: int, kept: Sequence[int]) -> float:
    """Value of quotas, over every combination of demands, channels asking in order."""
    total = 0.0
    for asked in itertools.product(*(range(len(pmf)) for pmf in demand)):
        chance, left, got = 1.0, capacity, 0.0
        for j, n in enumerate(asked):
            chance *= demand[j][n]
            sold = min(n, max(0, left - (kept[j] if j < len(kept) else 0)))
            left -= sold
            got += values[j] * sold
        total += chance * got
    return total


@settings(max_examples=60)
@given(pmfs(), pmfs(), st.integers(1, 9), st.integers(1, 9), st.integers(0, 5))
def test_littlewood_is_the_best_of_all(
    high: lw.Pmf, low: lw.Pmf, cheap: int, dear: int, capacity: int
) -> None:
    y = min(lw.littlewood(high, cheap, max(cheap, dear)), capacity)
    best = max(expected([low, high], [cheap, max(cheap, dear)], capacity, [k]) for k in range(capacity + 1))
    assert expected([low, high], [cheap, max(cheap, dear)], capacity, [y]) == pytest.approx(best)


@settings(max_examples=40)
@given(
    st.lists(pmfs(), min_size=3, max_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(0, 4),
)
def test_nested_quotas_are_the_best_of_all(demand: list[lw.Pmf], worth: list[int], capacity: int) -> None:
    values = sorted(worth)
    kept = lw.nested(demand, values, capacity)
    assert capacity >= kept[0] >= kept[1] >= 0
    best = max(
        expected(demand, values, capacity, [a, b]) for a in range(capacity + 1) for b in range(capacity + 1)
    )
    assert expected(demand, values, capacity, kept) == pytest.approx(best)


def test_two_channels_nested_is_littlewood() -> None:
    high, low = lw.distribution(4.0, 1.6, 20), lw.distribution(12.0, 1.0, 20)
    assert lw.nested([low, high], [1.0, 2.0], 20) == [lw.littlewood(high, 1.0, 2.0)]


def test_a_channel_behind_a_closed_door_wanted_more_than_it_got() -> None:
    free = [(n, False) for n in (3, 5, 4, 6, 2)]
    assert lw.mean_of(free) == 4
    assert lw.mean_of([]) == 0
    shut = [(3, True), (3, True), (3, False), (2, False), (3, True)]
    assert 2.8 < lw.mean_of(shut) < 5
    assert 5 < lw.mean_of([(4, True)] * 6) < 6  # nothing but closed doors: one step, no creeping
    assert lw.mean_of([(0, True)] * 3) > 0
    assert lw.spread_of(free) == 1
    assert lw.spread_of([(n, False) for n in (0, 9, 0, 9, 1, 8)]) > 3


@given(st.floats(0, 40), st.floats(1, 6), st.integers(0, 60))
def test_a_demand_is_a_distribution(mean: float, spread: float, most: int) -> None:
    pmf = lw.distribution(mean, spread, most)
    assert len(pmf) == most + 1
    assert sum(pmf) == pytest.approx(1)
    assert all(p >= 0 for p in pmf)


def test_replay_follows_the_order_of_asking_and_the_release() -> None:
    asked = [lw.Request(float(n), 0) for n in range(6)]
    asked += [lw.Request(10.0, 2), lw.Request(30.0, 0), lw.Request(31.0, 3)]
    past = lw.Past(6, (20.0, 20.0, 20.0), tuple(asked))
    free = lw.replay(past, (0, 0, 0))
    assert (free.served, free.refused, free.empty) == ([6, 0, 0, 0], [1, 0, 1, 1], 0)
    kept = lw.replay(past, (3, 3, 0))
    assert (kept.served, kept.refused, kept.empty) == ([4, 0, 1, 1], [3, 0, 0, 0], 0)
    both = lw.Outcome()
    both.add(free)
    both.add(kept)
    assert (both.grassroots, both.capacity, both.empty) == (2, 12, 0)


@pytest.mark.parametrize("values", [[2.0, 1.0], [0.0, 1.0]])
def test_values_that_make_no_sense_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="values"):
        lw.nested([(1.0,), (1.0,)], values, 3)
    with pytest.raises(ValueError, match="positive"):
        lw.littlewood((1.0,), 0, 1)
