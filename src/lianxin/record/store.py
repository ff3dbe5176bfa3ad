"""Writing and reading single resources: versions, history, whose record they belong to.

``apply`` takes any number of writes and makes them in the caller's transaction: locks, conditional creates, versions,
persons, rights, exact text, index rows.  It refuses with :class:`Problem`; nothing is written then (roll back).
"""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lianxin.access import relationships
from lianxin.access.scope import Scope
from lianxin.record import (
    after,
    bodies,
    definitions,
    extract,
    persons,
    rows,
    text,
    validate,
    visible,
    words,
)
from lianxin.record.definitions import OPEN_TYPES, types
from lianxin.record.keys import hash64, ref_key
from lianxin.record.problems import Problem, refuse
from lianxin.record.rows import Stored
from lianxin.standards import clock

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")


@dataclass(slots=True)
class Write:
    """One wanted change. ``raw`` is the exact text (made from ``resource`` when absent); ``place`` names it in refusals."""

    method: str  # create | update | delete
    rtype: str
    id: str | None = None
    resource: dict[str, Any] | None = None
    raw: bytes | None = None
    if_match: str | None = None
    if_none_exist: str | None = None
    if_none_match: str | None = None
    place: str = ""
    trusted: bool = False  # made by the platform itself: not validated again


@dataclass(slots=True)
class Result:
    """What became of a write, or what was read. ``status`` is the HTTP status."""

    status: int
    rtype: str
    id: str
    version: int
    updated: datetime
    body: str = ""
    person_id: int | None = None
    rid: int = 0
    deleted: bool = False


@dataclass(slots=True)
class _Row:
    rid: int
    key: int
    version: int
    deleted: bool
    person_id: int | None
    institution_id: int | None
    platform: bool
    updated: datetime


@dataclass(slots=True)
class _Job:
    write: Write
    key: int
    id: str
    old: _Row | None = None
    patient: tuple[str, str] | None = None
    stored: Stored | None = None
    result: Result | None = field(default=None)


def moment() -> datetime:
    """Now, to the millisecond that ``meta.lastUpdated`` shows."""
    now = clock.now()
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def stamp(instant: datetime) -> str:
    """An instant as ``meta.lastUpdated``."""
    return instant.astimezone(clock.ZONE).isoformat(timespec="milliseconds")


def opened(rtype: str, body: bytes) -> str:
    """A stored body as its exact text ("" for a deletion)."""
    return bodies.unpack(body).decode()


def lock(cur: Any, names: Sequence[str]) -> None:
    """Take transaction locks on names, always in the same order, so that two writers cannot wait for each other."""
    if names:
        keys = sorted({hash64(name) for name in names})
        cur.execute("SELECT pg_advisory_xact_lock(k) FROM unnest(%s::bigint[]) AS t(k)", [keys], prepare=True)


def apply(
    cur: Any,
    scope: Scope,
    writes: Sequence[Write],
    *,
    source_institution_id: int | None = None,
    platform: bool = False,
) -> list[Result]:
    """Make ``writes`` inside the caller's transaction; results in the same order.

    ``source_institution_id`` is the institution the data comes from (default: the scope's own).  ``platform`` marks
    resources the platform publishes: only the platform may change those.
    """
    cur = rows.server_cursor(cur)
    source = source_institution_id if source_institution_id is not None else scope.institution_id
    jobs = [_job(write) for write in writes]
    _conditions(cur, scope, jobs)
    active = [job for job in jobs if job.result is None]
    _load(cur, active)
    hidden = _hidden(cur, scope, active, platform)
    now = moment()
    for job in active:
        try:
            _admit(job, scope, now, platform, job.key in hidden)
        except Problem as problem:
            raise (problem.at(job.write.place) if job.write.place else problem) from None
    active = [job for job in active if job.result is None]
    people = persons.assign(
        cur, scope, [(j.write, j.id, j.patient) for j in active if j.patient], source, platform
    )
    _rights(cur, scope, active, people, platform)
    _store(cur, active, people, now, source, platform)
    if not platform:
        _within_token(cur, scope, active)
        _tell(cur, scope, active)
    return [job.result for job in jobs if job.result is not None]


def _job(write: Write) -> _Job:
    if write.rtype not in types():
        raise refuse(
            404, "not-supported", f"没有资源类型 {write.rtype}", f"there is no resource type {write.rtype}"
        )
    if write.method == "create":
        write.id = write.id or str(uuid.uuid4())
    if not write.id or not ID.fullmatch(write.id):
        raise refuse(
            400,
            "value",
            "id 只能用字母、数字、- 和 .，最长 64",
            "an id has letters, digits, - and . only, at most 64",
            f"{write.rtype}.id",
        )
    if write.method != "delete" and write.resource is None:
        write.resource = text.parse(write.raw or b"")
    return _Job(write, ref_key(f"{write.rtype}/{write.id}"), write.id)


