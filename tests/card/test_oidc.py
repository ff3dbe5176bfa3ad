"""Signing in with an outside provider: a double over HTTP that issues real ID tokens, good and bad."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from joserfc import jwt
from joserfc.jwk import ECKey

from lianxin.access import seal
from lianxin.access.models import Account, AuditEvent
from lianxin.resident.card import accounts, oidc
from lianxin.resident.card.models import OutsideIdentity, Provider
from lianxin.standards import clock
from tests.card.conftest import PHONE, World, last_code

pytestmark = pytest.mark.django_db


class Issuer(ThreadingHTTPServer):
    """A provider: checks the client, the code and PKCE, signs tokens; ``change`` alters the claims of the next one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.key = ECKey.generate_key("P-256", auto_kid=True)
        self.signer = self.key
        self.codes: dict[str, dict[str, str]] = {}
        self.change: dict[str, Any] = {}
        self.subject = "sub-1"

    def consent(self, address: str) -> dict[str, str]:
        """What the provider's page does when somebody agrees: gives a code and sends the browser back."""
        asked = {k: v[0] for k, v in parse_qs(urlsplit(address).query).items()}
        assert asked["code_challenge_method"] == "S256"
        code = f"c{len(self.codes)}"
        self.codes[code] = asked
        return {"code": code, "state": asked["state"]}


class _Door(BaseHTTPRequestHandler):
    server: Issuer

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._say(200, {"keys": [self.server.key.as_dict(private=False)]})

    def do_POST(self) -> None:
        form = {
            k: v[0]
            for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
        }
        basic = base64.b64decode(self.headers["Authorization"].split()[1]).decode()
        asked = self.server.codes.pop(form["code"], None)
        made = (
            base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest())
            .rstrip(b"=")
            .decode()
        )
        if (
            asked is None
            or basic != "lianxin:s3cret"
            or made != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
        ):
            return self._say(400, {"error": "invalid_grant"})
        now = int(clock.now().timestamp())
        claims = {
            "iss": self.server.url, "aud": "lianxin", "sub": self.server.subject, "iat": now, "exp": now + 300,
            "nonce": asked["nonce"], "name": "甄居民",
        } | self.server.change  # fmt: skip
        token = jwt.encode(
            {"alg": "ES256", "kid": self.server.key.kid}, claims, self.server.signer, algorithms=["ES256"]
        )
        return self._say(200, {"id_token": token, "access_token": "x", "token_type": "Bearer"})

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def issuer(world: World) -> Iterator[Issuer]:
    oidc.forget()
    with Issuer() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        Provider.objects.create(
            key="province", name="省统一认证", issuer=server.url, client_id="lianxin", secret_sealed=seal.seal("s3cret"),
            authorize_url=f"{server.url}/authorize", token_url=f"{server.url}/token", jwks_url=f"{server.url}/jwks", phones=True,
        )  # fmt: skip
        yield server
        server.shutdown()


def sign_in(browser: Client, issuer: Issuer, **change: str) -> Any:
    """Out and back; ``change`` alters what the browser brings back."""
    out = browser.get("/m/login/with/province?next=/m/card")
    assert out.status_code == 302
    return browser.get("/m/login/from/province", issuer.consent(out["Location"]) | change)


def inside(browser: Client) -> bool:
    """Whether somebody is signed in."""
    return "_auth_user_id" in browser.session


def test_in_by_the_provider_and_the_same_account_again(issuer: Issuer) -> None:
    browser = Client()
    assert "省统一认证" in browser.get("/m/login").content.decode()
    assert sign_in(browser, issuer)["Location"] == "/m/card"
    account = OutsideIdentity.objects.get().account
    assert (account.resident, account.has_usable_password(), account.name) == (True, False, "甄居民")
    again = Client()
    sign_in(again, issuer)
    assert again.session["_auth_user_id"] == str(account.pk)
    assert Account.objects.filter(resident=True).count() == 1


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://elsewhere.example"}, {"aud": "another"}, {"aud": ["lianxin", "another"]}, {"exp": 1}, {"exp": "soon"}, {"nonce": "old"},
        {"nonce": None}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 300}, {"iat": 4_000_000_000},
    ],
)  # fmt: skip
def test_a_token_that_does_not_fit_lets_nobody_in(issuer: Issuer, change: dict[str, Any]) -> None:
    issuer.change = change
    browser = Client()
    assert sign_in(browser, issuer)["Location"].startswith("/m/login?")
    assert not inside(browser)
    assert not Account.objects.filter(resident=True).exists()
    assert AuditEvent.objects.filter(action="login_failed", what="provider province").exists()


def test_somebody_elses_signature(issuer: Issuer) -> None:
    issuer.signer = ECKey.generate_key("P-256", auto_kid=True)
    browser = Client()
    sign_in(browser, issuer)
    assert not inside(browser)


def test_an_unsigned_token(issuer: Issuer) -> None:
    provider = Provider.objects.get()
    part = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
    for token in (f"{part}.{part}.", "", "x", "a.b.c"):
        with pytest.raises(oidc.NotSignedIn):
            oidc.verified(provider, token, "n")


def test_state_code_and_answers_that_were_not_asked_for(issuer: Issuer) -> None:
    for change in ({"state": "forged"}, {"code": "guessed"}, {"code": ""}, {"code": "x" * 3000}):
        browser = Client()
        sign_in(browser, issuer, **change)
        assert not inside(browser)
    stranger = Client()
    assert stranger.get("/m/login/from/province", {"code": "c0", "state": "s"}).status_code == 302
    assert not inside(stranger)
    browser = Client()
    out = browser.get("/m/login/with/province")
    back = issuer.consent(out["Location"])
    assert browser.get("/m/login/from/province", back).status_code == 302
    assert inside(browser)
    replayed = Client()
    replayed.get("/m/login/from/province", back)
    assert not inside(replayed)


def test_linked_to_the_phones_account(issuer: Issuer) -> None:
    browser = Client()
    browser.post("/m/login", {"phone": PHONE})
    browser.post("/m/login/code", {"code": last_code()})
    sign_in(browser, issuer)
    mine = accounts.of_phone(PHONE)
    assert OutsideIdentity.objects.get().account_id == mine.pk
    other = Client()
    other.force_login(accounts.of_phone("13900002222"), "lianxin.access.accounts.Backend")
    assert sign_in(other, issuer)["Location"].startswith("/m/login?")  # it is another's already
    assert other.session["_auth_user_id"] != str(mine.pk)


@pytest.mark.parametrize(("verified", "same"), [(True, True), (False, False), ("true", False)])
def test_a_proven_phone_leads_to_its_account(issuer: Issuer, verified: object, same: bool) -> None:
    mine = accounts.of_phone(PHONE)
    issuer.change = {"phone_number": f"+86 {PHONE}", "phone_number_verified": verified}
    browser = Client()
    sign_in(browser, issuer)
    assert (browser.session["_auth_user_id"] == str(mine.pk)) is same


def test_staff_and_closed_accounts_stay_out(issuer: Issuer) -> None:
    browser = Client()
    sign_in(browser, issuer)
    Account.objects.filter(resident=True).update(is_active=False)
    again = Client()
    sign_in(again, issuer)
    assert not inside(again)
    Provider.objects.update(active=False)
    assert Client().get("/m/login/with/province").status_code == 404
