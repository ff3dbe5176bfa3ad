"""MLLP over real sockets: the listener under good and bad senders, TLS, and what is told to other systems."""

import datetime as dt
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.db import connection, transaction

from lianxin.access.models import Client as System
from lianxin.access.scope import Scope
from lianxin.exchange.feeds.models import Arrival
from lianxin.exchange.v2 import answers, framing, message, outbound, server
from lianxin.exchange.v2.models import HELD, REFUSED, SENT, WAITING, Peer, V2Message
from lianxin.index import links
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.record import feed
from lianxin.standards import clock
from tests.exchange.test_v2_pix import adt, make_resident_id, ok, people, pid, world  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def listening(take=None, **settings):
    given = server.Settings(port=0, **settings)
    running = server.Running(given, take) if take else server.Running(given)
    port = running.start()
    try:
        yield port
    finally:
        running.stop()


class Wire:
    def __init__(self, port, context=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.frames = framing.Frames(1 << 24)
        self.got = []

    def write(self, data):
        self.socket.sendall(data)

    def read(self):
        while not self.got:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.got += self.frames.feed(data)
        return message.parse(self.got.pop(0).data)

    def ask(self, raw):
        self.write(framing.wrap(raw))
        return self.read()

    def closed(self):
        self.socket.settimeout(10)
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


def test_messages_are_answered_in_order_after_they_are_stored(world):  # noqa: F811
    with listening() as port:
        wire = Wire(port)
        raw = [adt("A04", pid(f"M{n}", f"某{n}人", "19800101")) for n in range(5)]
        wire.write(b"".join(framing.wrap(r) for r in raw))
        for r in raw:
            answer = wire.read()
            assert (answer.text("MSA", 1), answer.text("MSA", 2)) == ("AA", message.parse(r).control_id)
        assert SourceRecord.objects.unscoped("test").count() == 5


def test_bad_frames_do_not_stop_the_listener(world):  # noqa: F811
    with listening(most_bytes=5000) as port:
        wire = Wire(port)
        wire.write(b"junk without a frame")
        assert wire.ask(b"no message").text("MSA", 1) == "AR"
        wire.write(b"\x0bMSH|^~\\&|half a mess")
        assert wire.ask(adt("A04", pid())).text("MSA", 1) == "AR"  # the half that was cut off
        assert wire.read().text("MSA", 1) == "AA"
        wire.write(b"\x0bMSH|" + b"x" * 9000)
        assert "larger" in wire.read().text("ERR", 7)
        wire.write(b"x" * 9000 + b"\x1c\r")
        assert wire.ask(adt("A08", pid())).text("MSA", 1) == "AA"
        broken = Wire(port)
        broken.write(b"\x0bMSH|^~\\&|HIS")
        broken.socket.close()
        assert Wire(port).ask(adt("A08", pid())).text("MSA", 1) == "AA"


def test_a_frame_that_never_ends_and_a_silent_caller_are_let_go(world):  # noqa: F811
    with listening(frame_seconds=0.2, idle_seconds=0.4) as port:
        endless, silent = Wire(port), Wire(port)
        endless.write(b"\x0bMSH|^~\\&|")
        assert endless.closed()
        assert silent.closed()
        assert Wire(port).ask(adt("A04", pid())).text("MSA", 1) == "AA"


def test_the_same_message_from_many_at_once_is_stored_once(world):  # noqa: F811
    raw = adt("A04", pid())
    with listening(threads=6) as port:

        def one(_):
            return Wire(port).ask(raw).text("MSA", 1)

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(one, range(12))) == {"AA"}
    assert Arrival.objects.count() == 1
    assert SourceRecord.objects.unscoped("test").count() == 1


def certificate(folder, name, signer=None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    issuer, signing = signer or (subject, key)
    made = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1)).not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .sign(signing, hashes.SHA256())
    )  # fmt: skip
    cert, private = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return cert, private, made, (subject, key)


