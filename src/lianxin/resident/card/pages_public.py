"""What verifiers without a connection fetch beforehand: the public keys and the signed list of void cards. Nothing about anybody."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe

from lianxin.resident.card import keys, qr


@require_safe
def key_set(request: HttpRequest) -> HttpResponse:
    """JWK set (RFC 7517, 8037)."""
    return _open(JsonResponse(keys.jwks()), 3600)


@require_safe
def revoked(request: HttpRequest) -> HttpResponse:
    """Serials of void printed cards, signed."""
    return _open(HttpResponse(qr.revoked(), content_type="application/json"), 300)


def _open(response: HttpResponse, seconds: int) -> HttpResponse:
    response["Cache-Control"] = f"public, max-age={seconds}"
    response["Access-Control-Allow-Origin"] = "*"
    return response
