"""Person numbers (主索引号) and e-health card numbers.

Both come from one database sequence through a keyed permutation (a Feistel network), so they look unordered, never collide and
are never used again; both end in an ISO 7064 MOD 11,10 check digit. The permutation hides order, it is not a secret.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from lianxin.standards.identifiers import number_valid, number_with_check

CAPACITY = 900_000_000
CARD_PREFIX = "69"
_ROUNDS = 4


@lru_cache(maxsize=200_000)
def _round(purpose: str, i: int, value: int, mask: int) -> int:
    raw = hashlib.blake2b(f"{purpose}|{i}|{value}".encode(), digest_size=4).digest()
    return int.from_bytes(raw, "big") & mask


def _permute(value: int, half_bits: int, purpose: str) -> int:
    """A bijection on [0, 2^(2·half_bits))."""
    mask = (1 << half_bits) - 1
    left, right = value >> half_bits, value & mask
    for i in range(_ROUNDS):
        left, right = right, left ^ _round(purpose, i, right, mask)
    return (left << half_bits) | right


def person_number(n: int) -> str:
    """10 digits, first not zero, for the ``n``-th person (0 <= n < 900 million)."""
    if not 0 <= n < CAPACITY:
        raise ValueError("person numbers are used up")
    value = _permute(n, 15, "person")
    while value >= CAPACITY:  # cycle walking keeps the permutation within the range
        value = _permute(value, 15, "person")
    return number_with_check(str(100_000_000 + value))


def card_number(n: int) -> str:
    """16 digits for the ``n``-th e-health card: prefix 69, 13 digits, check digit."""
    return number_with_check(f"{CARD_PREFIX}{_permute(n, 21, 'card'):013d}")


def is_person_number(text: str) -> bool:
    """Whether ``text`` has the form and check digit of a person number."""
    return len(text) == 10 and text.isascii() and text[0] != "0" and number_valid(text)


def is_card_number(text: str) -> bool:
    """Whether ``text`` has the form and check digit of an e-health card number."""
    return len(text) == 16 and text.isascii() and text.startswith(CARD_PREFIX) and number_valid(text)
