"""Pure parts: ranges by age and sex, formulas, Westgard's rules, bar codes, what devices write."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianxin.record import units
from lianxin.regional.laboratory import barcode, calc, catalogue, judge, westgard
from lianxin.regional.reading import items
from lianxin.standards.text import Text


def test_every_laboratory_item_has_its_panel_and_every_analyte_is_whole() -> None:
    known = catalogue.load()
    ours = [row for row in items.shipped() if row["centre"] == "laboratory"]
    assert {row["code"] for row in ours} == set(known.panels)
    assert {row["specimen"] for row in ours} == set(known.kinds)
    assert {c for codes in known.panels.values() for c in codes} == set(known.analytes)
    for code, one in known.analytes.items():
        assert re.fullmatch(r"\d{3,6}-\d", one.loinc), code
        assert _loinc_check(one.loinc), one.loinc
        assert one.qualitative or units.valid(one.unit), (code, one.unit)
        assert one.ranges, code
        assert one.formula == "" or set(calc.needs(one.formula)) <= set(known.analytes)
    assert len(known.by_loinc) == len(known.analytes)


def _loinc_check(code: str) -> bool:
    body, digit = code.split("-")
    total = 0
    for n, char in enumerate(reversed(body)):
        value = int(char) * (1 if n % 2 else 2)
        total += value // 10 + value % 10
    return (10 - total % 10) % 10 == int(digit)


@pytest.mark.parametrize(
    ("code", "sex", "age", "weeks", "words"),
    [
        ("HGB", "male", 40 * 365, None, "130–175"),
        ("HGB", "female", 30 * 366, None, "115–150"),
        ("HGB", "female", 30 * 366, 8, "110–150"),
        ("HGB", "female", 30 * 366, 20, "105–150"),
        ("HGB", "male", 400, None, "107–141"),
        ("HGB", "unknown", 40 * 365, None, None),
        ("CREA", "male", 70 * 366, None, "57–111"),
        ("CREA", "female", 5 * 365, None, "19–44"),
        ("WBC", "unknown", None, None, "3.5–9.5"),
        ("WBC", "male", 10, None, None),
        ("CHOL", "male", 40 * 365, None, "≤ 5.2"),
        ("HDL", "male", 40 * 365, None, "≥ 1"),
        ("HBSAG", "male", 3, None, "阴性"),
    ],
)
def test_the_range_that_fits(
    code: str, sex: str, age: int | None, weeks: int | None, words: str | None
) -> None:
    found = catalogue.analyte(code).range_for(sex, age, weeks)
    assert (found.words if found else None) == words


def test_formulas() -> None:
    egfr = calc.egfr({"CREA": Decimal("88.42")}, "male", 50)
    assert egfr is not None
    assert round(egfr) == 92  # 1.0 mg/dL, 50 years: 92 mL/min/1.73 m2 (NKF's calculator)
    woman = calc.egfr({"CREA": Decimal("88.42")}, "female", 50)
    assert woman is not None
    assert round(woman) == 69
    assert calc.egfr({"CREA": Decimal(80)}, "male", 17) is None
    assert calc.egfr({"CREA": Decimal(80)}, "unknown", 50) is None
    assert (
        calc.compute("ldl", {"CHOL": Decimal(5), "HDL": Decimal(1), "TG": Decimal("4.6")}, "male", 50) is None
    )
    assert calc.compute("ag", {"TP": Decimal(40), "ALB": Decimal(40)}, "male", 50) is None
    assert calc.compute("ag", {"TP": Decimal(70)}, "male", 50) is None


@pytest.mark.parametrize(
    ("z", "before", "beside", "verdict", "rules"),
    [
        (0.5, [], [], "accept", ()),
        (2.1, [], [], "warn", ("1-2s",)),
        (-3.01, [], [], "reject", ("1-3s",)),
        (2.1, [2.2], [], "reject", ("2-2s",)),
        (2.1, [-2.2], [], "warn", ("1-2s",)),
        (2.1, [0.1, 2.2], [], "warn", ("1-2s",)),
        (2.2, [], [2.3], "reject", ("2-2s",)),
        (2.2, [], [-2.3], "reject", ("R-4s",)),
        (1.1, [1.2, 1.3, 1.4], [], "reject", ("4-1s",)),
        (1.1, [1.2, 1.3, 0.4], [], "accept", ()),
        (0.1, [0.2] * 9, [], "reject", ("10-x",)),
        (0.1, [0.2] * 8, [], "accept", ()),
        (0.1, [0.2] * 8 + [-0.1], [], "accept", ()),
    ],
)
def test_westgards_rules(
    z: float, before: list[float], beside: list[float], verdict: str, rules: tuple[str, ...]
) -> None:
    said = westgard.judge(z, before, beside)
    assert (said.verdict, said.rules) == (verdict, rules)


@given(z=st.floats(-2, 2), before=st.lists(st.floats(-0.99, 0.99), max_size=12))
def test_the_same_run_mirrored_is_judged_alike(z: float, before: list[float]) -> None:
    assert westgard.judge(z, before) == westgard.judge(-z, [-b for b in before])


def test_a_month_in_figures() -> None:
    found = westgard.summary([4.9, 5.0, 5.1, 5.2], 5.0, 10)
    assert (round(found["cv"], 2), round(found["bias"], 2), round(found["sigma"], 1)) == (2.56, 1.0, 3.5)
    assert westgard.summary([], 5.0, 10) == {"n": 0}
    assert "sigma" not in westgard.summary([5.0], 5.0, 10)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=30))
def test_a_bar_code_says_what_it_was_made_of(text: str) -> None:
    assert _decoded(barcode.values(text)) == text


def _decoded(values: list[int]) -> str:
    start, body, check = values[0], values[1:-2], values[-2]
    assert values[-1] == 106
    assert check == (start + sum(n * v for n, v in enumerate(body, 1))) % 103
    in_c, out = start == 105, []
    for value in body:
        if in_c and value == 100:
            in_c = False
        elif not in_c and value == 99:
            in_c = True
        else:
            out.append(f"{value:02d}" if in_c else chr(value + 32))
    return "".join(out)


def test_digits_take_half_the_room() -> None:
    assert len(barcode.values("000000000150")) == 9  # start, six pairs, check, stop
    assert 'viewBox="0 0 121 40"' in barcode.svg("000000000150")
    for bad in ("", "标本", "a\n"):
        with pytest.raises(ValueError, match="Code 128"):
            barcode.values(bad)


@pytest.mark.parametrize(
    ("code", "raw", "said"),
    [
        ("GLU", " 5.126 ", judge.Said("", Decimal("5.13"))),
        ("GLU", "＜0.3", judge.Said("<", Decimal("0.30"))),
        ("GLU", ">=50", judge.Said(">=", Decimal("50.00"))),
        ("HGB", "139.5", judge.Said("", Decimal("140"))),
        ("HBSAG", "Positive", judge.Said(text="阳性")),
        ("UPRO", "++", judge.Said(text="2+")),
        ("UPRO", "+-", judge.Said(text="±")),
        ("UNIT", "阴性", judge.Said(text="-")),
        ("UNIT", "阳性", judge.Said(text="+")),
    ],
)
def test_what_was_written_is_understood(code: str, raw: str, said: judge.Said) -> None:
    assert judge.read(catalogue.analyte(code), raw) == said


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        ("GLU", ""),
        ("GLU", "abc"),
        ("GLU", "-5"),
        ("GLU", "1e99"),
        ("GLU", "NaN"),
        ("HBSAG", "5"),
        ("UPRO", "9+"),
    ],
)
def test_what_cannot_be_a_result_is_said(code: str, raw: str) -> None:
    assert isinstance(judge.read(catalogue.analyte(code), raw), Text)


def test_flags_follow_the_range() -> None:
    glu = catalogue.analyte("GLU")
    fits = glu.range_for("male", 40 * 365)
    for raw, flag in (("3.9", "N"), ("3.89", "L"), ("6.10", "N"), ("6.2", "H"), ("<3.9", "L"), (">6.1", "H")):
        said = judge.read(glu, raw)
        assert isinstance(said, judge.Said)
        assert judge.flag(glu, said, fits) == flag, raw
    assert judge.flag(glu, judge.Said("", Decimal(5)), None) == ""
