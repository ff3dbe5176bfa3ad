"""A hospital that speaks HL7 v2: what it is sent, and what its answers mean."""

from __future__ import annotations

import datetime as dt
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from lianxin.exchange.v2 import framing, message
from lianxin.exchange.v2.message import Message
from lianxin.resident.scheduling.adapter_v2 import V2
from lianxin.resident.scheduling.adapters import Answer, Unclear, Visit
from lianxin.resident.scheduling.models import BookingSystem
from lianxin.standards import clock

VISIT = Visit(
    key="LX1-A", session="S|1", department="WK", practitioner="D1", seat=3, at=dt.datetime(2026, 3, 4, 8, 30, tzinfo=clock.ZONE),
    minutes=10, number="P1", name="欧阳明月", sex="female", birth="1969-05-17", note="首诊",
)  # fmt: skip


@contextmanager
def listening(answer: Callable[[Message], bytes]) -> Iterator[tuple[BookingSystem, list[Message]]]:
    """A hospital that answers each message with the bytes of ``answer`` (none: it hangs up)."""
    heard: list[Message] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    wire, _ = server.accept()
                except OSError:
                    return
                with wire:
                    frames = framing.Frames(1 << 20)
                    got: list[framing.Frame] = []
                    while not got:
                        got = frames.feed(wire.recv(65536))
                    asked = message.parse(got[0].data)
                    heard.append(asked)
                    if told := answer(asked):
                        wire.sendall(told)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        system = BookingSystem(
            name="v2",
            way="v2",
            host="127.0.0.1",
            port=server.getsockname()[1],
            application="HIS",
            facility="RMYY",
            seconds=1,
        )
        yield system, heard


def told(code: str, status: str = "", error: str = "", own: str = "") -> Callable[[Message], bytes]:
    def make(asked: Message) -> bytes:
        lines = [
            "MSH|^~\\&|HIS|RMYY|LIANXIN|LX|20260302||SRR^S01^SRR_S01|1|P|2.5",
            f"MSA|{code}|{own or asked.control_id}",
        ]
        lines += [f"ERR||ARQ^1|{error}|E||||no such session"] if error else []
        lines += [f"SCH|{asked.text('ARQ', 1)}|MZ9{'|' * 23}{status}"] if status else []
        return framing.wrap("\r".join(lines).encode())

    return make


def test_a_request_says_who_comes_when_and_to_what() -> None:
    with listening(told("AA", "Booked")) as (system, heard):
        assert V2(system).book(VISIT) == Answer(True, "MZ9")
        assert V2(system).cancel(VISIT, "MZ9").yes
        asked, off = heard
    assert (asked.kind, asked.control_id, asked.text("ARQ", 1)) == (("SRM", "S01"), "LX1-A", "LX1-A")
    assert (asked.text("ARQ", 5), asked.text("AIS", 3, 2), asked.text("PID", 5)) == ("S|1", "3", "欧阳明月")
    assert (asked.text("AIP", 3), asked.text("AIL", 3), asked.text("PID", 8)) == ("D1", "WK", "F")
    assert asked.text("ARQ", 11).startswith("202603040830")
    assert (off.kind, off.text("ARQ", 2)) == (("SRM", "S04"), "MZ9")


@pytest.mark.parametrize(
    ("answer", "yes"),
    [
        (told("AA", "Booked"), True),
        (told("CA"), None),
        (told("AA", "Pending"), None),
        (told("AA", "Cancelled"), False),
        (told("AE", error="204"), False),
        (told("AE", error="206"), None),
        (told("AE", error="207"), None),
        (told("AA", "Booked", own="ANOTHER"), None),
        (lambda asked: b"", None),
        (lambda asked: b"\x0bno message\x1c\r", None),
        (lambda asked: told("CA")(asked) + told("AA", "Booked")(asked), True),
        (lambda asked: told("AA", "Booked")(asked) * 2, True),
    ],
)
def test_what_an_answer_means(answer: Callable[[Message], bytes], yes: bool | None) -> None:
    with listening(answer) as (system, _):
        if yes is None:
            with pytest.raises(Unclear):
                V2(system).book(VISIT)
        else:
            assert V2(system).book(VISIT).yes is yes


def test_a_hospital_that_is_not_there_was_surely_not_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unclear) as caught:
        V2(BookingSystem(name="v2", way="v2", host="127.0.0.1", port=port, seconds=1)).book(VISIT)
    assert caught.value.sent is False
