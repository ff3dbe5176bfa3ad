"""The way of a message from its bytes to its answer.

Read, find the sender, find who takes it, then one transaction: known already? (answered as before) – handle – keep message and
answer.  The answer leaves after the commit.  Whatever goes wrong becomes AR or AE with a reason; nothing raises.
"""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

import psycopg
from django.db import DataError, Error, transaction
from django.db.models import F

from lianxin.access import audit, seal, tokens
from lianxin.access.errors import AccessError, Invalid
from lianxin.exchange.fhir import gate
from lianxin.exchange.v2 import answers, errors, kinds, message, peers
from lianxin.exchange.v2.errors import REJECTED, Place, Refused
from lianxin.exchange.v2.kinds import Kind, Outcome, Taken
from lianxin.exchange.v2.message import Message
from lianxin.exchange.v2.models import IN, REFUSED, TAKEN, Peer, V2Message
from lianxin.exchange.v2.peers import Origin
from lianxin.record import store
from lianxin.record.problems import Problem
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

REMEMBERED = dt.timedelta(days=30)
"""For how long a control id is known again."""
CODES = {
    "required": errors.REQUIRED, "value": errors.DATA_TYPE, "invalid": errors.DATA_TYPE, "structure": errors.DATA_TYPE,
    "code-invalid": errors.TABLE_VALUE, "not-found": errors.UNKNOWN_KEY, "duplicate": errors.DUPLICATE_KEY,
    "conflict": errors.LOCKED, "lock-error": errors.LOCKED,
}  # fmt: skip
"""FHIR issue types to HL7 table 0357; every other one is 207."""


def receive(data: bytes, origin: Origin | None = None) -> bytes:
    """Take one message (without its frame) and give its answer."""
    asked: Message | None = None
    address = audit.origin.set(origin.address if origin else "")
    try:
        gate.fresh()
        asked = message.parse(data)
        peer = peers.find(asked, origin or Origin())
        if peer.codec and asked.codec != peer.codec:
            asked = message.parse(data, peer.codec)
        return _of(asked, peer, data)
    except Refused as refused:
        return answers.acknowledge(asked, refused.answer, [refused])
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
        _check(asked)
        kind = kinds.find(asked)
        if kind.reads:
            return gate.writing(lambda cur: _run(cur, asked, peer, kind)[1])
        return gate.writing(lambda cur: _once(cur, asked, peer, kind, data))
    except (Refused, Problem, AccessError) as failure:
        return _refused(asked, peer, data, refusal(failure))
    except (DataError, psycopg.DataError):
        return _refused(asked, peer, data, _beyond())
    except (Error, psycopg.Error):
        raise
    except Exception:
        log.exception("a message could not be handled")
        return _refused(asked, peer, data, _internal())


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


# What came under a control id, in plain SQL: asked with every message.
_KNOWN = (
    "SELECT id, same, state, CASE WHEN state = 'taken' THEN answer END FROM exchange_v2message"
    " WHERE peer_id = %s AND direction = 'in' AND control_id = %s AND (at >= %s OR state = 'refused') ORDER BY id"
)


def _once(cur: Any, asked: Message, peer: Peer, kind: Kind, data: bytes) -> bytes:
    """Handle a message unless it was taken before: then its answer is given again."""
    digest = same(asked)
    store.lock(cur, [f"v2/{peer.pk}/{asked.control_id}"])
    cur.execute(_KNOWN, [peer.pk, asked.control_id, clock.now() - REMEMBERED])
    again: int | None = None
    taken_otherwise = False
    for pk, stored, state, answered in cur.fetchall():
        alike = bytes(stored) == digest
        if state == REFUSED:
            again = pk if alike and again is None else again
        elif alike and answered is not None:
            V2Message.objects.filter(pk=pk).update(attempts=F("attempts") + 1)
            return seal.unseal_bytes(bytes(answered))
        elif not alike:
            taken_otherwise = True
    if taken_otherwise and not peer.reuses_ids:
        raise Refused(
            errors.DUPLICATE_KEY,
            T(
                "消息控制号 MSH-10 已被另一条内容不同的消息使用，本条未受理。",
                "The control id MSH-10 was used by another message with other content; this one was not taken.",
            ),
            Place("MSH", 1, 10),
        )
    outcome, answer = _run(cur, asked, peer, kind)
    _keep(asked, peer, data, answer, TAKEN, outcome.code, "", outcome.person_id, again)
    return answer


