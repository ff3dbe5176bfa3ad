"""Analytes that are computed from others. Pure: values in the catalogue's units go in, the unrounded value comes out (None: not computable).

Sources: CKD-EPI creatinine equation 2021 (Inker et al., NEJM 2021;385:1737); Friedewald 1972 for LDL, valid to triglycerides of 4.5 mmol/L
(《中国血脂管理指南（2023年）》); albumin/globulin and indirect bilirubin by subtraction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

UMOL_PER_MG_DL = Decimal("88.42")
"""Creatinine: 1 mg/dL is 88.42 µmol/L."""


@dataclass(frozen=True)
class Formula:
    """What an analyte is computed from, and how."""

    needs: tuple[str, ...]
    of: Callable[[Mapping[str, Decimal], str, int | None], Decimal | None]


def egfr(values: Mapping[str, Decimal], sex: str, age_years: int | None) -> Decimal | None:
    """mL/min/1.73 m² from creatinine in µmol/L; None under 18 years or for an unknown age or sex."""
    crea = values["CREA"]
    if age_years is None or age_years < 18 or sex not in ("male", "female") or crea <= 0:
        return None
    female = sex == "female"
    ratio = float(crea / UMOL_PER_MG_DL) / (0.7 if female else 0.9)
    alpha = -0.241 if female else -0.302
    found = 142 * min(ratio, 1) ** alpha * max(ratio, 1) ** -1.200 * 0.9938**age_years
    return Decimal(str(found * (1.012 if female else 1)))


def _ldl(values: Mapping[str, Decimal], sex: str, age_years: int | None) -> Decimal | None:
    if values["TG"] > Decimal("4.5"):
        return None
    found = values["CHOL"] - values["HDL"] - values["TG"] / Decimal("2.2")
    return found if found >= 0 else None


def _less(a: str, b: str) -> Callable[[Mapping[str, Decimal], str, int | None], Decimal | None]:
    def of(values: Mapping[str, Decimal], sex: str, age_years: int | None) -> Decimal | None:
        return values[a] - values[b] if values[a] >= values[b] else None

    return of


def _ag(values: Mapping[str, Decimal], sex: str, age_years: int | None) -> Decimal | None:
    globulin = values["TP"] - values["ALB"]
    return values["ALB"] / globulin if globulin > 0 else None


FORMULAS: dict[str, Formula] = {
    "egfr": Formula(("CREA",), egfr),
    "ldl": Formula(("CHOL", "HDL", "TG"), _ldl),
    "nonhdl": Formula(("CHOL", "HDL"), _less("CHOL", "HDL")),
    "ibil": Formula(("TBIL", "DBIL"), _less("TBIL", "DBIL")),
    "glob": Formula(("TP", "ALB"), _less("TP", "ALB")),
    "ag": Formula(("TP", "ALB"), _ag),
}


def compute(formula: str, values: Mapping[str, Decimal], sex: str, age_years: int | None) -> Decimal | None:
    """The value of ``formula``; None when an input is missing or it does not apply."""
    found = FORMULAS[formula]
    if any(code not in values for code in found.needs):
        return None
    return found.of(values, sex, age_years)


def needs(formula: str) -> tuple[str, ...]:
    """The analytes a formula is computed from."""
    return FORMULAS[formula].needs
