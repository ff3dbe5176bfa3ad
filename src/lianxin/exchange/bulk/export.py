"""One step of an export: slices of one type into one finished file, and what ``_typeFilter`` and ``_elements`` leave of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import msgspec
from django.conf import settings
from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.bulk import authority, files, slices
from lianxin.exchange.bulk.authority import Pairs
from lianxin.exchange.bulk.models import DONE, BulkBatch, BulkFile, BulkJob, BulkLane
from lianxin.exchange.fhir import shape
from lianxin.exchange.fhir.http import Incoming
from lianxin.record import rows as rows_of
from lianxin.record import search, text
from lianxin.record.problems import Issue, outcome
from lianxin.record.store import stamp
from lianxin.standards.text import Text

FILE_BYTES = 256 << 20  # plain
BUNDLE_ENTRIES = 500  # deletions a line
SEARCH_IDS = 100  # ids a search is asked about at once
AUDIT_PEOPLE = 200  # events a transaction: the chain's head is held only briefly


@dataclass
class Step:
    """What a step made, before it is noted."""

    cursor: dict[str, Any]
    finished: bool = False
    count: int = 0
    people: set[int] = field(default_factory=set)


def asked(job: BulkJob, lane: BulkLane) -> slices.Asked:
    """What a lane reads."""
    spec = job.spec
    since = _instant(spec.get("since")) or slices.BEGINNING
    return slices.Asked(
        rtype=lane.rtype,
        deleted=lane.role == "deleted",
        since=since,
        until=_instant(spec.get("until")) or job.as_of,
        as_of=job.as_of,
        patients_only=spec["level"] != "system",
    )


def _instant(value: str | None) -> dt.datetime | None:
    return dt.datetime.fromisoformat(value) if value else None


def work(job: BulkJob, lane: BulkLane, beat: Callable[[], None], note: Callable[[], Any]) -> None:
    """Write the next file of a lane and note it.

    ``beat()`` keeps the lease (and raises when it is lost or the job was cancelled); ``note()`` is entered as the transaction in
    which the lane is still ours.
    """
    number = BulkFile.objects.filter(lane=lane).count()
    prefix = f"{lane.number}-{lane.rtype}-{lane.role}-"
    files.sweep(job.pk, prefix, set(BulkFile.objects.filter(lane=lane).values_list("stored", flat=True)))
    writer = files.Writer(job.pk, f"{prefix}{number}.lease{lane.lease}")
    try:
        step = _passed_over(job, writer) if lane.role == "error" else _fill(job, lane, writer, beat)
        written = writer.close() if writer.count else None
    except BaseException:
        writer.discard()
        raise
    if written is None:
        writer.discard()
    _audit_people(job, lane.rtype, step.people)
    beat()
    with note():
        scope = authority.current(job)
        if written is not None:
            BulkFile.objects.create(
                job=job, lane=lane, number=number, role=lane.role, rtype="Bundle" if lane.role == "deleted" else lane.rtype,
                stored=written.stored, count=written.count, size=written.size, crc=written.crc,
            )  # fmt: skip
            audit.write(
                scope, "export", what=f"bulk export {job.pk} {lane.rtype}",
                detail={"file": number, lane.role: step.count, "people": len(step.people)},
            )  # fmt: skip
        lane.cursor, lane.count = step.cursor, lane.count + step.count
        if step.finished:
            lane.status = DONE
        lane.save(update_fields=["cursor", "count", "status"])


def _fill(job: BulkJob, lane: BulkLane, writer: files.Writer, beat: Callable[[], None]) -> Step:
    """Slices until the file is full or the lane at its end."""
    step = Step(dict(lane.cursor))
    base = asked(job, lane)
    shape = _Shape(lane.rtype, job.spec.get("elements"))
    gone: list[str] = []
    size = max(50, slices.SLICE >> lane.attempts)  # smaller after a timeout
    room = settings.LIANXIN_BULK_FILE_LINES
    while writer.count < room and writer.plain_size < FILE_BYTES:
        beat()
        scope = authority.current(job)  # as of now: what ended meanwhile is not exported
        reach = authority.limits(scope, lane.rtype)
        wanted = [_pairs(one) for one in job.spec.get("filters", {}).get(lane.rtype, [])]
        if not authority.may_export(scope, lane.rtype) or (base.deleted and (reach or wanted)):
            # of a deleted resource nobody can say any more whether it would have matched
            step.finished = True
            break
        here = _at_batch(job, step.cursor, base)
        if here is None:
            step.finished = True
            break
        after = step.cursor.get("after")
        key = (dt.datetime.fromisoformat(after[0]), after[1]) if after else None
        with slices.read(scope, here, key, min(size, room - writer.count)) as (end, rows):
            while chunk := list(islice(rows, SEARCH_IDS)):
                for row in _matching(scope, lane.rtype, chunk, wanted, reach):
                    if base.deleted:
                        gone.append(row.id)
                        if len(gone) == BUNDLE_ENTRIES:
                            writer.write(_deletions(lane.rtype, gone, job.as_of))
                            gone = []
                    else:
                        writer.write(shape.line(row.body))
                    step.count += 1
                    if row.person_id is not None:
                        step.people.add(row.person_id)
        step.cursor["after"] = [end[0].isoformat(), end[1]] if end else None
        if end is None:
            step.cursor["batch"] = step.cursor.get("batch", 0) + 1
            if here is base:
                step.finished = True
                break
    if gone:
        writer.write(_deletions(lane.rtype, gone, job.as_of))
    return step


def _passed_over(job: BulkJob, writer: files.Writer) -> Step:
    """What ``handling=lenient`` passed over at the kick-off, an OperationOutcome each."""
    for code, zh, en, expression in job.spec["passed"]:
        writer.write(text.dumps(outcome([Issue(code, Text(zh, en), expression, "warning")])))
    return Step({}, finished=True)


def _at_batch(job: BulkJob, cursor: dict[str, Any], base: slices.Asked) -> slices.Asked | None:
    """``base`` narrowed to the patients now asked about, when it is about certain ones; None when all have been done."""
    if not job.spec.get("patients"):
        return base
    found = BulkBatch.objects.filter(job=job, number=cursor.get("batch", 0)).first()
    return replace(base, subjects=found.subjects, people=found.people) if found is not None else None


def _pairs(given: Iterable[Sequence[str]]) -> Pairs:
    return tuple((name, value) for name, value in given)


def _matching(
    scope: Scope, rtype: str, rows: list[slices.Row], wanted: list[Pairs], reach: list[Pairs]
) -> list[slices.Row]:
    """Rows that match one of the filters, and one of the token's query limits, by the same search as at the door."""
    for alternatives in (wanted, reach):
        if alternatives and rows:
            found: set[str] = set()
            for pairs in alternatives:
                found |= _found(scope, rtype, [r.id for r in rows if r.id not in found], pairs)
            rows = [row for row in rows if row.id in found]
    return rows


