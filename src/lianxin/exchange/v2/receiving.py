"""The way of a message from its bytes to its answer.

Read, find the sender, find who takes it, then through the common inbox (:mod:`lianxin.exchange.feeds.inbox`): known already?
(answered as before) – handle – keep message and answer.  The answer leaves after the commit.  Whatever goes wrong becomes AR
or AE with a reason and is kept; nothing raises.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import psycopg
from django.db import Error, connection

from lianxin.access import audit, seal, tokens
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.errors import INTERNAL, reason_of
from lianxin.exchange.feeds.inbox import Draft, Piece, Verdict
from lianxin.exchange.feeds.models import HL7V2, Arrival
from lianxin.exchange.fhir import gate
from lianxin.exchange.partners import limits
from lianxin.exchange.v2 import answers, authorities, batch, errors, kinds, message, peers, strangers
from lianxin.exchange.v2.errors import REJECTED, Malformed, Place, Refused
from lianxin.exchange.v2.framing import Frame
from lianxin.exchange.v2.kinds import Kind, Outcome, Taken
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.models import Peer
from lianxin.exchange.v2.peers import Origin
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

ANSWERS = frozenset({"ACK", "MCF", "NMR"})
"""Types of messages that are answers."""
BROKEN = "MLLP"
"""The kind of what is kept of a frame that is not whole."""
PAUSES = (0.3, 1.0, 2.0, 4.0)
"""Seconds between the tries when the database is away."""
_MADE = re.compile(r"(\d{8,14})(?:\.\d+)?([+-]\d{4})?$")
CODES = {
    "required": errors.REQUIRED, "value": errors.DATA_TYPE, "invalid": errors.DATA_TYPE, "structure": errors.DATA_TYPE,
    "code-invalid": errors.TABLE_VALUE, "not-found": errors.UNKNOWN_KEY, "duplicate": errors.DUPLICATE_KEY,
    "conflict": errors.LOCKED, "lock-error": errors.LOCKED,
}  # fmt: skip
"""FHIR issue types to HL7 table 0357; every other one is 207."""


class Came(NamedTuple):
    """A frame and where it came from."""

    frame: Frame
    origin: Origin


class Answered(NamedTuple):
    """The answer to a frame (empty: none is wanted); ``stranger``: it was no message, or nobody's we know."""

    data: bytes
    stranger: bool = False


def receive(data: bytes, origin: Origin | None = None) -> bytes:
    """Take one message (without its frame) and give its answer."""
    return receive_many([Came(Frame(data), origin or Origin())])[0].data


def receive_many(came: Sequence[Came]) -> list[Answered]:
    """Take what came together, in order, and give the answers; they may leave when this returns."""
    gate.fresh()
    return _Reception(came).run()


