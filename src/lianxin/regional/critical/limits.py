"""Critical limits that depend on the patient, as data (``data/limits.yaml``; a consortium's own in :class:`models.Limit` from a day on).

:func:`check` is the detector: it answers with the limit a value passes, or None. It never guesses: a unit that it does not know raises
:class:`UnknownUnit`, so that no value slips by for being written in another way.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from lianxin.network.policy import Settings
from lianxin.standards.text import T, Text


class Shipped(Settings):
    """The limits' settings, with the version of the shipped file."""

    @property
    def version(self) -> str:
        """Version of the shipped limits."""
        return str(self._document["version"])


SETTINGS = Shipped(Path(__file__).parent / "data" / "limits.yaml", "critical.Limit")
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_NUMBER = re.compile(r"^(<=|>=|<|>|≤|≥)?([+-]?\d+(?:\.\d+)?)$")


class UnknownUnit(ValueError):
    """A value of a code that has limits, in a unit nobody taught us to convert."""


@dataclass(frozen=True)
class Hit:
    """A limit that a value passes.

    ``limit`` in words ("<2.8 mmol/L"), ``rule`` names the rule and its version, ``severity`` orders findings (0 for numbers).
    """

    code: str
    name: Text
    side: str
    limit: Text
    unit: str
    number: Decimal | None
    rule: str
    source: str
    severity: int = 0


def plain(text: str) -> str:
    """A text as it is compared: full width made narrow, no blanks, lower case."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()


def number(value: object) -> tuple[str, Decimal] | None:
    """("", 6.8) of "６.８", (">", 50) of ">50"; None for words."""
    text = re.sub(r"\s+", "", unicodedata.normalize("NFKC", str(value)))
    found = _NUMBER.match(text)
    if found is None:
        return None
    try:
        return (found[1] or "").replace("≤", "<=").replace("≥", ">="), Decimal(found[2])
    except InvalidOperation:
        return None


def _unit(text: str) -> str:
    """A unit as it is compared: ×10⁹/L, 10^9/L and 10*9/L are one; µ and μ are u."""
    text = plain(text.translate(_SUPER).replace("µ", "u").replace("μ", "u"))
    return text.replace("×", "").replace("^", "*").replace("109/l", "10*9/l").removeprefix("x")


def table(institution_id: int, on: dt.date | None = None) -> dict[str, dict[str, Any]]:
    """Every code's limits in force at an institution on a day."""
    return SETTINGS.values(institution_id, on)


@functools.lru_cache(maxsize=64)
def _aliases(codes: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, str]:
    return {alias: code for code, others in codes for alias in (code, *others)}


def resolve(code: str, rows: dict[str, dict[str, Any]]) -> str | None:
    """Our code of a LOINC code or of a laboratory's own (without regard to case), None when it has no limits."""
    if code in rows:
        return code
    known = _aliases(tuple((c, tuple(row.get("aka", ()))) for c, row in rows.items()))
    return known.get(code) or known.get(code.upper())


def findings(source: str = "", institution_id: int = 0) -> list[tuple[str, Text]]:
    """Critical findings in words as (code, name), the gravest first; of one source ("reading", "ecg", "pathology") when given."""
    rows = [
        (row["rank"], code, T(row["zh"], row["en"]))
        for code, row in table(institution_id).items()
        if "rank" in row and source in ("", row["source"])
    ]
    return [(code, name) for _, code, name in sorted(rows, key=lambda r: (-r[0], r[1]))]


def fits(rule: dict[str, Any], age_days: int | None, sex: str, known: frozenset[str]) -> bool:
    """Whether a rule is about this patient. An unknown age fits no rule that asks for one."""
    if ("from" in rule or "to" in rule) and age_days is None:
        return False
    if age_days is not None and not rule.get("from", 0) <= age_days < rule.get("to", 10**6):
        return False
    if rule.get("sex", sex) != sex:
        return False
    return "known" not in rule or rule["known"] in known


def converted(row: dict[str, Any], amount: Decimal, unit: str) -> Decimal:
    """``amount`` in the unit of the limits. No unit given means theirs; raises :class:`UnknownUnit`."""
    if not unit or _unit(unit) == _unit(row["unit"]):
        return amount
    for other, factor in row.get("units", {}).items():
        if _unit(other) == _unit(unit):
            return amount * Decimal(str(factor))
    raise UnknownUnit(f"{row['en']}: {unit!r} is not {row['unit']} nor {sorted(row.get('units', {}))}")


def check(
    code: str,
    value: object,
    unit: str = "",
    *,
    age_days: int | None,
    sex: str,
    department: str = "",
    known: frozenset[str] = frozenset(),
    institution_id: int | None = None,
    on: dt.date | None = None,
) -> Hit | None:
    """The limit that ``value`` passes, or None (no limits for the code, in range, or words where a number belongs).

    ``code`` is ours, LOINC or an alias; ``sex`` "male"/"female"; ``department`` and ``known`` are conditions that change the limits
    ("dialysis", "oncology", "diabetes", "anticoagulation"); ``institution_id`` the centre whose consortium's own limits count.
    "<2.0" and ">50" are read as what they say. A finding's code is critical whatever its value. Raises :class:`UnknownUnit`.
    """
    rows = table(institution_id or 0, on)
    ours = resolve(code, rows)
    if ours is None:
        return None
    row = rows[ours]
    name = T(row["zh"], row["en"])
    if "rank" in row:
        listed = T("危急发现目录", "listed critical finding")
        return Hit(
            ours, name, "finding", listed, "", None, f"{ours}@{_version(row)}", _source(row), row["rank"]
        )
    said = number(value)
    if said is None:
        return None
    sign, amount = said[0], converted(row, said[1], unit)
    conditions = known | ({department} if department else frozenset())
    for place, rule in enumerate(row["rules"], 1):
        if fits(rule, age_days, sex, conditions):
            side = passed(rule, sign, amount)
            if side is None:
                return None
            return Hit(
                ours, name, side, words(row, rule, side), row["unit"], amount, f"{ours}/{place}@{_version(row)}", _source(row)
            )  # fmt: skip
    return None


def passed(rule: dict[str, Any], sign: str, amount: Decimal) -> str | None:
    """ "low" or "high" when ``amount`` ("<"/">" before it: somewhere beyond) is surely past the rule's limit."""
    if "below" in rule and sign not in (">", ">="):
        limit = Decimal(str(rule["below"]))
        if amount < limit or (sign == "<" and amount <= limit):
            return "low"
    if "above" in rule and sign not in ("<", "<="):
        limit = Decimal(str(rule["above"]))
        if amount > limit or (sign == ">" and amount >= limit):
            return "high"
    return None


def words(row: dict[str, Any], rule: dict[str, Any], side: str) -> Text:
    """A rule's limit in words: "<2.8 mmol/L（新生儿）"."""
    limit = f"<{rule['below']}" if side == "low" else f">{rule['above']}"
    shown = f"{limit} {row['unit']}".strip()
    if "zh" not in rule:
        return T(shown, shown)
    return T(f"{shown}（{rule['zh']}）", f"{shown} ({rule['en']})")


def _version(row: dict[str, Any]) -> str:
    return str(row.get("version") or SETTINGS.version)


def _source(row: dict[str, Any]) -> str:
    return str(row.get("source_document") or SETTINGS.source)[:300]
