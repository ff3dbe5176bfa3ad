"""Weights without labels: u from random pairs, m by expectation-maximisation over counted agreement patterns (Fellegi-Sunter).

A pattern is a level vector and the rarity (whole bits) of what it has in common; millions of pairs make some thousand patterns, so
the iteration costs nothing. Every step scores as the online matcher does (prior, term frequency, household cap), over the space
of all pairs: pairs that share no key are taken for strangers. Same patterns, same weights: nothing is random here.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lianxin.index.form import NAMED, Form
from lianxin.index.match.levels import FIELDS, LEVELS, POSITION, compare
from lianxin.index.match.model import POLICY, TF_OF, Model

Pattern = tuple[int, ...]
"""Levels in the order of ``FIELDS``, then the rarity of what is in common in whole bits, then 1 when one is a newborn."""

LOWEST, HIGHEST = -14.0, 24.0
"""No level is worth more, whatever the counts say."""


def pattern(a: Form, b: Form, model: Model) -> Pattern:
    """The pattern of a pair under the term frequencies of ``model``."""
    vector = compare(a, b)
    rarity = 0.0
    for field, rows in LEVELS.items():
        kind = rows[vector[POSITION[field]]].tf
        if kind:
            name = TF_OF[kind]
            rarity += min(model.tf_bits(kind, getattr(a, name)), model.tf_bits(kind, getattr(b, name)))
        kind = rows[vector[POSITION[field]]].rarer
        if kind:
            rarity += model.lack(kind, getattr(a, TF_OF[kind]), getattr(b, TF_OF[kind]))
    return (*vector, round(rarity), 0 if a.kind == b.kind == NAMED else 1)


def count(pairs: Iterable[tuple[Form, Form]], model: Model) -> Counter[Pattern]:
    """Patterns of these pairs and how often each occurs."""
    return Counter(pattern(a, b, model) for a, b in pairs)


@dataclass(frozen=True)
class Table:
    """Counted patterns as arrays: ``levels`` (patterns x fields), ``rarity``, ``newborn``, ``n``."""

    levels: np.ndarray
    rarity: np.ndarray
    newborn: np.ndarray
    n: np.ndarray

    @staticmethod
    def of(counts: Counter[Pattern]) -> Table:
        """Sorted, so that sums do not depend on the order of counting."""
        rows = np.array(sorted(counts), dtype=np.int64).reshape(len(counts), len(FIELDS) + 2)
        n = np.array([counts[tuple(int(v) for v in row)] for row in rows], dtype=np.float64)
        return Table(rows[:, :-2], rows[:, -2].astype(np.float64), rows[:, -1] == 1, n)

    def bits(self, weights: dict[str, tuple[float, ...]], prior: float) -> np.ndarray:
        """Score of every pattern."""
        total = self.rarity + prior
        near = np.zeros(len(self.n))
        cap = np.where(self.newborn, float(POLICY["near_cap_newborn"]), np.inf)
        for i, field in enumerate(FIELDS):
            row = np.array(weights[field])
            close = np.array([level.near for level in LEVELS[field]])
            found = row[self.levels[:, i]]
            is_near = close[self.levels[:, i]]
            caps = np.array([np.inf if level.cap is None else level.cap for level in LEVELS[field]])
            cap = np.minimum(cap, caps[self.levels[:, i]])
            total += np.where(is_near, 0.0, found)
            near += np.where(is_near, found, 0.0)
        cap = np.where(np.isinf(cap), float(POLICY["near_cap"]), cap)
        return total + np.minimum(near, cap)

    def shares(self, weight: np.ndarray, field: str) -> np.ndarray:
        """Weighted count of every level of ``field``."""
        i = POSITION[field]
        return np.bincount(self.levels[:, i], weights=weight, minlength=len(LEVELS[field]))


def train(
    candidates: Counter[Pattern],
    strangers: Counter[Pattern],
    start: Model,
    *,
    pairs: float,
    version: str,
    record: dict[str, Any],
    rounds: int = 60,
    trust: float = 20.0,
    leash: float = 3.0,
) -> Model:
    """A model from counted patterns.

    ``candidates``: patterns of the pairs that share a key; ``strangers``: of random pairs; ``pairs``: how many pairs there are
    altogether. ``trust``: how many pairs the starting weights count for, so that a level that hardly occurs keeps its start;
    ``leash``: bits that a weight may move away from it (fields are not independent, and what EM takes for evidence may be habit).
    """
    near, far = Table.of(candidates), Table.of(strangers)
    weights = {field: tuple(start.weights[field]) for field in FIELDS}
    prior, steps = start.prior, 0
    while steps < rounds:
        steps += 1
        chance = near.n / (1.0 + np.exp2(-np.clip(near.bits(weights, prior), -60, 60)))
        unlike = far.n / (1.0 + np.exp2(np.clip(far.bits(weights, prior), -60, 60)))
        fresh = {
            f: _weights(f, near.shares(chance, f), far.shares(unlike, f), start, (trust, leash))
            for f in FIELDS
        }
        matches = max(float(chance.sum()), 1.0)
        found = math.log2(matches / max(pairs - matches, 1.0))
        moved = max(abs(x - y) for f in FIELDS for x, y in zip(fresh[f], weights[f], strict=True))
        moved = max(moved, abs(found - prior))
        weights, prior = fresh, found
        if moved < 1e-3:
            break
    rounded = {f: tuple(round(float(w), 2) for w in row) for f, row in weights.items()}
    told = {
        **record,
        "kind": "em",
        "rounds": steps,
        "matches": round(matches),
        "prior_of_data": round(prior, 2),
    }
    return replace(start, version=version, weights=rounded, training=told)


def _weights(
    field: str, same: np.ndarray, other: np.ndarray, start: Model, hold: tuple[float, float]
) -> tuple[float, ...]:
    """Bits of one field's levels from the weighted counts among matches and among strangers."""
    rows, old = LEVELS[field], start.weights[field]
    trust, leash = hold
    if same[1:].sum() < 1 or other[1:].sum() < 1:
        return tuple(old)
    m = (same[1:] + 0.5) / (same[1:].sum() + 0.5 * len(rows[1:]))
    out = [0.0]
    for row, share, seen in zip(rows[1:], m, other[1:], strict=True):
        begun = old[row.number]
        if row.tf:
            learned = math.log2(share)
            n = same[row.number]
        else:
            u = (seen + 0.25) / (other[1:].sum() + 0.5)
            learned = math.log2(share / u)
            n = same[row.number] + seen
        if row.fixed:
            out.append(begun)
            continue
        kept = (learned * n + begun * trust) / (n + trust)
        out.append(min(HIGHEST, begun + leash, max(LOWEST, begun - leash, kept)))
    return tuple(out)