def test_tls_with_the_callers_certificate(world, tmp_path):  # noqa: F811
    ca, _, _, signer = certificate(tmp_path, "ca")
    ours, ours_key, _, _ = certificate(tmp_path, "localhost", signer)
    theirs, theirs_key, made, _ = certificate(tmp_path, "his", signer)
    Peer.objects.filter(name="P-V2-A").update(fingerprint=made.fingerprint(hashes.SHA256()).hex())
    with listening(certificate=str(ours), key=str(ours_key), clients_ca=str(ca)) as port:
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(theirs, theirs_key)
        assert Wire(port, context).ask(adt("A04", pid())).text("MSA", 1) == "AA"
        stranger, stranger_key, _, _ = certificate(tmp_path, "other", signer)
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(stranger, stranger_key)
        assert Wire(port, context).ask(adt("A08", pid())).text("MSA", 1) == "AR"
        plain = Wire(port)
        plain.write(framing.wrap(adt("A08", pid())))
        assert plain.closed()
        without = Wire(port, ssl.create_default_context(cafile=str(ca)))
        assert without.closed()


# ------------------------------------------------------------------------------------------------------------ outbound


class Receiver:
    """A hospital that listens: keeps what it gets, answers as told."""

    def __init__(self):
        self.got, self.codes, self.lock = [], [], threading.Lock()

    def take(self, data, origin):
        with self.lock:
            asked = message.parse(data)
            self.got.append(asked)
            code = self.codes.pop(0) if self.codes else "AA"
        return answers.acknowledge(asked, code)

    def told(self):
        """(event, numbers, MRG-1 or the second PID's number) of each message."""
        out = []
        for one in self.got:
            pids = list(one.every("PID"))
            numbers = {r[0] for r in pids[0].repetitions(3)}
            other = one.text("MRG", 1) or (pids[1].text(3) if len(pids) > 1 else "")
            out.append((one.kind[1], numbers, other))
        return out


@pytest.fixture
def hospital(world):  # noqa: F811
    receiver = Receiver()
    with listening(receiver.take) as port:
        Peer.objects.filter(name="P-V2-A").update(
            host="127.0.0.1", port=port, wants=["A24", "A31", "A40"], told_event=outbound.begin_now()
        )
        yield receiver


def settle(watch=None):
    watch, senders = watch or feed.Watch(sequence=outbound.SEQUENCE), outbound.Senders()
    for _ in range(5):
        outbound.step(watch, senders)
        senders.wait(20)


def two_people(other="V2-B"):
    ok(adt("A04", pid("A1", "李二丫", "19550130")))
    ok(adt("A04", pid("B1", "李尔雅", "19580130", "HISB&2.999.2&ISO"), sender=other))
    a, b = people()
    return a, b


def test_a_merge_and_its_undoing_are_told_in_order(world, hospital):  # noqa: F811
    a, b = two_people()
    settle()
    assert [t[0] for t in hospital.told()] == ["A31"]
    hospital.got.clear()
    event = links.merge(Scope.system("test"), a, b, "同一人")
    settle()
    told = hospital.told()
    assert [t[0] for t in told] == ["A40", "A24", "A31"]
    assert all({"A1", "B1", a.number} <= t[1] for t in told)
    assert told[0][2] == b.number
    assert hospital.got[0].kind == ("ADT", "A40")
    assert "李" not in "".join("".join(s.fields) for one in hospital.got for s in one.segments)
    hospital.got.clear()
    links.unmerge(Scope.system("test"), event.pk)
    settle()
    told = hospital.told()
    assert told[0][0] == "A37"
    assert ("A31", {"A1", a.number, a.card_number}, "") in told
    assert not V2Message.objects.exclude(state=SENT).exists()


def test_nobody_is_told_of_people_its_institution_has_not_registered(world, hospital):  # noqa: F811
    ok(adt("A04", pid("B1", "某乙", "19700101", "HISB&2.999.2&ISO"), sender="V2-B"))
    ok(adt("A04", pid("B2", "某丙", "19710101", "HISB&2.999.2&ISO"), sender="V2-B"))
    x, y = people()
    links.merge(Scope.system("test"), x, y, "同一人")
    settle()
    assert hospital.got == []
    assert not V2Message.objects.exists()


