"""Making the files of a scheduled export: the changes of the record since the last run, as its client may see them at this moment.

A run is one transaction: its files, their manifest, the line of the audit for each person, and how far the record was read.  So a
run that was cut off is made again from the same place, and nothing is missed or made twice.  A version that was replaced meanwhile is
left out: its successor has a higher number and comes with it.  At most ``MOST_RUNS`` runs wait to be sent; then making stops and the
record keeps the place.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import io
import json
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction

from lianxin.access import audit, seal, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.cda import issue
from lianxin.exchange.feeds import errors, keeping
from lianxin.exchange.partners.models import (
    BUNDLE,
    CDA,
    CSV,
    DOCUMENTS,
    LIVE,
    MADE,
    NDJSON,
    TABLE,
    Export,
    ExportFile,
    ExportRun,
)
from lianxin.exchange.subscriptions import lifecycle
from lianxin.exchange.subscriptions.ownership import scope_now
from lianxin.exchange.v2 import outbound_mapping
from lianxin.record import definitions, feed, rows, store, text, visible
from lianxin.record.feed import Change
from lianxin.standards import clock
from lianxin.standards.text import T, Text

log = logging.getLogger(__name__)

MOST_RUNS = 5  # that wait to be sent
SLICE = 2000  # changes of one run
STRIDE = 200_000  # numbers looked through in one run
MOST_ENTRIES = 500  # of one bundle
MOST_BYTES = 8 * 1024 * 1024  # of one file
SMART = "system/*.cruds"
MEDIA = {
    NDJSON: "application/fhir+ndjson", BUNDLE: "application/fhir+json", CDA: "application/xml", CSV: "text/csv; charset=utf-8",
}  # fmt: skip
_RISKY = ("=", "+", "-", "@", "\t", "\r")  # with these a spreadsheet takes a text for a formula


@dataclass(frozen=True)
class Made:
    """One file before it is sealed."""

    name: str
    body: bytes
    count: int
    media: str


def types_of(export: Export) -> list[str]:
    """The resource types whose changes an export follows."""
    if export.what == DOCUMENTS:
        return sorted(
            {t for kind in export.kinds if kind in issue.KINDS for t in issue.TYPES.get(kind, issue.ALL)}
        )
    return [k for k in export.kinds if k in definitions.types()]


def next_time(export: Export, after: dt.datetime) -> dt.datetime:
    """When an export is to run again."""
    if export.every:
        return after + dt.timedelta(minutes=export.every)
    assert export.daily is not None
    local = after.astimezone(clock.ZONE)
    today = local.replace(hour=export.daily.hour, minute=export.daily.minute, second=0, microsecond=0)
    return today if today > local else today + dt.timedelta(days=1)


def due() -> list[int]:
    """Exports whose time has come."""
    found = Export.objects.filter(active=True, next_at__lte=clock.now(), partner__state=LIVE)
    return list(found.order_by("next_at").values_list("pk", flat=True))


def make(pk: int, watch: feed.Watch | None = None) -> ExportRun | None:
    """Make the next run of an export; None when there is nothing new, too many runs wait, or another process is at it."""
    watch = watch or feed.Watch()
    with connection.cursor() as own:
        upto = watch.look(own)
    with transaction.atomic(), connection.cursor() as own:
        export = (
            Export.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("partner")
            .filter(pk=pk)
            .first()
        )
        if export is None or export.runs.filter(state=MADE).count() >= MOST_RUNS:
            return None
        cur = rows.server_cursor(own)
        scope = scope_now(cur, export.client_id, SMART)
        if scope is None:
            Export.objects.filter(pk=pk).update(
                last_error=lifecycle.kept(CLOSED), next_at=next_time(export, clock.now())
            )
            return None
        bound = min(upto, export.read_rid + STRIDE)
        found, reached = feed.changes(cur, export.read_rid, bound, SLICE, types_of(export))
        run = _run(cur, scope, export, found, reached) if found else None
        export.read_rid = max(export.read_rid, reached)
        if reached >= upto:  # otherwise there is more: again at once
            export.next_at = next_time(export, clock.now())
        export.save(update_fields=["read_rid", "next_at", "runs_made"])
        return run


def _run(cur: Any, scope: Scope, export: Export, found: list[Change], reached: int) -> ExportRun | None:
    taken, gone = _allowed(cur, scope, export, found)
    bodies = _bodies(cur, taken)
    made = list(_files(cur, scope, export, [(c, bodies[c.rid]) for c in taken if c.rid in bodies], gone))
    if not made:
        return None
    export.runs_made += 1
    stable = f"LX-{export.pk}-{export.runs_made}-{export.read_rid}-{reached}"
    manifest = _manifest(export, stable, reached, made)
    run = ExportRun.objects.create(
        export=export, number=export.runs_made, stable_id=stable, from_rid=export.read_rid, to_rid=reached,
        count=sum(one.count for one in made), size=sum(len(one.body) for one in made), at=clock.now(),
    )  # fmt: skip
    ExportFile.objects.bulk_create(
        [
            ExportFile(
                run=run, number=number, name=one.name, media=one.media, body=keeping.packed(one.body), count=one.count,
                size=len(one.body), sha256=hashlib.sha256(one.body).hexdigest(), sm3=seal.sm3(one.body).hex(),
            )
            for number, one in enumerate([*made, manifest], 1)
        ]
    )  # fmt: skip
    people = Counter(c.person_id for c in [*taken, *gone] if c.person_id is not None)
    audit.write_many(
        [
            audit.entry(scope, "export", person_id=person, what=f"export {export.pk} run {run.number}", detail={"resources": n})
            for person, n in people.items()
        ],
        cursor=cur,
    )  # fmt: skip
    return run


def _allowed(
    cur: Any, scope: Scope, export: Export, found: list[Change]
) -> tuple[list[Change], list[Change]]:
    """Changes whose resource the client may see now and that pass the filter; and deletions of such."""
    seen: set[int] = set()
    filters = _pairs(export.filters)
    for rtype in {c.rtype for c in found}:
        if not tokens.allows(scope, rtype, "r"):
            continue
        mine = [c for c in found if c.rtype == rtype and c.current]
        live = [c for c in mine if not c.deleted]
        if live:
            seen |= feed.matching(cur, scope, rtype, filters, live, {})
        dead = {c.key: c.rid for c in mine if c.deleted}
        if dead and export.what != DOCUMENTS:
            seen |= {dead[key] for key in visible.seen(cur, scope, rtype, list(dead))}
    return [c for c in found if c.rid in seen and not c.deleted], [
        c for c in found if c.rid in seen and c.deleted
    ]


def _pairs(filters: str) -> list[tuple[str, str]]:
    out = []
    for part in filters.split("&"):
        name, mark, value = part.partition("=")
        if mark:
            out.append((name.strip(), value.strip()))
    return out


def _bodies(cur: Any, changes: list[Change]) -> dict[int, str]:
    cur.execute(
        "SELECT rid, rtype, body FROM record_resource WHERE rid = ANY(%s::bigint[])",
        [[c.rid for c in changes]],
    )
    return {rid: store.opened(rtype, body) for rid, rtype, body in cur.fetchall()}


# ---------------------------------------------------------------------------------------------------------------- files


def _files(
    cur: Any, scope: Scope, export: Export, given: list[tuple[Change, str]], gone: list[Change]
) -> Iterator[Made]:
    if export.format == NDJSON:
        yield from _ndjson(given, gone)
    elif export.format == BUNDLE:
        yield from _bundles(given, gone)
    elif export.what == TABLE:
        yield from _table(export, given)
    else:
        yield from _documents(cur, scope, export, given)


def _ndjson(given: list[tuple[Change, str]], gone: list[Change]) -> Iterator[Made]:
    for rtype in sorted({c.rtype for c, _ in given}):
        lines = [body for c, body in given if c.rtype == rtype]
        for number, part in enumerate(_chunks(lines), 1):
            yield Made(
                f"{rtype}.{number}.ndjson", "".join(f"{x}\n" for x in part).encode(), len(part), MEDIA[NDJSON]
            )
    if gone:
        entries = [{"request": {"method": "DELETE", "url": f"{c.rtype}/{c.id}"}} for c in gone]
        line = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        yield Made("deleted.1.ndjson", f"{line}\n".encode(), len(gone), MEDIA[NDJSON])


def _bundles(given: list[tuple[Change, str]], gone: list[Change]) -> Iterator[Made]:
    entries = [
        f'{{"fullUrl":"urn:lianxin:{c.rtype}:{c.id}","resource":{body},"request":{{"method":"PUT","url":"{c.rtype}/{c.id}"}}}}'
        for c, body in given
    ] + [f'{{"request":{{"method":"DELETE","url":"{c.rtype}/{c.id}"}}}}' for c in gone]
    for number, part in enumerate(_chunks(entries, MOST_ENTRIES), 1):
        whole = f'{{"resourceType":"Bundle","type":"batch","entry":[{",".join(part)}]}}'
        yield Made(f"bundle.{number}.json", whole.encode(), len(part), MEDIA[BUNDLE])


def _chunks(lines: list[str], most: int = 1_000_000) -> Iterator[list[str]]:
    part: list[str] = []
    size = 0
    for line in lines:
        if part and (size + len(line) > MOST_BYTES // 2 or len(part) >= most):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line)
    if part:
        yield part


def columns_of(given: str) -> list[tuple[str, outbound_mapping.Expression]]:
    """Headings and expressions of a table, a line each (``heading = expression``); raises ``BadMapping`` naming the line."""
    out = []
    for number, line in enumerate((x.strip() for x in given.splitlines()), 1):
        if not line:
            continue
        heading, mark, wanted = line.partition("=")
        if not mark or not heading.strip() or not wanted.strip():
            raise outbound_mapping.BadMapping(f"{number}: heading = expression")
        out.append((heading.strip(), outbound_mapping.expression(wanted.strip(), {}, str(number))))
    if not out:
        raise outbound_mapping.BadMapping("no columns")
    return out


def _table(export: Export, given: list[tuple[Change, str]]) -> Iterator[Made]:
    if not given:
        return
    columns = columns_of(export.columns)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([heading for heading, _ in columns])
    for change, body in given:
        resource = text.parse(body.encode())
        context = {**resource, "resource": resource, "version": str(change.version)}
        writer.writerow([_cell(fn(context)) for _, fn in columns])
    name = f"{'-'.join(export.kinds)}.csv"
    yield Made(name, out.getvalue().encode("utf-8-sig"), len(given), MEDIA[CSV])


def _cell(value: Any) -> str:
    """A value as a cell: parts joined, and nothing that a spreadsheet would run."""
    if isinstance(value, tuple):
        value = "^".join(str(v) for v in value).rstrip("^")
    elif isinstance(value, list):
        value = ";".join(_cell(v) for v in value)
    plain = str(value).replace("\x00", "")
    return f"'{plain}" if plain.startswith(_RISKY) and not _number(plain) else plain


def _number(plain: str) -> bool:
    try:
        float(plain)
    except ValueError:
        return False
    return True


def _documents(cur: Any, scope: Scope, export: Export, given: list[tuple[Change, str]]) -> Iterator[Made]:
    """One document of each wanted kind for every patient and visit that something changed of.

    What a document is made of is what the client may read; that it becomes a document of the registry is the platform's own act.
    """
    issuing = replace(scope, smart=(SMART,))
    for kind in export.kinds:
        types = issue.TYPES.get(kind, issue.ALL)
        if kind not in issue.KINDS or not all(tokens.allows(scope, t, "r") for t in (*types, "Patient")):
            continue
        visits: dict[tuple[str, str], None] = {}
        for change, body in given:
            if change.rtype in types:
                resource = text.parse(body.encode())
                patient, visit = (
                    _id(resource.get("subject") or resource.get("patient")),
                    _id(resource.get("encounter")),
                )
                if patient:
                    visits[patient, visit] = None
        for number, (patient, visit) in enumerate(visits, 1):
            try:
                with transaction.atomic():
                    body_of = issue.issue(issuing, kind, patient, encounter=visit)
            except errors.REFUSALS as failure:  # of this visit there is nothing to say in such a document
                log.info("export %s: no document %s: %s", export.pk, kind, errors.reason_of(failure).text.en)
                continue
            yield Made(f"{kind}.{number}.xml", body_of, 1, MEDIA[CDA])


def _id(reference: Any) -> str:
    """The id a reference ends with, "" when there is none."""
    return str(reference.get("reference", "")).rpartition("/")[2] if isinstance(reference, dict) else ""


def _manifest(export: Export, stable: str, reached: int, made: list[Made]) -> Made:
    """What a receiver checks the files by; it is sent last, so that whoever has it has everything."""
    said = {
        "id": stable, "export": export.name, "partner": export.partner.name, "format": export.format,
        "after": export.read_rid, "upto": reached, "made": clock.now().isoformat(timespec="seconds"),
        "files": [
            {
                "name": one.name, "type": one.media, "count": one.count, "size": len(one.body),
                "sha256": hashlib.sha256(one.body).hexdigest(), "sm3": seal.sm3(one.body).hex(),
            }
            for one in made
        ],
    }  # fmt: skip
    return Made(
        "manifest.json", json.dumps(said, ensure_ascii=False, indent=1).encode(), 0, "application/json"
    )


CLOSED: Text = T(
    "所用系统已停用或没有权限，本次未导出。",
    "Its client was switched off or holds no permission: nothing was exported.",
)
