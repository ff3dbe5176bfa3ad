"""Pages know on whose behalf they act: the middleware puts a scope on the request, ``@page`` checks it before the view runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from lianxin.access import audit, policies
from lianxin.access.accounts import second_factor_due
from lianxin.access.errors import AccessError, NoRelationship, NotPermitted
from lianxin.access.models import Account
from lianxin.access.scope import Scope, posts_of, scope_for_account
from lianxin.network.models import Post
from lianxin.standards.text import T, Text

POST_KEY = "lianxin_post"
View = Callable[..., HttpResponse]


class ScopeMiddleware:
    """Sets ``request.scope`` (None when nobody is signed in) and the caller's address for the audit."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Run the request inside its scope; whatever a scoped page answers is never stored by a browser or proxy."""
        token = audit.origin.set(request.META.get("REMOTE_ADDR", ""))
        try:
            request.scope = _scope(request)
            response = self.get_response(request)
        finally:
            audit.origin.reset(token)
        return response


def _scope(request: HttpRequest) -> Scope | None:
    account = request.user
    if not isinstance(account, Account) and not account.is_authenticated:
        return None
    chosen = request.session.get(POST_KEY)
    held = posts(request)
    post = Post(pk=chosen) if chosen else None
    try:
        return scope_for_account(account, post, posts=held)
    except NotPermitted:  # the chosen post has ended: fall back to the first live one
        request.session.pop(POST_KEY, None)
        return scope_for_account(account, posts=held)


def page(
    *roles: str,
    clinical: bool = False,
    may: str | None = None,
    unready: bool = False,
    resident: bool = False,
) -> Callable[[View], View]:
    """Guard a view: signed in, password and second factor in order, a live post, and the right role.

    ``roles``: any of them; ``clinical``: a role that may open records; ``may``: a permission of the policy table;
    ``resident``: for residents, and for nobody else;
    ``unready``: also for accounts that still owe a password change or second factor (those pages themselves).
    A refusal is a 403 page that says why; a missing relationship offers the ways to get one. Answers are ``no-store``.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            scope: Scope | None = getattr(request, "scope", None)
            if scope is None:
                door = settings.LIANXIN_RESIDENT_LOGIN_URL if resident else None
                return _closed(redirect_to_login(request.get_full_path(), door))
            if not unready and (step := unfinished(request)):
                return _closed(redirect(step))
            try:
                if resident:
                    _check_resident(scope)
                else:
                    _check(scope, roles, clinical, may, unready)
                return _closed(view(request, *args, **kwargs))
            except AccessError as error:
                return _closed(refused(request, error))

        return guarded

    return decorate


def unfinished(request: HttpRequest) -> str | None:
    """Address of the step an account still owes (new password, second factor), or None."""
    account = request.user
    if getattr(account, "must_change_password", False):
        return reverse("portal:password")
    verified = getattr(account, "is_verified", None)
    if (
        isinstance(account, Account)
        and not (verified and verified())
        and second_factor_due(account, posts(request))
    ):
        return reverse("portal:totp")
    return None


def _check(scope: Scope, roles: tuple[str, ...], clinical: bool, may: str | None, unready: bool) -> None:
    if scope.resident:
        raise NotPermitted(
            T(
                "此页面供工作人员使用，居民请使用手机页面。",
                "This page is for staff; residents have their own pages on the phone.",
            )
        )
    if scope.post_id is None and not unready and not scope.everything:
        raise NotPermitted(
            T(
                "您的账号目前没有有效岗位，请联系系统管理员为您设置岗位。",
                "Your account has no current post; ask the system administrator to give you one.",
            )
        )
    if may:
        scope.demand(may)
    if roles and not scope.has(*roles) and not scope.everything:
        raise NotPermitted(
            T(
                "此页面供{who}使用，您当前岗位不在其中。请切换岗位后再试。",
                "This page is for: {who}. Your present post is not among them; switch post and try again.",
            ).format(who=policies.labels(frozenset(roles)))
        )
    if clinical and not scope.clinical:
        raise NotPermitted(
            T(
                "查看健康记录须为临床岗位，您当前岗位不能打开。",
                "Health records open to clinical posts only; your present post is not one.",
            )
        )


def _check_resident(scope: Scope) -> None:
    if not scope.resident:
        raise NotPermitted(
            T(
                "此页面供居民本人使用，请用居民账号登录。",
                "This page is for residents; sign in with a resident's account.",
            )
        )


def refused(request: HttpRequest, error: AccessError, status: int = 403) -> HttpResponse:
    """The refusal as a page (portal/refused.html): what was refused, why, and the way out. Audited as ``deny``."""
    person_id = error.person_id if isinstance(error, NoRelationship) else None
    scope: Scope | None = getattr(request, "scope", None)
    audit.write(
        scope,
        "deny",
        person_id=person_id,
        what=request.path,
        detail={"why": type(error).__name__},
        outcome="refused",
    )
    context = {
        "message": _heading(error),
        "why": error.message,
        "person_id": person_id,
        "can_break_glass": person_id is not None and scope is not None and scope.may("break_glass"),
    }
    return render(request, "portal/refused.html", context, status=status)


def _heading(error: AccessError) -> Text:
    if isinstance(error, NoRelationship):
        return T("没有诊疗关系", "No care relationship")
    if isinstance(error, NotPermitted):
        return T("没有权限", "Not permitted")
    return T("无法办理", "Not possible")


def _closed(response: HttpResponse) -> HttpResponse:
    response.headers["Cache-Control"] = "no-store, private"
    response.headers["Pragma"] = "no-cache"
    return response


def posts(request: HttpRequest) -> list[Post]:
    """Live posts of the signed-in account: read once, remembered for this request only."""
    held: list[Post] | None = getattr(request, "held_posts", None)
    if held is None:
        held = posts_of(request.user) if isinstance(request.user, Account) else []
        request.held_posts = held  # type: ignore[attr-defined]
    return held


@require_POST
@page(unready=True)
def switch_post(request: HttpRequest) -> HttpResponse:
    """POST ``post`` (id) and optional ``next``: act from another of one's own posts from now on."""
    value = request.POST.get("post", "")
    chosen = next((p for p in posts(request) if str(p.pk) == value), None)
    if chosen is None:
        raise NotPermitted(
            T(
                "该岗位不属于您或已到期，请重新选择岗位。",
                "This post is not yours or has ended; choose another post.",
            )
        )
    request.session[POST_KEY] = chosen.pk
    audit.write(
        scope_for_account(request.user, chosen),  # type: ignore[arg-type]
        "login",
        what=f"post {chosen.pk}",
        detail={"how": "post switched"},
    )
    target = request.POST.get("next", "")
    if not target.startswith("/") or not url_has_allowed_host_and_scheme(
        target, {request.get_host()}, require_https=request.is_secure()
    ):
        target = "/"
    return redirect(target)
