"""Money: nothing is lost, nothing is rounded away."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianxin.standards.money import ZERO, Money, MoneyError

amounts = st.integers(-(10**12), 10**12).map(Money)
weights = st.lists(st.integers(0, 10**6), min_size=1, max_size=40).filter(any)


@given(amounts, weights)
def test_a_split_conserves_and_is_within_a_fen_of_exact(amount, shares):
    parts = amount.split(shares)
    assert sum(parts) == amount
    for part, share in zip(parts, shares, strict=True):
        assert abs(part.fen - Fraction(amount.fen * share, sum(shares))) < 1
        if share == 0:
            assert part == ZERO


@given(amounts, weights)
def test_a_larger_weight_never_gets_less(amount, shares):
    parts = [abs(p.fen) for p in amount.split(shares)]
    for i, a in enumerate(shares):
        for j, b in enumerate(shares):
            if a > b:
                assert parts[i] >= parts[j]


@given(amounts, amounts, amounts)
def test_arithmetic(a, b, c):
    assert (a + b) + c == a + (b + c)
    assert a - b == -(b - a)
    assert a + -a == ZERO
    assert (a < b) == (a.fen < b.fen)
    assert sum([a, b, c]) == a + b + c
    assert Money.of_yuan(a.yuan()) == a


@pytest.mark.parametrize(
    ("fen", "yuan"), [(1230, "12.30"), (-5, "-0.05"), (0, "0.00"), (100, "1.00"), (-100, "-1.00")]
)
def test_yuan(fen, yuan):
    assert Money(fen).yuan() == str(Money(fen)) == yuan


def test_largest_remainder_goes_first_and_ties_go_to_the_earlier():
    assert [p.fen for p in Money(100).split([1, 1, 1])] == [34, 33, 33]
    assert [p.fen for p in Money(10).split([Decimal("0.26"), Decimal("0.74")])] == [3, 7]
    assert [p.fen for p in Money(-100).split([1, 1, 1])] == [-34, -33, -33]


@pytest.mark.parametrize("bad", ["", "12.345", "1e3", "十元", "1.2.3", "--1", "NaN", 0.1])
def test_amounts_that_cannot_be_read(bad):
    with pytest.raises(MoneyError) as caught:
        Money.of_yuan(bad)
    assert caught.value.message.zh
    assert caught.value.message.en


@pytest.mark.parametrize("text", ["¥1,234.5", "¥1,234.50", " 1234.50 "])
def test_amounts_as_people_write_them(text):
    assert Money.of_yuan(text) == Money(123450)


@pytest.mark.parametrize("bad", [[], [0, 0], [-1, 2]])
def test_weights_that_share_nothing(bad):
    with pytest.raises(ValueError, match="weights"):
        Money(5).split(bad)


def test_only_whole_fen():
    for bad in (1.0, "1", True, None):
        with pytest.raises(TypeError):
            Money(bad)
    with pytest.raises(TypeError):
        Money(1) + 1
