"""Rows of a CSV or Excel file, streamed: encoding, delimiter and header found, a bad row told and passed over.

Every cell is text here (dates as ISO, numbers as written).  Memory is bounded whatever the size: a file is read in blocks, a row
longer than :data:`MOST_LINES` lines or :data:`MOST_CELL` characters counts as a quote that was never closed, costs one row, and
reading goes on with the next line.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from lianxin.standards.text import T, Text

BLOCK = 1 << 20
MOST_LINES = 500
MOST_CELL = 131_072
MOST_LINE = 4 << 20
MOST_COLUMNS = 2_000
LOOKED_AT = 30
"""Rows at the beginning of a file in which its header is looked for."""
CANDIDATES = ",\t;|"
_HAN_UTF8 = re.compile(rb"[\xe4-\xe9][\x80-\xbf]{2}")
_CONTROLS = bytes([*range(9), 11, *range(14, 32)])
_SEEMS_DATA = re.compile(r"[\d\-/.: +%eE]+$|.*\d{8,}")


class Unreadable(ValueError):
    """The file as a whole cannot be understood; ``text`` says why and what to do."""

    def __init__(self, told: Text) -> None:
        super().__init__(told.zh)
        self.text = told


@dataclass(slots=True)
class Row:
    """One row: its number in the file (from 1), its cells, or why it cannot be read (``raw``: its bytes, when they are no text).

    ``bad``: cells that cannot be taken for what they are (formulas), by position.
    """

    number: int
    cells: list[str]
    refusal: Text | None = None
    raw: bytes = b""
    bad: dict[int, Text] | None = None


@dataclass
class Layout:
    """How a file is read. ``header``: number of the row with the names of the columns (0: it has none)."""

    kind: str
    columns: list[str]
    header: int = 1
    encoding: str = ""
    delimiter: str = ","
    sheet: str = ""
    notes: list[Text] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As it is kept with a mapping (without the notes)."""
        return {n: getattr(self, n) for n in ("kind", "columns", "header", "encoding", "delimiter", "sheet")}


# ----------------------------------------------------------------------------------------------------------------- the kind of file

_MAGIC = (
    (b"\xd0\xcf\x11\xe0", T("这是旧版 Excel（.xls）文件，请在 Excel 中“另存为”.xlsx 后再上传。", "This is an old Excel file (.xls); save it as .xlsx and send that.")),
    (b"%PDF", T("这是 PDF 文件，请上传 CSV 或 .xlsx。", "This is a PDF; send CSV or .xlsx.")),
    (b"\x1f\x8b", T("这是压缩文件，请解压后上传。", "This is a compressed file; unpack it first.")),
    (b"Rar!", T("这是压缩文件，请解压后上传。", "This is a compressed file; unpack it first.")),
    (b"7z\xbc\xaf", T("这是压缩文件，请解压后上传。", "This is a compressed file; unpack it first.")),
)  # fmt: skip
_MARKUP = T(
    "这是网页或 XML 格式的表格（有些系统导出的“.xls”其实是网页），请用 Excel 打开后另存为 .xlsx。",
    "This is a table as a web page or XML (some systems export that as “.xls”); open it with Excel and save it as .xlsx.",
)
_BINARY = T("不是 CSV 或 .xlsx 文件。", "This is neither CSV nor .xlsx.")
EMPTY = T("文件是空的。", "The file is empty.")


def kind_of(file: BinaryIO) -> str:
    """ "csv" or "xlsx", by what the file begins with; :class:`Unreadable` for every other kind."""
    file.seek(0)
    begin = file.read(8192)
    file.seek(0)
    if not begin.strip(b"\xef\xbb\xbf \t\r\n\x00"):
        raise Unreadable(EMPTY)
    for mark, told in _MAGIC:
        if begin.startswith(mark):
            raise Unreadable(told)
    if begin.startswith(b"PK\x03\x04"):
        return "xlsx"
    plain = begin.lstrip(b"\xef\xbb\xbf \t\r\n")[:200].lower()
    if plain.startswith((b"<html", b"<!doctype", b"<table", b"<?xml", b"<meta", b"<head", b"<style")):
        raise Unreadable(_MARKUP)
    wide = begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    strange = len(begin) - len(begin.translate(None, _CONTROLS))
    if not wide and strange > len(begin) // 20 + 1:
        raise Unreadable(_BINARY)
    return "csv"


