"""The DICOM door (pynetdicom): C-ECHO, C-STORE, C-FIND, C-MOVE, C-GET, modality worklist, MPPS.

Who calls is decided before anything is negotiated (``desk``). A data set goes from the wire into the spool without being decoded, and a
store is answered when its file is durable; whatever is wrong with one instance is its answer's status and the association goes on. What
does not keep within the limits (PDUs larger than agreed, more messages than answers, silence) is cut off.
"""

from __future__ import annotations

import logging
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made when it is imported
    ModalityPerformedProcedureStep,
    ModalityWorklistInformationFind,
    PatientRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelGet,
    PatientRootQueryRetrieveInformationModelMove,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from lianxin.regional.archive import desk, retrieve
from lianxin.regional.archive.desk import Caller
from lianxin.regional.archive.indexer import Indexer
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.upper import (
    IMPLEMENTATION,
    MOST_PDU,
    VERSION,
    Dimse,
    Handler,
    Server,
    Sink,
    Store,
)
from lianxin.regional.archive.walk import Damaged

log = logging.getLogger(__name__)

OUT_OF_RESOURCES, NOT_UNDERSTOOD, MISMATCH, NOT_AUTHORISED = 0xA700, 0xC000, 0xA900, 0x0124
MOST_REFUSED = 100
"""Instances refused in a row after which an association is let go."""
QUERIES = (
    PatientRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelFind,
    PatientRootQueryRetrieveInformationModelMove, StudyRootQueryRetrieveInformationModelMove,
    PatientRootQueryRetrieveInformationModelGet, StudyRootQueryRetrieveInformationModelGet,
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How to listen (seconds and numbers)."""

    host: str = "127.0.0.1"
    port: int = 11112
    associations: int = 64
    silent: float = 60.0
    certificate: str = ""
    key: str = ""
    clients_ca: str = ""
    shared: bool = False

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context; None: plain. Raises ValueError for certificates that cannot be used."""
        if not self.certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key or None)
            if self.clients_ca:
                context.load_verify_locations(self.clients_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ssl.SSLError) as error:
            raise ValueError(f"the certificate cannot be used: {error}") from error
        return context


@dataclass
class _Held:
    """What is known of one association."""

    caller: Caller
    studies: set[str] = field(default_factory=set)
    stored: int = 0
    refused: int = 0


