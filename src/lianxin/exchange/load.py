"""Bulk loading of FHIR R4: COPY beneath, one transaction a member, resumable, with dead letters that can be replayed.

A member (file) that was loaded is known by the SHA-256 of its bytes and the institution, and is not loaded again.  A
transaction bundle is taken or refused whole; NDJSON, collections and batches go on past a bad resource.  Resources keep the
ids they come with; ``urn:uuid:`` references across members are resolved to what was loaded before.
"""

import hashlib
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psycopg
from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.exchange import load_worker
from lianxin.exchange.models import DeadLetter, LoadRun
from lianxin.exchange.sources import Member, members
from lianxin.network.models import Institution
from lianxin.record import bundle as bundling
from lianxin.record import custom, definitions, rows, store, text
from lianxin.record.keys import ref_key
from lianxin.record.problems import Issue, Problem
from lianxin.record.store import Write
from lianxin.standards import clock
from lianxin.standards.text import T, Text

BATCH = 2000
URN = "urn:uuid:"
# Types that members of other files are referred to by (in this order when an id is not unique among them).
SHARED_TYPES = (
    "Patient",
    "Organization",
    "Practitioner",
    "Location",
    "PractitionerRole",
    "Encounter",
    "Medication",
    "Device",
)
Progress = Callable[[object, Iterable[Any], int], Iterable[Any]]


@dataclass
class Refusal:
    """One resource or file that was not taken."""

    name: str
    expression: str
    code: str
    text: Text
    letter_id: int


