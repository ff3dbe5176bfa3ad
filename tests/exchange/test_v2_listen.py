"""The listener under whatever comes over the wire: it answers clearly, keeps what it refused, and goes on."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, suppress

import pytest
from django.db import connection

from lianxin.config import mllp
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.models import REFUSED, TAKEN, Arrival
from lianxin.exchange.v2 import framing, message, receiving, server, strangers
from lianxin.exchange.v2.framing import Budget, Frames
from tests.exchange.test_v2_batch import feed, head, his, oru  # noqa: F401
from tests.exchange.test_v2_pix import world  # noqa: F401
from tests.exchange.test_v2_wire import Wire, certificate, listening

pytestmark = pytest.mark.django_db(transaction=True)


def alive(port, control="still-here"):
    """Whether the listener goes on: a good message is taken."""
    assert Wire(port).ask(feed("A04", control, who=f"ok-{control}", name="某好人")).text("MSA", 1) == "AA"


def test_many_unanswered_messages_of_one_connection_are_answered_in_order(his):  # noqa: F811
    with listening(batch=16) as port:
        wire = Wire(port)
        raw = [feed("A04", f"p{n}", who=f"P{n % 9}", name=f"某{n % 9}乙") for n in range(100)]
        wire.write(b"".join(map(framing.wrap, raw)))
        told = [wire.read() for _ in raw]
    assert [t.text("MSA", 2) for t in told] == [f"p{n}" for n in range(100)]
    assert {t.text("MSA", 1) for t in told} == {"AA"}
    assert Arrival.objects.filter(state=TAKEN).count() == 100


def test_a_caller_that_says_everything_and_closes_its_side_is_answered_to_the_end(his):  # noqa: F811
    with listening() as port:
        wire = Wire(port)
        wire.write(
            b"".join(framing.wrap(feed("A04", f"e{n}", who=f"E{n}", name=f"某{n}丙")) for n in range(5))
        )
        wire.socket.shutdown(socket.SHUT_WR)
        assert [wire.read().text("MSA", 2) for _ in range(5)] == [f"e{n}" for n in range(5)]
        assert wire.closed()


def test_a_message_that_breaks_off_is_kept_and_cannot_be_replayed(his):  # noqa: F811
    with listening() as port:
        wire = Wire(port)
        wire.write(b"\x0b" + feed("A04", "half")[:150])
        wire.socket.close()
        cut = Wire(port)
        cut.write(b"\x0b" + oru("torn")[:120])
        assert cut.ask(feed("A04", "next")).text("MSA", 1) == "AR"
        assert cut.read().text("MSA", 2) == "next"
        alive(port)
        for _ in range(50):
            if Arrival.objects.filter(kind="MLLP").count() == 2:
                break
            time.sleep(0.1)
    kept = Arrival.objects.get(kind="MLLP", control_id="half")
    assert (kept.state, kept.peer_id) == (REFUSED, his.pk)
    assert inbox.replay(kept.pk).state == REFUSED
    assert not Arrival.objects.filter(control_id="half", state=TAKEN).exists()


def test_bytes_of_two_character_sets_are_refused_or_read(his):  # noqa: F811
    with listening() as port:
        wire = Wire(port)
        gbk = feed("A04", "g1", name="欧阳明月").decode().encode("gbk")
        assert wire.ask(gbk.replace(b"|||", b"|||", 1)).text("MSA", 1) == "AA"
        named = feed("A04", "g2", who="G2", tail="||||UNICODE UTF-8", name="王小明").decode().encode("gbk")
        assert wire.ask(named).text("MSA", 1) == "AA"  # says UTF-8, sends GBK throughout
        mixed = feed("A04", "g3", who="G3", name="张三") + b"\rNTE|1||" + "李四".encode("gbk") + b"\x81\xff"
        answer = wire.ask(mixed)
        assert answer.text("MSA", 1) == "AR"
        assert answer.text("ERR", 2) or answer.text("ERR", 3)
    assert Arrival.objects.filter(state=REFUSED, body__isnull=False).count() == 1
    with connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM index_person WHERE name = '王小明'")
        assert cur.fetchone()[0] == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"MSH|||||", b"MSH|^^~\\&|HIS", b"MSHAAAA", b"MSH|^~\\&|HIS|V2-A", b"", b"\x00" * 50, b"MSH\r" * 10,
        head("ADT^A04", "n1").encode() + b"\r" + b"\x00".join([b"PID", b"|1||", b"N1", b"^^^HISA||", "某人".encode(), b"||1990"]),
        head("ORU^R01", "n2").encode() + b"\rPID|1||N2^^^HISA&2.999.1&ISO||N^M\r" + b"OBX|1|NM|\r" * 3000,
        head("ADT^A04", "n3").encode() + b"\r" + b"ZZZ|\r" * 100_001,
        head("ADT^A04", "n4").encode() + b"\rPID" + b"|" * 200_000,
    ],
)  # fmt: skip
def test_junk_in_good_frames_is_answered_and_kept(his, raw):  # noqa: F811
    with listening() as port:
        answer = Wire(port).ask(raw)
        assert answer.text("MSA", 1) in ("AR", "AE", "AA")
        alive(port)
    assert Arrival.objects.exclude(control_id="still-here").count() == 1
    if answer.text("MSA", 1) != "AA":
        kept = Arrival.objects.get(state=REFUSED)
        assert kept.error
        assert inbox.body_of(kept) == raw


def test_a_large_result_is_taken_under_the_limit_and_refused_clearly_above(his):  # noqa: F811
    data = b"A" * (3 << 20)
    big = oru("big") + b"\rOBX|2|ED|11502-2^" + "报告".encode() + b"^LN||^IM^PDF^Base64^" + data + b"||||||F"
    with listening(most_bytes=4 << 20) as port:
        wire = Wire(port)
        assert wire.ask(big).text("MSA", 1) == "AA"
        refused = wire.ask(big.replace(b"|big|", b"|huge|") + data)
        assert refused.text("MSA", 1) == "AR"
        assert "larger" in refused.text("ERR", 7)
        alive(port)
    assert Arrival.objects.get(control_id="huge").kind == "MLLP"
    assert len(inbox.body_of(Arrival.objects.get(control_id="huge"))) == framing.KEPT


def test_fifty_megabytes_are_held_once_and_given_back():
    budget = Budget(60 << 20)
    one, other = Frames(64 << 20, budget), Frames(64 << 20, budget)
    part = b"x" * (1 << 20)
    one.feed(framing.START)
    other.feed(framing.START)
    for _ in range(50):
        assert one.feed(part) == []
    faults = [f.fault for _ in range(50) for f in other.feed(part)]
    assert faults == ["full"]  # the second must wait; its rest is skipped, not kept
    (whole,) = one.feed(framing.END)
    assert (len(whole.data), whole.fault) == (50 << 20, "")
    budget.give(whole.weight)
    assert budget.left == 60 << 20
    assert other.feed(framing.END + framing.START + b"MSH" + framing.END)[0].data == b"MSH"


def test_strangers_are_kept_up_to_a_bound(his, monkeypatch):  # noqa: F811
    monkeypatch.setattr(strangers, "EACH", 5)
    monkeypatch.setattr(server, "STRANGE", 12)
    strangers.forget()
    with listening() as port:
        wire = Wire(port)
        for n in range(11):
            assert wire.ask(feed("A04", f"s{n}").replace(b"|HIS|", b"|NOBODY|")).text("MSA", 1) == "AR"
        wire.write(framing.wrap(feed("A04", "s12").replace(b"|HIS|", b"|NOBODY|")))
        assert wire.read() is not None
        assert wire.closed()
        alive(port)
    assert Arrival.objects.filter(sender="").count() == 5


def test_binary_garbage_tls_and_http_to_a_plain_port_and_the_reverse(his, tmp_path):  # noqa: F811
    with listening(frame_seconds=1.0) as port:
        for first in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            wire = Wire(port)
            wire.write(first)
            assert wire.closed()
        noise = Wire(port)
        rnd = random.Random(7)
        noise.write(bytes(rnd.randrange(256) for _ in range(20_000)))
        noise.socket.close()
        alive(port)
    ours, key, _, _ = certificate(tmp_path, "localhost")
    with listening(certificate=str(ours), key=str(key), frame_seconds=1.0) as port:
        plain = Wire(port)
        plain.write(framing.wrap(feed("A04", "plain")))
        plain.socket.settimeout(10)
        with suppress(ConnectionError):
            assert framing.START not in plain.socket.recv(4096)
    assert not Arrival.objects.filter(control_id="plain").exists()


def test_a_caller_that_does_not_read_its_answers_stops_nobody(his):  # noqa: F811
    with listening(frame_seconds=0.5) as port:
        deaf = socket.create_connection(("127.0.0.1", port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        with closing(deaf):
            for n in range(300):
                try:
                    deaf.send(framing.wrap(b"MSH|^~\\&|" + b"x" * 3000 + str(n).encode()))
                except BlockingIOError:
                    break
            alive(port)


def test_messages_cut_into_single_bytes_and_split_anywhere(his):  # noqa: F811
    raw = framing.wrap(feed("A04", "b1")) + b"\n\n" + framing.wrap(feed("A08", "b2"))
    with listening() as port:
        wire = Wire(port)
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(raw), 7):
            wire.write(raw[at : at + 7])
        assert [wire.read().text("MSA", 2) for _ in range(2)] == ["b1", "b2"]


def test_several_processes_on_one_port_are_started_again_when_they_die():
    """The command, with processes that never ask the database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = (
        "import sys, django; django.setup()\n"
        "from lianxin.config import mllp\n"
        f"raise SystemExit(mllp.run(mllp.Options(port={port}, processes=2), lambda p: print('up', p, flush=True)))"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "lianxin.config.settings"}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert parent.stdout is not None
        assert parent.stdout.readline().split() == ["up", str(port)]
        with pytest.raises(OSError, match="in use"):
            mllp.run(mllp.Options(port=port, processes=2))
        before = children(parent.pid)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        for _ in range(150):
            now = children(parent.pid)
            if len(now) == 2 and before[0] not in now:
                break
            time.sleep(0.1)
        assert len(now) == 2
        assert before[1] in now
    finally:
        parent.terminate()
        assert parent.wait(20) == 0
    assert not any(os.path.exists(f"/proc/{pid}") for pid in now)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(one) for one in re.findall(r"\d+", file.read())]


def test_what_is_read_in_one_go_leaves_others_their_turn(his):  # noqa: F811
    """A batch takes of each connection what waits, up to its size: nobody's hundred messages keep another's one waiting for long."""
    sizes = []
    whole = receiving.receive_many

    def many(came):
        sizes.append(len(came))
        return whole(came)

    given = server.Settings(port=0, batch=8)
    running = server.Running(given)
    running.listener.take = many
    port = running.start()
    try:
        wire = Wire(port)
        wire.write(
            b"".join(framing.wrap(feed("A04", f"t{n}", who=f"T{n}", name=f"某{n}丁")) for n in range(20))
        )
        assert [wire.read().text("MSA", 1) for _ in range(20)] == ["AA"] * 20
    finally:
        running.stop()
    assert max(sizes) <= 8
    assert sum(sizes) == 20
    assert message.parse(feed("A04", "x")).control_id == "x"