def _conditions(cur: Any, scope: Scope, jobs: list[_Job]) -> None:
    """Take every lock the batch needs, then settle conditional creates (searching after the lock, in a new statement)."""
    from lianxin.record import search

    names = [
        f"{j.write.rtype}?{'&'.join(sorted((j.write.if_none_exist or '').split('&')))}"
        for j in jobs
        if j.write.if_none_exist
    ]
    names += [f"{j.write.rtype}/{j.id}" for j in jobs if j.write.method != "create"]
    lock(cur, names)
    settled: dict[str, _Job] = {}
    for job in jobs:
        condition = job.write.if_none_exist
        if not condition:
            continue
        name = f"{job.write.rtype}?{condition}"
        if name in settled:
            raise refuse(
                400,
                "duplicate",
                "同一事务中有两个相同条件的创建，请合并",
                "two creates of this transaction have the same condition; merge them",
                job.write.place,
            )
        settled[name] = job
        found = search.match(cur, scope, job.write.rtype, condition, limit=2)
        if len(found) > 1:
            raise refuse(
                412,
                "multiple-matches",
                "条件匹配到多个资源，请把条件写得更精确",
                "the condition matches several resources; make it more exact",
                job.write.place,
            )
        if found:
            one = found[0]
            job.id = one.id
            job.result = Result(
                200, one.rtype, one.id, one.version, one.updated, one.body, one.person_id, one.rid
            )


def _load(cur: Any, jobs: list[_Job]) -> None:
    keys = [job.key for job in jobs]
    if len(set(keys)) != len(keys):
        twice = next(job for job in jobs if keys.count(job.key) > 1)
        raise refuse(
            400,
            "duplicate",
            f"{twice.write.rtype}/{twice.id} 在同一请求中出现多次",
            f"{twice.write.rtype}/{twice.id} occurs more than once",
            twice.write.place,
        )
    if not keys:
        return
    cur.execute(
        "SELECT rid, key, version, deleted, person_id, institution_id, platform, updated FROM record_resource"
        " WHERE key = ANY(%s::bigint[]) ORDER BY key FOR UPDATE",
        [keys],
        prepare=True,
    )
    found = {row[1]: _Row(*row) for row in cur.fetchall()}
    for job in jobs:
        job.old = found.get(job.key)


def _hidden(cur: Any, scope: Scope, jobs: list[_Job], platform: bool) -> set[int]:
    """Keys of stored resources that the writer may not see (or its token may not change): they are treated as if absent."""
    if platform:
        return set()
    found: set[int] = set()
    for rtype in {j.write.rtype for j in jobs if j.old is not None}:
        mine = [j for j in jobs if j.write.rtype == rtype and j.old is not None]
        for letter, method in (("u", "update"), ("d", "delete")):
            found |= visible.outside(
                cur, scope, rtype, [j.key for j in mine if j.write.method == method], letter
            )
        foreign = [
            j.key
            for j in mine
            if j.old is not None
            and not scope.everything
            and j.old.institution_id not in scope.institution_ids
        ]
        if foreign:
            found |= set(foreign) - visible.seen(cur, scope, rtype, foreign)
    return found


def _tell(cur: Any, scope: Scope, jobs: list[_Job]) -> None:
    """Let rooms above take part in what was written."""
    for rtype in {j.write.rtype for j in jobs if after.wanted(j.write.rtype)}:
        done = [
            (j.write.resource, j.stored.institution_id)
            for j in jobs
            if j.write.rtype == rtype and j.write.method != "delete" and j.write.resource and j.stored
        ]
        after.tell(cur, scope, rtype, done)


def _within_token(cur: Any, scope: Scope, jobs: list[_Job]) -> None:
    """What was written must lie within the token's scopes (one patient, query limits): asked of the rows as they now are."""
    if scope.client_id is None:
        return
    for rtype in {j.write.rtype for j in jobs if j.write.method != "delete"}:
        for letter, method in (("c", "create"), ("u", "update")):
            mine = [j for j in jobs if j.write.rtype == rtype and j.write.method == method]
            out = visible.outside(cur, scope, rtype, [j.key for j in mine], letter)
            job = next((j for j in mine if j.key in out), None)
            if job is not None:
                problem = refuse(
                    403,
                    "forbidden",
                    f"令牌的授权范围不含这个 {rtype}（限定的患者或条件不符）",
                    f"the token's scopes do not cover this {rtype} (another patient, or outside its limits)",
                    rtype,
                )
                raise problem.at(job.write.place) if job.write.place else problem


