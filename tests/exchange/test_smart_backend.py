"""SMART backend services: who gets a token, for what, and what every attack on it gets instead."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from django.test import Client as Browser

from lianxin.access import clients, tokens
from lianxin.access.errors import Invalid
from lianxin.access.models import AuditEvent, Client
from lianxin.exchange.smart import keys
from lianxin.standards import clock
from tests.exchange import smart_world as w
from tests.exchange.client import patient
from tests.factories import make_institution

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.concurrency]


@pytest.fixture
def caller() -> Browser:
    tokens.forget()
    keys.forget()
    return Browser(headers={"accept-language": "zh-hans"}, raise_request_exception=False)


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_a_backend_gets_a_short_token_that_opens_what_it_asked_for(caller: Browser, kind: str) -> None:
    key = w.new_key(kind)
    client = w.backend("his", key, "system/*.cruds", make_institution("HIS-1", "hospital"))
    answer = w.ask(caller, client, key, "system/Patient.crs")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 300
    assert body["scope"] == "system/Patient.crs"
    assert "no-store" in answer.headers["Cache-Control"]
    door = w.door(body["access_token"])
    assert door("POST", "Patient", patient()).status == 201
    assert door("GET", "Patient").json["total"] == 1
    assert door("GET", "Observation").status == 403
    assert AuditEvent.objects.filter(action="login", client_id=client.pk).exists()
    client.refresh_from_db()
    assert client.last_used_at is not None


def test_scopes_are_narrowed_to_what_the_client_may_have(caller: Browser) -> None:
    key = w.new_key()
    client = w.backend("lab", key, "system/Observation.cruds system/Patient.rs")
    got = w.ask(caller, client, key, "system/*.cruds").json()["scope"].split()
    assert sorted(got) == ["system/Observation.cruds", "system/Patient.rs"]
    assert (
        w.ask(caller, client, key, "system/*.read").json()["scope"]
        == "system/Observation.rs system/Patient.rs"
    )
    limited = "system/Observation.rs?category=laboratory"
    assert w.ask(caller, client, key, limited).json()["scope"] == limited
    for bad in ("system/Condition.rs", "user/Patient.rs", "patient/Patient.rs", "", "nonsense", "openid",
                "system/Observation.rs?nosuch=1", "system/Observation.rs?_has:x=1", "system/*.rs?category=x"):  # fmt: skip
        answer = w.ask(caller, client, key, bad)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope"), bad


def test_every_fault_of_an_assertion_is_refused(caller: Browser) -> None:
    key, other = w.new_key(), w.new_key()
    client = w.backend("his", key)
    second = w.backend("other", other)
    now = int(clock.now().timestamp())
    faults: dict[str, Any] = {
        "expired": w.assertion(client, key, exp=now - 60),
        "too long": w.assertion(client, key, exp=now + 3600),
        "no exp": w.assertion(client, key, exp=None),
        "exp a text": w.assertion(client, key, exp="soon"),
        "future": w.assertion(client, key, nbf=now + 600),
        "audience": w.assertion(client, key, aud="https://elsewhere.example/token"),
        "no audience": w.assertion(client, key, aud=None),
        "no jti": w.assertion(client, key, jti=None),
        "long jti": w.assertion(client, key, jti="x" * 501),
        "subject": w.assertion(client, key, sub=second.key),
        "stranger": w.assertion(client, key, iss="nobody", sub="nobody"),
        "other's key": w.assertion(client, other),
        "other's key, own kid": w.assertion(client, other, header={"kid": key.kid}),
        "no kid": w.assertion(client, key, header={"kid": None}),
        "jku": w.assertion(client, key, header={"jku": "https://evil.example/jwks"}),
        "typ": w.assertion(client, key, header={"typ": "at+jwt"}),
        "not a jwt": "abc.def",
        "garbage": "e30.e30.e30",
        "none": "eyJhbGciOiJub25lIn0." + w.assertion(client, key).split(".")[1] + ".",
        "nested": "a" * 20_000,
    }  # fmt: skip
    for name, value in faults.items():
        answer = w.ask(caller, client, key, assertion=value)
        assert answer.status_code == 401, name
        assert answer.json()["error"] == "invalid_client", name
        assert "access_token" not in answer.json()
    altered = w.assertion(client, key)[:-4] + "AAAA"
    assert w.ask(caller, client, key, assertion=altered).status_code == 401
    assert AuditEvent.objects.filter(action="login_failed", client_id=client.pk).count() >= 10
    weak = w.new_key("EC-P-256")
    with pytest.raises(Invalid):
        w.backend("weak", weak)


def test_symmetric_and_public_key_confusion(caller: Browser) -> None:
    import base64
    import hashlib
    import hmac

    key = w.new_key("RSA")
    client = w.backend("his", key)
    now = int(clock.now().timestamp())
    claims = {"iss": client.key, "sub": client.key, "aud": w.TOKEN, "exp": now + 60, "jti": "1"}
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "kid": key.kid, "typ": "JWT"}, claims)
    ]
    digest = hmac.digest(key.as_pem(private=False), b".".join(parts), hashlib.sha256)
    value = b".".join([*parts, base64.urlsafe_b64encode(digest).rstrip(b"=")]).decode()
    assert w.ask(caller, client, key, assertion=value).status_code == 401


def test_an_assertion_is_good_once(caller: Browser) -> None:
    key = w.new_key()
    client = w.backend("his", key)
    value = w.assertion(client, key)
    answers: list[int] = []

    def send() -> None:
        from django.db import connections

        try:
            answers.append(w.ask(Browser(), client, key, assertion=value).status_code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(6)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(answers) == [200, 401, 401, 401, 401, 401]
    with clock.at(clock.now()):
        assert w.ask(caller, client, key, assertion=value).status_code == 401


class _Keys(BaseHTTPRequestHandler):
    body, status, asked = b"", 200, 0

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(self.status)
        if self.status == 302:
            self.send_header("Location", "http://127.0.0.1:1/")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *args: Any) -> None:
        pass


def test_keys_are_fetched_kept_and_turned_over(caller: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = w.new_key(), w.new_key("RSA")
    _Keys.body, _Keys.status, _Keys.asked = w.key_set(first).encode(), 200, 0
    with HTTPServer(("127.0.0.1", 0), _Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/jwks"
        client = clients.save(w.ADMIN, clients.Draft("far", "backend", None, "system/*.rs", "", url))
        for _ in range(3):
            assert w.ask(caller, client, first).status_code == 200
        assert _Keys.asked == 1
        _Keys.body = w.key_set(second).encode()
        assert (
            w.ask(caller, client, second).status_code == 401
        )  # not yet: an unknown kid may not hammer the address
        assert _Keys.asked == 1
        monkeypatch.setattr(keys, "AGAIN_SECONDS", -1.0)
        assert w.ask(caller, client, second).status_code == 200
        assert w.ask(caller, client, first).status_code == 401
        assert (
            w.ask(
                caller, client, second, assertion=w.assertion(client, second, header={"jku": url})
            ).status_code
            == 200
        )
        for body, status in (
            (b"[]", 200),
            (b"{", 200),
            (b'{"keys": []}', 200),
            (b"x" * 100_000, 200),
            (b"", 302),
            (b"", 500),
        ):
            keys.forget()
            _Keys.body, _Keys.status = body, status
            assert w.ask(caller, client, second).status_code == 401
        server.shutdown()


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/jwks", "https://169.254.169.254/latest", "https://[fd00::1]/k"]
)
def test_inner_networks_are_not_asked_for_keys(caller: Browser, url: str) -> None:
    key = w.new_key()
    client = clients.save(w.ADMIN, clients.Draft("inner", "backend", None, "system/*.rs", "", url))
    answer = w.ask(caller, client, key)
    assert answer.status_code == 401
    assert "not allowed" in answer.json()["error_description"]


def test_secrets_by_header_or_form(caller: Browser) -> None:
    import base64

    client = w.clients.save(w.ADMIN, clients.Draft("old", "backend", None, "system/Patient.rs"))
    form = {"grant_type": "client_credentials", "scope": "system/Patient.rs"}
    assert w.post(caller, "/auth/token", form | {"client_id": client.key}).status_code == 401
    secret = clients.new_secret(w.ADMIN, client)
    good = base64.b64encode(f"{client.key}:{secret}".encode()).decode()
    assert w.post(caller, "/auth/token", form, headers={"authorization": f"Basic {good}"}).status_code == 200
    assert (
        w.post(caller, "/auth/token", form | {"client_id": client.key, "client_secret": secret}).status_code
        == 200
    )
    for bad in (secret + "x", "", secret[:-1]):
        answer = w.post(caller, "/auth/token", form | {"client_id": client.key, "client_secret": bad})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
    for header in ("Basic !!!", "Basic " + base64.b64encode(b"\xff").decode(), "Basic "):
        assert w.post(caller, "/auth/token", form, headers={"authorization": header}).status_code == 401
    both = w.post(
        caller, "/auth/token", form | {"client_secret": secret}, headers={"authorization": f"Basic {good}"}
    )
    assert (both.status_code, both.json()["error"]) == (400, "invalid_request")
    again = clients.new_secret(w.ADMIN, client)
    assert (
        w.post(caller, "/auth/token", form | {"client_id": client.key, "client_secret": secret}).status_code
        == 401
    )
    assert (
        w.post(caller, "/auth/token", form | {"client_id": client.key, "client_secret": again}).status_code
        == 200
    )


def test_forms_that_are_not_in_order(caller: Browser) -> None:
    key = w.new_key()
    client = w.backend("his", key)
    assert caller.get("/auth/token").status_code == 405
    assert (
        caller.post("/auth/token", json.dumps({}), content_type="application/json").json()["error"]
        == "invalid_request"
    )
    assert w.post(caller, "/auth/token", {}).json()["error"] == "invalid_request"
    assert (
        w.post(caller, "/auth/token", {"grant_type": "password"}).json()["error"] == "unsupported_grant_type"
    )
    twice = caller.post(
        "/auth/token", "grant_type=client_credentials&grant_type=client_credentials",
        content_type="application/x-www-form-urlencoded",
    )  # fmt: skip
    assert twice.json()["error"] == "invalid_request"
    nul = w.post(caller, "/auth/token", {"grant_type": "client_credentials", "client_id": "a\x00"})
    assert nul.status_code == 400
    assert w.ask(caller, client, key, client_assertion_type="x").json()["error"] == "invalid_request"
    assert w.ask(caller, client, key, client_id="someone").json()["error"] == "invalid_client"


def test_disabled_changed_and_revoked_clients_are_out(caller: Browser) -> None:
    key = w.new_key()
    client = w.backend("his", key, "system/*.rs", make_institution("HIS-2", "hospital"))
    token = w.ask(caller, client, key).json()["access_token"]
    assert w.door(token)("GET", "Patient").status == 200
    clients.set_active(w.ADMIN, client, False)
    assert w.door(token)("GET", "Patient").status == 401
    assert w.ask(caller, client, key).status_code == 401
    clients.set_active(w.ADMIN, client, True)
    assert w.door(token)("GET", "Patient").status == 401
    token = w.ask(caller, client, key).json()["access_token"]
    new = w.new_key()
    clients.save(
        w.ADMIN, clients.Draft("his", "backend", client.institution, "system/*.rs", w.key_set(new)), client
    )
    assert w.door(token)("GET", "Patient").status == 401
    assert w.ask(caller, client, key).status_code == 401
    assert w.ask(caller, client, new).status_code == 200


def test_a_token_ends_after_five_minutes(caller: Browser) -> None:
    import datetime as dt

    key = w.new_key()
    client = w.backend("his", key)
    token = w.ask(caller, client, key).json()["access_token"]
    assert w.door(token)("GET", "Patient").status == 200
    with clock.at(clock.now() + dt.timedelta(seconds=301)):
        assert w.door(token)("GET", "Patient").status == 401


def test_introspection_and_revocation(caller: Browser) -> None:
    key, other = w.new_key(), w.new_key()
    place = make_institution("HIS-3", "hospital")
    client, second = w.backend("his", key, institution=place), w.backend("two", other, institution=place)
    server = w.backend("resource server", w.new_key("RSA"))
    secret = clients.new_secret(w.ADMIN, server)
    token = w.ask(caller, client, key).json()["access_token"]

    def about(who: Client, whose: Any, value: str = token) -> dict[str, Any]:
        form = {
            "token": value,
            "client_assertion_type": w.JWT_BEARER,
            "client_assertion": w.assertion(who, whose),
        }
        return w.post(caller, "/auth/introspect", form).json()

    found = about(client, key)
    assert found["active"] is True
    assert found["client_id"] == client.key
    assert found["scope"] == "system/*.rs"
    assert about(second, other) == {"active": False}
    widely = w.post(
        caller, "/auth/introspect", {"token": token, "client_id": server.key, "client_secret": secret}
    )
    assert widely.json()["active"] is True
    assert w.post(caller, "/auth/introspect", {"token": token}).status_code == 401
    assert about(client, key, "nonsense") == {"active": False}
    for who, whose, value in ((second, other, token), (client, key, "nonsense"), (client, key, token)):
        form = {
            "token": value,
            "client_assertion_type": w.JWT_BEARER,
            "client_assertion": w.assertion(who, whose),
        }
        alive = w.door(token)("GET", "Patient").status
        assert alive == 200
        assert w.post(caller, "/auth/revoke", form).status_code == 200
    assert w.door(token)("GET", "Patient").status == 401
    assert about(client, key) == {"active": False}


def test_what_cannot_be_registered() -> None:
    private = json.dumps({"keys": [w.new_key().as_dict(private=True) | {"kid": "1"}]})
    kept = w.key_set(w.new_key())
    bad: list[tuple[str, dict[str, Any]]] = [
        ("name", {"name": " "}),
        ("kind", {"kind": "spy"}),
        ("scope", {"scope": "patient/*.rs"}),
        ("scope", {"scope": ""}),
        ("jwks", {"jwks": private}),
        ("jwks", {"jwks": "{}"}),
        ("jwks", {"jwks": "no json"}),
        ("jwks", {"jwks": '{"keys":[{"kty":"oct","k":"AAAA","kid":"1"}]}'}),
        ("jwks", {"jwks": '{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","kid":"1"}]}'}),
        ("jwks_url", {"jwks": kept, "jwks_url": "https://a.example/jwks"}),
        ("jwks_url", {"jwks_url": "http://a.example/jwks"}),
        ("jwks_url", {"jwks_url": "file:///etc/passwd"}),
        ("redirect_uris", {"kind": "app", "scope": "patient/*.rs"}),
        ("redirect_uris", {"redirect_uris": ["https://a.example/#x"]}),
        ("redirect_uris", {"redirect_uris": ["javascript:alert(1)"]}),
        ("redirect_uris", {"redirect_uris": ["http://a.example/"]}),
        ("redirect_uris", {"redirect_uris": ["https://user@a.example/"]}),
        ("launch_url", {"launch_url": "data:text/html,x"}),
    ]
    for field, change in bad:
        with pytest.raises(Invalid) as refused:
            clients.save(w.ADMIN, clients.Draft(**{"name": "x", "scope": "system/*.rs", **change}))
        assert field in refused.value.errors, change
    from lianxin.access.errors import NotPermitted
    from lianxin.access.scope import Scope

    with pytest.raises(NotPermitted):
        clients.save(Scope(roles=frozenset({"system_admin"})), clients.Draft("x", scope="system/*.rs"))


def test_discovery(caller: Browser) -> None:
    from tests.exchange.client import Client as Door

    reply = w.door("none")("GET", ".well-known/smart-configuration")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("application/json")
    found = reply.json
    assert found["token_endpoint"] == "http://t/auth/token"
    for name in (
        "authorization_endpoint",
        "introspection_endpoint",
        "revocation_endpoint",
        "jwks_uri",
        "capabilities",
    ):
        assert name in found
    assert found["code_challenge_methods_supported"] == ["S256"]
    jwks = caller.get("/auth/jwks").json()["keys"]
    assert {k["alg"] for k in jwks} == {"RS256", "ES384"}
    assert not any({"d", "p", "q"} & k.keys() for k in jwks)
    again = caller.get("/auth/jwks").json()["keys"]
    assert again == jwks
    keys.retire()
    later = caller.get("/auth/jwks").json()["keys"]
    assert len(later) == 4
    opened = caller.get("/auth/.well-known/openid-configuration").json()
    assert opened["issuer"] == "http://testserver/auth"
    security = Door("cap")("GET", "metadata").json["rest"][0]["security"]
    uris = {u["url"]: u["valueUri"] for u in security["extension"][0]["extension"]}
    assert uris["token"] == "http://t/auth/token"
