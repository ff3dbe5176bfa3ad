"""Limits that depend on the patient: bands of age, conditions, units, codes, a consortium's own."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from lianxin.regional.critical import limits
from lianxin.regional.critical.limits import UnknownUnit, check
from lianxin.regional.critical.models import Limit
from tests import factories

pytestmark = pytest.mark.django_db
ADULT = {"age_days": 18_000, "sex": "male"}


@pytest.mark.parametrize(
    ("code", "value", "unit", "side"),
    [
        ("K", "6.8", "mmol/L", "high"), ("K", "6.2", "mmol/L", None), ("K", "6.21", "mmol/L", "high"), ("K", 2.7, "mmol/L", "low"),
        ("2823-3", "2.0", "mmol/L", "low"), ("k", "4.0", "mmol/L", None), ("K", "＞７．０", "mmol/L", "high"), ("K", "<2.8", "", "low"),
        ("K", "<3.5", "", None), ("K", ">2.0", "", None), ("GLU", "500", "mg/dL", "high"), ("GLU", "36", "mg/dL", "low"),
        ("PLT", "12", "×10⁹/L", "low"), ("PLT", "12", "10^9/L", "low"), ("CREA", "700", "μmol/L", "high"), ("PH", "7.1", "", "low"),
        ("K", "溶血", "mmol/L", None), ("K", "", "mmol/L", None), ("XX", "1", "mmol/L", None), ("K", "NaN", "mmol/L", None),
        ("K", "1e5", "mmol/L", None), ("ECG-STEMI", "", "", "finding"),
    ],
)  # fmt: skip
def test_a_value_passes_a_limit_or_does_not(code: str, value: object, unit: str, side: str | None) -> None:
    hit = check(code, value, unit, **ADULT)
    assert (hit.side if hit else None) == side


def test_limits_depend_on_age_and_condition() -> None:
    assert check("K", "6.5", "mmol/L", age_days=3, sex="female") is None
    assert check("K", "6.5", "mmol/L", age_days=28, sex="female") is not None
    assert check("K", "6.4", "mmol/L", department="dialysis", **ADULT) is None
    assert check("K", "6.4", "mmol/L", known=frozenset({"dialysis"}), **ADULT) is None
    hit = check("K", "7.1", "mmol/L", age_days=3, sex="female")
    assert hit is not None
    assert str(hit.limit.zh) == ">7.0 mmol/L（新生儿）"
    assert hit.number == Decimal("7.1")
    assert check("TBIL", "200", "umol/L", age_days=0, sex="male") is not None
    assert check("TBIL", "200", "umol/L", age_days=5, sex="male") is None
    assert check("K", "6.5", "mmol/L", age_days=None, sex="") is not None  # unknown age: the general rule


def test_an_unknown_unit_is_an_error_and_no_silent_pass() -> None:
    with pytest.raises(UnknownUnit):
        check("K", "6.8", "furlong", **ADULT)


def test_a_consortium_sets_its_own_from_a_day_on() -> None:
    lead = factories.make_institution(kind="hospital")
    other = factories.make_institution(kind="hospital")
    consortium = factories.make_consortium(lead)
    row = dict(limits.SETTINGS.shipped["K"]) | {"rules": [{"above": 7.5}], "version": "own"}
    Limit.objects.create(
        name="K",
        consortium=consortium,
        value=row,
        effective_from=dt.date(2026, 1, 1),
        source="医务〔2026〕1号",
    )
    assert check("K", "7.0", "mmol/L", institution_id=lead.pk, **ADULT) is None
    assert check("K", "7.0", "mmol/L", institution_id=other.pk, **ADULT) is not None
    assert check("K", "7.0", "mmol/L", institution_id=lead.pk, on=dt.date(2025, 12, 31), **ADULT) is not None


def test_the_shipped_file_is_whole() -> None:
    aliases: dict[str, str] = {}
    for code, row in limits.SETTINGS.shipped.items():
        assert row["zh"], code
        assert row["en"], code
        for other in row.get("aka", ()):
            assert aliases.setdefault(other, code) == code, f"{other} means two things"
        if "rank" in row:
            assert row["source"] in ("reading", "ecg", "pathology")
            continue
        assert row["rules"], code
        last = row["rules"][-1]
        assert not {"from", "to", "known", "sex"} & last.keys(), f"{code}: the last rule is for everybody"
        for rule in row["rules"]:
            assert rule.keys() <= {"from", "to", "known", "sex", "below", "above", "zh", "en"}, code
            assert "below" in rule or "above" in rule
            assert rule.get("below", -1) < rule.get("above", 10**9)
    assert next(code for code, _ in limits.findings("ecg")) == "ECG-VF"
