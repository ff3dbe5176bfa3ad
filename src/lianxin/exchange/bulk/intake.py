"""One step of an import: fetch the input, then a chunk of its lines at a time, stored in one transaction with its cursor.

Lines are written on the client's own behalf, with its rights and from its institution.  What is refused becomes a dead letter;
the rest of the chunk stays.  A line that is what the record holds already changes nothing, so an import sent again is harmless.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.exchange import load
from lianxin.exchange.bulk import authority, export, files, sources
from lianxin.exchange.bulk.models import DONE, FAILED, BulkFile, BulkJob, BulkLane, BulkRefusal
from lianxin.exchange.models import DeadLetter
from lianxin.record import definitions, rows, store, text, validate
from lianxin.record.keys import ref_key
from lianxin.record.problems import Issue, Problem, outcome, refuse
from lianxin.record.store import Write
from lianxin.standards import clock
from lianxin.standards.text import Text

MAX_REFUSED = 50_000  # an input with more is not what it was taken for: the lane ends
_NAMES = uuid.UUID("6f6a1e2e-2f2f-5d5b-9a30-6c78627566b1")  # of ids made for lines that bring none


def lanes(job: BulkJob) -> list[BulkLane]:
    """One lane an input; Patients first, then what others refer to."""
    order = {rtype: n for n, rtype in enumerate(load.SHARED_TYPES)}
    return [
        BulkLane(
            job=job, rtype=one["type"], name=one["url"], role="input", stage=0 if one["type"] == "Patient" else 1 if one["type"] in order else 2,
        )
        for one in job.spec["input"]
    ]  # fmt: skip


def work(job: BulkJob, lane: BulkLane, beat: Callable[[], None], note: Callable[[], Any]) -> None:
    """Fetch the input, take its next chunk, or close the lane with its file of errors."""
    try:
        more = _step(job, lane, beat, note)
    except (
        Problem
    ) as problem:  # the input cannot be had, or is not what it was taken for: the lane ends, others go on
        _close(job, lane, beat, note, problem)
    else:
        if not more:
            _close(job, lane, beat, note, None)


def _step(job: BulkJob, lane: BulkLane, beat: Callable[[], None], note: Callable[[], Any]) -> bool:
    """The next step of a lane; False when its input is at its end."""
    cursor = lane.cursor
    if "stored" not in cursor:
        files.sweep(job.pk, f"{lane.number}-input", set())
        found = sources.obtain(job, lane, authority.current(job), beat)
        with note():
            lane.cursor = {"stored": found.stored, "offset": 0, "frame": 0, "line": 0, "lines": found.count}
            lane.save(update_fields=["cursor"])
        return True
    if lane.refused > MAX_REFUSED:
        raise refuse(
            422,
            "too-costly",
            f"被拒绝的行超过 {MAX_REFUSED}，已停止；请检查文件",
            f"more than {MAX_REFUSED} lines were refused, so it stopped; check the file",
        )
    with files.open_file(files.path_of(job.pk, cursor["stored"])) as file:
        frame = next(files.frames(file, cursor["offset"], cursor["frame"]), None)
    if frame is None:
        return False
    scope = authority.current(job)
    chunk = frame.plain
    beat()
    with note():
        _take(job, lane, scope, chunk, cursor["line"])
        lane.cursor = {
            **cursor, "offset": frame.next, "frame": cursor["frame"] + 1, "line": cursor["line"] + frame.count,
        }  # fmt: skip
        lane.save(update_fields=["cursor", "count", "unchanged", "refused"])
    return True


def _take(job: BulkJob, lane: BulkLane, scope: Scope, chunk: bytes, before: int) -> None:
    """Store the lines of a chunk in the caller's transaction."""
    bad: list[tuple[Any, Problem]] = []
    report = load.Report()
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        waiting = []
        for item in load.outline(chunk, "lines.ndjson")[1]:
            item.place = f"line[{before + int(item.place[5:-1])}]"
            try:
                waiting.append((item, _write(job, lane, scope, item)))
            except Problem as problem:
                bad.append((item, problem))
        waiting = _permitted(cur, job, scope, waiting, report, bad)
        for batch in _apart(waiting):
            load._apply(cur, scope, batch, scope.institution_id, report, bad)
    lane.count += report.accepted
    lane.unchanged += report.unchanged
    lane.refused += len(bad)
    export.audit_people(job, "create", f"bulk import {job.pk}", report.people)
    _dead(job, lane, scope, bad)