class _Reception:
    """Messages that came together on their way."""

    def __init__(self, came: Sequence[Came]) -> None:
        self.came = came
        self.told: list[Answered | None] = [None] * len(came)
        self.desk = Desk()
        self.waiting: list[tuple[int, Message, Piece]] = []

    def run(self) -> list[Answered]:
        """The answers, in order."""
        with authorities.remembered():
            for at, (frame, origin) in enumerate(self.came):
                before = audit.origin.set(origin.address)
                try:
                    self._one(at, frame, origin)
                finally:
                    audit.origin.reset(before)
            self._take()
        return [one or Answered(b"") for one in self.told]

    def _one(self, at: int, frame: Frame, origin: Origin) -> None:
        asked: Message | None = None
        try:
            if frame.fault:
                self.told[at] = Answered(_broken(frame, origin), True)
                return
            asked = message.parse(frame.data)
            if asked.kind[0] in ANSWERS:
                return  # an answer is not answered
            peer = self.desk.peer(asked, origin)
            if peer.codec and asked.codec != peer.codec:
                asked = message.parse(frame.data, peer.codec)
            self._known(at, asked, peer, frame.data, origin)
        except Refused as refused:
            self.told[at] = Answered(_stranger(asked, origin, frame.data, refused), True)
        except (Error, psycopg.Error):
            log.exception("the database failed while a message was taken")
            self.told[at] = Answered(answers.unkept(asked, _later()))
        except Exception:
            log.exception("a message could not be read")
            self.told[at] = Answered(_stranger(asked, origin, frame.data, _internal()), True)

    def _known(self, at: int, asked: Message, peer: Peer, data: bytes, origin: Origin) -> None:
        """A message of a known sender: it waits for the others, or must go alone and after those before it."""
        if denied := limits.admit(f"peer:{peer.pk}"):
            self.told[at] = Answered(answers.unkept(asked, Refused(errors.INTERNAL, denied.text)))
            return
        try:
            piece, kind = _piece(asked, peer, data, self.desk)
        except (Error, psycopg.Error):
            raise
        except Exception as failure:
            if not isinstance(failure, Refused | Problem | AccessError):
                log.exception("a message could not be understood")
            self._take()  # so that a repetition of what was taken just now is known as one
            kept = inbox.keep_refused(_bare(asked, peer, data, origin.address), refusal(failure))
            self.told[at] = Answered(kept.answer or b"")
            return
        piece.origin = origin.address
        if piece.pure:
            self.waiting.append((at, asked, piece))
            return
        self._take()
        if kind is not None and kind.reads:
            answer = gate.writing(lambda cur: _asked(cur, asked, piece.scope, peer, kind))
            self.told[at] = Answered(answer)
        else:
            self.waiting.append((at, asked, piece))
            self._take()

    def _take(self) -> None:
        """Take what waits, together; when the database is away for a moment, once more."""
        waiting, self.waiting = self.waiting, []
        if not waiting:
            return
        pieces = [piece for _, _, piece in waiting]
        for pause in (*PAUSES, None):
            try:
                verdicts = inbox.take(pieces)
                break
            except (Error, psycopg.Error):
                if pause is None or connection.in_atomic_block:
                    log.exception("the database failed while messages were taken")
                    for at, asked, _ in waiting:
                        self.told[at] = Answered(answers.unkept(asked, _later()))
                    return
                log.warning("the database failed while messages were taken; once more in %s s", pause)
                connection.close()
                time.sleep(pause)
        for (at, _, _), verdict in zip(waiting, verdicts, strict=True):
            self.told[at] = Answered(verdict.answer or b"")


class Desk:
    """Who sends, asked once for a batch: peers by their names, scopes by peer."""

    def __init__(self) -> None:
        self._peers: dict[tuple[str, str], Peer | None] = {}
        self._scopes: dict[int, Scope] = {}

    def peer(self, asked: Message, origin: Origin) -> Peer:
        """The peer that sent a message; Refused when there is none."""
        name = peers.named(asked)
        if name not in self._peers:
            self._peers[name] = peers.called(*name)
        return peers.admitted(self._peers[name], origin)

    def scope(self, peer: Peer) -> Scope:
        """The scope a peer acts in; Refused when it has none any more."""
        found = self._scopes.get(peer.pk)
        if found is None:
            with connection.cursor() as own:
                found = self._scopes[peer.pk] = peers.scope_of(own, peer)
        return found


def _stranger(asked: Message | None, origin: Origin, data: bytes, refused: Refused, kind: str = "") -> bytes:
    """What cannot be read, or comes from nobody we know, is kept too (so much of it): somebody has to see it."""
    answer = answers.refuse(asked, refused)
    if not strangers.may_keep(origin.address, len(data)):
        return answer
    piece = Piece(
        HL7V2, kind or ("^".join(asked.kind) if asked else ""), asked.control_id[:199] if asked else "", data, "",
        Scope.system("an unknown sender"), _nothing, answer=lambda verdict: answer,
    )  # fmt: skip
    try:
        inbox.keep_refused(piece, refused)
    except (Error, psycopg.Error):
        log.exception("a refused message could not be kept")
    return answer


def _broken(frame: Frame, origin: Origin) -> bytes:
    """A frame that broke off or is too large: kept with its sender, if its beginning names one, and refused."""
    refused = _fault(frame)
    asked: Message | None = None
    try:
        asked = message.parse(frame.data)
        peer = peers.find(asked, origin)
    except Refused:
        return _stranger(asked, origin, frame.data, refused, BROKEN)
    piece = _bare(asked, peer, frame.data, origin.address)
    piece.kind = BROKEN
    return inbox.keep_refused(piece, refused).answer or b""


