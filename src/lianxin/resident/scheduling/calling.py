"""One HTTP request to a hospital's system with its answer's body, under the same rules as sending to receivers (``subscriptions.wire``).

The name is looked up here and the connection goes to an address that was checked; redirects are not followed, certificates are verified,
the whole exchange ends within its seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import urllib3
from urllib3.exceptions import HTTPError

from lianxin.exchange.subscriptions import wire
from lianxin.resident.scheduling.adapters import Unclear, no_answer
from lianxin.standards.text import T

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
    response: Any = None
    with wire._Deadline(seconds) as deadline:
        try:
            parts = wire.endpoint(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            addresses = wire._addresses(parts, port)
        except wire.NotAllowed as refused:
            raise Unclear(refused.text, sent=False) from None
        host = parts.hostname or ""
        name = f"[{host}]" if ":" in host else host
        sent = {"Host": name if parts.port is None else f"{name}:{port}", "User-Agent": AGENT, **headers}
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        timeout = urllib3.Timeout(connect=min(wire.CONNECT_SECONDS, seconds), read=seconds)
        try:
            for one in addresses:
                try:
                    response = wire._pool(parts, one, port).urlopen(
                        method, target, body=body, headers=sent, redirect=False, retries=False, timeout=timeout,
                        preload_content=False, assert_same_host=False,
                    )  # fmt: skip
                    break
                except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
                    if one == addresses[-1]:
                        raise
            data = response.read(most + 1)
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            raise Unclear(T("连接失败", "The connection failed"), sent=False) from None
        except (HTTPError, OSError, ValueError):
            raise Unclear(
                no_answer(seconds)
                if deadline.over
                else T("连接中断，没有完整应答", "The connection broke off without a whole answer")
            ) from None
        finally:
            if response is not None:
                response.close()
    if deadline.over:
        raise Unclear(no_answer(seconds))
    if len(data) > most:
        raise Unclear(T("应答过大", "The answer is too large"))
    return Reply(response.status, _json(data))


def _json(data: bytes) -> dict[str, Any]:
    if not data:
        return {}
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