@dataclass
class Report:
    """What a load did."""

    accepted: int = 0
    unchanged: int = 0  # of the accepted: what was stored already
    refused: int = 0
    members: int = 0
    skipped: int = 0
    seconds: float = 0.0
    by_type: dict[str, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    unresolved: int = 0
    people: set[int] = field(default_factory=set)

    @property
    def rate(self) -> float:
        """Accepted resources a second."""
        return self.accepted / self.seconds if self.seconds else 0.0

    def add(self, other: "Report") -> None:
        """Take in the report of another member."""
        for name in ("accepted", "unchanged", "refused", "members", "skipped", "unresolved"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for rtype, n in other.by_type.items():
            self.by_type[rtype] = self.by_type.get(rtype, 0) + n
        self.refusals += other.refusals
        self.people |= other.people


class _Outline(msgspec.Struct):
    resourceType: str = ""
    id: str = ""
    type: Any = None


class _Entries(msgspec.Struct):
    entry: list[bundling.Entry] = []


_outline = msgspec.json.Decoder(_Outline)
_entries = msgspec.json.Decoder(_Entries)


@dataclass(slots=True)
class _Item:
    place: str
    raw: bytes
    rtype: str
    id: str
    full_url: str | None = None
    condition: str = ""


def load(
    paths: Sequence[Path | str],
    *,
    institution: Institution | str | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Load files; ``institution`` (or its code) is the source.

    ``progress(label, items, total)`` wraps the members (as tqdm does).  ``jobs`` > 1: that many processes for the members
    after the shared ones.  Raises ValueError for an unknown institution, FileNotFoundError for a missing path.
    """
    source = sender(institution)
    started = time.perf_counter()
    report = Report()
    found = members(paths)
    shared = [m for m in found if m.order()[0] == 0]
    label = T("导入 FHIR 数据", "Loading FHIR data")
    if jobs > 1 and len(found) - len(shared) > 1:
        for member in shared:
            report.add(load_member(member, source))
        for part in _parallel([m for m in found if m not in shared], source, jobs, progress, label):
            report.add(part)
    else:
        known: dict[str, str] = {}
        for member in progress(label, found, len(found)) if progress else found:
            report.add(load_member(member, source, known))
    report.seconds = time.perf_counter() - started
    return report


def sender(given: Institution | str | None) -> Institution | None:
    if given is None or isinstance(given, Institution):
        return given
    found = Institution.objects.filter(code=given).first()
    if found is None:
        raise ValueError(f"没有代码为 {given} 的机构 / no institution has the code {given}")
    return found


def _parallel(
    found: list[Member], source: Institution | None, jobs: int, progress: Progress | None, label: Text
) -> Iterable[Report]:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    code = source.code if source else None
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=load_worker.start) as workers:
        parts = workers.map(load_worker.work, found, [code] * len(found))
        yield from progress(label, parts, len(found)) if progress else parts


def load_member(member: Member, source: Institution | None, known: dict[str, str] | None = None) -> Report:
    """Load one member in one transaction; ``known`` remembers urns between members of a run."""
    report = Report(members=1)
    try:
        raw = member.read()
    except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
        why = Text(f"文件无法读取：{error}", f"the file cannot be read: {error}")
        _dead(report, source, member.name, b"", Problem(400, Issue("structure", why)), 1)
        return report
    custom.refresh()
    sha = hashlib.sha256(raw).hexdigest()
    if LoadRun.objects.filter(sha=sha, institution=source).exists():
        report.skipped = 1
        return report
    take(raw, sha, member.name, source, report, {} if known is None else known)
    return report


def take(
    raw: bytes, sha: str, name: str, source: Institution | None, report: Report, known: dict[str, str]
) -> None:
    """Take the bytes of a member: all in one transaction, with its LoadRun, or a dead letter."""
    try:
        kind, items = outline(raw, name)
    except Problem as problem:
        _dead(report, source, name, raw, problem, 1)
        return
    whole = kind == "transaction"
    bad: list[tuple[_Item, Problem]] = []
    learned: dict[str, str] = {}
    try:
        with transaction.atomic(), connection.cursor() as own:
            part = Report()
            _store(rows.server_cursor(own), items, source, part, known, learned, None if whole else bad)
            LoadRun.objects.create(
                sha=sha,
                institution=source,
                name=name,
                resources=part.accepted,
                refused=len(bad),
                created_at=clock.now(),
            )
            scope, what = _scope(source), f"load {sha[:16]}"
            audit.write_many(
                [audit.entry(scope, "create", person_id=p, what=what) for p in [None, *sorted(part.people)]]
            )
    except (Problem, AccessError, psycopg.DataError) as error:
        _dead(report, source, name, raw, _as_problem(error), max(len(items), 1))
        return
    known.update(learned)
    report.add(part)
    for item, reason in bad:
        _dead(report, source, f"{name}#{item.place}", item.raw, reason, 1)


def _as_problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, AccessError):
        return Problem(403, Issue("forbidden", error.message))
    return Problem(
        422,
        Issue("value", Text(f"数据库不接受的取值：{error}", f"a value the database does not take: {error}")),
    )


def _scope(source: Institution | None) -> Scope:
    return Scope.system(f"load from {source.code}" if source else "load")


def outline(raw: bytes, name: str) -> tuple[str, list[_Item]]:
    """(kind, items) of a member: the kind is ``transaction``, another bundle type, ``ndjson`` or ``resource``."""
    stem = name.removesuffix(".gz").lower()
    if stem.endswith((".ndjson", ".jsonl")):
        lines = [(i, line) for i, line in enumerate(raw.split(b"\n"), 1) if line.strip()]
        return "ndjson", [_item(line, f"line[{i}]") for i, line in lines]
    try:
        head = _outline.decode(raw)
        if head.resourceType != "Bundle":
            return "resource", [_item(raw, "")]
        found = _entries.decode(raw).entry
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = Text(f"不是合法的 FHIR JSON：{error}", f"not valid FHIR JSON: {error}")
        raise Problem(400, Issue("structure", why)) from None
    items = []
    for i, entry in enumerate(found):
        body = bytes(entry.resource)
        if entry.request is not None and entry.request.method not in ("POST", "PUT", ""):
            why = Text(f"导入不接受 {entry.request.method}", f"load does not take {entry.request.method}")
            raise Problem(400, Issue("not-supported", why, f"Bundle.entry[{i}].request.method"))
        if not body:
            raise Problem(
                400,
                Issue(
                    "required", Text("缺少 resource", "resource is missing"), f"Bundle.entry[{i}].resource"
                ),
            )
        item = _item(body, f"Bundle.entry[{i}].resource")
        item.full_url = entry.fullUrl
        if entry.request is not None:
            item.condition = entry.request.ifNoneExist or ""
        items.append(item)
    return str(head.type), items


def _item(raw: bytes, place: str) -> _Item:
    try:
        head = _outline.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Item(place, raw, "", "")  # told what is wrong when it is parsed
    return _Item(place, raw, head.resourceType, head.id if store.ID.fullmatch(head.id) else "")


def _store(
    cur: Any,
    items: list[_Item],
    source: Institution | None,
    report: Report,
    known: dict[str, str],
    learned: dict[str, str],
    bad: list[tuple[_Item, Problem]] | None,
) -> None:
    scope = _scope(source)
    source_id = source.pk if source else None
    targets: dict[str, str] = {}
    settled = _ids(cur, scope, items, source_id)
    for item in items:
        if item.full_url and item.rtype:
            targets[item.full_url] = f"{item.rtype}/{item.id}"
        if item.rtype in SHARED_TYPES:
            learned[URN + item.id] = f"{item.rtype}/{item.id}"
            if item.full_url:
                learned[item.full_url] = f"{item.rtype}/{item.id}"
    targets.update(_outside(cur, scope, items, targets, known, learned, report))
    waiting: list[tuple[_Item, Write]] = []
    for item in items:
        if item.condition and settled.get(ref_key(f"{item.rtype}/{item.id}")) == "found":
            report.unchanged += 1
            report.accepted += 1
            report.by_type[item.rtype] = report.by_type.get(item.rtype, 0) + 1
            continue
        try:
            raw = bundling.rewrite(item.raw, targets) if b"urn:" in item.raw or b"?" in item.raw else item.raw
            resource = bundling.parsed(raw, item.place, strict=scope.strict)
            method = "update" if ref_key(f"{item.rtype}/{item.id}") in settled else "create"
            if method == "update":
                resource["id"] = item.id
            waiting.append(
                (item, Write(method, item.rtype, item.id, resource, raw, place=item.place, trusted=True))
            )
        except Problem as problem:
            if bad is None:
                raise
            bad.append((item, problem))
    waiting = _new_only(cur, waiting, report)
    waiting.sort(key=lambda pair: pair[0].rtype != "Patient")
    for start in range(0, len(waiting), BATCH):
        _apply(cur, scope, waiting[start : start + BATCH], source_id, report, bad)


def _new_only(cur: Any, waiting: list[tuple[_Item, Write]], report: Report) -> list[tuple[_Item, Write]]:
    """Without updates whose text is what is stored already: they are accepted, and change nothing."""
    keys = [ref_key(f"{item.rtype}/{item.id}") for item, write in waiting if write.method == "update"]
    if not keys:
        return waiting
    cur.execute(
        "SELECT key, version, updated, body FROM record_resource WHERE key = ANY(%s::bigint[]) AND NOT deleted",
        [keys],
    )
    stored = {row[0]: row for row in cur.fetchall()}
    kept = []
    for item, write in waiting:
        row = stored.get(ref_key(f"{item.rtype}/{item.id}")) if write.method == "update" else None
        if row and text.splice(write.raw or b"", item.id, row[1], store.stamp(row[2])) == store.opened(
            item.rtype, row[3]
        ):
            report.unchanged += 1
            report.accepted += 1
            report.by_type[item.rtype] = report.by_type.get(item.rtype, 0) + 1
        else:
            kept.append((item, write))
    return kept


def _apply(
    cur: Any,
    scope: Scope,
    waiting: list[tuple[_Item, Write]],
    source_id: int | None,
    report: Report,
    bad: list[tuple[_Item, Problem]] | None,
) -> None:
    """Store a batch; when a part of it is refused and the member need not be whole, find out which and store the others."""
    try:
        with transaction.atomic():
            results = store.apply(
                cur, scope, [write for _, write in waiting], source_institution_id=source_id
            )
    except (Problem, AccessError, psycopg.DataError) as error:
        if bad is None:
            raise
        if len(waiting) == 1:
            bad.append((waiting[0][0], _as_problem(error)))
            return
        middle = len(waiting) // 2
        _apply(cur, scope, waiting[:middle], source_id, report, bad)
        _apply(cur, scope, waiting[middle:], source_id, report, bad)
        return
    report.accepted += len(results)
    report.people.update(result.person_id for result in results if result.person_id is not None)
    for result in results:
        report.by_type[result.rtype] = report.by_type.get(result.rtype, 0) + 1


def _ids(cur: Any, scope: Scope, items: list[_Item], source_id: int | None) -> dict[int, str]:
    """Give every item its id; returns the keys that are stored already ("found": its condition holds; "own": to be updated).

    An id that another institution's resource has is replaced by a new one.
    """
    from lianxin.record import search

    settled: dict[int, str] = {}
    for item in items:
        if item.condition and item.rtype in definitions.types():
            store.lock(cur, [f"{item.rtype}?{'&'.join(sorted(item.condition.split('&')))}"])
            found = search.match(cur, scope, item.rtype, item.condition)
            if found:
                item.id = found[0].id
                settled[ref_key(f"{item.rtype}/{item.id}")] = "found"
    keys = [ref_key(f"{item.rtype}/{item.id}") for item in items if item.id]
    cur.execute("SELECT key, institution_id FROM record_resource WHERE key = ANY(%s::bigint[])", [keys])
    stored = dict(cur.fetchall())
    seen: set[int] = set()
    for item in items:
        key = ref_key(f"{item.rtype}/{item.id}")
        if not item.id or (key in stored and stored[key] != source_id and key not in settled) or key in seen:
            item.id = str(uuid.uuid4())
            key = ref_key(f"{item.rtype}/{item.id}")
        elif key in stored:
            settled.setdefault(key, "own")
        seen.add(key)
    return settled


def _outside(
    cur: Any,
    scope: Scope,
    items: list[_Item],
    inside: dict[str, str],
    known: dict[str, str],
    learned: dict[str, str],
    report: Report,
) -> dict[str, str]:
    """References that lead out of the member: urns of members loaded before, and conditions."""
    wanted: set[str] = set()
    conditions: set[str] = set()
    for item in items:
        if b"urn:" in item.raw or b"?" in item.raw:
            for _, target, _ in bundling.REFERENCE.findall(item.raw):
                name = target.decode()
                if name in inside:
                    continue
                (wanted if name.startswith("urn:") else conditions).add(name)
    found = {name: known[name] for name in wanted | conditions if name in known}
    missing = [name for name in wanted if name not in found]
    keys = {
        ref_key(f"{rtype}/{name[len(URN) :]}"): (name, rtype)
        for name in missing
        for rtype in reversed(SHARED_TYPES)
    }
    if keys:
        cur.execute(
            "SELECT key FROM record_resource WHERE key = ANY(%s::bigint[]) AND NOT deleted", [list(keys)]
        )
        for (key,) in cur.fetchall():
            name, rtype = keys[key]
            found[name] = f"{rtype}/{name[len(URN) :]}"
    report.unresolved += len([name for name in missing if name not in found])
    found.update(bundling.resolve_conditional(cur, scope, {c for c in conditions if c not in found}))
    learned.update(found)
    return found


def _dead(
    report: Report, source: Institution | None, name: str, raw: bytes, problem: Problem, count: int
) -> None:
    """Keep what was refused, once per content and institution, with the first issue's reason."""
    issue = problem.issues[0]
    sha = hashlib.sha256(raw).hexdigest()
    letter, _ = DeadLetter.objects.update_or_create(
        sha=sha,
        institution=source,
        name=name,
        defaults={
            "channel": "load", "code": issue.code, "reason_zh": issue.text.zh, "reason_en": issue.text.en, "expression": issue.expression,
            "payload": raw, "created_at": clock.now(), "replayed_at": None,
        },
    )  # fmt: skip
    report.refused += count
    report.refusals.append(Refusal(name, issue.expression, issue.code, issue.text, letter.pk))


def replay(ids: Sequence[int]) -> Report:
    """Try dead letters again; those taken are marked, the others keep their (new) reason."""
    started = time.perf_counter()
    report = Report()
    for letter in DeadLetter.objects.filter(pk__in=ids, replayed_at__isnull=True).select_related(
        "institution"
    ):
        part = Report(members=1)
        raw = bytes(letter.payload)
        name = (
            "resource.json" if "#" in letter.name else letter.name
        )  # one resource out of a file, or the file
        take(raw, hashlib.sha256(raw).hexdigest(), name, letter.institution, part, {})
        if not part.refused:
            DeadLetter.objects.filter(pk=letter.pk).update(replayed_at=clock.now())
        report.add(part)
    report.seconds = time.perf_counter() - started
    return report


__all__ = ["Report", "load", "replay"]