def _fault(frame: Frame) -> Malformed:
    if frame.fault == "cut":
        return Malformed(
            errors.SEQUENCE,
            T(
                "消息没有结束符（传输中断，或已开始了下一条），未受理，请重发。",
                "The message has no end (it broke off, or the next one began); it was not taken, send it again.",
            ),
        )
    if frame.fault == "full":
        return Malformed(
            errors.INTERNAL,
            T(
                "同时到达的大消息过多，本条未受理，请稍后重发。",
                "Too many large messages at this moment; this one was not taken, send it again later.",
            ),
        )
    return Malformed(
        errors.INTERNAL,
        T("消息超过大小上限，未受理。", "The message is larger than the limit and was not taken."),
    )


def _nothing(cur: Any) -> Draft:
    raise AssertionError("a refused message is not understood")


def _check(asked: Message) -> None:
    if not asked.control_id:
        raise Refused(
            errors.REQUIRED,
            T("缺少消息控制号 MSH-10。", "The control id MSH-10 is missing."),
            Place("MSH", 1, 10),
            REJECTED,
        )
    if len(asked.control_id) > 199:
        raise Refused(
            errors.DATA_TYPE,
            T("消息控制号 MSH-10 过长。", "The control id MSH-10 is too long."),
            Place("MSH", 1, 10),
            REJECTED,
        )
    if asked.version and not asked.version.startswith("2"):
        raise Refused(
            errors.VERSION,
            T("只支持 HL7 v2（2.3–2.8）。", "Only HL7 v2 (2.3 to 2.8) is spoken here."),
            Place("MSH", 1, 12), REJECTED,
        )  # fmt: skip


def same(asked: Message) -> bytes:
    """What two sendings of one message have in common: everything but the time of sending (MSH-7), keyed."""
    head = [f for n, f in enumerate(asked.header.fields) if n != 7]
    rest = [s.line for s in asked.segments[1:]]
    return seal.blind("\x1e".join(["\x1f".join(head), *rest]), "v2-message")


def sent_at(asked: Message) -> dt.datetime | None:
    """When its sender says a message was made (MSH-7, in the house's zone unless it names one); None when it does not say."""
    found = _MADE.match(asked.header.text(7).strip())
    if found is None:
        return None
    try:
        made = dt.datetime.strptime(found[1].ljust(14, "0")[:14], "%Y%m%d%H%M%S")
        return (
            dt.datetime.strptime(f"{made:%Y%m%d%H%M%S}{found[2]}", "%Y%m%d%H%M%S%z")
            if found[2]
            else made.replace(tzinfo=clock.ZONE)
        )
    except ValueError:
        return None


def _bare(asked: Message, peer: Peer, data: bytes, address: str = "") -> Piece:
    """A message of a known sender as a piece, before anybody said who takes it."""
    scope = replace(Scope.system("a message"), institution_id=peer.client.institution_id)
    return Piece(
        HL7V2, "^".join(asked.kind), asked.control_id[:199], data, f"peer:{peer.pk}", scope, _nothing, same(asked), peer.client_id,
        peer.pk, sent_at(asked), reuses_ids=peer.reuses_ids, answer=lambda verdict: _answer(asked, verdict), origin=address,
    )  # fmt: skip


def piece_of(asked: Message, peer: Peer, data: bytes) -> Piece:
    """A message of a known sender on its way in; Refused when nobody takes it or its sender may not send it."""
    return _piece(asked, peer, data, Desk())[0]


