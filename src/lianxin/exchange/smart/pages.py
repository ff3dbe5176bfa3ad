"""What a person sees when an app is opened: choosing the patient, agreeing or not, and later taking it back."""

from __future__ import annotations

import datetime as dt
import secrets
from typing import Any
from urllib.parse import urlencode, urlsplit

from django.contrib import messages
from django.core import signing
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from lianxin.access import audit, relationships, smart, tokens
from lianxin.access.models import Account, Client, Grant, Launch
from lianxin.access.scope import Scope, scope_for_account
from lianxin.access.seal import sm3
from lianxin.access.web import page
from lianxin.exchange.smart import addresses, authorize, grants, wanted
from lianxin.exchange.smart.authorize import Asked, NotOurs
from lianxin.exchange.smart.errors import OAuthError
from lianxin.index import registry
from lianxin.index.models import Person
from lianxin.network.models import Post
from lianxin.record import store
from lianxin.standards import clock
from lianxin.standards.text import T

SALT = "lianxin.smart.authorize"
MINUTES = 10
LAUNCH_LIFE = dt.timedelta(minutes=5)
FOUND = 20


class _Away(HttpResponseRedirect):
    """A redirect to an app, also to a native app's own scheme (the address is a registered one)."""

    def __init__(self, url: str) -> None:
        self.allowed_schemes = [urlsplit(url).scheme]
        super().__init__(url)


def _away(redirect_uri: str, values: dict[str, Any]) -> HttpResponse:
    response = _Away(authorize.answered(redirect_uri, values))
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _open_form(response: HttpResponse, redirect_uri: str) -> HttpResponse:
    """Let the page's forms end at the app: browsers hold redirects after a form to ``form-action`` too."""
    parts = urlsplit(redirect_uri)
    target = f"{parts.scheme}://{parts.netloc}" if parts.scheme in ("http", "https") else f"{parts.scheme}:"
    response._csp_update = {"form-action": [target]}  # type: ignore[attr-defined]
    return response


def _account(request: HttpRequest) -> Account:
    assert isinstance(request.user, Account)
    return request.user


@require_GET
@page(clinical=True)
def ask(request: HttpRequest) -> HttpResponse:
    """``GET /auth/authorize``: check the app's request, then ask the person."""
    given = {name: request.GET[name] for name in authorize.KNOWN if name in request.GET}
    return _answered(request, given, None)


def _answered(request: HttpRequest, given: dict[str, str], person: int | None, **shown: Any) -> HttpResponse:
    """The next page for a request, or the refusal: to the app where its address is known to be right."""
    try:
        client, redirect_uri = authorize.addressed(given)
    except NotOurs as refused:
        return render(
            request,
            "portal/refused.html",
            {"message": T("不能打开此应用", "This app cannot be opened"), "why": refused.text},
            status=400,
        )
    try:
        asked = authorize.understood(
            given, client, redirect_uri, request.scope, addresses.of_request(request)
        )
        acting = _acting(request, asked)
        if "allow" in shown:
            return _allowed(request, asked, acting, person, shown["allow"])
        return _asked(request, given, asked, acting, person, shown.get("q", ""))
    except OAuthError as error:
        return _away(redirect_uri, {**error.body, "state": given.get("state", "")})


def _acting(request: HttpRequest, asked: Asked) -> Scope:
    """The person in the post the app was opened from, else in the post of this session."""
    if asked.launch is None:
        return request.scope
    return scope_for_account(_account(request), asked.launch.post)


def _patient(asked: Asked, acting: Scope, person: int | None) -> Person | None:
    """The patient of the launch or the one chosen, when the person acting may open that record."""
    wanted_id = asked.launch.person_id if asked.launch is not None else person
    if wanted_id is None:
        return None
    if not relationships.sees(acting, wanted_id):
        raise OAuthError("access_denied", "the person may not open this patient's record")
    return Person.objects.within(acting).filter(pk=wanted_id).first()


