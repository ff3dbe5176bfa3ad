"""Columns and values as data: which heading is which field, what a scheme or kind of care is called, the rules' words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lianxin.exchange.settlement.models import CARES, MONEY, SCHEMES
from lianxin.exchange.tables import reading
from lianxin.standards.text import T, Text

HERE = Path(__file__).parent / "data"
_UNIT = re.compile(r"[（(【\[]\s*(?:单位[:：]?)?\s*(元|分|万元|角)\s*[)）】\]]\s*$")
_FEN = {"元": 100, "分": 1, "万元": 1_000_000, "角": 10}


@dataclass(frozen=True)
class Field:
    """A field of a line. ``kind``: code, text, date, money, flag; ``sum``: several columns add up to it."""

    name: str
    kind: str
    label: Text
    names: frozenset[str]
    required: bool = False
    sum: bool = False


@dataclass(frozen=True)
class Rule:
    """What a row is asked, how bad it is when it fails, in words."""

    code: str
    severity: str
    dimension: str
    text: Text


@dataclass
class Columns:
    """How the columns of a file were understood: field -> their positions; ``fen``: how many fen one of a column's unit is."""

    at: dict[str, list[int]] = field(default_factory=dict)
    fen: dict[int, int] = field(default_factory=dict)
    heading: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)


def _read(name: str) -> dict[str, Any]:
    with (HERE / name).open(encoding="utf-8") as file:
        found: dict[str, Any] = yaml.load(file, Loader=yaml.CSafeLoader)
    return found


@cache
def data() -> dict[str, Any]:
    """``data/layout.yaml``."""
    return _read("layout.yaml")


@cache
def fields() -> dict[str, Field]:
    """The fields of a line, in the order of the file."""
    return {
        name: Field(
            name,
            one["kind"],
            T(one["zh"], one["en"]),
            frozenset(reading.plain(n) for n in one["names"]),
            one.get("required", False),
            one.get("sum", False),
        )
        for name, one in data()["fields"].items()
    }


@cache
def control_fields() -> dict[str, frozenset[str]]:
    """The columns of a control sheet."""
    return {name: frozenset(map(reading.plain, names)) for name, names in data()["control"].items()}


@cache
def rules() -> dict[str, Rule]:
    """What rows are asked, by code."""
    return {
        code: Rule(code, one["severity"], one["dimension"], T(one["zh"], one["en"]))
        for code, one in _read("rules.yaml").items()
    }


def known_headings() -> list[str]:
    """Every plain heading that means something in a file of lines."""
    return [name for one in fields().values() for name in one.names]


def recognise(headings: list[str]) -> Columns:
    """Which column is which; a second column of one field is used only where they add up, and named in ``twice``."""
    found = Columns()
    for position, heading in enumerate(headings):
        plain = reading.plain(re.sub(r" \(\d+\)$", "", heading))
        name = next((one.name for one in fields().values() if plain in one.names), "")
        if not name:
            found.ignored.append(heading)
            continue
        if name in found.at and not fields()[name].sum:
            found.twice.append(heading)
            continue
        found.at.setdefault(name, []).append(position)
        found.heading.setdefault(name, heading)
        found.fen[position] = unit_of(heading)
    return found


def unit_of(heading: str) -> int:
    """How many fen one of a column's unit is, by what its heading says in brackets; 100 (yuan) when it says nothing."""
    unit = _UNIT.search(heading)
    return _FEN[unit[1]] if unit else 100


def lacking(columns: Columns) -> list[Field]:
    """Required fields that no column is."""
    return [one for one in fields().values() if one.required and one.name not in columns.at]


def _value(kind: str, kinds: tuple[str, ...], text: str) -> str | None:
    table = data()[kind]
    for name, one in table.items():
        if text in one["codes"] or text == name:
            return str(name)
    for name, one in table.items():
        if any(word in text for word in one["words"]):
            return str(name)
    return None


@cache
def _scheme(text: str) -> str | None:
    return _value("scheme", SCHEMES, text)


@cache
def _care(text: str) -> str | None:
    return _value("care", CARES, text)


def scheme_of(text: str) -> str | None:
    """employee, resident, or None when it is not known."""
    return _scheme(text[:60])


def care_of(text: str) -> str | None:
    """The kind of care (see ``models.CARES``), or None when it is not known."""
    return _care(text[:60])


@cache
def _truths() -> dict[str, bool]:
    return {word.casefold(): said for key, said in (("yes", True), ("no", False)) for word in data()[key]}


def truth(text: str) -> bool | None:
    """A flag as the exports write it; None when it is neither."""
    return _truths().get(text.casefold())


SCHEME_LABELS = {
    "employee": T("职工医保", "Employees"),
    "resident": T("居民医保", "Residents"),
    "other": T("其他", "Other"),
    "": T("全部", "All"),
}
CARE_LABELS = {
    "outpatient": T("普通门诊", "Outpatient"),
    "emergency": T("急诊", "Emergency"),
    "chronic": T("门诊慢特病", "Chronic, outpatient"),
    "inpatient": T("住院", "Inpatient"),
    "maternity": T("生育", "Maternity"),
    "pharmacy": T("药店购药", "Pharmacy"),
    "other": T("其他", "Other"),
}
PLACE_LABELS = {
    "own": T("本医共体", "Own members"),
    "other": T("县域内其他机构", "Others in the county"),
    "outside": T("县域外", "Outside the county"),
    "pharmacy": T("药店", "Pharmacies"),
    "unknown": T("未识别", "Unknown"),
}
STATE_LABELS = {
    "uploaded": T("已上传", "Uploaded"),
    "checked": T("已核验", "Checked"),
    "held": T("对账不符", "Held"),
    "accepted": T("已入账", "Accepted"),
    "withdrawn": T("已撤回", "Withdrawn"),
    "refused": T("无法读取", "Refused"),
}
MONEY_LABELS = {name: fields()[name].label for name in MONEY}
