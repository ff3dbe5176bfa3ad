"""Files as they really come: encodings, delimiters, quotes, titles, workbooks; what cannot be read is told, the rest goes on."""

from __future__ import annotations

import datetime as dt
import io
import zipfile

import pytest
from openpyxl import Workbook

from lianxin.exchange.tables import reading, sheets
from lianxin.exchange.tables.reading import Unreadable
from lianxin.exchange.tables.targets import target

KNOWN = list(target("lab").known())
HEAD = "报告单号,病案号,姓名,项目代码,结果,报告时间\n"


def read(data: bytes, known=KNOWN):
    file = io.BytesIO(data)
    layout = reading.look(file, known)
    return layout, list(reading.rows(io.BytesIO(data), layout))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "gbk", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_encodings_and_delimiters_are_found(encoding, delimiter):
    text = (HEAD + "R1,P1,张三,WBC,6.2,2026-01-05\nR2,P2,李四,RBC,4.1,2026-01-05\n").replace(",", delimiter)
    layout, rows = read(text.encode(encoding))
    assert layout.columns == ["报告单号", "病案号", "姓名", "项目代码", "结果", "报告时间"]
    assert [r.cells[2] for r in rows] == ["张三", "李四"]
    assert [r.number for r in rows] == [2, 3]


def test_quotes_line_ends_and_embedded_newlines():
    data = (
        HEAD + '"R1","P1","张""三","WBC","a,b\n第二行","2026-01-05"\r\n\r\nR2,P2,李四,RBC,1,2026-01-05'
    ).encode()
    _, rows = read(data)
    assert [(r.number, r.cells[2], r.cells[4]) for r in rows] == [
        (2, '张"三', "a,b\n第二行"),
        (5, "李四", "1"),
    ]
    _, rows = read(
        HEAD.replace("\n", "\r").encode()
        + "R1,P1,张三,WBC,1,2026-01-05\rR2,P2,李四,RBC,2,2026-01-06\r".encode()
    )
    assert [r.cells[0] for r in rows] == ["R1", "R2"]


def test_an_open_quote_costs_one_row_only():
    body = "".join(f"R{n},P{n},王五,WBC,{n},2026-01-05\n" for n in range(3000))
    data = HEAD + 'X,P,"没有结束,WBC,1,2026-01-05\n' + body + 'Y,P,"再来,WBC,1,2026-01-05\n' + body
    _, rows = read(data.encode())
    bad = [r for r in rows if r.refusal]
    assert [r.number for r in bad] == [2, 3003]
    assert len(rows) == 6002
    assert all("引号" in r.refusal.zh for r in bad)


def test_too_many_and_too_few_columns():
    _, rows = read(
        (HEAD + "R1,P1,张三,WBC,1,2026-01-05,,\nR2,P2,李四,RBC\nR3,P3,王五,X,1,2026-01-05,多\n").encode()
    )
    assert [bool(r.refusal) for r in rows] == [False, True, True]
    assert len(rows[0].cells) == 6


def test_mixed_encodings_refuse_the_row_and_not_the_file():
    good = "".join(f"R{n},P{n},张三丰,WBC,1,2026-01-05\n" for n in range(20))
    utf8 = (
        (HEAD + good).encode()
        + "R98,P,李四光,WBC,1,2026-01-05\n".encode("gb18030")
        + b"R99,P,x,WBC,2,2026-01-05\n"
    )
    _, rows = read(utf8)
    assert [r.number for r in rows if r.refusal] == [22]
    assert rows[20].raw.startswith(b"R98")
    assert rows[-1].refusal is None
    gb = (
        (HEAD + good).encode("gb18030")
        + "R98,P,张三丰,WBC,检验结果,2026-01-05\n".encode()
        + b"R99,P,x,WBC,2,2026-01-05\n"
    )
    layout, rows = read(gb)
    assert layout.encoding == "gb18030"
    assert [r.number for r in rows if r.refusal] == [22]


def test_nul_characters_refuse_their_row():
    data = (
        HEAD + "R1,P1,张三,WBC,1,2026-01-05\n"
    ).encode() + b"R2,P2,\x00,WBC,1,2026-01-05\nR3,P3,x,WBC,1,2026-01-05\n"
    _, rows = read(data)
    assert [bool(r.refusal) for r in rows] == [False, True, False]


