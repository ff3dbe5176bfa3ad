"""Addresses as county, town, village (or estate, road) and house numbers."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"\d+")


def read(address: str, division: str, village: str) -> tuple[str, str, str, str]:
    """(county, town, village, house)."""
    digits = division if division.isascii() and division.isdecimal() else ""
    return (
        digits[:6] if len(digits) >= 6 else "",
        digits[6:9] if len(digits) >= 9 else "",
        "".join(village.split()),
        "-".join(_NUMBERS.findall(address)),
    )
