"""Labelled files: the kit's own, Febrl, RLdata, pseudopeople, and anybody's CSV whose headers can be recognised or are mapped.

A column that nothing is known about is ignored. A date that is no date goes to ``birth_text`` as typed: judging it is the
index's task, not the reader's.
"""

from __future__ import annotations

import csv
import datetime as dt
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from lianxin.index.form import Registration
from lianxin.index.kit import tables
from lianxin.index.match import western
from lianxin.index.match.western import Parts

_WORDS = re.compile(r"[\s_\-()（）\[\]/.:：]+")
_DATE = re.compile(r"^(\d{4})[-/.年]?(\d{1,2})[-/.月]?(\d{1,2})日?(?:[T ].*)?$")
_EIGHT = re.compile(r"^(\d{4})(\d{2})(\d{2})$")
_US = re.compile(r"^(\d{1,2})/(\d{1,2})/(\d{4})$")
_BLANKS = frozenset({"", "nan", "none", "null", "na", "n/a", "<na>", "nat", "\\n"})
_PLAIN = ("name", "family", "given", "phone", "phone2", "address", "division", "village", "card", "id_type",
          "guardian_name", "mother_name", "birth_certificate", "former_name", "birth_text")  # fmt: skip


@dataclass
class Labelled:
    """Registrations with the truth. ``people`` and ``causes`` stand beside ``registrations`` ("" = not told)."""

    registrations: list[Registration] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    institutions: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)
    """Field of the registration -> the column it was read from: what was recognised."""
    ignored: list[str] = field(default_factory=list)
    parts: list[Parts] = field(default_factory=list)
    """The same as it stands in the columns, when given name and surname have columns of their own; else empty."""
    files: list[str] = field(default_factory=list)
    """Which of two lists each row is from, when a column says so; else empty."""

    def __len__(self) -> int:
        return len(self.registrations)

    @property
    def latin(self) -> bool:
        """Whether this is a list of names in Latin letters: most rows have letters in one of the two columns, and no others."""
        return 2 * sum(western.written(p) for p in self.parts) > len(self)

    def taken(self, places: Sequence[int]) -> Labelled:
        """The rows at these positions, in this order."""
        out = Labelled(columns=self.columns, ignored=self.ignored)
        for name in ("registrations", "people", "causes", "records", "institutions", "parts", "files"):
            rows = getattr(self, name)
            setattr(out, name, [rows[i] for i in places] if rows else [])
        return out


class UnreadableFile(ValueError):
    """The file has no header that can be understood; the message says what is missing and what was seen."""


def plain(header: str) -> str:
    """A header for comparison: without case, blanks, "_", "-" and brackets."""
    return _WORDS.sub("", header.replace("\ufeff", "").casefold())


def read_csv(
    path: str | Path, mapping: Mapping[str, str] | None = None, *, limit: int | None = None
) -> Labelled:
    """Read a labelled CSV (UTF-8 or GB 18030, comma, semicolon or tab). ``mapping``: field -> column name, before all recognition.

    Raises :class:`UnreadableFile` when neither a name nor a truth column is found, OSError when it cannot be opened.
    """
    text = _decoded(Path(path).read_bytes())
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    rows = csv.reader(text.splitlines(), delimiter=delimiter)
    header = [h.strip() for h in next(rows, [])]
    return from_rows(header, rows, mapping, limit=limit)


def from_rows(
    header: list[str],
    rows: Iterable[list[Any]],
    mapping: Mapping[str, str] | None = None,
    *,
    limit: int | None = None,
) -> Labelled:
    """The same from rows in memory (values of any type; None and NaN are missing)."""
    reader = _reader(header, dict(mapping or {}))
    out = Labelled(columns=reader.columns, ignored=reader.ignored)
    codes: dict[str, int] = {}
    named = {"given", "family"} <= set(reader.columns)
    for number, row in enumerate(rows, 1):
        if not any(row):
            continue
        values = reader.values(row)
        institution = values.get("institution", "") or "1"
        code = codes.setdefault(institution, len(codes) + 1)
        registration = _registration(values, code, number)
        out.registrations.append(registration)
        if named:
            out.parts.append(_parts(values, registration))
        if "file" in reader.columns:
            out.files.append(values.get("file", ""))
        out.people.append(values.get("person", ""))
        out.causes.append(values.get("cause", ""))
        out.records.append(values.get("record_id", "") or str(number))
        out.institutions.append(institution)
        if limit is not None and len(out) >= limit:
            break
    return out


