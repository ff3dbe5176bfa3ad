"""From a level vector to bits, a probability, a FHIR match grade and the parts that people read as a waterfall."""

from __future__ import annotations

from dataclasses import dataclass

from lianxin.index.form import NAMED, Form
from lianxin.index.match.levels import FIELDS, LEVELS, POSITION, compare, number
from lianxin.index.match.model import POLICY, TF_OF, Model

CERTAIN, PROBABLE, POSSIBLE, CERTAINLY_NOT = "certain", "probable", "possible", "certainly-not"
"""http://terminology.hl7.org/CodeSystem/match-grade"""

_TF: tuple[tuple[int, dict[int, tuple[str, str]]], ...] = tuple(
    (POSITION[field], {level.number: (level.tf, TF_OF[level.tf]) for level in rows if level.tf})
    for field, rows in LEVELS.items()
    if any(level.tf for level in rows)
)
_RARER: tuple[tuple[int, dict[int, tuple[str, str]]], ...] = tuple(
    (POSITION[field], {level.number: (level.rarer, TF_OF[level.rarer]) for level in rows if level.rarer})
    for field, rows in LEVELS.items()
    if any(level.rarer for level in rows)
)
_NEAR: tuple[tuple[int, frozenset[int]], ...] = tuple(
    (POSITION[field], frozenset(level.number for level in rows if level.near))
    for field, rows in LEVELS.items()
    if any(level.near for level in rows)
)
_CAPS: tuple[tuple[int, dict[int, float]], ...] = tuple(
    (POSITION[field], {level.number: level.cap for level in rows if level.cap is not None})
    for field, rows in LEVELS.items()
    if any(level.cap is not None for level in rows)
)
_ID = POSITION["id"]
_STRANGERS = number("id", "strangers")
_CAP: float = POLICY["near_cap"]
_CAP_NEWBORN: float = POLICY["near_cap_newborn"]


@dataclass(frozen=True, slots=True)
class Scored:
    """``parts``: (field, level code, bits); "prior" and "household" (what the cap takes away) stand among them."""

    bits: float
    probability: float
    grade: str
    parts: tuple[tuple[str, str, float], ...]


def levels_bits(vector: tuple[int, ...], a: Form, b: Form, model: Model) -> float:
    """Bits of a level vector of ``a`` and ``b``."""
    rows = model.rows
    total = model.prior
    for row, level in zip(rows, vector, strict=True):
        if level:
            total += row[level]
    for position, kinds in _TF:
        found = kinds.get(vector[position])
        if found is not None:
            table, mine, other = model.tf[found[0]], getattr(a, found[1]), getattr(b, found[1])
            rarity = table.bits(mine)
            if mine != other:
                rarity = min(rarity, table.bits(other))
            total += rarity
    for position, kinds in _RARER:
        found = kinds.get(vector[position])
        if found is not None:
            total += model.lack(found[0], getattr(a, found[1]), getattr(b, found[1]))
    near = 0.0
    for position, levels in _NEAR:
        level = vector[position]
        if level in levels:
            near += rows[position][level]
            total -= rows[position][level]
    total += near
    if near > 0.0:
        cap = near_cap(vector, a.kind == b.kind == NAMED)
        if near > cap:
            total += cap - near
    return total


def near_cap(vector: tuple[int, ...], named: bool) -> float:
    """Most that the evidence of a household counts beside the other levels."""
    cap, told = (_CAP, False) if named else (_CAP_NEWBORN, True)
    for position, caps in _CAPS:
        found = caps.get(vector[position])
        if found is not None:
            cap, told = (min(cap, found) if told else found), True
    return cap


def bits(a: Form, b: Form, model: Model) -> float:
    """log2 of the odds that two registrations are of one person."""
    return levels_bits(compare(a, b), a, b, model)


def probability(total: float) -> float:
    """Posterior probability of ``total`` bits."""
    return 1.0 / (1.0 + 2.0 ** -max(-60.0, min(60.0, total)))


def grade(total: float, vetoed: bool, model: Model) -> str:
    """FHIR match grade: certain links by itself, probable and possible are a person's to judge."""
    if vetoed or total < model.review - 6:
        return CERTAINLY_NOT
    if total >= model.auto:
        return CERTAIN
    return PROBABLE if total >= model.review else POSSIBLE


def parts(vector: tuple[int, ...], a: Form, b: Form, model: Model) -> tuple[tuple[str, str, float], ...]:
    """The waterfall: what every field adds or takes, in bits; the sum is the score."""
    out = [("prior", "people", round(model.prior, 2))]
    near = 0.0
    for position, field in enumerate(FIELDS):
        level = vector[position]
        if not level:
            continue
        row = LEVELS[field][level]
        value = model.rows[position][level]
        near += value if row.near else 0.0
        if row.tf:
            attribute = TF_OF[row.tf]
            value += min(
                model.tf_bits(row.tf, getattr(a, attribute)), model.tf_bits(row.tf, getattr(b, attribute))
            )
        if row.rarer:
            attribute = TF_OF[row.rarer]
            value += model.lack(row.rarer, getattr(a, attribute), getattr(b, attribute))
        out.append((field, row.code, round(value, 2)))
    cap = near_cap(vector, a.kind == b.kind == NAMED)
    if near > cap:
        out.append(("household", "cap", round(cap - near, 2)))
    return tuple(out)


def score(a: Form, b: Form, model: Model) -> Scored:
    """Bits, probability, grade and waterfall of two registrations."""
    vector = compare(a, b)
    total = levels_bits(vector, a, b, model)
    vetoed = vector[_ID] == _STRANGERS
    return Scored(total, probability(total), grade(total, vetoed, model), parts(vector, a, b, model))
