"""From pairs that link by themselves to people: strongest pair first, and nobody is joined over a veto. Deterministic.

Most groups are plain (no two members contradict each other, no weak bridge) and are settled for all at once; only the others are
gone through pair by pair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Ints = Any
"""A numpy array of whole numbers."""


@dataclass(slots=True)
class Links:
    """Pairs of rows that link by themselves, and their bits."""

    left: Ints
    right: Ints
    bits: Any


@dataclass(slots=True)
class Votes:
    """Pairs of rows within a group: ``vote`` 1 speaks for one person, -1 against, :data:`NEVER` forbids."""

    left: Ints
    right: Ints
    vote: Ints


NEVER = -100
"""The vote of a veto."""


@dataclass(slots=True)
class Clusters:
    """``label[n]``: smallest row of the person that row ``n`` belongs to; ``refused``: positions in the links of those between
    different people in the end: material for the review desk."""

    label: Ints
    refused: Ints


def components(n: int, left: Ints, right: Ints) -> Ints:
    """Smallest row that each of ``n`` rows is connected with."""
    label = np.arange(n, dtype=np.int64)
    while True:
        a, b = label[left], label[right]
        differ = a != b
        if not differ.any():
            return label
        left, right, a, b = left[differ], right[differ], a[differ], b[differ]
        np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while True:
            up = label[label]
            if np.array_equal(up, label):
                break
            label = up


def cluster(
    links: Links,
    votes: Votes,
    label: Ints,
    *,
    join: float,
    margin: float,
    must: Sequence[tuple[int, int]] = (),
    apart: Iterable[tuple[int, int]] = (),
) -> Clusters:
    """Cut the components ``label`` of ``links`` and ``must`` into people.

    ``votes``: of every group in which anything speaks against, all pairs that say something. Two groups meet only when more pairs
    speak for it than against and none forbids. ``join``: bits that bring two groups together (a lone row comes by any link);
    ``margin``: a lone row that fits two groups which cannot be one goes to the better only with this much between them. ``must``
    (a person said so) comes first, ``apart`` pairs never meet.
    """
    n = len(label)
    musts = np.array(sorted(must), dtype=np.int64).reshape(-1, 2)
    aparts = np.array(sorted(apart), dtype=np.int64).reshape(-1, 2)
    aparts = aparts[label[aparts[:, 0]] == label[aparts[:, 1]]]
    size = np.bincount(label, minlength=n)
    hard = np.zeros(n, dtype=bool)
    hard[label[votes.left[votes.vote < 0]]] = True
    hard[label[aparts[:, 0]]] = True
    weak = label[links.left[links.bits < join]]
    hard[weak[size[weak] > 3]] = True  # among three or fewer, one of the two sides is always a lone row
    if not hard.any():
        return Clusters(label, np.empty(0, dtype=np.int64))

    rows = np.flatnonzero(hard[label])
    taken = np.flatnonzero(hard[label[links.left]])
    order = taken[np.lexsort((links.right[taken], links.left[taken], -links.bits[taken]))]
    edges = list(
        zip(links.left[order].tolist(), links.right[order].tolist(), links.bits[order].tolist(), strict=True)
    )
    walk = _Walk(rows.tolist(), edges, margin)
    for a, b in musts[hard[label[musts[:, 0]]]].tolist():
        walk.unite(a, b)
    inside = hard[label[votes.left]] & (label[votes.left] == label[votes.right])
    for a, b, vote in zip(*(c[inside].tolist() for c in (votes.left, votes.right, votes.vote)), strict=True):
        walk.hear(a, b, vote)
    for a, b in aparts.tolist():
        walk.hear(a, b, NEVER)
    for a, b, bits in edges:
        walk.meet(a, b, bits, join)
    label = label.copy()
    label[rows] = [walk.find(row) for row in rows.tolist()]
    label = _smallest(label)
    apart_now = label[links.left[order]] != label[links.right[order]]
    return Clusters(label, np.sort(order[apart_now]))


def _smallest(label: Ints) -> Ints:
    """Labels renamed to the smallest row of each group."""
    low = np.full(len(label), len(label), dtype=np.int64)
    np.minimum.at(low, label, np.arange(len(label)))
    return low[label]


class _Walk:
    """Union by size; between every two groups, how their members' pairs have voted, and whether any forbids."""

    def __init__(self, rows: list[int], edges: list[tuple[int, int, float]], margin: float) -> None:
        self.up = {row: row for row in rows}
        self.size = dict.fromkeys(rows, 1)
        self.votes: dict[int, dict[int, int]] = {}
        self.never: dict[int, set[int]] = {}
        self.margin = margin
        self.fits: dict[int, list[tuple[float, int]]] = {}
        for a, b, bits in edges:  # strongest first, so each row's list is, too
            self.fits.setdefault(a, []).append((bits, b))
            self.fits.setdefault(b, []).append((bits, a))

    def find(self, row: int) -> int:
        up = self.up
        while up[row] != row:
            up[row] = row = up[up[row]]
        return row

    def hear(self, a: int, b: int, vote: int) -> None:
        """Take a pair's vote; rows that a person has put together already stay together."""
        x, y = self.find(a), self.find(b)
        if x == y:
            return
        for one, other in ((x, y), (y, x)):
            if vote == NEVER:
                self.never.setdefault(one, set()).add(other)
            else:
                held = self.votes.setdefault(one, {})
                held[other] = held.get(other, 0) + vote

    def meet(self, a: int, b: int, bits: float, join: float) -> None:
        """Unite the groups of ``a`` and ``b`` unless something speaks against it."""
        x, y = self.find(a), self.find(b)
        if x == y or (bits < join and self.size[x] > 1 and self.size[y] > 1) or y in self.never.get(x, ()):
            return
        if self.votes.get(x, {}).get(y, 1) <= 0:
            return
        for lone, other in ((x, y), (y, x)):
            if self.size[lone] == 1 and self._torn(lone, other, bits):
                return
        self.unite(x, y)

    def _torn(self, lone: int, group: int, bits: float) -> bool:
        """Whether a lone row fits, nearly as well, a group that cannot be one with this one."""
        never = self.never.get(group)
        if not never:
            return False
        for other_bits, row in self.fits.get(lone, ()):
            if other_bits <= bits - self.margin:
                return False
            other = self.find(row)
            if other in never and lone not in self.never.get(other, ()):
                return True
        return False

    def unite(self, a: int, b: int) -> None:
        """One group of two, whatever speaks against it."""
        x, y = self.find(a), self.find(b)
        if x == y:
            return
        if (self.size[x], -x) < (self.size[y], -y):
            x, y = y, x
        self.up[y] = x
        self.size[x] += self.size[y]
        for other in self.never.pop(y, ()):
            self.never[other].discard(y)
            if other != x:
                self.never[other].add(x)
                self.never.setdefault(x, set()).add(other)
        for other, vote in self.votes.pop(y, {}).items():
            del self.votes[other][y]
            if other != x:
                held = self.votes.setdefault(x, {})
                held[other] = self.votes[other][x] = held.get(other, 0) + vote
