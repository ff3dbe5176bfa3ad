"""What the laboratory knows as data: specimen kinds, analytes with their ranges, panels. Read once; nothing here touches the database."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from lianxin.standards.text import T, Text

_DATA = Path(__file__).parent / "data"
QUALITATIVE = "{qualitative}"


@dataclass(frozen=True)
class Kind:
    """A kind of specimen: tube, least volume (mL), hours and temperatures (°C) it stands, days it is kept."""

    code: str
    label: Text
    snomed: str
    container: Text
    volume_ml: Decimal
    hours: int
    low: Decimal
    high: Decimal
    keep_days: int
    redo: Text


@dataclass(frozen=True)
class Range:
    """A reference range: for whom (sex, age in days from … to under …, weeks of pregnancy, method) and its limits.

    ``expected`` holds the normal words of a qualitative test.
    """

    low: Decimal | None = None
    high: Decimal | None = None
    sex: str = ""
    from_days: int = 0
    to_days: int | None = None
    pregnant: bool = False
    from_week: int = 0
    method: str = ""
    expected: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """As it is printed: "3.5–9.5", "≥ 1.0", "阴性"."""
        if self.expected:
            return "、".join(self.expected)
        if self.low is None:
            return "" if self.high is None else f"≤ {plain(self.high)}"
        return f"≥ {plain(self.low)}" if self.high is None else f"{plain(self.low)}–{plain(self.high)}"


@dataclass(frozen=True)
class Analyte:
    """One thing measured. ``delta``: per cent of change against the previous result that is looked at; ``report_low``/``report_high``: what
    the method measures; ``formula``: computed from others (see ``calc``); ``values``: the words of a qualitative test, least first."""

    code: str
    label: Text
    loinc: str
    unit: str
    decimals: int
    method: str = ""
    ranges: tuple[Range, ...] = ()
    delta: Decimal | None = None
    delta_days: int = 0
    report_low: Decimal | None = None
    report_high: Decimal | None = None
    formula: str = ""
    values: tuple[str, ...] = ()
    stable_hours: int = 24
    auto: bool = True

    @property
    def qualitative(self) -> bool:
        """Whether the result is a word and no number."""
        return bool(self.values)

    def rounded(self, value: Decimal) -> Decimal:
        """The value as it is reported."""
        return value.quantize(Decimal(1).scaleb(-self.decimals), ROUND_HALF_EVEN)

    def shown(self, value: Decimal) -> str:
        """The value in digits."""
        return format(self.rounded(value), "f")

    def range_for(
        self, sex: str, age_days: int | None, weeks: int | None = None, method: str = ""
    ) -> Range | None:
        """The range that fits a person best; None when none is known for them.

        A range for a method counts before one for any; for a pregnant woman (``weeks``) before the common one.
        An unknown age is judged by adults' ranges, an unknown sex only by ranges for both.
        """
        age = 40 * 365 if age_days is None else age_days
        best: tuple[tuple[bool, int, bool, bool], Range] | None = None
        for one in self.ranges:
            if (one.sex and one.sex != sex) or (one.method and one.method != method):
                continue
            if age < one.from_days or (one.to_days is not None and age >= one.to_days):
                continue
            if one.pregnant and (weeks is None or weeks < one.from_week):
                continue
            rank = (one.pregnant, one.from_week, bool(one.method), bool(one.sex))
            if best is None or rank > best[0]:
                best = (rank, one)
        return best[1] if best else None


@dataclass(frozen=True)
class Catalogue:
    """Everything of the files."""

    kinds: dict[str, Kind]
    refusals: dict[str, Text]
    analytes: dict[str, Analyte]
    panels: dict[str, tuple[str, ...]]
    by_loinc: dict[str, str] = field(default_factory=dict)


def plain(value: Decimal) -> str:
    """Digits without needless zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def number(value: Any) -> Decimal | None:
    """A finite number, else None."""
    if value is None or value == "":
        return None
    try:
        found = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _span(text: str) -> tuple[int, int | None]:
    """An age span in days: "28d-6m", "1y-2y", "18y-"."""
    unit = {"d": 1, "m": 30, "y": 365}

    def days(one: str) -> int:
        # a year is 365.25 days, so that a birthday is on the right side of it
        count, kind = int(one[:-1]), one[-1]
        return int(count * 365.25) if kind == "y" else count * unit[kind]

    first, _, last = text.partition("-")
    return days(first) if first else 0, days(last) if last else None


def _range(row: dict[str, Any]) -> Range:
    first, last = _span(row.get("age", "18y-"))
    return Range(
        number(row.get("low")), number(row.get("high")), {"M": "male", "F": "female", "": ""}[row.get("sex", "")], first, last,
        "pregnant" in row, int(row.get("pregnant") or 0), row.get("method", ""), tuple(row.get("expected", ())),
    )  # fmt: skip


def _analyte(code: str, row: dict[str, Any]) -> Analyte:
    report = row.get("report", [None, None])
    return Analyte(
        code, T(row["name"], row["name_en"]), row["loinc"], row.get("unit", ""), row.get("decimals", 0), row.get("method", ""),
        tuple(_range(one) for one in row.get("ranges", ())), number(row.get("delta")), row.get("delta_days", 0), number(report[0]),
        number(report[1]), row.get("formula", ""), tuple(row.get("values", ())), row.get("stable_hours", 24), row.get("auto", True),
    )  # fmt: skip


@functools.cache
def load() -> Catalogue:
    """The catalogue of the files beside this module."""
    tubes = yaml.load((_DATA / "specimens.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
    tests = yaml.load((_DATA / "analytes.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
    kinds = {
        code: Kind(
            code, T(row["name"], row["name_en"]), row["snomed"], T(row["container"], row["container_en"]), Decimal(str(row["volume_ml"])),
            row["hours"], Decimal(row["low"]), Decimal(row["high"]), row["keep_days"], T(row["redo"], row["redo_en"]),
        )
        for code, row in tubes["kinds"].items()
    }  # fmt: skip
    analytes = {code: _analyte(code, row) for code, row in tests["analytes"].items()}
    return Catalogue(
        kinds, {code: T(row["zh"], row["en"]) for code, row in tubes["refusals"].items()}, analytes,
        {item: tuple(codes) for item, codes in tests["panels"].items()},
        {one.loinc: code for code, one in analytes.items()},
    )  # fmt: skip


def analyte(code: str) -> Analyte:
    """An analyte by its code; KeyError when there is none."""
    return load().analytes[code]


def kind(code: str) -> Kind:
    """A kind of specimen by its code; KeyError when there is none."""
    return load().kinds[code]


def expected(items: Iterable[str]) -> list[str]:
    """The analytes that ordered items are reported with, in order, each once."""
    panels = load().panels
    return list(dict.fromkeys(code for item in items for code in panels.get(item, ())))


def refusals() -> dict[str, Text]:
    """Why a tube is refused."""
    return load().refusals
