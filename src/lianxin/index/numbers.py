"""Person numbers (主索引号) and e-health card numbers.

Both come from one database sequence through a keyed permutation (a Feistel network), so they look unordered, never collide and
are never used again; both end in an ISO 7064 MOD 11,10 check digit. The permutation hides order, it is not a secret.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import Any

from lianxin.access import connections
from lianxin.standards.identifiers import number_valid, number_with_check

CAPACITY = 900_000_000
CARD_PREFIX = "69"
_WORD = (1 << 64) - 1
# Fixed for ever: other keys would give numbers out a second time.
_PERSON_KEYS = (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89)
_CARD_KEYS = (0x452821E638D01377, 0xBE5466CF34E90C6C, 0xC0AC29B7C97C50DD, 0x3F84D5B5B5470917)


def _mix(value: int, key: int) -> int:
    """A round function: multiply and fold, cheap and well spread."""
    value = (value + key) * 0x9E3779B97F4A7C15 & _WORD
    value = (value ^ (value >> 29)) * 0xBF58476D1CE4E5B9 & _WORD
    return value >> 32


def _permute(value: int, half_bits: int, keys: tuple[int, ...]) -> int:
    """A bijection on [0, 2^(2·half_bits))."""
    mask = (1 << half_bits) - 1
    left, right = value >> half_bits, value & mask
    for key in keys:
        left, right = right, left ^ (_mix(right, key) & mask)
    return (left << half_bits) | right


def person_number(n: int) -> str:
    """10 digits, first not zero, for the ``n``-th person (0 <= n < 900 million)."""
    if not 0 <= n < CAPACITY:
        raise ValueError("person numbers are used up")
    value = _permute(n, 15, _PERSON_KEYS)
    while value >= CAPACITY:  # cycle walking keeps the permutation within the range
        value = _permute(value, 15, _PERSON_KEYS)
    return number_with_check(str(100_000_000 + value))


def card_number(n: int) -> str:
    """16 digits for the ``n``-th e-health card: prefix 69, 13 digits, check digit."""
    return number_with_check(f"{CARD_PREFIX}{_permute(n, 21, _CARD_KEYS):013d}")


def number_of_card(card: str) -> str:
    """The person number given out together with an e-health card number: both come from one serial, so cards need no index of
    their own. "" for what is no card number of this index."""
    if not is_card_number(card):
        return ""
    value, mask = int(card[len(CARD_PREFIX) : -1]), (1 << 21) - 1
    left, right = value >> 21, value & mask
    for key in reversed(_CARD_KEYS):
        left, right = right ^ (_mix(left, key) & mask), left
    n = (left << 21) | right
    return person_number(n) if value <= (1 << 42) - 1 and n < CAPACITY else ""


def is_person_number(text: str) -> bool:
    """Whether ``text`` has the form and check digit of a person number."""
    return len(text) == 10 and text.isascii() and text[0] != "0" and number_valid(text)


def is_card_number(text: str) -> bool:
    """Whether ``text`` has the form and check digit of an e-health card number."""
    return len(text) == 16 and text.isascii() and text.startswith(CARD_PREFIX) and number_valid(text)


class _Pool:
    """Ids that this process has drawn ahead for one database; what it does not use is never given out."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.people: deque[tuple[int, int]] = deque()
        self.sources: deque[int] = deque()


AHEAD = 200
"""Ids drawn at once: a registration then seldom needs a statement for them."""

_pools: dict[str, _Pool] = {}
_guard = threading.Lock()


def _pool() -> _Pool:
    name = connections.database()
    pool = _pools.get(name)
    if pool is None or pool.pid != os.getpid():
        pool = _pools[name] = _Pool()
    return pool


def take_people(cur: Any, count: int) -> list[tuple[int, str, str]]:
    """(id, person number, card number) of ``count`` new persons. Sequences know no rollback: nothing is given out twice."""
    with _guard:
        held = _pool().people
        if len(held) < count:
            cur.execute(
                "SELECT nextval('index_person_id_seq'), nextval('index_number_seq') FROM generate_series(1, %s)",
                [count - len(held) + AHEAD],
            )
            held.extend(cur.fetchall())
        drawn = [held.popleft() for _ in range(count)]
    return [(person_id, person_number(n), card_number(n)) for person_id, n in drawn]


def take_sources(cur: Any, count: int) -> list[int]:
    """Ids of ``count`` new source records."""
    with _guard:
        held = _pool().sources
        if len(held) < count:
            cur.execute(
                "SELECT nextval('index_sourcerecord_id_seq') FROM generate_series(1, %s)",
                [count - len(held) + AHEAD],
            )
            held.extend(row[0] for row in cur.fetchall())
        return [held.popleft() for _ in range(count)]
