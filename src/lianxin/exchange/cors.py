"""Cross-origin access for browser applications (SMART apps) to ``/fhir`` and what belongs to it.

``LIANXIN_CORS_ORIGINS`` lists the origins, comma-separated (``*``: any; empty: none).  No credentials are ever allowed across
origins: such calls carry their bearer token themselves, cookies mean nothing here.
"""

from typing import Any

from django.conf import settings

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
REQUEST_HEADERS = (
    "Accept, Accept-Language, Authorization, Content-Encoding, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match,"
    " Idempotency-Key, Origin, Prefer, X-Correlation-Id, X-Request-Id, X-Requested-With"
)
EXPOSED = (
    "Allow, Content-Location, ETag, Last-Modified, Location, Retry-After, WWW-Authenticate, X-Correlation-Id, X-Progress,"
    " X-Request-Id"
)
PREFLIGHT_SECONDS = 3600


def allowed(origin: str) -> str:
    """The value of ``Access-Control-Allow-Origin`` for an origin; "" when it is not allowed."""
    origins: list[str] = settings.LIANXIN_CORS_ORIGINS
    if not origin or not origins:
        return ""
    return "*" if "*" in origins else origin if origin in origins else ""


def headers(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Headers of an answer: none when the request has no origin or its origin is not allowed."""
    value = allowed(environ.get("HTTP_ORIGIN", ""))
    if not value:
        return []
    made = [("Access-Control-Allow-Origin", value), ("Access-Control-Expose-Headers", EXPOSED)]
    return made if value == "*" else [*made, ("Vary", "Origin")]


def preflight(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """Headers that answer ``OPTIONS`` with ``Access-Control-Request-Method`` (beside :func:`headers`)."""
    if not allowed(environ.get("HTTP_ORIGIN", "")) or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in environ:
        return []
    return [
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", REQUEST_HEADERS),
        ("Access-Control-Max-Age", str(PREFLIGHT_SECONDS)),
    ]
