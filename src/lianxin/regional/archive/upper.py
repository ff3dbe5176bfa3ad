"""The wire below the DICOM door: pynetdicom's upper layer, made to wait instead of to poll, to stream instead of to hold, and to be short.

* :class:`_Dul` and :class:`_Association` sleep until there is something to do; pynetdicom's loops look a thousand times a second.
* What an association sends mostly is C-STORE after C-STORE. In the established state such a message is read off its PDUs directly: the
  command is a dozen known elements, the data set goes to the spool as it comes, the answer is put together as bytes (PS3.7 9.3.1). All else
  (negotiation, queries, release, whatever is unusual) goes the way of the library.
* No PDU is longer than was agreed, nobody sends ahead without end, and nobody keeps a connection silent.
"""

from __future__ import annotations

import logging
import queue
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from io import BytesIO
from typing import Any, NamedTuple, cast

from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from lianxin.regional.archive.spool import Incoming

log = logging.getLogger(__name__)

MOST_PDU = 131_072
MOST_IDENTIFIER = 1024 * 1024
AHEAD = 8
"""Messages of one association that may wait for an answer."""
IMPLEMENTATION = "1.2.826.0.1.3680043.10.1554.1"
VERSION = "LIANXIN_1"
TICK = 0.05
_P_DATA = 4
_STORE = 0x0001
_NO_DATA = 0x0101


class Store(NamedTuple):
    """A C-STORE that has come in whole."""

    association: Any
    sop_class: str
    sop_uid: str
    transfer_syntax: str
    incoming: Incoming


Stored = Callable[[Store], "tuple[int, str]"]
"""Takes a store; answers DIMSE's status and a comment ("": none)."""


def file_head(sop_class: str, sop_uid: str, syntax: str, source: str = "") -> bytes:
    """Prefix and meta information of a DICOM file (PS3.10 7.1)."""

    def element(number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr in (b"UI", b"OB") else b" ") * (len(value) & 1)
        size = len(value).to_bytes(2, "little") if vr != b"OB" else b"\0\0" + len(value).to_bytes(4, "little")
        return b"\x02\0" + number.to_bytes(2, "little") + vr + size + value

    rest = b"".join(
        [
            element(0x0001, b"OB", b"\0\1"),
            element(0x0002, b"UI", sop_class.encode("ascii", "replace")[:64]),
            element(0x0003, b"UI", sop_uid.encode("ascii", "replace")[:64]),
            element(0x0010, b"UI", syntax.encode()),
            element(0x0012, b"UI", IMPLEMENTATION.encode()),
            element(0x0013, b"SH", VERSION.encode()),
            *([element(0x0016, b"AE", source.encode("ascii", "replace")[:16])] if source else []),
        ]
    )
    return bytes(128) + b"DICM" + element(0, b"UL", len(rest).to_bytes(4, "little")) + rest


class Sink(BytesIO):
    """The data set of a message on the library's way: a C-STORE's goes to the spool, anything else stays in memory and small."""

    def __init__(self, message: DIMSEMessage, association: Any) -> None:
        super().__init__()
        self.message, self.association = message, association
        self.incoming: Incoming | None = None
        self.too_long = False

    def write(self, data: Any) -> int:
        if isinstance(self.message, C_STORE_RQ):
            if self.incoming is None:
                command = self.message.command_set
                syntax = self.association._accepted_cx[self.message.context_id].transfer_syntax[0]
                self.incoming = Incoming(
                    file_head(str(command.get("AffectedSOPClassUID", "")), str(command.get("AffectedSOPInstanceUID", "")),
                              str(syntax), str(self.association.requestor.ae_title or ""))
                )  # fmt: skip
            self.incoming.write(bytes(data))
        elif self.tell() + len(data) > MOST_IDENTIFIER:
            self.too_long = True
        else:
            super().write(data)
        return len(data)


class Dimse(DIMSEServiceProvider):
    """Messages whose data sets stream to the spool."""

    def receive_primitive(self, primitive: Any) -> None:
        if self.message is None:
            if self.msg_queue.qsize() > AHEAD:
                log.warning("%s sends without waiting for answers: cut off", self.assoc.requestor.ae_title)
                self.dul.event_queue.put("Evt19")
                return
            self.message = DIMSEMessage()
            self.message.data_set = Sink(self.message, self.assoc)
        super().receive_primitive(primitive)
        sink = self.message.data_set if self.message is not None else None
        if isinstance(sink, Sink) and sink.too_long:
            log.warning("%s sends a query that does not end: cut off", self.assoc.requestor.ae_title)
            self.dul.event_queue.put("Evt19")

    def drop(self) -> None:
        """The association is gone: nothing stays of a data set that was under way."""
        sink = self.message.data_set if self.message is not None else None
        if isinstance(sink, Sink) and sink.incoming is not None:
            sink.incoming.drop()


