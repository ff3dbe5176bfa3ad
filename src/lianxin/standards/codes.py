"""Codes as versioned data: look up, choose, search, import.

The version in force on a day is the newest with ``effective_from`` on or before it (and ``effective_to`` after it, when
given); a concept may have its own period too. A file is imported whole or not at all, every bad row named.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from lianxin.standards import clock, pinyin, tables
from lianxin.standards.models import CodeSystem, Concept, ValueSet, ValueSetMember
from lianxin.standards.tables import Column, Problem, Row
from lianxin.standards.text import T, Text

BASE = "http://lianxin.example/cs/"
ICD10 = "http://hl7.org/fhir/sid/icd-10"
SPECIALTY = BASE + "specialty"

COLUMNS = (
    Column("code", T("代码", "Code"), required=True, aliases=("编码", "诊断编码", "疾病编码", "icd编码")),
    Column("display", T("名称", "Name"), required=True, aliases=("诊断名称", "疾病名称", "中文名称", "name")),
    Column("display_en", T("英文名称", "English name"), aliases=("英文名", "name_en")),
    Column("parent", T("上级代码", "Parent code"), aliases=("父代码",)),
    Column(
        "synonyms", T("别名", "Synonyms"), T("用分号隔开", "separated by semicolons"), aliases=("同义词",)
    ),
    Column("since", T("启用日期", "Since"), kind="date", aliases=("生效日期",)),
    Column("until", T("停用日期", "Until"), kind="date", aliases=("失效日期",)),
)


@dataclass
class ImportReport:
    """What an import did, or why it did nothing (``errors``: row, field, message)."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    removed: int = 0
    unchanged: bool = False
    dry_run: bool = False
    errors: list[tuple[int, str, Text]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when nothing was refused."""
        return not self.errors


@dataclass(frozen=True)
class Hit:
    """One search result; the smaller ``rank`` the better."""

    code: str
    label: Text
    rank: int
    props: dict[str, Any] = field(default_factory=dict)


def system_on(url: str, on: dt.date | None = None) -> CodeSystem | None:
    """The version of a code system in force on a day (default today), or None."""
    day = on or clock.today()
    return (
        CodeSystem.objects.filter(Q(effective_to__isnull=True) | Q(effective_to__gt=day), url=url)
        .filter(effective_from__lte=day)
        .order_by("-effective_from")
        .first()
    )


def _live(day: dt.date) -> Q:
    return (Q(since__isnull=True) | Q(since__lte=day)) & (Q(until__isnull=True) | Q(until__gt=day))


def concepts(url: str, on: dt.date | None = None) -> QuerySet[Concept]:
    """Concepts of the version in force on a day, in the standard's order."""
    system = system_on(url, on)
    if system is None:
        return Concept.objects.none()
    return system.concepts.filter(_live(on or clock.today())).order_by("position", "code")


def lookup(url: str, code: str, on: dt.date | None = None) -> Concept | None:
    """The concept with this code in force on a day, or None."""
    return concepts(url, on).filter(code=code).first()


def lookup_many(url: str, codes: Iterable[str], on: dt.date | None = None) -> dict[str, Concept]:
    """Concepts by code, in one statement; unknown codes are absent."""
    return {c.code: c for c in concepts(url, on).filter(code__in=set(codes))}


def label(url: str, code: str, on: dt.date | None = None) -> Text:
    """Name of a code in both languages; an unknown code stands for itself."""
    found = lookup(url, code, on)
    return found.label if found else Text(code, code)


def members(name: str, on: dt.date | None = None) -> list[Concept]:
    """Concepts of a value set in force on a day, in its order (empty when there is no such set)."""
    out: list[Concept] = []
    for member in ValueSetMember.objects.filter(value_set__name=name).order_by("position", "pk"):
        found = concepts(member.url, on)
        out.extend(found.filter(code=member.code) if member.code else found)
    return out


def choices(name: str, on: dt.date | None = None) -> list[tuple[str, Text]]:
    """(code, label) of a value set, for a form."""
    return [(c.code, c.label) for c in members(name, on)]


def allowed(name: str, code: str, on: dt.date | None = None) -> Concept | None:
    """The concept when ``code`` may be chosen from the value set on a day, else None."""
    for url in ValueSetMember.objects.filter(Q(code="") | Q(code=code), value_set__name=name).values_list(
        "url", flat=True
    ):
        if found := lookup(url, code, on):
            return found
    return None


ENOUGH = 200  # candidates looked at for each way of matching; the best of them are shown

_BEGINS = """
    SELECT id FROM ((SELECT id FROM standards_concept WHERE system_id = %(system)s AND
                     (code LIKE %(code)s OR code LIKE %(dotted)s) ORDER BY code LIMIT %(enough)s)
    UNION ALL (SELECT id FROM standards_concept WHERE system_id = %(system)s AND display LIKE %(begin)s
               ORDER BY display LIMIT %(enough)s)
    UNION ALL (SELECT id FROM standards_concept WHERE system_id = %(system)s AND initials LIKE %(begin)s
               ORDER BY initials LIMIT %(enough)s)
    UNION ALL (SELECT id FROM standards_concept WHERE system_id = %(system)s AND pinyin LIKE %(begin)s
               ORDER BY pinyin LIMIT %(enough)s)
    UNION ALL (SELECT id FROM standards_concept WHERE system_id = %(system)s AND keys <> '' AND keys LIKE %(key)s
               LIMIT %(enough)s)) AS beginning"""


def search(url: str, q: str, limit: int = 20, on: dt.date | None = None) -> list[Hit]:
    """Find concepts by code, characters, pinyin, initials, synonyms or English words, best first; all words must fit.

    What begins with the word is taken from indexes; only when that is not enough, names that contain it are scanned.
    """
    system = system_on(url, on)
    words = unicodedata.normalize("NFKC", q or "").lower().split()[:6]
    if system is None or not words:
        return []
    found = system.concepts.filter(_live(on or clock.today()))
    for word in words[1:]:
        found = found.filter(haystack__contains=word)
    begins = list(found.filter(pk__in=_beginning(system.pk, words[0])))
    if len(begins) < limit:
        wider = found.filter(haystack__contains=words[0]).exclude(pk__in=[c.pk for c in begins])
        begins += wider[: 2 * ENOUGH]
    ranked = sorted(begins, key=lambda c: (_rank(c, words[0]), len(c.display), c.position, c.code))
    return [Hit(c.code, c.label, _rank(c, words[0]), c.props) for c in ranked[:limit]]


def _beginning(system_id: int, word: str) -> list[int]:
    plain = word.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
    code = plain.upper()
    params: dict[str, str | int] = {
        "system": system_id,
        "enough": ENOUGH,
        "begin": plain + "%",
        "key": f"% {plain}%",
        "code": code + "%",
        "dotted": (f"{code[:3]}.{code[3:]}" if len(code) > 3 else code)
        + "%",  # E119 is E11.9 typed in a hurry
    }
    with connection.cursor() as cur:
        cur.execute(_BEGINS, params)
        return [row[0] for row in cur.fetchall()]


def _rank(concept: Concept, word: str) -> int:
    """How well a concept fits a word: 0 is the code itself, 9 a piece of its pinyin."""
    code, english = concept.code.lower(), concept.display_en.lower()
    display = concept.display.lower()
    steps = (
        word in (code, code.replace(".", "")),
        word in (display, english) or f" {word} " in concept.keys,
        code.startswith(word) or code.replace(".", "").startswith(word),
        display.startswith(word) or f" {word}" in concept.keys,
        concept.initials == word,
        concept.pinyin.startswith(word),
        concept.initials.startswith(word),
        english.startswith(word) or f" {word}" in english,
        word in display,
    )
    return next((n for n, fits in enumerate(steps) if fits), len(steps))


def import_codes(
    file: str | Path | bytes | BinaryIO,
    url: str,
    version: str,
    effective_from: dt.date,
    *,
    name: str = "",
    title: str = "",
    title_en: str = "",
    source: str = "",
    effective_to: dt.date | None = None,
    dry_run: bool = False,
) -> ImportReport:
    """Import one version of a code system from CSV or XLSX; the same content again changes nothing.

    Columns: code, display, display_en, parent, since, until (or their Chinese headings); any other column becomes a
    property. A version that exists is brought to the file's content. With any bad row nothing is written.
    """
    report = ImportReport(dry_run=dry_run)
    table = tables.read(file, COLUMNS)
    problems = table.problems
    report.rows = len(table.rows)
    if not url or not version:
        problems.append(
            Problem(0, "version", T("请填写代码系统地址和版本。", "Give the code system's url and version."))
        )
    if not problems and not table.rows:
        problems.append(Problem(0, "", T("没有数据行。", "There are no rows.")))
    wanted = _build(table.rows, problems)
    problems += _clash(url, version, effective_from)
    report.errors = tables.in_order(problems)
    if report.errors:
        return report
    digest = content_hash(wanted)
    held = CodeSystem.objects.filter(url=url, version=version).first()
    about = {
        "name": name or (held.name if held else url.rstrip("/").rsplit("/", 1)[-1]),
        "title": title or (held.title if held else name or url),
        "title_en": title_en or (held.title_en if held else ""),
        "source": source or (held.source if held else ""),
        "effective_from": effective_from,
        "effective_to": effective_to,
    }
    if held and held.content_hash == digest and all(getattr(held, k) == v for k, v in about.items()):
        report.unchanged = True
        return report
    with transaction.atomic():
        if held is None:
            held = CodeSystem(url=url, version=version)
        for key, value in about.items():
            setattr(held, key, value)
        held.content_hash, held.imported_at = digest, clock.now()
        held.save()
        _write(held, wanted, report)
        if dry_run:
            transaction.set_rollback(True)
    return report


def _clash(url: str, version: str, effective_from: dt.date) -> list[Problem]:
    other = CodeSystem.objects.filter(url=url, effective_from=effective_from).exclude(version=version).first()
    if other is None:
        return []
    message = T(
        "版本{v}已从同一天起生效，请改用其他生效日期。",
        "Version {v} holds from the same day; choose another day.",
    ).format(v=other.version)
    return [Problem(0, "effective_from", message)]


def _build(rows: Sequence[Row], problems: list[Problem]) -> dict[str, Concept]:
    """Concepts by code, checking each row: length, period, doubles, unknown parents."""
    wanted: dict[str, Concept] = {}
    lines: dict[str, int] = {}
    for position, row in enumerate(rows):
        code = row["code"]
        if not code or not row["display"]:
            continue  # already reported as required
        if code in wanted:
            problems.append(
                Problem(
                    row.number, "code",
                    T("代码{c}与第{n}行重复，请删除其一。", "Code {c} stands in row {n} already; delete one.").format(
                        c=code, n=lines[code]
                    ),
                )
            )  # fmt: skip
            continue
        for name in ("code", "display", "display_en", "parent"):
            longest = getattr(Concept._meta.get_field(name), "max_length", 0)
            if len(row[name]) > longest:
                problems.append(
                    Problem(row.number, name, T("超过{n}个字符，请缩短。", "Longer than {n} characters; shorten it.")
                            .format(n=longest))
                )  # fmt: skip
        since, until = row["since"] or None, row["until"] or None
        if since and until and until < since:
            problems.append(
                Problem(row.number, "until", T("停用日期早于启用日期。", "The end is before the beginning."))
            )
        full, initials = pinyin.term_keys(row["display"])
        wanted[code] = Concept(
            code=code,
            display=row["display"],
            display_en=row["display_en"],
            parent=row["parent"],
            pinyin=full[:600],
            initials=initials[:300],
            keys=_keys(row["synonyms"]),
            position=position,
            since=since,
            until=until,
            props={k: _property(v) for k, v in row.extra.items()},
        )
        lines[code] = row.number
        wanted[code].haystack = _haystack(wanted[code])
    for code, concept in wanted.items():
        if concept.parent and concept.parent not in wanted:
            problems.append(
                Problem(
                    lines[code], "parent",
                    T("上级代码{p}不在本文件中，请补充该行或更正。", "The parent {p} is not in this file; add it or correct it.")
                    .format(p=concept.parent),
                )
            )  # fmt: skip
    return wanted


def _keys(synonyms: str) -> str:
    """Search keys of synonyms separated by semicolons: each one, its pinyin, its initials."""
    names = [n for n in re.split(r"[;;]", synonyms.lower()) if n.strip()]
    keys = dict.fromkeys(
        k.replace(" ", "") for n in names for k in (n, pinyin.term(n), pinyin.term_initials(n))
    )
    return f" {' '.join(k for k in keys if k)} " if keys else ""


def _haystack(c: Concept) -> str:
    parts = (c.code, c.code.replace(".", ""), c.display, c.display_en, c.initials, c.pinyin, c.keys)
    return "\n".join(p.lower() for p in parts if p)


def _property(text: str) -> Any:
    value = tables.truth(text) if text.lower() in ("true", "false", "是", "否") else None
    return text if value is None else value


_COMPARED = (
    "display",
    "display_en",
    "parent",
    "pinyin",
    "initials",
    "keys",
    "position",
    "since",
    "until",
    "props",
)


def content_hash(wanted: dict[str, Concept]) -> str:
    """SHA-256 over everything a version says."""
    digest = hashlib.sha256()
    for code in wanted:
        digest.update(
            json.dumps([code, *(getattr(wanted[code], k) for k in _COMPARED)], default=str).encode()
        )
    return digest.hexdigest()


def _write(system: CodeSystem, wanted: dict[str, Concept], report: ImportReport) -> None:
    held = {c.code: c for c in system.concepts.all()}
    fresh, changed = [], []
    for code, concept in wanted.items():
        concept.system = system
        old = held.get(code)
        if old is None:
            fresh.append(concept)
        elif any(getattr(old, k) != getattr(concept, k) for k in _COMPARED):
            concept.pk = old.pk
            changed.append(concept)
    gone = [c.pk for code, c in held.items() if code not in wanted]
    Concept.objects.filter(pk__in=gone).delete()
    Concept.objects.bulk_create(fresh, batch_size=2000)
    Concept.objects.bulk_update(changed, list(_COMPARED), batch_size=500)
    report.created, report.updated, report.removed = len(fresh), len(changed), len(gone)


def load_shipped() -> int:
    """Load the shipped tables (see `lianxin.standards.loader`)."""
    from lianxin.standards import loader  # it imports this module

    return loader.load_shipped()


def set_value_set(name: str, title: str, title_en: str, entries: Iterable[tuple[str, str]]) -> ValueSet:
    """Create or bring a value set to these (url, code) entries; an empty code takes the whole system."""
    wanted = list(dict.fromkeys(entries))
    with transaction.atomic():
        held, _ = ValueSet.objects.update_or_create(
            name=name, defaults={"title": title, "title_en": title_en}
        )
        if list(held.members.order_by("position").values_list("url", "code")) != wanted:
            held.members.all().delete()
            ValueSetMember.objects.bulk_create(
                ValueSetMember(value_set=held, url=url, code=code, position=n)
                for n, (url, code) in enumerate(wanted)
            )
    return held
