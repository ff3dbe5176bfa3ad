"""Phone numbers as digits; what cannot be one, or is known to be a filler, is ""."""

from __future__ import annotations

from lianxin.index.normal.generic import NOTHING, Generic


def read(text: str, generic: Generic = NOTHING) -> str:
    """Digits without the country code."""
    if not text:
        return ""
    digits = "".join(c for c in text if c.isdecimal() and c.isascii())
    if len(digits) > 11:
        digits = digits.removeprefix("00").removeprefix("86")
    return "" if len(digits) < 7 or len(set(digits)) <= 2 or digits in generic.phones else digits
