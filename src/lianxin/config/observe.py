"""What the running platform tells of itself: request ids, request counts and times, and gauges read from the database.

Routes are labelled by their pattern, never by the path: a path may carry a person's number. With several workers the counts
are kept in files of ``PROMETHEUS_MULTIPROC_DIR`` (set by ``lianxin serve``), so that any worker answers for all.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter, Histogram

REQUESTS = Counter("lianxin_requests_total", "Requests answered", ["route", "method", "status"])
SECONDS = Histogram(
    "lianxin_request_seconds",
    "Time to answer a request",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.06, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_log = structlog.get_logger("lianxin.requests")
_plain = logging.getLogger("lianxin.requests")


def request_id(given: str | None) -> str:
    """The caller's ``X-Request-ID`` when it is a plain token (and no bare number), else a new one."""
    if given and _REQUEST_ID.fullmatch(given) and not given.isdigit():
        return given
    return os.urandom(16).hex()


def count(route: str, method: str, status: int, seconds: float) -> None:
    """Count one answered request and log it (route pattern only)."""
    method = method if method in _METHODS else "other"
    REQUESTS.labels(route, method, str(status)).inc()
    SECONDS.labels(route).observe(seconds)
    if _plain.isEnabledFor(logging.INFO):  # structlog finds out only after all its work
        _log.info("request", route=route, method=method, status=status, ms=round(seconds * 1000, 1))


class ObserveMiddleware:
    """Outermost middleware: gives the request an id (``request.id``, ``X-Request-ID``), counts it and times it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request and count it under its route's pattern."""
        began = time.perf_counter()
        number = request_id(request.headers.get("X-Request-ID"))
        request.id = number
        with structlog.contextvars.bound_contextvars(request_id=number):
            response = self.get_response(request)
            match = request.resolver_match
            route = (
                f"/{match.route}" if match else "static" if request.path.startswith("/static/") else "none"
            )
            count(route, request.method or "", response.status_code, time.perf_counter() - began)
        response["X-Request-ID"] = number
        return response


StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


def observed(application: Application, route: str) -> Application:
    """Wrap a raw WSGI application so that its requests are counted under ``route`` and carry a request id."""

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        began = time.perf_counter()
        number = environ["HTTP_X_REQUEST_ID"] = request_id(environ.get("HTTP_X_REQUEST_ID"))
        statuses: list[int] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            statuses.append(int(status[:3]))
            if not any(name.lower() == "x-request-id" for name, _ in headers):
                headers = [*headers, ("X-Request-ID", number)]
            return start_response(status, headers, exc_info) if exc_info else start_response(status, headers)

        with structlog.contextvars.bound_contextvars(request_id=number):
            try:
                return application(environ, start)
            finally:
                status = statuses[-1] if statuses else 500
                count(route, environ.get("REQUEST_METHOD", ""), status, time.perf_counter() - began)

    return answer