def _piece(asked: Message, peer: Peer, data: bytes, desk: Desk) -> tuple[Piece, Kind | None]:
    _check(asked)
    kind = kinds.find(asked)
    scope = desk.scope(peer)
    if kind is None:
        kind = kinds.claimed(asked, scope)
    if not tokens.allows(scope, "Patient", kind.letter if kind else "u"):
        raise Refused(
            errors.INTERNAL,
            T(
                "该系统的授权范围不允许这类消息。",
                "The permissions of this system do not include messages of this kind.",
            ),
        )
    piece = _bare(asked, peer, data)
    piece.scope = scope
    if kind is None:
        item = batch.item_of(asked, scope, peer.pk, peer.default_system, piece.sent_at)
        assert item.number is not None
        piece.locks = (f"Patient#{item.number[2]}",)  # the name that the door's conditional writes lock
        piece.pure, piece.prepare = True, _prepare
        piece.understand = _Understanding(item)
        return piece, None

    def understand(cur: Any) -> Draft:
        assert scope.institution_id is not None
        outcome = kind.fn(cur, Taken(asked, scope, scope.institution_id, peer.default_system))
        return Draft(
            outcome.writes, outcome.results, outcome.person_id, outcome.mapping, outcome.warnings, code=outcome.code,
            extra=outcome,
        )  # fmt: skip

    piece.understand = understand
    return piece, kind


@dataclass(frozen=True)
class _Understanding:
    """How a mapped message is understood."""

    item: batch.Item

    def __call__(self, cur: Any) -> Draft:
        return batch.understand(cur, self.item)


def _prepare(cur: Any, pieces: Sequence[Piece]) -> None:
    """Look up together what mapped messages are about."""
    batch.prepare(cur, [p.understand.item for p in pieces if isinstance(p.understand, _Understanding)])


def _answer(asked: Message, verdict: Verdict) -> bytes:
    """The acknowledgement of what became of a message."""
    if verdict.failure is not None:
        return answers.refuse(asked, refusal(verdict.failure))
    outcome = verdict.extra
    warned = [Refused("0", text) for text in verdict.warnings]
    if not isinstance(outcome, Outcome):
        return answers.answer(asked, verdict.code, warned)
    told = [*outcome.errors, *warned]
    return answers.answer(asked, verdict.code, told, extra=outcome.segments, kind=outcome.kind)


def _asked(cur: Any, asked: Message, scope: Scope, peer: Peer, kind: Kind) -> bytes:
    """The answer to a question, which changes nothing and is not kept."""
    assert scope.institution_id is not None
    outcome = kind.fn(cur, Taken(asked, scope, scope.institution_id, peer.default_system))
    told = [*outcome.errors, *(Refused("0", text) for text in outcome.warnings)]
    return answers.answer(asked, outcome.code, told, extra=outcome.segments, kind=outcome.kind)


def again(kept: Arrival) -> Piece:
    """An arrival as a message once more (for the inbox's replay); Refused when its sender is not known or it cannot be read."""
    if kept.kind == BROKEN:
        raise Malformed(
            errors.SEQUENCE,
            T("原消息不完整，不能重放，请发送方重发。", "The message is not whole: have it sent again."),
        )
    data = inbox.body_of(kept)
    peer = Peer.objects.select_related("client").filter(pk=kept.peer_id or 0).first()
    if peer is None:
        asked = message.parse(data)
        peer = peers.find(asked, Origin())
    return piece_of(message.parse(data, peer.codec), peer, data)


def replay(pk: int) -> str:
    """Take a refused message once more, as it came; returns the code of the answer. What was taken is not taken twice."""
    return inbox.replay(pk).code


def register() -> None:
    """Let the inbox replay messages."""
    inbox.register_door(HL7V2, again)


def refusal(failure: Exception) -> Refused:
    """A refusal of another room as one of HL7's."""
    if isinstance(failure, Refused):
        return failure
    if isinstance(failure, Problem):
        issue = failure.issues[0]
        where = f"（{issue.expression}）" if issue.expression else ""
        return Refused(
            CODES.get(issue.code, errors.INTERNAL),
            T(f"{issue.text.zh}{where}", f"{issue.text.en} {issue.expression}".strip()),
        )
    reason = reason_of(failure)
    code = reason.code if reason.code.isdigit() else CODES.get(reason.code, errors.INTERNAL)
    return Refused(code, reason.text, answer=reason.answer or errors.FAILED)


def _later() -> Refused:
    return Refused(
        errors.INTERNAL,
        T("数据库暂不可用，请稍后重发。", "The database is not available; send it again shortly."),
    )


def _internal() -> Refused:
    return Refused(errors.INTERNAL, INTERNAL.text)
