"""A hospital that speaks HL7 v2 scheduling over MLLP: SRM^S01 asks for a visit, SRM^S04 gives it back, SRR is the answer.

The control id (MSH-10) and the placer's number (ARQ-1) are made of the booking's key, so that asking again is the same message: HL7 has it
answered as before. That is also how such a system is asked whether it knows a booking.
"""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing

from lianxin.exchange.v2 import answers, framing, message
from lianxin.exchange.v2.errors import INTERNAL, LOCKED, Refused
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.writing import instant, segment
from lianxin.exchange.v2.writing import message as packed
from lianxin.resident.scheduling.adapters import Answer, Theirs, Unclear, Visit, no_answer
from lianxin.resident.scheduling.models import BookingSystem
from lianxin.standards.text import T

MOST_ANSWER = 1024 * 1024
STANDS = frozenset({"BOOKED", "STARTED", "COMPLETE", ""})
WAITS = frozenset({"PENDING", "WAITLIST"})
SEXES = {"male": "M", "female": "F"}


class V2:
    """Messages to one system."""

    def __init__(self, system: BookingSystem) -> None:
        self.system = system

    def ask(self, key: str) -> Answer | None:
        """Nothing to ask by: the same message again is answered as before."""
        return None

    def book(self, visit: Visit) -> Answer:
        """SRM^S01 and its SRR."""
        return self._said(self._send("S01", visit, visit.key, ""))

    def cancel(self, visit: Visit, theirs: str) -> Answer:
        """SRM^S04 and its SRR; a number they do not know (204) is not there."""
        asked = self._send("S04", visit, f"{visit.key}X", theirs)
        if asked.text("MSA", 1) in ("AE", "AR") and "204" in (asked.text("ERR", 3), asked.text("ERR", 1, 4)):
            return Answer(True, theirs)
        if asked.text("MSA", 1) in ("AA", "CA"):
            return Answer(True, theirs)
        return self._said(asked)

    def sessions(self, since: dt.datetime, until: dt.datetime, changed: str) -> Iterator[Theirs]:
        """HL7 v2 has no list of sessions: they come as a table."""
        raise Unclear(
            T(
                "HL7 v2 不提供号源列表，请上传号源表",
                "HL7 v2 gives no list of sessions; upload them as a table",
            ),
            sent=False,
        )

    def mark(self) -> str:
        """There is none."""
        return ""

    def _said(self, asked: Message) -> Answer:
        code, status = asked.text("MSA", 1), asked.text("SCH", 25).strip().upper()
        if code in ("AA", "CA"):
            theirs = asked.text("SCH", 2).strip()[:120]
            if status in WAITS:
                raise Unclear(T("医院系统尚在处理", "The hospital's system is still working on it"))
            if status in STANDS:
                return Answer(True, theirs)
            return Answer(False, theirs, _reason(asked))
        if {asked.text("ERR", 3), asked.text("ERR", 1, 4)} & {LOCKED, INTERNAL}:
            raise Unclear(T("医院系统暂不能受理", "The hospital's system cannot take it just now"))
        return Answer(False, "", _reason(asked))

    def _send(self, event: str, visit: Visit, control_id: str, theirs: str) -> Message:
        """Send one message and wait for its answer within the system's seconds; raises Unclear."""
        own = self.system
        end = visit.at + dt.timedelta(minutes=visit.minutes)
        kind = ("SRM", event) if own.version in ("2.3", "2.3.1") else ("SRM", event, "SRM_S01")
        doctor = (visit.practitioner, "") if visit.practitioner else ""
        segments = [
            segment("MSH", answers.APPLICATION, answers.FACILITY, own.application, own.facility, instant(visit.at), "", kind,
                    control_id, "P", own.version, "", "", "", "", "", "UNICODE UTF-8"),
            segment("ARQ", visit.key, theirs, "", "", visit.session, ("BOOK" if event == "S01" else "CANCEL", ""), "", "",
                    str(visit.minutes), "min", (instant(visit.at), instant(end)), "", "", "", ("LIANXIN", "")),
            segment("NTE", "1", "L", visit.note) if visit.note else "",
            segment("PID", "1", "", (visit.number, "", "", "LIANXIN", "PI"), "", (visit.name, ""), "", visit.birth.replace("-", ""),
                    SEXES.get(visit.sex, "U"), "", "", "", "", visit.phone),
            segment("RGS", "1"),
            segment("AIS", "1", "", (visit.session, str(visit.seat)), instant(visit.at), "", "", str(visit.minutes), "min"),
            segment("AIP", "1", "", doctor) if doctor else "",
            segment("AIL", "1", "", (visit.department, "")),
        ]  # fmt: skip
        return self._exchange(packed([s for s in segments if s]), control_id)

    def _exchange(self, data: bytes, control_id: str) -> Message:
        until = time.monotonic() + self.system.seconds
        try:
            wire = socket.create_connection(
                (self.system.host, self.system.port), timeout=min(5.0, self.system.seconds)
            )
            if self.system.tls:
                wire = ssl.create_default_context().wrap_socket(wire, server_hostname=self.system.host)
        except (OSError, ValueError) as failure:
            raise Unclear(
                T("连接失败：{e}", "The connection failed: {e}").format(e=str(failure)[:100]), sent=False
            ) from None
        with closing(wire):
            try:
                wire.settimeout(max(0.01, until - time.monotonic()))
                wire.sendall(framing.wrap(data))
                return _heard(wire, control_id, until)
            except TimeoutError:
                raise Unclear(no_answer(self.system.seconds)) from None
            except (OSError, Refused) as failure:
                said = failure.text.en if isinstance(failure, Refused) else str(failure)
                raise Unclear(
                    T("连接中断，没有完整应答：{e}", "No whole answer: {e}").format(e=said[:100])
                ) from None


def _heard(wire: socket.socket, control_id: str, until: float) -> Message:
    """The application's answer to our message (a CA before it is passed over)."""
    frames = framing.Frames(MOST_ANSWER)
    while True:
        wire.settimeout(max(0.01, until - time.monotonic()))
        data = wire.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed")
        for frame in frames.feed(data):
            asked = message.parse(frame.data)
            if asked.text("MSA", 2) == control_id and asked.text("MSA", 1) not in ("CA", "CE"):
                return asked


def _reason(asked: Message) -> str:
    said = asked.text("SCH", 6, 2) or asked.text("ERR", 8) or asked.text("ERR", 7) or asked.text("MSA", 3)
    return (said or asked.text("SCH", 25, 2) or asked.text("MSA", 1))[:200]
