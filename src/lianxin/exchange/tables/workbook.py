"""Excel for those who have no interface: a template that explains each column, and what was refused back in the same form."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from openpyxl import Workbook, load_workbook
from openpyxl.comments import Comment
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation

from lianxin.exchange.tables.sheets import MARK
from lianxin.exchange.tables.targets import Column, Target, values
from lianxin.standards.text import T, Text

ROWS = 5_000
"""Rows that the template prepares (more can be filled in)."""
MOST_RETURNED = 20_000
"""Rows up to which the whole workbook is given back; of larger ones only what was refused."""
FILL, EXAMPLES, NOTES, LISTS = "填报", "示例", "说明", "值域"
REASON = "未受理原因 / Reason"
_HEAD = PatternFill("solid", fgColor="D7EEEC")
_MUST = PatternFill("solid", fgColor="FCE4D6")
_WRONG = PatternFill("solid", fgColor="FFC7CE")
_NOTE = Font(italic=True, color="666666", size=9)
_THIN = Border(bottom=Side(style="thin", color="BBBBBB"))
_FORMS: Mapping[str, Text] = {
    "text": T("文字", "text"), "id": T("编号（文本）", "number, as text"), "code_text": T("代码（文本）", "code, as text"),
    "identity": T("证件号（文本）", "identity number, as text"), "phone": T("电话", "telephone"), "date": T("日期，年-月-日", "date, year-month-day"),
    "datetime": T("日期时间，如 2026-01-05 08:30", "date and time, year-month-day hours:minutes"), "number": T("数字", "number"),
    "integer": T("整数", "whole number"), "code": T("从下拉列表中选", "choose from the list"), "result": T("数字或文字", "number or words"),
    "range": T("如 3.5-9.5", "such as 3.5-9.5"),
}  # fmt: skip


def required(target: Target) -> set[str]:
    """Columns that must be filled in a template (a choice of several is told in the notes)."""
    return {n for n in target.require if not target.columns[n].default}


def template(target: Target) -> bytes:
    """The template of a target: a sheet to fill in, examples, and notes on every column."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = FILL
    columns = list(target.columns.values())
    must = required(target)
    lists = _lists(book, columns)
    _headings(sheet, columns, must)
    for at, column in enumerate(columns, 1):
        _prepared(sheet, at, column, lists)
    sheet.freeze_panes = "A3"
    examples = book.create_sheet(EXAMPLES, 1)
    _headings(examples, columns, must)
    for at, column in enumerate(columns, 1):
        put(examples, 3, at, column.example)
    examples.freeze_panes = "A3"
    _notes(book.create_sheet(NOTES, 2), target, columns, must)
    return _bytes(book)


def _headings(sheet: Any, columns: Sequence[Column], must: set[str]) -> None:
    for at, column in enumerate(columns, 1):
        head = sheet.cell(row=1, column=at, value=column.label.zh)
        head.font = Font(bold=True)
        head.fill = _MUST if column.name in must else _HEAD
        head.border = _THIN
        note = sheet.cell(
            row=2, column=at, value=(f"{MARK} " if at == 1 else "") + _explained(column, column.name in must)
        )
        note.alignment = Alignment(wrap_text=True, vertical="top")
        note.font = _NOTE
        sheet.column_dimensions[get_column_letter(at)].width = 26 if column.max >= 200 else 18
    sheet.row_dimensions[2].height = 64


def _explained(column: Column, must: bool) -> str:
    told = [column.label.en, ("必填 required" if must else "")]
    told += [column.help.zh if column.help.zh else _FORMS[column.type].zh]
    if column.unit:
        told.append(f"单位 {column.unit}")
    return " · ".join(t for t in told if t)


def _lists(book: Workbook, columns: Sequence[Column]) -> dict[str, str]:
    """The value tables on a hidden sheet, and where each stands."""
    names = list(dict.fromkeys(c.values for c in columns if c.values))
    if not names:
        return {}
    sheet = book.create_sheet(LISTS)
    sheet.sheet_state = "hidden"
    places = {}
    for at, name in enumerate(names, 1):
        labels = [v.label.zh for v in values(name).values()]
        for row, label in enumerate(labels, 1):
            sheet.cell(row=row, column=at, value=label)
        letter = get_column_letter(at)
        places[name] = f"'{LISTS}'!${letter}$1:${letter}${len(labels)}"
    return places


def _prepared(sheet: Any, at: int, column: Column, lists: Mapping[str, str]) -> None:
    """Format and validation of a column's cells."""
    letter = get_column_letter(at)
    cells = f"{letter}3:{letter}{ROWS}"
    form = {"date": "yyyy-mm-dd", "datetime": "yyyy-mm-dd hh:mm", "number": "General", "integer": "0"}.get(
        column.type, "@"
    )
    sheet.column_dimensions[letter].number_format = form
    for row in range(3, 203):  # some programs look at the cells and not at the column
        sheet.cell(row=row, column=at).number_format = form
    rule: DataValidation | None = None
    if column.values:
        rule = DataValidation(type="list", formula1=lists[column.values], allow_blank=True)
        rule.errorStyle = "warning" if column.lenient else "stop"
    elif column.type in ("date", "datetime"):
        rule = DataValidation(
            type="date", operator="between", formula1="1", formula2="73050", allow_blank=True
        )
        rule.errorStyle = "warning"
    elif column.type in ("number", "integer") and column.least is not None and column.most is not None:
        kind = "whole" if column.type == "integer" else "decimal"
        rule = DataValidation(
            type=kind,
            operator="between",
            formula1=str(column.least),
            formula2=str(column.most),
            allow_blank=True,
        )
    elif column.type in ("id", "identity", "code_text") and column.max:
        rule = DataValidation(
            type="textLength", operator="lessThanOrEqual", formula1=str(column.max), allow_blank=True
        )
    if rule is not None:
        rule.error = f"{column.label.zh}：{column.help.zh or _FORMS[column.type].zh}"[:220]
        rule.errorTitle = "请检查 Please check"
        rule.promptTitle, rule.prompt = column.label.zh[:32], _explained(column, False)[:240]
        rule.showErrorMessage = rule.showInputMessage = True
        sheet.add_data_validation(rule)
        rule.add(cells)


