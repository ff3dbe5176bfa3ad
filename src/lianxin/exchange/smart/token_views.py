"""The addresses that machines call: token, introspection, revocation, our keys, and OpenID's description of us."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from lianxin.exchange import cors
from lianxin.exchange.smart import addresses, discovery, grants, keys, proof
from lianxin.exchange.smart.errors import OAuthError

FORM = "application/x-www-form-urlencoded"
MAX_FORM = 64 * 1024
View = Callable[[HttpRequest], HttpResponse]


def machine(*methods: str) -> Callable[[View], View]:
    """A view for programs: no cookies, no store, errors as RFC 6749 JSON, other origins as configured."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def answered(request: HttpRequest) -> HttpResponse:
            if request.method == "OPTIONS":
                response = HttpResponse(status=204)
                response.headers["Allow"] = ", ".join((*methods, "OPTIONS"))
                extra = cors.preflight(request.META)
            elif request.method not in methods:
                response = JsonResponse(
                    {"error": "invalid_request", "error_description": f"use {' or '.join(methods)}"},
                    status=405,
                )
                response.headers["Allow"] = ", ".join((*methods, "OPTIONS"))
                extra = []
            else:
                response, extra = _answer(view, request), []
            for name, value in (*cors.headers(request.META), *extra):
                response.headers[name] = value
            response.headers.setdefault("Cache-Control", "no-store")
            response.headers.setdefault("Pragma", "no-cache")
            return response

        return answered

    return decorate


def _answer(view: View, request: HttpRequest) -> HttpResponse:
    try:
        return view(request)
    except OAuthError as error:
        response = JsonResponse(error.body, status=error.status)
        if error.status == 401:
            response.headers["WWW-Authenticate"] = 'Basic realm="lianxin"'
        return response


def _form(request: HttpRequest) -> dict[str, str]:
    """The form of a request; each parameter at most once (RFC 6749, 3.2), no U+0000."""
    if request.content_type != FORM:
        raise OAuthError("invalid_request", f"send the parameters as {FORM}")
    if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_FORM:
        raise OAuthError("invalid_request", "the form is too large", 413)
    found: dict[str, str] = {}
    for name, values in request.POST.lists():
        if len(values) > 1:
            raise OAuthError("invalid_request", f"{ascii(name[:60])[1:-1]} is given more than once")
        if "\x00" in values[0] or "\x00" in name:
            raise OAuthError("invalid_request", "U+0000 is not allowed")
        found[name] = values[0]
    return found


@machine("POST")
def token(request: HttpRequest) -> HttpResponse:
    """``POST /auth/token``: client credentials, authorization code, refresh token."""
    form, here = _form(request), addresses.of_request(request)
    kind = form.get("grant_type", "")
    if kind not in ("client_credentials", "authorization_code", "refresh_token"):
        error = "invalid_request" if not kind else "unsupported_grant_type"
        raise OAuthError(error, "grant_type must be client_credentials, authorization_code or refresh_token")
    client = proof.client_of(
        form, request.headers.get("Authorization", ""), here, public=kind != "client_credentials"
    )
    if kind == "client_credentials":
        return JsonResponse(grants.backend_token(client, form.get("scope", "")))
    if kind == "authorization_code":
        return JsonResponse(grants.by_code(client, form, here))
    return JsonResponse(grants.by_refresh(client, form, here))


@machine("POST")
def introspect(request: HttpRequest) -> HttpResponse:
    """``POST /auth/introspect`` (RFC 7662), for clients that prove themselves."""
    form, here = _form(request), addresses.of_request(request)
    client = proof.client_of(form, request.headers.get("Authorization", ""), here)
    if not form.get("token"):
        raise OAuthError("invalid_request", "token must be given")
    return JsonResponse(grants.introspect(client, form["token"], here))


@machine("POST")
def revoke(request: HttpRequest) -> HttpResponse:
    """``POST /auth/revoke`` (RFC 7009): 200 whether or not there was such a token."""
    form, here = _form(request), addresses.of_request(request)
    client = proof.client_of(form, request.headers.get("Authorization", ""), here, public=True)
    if not form.get("token"):
        raise OAuthError("invalid_request", "token must be given")
    grants.revoke(client, form["token"])
    return HttpResponse(status=200)


@machine("GET", "HEAD")
def jwks(request: HttpRequest) -> HttpResponse:
    """``GET /auth/jwks``: the public halves of the keys that sign identity tokens."""
    return _public(keys.public())


@machine("GET", "HEAD")
def openid(request: HttpRequest) -> HttpResponse:
    """``GET /auth/.well-known/openid-configuration``."""
    return _public(discovery.openid(addresses.of_request(request)))


def _public(body: dict[str, Any]) -> HttpResponse:
    response = HttpResponse(json.dumps(body), content_type="application/json")
    response.headers["Cache-Control"] = "public, max-age=300"
    return response
