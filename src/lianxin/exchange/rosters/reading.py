"""A file of people, line by line: each is a registration, a Patient, or a reason why it is neither."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lianxin.index.form import Registration
from lianxin.index.kit.csvfile import UnreadableFile, from_rows
from lianxin.record import text
from lianxin.record.problems import Problem
from lianxin.standards.text import T, Text

CHUNK = 500
MOST_LINE = 1024 * 1024
_PEEK = 1 << 20


class Unreadable(ValueError):
    """The file as a whole cannot be understood; ``text`` says why."""

    def __init__(self, told: Text) -> None:
        super().__init__(told.zh)
        self.text = told


@dataclass
class Line:
    """One line: its number in the file (from 1), and a registration, a Patient, or a refusal."""

    number: int
    registration: Registration | None = None
    patient: dict[str, Any] | None = None
    refusal: Text | None = None


@dataclass
class Sheet:
    """What a CSV's columns were understood as."""

    columns: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def kind_of(path: Path) -> str:
    """ "ndjson" or "csv", by what the file begins with."""
    with path.open("rb") as file:
        begin = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    return "ndjson" if begin.startswith(b"{") else "csv"


def encoding_of(path: Path) -> str:
    """UTF-8 when all of it is, else GB 18030; :class:`Unreadable` when it is neither."""
    import codecs

    for name in ("utf-8-sig", "gb18030"):
        decoder = codecs.getincrementaldecoder(name)()
        try:
            with path.open("rb") as file:
                while data := file.read(_PEEK):
                    decoder.decode(data)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    raise Unreadable(T("文件既不是 UTF-8 也不是 GB 18030 编码。", "The file is neither UTF-8 nor GB 18030."))


def sheet(path: Path, mapping: dict[str, str] | None = None) -> Sheet:
    """How the columns of a CSV are understood; :class:`Unreadable` unless there are a name and a local number."""
    with path.open(encoding=encoding_of(path), newline="") as file:
        header, _ = _header(file)
    return _understood(header, mapping)


def _understood(header: list[str], mapping: dict[str, str] | None) -> Sheet:
    try:
        read = from_rows(header, [], dict(mapping or {}))
    except UnreadableFile as failure:
        raise Unreadable(
            T(
                "没有认出姓名一列；第一行应是列名（如 院内号、姓名、性别、出生日期、证件号、电话、住址）。",
                str(failure),
            )
        ) from None
    if "local_id" not in read.columns and "record_id" not in read.columns:
        raise Unreadable(
            T(
                "没有院内号（病案号、患者ID）一列，请补上该列后重试。",
                "There is no column with the local number of each person.",
            )
        )
    return Sheet(read.columns, read.ignored)


def _header(file: Any) -> tuple[list[str], Any]:
    first = file.readline(MOST_LINE)
    delimiter = max(",;\t", key=first.count)
    header = [h.strip() for h in next(csv.reader([first], delimiter=delimiter), [])]
    return header, csv.reader((line.replace("\x00", "") for line in file), delimiter=delimiter)


def lines(
    path: Path, institution_id: int, system: str, mapping: dict[str, str] | None = None
) -> Iterator[Line]:
    """The lines of a file in order, registrations as of ``institution_id`` with numbers of ``system``."""
    if kind_of(path) == "ndjson":
        yield from _patients(path)
        return
    with path.open(encoding=encoding_of(path), newline="") as file:
        header, reader = _header(file)
        _understood(header, mapping)
        while rows := list(islice(_rows(reader), CHUNK)):
            yield from _registrations(header, rows, institution_id, system, mapping)


def _rows(reader: Any) -> Iterator[tuple[int, list[str] | None]]:
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield reader.line_num + 1, None
            continue
        if any(cell.strip() for cell in row):
            yield reader.line_num + 1, row


def _registrations(
    header: list[str],
    rows: list[tuple[int, list[str] | None]],
    institution_id: int,
    system: str,
    mapping: dict[str, str] | None,
) -> Iterator[Line]:
    good = [row for _, row in rows if row is not None and len(row) <= len(header)]
    understood = from_rows(header, good, dict(mapping or {}))
    read = iter(understood.registrations)
    own = understood.columns.get("local_id") or understood.columns.get("record_id", "")
    at = header.index(own) if own in header else -1
    for number, row in rows:
        if row is None:
            yield Line(
                number,
                refusal=T(
                    "该行不是合法的 CSV（引号不成对或过长）。",
                    "The line is no valid CSV (quotes do not pair, or it is too long).",
                ),
            )
            continue
        if len(row) > len(header):
            yield Line(
                number,
                refusal=T(
                    "该行有 {n} 列，多于表头的 {m} 列。",
                    "The line has {n} columns, more than the {m} of the header.",
                ).format(n=len(row), m=len(header)),
            )
            continue
        reg = next(read)
        reg.institution_id, reg.system = institution_id, system
        if at >= 0 and not "".join(row[at : at + 1]).strip():
            reg.local_id = ""  # the reader of labelled files numbers such lines itself
        yield _checked(number, reg)


def _checked(number: int, reg: Registration) -> Line:
    if not reg.local_id.strip():
        return Line(number, refusal=T("缺少院内号。", "The local number is missing."))
    if not (reg.name or reg.family or reg.given).strip():
        return Line(number, refusal=T("缺少姓名。", "The name is missing."))
    if len(reg.local_id) > 200 or len(reg.name) > 200:
        return Line(
            number,
            refusal=T(
                "院内号或姓名过长（超过 200 字）。",
                "The local number or the name is longer than 200 characters.",
            ),
        )
    return Line(number, registration=reg)


def _patients(path: Path) -> Iterator[Line]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MOST_LINE + 1):
            number += 1
            if len(raw) > MOST_LINE:
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MOST_LINE)
                yield Line(number, refusal=T("该行超过 1 MB。", "The line is larger than 1 MB."))
                continue
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                yield _patient(number, raw.strip())


def _patient(number: int, raw: bytes) -> Line:
    try:
        resource = text.parse(raw)
    except (Problem, ValueError):
        return Line(number, refusal=T("该行不是合法的 JSON。", "The line is no valid JSON."))
    if not isinstance(resource, dict) or resource.get("resourceType") != "Patient":
        return Line(number, refusal=T("该行不是 Patient。", "The line is no Patient."))
    return Line(number, patient=resource)
