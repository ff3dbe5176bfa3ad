"""Tables that people fill in: CSV (UTF-8 or GB18030) and XLSX in, XLSX and CSV out.

`read` turns a file into rows by declared columns (Chinese or English headings), and refuses with row, column and cure:
formula cells, numbers where a code is text, missing headings. It never half-reads: rows and problems come together and
the caller writes only when there are no problems.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import unicodedata
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from openpyxl import Workbook, load_workbook
from openpyxl.styles import Alignment, Font, PatternFill
from openpyxl.utils import get_column_letter

from lianxin.standards.text import T, Text

MAX_BYTES = 20 * 1024 * 1024
MAX_UNPACKED = 200 * 1024 * 1024
MAX_ROWS = 200_000
NOTHING = T("", "")
EXPLANATION = "说明/Notes:"
_DATE = re.compile(r"(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?", re.ASCII)


@dataclass(frozen=True)
class Column:
    """One column: ``name`` is its English heading and key, ``label`` the heading shown, ``help`` the explanation row."""

    name: str
    label: Text
    help: Text = NOTHING
    required: bool = False
    kind: str = "text"  # text | date | number
    aliases: tuple[str, ...] = ()
    example: str = ""

    def headings(self) -> set[str]:
        """All headings this column answers to."""
        return {_heading(h) for h in (self.name, self.label.zh, self.label.en, *self.aliases)}


@dataclass(frozen=True)
class Problem:
    """What is wrong with one cell (``row`` counts from 1 as the spreadsheet shows it; 0: the file itself)."""

    row: int
    field: str
    message: Text

    def __str__(self) -> str:
        return str(T("第{row}行 {field}:{message}", "Row {row}, {field}: {message}").format(
            row=self.row, field=self.field, message=self.message
        ))  # fmt: skip

    def to_tuple(self) -> tuple[int, str, Text]:
        """(row, field, message)."""
        return (self.row, self.field, self.message)


def in_order(problems: Iterable[Problem]) -> list[tuple[int, str, Text]]:
    """(row, field, message) by row; of several complaints about one cell the first is the cause and stays alone."""
    first: dict[tuple[int, str, object], Problem] = {}
    for problem in problems:
        first.setdefault((problem.row, problem.field, problem.message if problem.row == 0 else None), problem)
    return [p.to_tuple() for p in sorted(first.values(), key=lambda p: p.row)]


@dataclass
class Row:
    """One data row: values by column name; headings nobody declared are in ``extra``."""

    number: int
    values: dict[str, Any]
    extra: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name, "")


@dataclass
class Table:
    """What was read."""

    rows: list[Row] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    headings: set[str] = field(default_factory=set)  # names of the declared columns that the file has


class _Unreadable(Exception):
    def __init__(self, message: Text) -> None:
        super().__init__(message.en)
        self.message = message


def _heading(text: object) -> str:
    plain = unicodedata.normalize("NFKC", str(text or "")).strip().lower()
    return re.sub(r"[\s*_()/\-]+", "", plain)


def load_bytes(file: str | Path | bytes | BinaryIO) -> bytes:
    """The bytes of a path, a buffer or an upload (at most 20 MB)."""
    if isinstance(file, bytes):
        data = file
    elif isinstance(file, str | Path):
        data = Path(file).read_bytes()
    else:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _Unreadable(T("文件超过20 MB,请拆分后再导入。", "The file is larger than 20 MB; split it."))
    return data


def read(file: str | Path | bytes | BinaryIO, columns: Sequence[Column]) -> Table:
    """Read a CSV or XLSX file by ``columns``; problems are collected, nothing raises for what a user can have done."""
    table = Table()
    try:
        data = load_bytes(file)
        lines = _xlsx(data) if data[:4] == b"PK\x03\x04" else _csv(data)
        _fill(table, lines, columns)
    except _Unreadable as error:
        table.problems.append(Problem(0, "", error.message))
    return table


def _csv(data: bytes) -> list[tuple[int, list[Any]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("gb18030")
        except UnicodeDecodeError:
            raise _Unreadable(
                T(
                    "文件编码既不是UTF-8也不是GB18030,请另存为“CSV UTF-8”或XLSX。",
                    "The file is neither UTF-8 nor GB18030; save it as “CSV UTF-8” or XLSX.",
                )
            ) from None
    if "\x00" in text:
        raise _Unreadable(T("不是CSV或XLSX文件。", "This is neither a CSV nor an XLSX file."))
    first = text.partition("\n")[0]
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows: list[tuple[int, list[Any]]] = []
        for line in reader:
            rows.append((len(rows) + 1, line))
            if len(rows) > MAX_ROWS:
                raise _Unreadable(_too_long())
        return rows
    except csv.Error as error:
        raise _Unreadable(T("CSV格式有误：{e}", "The CSV is malformed: {e}").format(e=error)) from None


def _too_long() -> Text:
    return T("超过20万行，请拆分后再导入。", "More than 200,000 rows; split the file.")


class _Formula(str):
    """A cell that is a formula."""


def _xlsx(data: bytes) -> list[tuple[int, list[Any]]]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > MAX_UNPACKED:
                raise _Unreadable(
                    T("工作簿展开后过大，请拆分。", "The workbook is too large when unpacked; split it.")
                )
        sheet = load_workbook(io.BytesIO(data), read_only=True).worksheets[0]
        rows: list[tuple[int, list[Any]]] = []
        for number, cells in enumerate(sheet.iter_rows(), start=1):
            values = [_Formula(c.value) if c.data_type == "f" else c.value for c in cells]
            rows.append((number, values))
            if number > MAX_ROWS:
                raise _Unreadable(_too_long())
        return rows
    except _Unreadable:
        raise
    except Exception as error:  # openpyxl raises whatever its parser met: any of it means "not a workbook"
        raise _Unreadable(
            T(
                "无法打开工作簿({e}),请用Excel另存为XLSX。",
                "The workbook cannot be opened ({e}); save it again as XLSX.",
            ).format(e=type(error).__name__)
        ) from None


def _fill(table: Table, lines: list[tuple[int, list[Any]]], columns: Sequence[Column]) -> None:
    lines = [(n, v) for n, v in lines if any(str(c or "").strip() for c in v)]
    if not lines:
        raise _Unreadable(T("文件没有内容。", "The file is empty."))
    by_heading = {h: c for c in columns for h in c.headings()}
    headings = [str(c or "").strip() for c in lines[0][1]]
    placed = [by_heading.get(_heading(h)) for h in headings]
    known = [c.name for c in placed if c]
    table.headings = set(known)
    for column in columns:
        if column.required and column.name not in table.headings:
            table.problems.append(
                Problem(
                    lines[0][0],
                    column.name,
                    T("缺少“{c}”列，请下载模板对照表头。", "The column “{c}” is missing; compare the headings with the template.")
                    .format(c=column.label),
                )
            )  # fmt: skip
    for name in sorted({n for n in known if known.count(n) > 1}):
        table.problems.append(
            Problem(
                lines[0][0],
                name,
                T("该列出现了两次，请只保留一列。", "This column stands twice; keep one of them."),
            )
        )
    if table.problems:
        return
    for number, cells in lines[1:]:
        if str(cells[0] or "").startswith(EXPLANATION):
            continue
        row = Row(number, {})
        if any(c not in (None, "") for c in cells[len(headings) :]):
            more = T("这一行比表头多出单元格。", "This row has more cells than the heading.")
            table.problems.append(Problem(number, "", more))
        for heading, place, raw in zip(headings, placed, cells, strict=False):
            value, trouble = _cell(raw, place)
            if trouble:
                table.problems.append(Problem(number, place.name if place else heading, trouble))
            elif place:
                row.values[place.name] = value
            elif heading and value != "":
                row.extra[heading] = str(value)
        for column in columns:
            if (
                column.required
                and row.values.get(column.name, "") == ""
                and not _has(table, number, column.name)
            ):
                table.problems.append(
                    Problem(number, column.name, T("必填，请填写。", "Required; fill it in."))
                )
        table.rows.append(row)


def _has(table: Table, row: int, name: str) -> bool:
    return any(p.row == row and p.field == name for p in table.problems)


def _cell(raw: Any, column: Column | None) -> tuple[Any, Text | None]:
    """The value of a cell for its column, or why it cannot be taken."""
    if isinstance(raw, _Formula) or (isinstance(raw, str) and raw.lstrip().startswith("=")):
        return "", T(
            "不接受公式，请复制后“选择性粘贴-数值”。",
            "Formulas are not taken; copy and paste the values only.",
        )
    kind = column.kind if column else "text"
    if raw is None or (isinstance(raw, str) and not raw.strip()):
        return (None if kind in ("date", "number") else ""), None
    if kind == "date":
        return _date(raw)
    if kind == "number":
        try:
            number = float(unicodedata.normalize("NFKC", str(raw)).strip())
        except ValueError:
            number = float("nan")
        if not -1e15 < number < 1e15:
            return None, T("应为数字。", "Give a number.")
        return number, None
    if isinstance(raw, bool):
        return ("true" if raw else "false"), None
    if isinstance(raw, int | float):
        if raw != int(raw) or abs(raw) >= 10**15:
            return "", T(
                "该单元格是数值，可能丢失了位数或前导零，请把格式改为“文本”后重新录入。",
                "This cell is a number and may have lost digits or leading zeros; format it as text and enter it again.",
            )
        return str(int(raw)), None
    if isinstance(raw, dt.datetime | dt.date):
        return raw.isoformat()[:10], None
    return unicodedata.normalize("NFC", str(raw)).strip().removeprefix("'"), None


def _date(raw: Any) -> tuple[dt.date | None, Text | None]:
    if isinstance(raw, dt.datetime):
        return raw.date(), None
    if isinstance(raw, dt.date):
        return raw, None
    text = unicodedata.normalize("NFKC", str(raw)).strip()
    found = _DATE.fullmatch(text) or re.fullmatch(r"(\d{4})(\d{2})(\d{2})", text, re.ASCII)
    try:
        if found:
            return dt.date(int(found[1]), int(found[2]), int(found[3])), None
    except ValueError:
        found = None
    return None, T("应为日期，例如 2026-01-31。", "Give a date such as 2026-01-31.")


def as_date(raw: Any) -> tuple[dt.date | None, Text | None]:
    """A date as people write it (2026-1-31, 2026年1月31日, 20260131), or why not; nothing is no date."""
    return (None, None) if raw in (None, "") else _date(raw)


def truth(text: str) -> bool | None:
    """是/否, true/false, 1/0, yes/no -> bool; None when it is none of these."""
    return {
        "是": True, "true": True, "1": True, "yes": True, "y": True,
        "否": False, "false": False, "0": False, "no": False, "n": False,
    }.get(text.strip().lower())  # fmt: skip


def write_xlsx(
    title: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]] = (), *, explain: bool = True
) -> bytes:
    """A workbook with headings, an explanation row (skipped when read back), and rows; no cell is ever a formula."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = title[:31]
    for index, column in enumerate(columns, start=1):
        head = sheet.cell(row=1, column=index, value=column.name)
        head.font = Font(bold=True)
        head.fill = PatternFill("solid", fgColor="D7EEEC")
        if explain:
            text = (
                f"{column.label.zh}{'(必填)' if column.required else ''} {column.help.zh}\n{column.label.en}"
                + (f"{' (required)' if column.required else ''}. {column.help.en}")
            )
            if column.example:
                text += f"\n例/e.g. {column.example}"
            note = sheet.cell(row=2, column=index, value=(EXPLANATION + " " if index == 1 else "") + text)
            note.alignment = Alignment(wrap_text=True, vertical="top")
            note.font = Font(italic=True, color="666666", size=9)
        sheet.column_dimensions[get_column_letter(index)].width = 22
    first = 3 if explain else 2
    for line, values in enumerate(rows, start=first):
        for index, value in enumerate(values, start=1):
            cell = sheet.cell(row=line, column=index)
            cell.value = value
            if isinstance(value, str):
                cell.data_type = "s"  # a text that begins with "=" stays a text
                cell.number_format = "@"
    sheet.freeze_panes = f"A{first}"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def write_csv(columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> bytes:
    """UTF-8 CSV with a byte-order mark (so that Excel reads it); cells that look like formulas get a leading quote."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([c.name for c in columns])
    for values in rows:
        writer.writerow([_guard(v) for v in values])
    return out.getvalue().encode("utf-8-sig")


def _guard(value: Any) -> Any:
    return (
        f"'{value}"
        if isinstance(value, str) and value[:1] in "=+-@\t" and value
        else ("" if value is None else value)
    )
