"""Who vouches for results: guards of a person's verification, and the rules by which a whole report is verified without one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from lianxin.regional.laboratory import calc, catalogue, judge, policy, quality, results
from lianxin.regional.laboratory.judge import Rule, Standing
from lianxin.regional.laboratory.models import AutoRule, Result, Verification
from lianxin.regional.reading.models import Reading
from lianxin.standards.text import Text


def standings(reading: Reading) -> dict[str, Standing]:
    """Where every result in force stands."""
    have = results.current(reading)
    signed: dict[int, list[int]] = {}
    rows = Verification.objects.filter(result__in=[r.pk for r in have.values()]).order_by("level")
    for row in rows:
        signed.setdefault(row.result_id, []).append(row.account_id)
    gate = quality.gates(reading.centre_of_id, have.values())
    out = {}
    for code, one in have.items():
        formula = catalogue.analyte(code).formula
        out[code] = Standing(
            code, _author(one), tuple(signed.get(one.pk, ())), tuple(n for n in calc.needs(formula) if n in have) if formula else (),
            gate.get(code, ""),
        )  # fmt: skip
    return out


def _author(result: Result) -> int | None:
    return result.account_id if result.source == "hand" else None


def level(reading: Reading) -> int:
    """How often the report is vouched for in full: 0, 1 or 2."""
    found = standings(reading)
    return min((len(s.verifiers) for s in found.values()), default=0)


def required(reading: Reading) -> int:
    """How many people vouch for this report: by its items, and once more when settings ask so for critical values or delta."""
    again = set(policy.value("verify.second_when", reading.centre_of_id))
    have = results.current(reading).values()
    if ("critical" in again and any(r.flag in ("LL", "HH", "AA") for r in have)) or (
        "delta" in again and any(r.delta.get("beyond") for r in have)
    ):
        return 2
    return int(reading.laboratory.required)


def offered(
    reading: Reading, account_id: int, wanted: Sequence[str] | None = None
) -> tuple[list[str], dict[str, Text]]:
    """What somebody may vouch for now (of ``wanted``, or of everything left), and why not the rest.

    The first verification of every result comes before the second of any.
    """
    found = standings(reading)
    need = min(required(reading), level(reading) + 1)
    left = [code for code in found if len(found[code].verifiers) < need and (not wanted or code in wanted)]
    own = bool(policy.value("verify.self", reading.centre_of_id))
    return judge.closed(left, found, account_id, required=need, own_allowed=own)


def sign(
    reading: Reading,
    codes: Sequence[str],
    account_id: int,
    now: dt.datetime,
    rules: dict[str, AutoRule] | None = None,
) -> None:
    """Write who vouches for ``codes``."""
    have, found = results.current(reading), standings(reading)
    Verification.objects.bulk_create(
        [
            Verification(
                result=have[code], level=len(found[code].verifiers) + 1, account_id=account_id if rules is None else rules[code].account_id,
                rule=None if rules is None else rules[code], at=now,
            )
            for code in codes
        ]
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- by rule


def rules(institution_id: int) -> dict[str, AutoRule]:
    """The rule in force of each analyte at a laboratory: its own last row, else the last row for all."""
    last: dict[str, AutoRule] = {}
    for row in AutoRule.objects.filter(institution_id=institution_id).order_by("pk"):
        last[row.analyte] = row
    every = last.get("*")
    out = {code: last.get(code, every) for code in catalogue.load().analytes}
    return {code: row for code, row in out.items() if row is not None}


def why_not(reading: Reading) -> dict[str, list[str]]:
    """Why the report is not verified by rule: analyte → codes of ``judge.REASONS``; empty when it may be."""
    have, in_force = results.current(reading), rules(reading.centre_of_id)
    gate = quality.gates(reading.centre_of_id, have.values(), fresh=True)
    out: dict[str, list[str]] = {}
    for code, row in have.items():
        one, rule = catalogue.analyte(code), in_force.get(code)
        found = judge.why_not_auto(
            one, results.said_of(row), rule=Rule(rule.on, rule.low, rule.high) if rule else None, flag=row.flag if row.flag in ("N", "L", "H", "A", "") else "A",
            delta=row.delta, device_flags=row.device_flags, source=row.source, qc=gate.get(code, ""),
            critical=row.flag in ("LL", "HH", "AA"), refused_before=row.attempt > 1 and row.source != "calc",
        )  # fmt: skip
        if found:
            out[code] = found
    return out


def said(reasons: dict[str, list[str]] | list[Any]) -> list[tuple[Text, list[Text]]]:
    """Reasons in words, by analyte."""
    if not isinstance(reasons, dict):
        return []
    return [
        (catalogue.analyte(code).label, [judge.REASONS[r] for r in found]) for code, found in reasons.items()
    ]
