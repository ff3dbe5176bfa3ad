"""Messages: stored with the act they tell of, sent once, tried again, and nobody held up by a bad number."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client

from lianxin.access import seal
from lianxin.access.models import Account, AuditEvent
from lianxin.network import roles
from lianxin.resident import sms
from lianxin.resident.sms import composing, gateways, phones, sending, signed
from lianxin.resident.sms.models import Gateway, Message
from lianxin.standards import clock
from tests.factories import make_institution, make_post

pytestmark = pytest.mark.django_db
PHONE = "13800001111"
NOON = dt.datetime(2026, 11, 23, 12, 0, tzinfo=clock.ZONE)
BOOKED = {"name": "单雄信", "when": "11月25日 8:30", "place": "县人民医院 内科", "seat": 7}


class Double:
    """A gateway that does as it is told: ``script`` maps a phone to what happens, attempt by attempt."""

    keeps = False

    def __init__(self, script: dict[str, list[Any]] | None = None) -> None:
        self.script = script or {}
        self.calls: list[tuple[str, str, str]] = []

    def carry(self, reference: str, phone: str, text: str) -> str:
        """Note the call, then fail or take it."""
        self.calls.append((reference, phone, text))
        steps = self.script.get(phone, [])
        step = steps.pop(0) if steps else None
        if step is not None:
            raise step
        return f"r{len(self.calls)}"


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Double:
    made = Double()
    monkeypatch.setattr(gateways, "current", lambda: made)
    return made


@pytest.fixture(autouse=True)
def _noon() -> Iterator[None]:
    with clock.at(NOON):
        yield


def test_stored_first_sent_once_and_wiped(double: Double) -> None:
    message = sms.send(PHONE, "booked", BOOKED, "k1", person_id=None)
    assert double.calls == []
    assert PHONE not in repr(Message.objects.values().get(pk=message.pk))
    assert (sending.deliver(), sending.deliver()) == (1, 0)
    [(reference, phone, text)] = double.calls
    assert (reference, phone) == (str(message.reference), PHONE)
    assert "7号" in text
    message.refresh_from_db()
    assert (message.state, message.text_sealed, message.receipt) == ("sent", "", "r1")


def test_the_same_key_is_the_same_message(double: Double) -> None:
    assert sms.send(PHONE, "booked", BOOKED, "k1").pk == sms.send(PHONE, "booked", BOOKED, "k1").pk
    assert sending.deliver() == 1


def test_undone_with_the_act_it_tells_of(double: Double) -> None:
    class Undone(Exception):
        pass

    def act() -> None:
        with transaction.atomic():
            sms.send(PHONE, "booked", BOOKED, "k1")
            raise Undone

    with pytest.raises(Undone):
        act()
    assert sending.deliver() == 0


def test_one_bad_number_blocks_nobody(double: Double) -> None:
    double.script["13900000001"] = [gateways.Refused("the gateway refuses the number")]
    double.script["13900000002"] = [ValueError("an adapter's own fault")]
    for n in range(1, 6):
        sms.send(f"1390000000{n}", "booked", BOOKED, f"k{n}")
    assert sending.deliver() == 3
    assert Counter(Message.objects.values_list("state", flat=True)) == {"sent": 3, "failed": 1, "waiting": 1}


def test_a_gateway_that_is_down_is_tried_again_with_longer_waits(double: Double) -> None:
    double.script[PHONE] = [gateways.Temporary("no answer")] * 3
    message = sms.send(PHONE, "booked", BOOKED, "k1")
    waits = []
    now = NOON
    for _ in range(3):
        with clock.at(now):
            assert sending.deliver() == 0
            message.refresh_from_db()
            waits.append((message.next_at - now).total_seconds())
            assert sending.deliver() == 0  # not before its time
        now = message.next_at
    assert waits == [10, 20, 40]
    with clock.at(now):
        assert sending.deliver() == 1
    assert len({reference for reference, *_ in double.calls}) == 1


def test_given_up_in_the_end(double: Double) -> None:
    double.script[PHONE] = [gateways.Temporary("no answer")] * 50
    message = sms.send(PHONE, "booked", BOOKED, "k1")
    now = NOON
    for _ in range(sending.MOST_TRIES):
        with clock.at(now):
            sending.deliver()
        message.refresh_from_db()
        now = message.next_at
    assert (message.state, message.text_sealed, len(double.calls)) == ("failed", "", sending.MOST_TRIES)


def test_a_code_that_comes_too_late_is_not_sent(double: Double) -> None:
    message = sms.send(PHONE, "login_code", {"code": "123456"}, "k1")
    with clock.at(NOON + dt.timedelta(minutes=5)):
        assert sending.deliver() == 0
    message.refresh_from_db()
    assert (message.state, double.calls) == ("expired", [])


def test_the_night_is_quiet_but_for_codes(double: Double) -> None:
    night = dt.datetime(2026, 11, 23, 23, 0, tzinfo=clock.ZONE)
    with clock.at(night):
        later = sms.send(PHONE, "reminder", BOOKED, "k1")
        sms.send(PHONE, "login_code", {"code": "123456"}, "k2")
        assert sending.deliver() == 1
    morning = dt.datetime(2026, 11, 24, 7, 30, tzinfo=clock.ZONE)
    assert later.next_at == morning
    with clock.at(morning):
        assert sending.deliver() == 1


@pytest.mark.parametrize(
    ("hour", "minute", "day", "then"),
    [(21, 30, 24, (7, 30)), (3, 0, 23, (7, 30)), (7, 30, 23, (7, 30)), (21, 29, 23, (21, 29))],
)
def test_when_the_night_ends(hour: int, minute: int, day: int, then: tuple[int, int]) -> None:
    at = sending.awake(dt.datetime(2026, 11, 23, hour, minute, tzinfo=clock.ZONE))
    assert (at.day, (at.hour, at.minute)) == (day, then)


def test_a_number_gets_so_many_a_day(double: Double) -> None:
    for n in range(sending.A_DAY + 3):
        sms.send(PHONE, "booked", BOOKED, f"k{n}")
    sms.send("13900002222", "booked", BOOKED, "other")
    assert Message.objects.filter(state="refused").count() == 3
    assert sending.deliver() == sending.A_DAY + 1


def test_a_process_that_died_leaves_its_messages_to_the_next(double: Double) -> None:
    message = sms.send(PHONE, "booked", BOOKED, "k1")
    Message.objects.filter(pk=message.pk).update(state="sending", next_at=NOON + sending.LEASE, tries=1)
    assert sending.deliver() == 0
    with clock.at(NOON + sending.LEASE):
        assert sending.deliver() == 1


def test_without_a_gateway_messages_wait() -> None:
    sms.send(PHONE, "booked", BOOKED, "k1")
    assert sending.deliver() == 0
    assert Message.objects.get().state == "waiting"


def test_templates_ask_the_same_in_both_languages_and_take_no_tricks() -> None:
    for kind in composing.templates().values():
        values = dict.fromkeys(kind.places, "甄\r\n{code}\x00")
        for language in ("zh-hans", "en"):
            text = composing.compose(kind, values, language)
            assert not set("\r\n\x00") & set(text)
            assert (
                len(composing.compose(kind, dict.fromkeys(kind.places, "长" * 900), language))
                <= composing.LONGEST
            )
    with pytest.raises(ValueError, match="code"):
        composing.compose(composing.template("login_code"), {}, "en")
    with pytest.raises(composing.UnknownTemplate):
        sms.send(PHONE, "nothing", {}, "k")
    with pytest.raises(phones.NotAPhone):
        sms.send("110", "booked", BOOKED, "k")


# ---------------------------------------------------------------------------------------------------- a gateway that listens


class Listening(ThreadingHTTPServer):
    """A gateway over HTTP: checks signatures, knows references, and misbehaves when told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Door)
        self.seen: dict[str, int] = {}
        self.behaviour: list[str] = []
        self.nonces: set[str] = set()


