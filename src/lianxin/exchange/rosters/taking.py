"""Registering a file of people: in chunks, each one transaction; a chunk that is refused is taken line by line.

The same file again changes nothing.  Numbers that messages or FHIR already feed are left to them (``fed``): they are fresher.
Large files go the way of bulk loads (:mod:`lianxin.index.batch`).
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from django.db import DataError, connection, transaction

from lianxin.access import audit
from lianxin.access.errors import AccessError, Invalid, NotPermitted
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate
from lianxin.exchange.ihe import domains, identifiers
from lianxin.exchange.rosters import reading
from lianxin.exchange.rosters.reading import Line
from lianxin.exchange.v2 import patients as numbers
from lianxin.index import registry
from lianxin.index.form import Registration
from lianxin.network.models import Institution
from lianxin.record import rows, store, validate
from lianxin.record.problems import Problem
from lianxin.record.store import Write
from lianxin.standards.text import T, Text

CHUNK = 200
LARGE = 20_000
"""Lines from which a file is loaded in bulk."""
SHOWN = 1_000


@dataclass
class Report:
    """What became of a file: how many lines, by outcome, and why lines were refused (the first thousand)."""

    lines: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    refusals: list[tuple[int, Text]] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    def refuse(self, number: int, why: Text) -> None:
        """One more line that was not taken."""
        self.refused += 1
        if len(self.refusals) < SHOWN:
            self.refusals.append((number, why))


def take(
    scope: Scope,
    path: Path,
    institution: Institution,
    *,
    system: str = "",
    mapping: dict[str, str] | None = None,
    tell: Callable[[int], None] = lambda n: None,
) -> Report:
    """Register everybody in a file for ``institution``; permission ``register_person``.

    ``system``: the identifier domain of its local numbers (default: one made from the institution's code).
    Raises Unreadable for a file that cannot be understood, NotPermitted for another's institution.
    """
    scope.demand("register_person")
    if not scope.everything and institution.pk not in scope.institution_ids:
        raise NotPermitted(T("只能为本机构导入名册。", "Lists are taken for one's own institution only."))
    domain = system or domains.own_system(institution.pk)
    report = Report()
    if reading.kind_of(path) == "csv":
        understood = reading.sheet(path, mapping)
        report.columns, report.ignored = understood.columns, understood.ignored
    found = reading.lines(path, institution.pk, domain, mapping)
    head = list(islice(found, LARGE))
    if len(head) == LARGE and reading.kind_of(path) == "csv":
        _bulk(scope, _chained(head, found), institution, report, domain)
    else:
        for chunk in _chunks(_chained(head, found)):
            _chunk(scope, institution, chunk, report, domain)
            tell(report.lines)
    report.refusals.sort(key=lambda r: r[0])
    detail = {"lines": report.lines, "refused": report.refused, **report.outcomes}
    audit.write(scope, "create", what=f"roster of {institution.code}", detail=detail)
    return report


def _chained(head: Iterable[Line], rest: Iterator[Line]) -> Iterator[Line]:
    yield from head
    yield from rest


def _chunks(found: Iterator[Line]) -> Iterator[list[Line]]:
    while chunk := list(islice(found, CHUNK)):
        yield chunk


def _chunk(scope: Scope, institution: Institution, chunk: list[Line], report: Report, domain: str) -> None:
    report.lines += len(chunk)
    good: list[Line] = []
    for line in chunk:
        if line.refusal is not None:
            report.refuse(line.number, line.refusal)
        else:
            good.append(line)
    try:
        with transaction.atomic():
            outcomes = _register(scope, institution, good, domain)
    except (AccessError, Problem, DataError):
        for line in good:
            _alone(scope, institution, line, report, domain)
        return
    report.outcomes.update(outcomes)


def _alone(scope: Scope, institution: Institution, line: Line, report: Report, domain: str) -> None:
    try:
        with transaction.atomic():
            report.outcomes.update(_register(scope, institution, [line], domain))
    except (AccessError, Problem, DataError) as failure:
        report.refuse(line.number, why(failure))


def why(failure: Exception) -> Text:
    """A refusal of another room as one line's reason."""
    if isinstance(failure, Problem):
        issue = failure.issues[0]
        return T(f"{issue.expression} {issue.text.zh}".strip(), f"{issue.expression} {issue.text.en}".strip())
    if isinstance(failure, Invalid):
        return next(iter(failure.errors.values()), failure.message)
    if isinstance(failure, AccessError):
        return failure.message
    return T("含有数据库不接受的取值。", "A value is out of range.")


def _register(scope: Scope, institution: Institution, lines: list[Line], domain: str) -> Counter[str]:
    """Register lines in the caller's transaction; how many of each outcome."""
    out: Counter[str] = Counter()
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        regs = [line.registration for line in lines if line.registration is not None]
        mine = [r for r in regs if not _fed(cur, institution.pk, domain, r)]
        out["fed"] += len(regs) - len(mine)
        for done in registry.register_many(scope, mine, cursor=cur) if mine else []:
            out[done.decision] += 1
        for line in lines:
            if line.patient is not None:
                out[_patient(cur, scope, institution, line.patient)] += 1
    return +out


def _fed(cur: Any, institution_id: int, domain: str, reg: Registration) -> bool:
    """Whether the institution feeds this number by messages or FHIR already."""
    cur.execute(
        "SELECT 1 FROM record_resource WHERE rtype = 'Patient' AND institution_id = %s AND NOT deleted LIMIT 1",
        [institution_id],
    )
    if cur.fetchone() is None:
        return False
    return any(h.patient_id for h in identifiers.holders(cur, domain, reg.local_id, {institution_id}))


def _patient(cur: Any, scope: Scope, institution: Institution, given: dict[str, Any]) -> str:
    """Store a Patient under its local number: made, brought up to date, or found unchanged."""
    resource = {k: v for k, v in given.items() if k not in ("id", "meta")}
    issues, _ = validate.check(resource)
    if issues:
        raise Problem(422, *issues)
    number = numbers.local_number([i for i in resource.get("identifier", []) if i.get("value")])
    if number is None:
        raise Invalid(
            {
                "identifier": T(
                    "Patient 没有带 system 的院内号 identifier。",
                    "The Patient has no identifier with a system and a local number.",
                )
            }
        )
    store.lock(cur, [f"Patient#{number[1]}"])
    held = identifiers.holders(cur, *number, {institution.pk})
    known = next((h.patient_id for h in held if h.patient_id), "")
    old = identifiers.bodies_of(cur, [known]).get(known) if known else None
    if old is not None and {k: v for k, v in old.items() if k not in ("id", "meta")} == resource:
        return "same_source"
    pid = known if old is not None else str(uuid.uuid4())
    method = "update" if old is not None else "create"
    wanted = Write(method, "Patient", pid, {**resource, "id": pid}, trusted=True)
    result = store.apply(cur, scope, [wanted], source_institution_id=institution.pk)[0]
    gate.note(cur, scope, method, [result])
    return "updated" if old is not None else "new"


def _bulk(scope: Scope, found: Iterator[Line], institution: Institution, report: Report, domain: str) -> None:
    from lianxin.index.batch import load

    def regs() -> Iterator[Registration]:
        for line in found:
            report.lines += 1
            if line.refusal is not None:
                report.refuse(line.number, line.refusal)
            elif line.registration is not None:
                yield line.registration

    done = load.load(scope, regs(), institution=institution)
    report.outcomes.update({"new": done.new, "same_source": done.same, "updated": done.updated})
    for place, reason in done.bad:
        report.refuse(0, T(f"{place}: {reason}", f"{place}: {reason}"))
    report.refused += done.refused - len(done.bad)
