"""From cells to values: what a target's columns take, compiled once per mapping. A cell that is wrong is told, never guessed.

Values by name: the column itself (text as FHIR takes it, a number as :class:`Exact`), and what is made of it: ``sex.label`` (the words of
a code), ``result.number``, ``result.comparator``, ``result.text``, ``range.low``, ``range.high``.
"""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from lianxin.exchange.tables import recognise
from lianxin.exchange.tables.reading import Row
from lianxin.exchange.tables.targets import Column, Target, values
from lianxin.standards import clock
from lianxin.standards.text import T, Text

Values = dict[str, Any]
Cell = tuple[str, Text]
"""Name of the target's column and what is wrong with it ("" : the row)."""

BLANKS = frozenset(
    {
        "",
        "null",
        "NULL",
        "Null",
        "none",
        "None",
        "nan",
        "NaN",
        "N/A",
        "n/a",
        "#N/A",
        "\\N",
        "-",
        "—",
        "--",
        "/",
        "无此项",
    }
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_SCIENTIFIC = re.compile(r"\d(?:\.\d+)?[eE]\+?\d{1,3}")
_DATE = re.compile(
    r"(\d{4})\s*[-/.年]\s*(\d{1,2})\s*[-/.月]\s*(\d{1,2})\s*日?"
    r"(?:[T ]\s*(\d{1,2})[:：时](\d{1,2})(?:[:：分](\d{1,2})(?:\.(\d{1,9}))?)?秒?分?\s*(Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII,
)
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})(?:[T ]?(\d{2}):?(\d{2})(?::?(\d{2}))?(?:\.\d+)?)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][+-]?\d{1,2})?|[+-]?\.\d+", re.ASCII)
_COMPARED = re.compile(r"(<=|>=|<|>|≤|≥|＜|＞)\s*(\d.*)")
_RANGE = re.compile(
    r"([+-]?\d+(?:\.\d+)?)\s*(?:-{1,2}|~|～|—{1,2}|–|－|至|to)\s*([+-]?\d+(?:\.\d+)?)", re.ASCII
)
_ONE_SIDE = re.compile(r"(<=|>=|<|>|≤|≥|＜|＞)\s*([+-]?\d+(?:\.\d+)?)", re.ASCII)
_COMPARATORS = {"≤": "<=", "≥": ">=", "＜": "<", "＞": ">"}
_PHONE = re.compile(r"[\d+\-() 　（）转,，、/;；*#]{5,60}")
EARLIEST = 1880
_LATER = dt.timedelta(days=1)


class Exact(float):
    """A number that is written as it came ("7.30" stays 7.30)."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> Exact:
        made = super().__new__(cls, text)
        made.text = text
        return made

    def __reduce__(self) -> Any:
        return Exact, (self.text,)


class Wrong(Exception):
    """A cell cannot be taken."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.zh)
        self.text = text


LOST_DIGITS = T(
    "号码变成了科学计数（如 3.31E+17），位数已经丢失；请把该列设为“文本”格式后重新录入或导出。",
    "The number is in scientific notation (such as 3.31E+17) and has lost digits; format the column as text and export it again.",
)
_NO_DATE = T("不是日期，应如 2026-01-31。", "No date; it should be like 2026-01-31.")
_NO_TIME = T("不是日期时间，应如 2026-01-31 08:30。", "No date and time; it should be like 2026-01-31 08:30.")
_SERIAL = T(
    "是数字而不是日期（Excel 日期序号），请把该列设为日期格式。",
    "A number and no date (Excel's serial number); format the column as a date.",
)
_FUTURE = T("日期晚于今天。", "The date is later than today.")
_NO_NUMBER = T("应为数字。", "It should be a number.")
_NO_WHOLE = T("应为整数。", "It should be a whole number.")
_OUTSIDE = T("超出合理范围 {a}–{b}{u}。", "Outside what is plausible, {a}–{b}{u}.")
_TOO_LONG = T("超过 {n} 个字符。", "Longer than {n} characters.")
_UNKNOWN_CODE = T(
    "取值不在值域内（可在对应页为它指定含义）。",
    "Not in the value table (the mapping can say what it means).",
)
_NO_PHONE = T("不像电话号码。", "It does not look like a telephone number.")
_REQUIRED = T("必填。", "Required.")


def tidy(text: str) -> str:
    """A cell's text: no control characters, no blanks around it, NFC; a filler (NULL, -, N/A) is nothing."""
    if not text.isprintable():
        text = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = text.strip(" \t\n\u3000\xa0")
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return "" if text in BLANKS else text


