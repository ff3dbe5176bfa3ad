"""Quality assessments and validity days as tables: out in the form they come in, in whole or not at all with every bad row named."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from lianxin.clinical.recognition import knowing, marks
from lianxin.clinical.recognition.models import KINDS, MARKS, Assessment, Group, Term
from lianxin.network.models import Consortium, Institution
from lianxin.standards import clock, tables
from lianxin.standards.tables import Column, Problem
from lianxin.standards.text import T, Text

ASSESSMENTS = (
    Column("institution", T("机构代码", "Institution code"), T("本医共体成员", "a member of the consortium"), required=True, example="TT-RMYY"),
    Column("item", T("项目组或类别", "Item group or kind"), T("项目组代码，或 ct、mr、xray、ultrasound、ecg、laboratory", "code of a group, or a kind"), required=True, example="LAB-CBC"),
    Column("year", T("年度", "Year"), T("质评年度", "year of the assessment"), required=True, kind="number", example="2026"),
    Column("organiser", T("组织方", "Organiser"), T("质控组织", "who ran it"), required=True, example="省临床检验中心"),
    Column("reach", T("标识范围", "Reach of the mark"), T("national、province、city、county 或 consortium", "national, province, city, county or consortium"), required=True, example="province"),
    Column("passed", T("合格", "Passed"), T("是或否", "yes or no"), required=True, example="是"),
    Column("effective_from", T("生效日", "From"), T("首日", "first day"), required=True, kind="date", example="2026-01-01"),
    Column("effective_until", T("失效日", "Until"), T("当日起不再有效，可空", "no longer from this day; optional"), kind="date", example="2027-01-01"),
    Column("source", T("文件", "Document"), T("文号或通报名称", "the document"), required=True, example="浙临检〔2026〕3号"),
)  # fmt: skip
TERMS = (
    Column("code", T("项目组代码", "Group code"), T("须已存在", "must exist"), required=True, example="LAB-CBC"),
    Column("name", T("名称", "Name"), T("仅供核对", "for checking only")),
    Column("days", T("有效天数", "Valid days"), T("1 至 3650", "1 to 3650"), required=True, kind="number", example="7"),
    Column("effective_from", T("生效日", "From"), T("首日", "first day"), required=True, kind="date", example="2026-01-01"),
    Column("source", T("文件", "Document"), T("文号", "the document"), required=True, example="台医共体〔2026〕8号"),
)  # fmt: skip
Problems = list[tuple[int, str, Text]]


def region_of(institution: Institution, reach: str) -> str:
    """The division that a mark of this reach names at an institution ("" for national and consortium marks)."""
    digits = {"province": 2, "city": 4, "county": 6}.get(reach)
    return institution.division[:digits].ljust(6, "0") if digits and institution.division else ""


def assessment(
    institution: Institution, item: str, year: int, organiser: str, reach: str, passed: bool, start: dt.date, until: dt.date | None,
    source: str, consortium: Consortium | None,
) -> tuple[Assessment | None, dict[str, Text]]:  # fmt: skip
    """A row made of words, or what is wrong with them."""
    errors: dict[str, Text] = {}
    group = Group.objects.filter(code=item).first()
    if group is None and item not in KINDS:
        errors["item"] = T(
            "没有这个项目组或类别，请核对代码。", "There is no such group or kind; check the code."
        )
    if reach not in MARKS:
        errors["reach"] = T(
            "范围应为 national、province、city、county 或 consortium。",
            "Give national, province, city, county or consortium.",
        )
    region = region_of(institution, reach)
    if reach in ("province", "city", "county") and not re.fullmatch(r"[0-9]{6}", region):
        errors["reach"] = T(
            "该机构未登记行政区划，请先补上。", "The institution has no division; add it first."
        )
    if not 2000 <= year <= 2100:
        errors["year"] = T("年度应在 2000 至 2100 之间。", "Give a year between 2000 and 2100.")
    if until is not None and until <= start:
        errors["effective_until"] = T("失效日须晚于生效日。", "It must end after it begins.")
    if errors:
        return None, errors
    return Assessment(
        institution=institution, group=group, kind="" if group else item, year=year, organiser=organiser[:120], reach=reach, region=region,
        consortium=consortium if reach == "consortium" else None, passed=passed, effective_from=start, effective_until=until, source=source[:300],
    ), {}  # fmt: skip


@transaction.atomic
def keep(row: Assessment) -> int:
    """Write an assessment (the same one again is replaced) and mark the results it speaks of; how many changed."""
    known = Assessment.objects.filter(
        institution=row.institution, group=row.group, kind=row.kind, year=row.year, reach=row.reach, organiser=row.organiser
    ).first()  # fmt: skip
    since = min(row.effective_from, known.effective_from) if known else row.effective_from
    row.pk = known.pk if known else None
    row.save()
    start, row.effective_from = row.effective_from, since
    changed = marks.remark(row)
    row.effective_from = start
    return changed


@transaction.atomic
def take_assessments(
    content: bytes, members: Iterable[int], consortium: Consortium | None
) -> tuple[int, Problems]:
    """Take a table of assessments of ``members``: how many rows, or every problem (then nothing is written)."""
    table = tables.read(content, ASSESSMENTS)
    problems, made, allowed = list(table.problems), [], set(members)
    for row in table.rows if not problems else []:
        where = Institution.objects.filter(code=row["institution"], pk__in=allowed).first()
        passed = tables.truth(row["passed"])
        if where is None:
            problems.append(
                Problem(
                    row.number,
                    "institution",
                    T("不是本医共体的成员机构。", "Not a member of the consortium."),
                )
            )
            continue
        if passed is None:
            problems.append(Problem(row.number, "passed", T("请填“是”或“否”。", "Say yes or no.")))
            continue
        one, errors = assessment(
            where, row["item"], int(row["year"] or 0), row["organiser"], row["reach"], passed, row["effective_from"], row["effective_until"] or None,
            row["source"], consortium,
        )  # fmt: skip
        problems += [Problem(row.number, name, words) for name, words in errors.items()]
        if one is not None:
            made.append(one)
    if problems:
        return 0, tables.in_order(problems)
    for one in made:
        keep(one)
    return len(made), []


def give_assessments(rows: Iterable[Assessment]) -> bytes:
    """Assessments as a workbook that can be taken in again."""
    lines = [
        (a.institution.code, a.group.code if a.group else a.kind, a.year, a.organiser, a.reach, "是" if a.passed else "否", a.effective_from,
         a.effective_until, a.source) for a in rows
    ]  # fmt: skip
    return tables.write_xlsx("质评与标识", ASSESSMENTS, lines)


@transaction.atomic
def take_terms(content: bytes, consortium: Consortium) -> tuple[int, Problems]:
    """Take a table of validity days for a consortium: how many rows, or every problem (then nothing is written)."""
    table = tables.read(content, TERMS)
    problems, made = list(table.problems), []
    groups = {g.code: g for g in Group.objects.filter(active=True)}
    for row in table.rows if not problems else []:
        group, days = groups.get(row["code"]), row["days"]
        if group is None:
            problems.append(Problem(row.number, "code", T("没有这个项目组。", "There is no such group.")))
        elif days is None or days != int(days) or not 1 <= days <= 3650:
            problems.append(
                Problem(row.number, "days", T("天数应为 1 至 3650 的整数。", "Give whole days, 1 to 3650."))
            )
        else:
            made.append((group, int(days), row["effective_from"], row["source"]))
    if problems:
        return 0, tables.in_order(problems)
    for group, days, start, source in made:
        set_term(group, consortium, days, start, source)
    return len(made), []


def set_term(group: Group, consortium: Consortium, days: int, start: dt.date, source: str) -> Term:
    """A consortium's own validity days of a group from a day on. Raises ValidationError."""
    if not 1 <= days <= 3650 or not source.strip():
        raise ValidationError(T("天数应为 1 至 3650，并注明文件。", "Give 1 to 3650 days and the document."))
    term, _ = Term.objects.update_or_create(
        group=group,
        consortium=consortium,
        effective_from=start,
        defaults={"valid_days": days, "source": source[:300]},
    )
    knowing.forget()
    return term


def give_terms(consortium: Consortium | None) -> bytes:
    """The days in force for a consortium as a workbook that can be taken in again."""
    known, on = knowing.known(), clock.today()
    mine = frozenset({consortium.pk}) if consortium else frozenset()
    lines: list[Any] = []
    for group in sorted(known.groups.values(), key=lambda g: (g.kind, g.code)):
        window = known.window(group.pk, mine, on)
        if window is not None:
            lines.append((group.code, group.name, window.days, window.since, window.source))
    return tables.write_xlsx("互认项目与时限", TERMS, lines)
