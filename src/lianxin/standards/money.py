"""Money as integer fen. Only `split` divides it, by largest remainder, and it asserts that nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from lianxin.standards.text import T, Text


class MoneyError(ValueError):
    """An amount that cannot be read; ``message`` is in both languages."""

    def __init__(self, message: Text) -> None:
        super().__init__(message.en)
        self.message = message


@dataclass(frozen=True, order=True, slots=True)
class Money:
    """An amount in fen (1 yuan = 100 fen); may be negative."""

    fen: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.fen, int) or isinstance(self.fen, bool):
            raise TypeError("fen is an int")

    @classmethod
    def of_yuan(cls, text: str | int | Decimal) -> Money:
        """Read yuan with at most two decimals (``"12.3"`` -> 1230 fen); raises `MoneyError`. Floats are not taken."""
        raw = str(text).strip().replace(",", "").replace(",", "").removeprefix("¥").removeprefix("¥")
        if isinstance(text, float) or not re.fullmatch(r"-?[0-9]+(\.[0-9]{1,2})?", raw, re.ASCII):
            raise MoneyError(
                T(
                    "金额应为元，最多两位小数，例如 12.30。",
                    "Give the amount in yuan with at most two decimals, e.g. 12.30.",
                )
            )
        return cls(int(Decimal(raw) * 100))

    def __add__(self, other: Money) -> Money:
        return Money(self.fen + other.fen) if isinstance(other, Money) else NotImplemented

    def __radd__(self, other: object) -> Money:
        return self if other == 0 else NotImplemented  # so that sum() works

    def __sub__(self, other: Money) -> Money:
        return Money(self.fen - other.fen) if isinstance(other, Money) else NotImplemented

    def __neg__(self) -> Money:
        return Money(-self.fen)

    def __mul__(self, times: int) -> Money:
        return (
            Money(self.fen * times)
            if isinstance(times, int) and not isinstance(times, bool)
            else NotImplemented
        )

    __rmul__ = __mul__

    def __bool__(self) -> bool:
        return self.fen != 0

    def __str__(self) -> str:
        return self.yuan()

    def yuan(self) -> str:
        """``1230`` fen -> ``"12.30"``."""
        sign, fen = ("-" if self.fen < 0 else ""), abs(self.fen)
        return f"{sign}{fen // 100}.{fen % 100:02d}"

    def split(self, weights: Sequence[int | Fraction | Decimal]) -> list[Money]:
        """Share out by weight, largest remainder first (ties to the earlier); the parts sum to the whole exactly."""
        shares = [Fraction(w) for w in weights]
        total = sum(shares, Fraction())
        if not shares or any(s < 0 for s in shares) or total <= 0:
            raise ValueError("weights are non-negative and not all zero")
        sign, amount = (-1 if self.fen < 0 else 1), abs(self.fen)
        exact = [amount * s / total for s in shares]
        parts = [int(e) for e in exact]
        left = amount - sum(parts)
        for index in sorted(range(len(parts)), key=lambda i: (parts[i] - exact[i], i))[:left]:
            parts[index] += 1
        result = [Money(sign * p) for p in parts]
        assert sum(p.fen for p in result) == self.fen, "money was lost in a split"
        return result


ZERO = Money(0)
