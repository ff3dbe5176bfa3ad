"""The way of a message from its bytes to its answer.

Read, find the sender, find who takes it, then through the common inbox (:mod:`lianxin.exchange.feeds.inbox`): known already?
(answered as before) – handle – keep message and answer.  The answer leaves after the commit.  Whatever goes wrong becomes AR
or AE with a reason and is kept; nothing raises.
"""

from __future__ import annotations

import datetime as dt
import logging
import re
from dataclasses import replace
from typing import Any

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
from lianxin.exchange.v2 import answers, errors, kinds, message, peers
from lianxin.exchange.v2.errors import REJECTED, Place, Refused
from lianxin.exchange.v2.kinds import Kind, Outcome, Taken
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.models import Peer
from lianxin.exchange.v2.peers import Origin
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

_MADE = re.compile(r"(\d{8,14})(?:\.\d+)?([+-]\d{4})?$")
CODES = {
    "required": errors.REQUIRED, "value": errors.DATA_TYPE, "invalid": errors.DATA_TYPE, "structure": errors.DATA_TYPE,
    "code-invalid": errors.TABLE_VALUE, "not-found": errors.UNKNOWN_KEY, "duplicate": errors.DUPLICATE_KEY,
    "conflict": errors.LOCKED, "lock-error": errors.LOCKED,
}  # fmt: skip
"""FHIR issue types to HL7 table 0357; every other one is 207."""


def receive(data: bytes, origin: Origin | None = None) -> bytes:
    """Take one message (without its frame) and give its answer."""
    asked: Message | None = None
    origin = origin or Origin()
    address = audit.origin.set(origin.address)
    try:
        gate.fresh()
        asked = message.parse(data)
        peer = peers.find(asked, origin)
        if peer.codec and asked.codec != peer.codec:
            asked = message.parse(data, peer.codec)
        return _of(asked, peer, data)
    except Refused as refused:
        return _stranger(asked, origin, data, refused)
    except (Error, psycopg.Error):
        log.exception("the database failed while a message was taken")
        return answers.acknowledge(asked, "AE", [_later()])
    except Exception:
        log.exception("a message could not be taken")
        return answers.acknowledge(asked, "AE", [_internal()])
    finally:
        audit.origin.reset(address)


def _of(asked: Message, peer: Peer, data: bytes) -> bytes:
    try:
        piece = piece_of(asked, peer, data)
    except (Refused, AccessError) as failure:
        refused = refusal(failure)
        kept = inbox.keep_refused(_bare(asked, peer, data), refused)
        assert kept.answer is not None
        return kept.answer
    kind = kinds.find(asked)
    if kind.reads:
        return gate.writing(lambda cur: _asked(cur, asked, peer, kind))
    verdict = inbox.take([piece])[0]
    assert verdict.answer is not None
    return verdict.answer


def _stranger(asked: Message | None, origin: Origin, data: bytes, refused: Refused) -> bytes:
    """What cannot be read, or comes from nobody we know, is kept too: somebody has to see it."""
    answer = answers.acknowledge(asked, refused.answer, [refused])
    piece = Piece(
        HL7V2, "^".join(asked.kind) if asked else "", asked.control_id if asked else "", data, "",
        Scope.system("an unknown sender"), _nothing, answer=lambda verdict: answer,
    )  # fmt: skip
    try:
        inbox.keep_refused(piece, refused)
    except (Error, psycopg.Error):
        log.exception("a refused message could not be kept")
    return answer


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
    rest = ["\x1f".join(s.fields) for s in asked.segments[1:]]
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


def _bare(asked: Message, peer: Peer, data: bytes) -> Piece:
    """A message of a known sender as a piece, before anybody said who takes it."""
    scope = replace(Scope.system("a message"), institution_id=peer.client.institution_id)
    return Piece(
        HL7V2, "^".join(asked.kind), asked.control_id, data, f"peer:{peer.pk}", scope, _nothing, same(asked), peer.client_id, peer.pk,
        sent_at(asked), reuses_ids=peer.reuses_ids, answer=lambda verdict: _answer(asked, verdict),
    )  # fmt: skip


def piece_of(asked: Message, peer: Peer, data: bytes) -> Piece:
    """A message of a known sender on its way in; Refused when nobody takes it or its sender may not send it."""
    _check(asked)
    kind = kinds.find(asked)
    with connection.cursor() as own:
        scope = _permitted(own, peer, kind)
    piece = _bare(asked, peer, data)
    piece.scope = scope

    def understand(cur: Any) -> Draft:
        assert scope.institution_id is not None
        outcome = kind.fn(cur, Taken(asked, scope, scope.institution_id, peer.default_system))
        return Draft(
            outcome.writes, outcome.results, outcome.person_id, outcome.mapping, outcome.warnings, code=outcome.code,
            extra=outcome,
        )  # fmt: skip

    piece.understand = understand
    return piece


def _answer(asked: Message, verdict: Verdict) -> bytes:
    """The acknowledgement of what became of a message."""
    if verdict.failure is not None:
        refused = refusal(verdict.failure)
        return answers.acknowledge(asked, refused.answer, [refused])
    outcome = verdict.extra
    warned = [Refused("0", text) for text in verdict.warnings]
    if not isinstance(outcome, Outcome):
        return answers.acknowledge(asked, verdict.code, warned)
    told = [*outcome.errors, *warned]
    return answers.acknowledge(asked, verdict.code, told, extra=outcome.segments, kind=outcome.kind)


def _asked(cur: Any, asked: Message, peer: Peer, kind: Kind) -> bytes:
    """The answer to a question, which changes nothing and is not kept."""
    scope = _permitted(cur, peer, kind)
    assert scope.institution_id is not None
    outcome = kind.fn(cur, Taken(asked, scope, scope.institution_id, peer.default_system))
    told = [*outcome.errors, *(Refused("0", text) for text in outcome.warnings)]
    return answers.acknowledge(asked, outcome.code, told, extra=outcome.segments, kind=outcome.kind)


def _permitted(cur: Any, peer: Peer, kind: Kind) -> Scope:
    scope = peers.scope_of(cur, peer)
    if not tokens.allows(scope, "Patient", kind.letter):
        raise Refused(
            errors.INTERNAL,
            T(
                "该系统的授权范围不允许这类消息。",
                "The permissions of this system do not include messages of this kind.",
            ),
        )
    return scope


def again(kept: Arrival) -> Piece:
    """An arrival as a message once more (for the inbox's replay); Refused when its sender is not known or it cannot be read."""
    data = inbox.body_of(kept)
    peer = Peer.objects.select_related("client").filter(pk=kept.peer_id).first()
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
