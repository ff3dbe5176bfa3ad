"""A county with a backend, an app, and small helpers that do what a client does."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.test import Client as Browser
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from lianxin.access import clients
from lianxin.access.models import Account, Client
from lianxin.access.scope import Scope
from lianxin.exchange.smart.proof import JWT_BEARER
from lianxin.network.models import Institution
from lianxin.standards import clock
from tests.exchange.client import Client as Door

ORIGIN = "http://testserver"
TOKEN = f"{ORIGIN}/auth/token"
FHIR = f"{ORIGIN}/fhir"
BACK = "https://app.example/back"
ADMIN = Scope(roles=frozenset({"security_admin"}), account_id=None, name="security")


def new_key(kind: str = "EC") -> Any:
    """A client's key pair with a kid."""
    parameters: Any = {"use": "sig"}
    if kind == "RSA":
        return RSAKey.generate_key(2048, parameters, auto_kid=True)
    return ECKey.generate_key(kind.removeprefix("EC-") if "-" in kind else "P-384", parameters, auto_kid=True)


def key_set(*keys: Any) -> str:
    """The public halves as a JSON Web Key Set."""
    return json.dumps(KeySet(list(keys)).as_dict(private=False))


def backend(
    name: str, key: Any, scope: str = "system/*.rs", institution: Institution | None = None, **more: Any
) -> Client:
    """A registered backend."""
    return clients.save(ADMIN, clients.Draft(name, "backend", institution, scope, key_set(key), **more))


def app(name: str, scope: str = "patient/*.rs user/*.rs offline_access online_access", **more: Any) -> Client:
    """A registered public app."""
    more.setdefault("redirect_uris", [BACK])
    return clients.save(ADMIN, clients.Draft(name, "app", scope=scope, **more))


def assertion(client: Client, key: Any, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A client assertion; ``claims`` replace the sound ones (None: left out)."""
    now = int(clock.now().timestamp())
    given: dict[str, Any] = {
        "iss": client.key, "sub": client.key, "aud": TOKEN, "exp": now + 240, "jti": secrets.token_hex(8),
    }  # fmt: skip
    given = {k: v for k, v in (given | claims).items() if v is not None}
    algorithm = (header or {}).get("alg") or ("RS384" if key.key_type == "RSA" else "ES384")
    head = {"alg": algorithm, "kid": key.kid, "typ": "JWT"} | (header or {})
    head = {k: v for k, v in head.items() if v is not None}
    return jwt.encode(head, given, key, algorithms=[algorithm])


def ask(browser: Browser, client: Client, key: Any, scope: str = "system/*.rs", **more: Any) -> Any:
    """POST /auth/token for a backend."""
    form = {
        "grant_type": "client_credentials", "scope": scope, "client_assertion_type": JWT_BEARER,
        "client_assertion": more.pop("assertion", None) or assertion(client, key),
    }  # fmt: skip
    return post(browser, "/auth/token", form | more)


def post(browser: Browser, path: str, form: dict[str, Any], **more: Any) -> Any:
    """POST a form as a program does."""
    from urllib.parse import urlencode

    return browser.post(path, urlencode(form), content_type="application/x-www-form-urlencoded", **more)


def door(token: str) -> Door:
    """A client of the FHIR door with a token obtained elsewhere."""
    made = Door.__new__(Door)
    made.token = token
    return made


def signed_in(account: Account) -> Browser:
    """A browser of somebody signed in."""
    made = Browser(headers={"accept-language": "zh-hans"})
    made.force_login(account, backend=settings.AUTHENTICATION_BACKENDS[0])
    return made


@dataclass
class Flow:
    """One walk through the authorization code flow."""

    browser: Browser
    client: Client
    scope: str = "launch/patient patient/*.rs"
    redirect: str = BACK
    verifier: str = ""
    state: str = "st-1"

    def __post_init__(self) -> None:
        self.verifier = self.verifier or secrets.token_urlsafe(40)

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    def query(self, **more: Any) -> dict[str, Any]:
        """The parameters of /auth/authorize; ``more`` replaces (None: leaves out)."""
        given: dict[str, Any] = {
            "response_type": "code", "client_id": self.client.key, "redirect_uri": self.redirect, "scope": self.scope,
            "state": self.state, "aud": FHIR, "code_challenge": self.challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return {k: v for k, v in (given | more).items() if v is not None}

    def open(self, **more: Any) -> Any:
        """GET /auth/authorize."""
        return self.browser.get("/auth/authorize", self.query(**more))

    def decide(self, page: Any, **form: Any) -> Any:
        """POST a decision from a page."""
        return self.browser.post("/auth/authorize/decide", {"blob": page.context["blob"], **form})

    def agree(self, page: Any, scopes: list[str] | None = None) -> dict[str, str]:
        """Agree on the consent page; the parameters the app gets."""
        lines = [line.scope for line in page.context["lines"]] if scopes is None else scopes
        return sent(self.decide(page, allow="1", scope=lines))

    def code(self, person: str | None = None, **more: Any) -> str:
        """From opening to the code, choosing ``person`` where asked."""
        page = self.open(**more)
        if person is not None:
            page = self.decide(page, person=person)
        return self.agree(page)["code"]

    def exchange(self, code: str, **more: Any) -> Any:
        """POST the code."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.redirect,
            "client_id": self.client.key, "code_verifier": self.verifier,
        }  # fmt: skip
        return post(self.browser, "/auth/token", {k: v for k, v in (form | more).items() if v is not None})

    def tokens(self, person: str | None = None, **more: Any) -> dict[str, Any]:
        """The whole walk: the token response."""
        answer = self.exchange(self.code(person, **more))
        assert answer.status_code == 200, answer.content
        return answer.json()

    def refresh(self, token: str, **more: Any) -> Any:
        """POST a refresh token."""
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": self.client.key}
        return post(self.browser, "/auth/token", form | more)


def sent(response: Any) -> dict[str, str]:
    """The parameters of a redirect to the app."""
    assert response.status_code == 302, response.content
    return {k: v[0] for k, v in parse_qs(urlsplit(response.headers["Location"]).query).items()}


def soon() -> int:
    """Now in seconds, by the wall."""
    return int(time.time())
