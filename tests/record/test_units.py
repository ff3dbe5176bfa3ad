"""UCUM: what is a code, what converts into what, and that nothing absurd costs time."""

from decimal import Decimal as D

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lianxin.record import units

EXACT = [
    ("1", "mg/dL", "g/L", "0.01"),
    ("37", "Cel", "[degF]", "98.6"),
    ("98.6", "[degF]", "Cel", "37"),
    ("0", "Cel", "K", "273.15"),
    ("310.15", "K", "Cel", "37"),
    ("37000", "mCel", "Cel", "37"),
    ("120", "mm[Hg]", "kPa", "15.99864"),
    ("10", "cm[H2O]", "Pa", "980.665"),
    ("1", "[in_i]", "cm", "2.54"),
    ("6", "[ft_i]", "m", "1.8288"),
    ("1", "[lb_av]", "kg", "0.45359237"),
    ("1", "kat", "U", "60000000"),
    ("1", "10*3/uL", "10*9/L", "1"),
    ("4.5", "10^12/L", "10*6/uL", "4.5"),
    ("7", "mol", "mmol", "7000"),
    ("1", "eq", "mol", "1"),
    ("5", "mmol/mol", "%", "0.5"),
    ("1", "[IU]/mL", "k[IU]/L", "1"),
    ("1", "[iU]", "[IU]", "1"),
    ("72", "{beats}/min", "/min", "72"),
    ("60", "/min", "Hz", "1"),
    ("1", "cal", "J", "4.184"),
    ("1", "Ci", "GBq", "37"),
    ("1", "a", "mo", "12"),
    ("1", "mo", "d", "30.4375"),
    ("90", "mL/min/{1.73_m2}", "mL/min", "90"),
    ("70", "umol/L", "mmol/m3", "70"),
    ("80", "dyn.s/cm5", "Pa.s/m3", "8000000"),
    ("2", "g/kg/(8.h){shift}", "mg/kg/h", "250"),
    ("30", "{次}/min", "/min", "30"),
]


@pytest.mark.parametrize(("value", "frm", "to", "expected"), EXACT)
def test_known_factors(value: str, frm: str, to: str, expected: str) -> None:
    assert units.convert(D(value), frm, to) == D(expected)


@pytest.mark.parametrize(
    ("value", "frm", "to", "expected"),
    [
        ("7.4", "[pH]", "nmol/L", "39.810717055"),
        ("40", "nmol/L", "[pH]", "7.3979400087"),
        ("180", "deg", "rad", "3.1415926536"),
        ("1", "L/min", "mL/s", "16.666666667"),
        ("20", "dB", "B", "2"),
        ("100", "[p'diop]", "deg", "45"),
        ("1", "d", "wk", "0.1428571429"),
    ],
)
def test_factors_without_a_finite_decimal(value: str, frm: str, to: str, expected: str) -> None:
    made = units.convert(D(value), frm, to)
    assert made is not None
    assert abs(made - D(expected)) < D("1e-8")


@pytest.mark.parametrize(
    ("frm", "to"),
    [
        ("mg/dL", "mmol/L"),  # a molar mass is no business of units
        ("10*9/L", "mmol/L"),  # cells are not counted in moles
        ("[IU]", "[CFU]"),
        ("[IU]", "mg"),
        ("kg", "m"),
        ("Cel", "kPa"),
        ("Cel/min", "K/s"),  # special units take part in no product
        ("天", "d"),
        ("mg", ""),
        ("", ""),
    ],
)
def test_what_does_not_convert(frm: str, to: str) -> None:
    assert units.convert(D(1), frm, to) is None


@pytest.mark.parametrize(
    "code",
    ["1", "%", "10*9/L", "{score}", "mg{total}/dL", "/[HPF]", "m+2", "mm[Hg]", "[in_i'H2O]", "U/(10.g){feces}", "B[10.nV]",
     "[m/s2/Hz^(1/2)]", "mmol/(8.h.kg)", "10.uN.s/(cm5.m2)", "(10*60)", "dag", "daL", "Pa", "PT", "cd"],
)  # fmt: skip
def test_codes(code: str) -> None:
    assert units.valid(code)


@pytest.mark.parametrize(
    "code",
    ["", " ", "m g", "mg/", "/", ".m", "m2.", "m//s", "{", "{a}{b}", "m0", "0", "[]", "K[", "kkg", "µg", "KG", "m()", "()", "Cel2",
     "2.Cel", "公斤", "mg\n", "m-", "10*61", "d'", "m^2", "{a}%"],
)  # fmt: skip
def test_what_is_no_code(code: str) -> None:
    assert not units.valid(code)
    assert units.dimension(code) is None


def test_dimensions_and_base_units() -> None:
    assert units.dimension("mg/dL") == units.dimension("g/L") == "g.m-3"
    assert units.dimension("%") == units.dimension("{score}") == units.dimension("rad/rad") == "1"
    assert units.dimension("mmol/L") == units.dimension("meq/dL") == "m-3.mol"
    assert units.dimension("[IU]/mL") == "[iU].m-3"
    assert units.canonical(D("5.5"), "mg/dL") == (D("55"), "g.m-3")
    assert units.canonical(D("37"), "Cel") == (D("310.15"), "K")
    assert units.canonical(D("1"), "毫克") is None


@pytest.mark.parametrize(
    "code",
    ["(" * 99 + "m", "g." * 49 + "g", "Ym60.Ym60.Ym60.Ym60.Ym60.Ym60.Ym60.Ym60.Ym60.Ym60.Ym60.Ym60", "g" * 10**6, "10*999",
     "{" * 100, "[" * 100, "999999999999999." * 6 + "1", "m999999999999999999"],
)  # fmt: skip
def test_absurd_codes_are_refused(code: str) -> None:
    assert units.canonical(D(1), code) is None or units.valid(code)


@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "-sNaN", "1e999999999", "1e-999999999", "1" * 100_000, "1e401"]
)
def test_absurd_numbers_are_refused(value: str) -> None:
    assert units.convert(D(value), "g", "mg") is None
    assert units.canonical(D(value), "[pH]") is None
    assert units.convert(D(value), "[pH]", "mol/L") is None


def test_special_units_outside_their_domain() -> None:
    assert units.convert(D(-1), "mol/L", "[pH]") is None
    assert units.convert(D(0), "mol/L", "[pH]") is None
    assert units.convert(D("1e8"), "[pH]", "mol/L") is None
    assert units.convert(D("-1e300"), "Np", "1") == 0 or units.convert(D("-1e300"), "Np", "1") is None
    assert units.convert(D("3.7"), "daB[kW]", "B[kW]") == 37


@given(st.text(max_size=60))
def test_any_text_is_answered(code: str) -> None:
    assert (units.dimension(code) is None) == (units.canonical(D("1.5"), code) is None)


@given(
    st.lists(
        st.sampled_from(
            [
                "mg",
                "kg",
                "L",
                "/",
                ".",
                "(",
                ")",
                "{a}",
                "10*",
                "2",
                "-3",
                "[IU]",
                "Cel",
                "mm[Hg]",
                "%",
                "U",
                "mol",
            ]
        ),
        max_size=14,
    ),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=6),
)
def test_there_and_back(parts: list[str], value: D) -> None:
    code = "".join(parts)
    made = units.canonical(value, code)
    if made is None:
        return
    assert units.dimension(made[1]) == made[1]
    back = units.convert(made[0], made[1], code)
    assert back is not None
    assert abs(back - value) <= D("1e-15") * max(1, abs(value))
