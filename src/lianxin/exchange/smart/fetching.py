"""Fetching a small document from an address a client registered, under the same rules as sending to receivers."""

from __future__ import annotations

import urllib3
from urllib3.exceptions import HTTPError

from lianxin.exchange.subscriptions import wire


class NotFetched(Exception):
    """The document could not be had; the text says why."""


def fetch(url: str, seconds: float, most: int) -> bytes:
    """The body of ``GET url`` (200, at most ``most`` bytes, within ``seconds`` in all); raises :class:`NotFetched`.

    The host is looked up here and the connection goes to a checked address (see ``subscriptions.wire``); redirects are not
    followed, certificates are verified.
    """
    with wire._Deadline(seconds) as deadline:
        try:
            parts = wire.endpoint(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            host = parts.hostname or ""
            name = f"[{host}]" if ":" in host else host
            for address in wire._addresses(parts, port):
                try:
                    response = wire._pool(parts, address, port).urlopen(
                        "GET",
                        (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                        headers={
                            "Host": name if parts.port is None else f"{name}:{port}",
                            "User-Agent": "Lianxin-SMART",
                            "Accept": "application/json",
                        },
                        redirect=False,
                        retries=False,
                        timeout=urllib3.Timeout(connect=seconds, read=seconds),
                        preload_content=False,
                        assert_same_host=False,
                    )
                    break
                except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
                    continue
            else:
                raise NotFetched("no connection")
            try:
                body = response.read(most + 1)
            finally:
                response.close()
        except wire.NotAllowed as refused:
            raise NotFetched(refused.text.en) from None
        except (HTTPError, OSError, ValueError):
            why = f"no answer within {seconds:.0f} s" if deadline.over else "the connection failed"
            raise NotFetched(why) from None
    if response.status != 200:
        raise NotFetched(f"HTTP {response.status}")
    if len(body) > most:
        raise NotFetched("the document is too large")
    return body