def _admit(job: _Job, scope: Scope, now: datetime, platform: bool, hidden: bool = False) -> None:
    """Validate a write against what is stored; settle deletes of nothing.

    A ``hidden`` resource answers as an absent one does (patients' data may be deleted by their source only, so that neither can
    be told from the other), except that its id is taken.
    """
    write, old = job.write, job.old
    closed_to_all = old is None and write.rtype not in OPEN_TYPES and not (platform or scope.everything)
    if write.method == "delete" and (hidden or closed_to_all):
        raise refuse(
            403,
            "forbidden",
            f"贵机构没有可删除的 {write.rtype}/{job.id}；只有来源机构可以删除",
            f"your institution has no {write.rtype}/{job.id} to delete; only the institution it came from may",
        )
    if old is not None and hidden and write.if_match is None:
        raise refuse(
            403,
            "forbidden",
            "不能使用这个 id，请换一个",
            "this id cannot be used; choose another",
            f"{write.rtype}.id",
        )
    if old is not None and not hidden:
        if write.method == "create":
            raise refuse(
                409,
                "conflict",
                f"{write.rtype}/{job.id} 已存在",
                f"{write.rtype}/{job.id} exists already",
                f"{write.rtype}.id",
            )
        if old.platform and not platform:
            raise refuse(
                403,
                "forbidden",
                "该资源由平台发布，只能通过业务办理改变",
                "the platform publishes this resource; it changes only through its case",
            )
        if not (platform or scope.everything or old.institution_id in scope.institution_ids):
            raise refuse(
                403,
                "forbidden",
                "只有来源机构可以修改该资源",
                "only the institution it came from may change this resource",
            )
    if write.if_none_match == "*" and old is not None and not old.deleted:
        raise refuse(412, "conflict", "该 id 已有资源", "a resource with this id exists already")
    if write.if_match is not None:
        wanted = re.fullmatch(r'(?:W/)?"?(\d+)"?', write.if_match.strip())
        if wanted is None or old is None or hidden or int(wanted[1]) != old.version:
            current = old.version if old and not hidden else 0
            raise refuse(
                412,
                "conflict",
                f"版本已变化，当前版本为 {current}；请重新读取后再改",
                f"the version has changed, it is {current} now; read again, then change",
            )
    if write.method == "delete":
        if old is None or old.deleted:
            job.result = Result(204, write.rtype, job.id, old.version if old else 0, now)
        return
    resource = write.resource
    if not isinstance(resource, dict) or resource.get("resourceType") != write.rtype:
        raise refuse(
            400,
            "structure",
            f"resourceType 应为 {write.rtype}",
            f"resourceType must be {write.rtype}",
            "resourceType",
        )
    if write.method == "update" and resource.get("id") not in (None, job.id):
        raise refuse(
            400,
            "value",
            f"资源的 id 应为 {job.id}",
            f"the resource's id must be {job.id}",
            f"{write.rtype}.id",
        )
    if not write.trusted:
        issues, _ = validate.check(resource)
        if issues:
            raise Problem(422, *issues)
    resource["id"] = job.id
    try:
        job.patient = None if write.rtype in OPEN_TYPES else extract.patient_of(resource)
    except (AttributeError, TypeError):
        job.patient = None


def _rights(
    cur: Any, scope: Scope, jobs: list[_Job], people: dict[int, persons.Place], platform: bool
) -> None:
    """A writer must see the person it writes about (relationship), or have sent that patient itself."""
    if scope.everything or platform:
        return
    if not scope.clinical:
        raise refuse(403, "forbidden", "您的岗位不能写入健康记录", "your post may not write to the record")
    wanted = {
        p.person_id for p in people.values() if not (p.new or p.institution_id in scope.institution_ids)
    }
    seen = relationships.seen(scope, sorted(wanted), cursor=cur) if wanted else set()
    for job in jobs:
        place = people.get(ref_key(f"Patient/{job.patient[0]}")) if job.patient else None
        if (
            place
            and place.person_id in wanted - seen
            and not (place.new or place.institution_id in scope.institution_ids)
        ):
            assert job.patient is not None
            problem = persons.unreachable(job.patient[0], job.patient[1])
            raise problem.at(job.write.place) if job.write.place else problem


