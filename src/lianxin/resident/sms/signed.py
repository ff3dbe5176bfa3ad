"""Outgoing calls to services that ask for a signature: JSON by POST, signed with HMAC-SM3 over what cannot then be changed.

``X-Signature`` = hex of HMAC-SM3(secret, app id ‖ timestamp ‖ nonce ‖ hex SM3 of the body), lines joined by a line feed; the
timestamp is in milliseconds. Addresses are checked like those of subscribers (``subscriptions.wire``): no redirects, certificates
verified, inner networks only when the installation lists them.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

import orjson

from lianxin.access import seal
from lianxin.exchange.subscriptions import wire
from lianxin.standards import clock

MOST_BYTES = 256 * 1024


class NoAnswer(Exception):
    """The service did not answer in a way that can be used; the text says why, without anybody's data."""


@dataclass(frozen=True)
class Answer:
    """Status and JSON object of an answer."""

    status: int
    body: dict[str, Any]


def signature(secret: str, app_id: str, timestamp: str, nonce: str, body: bytes) -> str:
    """What goes into ``X-Signature``."""
    text = "\n".join((app_id, timestamp, nonce, seal.sm3(body).hex()))
    return hmac.digest(secret.encode(), text.encode(), "sm3").hex()


def headers(app_id: str, secret: str, body: bytes) -> dict[str, str]:
    """The headers of one signed request, with a timestamp and a nonce of its own."""
    timestamp, nonce = str(int(clock.now().timestamp() * 1000)), secrets.token_hex(16)
    return {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "User-Agent": "Lianxin",
        "X-App-Id": app_id,
        "X-Timestamp": timestamp,
        "X-Nonce": nonce,
        "X-Signature": signature(secret, app_id, timestamp, nonce, body),
    }


def post(url: str, app_id: str, secret: str, content: dict[str, Any], seconds: float = 8.0) -> Answer:
    """POST ``content`` and read the answer within ``seconds`` in all; raises :class:`NoAnswer`."""
    body = orjson.dumps(content)
    return send(url, headers(app_id, secret, body), body, seconds)


def send(url: str, sent: dict[str, str], body: bytes, seconds: float) -> Answer:
    """POST a body as it is; raises :class:`NoAnswer` for no connection, no time, no JSON object."""
    try:
        reply = wire.ask("POST", url, sent, body, seconds, MOST_BYTES)
    except wire.Unanswered as none:
        raise NoAnswer(none.text.en) from None
    try:
        given = orjson.loads(reply.data)
    except orjson.JSONDecodeError:
        raise NoAnswer(f"HTTP {reply.status} without JSON") from None
    if not isinstance(given, dict):
        raise NoAnswer(f"HTTP {reply.status} without a JSON object")
    return Answer(reply.status, given)
