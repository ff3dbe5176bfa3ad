"""Rows of an Excel workbook (.xlsx), streamed: dates as dates, formulas refused, merged cells told, bombs refused."""

from __future__ import annotations

import datetime as dt
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from openpyxl import load_workbook

from lianxin.exchange.tables.reading import EMPTY, LOOKED_AT, Layout, Row, Unreadable, settle_header
from lianxin.standards.text import T, Text

MOST_UNPACKED = 1 << 30
MOST_STRINGS = 256 << 20
MOST_RATIO = 300
MARK = "说明/Notes:"
"""What the line of explanations of our templates begins with; it is never data."""
FORMULA = T(
    "单元格是公式，请复制后“选择性粘贴－数值”。", "The cell is a formula; copy it and paste the value only."
)
ERROR = T("单元格是错误值（如 #N/A），请改正。", "The cell holds an error (such as #N/A); mend it.")
_MERGED = re.compile(rb'<mergeCell ref="([A-Z]+)(\d+):([A-Z]+)(\d+)"')
_DAMAGED = T(
    "无法打开这个工作簿，请用 Excel 另存为 .xlsx 后再试。",
    "This workbook cannot be opened; save it again as .xlsx.",
)


def _checked(file: BinaryIO) -> None:
    """Refuse what would unpack to more than can be held, before anything is unpacked."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = {m.filename for m in members}
    except (zipfile.BadZipFile, OSError, ValueError):
        raise Unreadable(_DAMAGED) from None
    if "xl/workbook.xml" not in names:
        raise Unreadable(
            T("这不是 Excel 工作簿（.xlsx），而是别的压缩文件。", "This is another kind of zip file, no workbook (.xlsx).")
        )  # fmt: skip
    for one in members:
        swollen = one.file_size > (16 << 20) and one.file_size > MOST_RATIO * max(one.compress_size, 1)
        if swollen or (one.filename == "xl/sharedStrings.xml" and one.file_size > MOST_STRINGS):
            raise Unreadable(_too_large())
    if sum(m.file_size for m in members) > MOST_UNPACKED or len(members) > 5_000:
        raise Unreadable(_too_large())


def _too_large() -> Text:
    return T(
        "工作簿展开后过大，请拆分，或另存为 CSV 后上传。",
        "The workbook is too large when unpacked; split it, or save it as CSV.",
    )


def _open(file: BinaryIO) -> Any:
    _checked(file)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and validations that are not read
            return load_workbook(file, read_only=True, keep_links=False)
    except Exception:  # openpyxl raises whatever its parser met: any of it means that this is no workbook
        raise Unreadable(_DAMAGED) from None


def look(file: BinaryIO, known: Sequence[str], sheet: str = "") -> Layout:
    """The layout of a workbook: the sheet asked for, else the first visible one that holds something."""
    book = _open(file)
    try:
        names = [s.title for s in book.worksheets if s.sheet_state == "visible"]
        if sheet and sheet not in names:
            raise Unreadable(
                T("没有名为“{s}”的工作表。", "There is no sheet called “{s}”.").format(s=sheet[:60])
            )
        for name in [sheet] if sheet else names:
            first: list[tuple[int, list[str]]] = []
            for row in _cells(book, name):
                first.append((row.number, row.cells))
                if len(first) >= LOOKED_AT:
                    break
            if first:
                break
        else:
            raise Unreadable(EMPTY)
    finally:
        book.close()
    layout = Layout("xlsx", [], 1, sheet=name)
    settle_header(layout, first, known)
    if not sheet and len(names) > 1:
        layout.notes.append(
            T("工作簿有 {n} 张表，读的是“{s}”。", "The workbook has {n} sheets; “{s}” is read.").format(n=len(names), s=name)
        )  # fmt: skip
    merged = _merged(file, name)
    if merged:
        layout.notes.append(
            T("表中有 {n} 处合并单元格；合并区域只有左上角一格有值，其余按空处理。", "{n} ranges of cells are merged: only their first cell has a value, the others are empty.").format(n=merged)
        )  # fmt: skip
    return layout


def _merged(file: BinaryIO, name: str) -> int:
    """How many ranges of a sheet's data are merged (read from the text of the sheet, a block at a time)."""
    file.seek(0)
    count, tail = 0, b""
    with zipfile.ZipFile(file) as archive:
        book = _open(file)
        try:
            path = next(
                (s._worksheet_path for s in book.worksheets if s.title == name), ""
            )  # openpyxl tells it nowhere else
        finally:
            book.close()
        if path not in archive.namelist():
            return 0
        with archive.open(path) as source:
            while block := source.read(1 << 20):
                count += len(_MERGED.findall(tail + block))
                tail = block[-40:] if b"<mergeCell " in block[-40:] else b""
    return count


def rows(file: BinaryIO, layout: Layout) -> Iterator[Row]:
    """The rows of data below the header; our templates' line of explanations is passed over."""
    book = _open(file)
    width = len(layout.columns)
    try:
        for row in _cells(book, layout.sheet):
            if row.number <= layout.header or row.cells[0].startswith(MARK):
                continue
            if len(row.cells) < width:
                row.cells += [""] * (width - len(row.cells))
            elif len(row.cells) > width:
                if any(row.cells[width:]):
                    row.refusal = T("该行比表头多出单元格。", "The row has more cells than the header.")
                else:
                    row.cells = row.cells[:width]
            yield row
    finally:
        book.close()


def _cells(book: Any, name: str) -> Iterator[Row]:
    try:
        sheet = next((s for s in book.worksheets if s.title == name), None)
        if sheet is None:
            raise Unreadable(
                T("没有名为“{s}”的工作表。", "There is no sheet called “{s}”.").format(s=name[:60])
            )
        for number, cells in enumerate(sheet.iter_rows(), 1):
            texts: list[str] = []
            bad: dict[int, Text] | None = None
            for at, cell in enumerate(cells):
                value = cell.value
                if value is None:
                    texts.append("")
                elif type(value) is str and cell.data_type != "f" and cell.data_type != "e":
                    texts.append(value.replace("_x000D_", "").replace("\x00", ""))
                elif cell.data_type in ("f", "e"):
                    texts.append(str(value))
                    bad = {**(bad or {}), at: FORMULA if cell.data_type == "f" else ERROR}
                else:
                    texts.append(text_of(value))
            if any(texts):
                yield Row(number, texts, bad=bad)
    except (Unreadable, GeneratorExit):
        raise
    except Exception:  # as in _open: a sheet that breaks off
        raise Unreadable(_DAMAGED) from None


def text_of(value: Any) -> str:
    """A typed value (of a cell or a database) as text: dates ISO, whole numbers without a point, numbers that lost digits as 3.3E+17."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            return value.isoformat(sep=" ", timespec="seconds" if not value.microsecond else "microseconds")
        if not (value.hour or value.minute or value.second or value.microsecond):
            return value.date().isoformat()
        return value.isoformat(sep=" ", timespec="seconds" if not value.microsecond else "microseconds")
    if isinstance(value, float):
        if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        return f"{value:.14E}" if abs(value) >= 1e15 else repr(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    return str(value)