def _store(
    cur: Any,
    jobs: list[_Job],
    people: dict[int, persons.Place],
    now: datetime,
    source: int | None,
    platform: bool,
) -> None:
    rids = rows.new_rids(cur, len(jobs)) if jobs else []
    shown = stamp(now)
    for job, rid in zip(jobs, rids, strict=True):
        write, old = job.write, job.old
        version = old.version + 1 if old else 1
        if write.method == "delete":
            assert old is not None
            job.stored = Stored(rid, job.key, write.rtype, job.id, version, now, b"", extract.Rows(), old.person_id, None,
                                old.institution_id, old.platform, True)  # fmt: skip
            job.result = Result(204, write.rtype, job.id, version, now, "", old.person_id, rid, True)
            continue
        assert write.resource is not None
        raw = write.raw if write.raw is not None else text.dumps(write.resource)
        body = text.splice(raw, job.id, version, shown)
        subj = ref_key(f"Patient/{job.patient[0]}") if job.patient else None
        place = people.get(subj) if subj is not None else None
        try:
            index = extract.index_rows(write.resource, subj if place else None)
        except (ValueError, OverflowError) as error:
            problem = refuse(
                422, "value", f"日期或数值超出范围：{error}", f"a date or number is out of range: {error}"
            )
            raise problem.at(write.place) if write.place else problem from None
        person = place.person_id if place else None
        job.stored = Stored(rid, job.key, write.rtype, job.id, version, now, bodies.pack(write.rtype, body.encode()), index, person,
                            subj if place else None, old.institution_id if old and not platform else source, platform)  # fmt: skip
        status = 201 if old is None or old.deleted else 200
        job.result = Result(status, write.rtype, job.id, version, now, body, person, rid)
    words.remember([job.stored.rows for job in jobs if job.stored])
    changed = [job.stored for job in jobs if job.old is not None and job.stored]
    if changed:
        rows.replace(cur, changed)
    rows.insert(cur, [job.stored for job in jobs if job.old is None and job.stored])


_COLUMNS = "r.rtype, r.id, r.version, r.updated, r.body, r.person_id, r.rid, r.deleted"


def _result(row: tuple[Any, ...]) -> Result:
    rtype, rid, version, updated, body, person_id, number, deleted = row
    return Result(
        410 if deleted else 200, rtype, rid, version, updated, opened(rtype, body), person_id, number, deleted
    )


def read(cur: Any, scope: Scope, rtype: str, rid: str) -> Result | None:
    """The current version (status 410 when deleted); None when there is none that the scope may see."""
    if rtype == "Patient":
        virtual = persons.virtual(cur, scope, rid)
        if virtual is not None:
            return virtual
    condition, params = visible.condition(scope, "r", rtype)
    cur.execute(
        f"SELECT {_COLUMNS} FROM record_resource r WHERE r.key = %s AND {condition}",
        [ref_key(f"{rtype}/{rid}"), *params],
    )
    row = cur.fetchone()
    return _result(row) if row and (row[0], row[1]) == (rtype, rid) else None


def vread(cur: Any, scope: Scope, rtype: str, rid: str, version: int) -> Result | None:
    """One version; rights are those of the current version."""
    found = [r for r in history(cur, scope, rtype, rid, count=1, version=version)[0] if r.version == version]
    return found[0] if found else None


def history(
    cur: Any,
    scope: Scope,
    rtype: str | None = None,
    rid: str | None = None,
    *,
    count: int = 50,
    since: datetime | None = None,
    before: tuple[datetime, int, int] | None = None,
    version: int | None = None,
) -> tuple[list[Result], tuple[datetime, int, int] | None]:
    """Versions of an instance, a type or everything, newest first, and where to go on (None: the end)."""
    condition, params = visible.condition(scope, "r", rtype)
    which, given = [condition], list(params)
    for text_, value in (
        ("v.key = %s", ref_key(f"{rtype}/{rid}") if rtype and rid else None),
        ("v.updated >= %s", since),
        ("(v.updated, v.rid, v.version) < (%s, %s, %s)", before),
        ("v.version = %s", version),
    ):
        if value is not None:
            which.append(text_)
            given += list(value) if isinstance(value, tuple) else [value]
    # Type by type: each is a short walk down the index (rtype, updated, rid), however large the record is.
    kinds = [rtype] if rtype else sorted(definitions.types())
    newest = "ORDER BY v.updated DESC, v.rid DESC, v.version DESC LIMIT %s"
    part = (
        "SELECT h.* FROM unnest(%s::text[]) AS k(rtype) CROSS JOIN LATERAL (SELECT v.rtype, v.id, v.version, v.updated, v.body,"
        " r.person_id, v.rid, v.deleted FROM {table} v JOIN record_resource r ON r.key = v.key"
        f" WHERE v.rtype = k.rtype AND {' AND '.join(which)} {newest}) h"
    )
    args = [kinds, *given, count + 1]
    cur.execute(
        f"({part.format(table='record_resource')}) UNION ALL ({part.format(table='record_history')})"
        " ORDER BY updated DESC, rid DESC LIMIT %s",
        [*args, *args, count + 1],
    )
    found = [_result(row) for row in cur.fetchall()]
    last = found[count - 1] if len(found) > count else None
    return found[:count], (last.updated, last.rid, last.version) if last else None


def delete(cur: Any, scope: Scope, rtype: str, rid: str, if_match: str | None = None) -> Result:
    """Delete one resource (idempotent): its history stays."""
    return apply(cur, scope, [Write("delete", rtype, rid, if_match=if_match)])[0]