def _write(job: BulkJob, lane: BulkLane, scope: Scope, item: Any) -> Write:
    """A line understood and checked; raises :class:`Problem`."""
    resource, _ = validate.read(item.raw, item.place, strict=scope.strict)
    if lane.rtype and item.rtype != lane.rtype:
        raise refuse(
            422,
            "value",
            f"该文件应只含 {lane.rtype}，此行为 {item.rtype}",
            f"this file is of {lane.rtype}, the line is a {item.rtype}",
            item.place,
        )
    if item.rtype not in definitions.types():
        raise refuse(404, "not-supported", "未知的资源类型", "unknown resource type", item.place)
    if item.rtype == "Subscription":  # it belongs to the client that makes it at the door
        raise refuse(
            422,
            "business-rule",
            "订阅不能批量导入，请用 POST /fhir/Subscription",
            "subscriptions cannot be imported; POST /fhir/Subscription",
            item.place,
        )
    if not item.id:
        if resource.get("id"):
            raise refuse(400, "value", "id 格式不正确", "the id is not well-formed", f"{item.place}.id")
        digest = hashlib.sha256(item.raw).hexdigest()
        item.id = str(uuid.uuid5(_NAMES, f"{job.institution_id}|{job.spec.get('source', '')}|{digest}"))
    resource["id"] = item.id
    method = "create" if job.spec["mode"] == "create" else "update"
    return Write(method, item.rtype, item.id, resource, item.raw, place=item.place, trusted=True)


def _permitted(
    cur: Any,
    job: BulkJob,
    scope: Scope,
    waiting: list[tuple[Any, Write]],
    report: load.Report,
    bad: list[tuple[Any, Problem]],
) -> list[tuple[Any, Write]]:
    """Without what is stored already just so, and without what the token's scopes do not allow."""
    keys = [ref_key(f"{item.rtype}/{item.id}") for item, _ in waiting]
    cur.execute(
        "SELECT key, version, updated, body, deleted, institution_id FROM record_resource WHERE key = ANY(%s::bigint[])",
        [keys],
    )
    stored = {row[0]: row for row in cur.fetchall()}
    kept = []
    for (item, write), key in zip(waiting, keys, strict=True):
        old = stored.get(key)
        try:
            authority.demand_write(scope, item.rtype, "c" if old is None or old[4] else "u")
        except Problem as problem:
            bad.append((item, problem))
            continue
        if old is None and not authority.may_change(scope, item.rtype):
            write.method = "create"
        mine = old is not None and (scope.everything or old[5] in scope.institution_ids)
        if (
            old is not None
            and mine
            and not old[4]
            and text.splice(write.raw or b"", item.id, old[1], store.stamp(old[2]))
            == store.opened(item.rtype, old[3])
        ):
            report.accepted += 1
            report.unchanged += 1
        else:
            kept.append((item, write))
    return kept


def _apart(waiting: list[tuple[Any, Write]]) -> list[list[tuple[Any, Write]]]:
    """Batches in which no resource occurs twice, Patients first; a later line of the same resource comes in a later batch."""
    batches: list[list[tuple[Any, Write]]] = []
    turn: dict[tuple[str, str], int] = {}
    for item, write in waiting:
        n = turn[item.rtype, item.id] = turn.get((item.rtype, item.id), -1) + 1
        if n == len(batches):
            batches.append([])
        batches[n].append((item, write))
    return [sorted(batch, key=lambda pair: pair[0].rtype != "Patient") for batch in batches]


def _dead(job: BulkJob, lane: BulkLane, scope: Scope, bad: list[tuple[Any, Problem]]) -> None:
    """Keep refused lines with their reasons."""
    now = clock.now()
    letters = DeadLetter.objects.bulk_create(
        DeadLetter(
            sha=hashlib.sha256(item.raw).hexdigest(), institution_id=scope.institution_id, channel="import",
            name=f"import {job.pk}/{lane.number}#{item.place}", code=problem.issues[0].code, reason_zh=problem.issues[0].text.zh,
            reason_en=problem.issues[0].text.en, expression=problem.issues[0].expression, payload=item.raw, created_at=now,
        )
        for item, problem in bad
    )  # fmt: skip
    BulkRefusal.objects.bulk_create(
        BulkRefusal(lane=lane, line=int(item.place[5:-1]), letter=letter)
        for (item, _), letter in zip(bad, letters, strict=True)
    )


def _close(
    job: BulkJob,
    lane: BulkLane,
    beat: Callable[[], None],
    note: Callable[[], Any],
    why: Problem | None,
) -> None:
    """End a lane with its file of errors: the lines refused, and last why it had to stop."""
    prefix = f"{lane.number}-errors"
    files.sweep(job.pk, prefix, set())
    written = None
    refusals = BulkRefusal.objects.filter(lane=lane).select_related("letter").order_by("line")
    if why is not None or refusals.exists():
        writer = files.Writer(job.pk, f"{prefix}.lease{lane.lease}")
        try:
            for refusal in refusals.defer("letter__payload").iterator(chunk_size=500):
                writer.write(_outcome(refusal.line, refusal.letter))
                if writer.count % 5000 == 0:
                    beat()
            if why is not None:
                writer.write(text.dumps(outcome(why.issues)))
            written = writer.close()
        except BaseException:
            writer.discard()
            raise
    with note():
        if written is not None:
            BulkFile.objects.create(
                job=job, lane=lane, number=0, role="error", rtype="OperationOutcome", stored=written.stored, count=written.count,
                size=written.size, crc=written.crc,
            )  # fmt: skip
        lane.status = DONE if why is None else FAILED
        lane.save(update_fields=["status"])


def _outcome(line: int, letter: DeadLetter) -> bytes:
    why = Text(f"第 {line} 行：{letter.reason_zh}", f"line {line}: {letter.reason_en}")
    return text.dumps(outcome([Issue(letter.code, why, letter.expression)]))