def encoding_of(file: BinaryIO) -> str:
    """UTF-8 when (nearly) all lines are, else GB 18030; UTF-16 by its mark. Lines that are neither are told when rows are read.

    :class:`Unreadable` when most of the text that is not ASCII is neither.
    """
    file.seek(0)
    begin = file.read(4)
    file.seek(0)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if begin.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    utf8 = gb = neither = 0
    rest = b""
    while block := file.read(BLOCK):
        data = rest + block
        cut = data.rfind(b"\n") + 1 or (len(data) if len(data) > MOST_LINE else 0)
        data, rest = data[:cut], data[cut:]
        counted = _count(data)
        utf8, gb, neither = utf8 + counted[0], gb + counted[1], neither + counted[2]
        if utf8 + gb + neither > 200_000:
            break  # by now it is certain
    else:
        counted = _count(rest)
        utf8, gb, neither = utf8 + counted[0], gb + counted[1], neither + counted[2]
    file.seek(0)
    if neither > utf8 + gb:
        raise Unreadable(
            T("文件既不是 UTF-8 也不是 GB 18030 编码。", "The file is neither UTF-8 nor GB 18030.")
        )
    return "utf-8" if utf8 >= gb else "gb18030"


def _count(data: bytes) -> tuple[int, int, int]:
    """Lines with more than ASCII that are UTF-8, GB 18030 only, neither."""
    if data.isascii():
        return 0, 0, 0
    try:
        data.decode()
        return sum(not line.isascii() for line in data.split(b"\n")), 0, 0
    except UnicodeDecodeError:
        pass
    utf8 = gb = neither = 0
    for line in data.split(b"\n"):
        if line.isascii():
            continue
        if decoded(line, "utf-8") is not None:
            utf8 += 1
        elif decoded(line, "gb18030") is not None:
            gb += 1
        else:
            neither += 1
    return utf8, gb, neither


def decoded(data: bytes, encoding: str) -> str | None:
    """The text, or None when it is none in this encoding."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return None


# ------------------------------------------------------------------------------------------------------------------------ lines


class _Bad(str):
    """A line that is no text in the file's encoding; ``raw`` are its bytes, ``why`` says what is wrong."""

    raw: bytes
    why: Text


def _bad(raw: bytes, why: Text) -> _Bad:
    made = _Bad(raw.decode("ascii", "replace").replace('"', "").replace("\x00", " "))
    made.raw, made.why = raw, why
    return made


_WRONG = T("该行的编码与文件其余部分不同。", "The line is in another encoding than the rest of the file.")
_NUL = T("该行含有空字符（NUL）。", "The line holds a NUL character.")
_LONG_LINE = T("该行超过 4 MB。", "The line is longer than 4 MB.")


def _lines(file: BinaryIO, encoding: str) -> Iterator[str]:
    """Lines as text, those that are none as :class:`_Bad`."""
    if encoding == "utf-16":
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        rest = ""
        while block := file.read(BLOCK):
            whole = rest + decoder.decode(block)
            cut = whole.rfind("\n") + 1
            rest = whole[cut:]
            yield from whole[:cut].split("\n")[:-1]
        if rest:
            yield rest
        return
    left = b""
    first = True
    while block := file.read(BLOCK):
        data = left + block
        if first and encoding == "utf-8-sig":
            data = data.removeprefix(codecs.BOM_UTF8)
        first = False
        cut = data.rfind(b"\n") + 1
        if not cut and b"\r" in data[:-1]:  # lines of an old Macintosh
            cut = data.rfind(b"\r", 0, -1) + 1
            data, left = data[:cut].replace(b"\r", b"\n"), data[cut:]
        else:
            data, left = data[:cut], data[cut:]
        if len(left) > MOST_LINE:
            yield _bad(left[:BLOCK], _LONG_LINE)
            left = _to_line_end(file)
        yield from _decoded_lines(data, encoding)
    yield from _decoded_lines(left.replace(b"\r", b"\n") if b"\n" not in left else left, encoding)


def _to_line_end(file: BinaryIO) -> bytes:
    """Skip the rest of a line; what comes after it in the block read last."""
    while block := file.read(BLOCK):
        _, end, rest = block.partition(b"\n")
        if end:
            return rest
    return b""