def _asked(
    request: HttpRequest, given: dict[str, str], asked: Asked, acting: Scope, person: int | None, q: str
) -> HttpResponse:
    found = _patient(asked, acting, person)
    blob = signing.dumps(
        {"given": given, "account": acting.account_id, "person": person}, salt=SALT, compress=True
    )
    context: dict[str, Any] = {
        "app": asked.client,
        "blob": blob,
        "person": found,
        "redirect_uri": asked.redirect_uri,
    }
    if asked.needs_patient and found is None:
        context |= {
            "q": q,
            "hits": _hits(acting, q) if q else [],
            "recent": [] if q else _recent(request, acting),
        }
        return _open_form(render(request, "smart/patient.html", context), asked.redirect_uri)
    context |= {
        "lines": wanted.lines(asked.scopes),
        "hidden": [s for s in asked.scopes if s in wanted.FREE],
        "host": urlsplit(asked.redirect_uri).netloc or asked.redirect_uri,
        "may_change": found is not None and asked.launch is None,
    }
    return _open_form(render(request, "smart/consent.html", context), asked.redirect_uri)


def _hits(scope: Scope, q: str) -> list[Any]:
    """People found whose record the person acting may open."""
    if not scope.may("find_person"):
        return []
    return [hit for hit in registry.find(scope, q, limit=FOUND) if hit.related]


def _recent(request: HttpRequest, scope: Scope) -> list[Person]:
    numbers = request.session.get("recent_people", [])
    found = {p.number: p for p in Person.objects.within(scope).filter(number__in=numbers)} if numbers else {}
    return [found[n] for n in numbers if n in found]


@require_POST
@page(clinical=True)
def decide(request: HttpRequest) -> HttpResponse:
    """``POST /auth/authorize/decide``: a patient looked for or chosen, the app allowed or refused."""
    try:
        kept = signing.loads(request.POST.get("blob", ""), salt=SALT, max_age=MINUTES * 60)
    except signing.BadSignature:
        kept = {}
    if kept.get("account") != request.scope.account_id or request.scope.account_id is None:
        text = T("此页面已过期，请从应用重新开始。", "This page has expired; start again from the app.")
        heading = T("不能打开此应用", "This app cannot be opened")
        return render(request, "portal/refused.html", {"message": heading, "why": text}, status=400)
    given, person = kept["given"], kept["person"]
    if "deny" in request.POST:
        try:
            client, redirect_uri = authorize.addressed(given)
        except NotOurs:
            return redirect("portal:workbench")
        audit.write(request.scope, "deny", what=f"app {client.name}", outcome="refused")
        error = OAuthError("access_denied", "the person did not agree")
        return _away(redirect_uri, {**error.body, "state": given.get("state", "")})
    if "change" in request.POST:
        return _answered(request, given, None)
    if "person" in request.POST:
        chosen = Person.objects.within(request.scope).filter(number=request.POST["person"][:10]).first()
        return _answered(request, given, chosen.pk if chosen else None)
    if "allow" in request.POST:
        return _answered(request, given, person, allow=set(request.POST.getlist("scope")))
    return _answered(request, given, person, q=request.POST.get("q", "").strip()[:100])


def _allowed(
    request: HttpRequest, asked: Asked, acting: Scope, person: int | None, kept: set[str]
) -> HttpResponse:
    """The person agreed to ``kept``: the code goes to the app."""
    found = _patient(asked, acting, person)
    if asked.needs_patient and found is None:
        raise OAuthError("access_denied", "no patient was chosen")
    optional = {line.scope for line in wanted.lines(asked.scopes) if line.optional}
    scopes = tuple(s for s in asked.scopes if s not in optional or s in kept)
    if not smart.permissions(scopes) and "openid" not in scopes:
        raise OAuthError("access_denied", "the person allowed nothing")
    context: dict[str, Any] = {}
    if found is not None:
        context = {"patient": found.number, "need_patient_banner": True}
        if asked.launch is not None and asked.launch.encounter:
            context["encounter"] = asked.launch.encounter
    if asked.launch is not None:
        taken = Launch.objects.filter(pk=asked.launch.pk, used_at__isnull=True).update(used_at=clock.now())
        if not taken:
            raise OAuthError("invalid_request", "launch was used before; open the app again from the patient")
    wish = grants.Wish(
        asked.client, asked.redirect_uri, scopes, asked.challenge, asked.nonce,
        found.pk if found is not None else None, context,
    )  # fmt: skip
    code = grants.allow(
        wish, _account(request), Post.objects.get(pk=acting.post_id or 0), request.session.session_key or ""
    )
    return _away(asked.redirect_uri, {"code": code, "state": asked.state})


