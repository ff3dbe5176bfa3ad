"""Who calls at the DICOMweb door: a system with a token, or whoever is signed in, through the pages of our own origin."""

from __future__ import annotations

import io
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse
from django_otp.middleware import OTPMiddleware

from lianxin.access import audit, journal, tokens, web
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, http
from lianxin.record.problems import Problem, refuse
from lianxin.regional.archive.models import Study

REMEMBERED = 5.0
"""Seconds for which a session's scope is not asked for again: within them a sign-out or a changed post holds here too."""
_MOST = 5000

_sessions: dict[str, tuple[float, Scope]] = {}
_looked: dict[tuple[Any, ...], int] = {}
_guard = threading.Lock()


@dataclass(frozen=True)
class Caller:
    """Who calls; ``session``: signed in at our pages."""

    scope: Scope
    session: bool = False


def who(environ: dict[str, Any], method: str) -> Caller:
    """The caller. Raises Problem: 401 for nobody, 403 for another site's page."""
    if environ.get("HTTP_AUTHORIZATION"):
        return Caller(gate.authenticate(http.Incoming(method, [], [], environ, "")))
    cookie = _cookie(environ.get("HTTP_COOKIE", ""))
    if not cookie:
        raise _nobody()
    _same_origin(environ, method)
    kept = _sessions.get(cookie)
    if kept is not None and time.monotonic() < kept[0]:
        return Caller(kept[1], session=True)
    scope = _signed_in(environ)
    with _guard:
        if len(_sessions) >= _MOST:
            _sessions.clear()
        _sessions[cookie] = (time.monotonic() + REMEMBERED, scope)
    return Caller(scope, session=True)


def forget() -> None:
    """Forget whom this process remembers (tests)."""
    with _guard:
        _sessions.clear()
        _looked.clear()


def _nobody() -> Problem:
    return refuse(401, "login", "请登录，或提供有效的 Bearer 令牌", "sign in, or send a valid Bearer token")


def _cookie(text: str) -> str:
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name == settings.SESSION_COOKIE_NAME:
            return value
    return ""


def _same_origin(environ: dict[str, Any], method: str) -> None:
    """A session counts for our own pages only: what another site's page asks for is refused."""
    site = environ.get("HTTP_SEC_FETCH_SITE", "")
    origin = environ.get("HTTP_ORIGIN", "")
    own = urlsplit(origin).netloc == environ.get("HTTP_HOST", "")
    if site not in ("", "same-origin", "none") or (origin and not own) or (method == "POST" and not own):
        raise refuse(403, "forbidden", "只接受本站页面的请求", "requests of our own pages only")


def _signed_in(environ: dict[str, Any]) -> Scope:
    request: Any = WSGIRequest(environ | {"wsgi.input": io.BytesIO(), "CONTENT_LENGTH": "0"})
    SessionMiddleware(lambda _: HttpResponse()).process_request(request)
    AuthenticationMiddleware(lambda _: HttpResponse()).process_request(request)
    OTPMiddleware(lambda _: HttpResponse())(request)
    if not request.user.is_authenticated:
        raise _nobody()
    scope = web._scope(request)
    if scope is None or web.unfinished(request):
        raise _nobody()
    return scope


def demand(caller: Caller, letter: str) -> None:
    """403 unless the caller may read (r), search (s) or store (c) images."""
    scope = caller.scope
    if letter == "c" and not scope.machine and not scope.everything:
        allowed = scope.may("acquire") and (
            scope.client_id is None or tokens.allows(scope, "ImagingStudy", "c")
        )
    else:
        allowed = tokens.allows(scope, "ImagingStudy", letter)
    if not allowed:
        raise refuse(
            403,
            "forbidden",
            f"没有影像的相应权限（ImagingStudy.{letter}）",
            f"you may not do this with images (ImagingStudy.{letter})",
        )


def looked(caller: Caller, study: Study) -> None:
    """Somebody looks at a study: one event for each caller, study and minute, however many images there are."""
    scope = caller.scope
    minute = int(time.time() // 60)
    key = (scope.account_id, scope.client_id, scope.post_id, study.pk)
    with _guard:
        if _looked.get(key) == minute:
            return
        if len(_looked) >= _MOST:
            _looked.clear()
        _looked[key] = minute
    journal.keep(
        [
            audit.entry(
                scope, "read", person_id=study.person_id, what=f"study {study.pk}", detail={"state": study.state} if study.state != "stored" else None,
            )
        ]
    )  # fmt: skip


def searched(caller: Caller, what: str, found: int) -> None:
    """Somebody searched."""
    journal.keep([audit.entry(caller.scope, "search", what=what, detail={"found": found})])