def _decoded_lines(data: bytes, encoding: str) -> Iterator[str]:
    plain = "utf-8" if encoding == "utf-8-sig" else encoding
    if b"\x00" not in data and (data.isascii() or plain == "utf-8"):
        text = decoded(data, plain)
        if text is not None:
            yield from text.splitlines(keepends=True) if not _odd(text) else _split(text)
            return
    whole = decoded(data, plain) if b"\x00" not in data else None
    raw = data.split(b"\n")
    if not raw[-1]:
        raw.pop()
    texts = whole.split("\n") if whole is not None else []
    for at, line in enumerate(raw):
        if plain == "gb18030" and not line.isascii() and _mixed(line):
            yield _bad(line, _WRONG)
        elif texts:
            yield texts[at] + "\n"
        elif b"\x00" in line:
            yield _bad(line, _NUL)
        else:
            one = decoded(line, plain)
            yield _bad(line, _WRONG) if one is None else one + "\n"


def _mixed(line: bytes) -> bool:
    """Whether a line of a GB 18030 file is UTF-8: it would be read as nonsense, and nobody would notice."""
    return len(_HAN_UTF8.findall(line)) >= 2 and decoded(line, "utf-8") is not None


def _odd(text: str) -> bool:
    """Whether ``splitlines`` would split at more than line ends."""
    return any(c in text for c in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")


def _split(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        yield line + "\n"


class _Feed:
    """Lines for the csv module, with those of the row under way remembered, so that a row that went wrong can be taken back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._again: deque[str] = deque()
        self.recent: list[str] = []
        self.number = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.recent.append(line)
        self.number += 1
        if len(self.recent) > MOST_LINES:
            raise csv.Error("too many lines")
        return line

    def take_back(self) -> str:
        """Give all but the first line of the row under way back; returns that first line."""
        self._again.extendleft(reversed(self.recent[1:]))
        self.number -= len(self.recent) - 1
        return self.recent[0]


QUOTES = T("该行的引号不成对，或一个单元格过长。", "Quotes do not pair in this line, or a cell is too long.")
MANY = T("该行有 {n} 列，多于表头的 {m} 列。", "The line has {n} columns, more than the {m} of the header.")
FEW = T(
    "该行只有 {n} 列，少于表头的 {m} 列。", "The line has only {n} columns, fewer than the {m} of the header."
)


def csv_rows(file: BinaryIO, encoding: str, delimiter: str, width: int = 0) -> Iterator[Row]:
    """Every row that is not empty; with ``width`` those that have more or fewer columns are refused (empty ones at the end may go)."""
    csv.field_size_limit(MOST_CELL)
    file.seek(0)
    feed = _Feed(_lines(file, encoding))
    reader = csv.reader(feed, delimiter=delimiter)
    recent = feed.recent
    while True:
        recent.clear()
        start = feed.number + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield _alone(feed, start, QUOTES)
            reader = csv.reader(feed, delimiter=delimiter)
            continue
        if type(recent[0]) is _Bad or (len(recent) > 1 and any(type(line) is _Bad for line in recent)):
            yield _alone(feed, start, QUOTES)
            reader = csv.reader(feed, delimiter=delimiter)
            continue
        if not width or len(cells) == width:
            if any(cells):
                yield Row(start, cells)
            continue
        if not any(cells):
            continue
        if len(recent) > 1:
            yield _alone(feed, start, QUOTES)
            reader = csv.reader(feed, delimiter=delimiter)
        elif len(cells) > width and not any(cells[width:]):
            yield Row(start, cells[:width])
        else:
            told = (MANY if len(cells) > width else FEW).format(n=len(cells), m=width)
            yield Row(start, cells, told)


def _alone(feed: _Feed, start: int, why: Text) -> Row:
    line = feed.take_back()
    if isinstance(line, _Bad):
        return Row(start, [], line.why, line.raw)
    return Row(start, [line.rstrip("\r\n")], why, line.encode("utf-8", "surrogatepass"))


# ----------------------------------------------------------------------------------------------------------------------- layout


def look(file: BinaryIO, known: Sequence[str] = (), *, sheet: str = "") -> Layout:
    """How a file is to be read: kind, encoding, delimiter, where its header is. ``known``: plain headings that are understood.

    :class:`Unreadable` when it cannot be read at all.
    """
    if kind_of(file) == "xlsx":
        from lianxin.exchange.tables import sheets

        return sheets.look(file, known, sheet)
    encoding = encoding_of(file)
    delimiter = _delimiter(file, encoding)
    first = [row for _, row in zip(range(LOOKED_AT), csv_rows(file, encoding, delimiter), strict=False)]
    if not first:
        raise Unreadable(EMPTY)
    layout = Layout("csv", [], 1, encoding, delimiter)
    settle_header(layout, [(row.number, row.cells) for row in first if row.refusal is None], known)
    return layout


def _delimiter(file: BinaryIO, encoding: str) -> str:
    """The delimiter that gives the first rows the most columns of one number."""
    best, most = ",", (0, 0)
    for candidate in CANDIDATES:
        widths = [
            len(row.cells)
            for _, row in zip(range(20), csv_rows(file, encoding, candidate), strict=False)
            if row.refusal is None
        ]
        if not widths:
            continue
        usual = max(set(widths), key=lambda w: (w > 1, widths.count(w), w))
        score = (widths.count(usual) if usual > 1 else 0, usual)
        if score > most:
            best, most = candidate, score
    return best


def plain(heading: str) -> str:
    """A heading for comparison: without case, blanks, signs and what stands in brackets behind it; full-width forms as plain ones."""
    import unicodedata

    text = unicodedata.normalize("NFKC", heading).replace("\ufeff", "").casefold().strip()
    text = re.sub(r"(?<=.)[(\[{<【].*$", "", text) or text
    return re.sub(r"[\s_\-./:*#'\"、，。()（）\[\]]+", "", text)


def settle_header(layout: Layout, rows: Sequence[tuple[int, Sequence[str]]], known: Sequence[str]) -> None:
    """Find the header among the first rows: the one with the most known headings, else the first full one."""
    words = set(known)
    best, score = 0, 0
    for number, cells in rows[:15]:
        found = len({p for p in map(plain, cells) if p in words})
        if found > score and found >= min(2, len(cells)):
            best, score = number, found
    if not best:
        widest = max(len([c for c in cells if c.strip()]) for _, cells in rows)
        number, cells = next(r for r in rows if len([c for c in r[1] if c.strip()]) >= max(1, widest // 2))
        filled = [c for c in cells if c.strip()]
        seems = sum(bool(_SEEMS_DATA.match(c.strip())) for c in filled)
        best = 0 if seems * 3 >= len(filled) else number
        if not best:
            layout.notes.append(
                T("第一行像是数据而不是列名，已按“没有表头”处理，列名为 列1、列2…；如有表头请在对应页指定其行号。",
                  "The first row seems to be data and no header, so columns are called 列1, 列2 …; say which row is the header if there is one.")
            )  # fmt: skip
            layout.header = 0
            layout.columns = [f"列{i}" for i in range(1, len(cells) + 1)]
            return
    first = rows[0][0]
    if best > first:
        layout.notes.append(
            T("第 {n} 行被当作表头，之前的行（标题等）不读。", "Row {n} was taken for the header; rows before it (a title) are not read.").format(n=best)
        )  # fmt: skip
    layout.header = best
    layout.columns, told = named(next(cells for number, cells in rows if number == best))
    layout.notes += told


def named(cells: Sequence[str]) -> tuple[list[str], list[Text]]:
    """Names of columns from the cells of a header: empty and repeated ones get names of their own, and are told."""
    out: list[str] = []
    told: list[Text] = []
    cells = list(cells)
    while cells and not cells[-1].strip():
        cells.pop()
    if len(cells) > MOST_COLUMNS:
        raise Unreadable(T("列数过多（超过 2000 列）。", "More than 2,000 columns."))
    for n, cell in enumerate(cells, 1):
        name = " ".join(cell.replace("\ufeff", "").split())[:120]
        if not name:
            name = f"列{n}"
            told.append(
                T("第 {n} 列没有列名（可能是合并的表头单元格），暂称“{name}”。", "Column {n} has no name (merged header cells, perhaps); it is called “{name}”.").format(n=n, name=name)
            )  # fmt: skip
        if name in out:
            count = 2
            while f"{name} ({count})" in out:
                count += 1
            told.append(
                T("列名“{a}”重复，第 {n} 列改称“{b}”。", "The name “{a}” is repeated; column {n} is called “{b}”.").format(a=name, n=n, b=f"{name} ({count})")
            )  # fmt: skip
            name = f"{name} ({count})"
        out.append(name)
    return out, told


def rows(file: BinaryIO, layout: Layout) -> Iterator[Row]:
    """The rows of data of a file, in order, as ``layout`` says."""
    if layout.kind == "xlsx":
        from lianxin.exchange.tables import sheets

        yield from sheets.rows(file, layout)
        return
    width = len(layout.columns)
    for row in csv_rows(file, layout.encoding, layout.delimiter, width):
        if row.number > layout.header:
            yield row