class Door:
    """The listener of this process."""

    def __init__(self, given: Settings) -> None:
        self.given = given
        self.indexer = Indexer()
        self.held: dict[int, _Held] = {}
        self.guard = threading.Lock()
        self.server: Any = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.server.server_address[1])

    def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had, ValueError for certificates that cannot be used."""
        _config.LOG_HANDLER_LEVEL = "none"
        _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
        _config.UNRESTRICTED_STORAGE_SERVICE = True
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
        ae = AE(settings.LIANXIN_DICOM_AE)
        ae.implementation_class_uid, ae.implementation_version_name = UID(IMPLEMENTATION), VERSION
        ae.maximum_pdu_size = MOST_PDU
        ae.maximum_associations = self.given.associations
        ae.network_timeout, ae.acse_timeout, ae.dimse_timeout = self.given.silent, 15, self.given.silent
        contexts = [build_context(Verification)]
        contexts += [
            build_context(c.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
            for c in AllStoragePresentationContexts
        ]
        for one in contexts[1:]:  # in a C-GET the caller stores: it may take either role
            one.scu_role, one.scp_role = True, True
        contexts += [build_context(uid) for uid in QUERIES]
        contexts += [
            build_context(ModalityWorklistInformationFind),
            build_context(ModalityPerformedProcedureStep),
        ]
        kind = type(
            "Listening",
            (Server,),
            {"shared": self.given.shared, "silent": self.given.silent, "stored": staticmethod(self.take)},
        )
        handlers: list[Any] = [
            (evt.EVT_REQUESTED, self.requested), (evt.EVT_C_ECHO, self.echo), (evt.EVT_C_STORE, self.store),
            (evt.EVT_C_FIND, self.find), (evt.EVT_C_MOVE, self.move), (evt.EVT_C_GET, self.get),
            (evt.EVT_N_CREATE, self.step_begun), (evt.EVT_N_SET, self.step_ended),
            (evt.EVT_RELEASED, self.released), (evt.EVT_CONN_CLOSE, self.closed),
        ]  # fmt: skip
        self.server = ae.make_server(
            (self.given.host, self.given.port), contexts=contexts, ssl_context=self.given.tls(), evt_handlers=handlers,
            server_class=kind, request_handler=Handler,
        )  # fmt: skip
        self.indexer.start()
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.2}, name="dicom-door", daemon=True
        ).start()

    def stop(self) -> None:
        """No new associations; those under way are aborted, what is acknowledged is indexed."""
        socketserver.BaseServer.shutdown(
            self.server
        )  # the library's own looks for it in a list of another way to start
        self.server.server_close()
        self.indexer.stop()

    def _of(self, association: Any) -> _Held | None:
        return self.held.get(id(association))

    def requested(self, event: Any) -> None:
        """Who calls: one of the devices, or nobody."""
        association = event.assoc
        asked = association.requestor.primitive
        calling, called = str(asked.calling_ae_title).strip(), str(asked.called_ae_title).strip()
        address = association.requestor.address_info.address
        found = desk.admitted(calling, called, address)
        if isinstance(found, desk.Turned):
            log.warning(
                "DICOM: %s at %s (called %s) is turned away: %s", calling, address, called, found.reason
            )
            association.acse.send_reject(*found.answer)
            association.kill()
            return
        with self.guard:
            self.held[id(association)] = _Held(found)

    def echo(self, event: Any) -> int:
        """C-ECHO."""
        return 0x0000

    def store(self, event: Any) -> Any:
        """C-STORE that came an unusual way."""
        sink, request = event.request.DataSet, event.request
        if not isinstance(sink, Sink) or sink.incoming is None:
            return NOT_UNDERSTOOD
        try:
            status, comment = self.take(
                Store(event.assoc, str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID),
                      str(event.context.transfer_syntax), sink.incoming)
            )  # fmt: skip
        finally:
            sink.incoming.drop()
        made = Dataset()
        made.Status = status
        if comment:
            made.ErrorComment = comment.encode("ascii", "replace").decode()[:64]
        return made

    def take(self, store: Store) -> tuple[int, str]:
        """C-STORE: success when the file is durable."""
        held = self._of(store.association)
        if held is None or not held.caller.may_store:
            return NOT_AUTHORISED, "this device may not store"
        try:
            facts, digest = store.incoming.examine(store.transfer_syntax)
            if (facts.sop_uid, facts.sop_class) != (store.sop_uid, store.sop_class):
                self._refused(store.association, held)
                return MISMATCH, "the data set is another instance than the command says"
            arrived = store.incoming.keep(facts, digest, held.caller.sender)
        except Damaged as error:
            log.warning("DICOM: %s sent an instance that is refused: %s", held.caller.ae_title, error)
            self._refused(store.association, held)
            return NOT_UNDERSTOOD, str(error)
        except Full as error:
            log.error("DICOM: nothing can be stored: %s", error)
            self._refused(store.association, held)
            return OUT_OF_RESOURCES, str(error)
        held.refused = 0
        held.stored += 1
        held.studies.add(facts.study_uid)
        self.indexer.put(arrived)
        return 0x0000, ""

    def _refused(self, association: Any, held: _Held) -> None:
        held.refused += 1
        if held.refused == MOST_REFUSED:
            log.warning("DICOM: %s sends nothing that can be kept: cut off", held.caller.ae_title)
            threading.Thread(target=association.abort, daemon=True).start()

    def find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        """C-FIND of studies, series, images, and of the worklist."""
        held = self._of(event.assoc)
        if held is None:
            yield NOT_AUTHORISED, None
            return
        self.indexer.drained(2.0)
        try:
            worklist = event.request.AffectedSOPClassUID == ModalityWorklistInformationFind
            if not (held.caller.worklist if worklist else held.caller.may_query):
                yield NOT_AUTHORISED, None
                return
            asked = event.identifier
            rows = (retrieve.worklist if worklist else retrieve.find)(held.caller, asked)
        except retrieve.Unusable as error:
            log.warning("DICOM: a query of %s cannot be answered: %s", held.caller.ae_title, error)
            yield 0xA900, None
            return
        for row in rows:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, row

    def move(self, event: Any) -> Iterator[Any]:
        """C-MOVE to one of the devices."""
        held = self._of(event.assoc)
        self.indexer.drained(2.0)
        target = desk.destination(str(event.move_destination).strip()) if held is not None else None
        if held is None or target is None or not held.caller.may_query:
            yield None, None
            return
        yield from self._sent(
            event, held.caller, lambda contexts: (target[0], target[1], {"contexts": contexts})
        )

    def get(self, event: Any) -> Iterator[Any]:
        """C-GET: over the caller's own association."""
        held = self._of(event.assoc)
        if held is None or not held.caller.may_query:
            yield 0
            yield NOT_AUTHORISED, None
            return
        self.indexer.drained(2.0)
        yield from self._sent(event, held.caller, None)

    def _sent(self, event: Any, caller: Caller, address: Callable[[Any], Any] | None) -> Iterator[Any]:
        try:
            wanted = retrieve.wanted(caller, event.identifier)
        except retrieve.Unusable as error:
            log.warning("DICOM: a retrieval of %s cannot be answered: %s", caller.ae_title, error)
            if address is None:
                yield 0
                yield 0xA900, None
            else:
                yield None, None
            return
        if address is not None:
            yield address(retrieve.contexts(wanted))
        yield len(wanted)
        for instance in wanted:
            if event.is_cancelled:
                yield 0xFE00, None
                return
            yield 0xFF00, retrieve.dataset(instance)

    def step_begun(self, event: Any) -> tuple[int, Dataset | None]:
        """MPPS N-CREATE."""
        held = self._of(event.assoc)
        if held is None:
            return NOT_AUTHORISED, None
        status = desk.step_begun(
            held.caller, str(event.request.AffectedSOPInstanceUID or ""), event.attribute_list
        )
        return status, event.attribute_list if status == 0 else None

    def step_ended(self, event: Any) -> tuple[int, Dataset | None]:
        """MPPS N-SET: completed or broken off."""
        held = self._of(event.assoc)
        if held is None:
            return NOT_AUTHORISED, None
        self.indexer.drained(2.0)
        status = desk.step_ended(
            held.caller, str(event.request.RequestedSOPInstanceUID), event.modification_list
        )
        return status, event.modification_list if status == 0 else None

    def released(self, event: Any) -> None:
        """The sender is done."""
        held = self._of(event.assoc)
        if held is not None and held.studies:
            self.indexer.ended(held.studies)

    def closed(self, event: Any) -> None:
        """The connection is gone, in order or not."""
        dimse = event.assoc.dimse
        if isinstance(dimse, Dimse):
            dimse.drop()
        with self.guard:
            held = self.held.pop(id(event.assoc), None)
        if held is not None and held.stored:
            log.info(
                "DICOM: %s stored %d instances of %d studies",
                held.caller.ae_title,
                held.stored,
                len(held.studies),
            )
