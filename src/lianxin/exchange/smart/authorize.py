"""An app's request to be let in (``/auth/authorize``), checked part by part before a person sees anything of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from lianxin.access import smart
from lianxin.access.models import Client, Launch
from lianxin.access.scope import Scope
from lianxin.access.seal import sm3
from lianxin.exchange.smart import wanted
from lianxin.exchange.smart.addresses import Addresses
from lianxin.exchange.smart.errors import OAuthError
from lianxin.exchange.smart.grants import CHALLENGE
from lianxin.network.models import Institution
from lianxin.standards import clock
from lianxin.standards.text import T, Text

KNOWN = (
    "response_type", "client_id", "redirect_uri", "launch", "scope", "state", "aud", "code_challenge",
    "code_challenge_method", "nonce", "prompt",
)  # fmt: skip
MAX_VALUE = 4000


class NotOurs(Exception):
    """The request cannot even be answered to the app (unknown app, wrong redirect address): the person is told instead."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.en)
        self.text = text


@dataclass
class Asked:
    """A request that is in order: what may be granted, and where the answer goes."""

    client: Client
    redirect_uri: str
    state: str
    scopes: tuple[str, ...]
    challenge: str
    nonce: str
    launch: Launch | None

    @property
    def needs_patient(self) -> bool:
        """Whether a patient has to be known before the app can be let in."""
        return "launch/patient" in self.scopes or any(
            p.level == "patient" for p in smart.permissions(self.scopes)
        )


def addressed(given: dict[str, str]) -> tuple[Client, str]:
    """The app and the redirect address, before anything may be sent there; raises :class:`NotOurs`."""
    key, redirect = given.get("client_id", ""), given.get("redirect_uri", "")
    client = (
        Client.objects.filter(key=key, kind="app", active=True).first() if key and "\x00" not in key else None
    )
    if client is None:
        raise NotOurs(
            T(
                "没有登记这个应用，或已停用。请联系应用提供方或本单位安全管理员。",
                "This app is not registered, or is disabled. Ask its maker or your security administrator.",
            )
        )
    if redirect not in client.redirect_uris:
        raise NotOurs(
            T(
                "应用“{name}”的回调地址与登记的不一致，为安全起见不予继续。请联系应用提供方。",
                "The redirect address of “{name}” is not the registered one, so this goes no further. Ask its maker.",
            ).format(name=client.name)
        )
    return client, redirect


def understood(given: dict[str, str], client: Client, redirect: str, scope: Scope, here: Addresses) -> Asked:
    """The rest of the request; raises OAuthError, which goes to the app."""
    if any("\x00" in value or len(value) > MAX_VALUE for value in given.values()):
        raise OAuthError("invalid_request", "a parameter is too long or contains U+0000")
    if given.get("response_type") != "code":
        raise OAuthError("unsupported_response_type", "response_type must be code")
    if not given.get("state"):
        raise OAuthError("invalid_request", "state must be given")
    if given.get("aud", "").rstrip("/") != here.fhir:
        raise OAuthError("invalid_request", f"aud must be {here.fhir}")
    if given.get("code_challenge_method") != "S256" or not CHALLENGE.fullmatch(
        given.get("code_challenge", "")
    ):
        raise OAuthError(
            "invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256"
        )
    if given.get("prompt") == "none":
        raise OAuthError("interaction_required", "the person must agree")
    if not serves(client, scope):
        raise OAuthError("access_denied", "the app belongs to another institution")
    scopes = wanted.of_app(client, given.get("scope", ""))
    return Asked(
        client,
        redirect,
        given["state"],
        scopes,
        given["code_challenge"],
        given.get("nonce", "")[:200],
        launch_of(given.get("launch", ""), client, scope),
    )


def launch_of(value: str, client: Client, scope: Scope) -> Launch | None:
    """The launch an app refers to: made for it and this person, unused, not expired."""
    if not value:
        return None
    found = (
        Launch.objects.select_related("post")
        .filter(
            hash=sm3(value.encode()),
            client=client,
            account_id=scope.account_id or 0,
            used_at__isnull=True,
            expires_at__gt=clock.now(),
        )
        .first()
    )
    if found is None:
        raise OAuthError(
            "invalid_request", "launch is unknown, used or expired; open the app again from the patient"
        )
    return found


def serves(client: Client, scope: Scope) -> bool:
    """Whether an app is for people of this institution: everybody's, its own, or that of the centre above a village clinic."""
    if client.institution_id is None or client.institution_id in scope.institution_ids:
        return True
    above = (
        Institution.objects.filter(pk=scope.institution_id or 0).values_list("parent_id", flat=True).first()
    )
    return above is not None and above == client.institution_id


def answered(redirect: str, values: dict[str, Any]) -> str:
    """The redirect address with parameters added to its query."""
    parts = urlsplit(redirect)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *((k, str(v)) for k, v in values.items() if v)]
    return urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(query), ""))