# ----------------------------------------------------------------------------------------------------------- EHR launch


def launchable(scope: Scope) -> list[Client]:
    """Apps that may be opened from a person's page by somebody acting in ``scope``."""
    if not scope.clinical or scope.account_id is None:
        return []
    found = Client.objects.filter(kind="app", active=True).exclude(launch_url="").order_by("name")
    return [client for client in found if authorize.serves(client, scope)]


@require_POST
@page(clinical=True)
def launch(request: HttpRequest) -> HttpResponse:
    """``POST /auth/launch``: open ``app`` (its key) for ``person`` (number), perhaps in an ``encounter`` (id)."""
    scope = request.scope
    app = next((c for c in launchable(scope) if c.key == request.POST.get("app", "")), None)
    person = registry.get(request.POST.get("person", "")[:10])
    relationships.require(scope, person.pk)
    encounter = request.POST.get("encounter", "")
    if app is None or (encounter and not _encounter_of(scope, person, encounter)):
        text = T("没有这个应用或这次就诊。", "There is no such app or visit.")
        heading = T("不能打开此应用", "This app cannot be opened")
        return render(request, "portal/refused.html", {"message": heading, "why": text}, status=400)
    value = secrets.token_urlsafe(32)
    Launch.objects.create(
        hash=sm3(value.encode()),
        client=app,
        account=_account(request),
        post_id=scope.post_id,
        person_id=person.pk,
        encounter=encounter,
        expires_at=clock.now() + LAUNCH_LIFE,
    )
    audit.write(scope, "read", person_id=person.pk, what=f"app {app.name}", detail={"did": "opened"})
    given = urlencode({"iss": addresses.of_request(request).fhir, "launch": value})
    target = f"{app.launch_url}{'&' if '?' in app.launch_url else '?'}{given}"
    return render(request, "smart/launch.html", {"app": app, "target": target, "person": person})


def _encounter_of(scope: Scope, person: Person, encounter: str) -> bool:

    if not store.ID.fullmatch(encounter):
        return False
    with connection.cursor() as cur:
        found = store.read(cur, scope, "Encounter", encounter)
    return found is not None and found.status == 200 and found.person_id == person.pk


# -------------------------------------------------------------------------------------------------------- taking it back


@page(clinical=True)
def mine(request: HttpRequest) -> HttpResponse:
    """``/auth/grants``: the apps a person let in, each to be ended; POST ``end`` (id)."""
    own = Grant.objects.filter(
        account_id=request.scope.account_id, revoked_at__isnull=True, expires_at__gt=clock.now()
    ).exclude(code_used_at__isnull=True)
    if request.method == "POST":
        grant = get_object_or_404(own, pk=int(request.POST.get("end", "0")[:18] or 0))
        tokens.revoke_grant(grant.pk)
        audit.write(
            request.scope, "admin", person_id=grant.person_id, what=f"app {grant.client.name}",
            detail={"did": "ended", "grant": grant.pk},
        )  # fmt: skip
        messages.success(
            request, T("已收回，该应用不能再访问。", "Taken back: the app has no access any more.")
        )
        return redirect("smart:grants")
    held = list(own.select_related("client").order_by("-created_at"))
    people = Person.objects.within(request.scope).in_bulk({g.person_id for g in held if g.person_id})
    rows = [
        {
            "grant": g,
            "lines": wanted.lines(tuple(g.scope.split())),
            "person": people.get(g.person_id) if g.person_id else None,
        }
        for g in held
    ]
    return render(request, "smart/grants.html", {"rows": rows})


__all__ = ["ask", "decide", "launch", "launchable", "mine"]
