"""Sending over HTTP: to addresses that are allowed, within a time that is kept, over connections that are reused.

A receiver's name is looked up here and the connection goes to an address that was checked, so that a name cannot be turned to
another machine between check and use.  Private and other inner addresses are refused unless the installation lists them
(``LIANXIN_RECEIVERS``), plain http likewise.  Redirects are not followed and certificates are verified.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

import urllib3
from django.conf import settings
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from lianxin.standards.text import T, Text

CONNECT_SECONDS = 5.0
MOST_POOLS = 64
MOST_ANSWER = 64 * 1024  # bytes of an answer that are read to keep the connection; it is dropped beyond
MOST_URL = 2000
AGENT = "Lianxin-Subscriptions"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotAllowed(Exception):
    """The address may not be sent to; ``text`` says why and what to do."""

    def __init__(self, text: Text) -> None:
        self.text = text
        super().__init__(text.en)


@dataclass(frozen=True)
class Answer:
    """What became of a request: the HTTP status (None: there was no answer), what went wrong, and how long it took."""

    status: int | None
    error: Text | None
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the receiver took it."""
        return self.error is None


def endpoint(url: str) -> SplitResult:
    """An endpoint's parts; :class:`NotAllowed` when it is no address one may send to (names are looked up only when sending)."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    if (
        parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or len(url) > MOST_URL
        or parts.username is not None or parts.fragment or any(ord(c) <= 32 or ord(c) > 126 for c in url)
    ):  # fmt: skip
        raise NotAllowed(
            T(
                "接收地址应为完整的 https 地址，不含账号和 #。",
                "The endpoint must be a whole https address without user name or #.",
            )
        )
    literal = _literal(parts.hostname)
    if literal is not None:
        _check(parts, literal)
    elif (
        parts.scheme == "http"
        and not _named(parts.hostname)
        and not (_loopback_open() and parts.hostname == "localhost")
    ):
        raise _plain()
    return parts


def _plain() -> NotAllowed:
    return NotAllowed(
        T("接收地址应使用 https；确需 http 时请系统管理员把它列入 LIANXIN_RECEIVERS。",
          "The endpoint must use https; if it must be http, have the system administrator list it in LIANXIN_RECEIVERS.")
    )  # fmt: skip


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _named(host: str) -> bool:
    """Whether the installation lists this host by name."""
    return host.lower() in {one.lower() for one in settings.RECEIVERS}


def _listed(address: Address) -> bool:
    """Whether the installation lists this address or a network it is in."""
    for one in settings.RECEIVERS:
        with contextlib.suppress(ValueError):
            if address in ipaddress.ip_network(one, strict=False):
                return True
    return False


def _loopback_open() -> bool:
    """This machine may listen to itself as long as the installation is not a public one (``LIANXIN_HTTPS``)."""
    return not settings.SESSION_COOKIE_SECURE


def _check(parts: SplitResult, address: Address) -> None:
    """:class:`NotAllowed` unless this address may be sent to with this scheme."""
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    host = parts.hostname or ""
    allowed = _listed(address) or _named(host) or (address.is_loopback and _loopback_open())
    if allowed:
        return
    if not address.is_global or address.is_multicast:
        raise NotAllowed(
            T("接收地址指向内部网络，不允许；如确属本院系统，请系统管理员把它列入 LIANXIN_RECEIVERS。",
              "The endpoint points into an inner network, which is not allowed; if it is a system of yours, have the system"
              " administrator list it in LIANXIN_RECEIVERS.")
        )  # fmt: skip
    if parts.scheme != "https":
        raise _plain()


def _addresses(parts: SplitResult, port: int) -> list[str]:
    """The checked addresses of a receiver; all of them must be allowed."""
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise NotAllowed(
            T("找不到接收地址的主机（{e}）", "The endpoint's host cannot be found ({e})").format(
                e=error.strerror or error
            )
        ) from None
    addresses = list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))
    for one in addresses:
        _check(parts, ipaddress.ip_address(one))
    return addresses


# ------------------------------------------------------------------------------------------------------------ connections


class _Deadline:
    """Cuts the connection a thread is using when its time is over: a receiver that drips bytes cannot hold a sender."""

    def __init__(self, seconds: float) -> None:
        self.sock: Any = None
        self.over = False
        self._guard = threading.Lock()
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        _now.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        _now.deadline = None
        with self._guard:
            self.sock = None

    def watch(self, sock: Any) -> None:
        """The socket in use from now on."""
        with self._guard:
            self.sock = sock
            if self.over:
                self._shut()

    def _cut(self) -> None:
        with self._guard:
            self.over = True
            self._shut()

    def _shut(self) -> None:
        if self.sock is not None:
            with contextlib.suppress(OSError):  # it may have ended by itself
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


_now = threading.local()


def _watch(connection: Any) -> None:
    deadline = getattr(_now, "deadline", None)
    if deadline is not None and connection.sock is not None:
        deadline.watch(connection.sock)


class _Plain(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _watch(self)
        super().request(*args, **kwargs)


class _Secure(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self)

    def request(self, *args: Any, **kwargs: Any) -> None:
        _watch(self)
        super().request(*args, **kwargs)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


@dataclass(frozen=True)
class Identity:
    """A client certificate for mutual TLS: ``key`` tells it from others, ``context`` makes the TLS context that shows it."""

    key: str
    context: Callable[[], ssl.SSLContext]


_pools: OrderedDict[tuple[str, str, int, str, str], HTTPConnectionPool] = OrderedDict()
_guard = threading.Lock()


def _pool(
    parts: SplitResult, address: str, port: int, identity: Identity | None = None
) -> HTTPConnectionPool:
    host = parts.hostname or ""
    key = (parts.scheme, address, port, host, identity.key if identity else "")
    with _guard:
        pool = _pools.get(key)
        if pool is None:
            if parts.scheme == "https":
                pool = _SecurePool(
                    address, port, maxsize=2, cert_reqs="CERT_REQUIRED", ca_certs=settings.RECEIVERS_CA or None,
                    assert_hostname=host, server_hostname=host, ssl_context=identity.context() if identity else None,
                )  # fmt: skip
            else:
                pool = _PlainPool(address, port, maxsize=2)
            _pools[key] = pool
        _pools.move_to_end(key)
        while len(_pools) > MOST_POOLS:
            _pools.popitem(last=False)[1].close()
        return pool


def close() -> None:
    """Let go of every kept connection."""
    with _guard:
        for pool in _pools.values():
            pool.close()
        _pools.clear()


# ---------------------------------------------------------------------------------------------------------------- sending


def send(
    method: str,
    url: str,
    headers: dict[str, str],
    body: bytes,
    seconds: float,
    *,
    identity: Identity | None = None,
) -> Answer:
    """Send one request and wait for its answer at most ``seconds`` in all; never raises for what the receiver does.

    ``identity``: a certificate to show; what its ``context`` raises is raised.
    """
    begun = time.monotonic()

    def answer(status: int | None, error: Text | None) -> Answer:
        return Answer(status, error, time.monotonic() - begun)

    with _Deadline(seconds) as deadline:
        try:
            parts = endpoint(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            addresses = _addresses(parts, port)
            status = _exchange(parts, addresses, port, method, headers, body, seconds, identity)
        except NotAllowed as refused:
            return answer(None, refused.text)
        except (HTTPError, OSError, ValueError) as failure:
            if deadline.over or _too_late(failure):
                return answer(None, _NO_ANSWER.format(s=int(seconds)))
            return answer(None, T("连接失败：{e}", "The connection failed: {e}").format(e=_plainly(failure)))
    if deadline.over:  # cut in the middle of its answer
        return answer(None, _NO_ANSWER.format(s=int(seconds)))
    if 200 <= status < 300:
        return answer(status, None)
    if 300 <= status < 400:
        return answer(
            status, T("接收方要求转向（HTTP {s}），不予跟随；请把订阅改为最终地址", "The receiver redirects (HTTP {s}), which is"
                      " not followed; subscribe with the final address").format(s=status)
        )  # fmt: skip
    return answer(status, T("接收方应答 HTTP {s}", "The receiver answered HTTP {s}").format(s=status))


class Unanswered(Exception):
    """There is no whole answer: ``text`` says why; ``sent`` is False when the request surely did not arrive."""

    def __init__(self, text: Text, *, sent: bool = True) -> None:
        super().__init__(text.en)
        self.text, self.sent = text, sent


@dataclass(frozen=True)
class Reply:
    """HTTP status and body of an answer."""

    status: int
    data: bytes


def ask(
    method: str, url: str, headers: dict[str, str], body: bytes | None, seconds: float, most: int
) -> Reply:
    """Send one request and read its answer, at most ``most`` bytes within ``seconds`` in all; raises :class:`Unanswered`.

    The rules are those of :func:`send`: the name is looked up here, the connection goes to an address that was checked, redirects are
    not followed, certificates are verified.
    """
    response: Any = None
    with _Deadline(seconds) as deadline:
        try:
            parts = endpoint(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            response = _response(parts, _addresses(parts, port), port, method, headers, body, seconds, None)
            data = response.read(most + 1)
        except NotAllowed as refused:
            raise Unanswered(refused.text, sent=False) from None
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            raise Unanswered(T("连接失败", "The connection failed"), sent=False) from None
        except (HTTPError, OSError, ValueError):
            raise Unanswered(
                _NO_ANSWER.format(s=int(seconds))
                if deadline.over
                else T("连接中断，没有完整应答", "The connection broke off without a whole answer")
            ) from None
        finally:
            if response is not None:
                response.close()
    if deadline.over:  # cut in the middle of its answer
        raise Unanswered(_NO_ANSWER.format(s=int(seconds)))
    if len(data) > most:
        raise Unanswered(T("应答过大", "The answer is too large"))
    return Reply(response.status, data)


_NO_ANSWER = T("{s} 秒内没有应答", "No answer within {s} s")


def _too_late(failure: Exception) -> bool:
    """Whether a failure is one of time; a connection that was refused counts as a time-out to urllib3."""
    refused = isinstance(failure, urllib3.exceptions.NewConnectionError)
    return isinstance(failure, urllib3.exceptions.TimeoutError | TimeoutError) and not refused


def _response(
    parts: SplitResult,
    addresses: list[str],
    port: int,
    method: str,
    headers: dict[str, str],
    body: bytes | None,
    seconds: float,
    identity: Identity | None,
) -> Any:
    """The response, its body unread, of the first address that can be connected to."""
    host = parts.hostname or ""
    name = f"[{host}]" if ":" in host else host
    sent = {"Host": name if parts.port is None else f"{name}:{port}", "User-Agent": AGENT, **headers}
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), read=seconds)
    for one in addresses:
        try:
            return _pool(parts, one, port, identity).urlopen(
                method, target, body=body, headers=sent, redirect=False, retries=False, timeout=timeout,
                preload_content=False, assert_same_host=False,
            )  # fmt: skip
        except (urllib3.exceptions.NewConnectionError, urllib3.exceptions.ConnectTimeoutError):
            if one == addresses[-1]:
                raise
    raise AssertionError("unreachable: a name has at least one address")


def _exchange(
    parts: SplitResult,
    addresses: list[str],
    port: int,
    method: str,
    headers: dict[str, str],
    body: bytes,
    seconds: float,
    identity: Identity | None,
) -> int:
    """The status of the first address that can be connected to."""
    response = _response(parts, addresses, port, method, headers, body, seconds, identity)
    status = response.status
    try:
        if len(response.read(MOST_ANSWER + 1, decode_content=False)) > MOST_ANSWER:
            response.close()
        else:
            response.release_conn()
    except (HTTPError, OSError, ValueError):  # the status has come, which is all that counts
        response.close()
    return status


def _plainly(failure: Exception) -> str:
    """A failure's own words, without the addresses of our objects."""
    inner: BaseException = failure
    while inner.__cause__ is not None:
        inner = inner.__cause__
    words = (
        getattr(inner, "strerror", None)
        or str(inner).partition(">: ")[2]
        or str(inner)
        or type(inner).__name__
    )
    return words[:200]