@lru_cache(maxsize=100_000)
def moment(text: str) -> str:
    """A date or a date with a time as FHIR's dateTime (Asia/Shanghai where no zone is said); raises Wrong."""
    plain = unicodedata.normalize("NFKC", text).strip()
    found = _DATE.fullmatch(plain) or _COMPACT.fullmatch(plain)
    if found is None:
        raise Wrong(_SERIAL if re.fullmatch(r"\d{5}(\.\d+)?", plain) else _NO_TIME)
    parts = [part or "" for part in (*found.groups(), None, None)[:8]]
    year, month, day, hour, minute, second, _, zone = parts
    try:
        date = dt.date(int(year), int(month), int(day))
        if date.year < EARLIEST:
            raise Wrong(_NO_DATE)
        if not hour:
            return date.isoformat()
        if int(hour) == 24 and not int(minute):
            return f"{(date + _LATER).isoformat()}T00:00:00+08:00"
        time = dt.time(int(hour), int(minute), int(second or 0))
    except (ValueError, OverflowError):
        raise Wrong(_NO_TIME) from None
    shift = (
        "+08:00"
        if not zone
        else "+00:00"
        if zone == "Z"
        else zone
        if ":" in zone
        else f"{zone[:3]}:{zone[3:]}"
    )
    return f"{date.isoformat()}T{time.isoformat()}{shift}"


@lru_cache(maxsize=50_000)
def day(text: str) -> str:
    """The date of a date or dateTime; raises Wrong."""
    try:
        return moment(text)[:10]
    except Wrong as wrong:
        raise Wrong(wrong.text if wrong.text is _SERIAL else _NO_DATE) from None


