"""Ways out of the house for a call: whoever can send a text message registers a sender; without one the attempt is recorded as not made."""

from __future__ import annotations

from collections.abc import Callable

Sender = Callable[[str, str, str, str], bool]
"""``fn(phone, kind, number, key)`` → accepted? ``kind`` is "staff" or "patient"; ``number`` the case's number; ``key`` makes it one message.
A message never carries the value or the person's name."""

_senders: list[Sender] = []


def register_sender(fn: Sender) -> None:
    """Send text messages of critical values through ``fn`` (the last one registered counts)."""
    if fn in _senders:
        _senders.remove(fn)
    _senders.append(fn)


def forget_sender(fn: Sender) -> None:
    """Send through ``fn`` no more."""
    if fn in _senders:
        _senders.remove(fn)


def send(phone: str, kind: str, number: str, key: str) -> bool:
    """Hand a text message to the registered sender; False when there is none or it would not take it."""
    return bool(phone and _senders and _senders[-1](phone, kind, number, key))