def _found(scope: Scope, rtype: str, ids: list[str], pairs: Pairs) -> set[str]:
    if not ids:
        return set()
    with connection.cursor() as own:
        page = search.search(
            rows_of.server_cursor(own),
            scope,
            rtype,
            [*pairs, ("_id", ",".join(ids)), ("_count", str(len(ids)))],
            strict=True,
        )
    return {one.id for one in page.entries}


class _Shape:
    """``_elements``, as the door shows them."""

    def __init__(self, rtype: str, elements: Sequence[str] | None) -> None:
        self.rtype = rtype
        self.request = Incoming("GET", [], [("_elements", ",".join(elements or ()))], {}, "")

    def line(self, body: str) -> bytes:
        """A body as a line: exact but for blanks where it holds line feeds."""
        raw = shape.shown(self.request, self.rtype, body).encode()
        return msgspec.json.format(raw, indent=-1) if b"\n" in raw or b"\r" in raw else raw


def _deletions(rtype: str, ids: Sequence[str], at: dt.datetime) -> bytes:
    """A line of the deleted files: a transaction that deletes."""
    return text.dumps(
        {
            "resourceType": "Bundle",
            "meta": {"lastUpdated": stamp(at)},
            "type": "transaction",
            "entry": [{"request": {"method": "DELETE", "url": f"{rtype}/{rid}"}} for rid in ids],
        }
    )


_NEW = """
INSERT INTO exchange_bulkperson (job_id, person_id) SELECT %s, p FROM unnest(%s::bigint[]) AS t(p) ORDER BY p
ON CONFLICT DO NOTHING RETURNING person_id"""


def audit_people(job: BulkJob, action: str, what: str, people: Iterable[int]) -> None:
    """One event for each person whose data the job touches for the first time (in the caller's transaction)."""
    found = sorted(people)
    if not found:
        return
    scope = authority.current(job)
    with connection.cursor() as cur:
        cur.execute(_NEW, [job.pk, found])
        fresh = [row[0] for row in cur.fetchall()]
    audit.write_many([audit.entry(scope, action, person_id=person, what=what) for person in fresh])


def _audit_people(job: BulkJob, rtype: str, people: set[int]) -> None:
    """Before the file counts, who is in it stands in the audit log; a step done again writes nobody twice."""
    found = sorted(people)
    for start in range(0, len(found), AUDIT_PEOPLE):
        with transaction.atomic():
            audit_people(
                job, "export", f"bulk export {job.pk} from {rtype}", found[start : start + AUDIT_PEOPLE]
            )