def _run(cur: Any, asked: Message, peer: Peer, kind: Kind) -> tuple[Outcome, bytes]:
    scope = peers.scope_of(cur, peer)
    if not tokens.allows(scope, "Patient", kind.letter):
        raise Refused(
            errors.INTERNAL,
            T(
                "该系统的授权范围不允许这类消息。",
                "The permissions of this system do not include messages of this kind.",
            ),
        )
    assert scope.institution_id is not None
    outcome = kind.fn(cur, Taken(asked, scope, scope.institution_id, peer.default_system))
    told = [*outcome.errors, *(Refused("0", text) for text in outcome.warnings)]
    return outcome, answers.acknowledge(asked, outcome.code, told, extra=outcome.segments, kind=outcome.kind)


def _refused(asked: Message, peer: Peer, data: bytes, refused: Refused) -> bytes:
    """Keep a refused message with its reason (a repetition of it is one with it), and say no."""
    answer = answers.acknowledge(asked, refused.answer, [refused])
    digest = same(asked)
    with transaction.atomic():
        known = (
            V2Message.objects.select_for_update()
            .filter(peer=peer, direction=IN, control_id=asked.control_id, same=digest, state=REFUSED)
            .first()
        )
        reason = f"{refused.code} {refused.place}\n{refused.text.zh}\n{refused.text.en}"
        if known is None:
            _keep(asked, peer, data, answer, REFUSED, refused.answer, reason, None)
        else:
            V2Message.objects.filter(pk=known.pk).update(
                attempts=known.attempts + 1,
                error=reason,
                code=refused.answer,
                answer=seal.seal_bytes(answer),
                done_at=clock.now(),
            )
    return answer


def _keep(
    asked: Message,
    peer: Peer,
    data: bytes,
    answer: bytes,
    state: str,
    code: str,
    error: str,
    person_id: int | None,
    again: int | None = None,
) -> None:
    """Keep a message with its answer; ``again``: in place of the refused one that it repeats."""
    now = clock.now()
    digest = same(asked)
    values: dict[str, Any] = {
        "answer": seal.seal_bytes(answer), "code": code, "error": error, "state": state, "person_id": person_id, "done_at": now,
    }  # fmt: skip
    if again is not None:
        V2Message.objects.filter(pk=again).update(**values, attempts=F("attempts") + 1)
        return
    V2Message.objects.create(
        peer=peer, direction=IN, control_id=asked.control_id[:199], kind="^".join(asked.kind)[:20], same=digest,
        body=seal.seal_bytes(data), attempts=1, at=now, **values,
    )  # fmt: skip


def replay(pk: int) -> str:
    """Take a refused message once more, as it came; returns the code of the answer. What was taken is not taken twice."""
    kept = V2Message.objects.select_related("peer__client").get(pk=pk, direction=IN)
    data = seal.unseal_bytes(bytes(kept.body))
    asked = message.parse(data, kept.peer.codec)
    return message.parse(_of(asked, kept.peer, data)).text("MSA", 1)


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
    if isinstance(failure, Invalid):
        text = next(iter(failure.errors.values()), failure.message)
        return Refused(errors.DATA_TYPE, text)
    assert isinstance(failure, AccessError)
    return Refused(errors.INTERNAL, failure.message)


def _beyond() -> Refused:
    return Refused(
        errors.DATA_TYPE,
        T(
            "含有数据库不接受的取值（过大的数、日期或无效字符）。",
            "A value is out of range (a number, a date, or a character that cannot be kept).",
        ),
    )


def _later() -> Refused:
    return Refused(
        errors.INTERNAL,
        T("数据库暂不可用，请稍后重发。", "The database is not available; send it again shortly."),
    )


def _internal() -> Refused:
    return Refused(
        errors.INTERNAL,
        T(
            "平台内部出错，已记录，请稍后重发。",
            "An error of ours, which has been logged; send it again later.",
        ),
    )