def test_titles_before_the_header_repeated_and_missing_names():
    layout, rows = read(
        ("县医院检验科,,,,,\n2026年1月,,,,,\n" + HEAD + "R1,P1,张三,WBC,1,2026-01-05\n").encode()
    )
    assert layout.header == 3
    assert rows[0].cells[0] == "R1"
    assert any("表头" in n.zh for n in layout.notes)
    layout, _ = read("报告单号,结果,结果,,病案号\nR1,1,2,3,P1\n".encode())
    assert layout.columns == ["报告单号", "结果", "结果 (2)", "列4", "病案号"]
    assert len(layout.notes) == 2


def test_no_header_is_told():
    layout, rows = read(b"R1,P1,20260105,6.2,13800000000\nR2,P2,20260106,6.4,13800000001\n")
    assert layout.header == 0
    assert layout.columns[0] == "列1"
    assert len(rows) == 2
    assert layout.notes


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "空"), (b"\xef\xbb\xbf\r\n \n", "空"), (b"\xd0\xcf\x11\xe0" + bytes(600), "xls"), (b"%PDF-1.4", "PDF"),
        (b"<html><table><tr><td>1</td></tr></table></html>", "网页"), (bytes(range(256)) * 40, "CSV"), (b"\x1f\x8b" + bytes(90), "压缩"),
        (b"\x80\x80,\xff\n" * 500, "编码"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused_in_words(data, word):
    with pytest.raises(Unreadable) as failure:
        read(data)
    assert word in failure.value.text.zh
    assert failure.value.text.en


def test_a_long_file_is_streamed(tmp_path):
    import tracemalloc

    path = tmp_path / "long.csv"
    line = (f"R1,P1,张三,WBC,{'正常' * 500},2026-01-05\n" * 150).encode("gb18030")
    with path.open("wb") as out:
        out.write(HEAD.encode("gb18030"))
        for _ in range(100):
            out.write(line)
    with path.open("rb") as file:
        layout = reading.look(file, KNOWN)
        tracemalloc.start()
        count = sum(1 for _ in reading.rows(file, layout))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 15_000
    assert peak < 16 << 20


def test_a_line_without_end_is_passed_over():
    data = HEAD.encode() + b"R0," + b"x" * (6 << 20) + b"\nR1,P1,y,WBC,1,2026-01-05\n"
    _, rows = read(data)
    assert rows[0].refusal is not None
    assert rows[-1].cells[0] == "R1"


# -------------------------------------------------------------------------------------------------------------- workbooks


def book(*lines, change=lambda sheet: None, title="Sheet1") -> bytes:
    made = Workbook()
    sheet = made.active
    sheet.title = title
    for line in lines:
        sheet.append(line)
    change(sheet)
    out = io.BytesIO()
    made.save(out)
    return out.getvalue()


NAMES = ["报告单号", "病案号", "姓名", "项目代码", "结果", "报告时间"]


def test_a_workbook_is_read_typed():
    data = book(
        NAMES,
        ["R1", 12345, "张三", "WBC", 6.2, dt.datetime(2026, 1, 5, 8, 30)],
        ["R2", "00012", "李四", "RBC", 4, dt.date(2026, 1, 5)],
    )
    layout, rows = read(data)
    assert layout.kind == "xlsx"
    assert layout.columns == NAMES
    assert rows[0].cells == ["R1", "12345", "张三", "WBC", "6.2", "2026-01-05 08:30:00"]
    assert rows[1].cells[1:] == ["00012", "李四", "RBC", "4", "2026-01-05"]


def test_numbers_that_lost_digits_formulas_and_errors_are_told():
    data = book(NAMES, ["R1", 3.3102319690517e17, "张三", "WBC", "=1+1", "2026-01-05"])
    _, rows = read(data)
    assert rows[0].cells[1].startswith("3.3102")
    assert "E+17" in rows[0].cells[1]
    assert rows[0].bad == {4: sheets.FORMULA}


def test_titles_and_merged_cells_are_told():
    def change(sheet):
        sheet.insert_rows(1)
        sheet["A1"] = "检验结果一览表"
        sheet.merge_cells("A1:F1")

    layout, rows = read(book(NAMES, ["R1", "P1", "张三", "WBC", "1", "2026-01-05"], change=change))
    assert layout.header == 2
    assert rows[0].cells[0] == "R1"
    assert any("合并" in n.zh for n in layout.notes)


def test_bombs_and_other_archives_are_refused():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * (40 << 20))
    with pytest.raises(Unreadable) as failure:
        read(out.getvalue())
    assert "过大" in failure.value.text.zh
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("readme.txt", "x")
    for data in (other.getvalue(), book(NAMES, ["R1"])[:900]):
        with pytest.raises(Unreadable):
            read(data)
