"""Fetching a small document from an address a client registered, under the same rules as sending to receivers."""

from __future__ import annotations

from lianxin.exchange.subscriptions import wire


class NotFetched(Exception):
    """The document could not be had; the text says why."""


def fetch(url: str, seconds: float, most: int) -> bytes:
    """The body of ``GET url`` (200, at most ``most`` bytes, within ``seconds`` in all); raises :class:`NotFetched`.

    The rules are those of ``subscriptions.wire.ask``.
    """
    try:
        reply = wire.ask(
            "GET", url, {"User-Agent": "Lianxin-SMART", "Accept": "application/json"}, None, seconds, most
        )
    except wire.Unanswered as none:
        raise NotFetched(none.text.en) from None
    if reply.status != 200:
        raise NotFetched(f"HTTP {reply.status}")
    return reply.data
