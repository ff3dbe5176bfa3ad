"""STOW-RS, and the same for our own pages: instances come in, are durable, are indexed, and the answer says what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from lianxin.record.problems import refuse
from lianxin.regional.archive import callers, indexer, multipart, spool, taking
from lianxin.regional.archive.header import Facts
from lianxin.regional.archive.spool import Arrived, Incoming, Sender
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.taking import Taken
from lianxin.regional.archive.walk import Damaged

if TYPE_CHECKING:
    from lianxin.regional.archive.web import Answer, Request

NOT_UNDERSTOOD, OUT_OF_RESOURCES, OTHER_STUDY = 0xC000, 0xA700, 0xC409
HELD_BACK = 0xB000
MOST_PARTS = 20_000


class Received(NamedTuple):
    """What became of one instance: ``reason`` 0 when it was taken (``taken`` says how), else DICOM's failure reason."""

    sop_class: str
    sop_uid: str
    reason: int
    taken: Taken | None = None
    why: str = ""


def receive(
    files: Iterable[Iterable[bytes]], sender: Sender, study_uid: str = "", *, ended: bool = True
) -> list[Received]:
    """Take whole DICOM files, each given in pieces; durable and indexed when this returns. ``study_uid``: they must be of this study.

    ``ended``: nothing more of their studies follows soon. Raises a database error or Full: of that batch nothing is kept.
    """
    done: list[Received] = []
    waiting: list[tuple[int, Arrived]] = []
    uids: set[str] = set()

    def index() -> None:
        batch = [arrived for _, arrived in waiting]
        try:
            for (n, arrived), taken in zip(waiting, taking.take(batch), strict=True):
                done[n] = Received(arrived.facts.sop_class, arrived.facts.sop_uid, 0, taken)
        except Exception:  # nobody was told that these are kept, and this process may live long: they do not stay in its spool
            spool.forget(batch)
            raise
        finally:
            waiting.clear()

    try:
        for pieces in files:
            incoming = Incoming()
            facts: Facts | None = None
            try:
                for piece in pieces:
                    incoming.write(piece)
                facts, digest = incoming.examine()
                if study_uid and facts.study_uid != study_uid:
                    done.append(
                        Received(
                            facts.sop_class, facts.sop_uid, OTHER_STUDY, None, "it belongs to another study"
                        )
                    )
                    continue
                waiting.append((len(done), incoming.keep(facts, digest, sender)))
                done.append(Received(facts.sop_class, facts.sop_uid, OUT_OF_RESOURCES))
                uids.add(facts.study_uid)
            except Damaged as error:
                done.append(Received("", "", NOT_UNDERSTOOD, None, str(error)))
            except Full as error:
                done.append(
                    Received(facts.sop_class if facts else "", facts.sop_uid if facts else "", OUT_OF_RESOURCES, None, str(error))
                )  # fmt: skip
            finally:
                incoming.drop()
            if len(waiting) >= spool.AT_ONCE:
                index()
    finally:  # a body that breaks off: what came whole stays
        index()
    if ended and uids:
        indexer.hasten(uids)
    return done


def stow(request: Request, caller: callers.Caller, study_uid: str) -> Answer:
    """POST /studies[/uid]. Raises Problem."""
    callers.demand(caller, "c")
    scope = caller.scope
    if scope.institution_id is None:
        raise refuse(403, "forbidden", "该令牌不属于任何机构，不能存入影像", "this token belongs to no institution: it cannot store images")  # fmt: skip
    kind, given = multipart.parameters(request.environ.get("CONTENT_TYPE", ""))
    if kind != "multipart/related" or given.get("type", "application/dicom").lower() != "application/dicom":
        raise refuse(415, "not-supported", "请以 multipart/related; type=\"application/dicom\" 发送", "send multipart/related; type=\"application/dicom\"")  # fmt: skip
    stream = request.environ["wsgi.input"]

    def bodies() -> Iterator[Iterable[bytes]]:
        for n, (_, body) in enumerate(multipart.parts(stream.read, given.get("boundary", ""))):
            if n >= MOST_PARTS:
                raise multipart.Malformed("too many parts")
            yield body()

    sender = Sender(scope.institution_id, None, "web" if not caller.session else "page")
    try:
        done = receive(bodies(), sender, study_uid)
    except multipart.Malformed as error:
        raise refuse(400, "invalid", "multipart 内容不完整，已完整收到的部分不受影响", f"the multipart body is broken: {error}; parts that came whole are kept") from error  # fmt: skip
    if not done:
        raise refuse(400, "required", "请求中没有影像", "there are no instances in the request")
    status = _status(done)
    body = orjson.dumps(_said(request.base, done, study_uid))
    headers = [("Content-Type", "application/dicom+json"), ("Content-Length", str(len(body)))]
    return status, headers, [body]


def _status(done: list[Received]) -> int:
    good = [one for one in done if one.reason == 0]
    if len(good) == len(done):
        return 200 if all(one.taken is None or not one.taken.problem for one in good) else 202
    if good:
        return 202
    return 507 if all(one.reason == OUT_OF_RESOURCES for one in done) else 409


def _said(base: str, done: list[Received], study_uid: str) -> dict[str, Any]:
    """The answer's data set (PS3.18 10.5.3)."""
    from lianxin.regional.archive.models import Instance

    good = [one for one in done if one.reason == 0]
    places = {
        sop: (study, series)
        for sop, study, series in Instance.objects.filter(sent_uid__in=[one.sop_uid for one in good]).values_list(
            "sent_uid", "study__study_uid", "series__uid"
        )
    }  # fmt: skip
    made: dict[str, Any] = {}
    if study_uid:
        made["00081190"] = _value("UR", f"{base}/studies/{study_uid}")
    stored, failed = [], []
    for one in done:
        item = {"00081150": _value("UI", one.sop_class), "00081155": _value("UI", one.sop_uid)}
        if one.reason:
            failed.append(item | {"00081197": {"vr": "US", "Value": [one.reason]}} | ({"00000902": _value("LO", one.why[:64])} if one.why else {}))  # fmt: skip
            continue
        study, series = places.get(one.sop_uid, ("", ""))
        if study:
            item["00081190"] = _value("UR", f"{base}/studies/{study}/series/{series}/instances/{one.sop_uid}")
        if one.taken is not None and one.taken.problem:
            item["00081196"] = {"vr": "US", "Value": [HELD_BACK]}
        stored.append(item)
    if stored:
        made["00081199"] = {"vr": "SQ", "Value": stored}
    if failed:
        made["00081198"] = {"vr": "SQ", "Value": failed}
    return made


def _value(vr: str, text: str) -> dict[str, Any]:
    return {"vr": vr, "Value": [text]} if text else {"vr": vr}