def _decoded(raw: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnreadableFile("the file is neither UTF-8 nor GB 18030")


@dataclass
class _Reader:
    templates: list[tuple[str, list[tuple[str, int]], str]]
    """(field, [(text before, column index)], text after)"""
    person: int
    pattern: re.Pattern[str] | None
    columns: dict[str, str]
    ignored: list[str]

    def values(self, row: list[Any]) -> dict[str, str]:
        """Field -> cleaned text of a row (missing fields are left out)."""
        out: dict[str, str] = {}
        for name, parts, tail in self.templates:
            if len(parts) == 1 and not parts[0][0] and not tail:
                index = parts[0][1]
                raw = row[index] if index < len(row) else ""
                value = _cell(raw) if raw != "" else ""
            else:
                found = [_cell(row[i]) if i < len(row) else "" for _, i in parts]
                if parts and not any(found):
                    continue
                if name == "birth_date" and not all(found):
                    found = [f or "00" for f in found]
                text = "".join(f"{before}{value}" for (before, _), value in zip(parts, found, strict=True))
                value = " ".join((text + tail).split()).strip(" ,")
            if value:
                out[name] = value
        if self.person >= 0 and self.person < len(row):
            person = _cell(row[self.person])
            if self.pattern is not None:
                match = self.pattern.search(person)
                person = match.group(1) if match else person
            out["person"] = person
        return out


def _cell(value: Any) -> str:
    if type(value) is str:  # what a CSV file gives; the rest is for tables in memory
        text = value.strip()
        return "" if len(text) <= 4 and text.casefold() in _BLANKS else text
    if value is None:
        return ""
    if isinstance(value, float):
        if value != value:
            return ""
        if value.is_integer():
            return str(int(value))
    text = str(value).strip()
    return "" if text.casefold() in _BLANKS else text


@lru_cache(maxsize=1)
def _synonyms() -> dict[str, str]:
    return {
        plain(word): name for name, words in tables.load("formats.yaml")["headers"].items() for word in words
    }


def _reader(header: list[str], mapping: dict[str, str]) -> _Reader:
    places = {plain(h): i for i, h in reversed(list(enumerate(header)))}
    book = tables.load("formats.yaml")
    known = set(book["headers"])
    if strange := set(mapping) - known:
        raise UnreadableFile(
            f"no such field: {', '.join(sorted(strange))} (fields: {', '.join(sorted(known))})"
        )
    if absent := [c for c in mapping.values() if plain(c) not in places]:
        raise UnreadableFile(f"no such column: {', '.join(absent)} (columns: {', '.join(header)})")
    templates: dict[str, str] = {}
    person, pattern = -1, None
    for layout in book["formats"].values():
        if not all(plain(w) in places for w in layout["when"]):
            continue
        templates = dict(layout["fields"])
        named = layout["person"] if isinstance(layout["person"], list) else [layout["person"]]
        person = next((places[plain(n)] for n in named if plain(n) in places), -1)
        if "person_pattern" in layout:
            pattern = re.compile(layout["person_pattern"])
        break
    used = {
        plain(name)
        for template in templates.values()
        for _, name, _, _ in string.Formatter().parse(template)
        if name
    }
    synonyms = _synonyms()
    for place, at in places.items():
        target = synonyms.get(place)
        if target is None or place in used or target in templates:
            continue
        if target == "person":
            person = at if person < 0 else person
        else:
            templates[target] = "{" + header[at] + "}"
    for target, column in mapping.items():
        if target == "person":
            person, pattern = places[plain(column)], None
        else:
            templates[target] = "{" + column + "}"
    compiled, columns = [], {}
    for target, template in templates.items():
        parts, tail, used_columns = _compile(template, places, header)
        if used_columns or not parts:
            compiled.append((target, parts, tail))
            columns[target] = " + ".join(used_columns) or repr(tail)
    if person >= 0:
        columns["person"] = header[person]
    if not {"name", "family", "given"} & set(columns):
        raise UnreadableFile(
            f"no column with a name among: {', '.join(header)}; say which: --map name=COLUMN"
        )
    seen = " + ".join(columns.values()).split(" + ")
    return _Reader(compiled, person, pattern, columns, [h for h in header if h not in seen])


def _compile(
    template: str, places: dict[str, int], header: list[str]
) -> tuple[list[tuple[str, int]], str, list[str]]:
    parts: list[tuple[str, int]] = []
    columns: list[str] = []
    before = ""
    for literal, name, _, _ in string.Formatter().parse(template):
        before += literal
        if name is None:
            continue
        at = places.get(plain(name))
        if at is not None:
            parts.append((before, at))
            columns.append(header[at])
            before = ""
    return parts, before, columns


@lru_cache(maxsize=1)
def _sexes() -> dict[str, str]:
    return {word: sex for sex, words in tables.load("formats.yaml")["sexes"].items() for word in words}


def read_date(text: str) -> dt.date | None:
    """A date in the usual ways of writing (2001-02-03, 20010203, 2001年2月3日, 02/03/2001 as in America), or None."""
    digits = date_digits(text)
    try:
        return dt.date(int(digits[:4]), int(digits[4:6]), int(digits[6:])) if digits else None
    except ValueError:
        return None


def _registration(values: dict[str, str], institution: int, number: int) -> Registration:
    get = values.get
    birth_text = get("birth_text", "")
    born = None
    if typed := get("birth_date", ""):
        born = read_date(typed)
        if born is None:
            birth_text = birth_text or typed
    given, family, name = get("given", ""), get("family", ""), get("name", "")
    order = get("birth_order", "")
    return Registration(
        institution_id=institution,
        system=get("system", "") or "file",
        local_id=get("local_id", "") or get("record_id", "") or str(number),
        name=name or " ".join(p for p in (given, family) if p),
        sex=_sexes().get(get("sex", "").casefold(), "unknown"),
        birth_date=born,
        id_type=get("id_type", "") if get("id_number") else "",
        id_no=get("id_number", ""),
        phone=get("phone", ""),
        address=get("address", "") or f"{get('house', '')} {get('street', '')}".strip(),
        division=get("division", "") or get("area", ""),
        village=get("village", "") or get("town", ""),
        card=get("card", ""),
        deceased_on=read_date(get("deceased_on", "")),
        phone2=get("phone2", ""),
        guardian_name=get("guardian_name", ""),
        guardian_id_no=get("guardian_id", ""),
        mother_name=get("mother_name", ""),
        mother_id_no=get("mother_id", ""),
        birth_text=birth_text,
        family=family,
        given=given,
        birth_certificate=get("birth_certificate", ""),
        birth_order=int(order) if order.isdigit() else 0,
        former_name=get("former_name", ""),
    )


def date_digits(text: str) -> str:
    """yyyymmdd of a date as typed, whether or not a calendar has it; "" when it is none."""
    if not text:
        return ""
    if len(text) == 10 and text[4] == text[7] == "-":  # nearly all
        digits = text[:4] + text[5:7] + text[8:]
        if digits.isascii() and digits.isdecimal():
            return digits
    match = _EIGHT.match(text) or _DATE.match(text)
    parts = match.groups() if match else None
    if parts is None and (match := _US.match(text)):
        month, day, year = match.groups()
        parts = (year, month, day)
    return f"{int(parts[0]):04d}{int(parts[1]):02d}{int(parts[2]):02d}" if parts else ""


_SEX_NUMBERS = {"male": 1, "female": 2}


def _parts(values: dict[str, str], registration: Registration) -> Parts:
    get = values.get
    return Parts(
        given=get("given", ""),
        family=get("family", ""),
        born=date_digits(get("birth_date", "") or get("birth_text", "")),
        sex=_SEX_NUMBERS.get(registration.sex, 0),
        number=get("id_number", ""),
        house=get("house", ""),
        street=get("street", "") or get("address", ""),
        town=get("town", ""),
        area=get("area", "") or get("division", ""),
        phone=re.sub(r"\D", "", get("phone", "")),
    )


def pairs_of(labels: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Index pairs with the same label (an empty label pairs with nothing)."""
    groups: dict[str, list[int]] = {}
    for at, label in enumerate(labels):
        if label:
            groups.setdefault(label, []).append(at)
    for members in groups.values():
        for i, a in enumerate(members):
            for b in members[i + 1 :]:
                yield a, b
