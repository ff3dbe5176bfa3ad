"""The door for clinical documents: bytes in, a verdict for each out, all through the common inbox.

A system sends over HTTP (:mod:`door_http`), a person uploads in the page, an operator gives files to ``lianxin documents``:
the same here.  A document is known again by its id and version; read before the transaction, registered inside it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.cda import reading, registry
from lianxin.exchange.cda import registry_reference as entry
from lianxin.exchange.cda.door_files import Named, too_large
from lianxin.exchange.cda.model import Document
from lianxin.exchange.cda.registry_people import patient_of, source_of
from lianxin.exchange.feeds import errors, inbox
from lianxin.exchange.feeds.errors import Refusal
from lianxin.exchange.feeds.inbox import Draft, Piece, Verdict
from lianxin.exchange.feeds.models import CDA, REFUSED, Arrival
from lianxin.standards import clock
from lianxin.standards.text import T

BATCH = 50
"""Documents of one transaction, when many come together."""
UNREAD = "CDA"
"""Kind of what could not be read."""


@dataclass
class Received:
    """What became of one document; ``name`` is its file's."""

    name: str
    verdict: Verdict
    document: Document | None = None

    @property
    def registered(self) -> registry.Registered | None:
        """Its entry in the registry, when it has one now."""
        found = self.verdict.extra
        return found if isinstance(found, registry.Registered) else None


def register() -> None:
    """Say how an arrival becomes a piece once more."""
    inbox.register_door(CDA, again)


def take(scope: Scope, given: Iterable[Named], sender: str, client_id: int | None = None) -> list[Received]:
    """Take documents in order, a batch a transaction; each gets its verdict, whatever the others are."""
    return list(each(scope, given, sender, client_id))


def each(
    scope: Scope, given: Iterable[Named], sender: str, client_id: int | None = None
) -> Iterator[Received]:
    """The same batch by batch, for any number of documents: no more than a batch is held."""
    batch = _Together(scope, sender, client_id)
    for one in given:
        read = _read(one)
        if batch.full or batch.meets(read):
            yield from batch.taken()
            batch = _Together(scope, sender, client_id)
        batch.add(read)
    yield from batch.taken()


@dataclass
class _Given:
    """A document's bytes, and what they were read as or why they cannot be."""

    named: Named
    document: Document | None = None
    failure: Exception | None = None


def _read(one: Named) -> _Given:
    if one.failure is not None:
        return _Given(one, failure=one.failure)
    try:
        return _Given(one, reading.read(one.body))
    except errors.REFUSALS as failure:
        return _Given(one, failure=failure)


class _Together:
    """Documents of one transaction."""

    def __init__(self, scope: Scope, sender: str, client_id: int | None) -> None:
        self.scope, self.sender, self.client_id = scope, sender, client_id
        self.lines: list[tuple[Received, Piece | None]] = []
        self.names: set[str] = set()
        self.batch = registry.Batch()

    @property
    def full(self) -> bool:
        """Whether it is large enough."""
        return len(self.lines) >= BATCH

    def meets(self, one: _Given) -> bool:
        """Whether a document is a version of one that waits, or speaks of it: it has to come after that one is stored."""
        return one.document is not None and not self.names.isdisjoint(registry.names_of(one.document))

    def add(self, one: _Given) -> None:
        """One more; what cannot be a piece is kept with its reason at once."""
        received = Received(one.named.name, Verdict(REFUSED), one.document)
        body = one.named.body
        try:
            if one.document is None:
                raise one.failure or Refusal("structure", T("文档无法读取。", "The document cannot be read."))
            piece = piece_of(self.scope, one.document, body, self.sender, self.client_id, self.batch)
            self.names |= registry.names_of(one.document)
            self.lines.append((received, piece))
        except errors.REFUSALS as failure:
            bare = _bare(self.scope, one.document, body, self.sender, self.client_id)
            received.verdict = inbox.keep_refused(bare, failure)
            self.lines.append((received, None))

    def taken(self) -> Iterator[Received]:
        """Everything with its verdict, after the commit."""
        verdicts = iter(inbox.take([piece for _, piece in self.lines if piece is not None]))
        for received, piece in self.lines:
            if piece is not None:
                received.verdict = next(verdicts)
                if received.verdict.repeated:
                    received.verdict.extra = registry.of_arrival(received.verdict.arrival_id)
            yield received


def number_of(document: Document) -> str:
    """What a document is known again by: root^extension and version."""
    return f"{document.id}|{registry.version_of(document)}"


def piece_of(
    scope: Scope,
    document: Document,
    body: bytes,
    sender: str,
    client_id: int | None = None,
    batch: registry.Batch | None = None,
) -> Piece:
    """A document that was read, on its way in. Refuses one without an id or a patient, and one that another institution keeps."""
    if not document.id:
        raise Refusal(
            "required",
            T(
                "文档没有标识（ClinicalDocument/id），无法判断是否重复，未受理。",
                "The document has no id (ClinicalDocument/id), so that it cannot be known again; it was not taken.",
            ),
            "/ClinicalDocument/id",
        )
    together = batch or registry.Batch()
    institution = source_of(scope, document, together.institutions)
    coming = registry.Coming(institution, document, body, patient_of(document, institution.pk))
    # That a system may send documents was asked at the door; what a document becomes is of any type.
    smart = ("system/*.cruds",) if scope.client_id else ()
    own = together.scopes.setdefault(
        institution.pk, replace(scope, institution_id=institution.pk, smart=smart)
    )
    piece = _bare(own, document, body, sender, client_id)
    piece.understand = lambda cur: together.register(cur, coming)
    piece.prepare, piece.pure, piece.locks = together.prepare, True, coming.locks()
    together.coming[id(piece)] = coming
    return piece


def _bare(scope: Scope, document: Document | None, body: bytes, sender: str, client_id: int | None) -> Piece:
    """A document as a piece before anybody says what it means."""
    made = entry.instant(document.time) if document else None
    return Piece(
        CDA,
        entry.kind_of(document) if document else UNREAD,
        number_of(document)[:199] if document and document.id else "",
        body,
        sender,
        scope,
        nothing,
        client_id=client_id,
        sent_at=_plausible(made),
    )


def _plausible(made: dt.datetime | None) -> dt.datetime | None:
    """An instant the database can keep and people can mean."""
    return made if made is not None and 1900 < made.year <= clock.now().year + 1 else None


def nothing(cur: Any) -> Draft:
    """What a refused piece would be understood as: it never is."""
    raise AssertionError("a refused document is not understood")


def again(arrival: Arrival) -> Piece:
    """An arrival once more, as it came; it was let in for its institution then."""
    body = inbox.body_of(arrival)
    scope = Scope.system("a document is taken again")
    if arrival.institution_id is not None:
        scope = replace(scope, institution_id=arrival.institution_id)
    if not body:
        raise too_large()
    document = reading.read(body)
    return piece_of(scope, document, body, arrival.sender, arrival.client_id)


def scope_of_upload(scope: Scope) -> Scope:
    """On whose behalf a person's upload is written: the institution's, with that person in the audit.

    Who keeps the feeds is no clinician and sees no record by it; what is uploaded is of the own institution all the same.
    """
    if scope.institution_id is None:
        raise Refusal("forbidden", T("请先选择所在机构的岗位。", "Choose a post at an institution first."))
    return replace(scope, everything=True, reason="documents uploaded")