@lru_cache(maxsize=100_000)
def number(text: str) -> Exact:
    """A number as it is written; raises Wrong."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    plain = plain.strip()
    if not _NUMBER.fullmatch(plain) or len(plain) > 24:
        raise Wrong(_NO_NUMBER)
    plain = plain.replace(",", "").lstrip("+")
    sign, digits = ("-", plain[1:]) if plain.startswith("-") else ("", plain)
    whole, _, rest = digits.partition(".")
    exponent = ""
    for e in "eE":
        if e in (rest or whole):
            head, _, exponent = (rest or whole).partition(e)
            if rest:
                rest = head
            else:
                whole = head
    shown = (
        sign
        + (whole.lstrip("0") or "0")
        + (f".{rest}" if rest else "")
        + (f"e{exponent}" if exponent else "")
    )
    made = Exact(shown)
    if not -1e15 < made < 1e15:
        raise Wrong(_NO_NUMBER)
    return made


@lru_cache(maxsize=50_000)
def _result(text: str) -> tuple[tuple[str, Any], ...]:
    """A result: a number, a compared number, or words."""
    compared = _COMPARED.fullmatch(text)
    try:
        if compared:
            sign = _COMPARATORS.get(compared[1], compared[1])
            return ("result.number", number(compared[2])), ("result.comparator", sign)
        return (("result.number", number(text)),)
    except Wrong:
        return (("result.text", text),)


@lru_cache(maxsize=50_000)
def _range(text: str) -> tuple[tuple[str, Any], ...]:
    plain = unicodedata.normalize("NFKC", text)
    both, one = _RANGE.fullmatch(plain), _ONE_SIDE.fullmatch(plain)
    try:
        if both:
            low, high = number(both[1]), number(both[2])
            return (("range.low", low), ("range.high", high)) if low <= high else ()
        if one:
            side = "range.high" if one[1] in "<=≤" or one[1] == "<=" else "range.low"
            return ((side, number(one[2])),)
    except Wrong:
        pass
    return ()


# ----------------------------------------------------------------------------------------------------------------- columns

Take = Callable[[str, Values], None]


def _taker(column: Column, own: Mapping[str, str]) -> Take:
    """What puts a tidy, non-empty text of this column among the values; raises Wrong."""
    name, most = column.name, column.max or 4_000

    def text(value: str, out: Values) -> None:
        if len(value) > most:
            raise Wrong(_TOO_LONG.format(n=most))
        out[name] = value

    def number_like(value: str, out: Values) -> None:
        if "+" in value and _SCIENTIFIC.fullmatch(value):
            raise Wrong(LOST_DIGITS)
        text(value.lstrip("'"), out)

    def code_text(value: str, out: Values) -> None:
        number_like(" ".join(value.split()), out)

    def identity(value: str, out: Values) -> None:
        plain = "".join(unicodedata.normalize("NFKC", value).split()).lstrip("'").upper()
        if _SCIENTIFIC.fullmatch(plain):
            raise Wrong(LOST_DIGITS)
        text(plain, out)

    def phone(value: str, out: Values) -> None:
        if not _PHONE.fullmatch(value):
            raise Wrong(_NO_PHONE)
        text(value, out)

    def a_day(value: str, out: Values) -> None:
        made = day(value)
        if column.past and made > clock.today().isoformat():
            raise Wrong(_FUTURE)
        out[name] = made

    def a_moment(value: str, out: Values) -> None:
        made = moment(value)
        if column.past and made > _tomorrow():
            raise Wrong(_FUTURE)
        out[name] = made

    def a_number(value: str, out: Values) -> None:
        made = number(value)
        if (column.least is not None and made < column.least) or (
            column.most is not None and made > column.most
        ):
            raise Wrong(
                _OUTSIDE.format(a=column.least, b=column.most, u=f" {column.unit}" if column.unit else "")
            )
        if column.type == "integer":
            if not made.is_integer():
                raise Wrong(_NO_WHOLE)
            made = Exact(str(int(made)))
        out[name] = made

    known: dict[str, tuple[str, str] | None] = {}

    def code(value: str, out: Values) -> None:
        if value not in known:
            found = recognise.meaning(column, value, dict(own))
            if len(known) > 10_000:
                known.clear()
            known[value] = None if found is None else (found, values(column.values)[found].label.zh)
        got = known[value]
        if got is not None:
            out[name], out[f"{name}.label"] = got
        elif column.lenient:
            out[f"{name}.label"] = value[:100]
        else:
            raise Wrong(_UNKNOWN_CODE)

    def result(value: str, out: Values) -> None:
        text(value, out)
        out.update(_result(value))

    def reference(value: str, out: Values) -> None:
        text(value, out)
        out.update(_range(value))

    return {
        "text": text, "id": code_text, "code_text": code_text, "identity": identity, "phone": phone, "date": a_day, "datetime": a_moment,
        "number": a_number, "integer": a_number, "code": code, "result": result, "range": reference,
    }[column.type]  # fmt: skip


def _tomorrow() -> str:
    """Past which a time lies in the future (clocks of institutions differ by hours)."""
    return (clock.today() + _LATER).isoformat() + "T"


REMEMBERED = 5_000
"""Different cells of a column whose meaning is remembered."""
_Known = tuple[Values, Text | None]


def _taken(cell: str, take: Take, default: str) -> _Known:
    """What a cell says, or what is wrong with it."""
    text = tidy(cell) or default
    out: Values = {}
    if text:
        try:
            take(text, out)
        except Wrong as why:
            return {}, why.text
    return out, None


@dataclass(slots=True)
class Converted:
    """A row as values, or what is wrong with it."""

    row: Row
    values: Values
    wrong: list[Cell] = field(default_factory=list)


class Converter:
    """Rows of one mapping to values. Raises KeyError for a target that does not exist."""

    def __init__(self, target: Target, rules: Mapping[str, Any], names: Sequence[str]) -> None:
        self.target = target
        places = {name: at for at, name in reversed(list(enumerate(names)))}
        defaults = {n: c.default for n, c in target.columns.items() if c.default}
        defaults.update({n: v for n, v in rules.get("defaults", {}).items() if v and n in target.columns})
        self.missing = [n for n in rules["columns"].values() if n not in places]
        self._steps: list[tuple[int, str, Take, str, dict[str, _Known]]] = []
        for name, column in target.columns.items():
            at = places.get(rules["columns"].get(name, ""), -1)
            default = defaults.get(name, "")
            if at >= 0 or default:
                take = _taker(column, rules.get("values", {}).get(name, {}))
                self._steps.append((at, name, take, default, {}))
        self.used = {at for at, *_ in self._steps if at >= 0}

    def convert(self, row: Row) -> Converted:
        """The values of one row; every cell that is wrong is told."""
        if row.refusal is not None:
            return Converted(row, {}, [("", row.refusal)])
        out: Values = {}
        wrong: list[Cell] = []
        cells, bad = row.cells, row.bad
        for at, name, take, default, known in self._steps:
            if bad is not None and at in bad:
                wrong.append((name, bad[at]))
                continue
            cell = cells[at] if at >= 0 else ""
            found = known.get(cell)
            if found is None:  # most columns say few different things, and those next to each other
                if len(known) > REMEMBERED:
                    known.clear()
                found = known[cell] = _taken(cell, take, default)
            if found[1] is not None:
                wrong.append((name, found[1]))
            else:
                out.update(found[0])
        self._whole(out, wrong)
        return Converted(row, out, wrong)

    def _whole(self, out: Values, wrong: list[Cell]) -> None:
        """What rows as a whole must keep."""
        target = self.target
        if not target.require <= out.keys():
            told = {name for name, _ in wrong}
            wrong += [(name, _REQUIRED) for name in sorted(target.require - out.keys()) if name not in told]
        for names in target.require_any:
            if not any(n in out for n in names) and not any(n in names for n, _ in wrong):
                wrong.append(
                    (names[0], T("“{a}”至少填一项。", "Give one of “{a}”.").format(a=recognise.joined(target.columns[n] for n in names)))
                )  # fmt: skip
        for first, last in target.order_of:
            if first in out and last in out and out[last][:10] < out[first][:10]:
                wrong.append(
                    (last, T("早于“{c}”。", "Earlier than “{c}”.").format(c=target.columns[first].label))
                )
        if (
            "patient_no" not in out
            and "id_no" not in out
            and not any(n in ("patient_no", "id_no") for n, _ in wrong)
        ):
            wrong.append(
                (
                    "patient_no",
                    T("院内号与证件号码至少填一项。", "Give the local number or the identity number."),
                )
            )