def _notes(sheet: Any, target: Target, columns: Sequence[Column], must: set[str]) -> None:
    lines: list[Sequence[str]] = [
        [f"{target.name.zh} / {target.name.en}"],
        [target.about.zh, target.about.en],
        ["只在“填报”表中填写，从第 3 行开始；不要改动表头。橙色表头必填。", "Fill in the sheet “填报” only, from row 3; leave the header. Orange headings are required."],
        ["重复上传同一文件不会重复入库；改正后再次上传即更新。", "The same file again stores nothing twice; a corrected one brings rows up to date."],
        ["上传后被拒的行会连同原因退回同样的表格，改正标色的单元格后再上传即可。", "Rows that were refused come back in the same form with reasons; mend the coloured cells and upload it again."],
        [],
        ["列 Column", "必填 Required", "格式 Form", "说明 Notes", "可填的值 Values", "示例 Example"],
    ]  # fmt: skip
    for column in columns:
        words = "、".join(v.label.zh for v in values(column.values).values()) if column.values else ""
        lines.append([f"{column.label.zh} {column.label.en}", "是 yes" if column.name in must else "", f"{_FORMS[column.type].zh} {_FORMS[column.type].en}",
                      f"{column.help.zh} {column.help.en}".strip(), words, column.example])  # fmt: skip
    for names in target.require_any:
        lines.append(["至少填一项 one of: " + "、".join(target.columns[n].label.zh for n in names)])
    lines.append(["院内号与证件号码至少填一项。 The local number or the identity number is needed."])
    for row, line in enumerate(lines, 1):
        for at, text in enumerate(line, 1):
            put(sheet, row, at, text)
            sheet.cell(row=row, column=at).alignment = Alignment(wrap_text=row > 6, vertical="top")
    for letter, width in zip("ABCDEF", (28, 12, 26, 46, 60, 26), strict=True):
        sheet.column_dimensions[letter].width = width
    sheet["A1"].font = Font(bold=True, size=14)


def put(sheet: Any, row: int, column: int, text: Any) -> Any:
    """Write a text that no program takes for a formula."""
    cell = sheet.cell(row=row, column=column)
    cell.value = text
    if isinstance(text, str):
        cell.data_type = "s"
        if text[:1] in "=+-@\t\r" and text:
            cell.quotePrefix = True
        cell.number_format = "@"
    return cell


def _bytes(book: Workbook) -> bytes:
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


Refusal = tuple[int, str, str, list[str]]
"""Row, name of the file's column that is wrong ("" : the row), reason, cells."""


def returned(file: BinaryIO, sheet: str, header: int, refused: Iterable[Refusal]) -> bytes:
    """A workbook as it was sent, with a column of reasons and the wrong cells coloured; formulas in it become texts."""
    book = load_workbook(file)
    page = book[sheet]
    names = [str(c.value or "").strip() for c in page[max(header, 1)]]
    last = len(names)
    while last and not names[last - 1]:
        last -= 1
    at = names.index(REASON) + 1 if REASON in names else last + 1
    for cells in page.iter_rows():
        for cell in cells:
            if cell.data_type == "f":
                put(page, cell.row, cell.column, str(cell.value))
    for row in range(header + 1, page.max_row + 1):
        page.cell(row=row, column=at).value = None
    head = put(page, max(header, 1), at, REASON)
    head.font, head.fill = Font(bold=True, color="9C0006"), _WRONG
    page.column_dimensions[get_column_letter(at)].width = 48
    for number, column, reason, _ in refused:
        put(page, number, at, reason).font = Font(color="9C0006")
        if column in names:
            cell = page.cell(row=number, column=names.index(column) + 1)
            cell.fill = _WRONG
            cell.comment = Comment(reason[:400], "Lianxin")
    return _bytes(book)


def only_refused(names: Sequence[str], refused: Iterable[Refusal]) -> bytes:
    """A workbook of the refused rows alone (of a file that is too long, or no workbook), with reasons, wrong cells coloured."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.title = FILL
    for at, name in enumerate([*names, REASON], 1):
        head = put(page, 1, at, name)
        head.font, head.fill = Font(bold=True), _HEAD
        page.column_dimensions[get_column_letter(at)].width = 48 if name == REASON else 18
    for row, (_, column, reason, cells) in enumerate(refused, 2):
        for at, text in enumerate(cells[: len(names)], 1):
            put(page, row, at, text)
        put(page, row, len(names) + 1, reason).font = Font(color="9C0006")
        if column in names:
            page.cell(row=row, column=list(names).index(column) + 1).fill = _WRONG
    page.freeze_panes = "A2"
    return _bytes(book)