class _Door(BaseHTTPRequestHandler):
    server: Listening

    def log_message(self, *args: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        what = self.server.behaviour.pop(0) if self.server.behaviour else "take"
        head = self.headers
        wanted = signed.signature("s3cret", head["X-App-Id"], head["X-Timestamp"], head["X-Nonce"], body)
        if head["X-Signature"] != wanted or head["X-Nonce"] in self.server.nonces:
            return self._say(401, {"code": "signature"})
        self.server.nonces.add(head["X-Nonce"])
        reference = json.loads(body)["reference"]
        if what == "busy":
            return self._say(503, {"code": "busy"})
        if what == "nonsense":
            return self._say(200, ["0"])
        if what == "blocked":
            return self._say(200, {"code": "blocked"})
        again = reference in self.server.seen
        self.server.seen[reference] = self.server.seen.get(reference, 0) + 1
        if what == "takes and hangs up":
            self.close_connection = True
            return None
        return self._say(200, {"code": "duplicate" if again else "0", "id": "g1"})

    def _say(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def listening() -> Iterator[Listening]:
    with Listening() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_over_http_with_every_misbehaviour(listening: Listening) -> None:
    url = f"http://127.0.0.1:{listening.server_address[1]}/send"
    Gateway.objects.create(kind="http", url=url, app_id="lianxin", secret_sealed=seal.seal("s3cret"))
    message = sms.send(PHONE, "booked", BOOKED, "k1")
    blocked = sms.send("13900002222", "booked", BOOKED, "k2")
    listening.behaviour = ["busy", "blocked", "nonsense", "takes and hangs up"]
    now = NOON
    for _ in range(4):
        with clock.at(now):
            sending.deliver()
        message.refresh_from_db()
        now = max(now, message.next_at)
    blocked.refresh_from_db()
    assert (message.state, blocked.state) == ("sent", "failed")
    assert listening.seen == {str(message.reference): 2}  # it knows the repetition by its reference


@pytest.mark.concurrency
@pytest.mark.django_db(transaction=True)
def test_many_workers_send_each_message_once(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double()
    monkeypatch.setattr(gateways, "current", lambda: double)
    for n in range(60):
        sms.send(f"139000000{n:02d}", "login_code", {"code": "1"}, f"k{n}")
    found: list[int] = []

    def work() -> None:
        try:
            with clock.at(NOON):
                found.append(sending.deliver())
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert sum(found) == len(double.calls) == 60
    assert len({phone for _, phone, _ in double.calls}) == 60


# ------------------------------------------------------------------------------------------------------------------ the page


def admin(role: str = roles.SYSTEM_ADMIN) -> Client:
    post = make_post(make_institution(kind="hospital"), role)
    account = Account.objects.create_user(
        f"a{post.pk}", "Lianxin-2026", name="甄管", practitioner=post.practitioner
    )
    browser = Client()
    browser.force_login(account, "lianxin.access.accounts.Backend")
    return browser


def test_texts_are_read_only_while_they_are_kept(double: Double) -> None:
    Gateway.objects.create(kind="kept")
    sms.send(PHONE, "login_code", {"code": "424242"}, "k1")
    browser = admin()
    assert "424242" in browser.get("/manage/sms").content.decode()
    for role in (roles.SECURITY_ADMIN, roles.RECEPTION, roles.MANAGER):
        assert admin(role).get("/manage/sms").status_code == 403
    form = {"act": "http", "url": "http://127.0.0.1:9/send", "app_id": "lianxin", "secret": ""}
    assert browser.post("/manage/sms", form).status_code == 422
    assert browser.post("/manage/sms", form | {"secret": "s3cret"}).status_code == 302
    page = browser.get("/manage/sms").content.decode()
    assert "424242" not in page
    assert PHONE not in page
    assert "s3cret" not in page
    assert Gateway.objects.get().kind == "http"
    assert browser.post("/manage/sms", form | {"url": "file:///etc/passwd", "secret": "x"}).status_code == 422
    assert browser.post("/manage/sms", {"act": "none"}).status_code == 302
    assert AuditEvent.objects.filter(what="sms gateway").count() == 2