class Socket(AssociationSocket):
    """A connection that waits for nobody for ever and takes no PDU longer than was agreed."""

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > MOST_PDU + 1024:
            raise OSError(f"a PDU of {nr_bytes} bytes: more than was agreed")
        data = bytearray(nr_bytes)
        connection = cast(socket.socket, self.socket)
        done = 0
        with memoryview(data) as view:
            while done < nr_bytes:
                got = connection.recv_into(view[done:])
                if not got:
                    break
                done += got
        return data if done == nr_bytes else data[:done]


class _Dul(DULServiceProvider):
    """See the module. ``stored`` is called for every C-STORE in this thread."""

    stored: Stored
    wake: tuple[socket.socket, socket.socket]
    current: _Fast | None

    def prepare(self, stored: Stored) -> None:
        """Begin (instances are made by the library, and become ours)."""
        self.stored, self.current = stored, None
        self.wake = socket.socketpair()
        for end in self.wake:
            end.setblocking(False)

    def send_pdu(self, primitive: Any) -> None:
        super().send_pdu(primitive)
        self._ring()

    def kill_dul(self) -> None:
        super().kill_dul()
        self._ring()

    def _ring(self) -> None:
        try:
            self.wake[1].send(b"1")
        except OSError:  # full: it is awake, or closed: it has ended
            return

    def run_reactor(self) -> None:
        """As the library's, waiting where that polls."""
        self._idle_timer.start()
        self.assoc._dul_ready.set()
        try:
            while not self._kill_thread:
                if self.artim_timer.expired:
                    self.event_queue.put("Evt18")
                try:
                    if not self._process_recv_primitive() and self._is_transport_event():
                        self._idle_timer.restart()
                except Exception as error:  # as the library: nothing may be left half-open
                    log.warning("DICOM: an association is aborted: %s", error)
                    self._broken()
                    return
                try:
                    event = self.event_queue.get(block=False)
                except queue.Empty:
                    self._wait()
                    continue
                self.state_machine.do_action(event)
                cast(_Association, self.assoc).wake.set()
        finally:
            if self.current is not None:
                self.current.incoming.drop()
            for end in self.wake:
                end.close()
            cast(_Association, self.assoc).wake.set()

    def _broken(self) -> None:
        abort = A_ABORT_RQ()
        abort.source, abort.reason_diagnostic = 0x02, 0x00
        if self.socket is not None:
            self.socket.send(abort.encode())
            self.socket.close()
        self.assoc.is_aborted = True
        self.assoc.is_established = False
        self.assoc._kill = True
        self._kill_thread = True

    def _wait(self) -> None:
        if self.state_machine.current_state == "Sta13" or not self.to_provider_queue.empty():
            return
        connection = self.socket.socket if self.socket is not None else None
        if isinstance(connection, ssl.SSLSocket) and connection.pending():
            return
        watched = [one for one in (self.wake[0], connection) if one is not None]
        try:
            ready, _, _ = select.select(watched, [], [], TICK)
            if self.wake[0] in ready:
                self.wake[0].recv(4096)
        except (OSError, ValueError):  # the connection was closed meanwhile: the library finds out
            self._kill_thread = self._kill_thread or self.wake[0].fileno() < 0

    def _read_pdu_data(self) -> None:
        """Read one PDU: stores are taken at once, everything else goes to the library."""
        connection = cast(Socket, self.socket)
        try:
            head = connection.recv(6)
            if len(head) < 6:
                self.event_queue.put("Evt17")
                return
            kind, size = head[0], int.from_bytes(head[2:6])
            if kind not in (1, 2, 3, 4, 5, 6, 7):
                self.event_queue.put("Evt19")
                return
            body = connection.recv(size)
        except (OSError, TimeoutError) as error:
            log.warning("DICOM: %s is cut off: %s", self.assoc.requestor.ae_title or "somebody", error)
            self.event_queue.put("Evt17")
            return
        if len(body) != size:
            self.event_queue.put("Evt17")
            return
        if kind == _P_DATA and self.state_machine.current_state == "Sta6" and self.assoc.is_established:
            left = self._fast(body)
            if left is None:
                return
            head, body = bytearray(b"\x04\0" + len(left).to_bytes(4)), bytearray(left)
        try:
            pdu, event = self._decode_pdu(head + body)
        except Exception as error:  # the library's decoders raise what they like
            log.warning("DICOM: a PDU cannot be decoded: %s", error)
            self.event_queue.put("Evt19")
            return
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)

    def _fast(self, body: bytearray) -> bytes | None:
        """Take C-STORE messages off a P-DATA PDU; what is left for the library, None when nothing is."""
        if self.assoc.dimse.message is not None:
            return bytes(body)
        at = 0
        with memoryview(body) as view:
            while at < len(body):
                if at + 6 > len(body):
                    return bytes(view[at:])
                size = int.from_bytes(view[at : at + 4])
                end = at + 4 + size
                if size < 2 or end > len(body):
                    return bytes(view[at:])
                context, control = view[at + 4], view[at + 5]
                if self.current is None:
                    made = self._begun(context, bytes(view[at + 6 : end])) if control & 3 == 3 else None
                    if made is None:
                        return bytes(view[at:])
                    self.current = made
                elif control & 1 or context != self.current.context:
                    self.current.incoming.drop()
                    self.current = None
                    return bytes(view[at:])
                else:
                    self.current.incoming.write(bytes(view[at + 6 : end]))
                    if control & 2:
                        done, self.current = self.current, None
                        self._finished(done)
                at = end
        return None

    def _begun(self, context: int, command: bytes) -> _Fast | None:
        """A C-STORE request in an accepted context; None for anything else."""
        accepted = self.assoc._accepted_cx.get(context)
        if accepted is None:
            return None
        found: dict[int, bytes] = {}
        at = 0
        while at + 8 <= len(command):
            group, number, size = struct.unpack_from("<HHL", command, at)
            if group != 0 or at + 8 + size > len(command):
                return None
            found[number] = command[at + 8 : at + 8 + size]
            at += 8 + size
        if at != len(command) or any(len(found.get(n, b"")) != 2 for n in (0x0100, 0x0110, 0x0800)):
            return None
        if int.from_bytes(found[0x0100], "little") != _STORE or int.from_bytes(found[0x0800], "little") == _NO_DATA:  # fmt: skip
            return None
        sop_class, sop_uid = (found.get(n, b"").rstrip(b"\0 ") for n in (0x0002, 0x1000))
        if not sop_class or not sop_uid or not (sop_class + sop_uid).isascii():
            return None
        syntax = str(accepted.transfer_syntax[0])
        head = file_head(
            sop_class.decode(), sop_uid.decode(), syntax, str(self.assoc.requestor.ae_title or "")
        )
        return _Fast(context, found[0x0110], found[0x0002], found[0x1000], syntax, Incoming(head))

    def _finished(self, done: _Fast) -> None:
        store = Store(
            self.assoc, done.sop_class.rstrip(b"\0 ").decode(), done.sop_uid.rstrip(b"\0 ").decode(), done.syntax, done.incoming
        )  # fmt: skip
        try:
            status, comment = self.stored(store)
        except Exception:  # the sender is told, and the association goes on
            log.exception("DICOM: a store failed")
            status, comment = 0x0110, "processing failure"
        finally:
            done.incoming.drop()
        if self.socket is not None:
            self.socket.send(answer(done.context, done.message, done.sop_class, done.sop_uid, status, comment))  # fmt: skip