def test_a_receiver_that_is_away_gets_everything_later_once_and_in_order(world, hospital, monkeypatch):  # noqa: F811
    peer = Peer.objects.get(name="P-V2-A")
    Peer.objects.filter(pk=peer.pk).update(port=1)
    a, b = two_people()
    settle()
    links.merge(Scope.system("test"), a, b, "同一人")
    settle()
    away = Peer.objects.get(pk=peer.pk)
    assert away.failures >= 1
    assert away.not_before is not None
    assert away.last_error
    waiting = V2Message.objects.filter(state=WAITING).count()
    assert waiting == 4
    Peer.objects.filter(pk=peer.pk).update(port=peer.port, not_before=None)
    settle()
    assert [m.kind[1] for m in hospital.got] == ["A31", "A40", "A24", "A31"]
    settle()
    assert len(hospital.got) == waiting
    assert Peer.objects.get(pk=peer.pk).failures == 0


def test_a_receiver_that_never_answers_holds_nobody_back(world, hospital, monkeypatch):  # noqa: F811
    monkeypatch.setattr(outbound, "TIMEOUT", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call, says nothing
        Peer.objects.filter(name="P-V2-B").update(
            host="127.0.0.1", port=silent.getsockname()[1], wants=["A31"], told_event=outbound.begin_now()
        )
        Peer.objects.filter(name="P-V2-A").update(failures=1)  # the silent one comes first
        two_people()
        watch, senders = feed.Watch(sequence=outbound.SEQUENCE), outbound.Senders()
        outbound.step(watch, senders)
        waiting = V2Message.objects.filter(state=WAITING, peer__name="P-V2-B")
        for _ in range(100):
            if len(hospital.got) == 1:
                break
            senders.wait(0.02)
        assert (len(hospital.got), waiting.count()) == (1, 1)
        assert Peer.objects.get(name="P-V2-B").failures == 0  # it is still being waited for
        senders.wait(20)
        assert waiting.count() == 1
    assert Peer.objects.get(name="P-V2-B").failures == 1


def test_what_is_refused_is_kept_shown_and_sent_again(world, hospital):  # noqa: F811
    hospital.codes = ["AE"]
    two_people()
    settle()
    one = V2Message.objects.get()
    assert (one.state, one.code) == (REFUSED, "AE")
    outbound.replay(one.pk)
    settle()
    one.refresh_from_db()
    assert (one.state, one.attempts, len(hospital.got)) == (SENT, 2, 2)
    assert hospital.got[0].control_id == hospital.got[1].control_id
    outbound.replay(one.pk)
    outbound.hold(one.pk)
    settle()
    one.refresh_from_db()
    assert one.state == HELD


def test_a_change_that_is_committed_late_is_told_too(world, hospital):  # noqa: F811
    a, b = two_people()
    settle()
    hospital.got.clear()
    watch = feed.Watch(sequence=outbound.SEQUENCE)
    numbered, go_on = threading.Event(), threading.Event()

    def late():
        try:
            with transaction.atomic():
                links.merge(Scope.system("test"), a, b, "晚提交")
                numbered.set()
                go_on.wait(20)
        finally:
            connection.close()

    thread = threading.Thread(target=late)
    thread.start()
    assert numbered.wait(20)
    LinkEvent.objects.create(person_id=a.pk, kind="review", at=clock.now())
    settle(watch)
    assert hospital.got == []
    go_on.set()
    thread.join(20)
    settle(watch)
    assert [m.kind[1] for m in hospital.got] == ["A40", "A24", "A31"]


def test_a_system_that_was_switched_off_hears_nothing_until_it_is_on_again(world, hospital):  # noqa: F811
    System.objects.filter(name="v2-P-V2-A").update(active=False)
    number = make_resident_id()
    ok(adt("A04", pid("B1", authority="HISB&2.999.2&ISO", more=f"|||||||||||{number}"), sender="V2-B"))
    person = Person.objects.unscoped("test").get()
    SourceRecord.objects.unscoped("test").create(
        institution=world["a"], system="t", local_id="1", person=person, payload=b"", payload_hash=b"1", received_at=clock.now()
    )  # fmt: skip
    settle()
    assert hospital.got == []
    System.objects.filter(name="v2-P-V2-A").update(active=True)
    settle()
    assert [m.kind[1] for m in hospital.got] == ["A31"]
