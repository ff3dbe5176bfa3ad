"""The national card service: a double over HTTP that checks signatures, is slow, down and strict; our card never waits for it."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from lianxin.access import seal
from lianxin.access.models import AuditEvent
from lianxin.resident.card import cards, national, qr
from lianxin.resident.card.models import Service, ServiceCall, ServiceCard
from lianxin.resident.sms import signed
from lianxin.standards import clock
from tests.card.conftest import World

pytestmark = pytest.mark.django_db
SECRET = "s3cret"
WINDOW = 300_000  # milliseconds a timestamp may be off


class Service_(ThreadingHTTPServer):
    """Behaves as such services do: app id, timestamp, nonce and signature are checked in this order; answers carry a code."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.cards: dict[str, dict[str, str]] = {}
        self.nonces: set[str] = set()
        self.references: set[str] = set()
        self.down = False
        self.strict = False
        self.hold = threading.Event()
        self.slow = False


class _Door(BaseHTTPRequestHandler):
    server: Service_

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        service, head = self.server, self.headers
        body = self.rfile.read(int(head["Content-Length"]))
        if service.slow:
            service.hold.wait(5)
        if service.down:
            return self._say(503, 5001)
        now = int(clock.now().timestamp() * 1000)
        if abs(now - int(head["X-Timestamp"])) > WINDOW:
            return self._say(200, 4011)
        right = signed.signature(SECRET, "lianxin", head["X-Timestamp"], head["X-Nonce"], body)
        if head["X-App-Id"] != "lianxin" or head["X-Signature"] != right or head["X-Nonce"] in service.nonces:
            return self._say(200, 4010)
        service.nonces.add(head["X-Nonce"])
        given = json.loads(body)
        return self._act(self.path.rsplit("/", 1)[-1], given)

    def _act(self, act: str, given: dict[str, Any]) -> None:
        found = self.server.cards
        if act == "apply":
            if self.server.strict or not given["person"]["id_no"]:
                return self._say(200, 4001)
            number = "N" + seal.sm3(given["person"]["id_no"].encode()).hex()[:20]
            known = number in found
            found.setdefault(number, {"state": "active"})
            return self._say(200, 1002 if known else 0, {"number": number})
        if act == "check":
            number = str(given["code"]).partition(":")[2]
            return self._say(200, 0, {"number": number}) if number in found else self._say(200, 4004)
        if given["number"] not in found:
            return self._say(200, 4004)
        if act == "status":
            return self._say(200, 0, {"state": found[given["number"]]["state"]})
        found[given["number"]]["state"] = {"lose": "lost", "close": "closed"}[act]
        return self._say(200, 0)

    def _say(self, status: int, code: int, data: dict[str, str] | None = None) -> None:
        body = json.dumps({"code": code, "message": "", "data": data or {}}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def service(db: None) -> Iterator[Service_]:
    with Service_() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        Service.objects.create(
            url=f"http://127.0.0.1:{server.server_address[1]}",
            app_id="lianxin",
            secret_sealed=seal.seal(SECRET),
            active=True,
        )
        yield server
        server.hold.set()
        server.shutdown()


def person(world: World) -> int:
    return world.person("单雄信", "1960-05-06", 101, "13800001111").pk


def test_off_by_default(world: World) -> None:
    cards.ensure(world.desk, person(world))
    assert not ServiceCall.objects.exists()
    assert national.catch_up() == 0


def test_apply_status_check_and_loss(world: World, service: Service_) -> None:
    who = person(world)
    cards.ensure(world.desk, who)
    assert national.catch_up() == 1
    number = ServiceCard.objects.get(person_id=who).number
    adapter = national.current()
    assert adapter is not None
    assert adapter.status(number) == "active"
    assert adapter.check(f"code:{number}") == national.Checked(True, number)
    assert adapter.check("code:nobody").ok is False
    assert adapter.status("nobody") == "unknown"
    cards.lose(world.desk, who)
    cards.reissue(world.desk, who)
    assert national.catch_up() == 2
    assert service.cards[number]["state"] == "lost"
    assert (
        AuditEvent.objects.filter(action="export", person_id=who, what__startswith="card service").count()
        == 3
    )


def test_while_it_is_down_our_card_works_and_it_catches_up_in_order(world: World, service: Service_) -> None:
    who = person(world)
    service.down = True
    cards.ensure(world.desk, who)
    cards.lose(world.desk, who)
    cards.reissue(world.desk, who)
    assert qr.read(qr.text(who)).ok
    assert national.catch_up() == 0
    waiting = ServiceCall.objects.order_by("pk").first()
    assert waiting is not None
    assert (waiting.state, waiting.answer) == ("waiting", "HTTP 503, code 5001")
    service.down = False
    with clock.at(clock.now() + dt.timedelta(minutes=2)):
        assert national.catch_up() == 3
    assert list(ServiceCall.objects.order_by("pk").values_list("act", "state")) == [
        ("apply", "done"), ("lose", "done"), ("apply", "done"),
    ]  # fmt: skip


def test_what_it_never_takes_is_not_asked_again(world: World, service: Service_) -> None:
    service.strict = True
    who = person(world)
    cards.ensure(world.desk, who)
    assert national.catch_up() == 0
    assert ServiceCall.objects.get().state == "refused"
    cards.lose(world.desk, who)
    assert national.catch_up() == 1
    assert ServiceCall.objects.latest("pk").answer == "not registered there"


def test_a_wrong_secret_is_ours_to_mend_and_loses_nothing(world: World, service: Service_) -> None:
    Service.objects.update(secret_sealed=seal.seal("another"))
    cards.ensure(world.desk, person(world))
    assert national.catch_up() == 0
    assert ServiceCall.objects.get().state == "waiting"
    Service.objects.update(secret_sealed=seal.seal(SECRET))
    with clock.at(clock.now() + dt.timedelta(minutes=1)):
        assert national.catch_up() == 1


def test_too_slow_is_as_good_as_down(world: World, service: Service_) -> None:
    service.slow = True
    adapter = national.HttpCardService(Service.objects.get().url, "lianxin", SECRET, seconds=0.3)
    with pytest.raises(national.Unreachable):
        adapter.apply({"id_no": "x"}, "r1")


def test_a_request_cannot_be_replayed_or_kept(service: Service_) -> None:
    url = Service.objects.get().url + "/card/check"
    body = json.dumps({"code": "code:x"}).encode()
    head = signed.headers("lianxin", SECRET, body)
    assert signed.send(url, head, body, 5).body["code"] == 4004
    assert signed.send(url, head, body, 5).body["code"] == 4010
    with clock.at(clock.now() - dt.timedelta(minutes=10)):
        old = signed.headers("lianxin", SECRET, body)
    assert signed.send(url, old, body, 5).body["code"] == 4011
    assert signed.send(url, signed.headers("lianxin", SECRET, b"{}"), body, 5).body["code"] == 4010
