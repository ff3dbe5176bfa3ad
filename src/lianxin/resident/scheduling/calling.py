"""One HTTP request to a hospital's system, its answer read as JSON, under the rules of sending to receivers (``subscriptions.wire``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lianxin.exchange.subscriptions import wire
from lianxin.resident.scheduling.adapters import Unclear

MOST = 16 * 1024 * 1024
AGENT = "Lianxin-Scheduling"


@dataclass(frozen=True)
class Reply:
    """HTTP status and JSON body ({} when there is none)."""

    status: int
    body: dict[str, Any]


def call(
    method: str, url: str, headers: dict[str, str], body: bytes | None, seconds: float, most: int = MOST
) -> Reply:
    """Send one request; raises Unclear when there is no whole answer (``sent`` False when it surely did not arrive)."""
    try:
        reply = wire.ask(method, url, {"User-Agent": AGENT, **headers}, body, seconds, most)
    except wire.Unanswered as none:
        raise Unclear(none.text, sent=none.sent) from None
    return Reply(reply.status, _json(reply.data))


def _json(data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