class _Fast(NamedTuple):
    """A C-STORE under way: its context, message id, UIDs as they were written, and where it goes."""

    context: int
    message: bytes
    sop_class: bytes
    sop_uid: bytes
    syntax: str
    incoming: Incoming


def answer(context: int, message: bytes, sop_class: bytes, sop_uid: bytes, status: int, comment: str = "") -> bytes:  # fmt: skip
    """A C-STORE-RSP as one P-DATA-TF PDU."""
    elements = [(0x0002, sop_class), (0x0100, b"\x01\x80"), (0x0120, message), (0x0800, b"\x01\x01"), (0x0900, status.to_bytes(2, "little"))]  # fmt: skip
    if comment:
        text = comment.encode("ascii", "replace")[:64]
        elements.append((0x0902, text + b" " * (len(text) & 1)))
    elements.append((0x1000, sop_uid))
    rest = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in elements)
    command = struct.pack("<HHLL", 0, 0, 4, len(rest)) + rest
    return (
        b"\x04\0" + (len(command) + 6).to_bytes(4) + (len(command) + 2).to_bytes(4) + bytes([context, 3]) + command
    )  # fmt: skip


class _Association(Association):
    """An association that sleeps until its DUL has something for it."""

    wake: threading.Event

    def _run_reactor(self) -> None:
        self._is_paused = False
        while not self._kill:
            self.wake.wait(TICK)
            self.wake.clear()
            self._is_paused = True
            self._reactor_checkpoint.wait()
            self._is_paused = False
            while (
                not self._kill and (found := self.dimse.get_msg(block=False))[1]
            ):  # whatever has come meanwhile
                self._serve_request(found[1], cast(int, found[0]))
            if self.is_established and self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.is_established = False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
                return
            if self.acse.is_aborted():
                self.dul.receive_pdu(wait=False)
                self.is_aborted = True
                self.is_established = False
                evt.trigger(self, evt.EVT_ABORTED, {})
                self.kill()
                return
            if not self.dul.is_alive():
                self.kill()
                return
            if self.dul.idle_timer_expired():
                self.abort()
                self.kill()
                return


class Handler(RequestHandler):
    """Makes our kind of association of a connection."""

    def _create_association(self) -> Any:
        server = cast(Server, self.server)
        connection = cast(socket.socket, self.request)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        association: Any = super()._create_association()
        association.__class__ = _Association
        association.wake = threading.Event()
        association.dimse = Dimse(association)
        association.dul.__class__ = _Dul
        association.dul.prepare(server.stored)
        association.dul.socket.__class__ = Socket
        connection.settimeout(server.silent)
        return association


class Server(ThreadedAssociationServer):
    """A server whose port several processes may share (``shared``). ``silent``: seconds a connection may stay mute."""

    shared = False
    silent = 60.0
    request_queue_size = 128
    stored: Stored

    def server_bind(self) -> None:
        if self.shared:
            assert self.socket is not None
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()
