"""The network by spreadsheet: institutions, departments, people with their posts, out and in.

A file (XLSX or CSV) is taken whole or not at all: every bad row is named with its field and cure, `dry_run` shows what
would happen. Rows are matched by code; a column the file does not have is left as it is, an empty cell clears.
`import_rows` is the same door for programs (scenarios stand their consortia up through it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from django.db import DatabaseError, models, transaction

from lianxin.network import sheet_rules
from lianxin.network.columns import KINDS
from lianxin.network.models import Department, Institution, Post, Practitioner
from lianxin.network.sheet_rules import Plan
from lianxin.standards import tables
from lianxin.standards.tables import Problem, Row, Table
from lianxin.standards.text import T, Text


@dataclass
class SheetReport:
    """What an import did (or, with ``dry_run``, would do), or why it did nothing: ``errors`` are (row, field, message)."""

    kind: str
    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    dry_run: bool = False
    errors: list[tuple[int, str, Text]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when nothing was refused."""
        return not self.errors


def template_workbook(kind: str) -> bytes:
    """An empty workbook with headings and a row that explains each column."""
    title, columns = KINDS[kind]
    return tables.write_xlsx(str(title), columns)


def export_workbook(kind: str, queryset: models.QuerySet | None = None) -> bytes:
    """All rows (or those of ``queryset``) as XLSX, in the form that `import_workbook` reads back."""
    title, columns = KINDS[kind]
    return tables.write_xlsx(str(title), columns, _export_rows(kind, queryset))


def export_csv(kind: str, queryset: models.QuerySet | None = None) -> bytes:
    """The same as UTF-8 CSV."""
    return tables.write_csv(KINDS[kind][1], _export_rows(kind, queryset))


def import_workbook(
    file: str | Path | bytes | BinaryIO,
    kind: str,
    *,
    dry_run: bool = False,
    within: frozenset[int] | None = None,
) -> SheetReport:
    """Import an XLSX or CSV file. ``within`` limits it to these institution ids (an institution's own administrator)."""
    return _import(tables.read(file, KINDS[kind][1]), kind, dry_run, within)


def import_rows(kind: str, rows: Iterable[dict[str, Any]], *, dry_run: bool = False) -> SheetReport:
    """Import rows given as dictionaries by column name; row numbers in errors count from 1."""
    names = [c.name for c in KINDS[kind][1]]
    table = Table()
    for number, values in enumerate(rows, start=1):
        for name in values.keys() - set(names):
            table.problems.append(Problem(number, name, T("没有这一列。", "There is no such column.")))
        table.headings |= values.keys()
        table.rows.append(Row(number, dict(values)))
    return _import(table, kind, dry_run, None)


def _import(table: Table, kind: str, dry_run: bool, within: frozenset[int] | None) -> SheetReport:
    report = SheetReport(kind, rows=len(table.rows), dry_run=dry_run)
    problems = list(table.problems)
    if not problems and not table.rows:
        problems.append(Problem(0, "", T("没有数据行。", "There are no rows.")))
    try:
        with transaction.atomic():
            plan = _PLANS[kind](table, problems, within)
            if not problems:
                _carry_out(plan, report)
            if problems or dry_run:
                transaction.set_rollback(True)
    except (
        DatabaseError
    ) as error:  # what the rules above did not foresee the database refused: nothing was written
        reason = str(error).splitlines()[0]
        problems.append(Problem(0, "", T("数据库拒绝：{e}", "The database refused: {e}").format(e=reason)))
    report.errors = tables.in_order(problems)
    if problems:
        report.created = report.updated = report.unchanged = 0
    return report


def _carry_out(plan: Plan, report: SheetReport) -> None:
    """Write in order: each wave may refer to the one before."""
    for wave in plan.waves:
        fresh = [row for row in wave.rows if row.pk is None]
        changed = [row for row in wave.rows if row.pk is not None]
        for row in fresh:
            for name in wave.links:  # an object saved by an earlier wave has its key only now
                setattr(row, name, getattr(row, name))
        wave.model._default_manager.bulk_create(fresh, batch_size=1000)
        if changed:
            wave.model._default_manager.bulk_update(changed, wave.fields, batch_size=500)
        report.created += len(fresh)
        report.updated += len(changed)
    report.unchanged = plan.unchanged


_PLANS = {
    "institutions": sheet_rules.institutions,
    "departments": sheet_rules.departments,
    "people": sheet_rules.people,
}


def _export_rows(kind: str, queryset: models.QuerySet | None) -> Iterable[Sequence[Any]]:
    names = [c.name for c in KINDS[kind][1]]
    if kind == "institutions":
        for inst in queryset if queryset is not None else Institution.objects.select_related("parent"):
            own = {"parent": inst.parent.code if inst.parent else "", "active": "是" if inst.active else "否"}
            yield [own[n] if n in own else getattr(inst, n) for n in names]
    elif kind == "departments":
        for dep in queryset if queryset is not None else Department.objects.select_related("institution"):
            own = {"institution": dep.institution.code, "active": "是" if dep.active else "否"}
            yield [own[n] if n in own else getattr(dep, n) for n in names]
    else:
        yield from _people_rows(names, queryset)


def _people_rows(names: list[str], queryset: models.QuerySet | None) -> Iterable[Sequence[Any]]:
    people = queryset if queryset is not None else Practitioner.objects.all()
    posts = models.Prefetch(
        "posts",
        Post.objects.select_related("institution", "department").order_by("since", "pk"),
        to_attr="held",
    )
    for person in people.prefetch_related(posts):
        for post in person.held or [None]:
            own: dict[str, Any] = {
                "institution": post.institution.code if post else "",
                "department": post.department.code if post and post.department else "",
                "role": post.role if post else "",
                "since": post.since if post else None,
                "until": post.until if post else None,
            }
            yield [own[n] if n in own else getattr(person, n) for n in names]
