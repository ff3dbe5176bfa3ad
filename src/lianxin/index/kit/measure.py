"""How good a linkage is, from labels: pairs, clusters, B-cubed, mixed people, reviews, causes. Pure; any matcher's result will do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from lianxin.index.kit.csvfile import pairs_of

PRECISION = 0.9999
"""Pair precision at which the recall of a ranking is told."""


def _pairs(counts: Iterable[int]) -> int:
    return sum(n * (n - 1) // 2 for n in counts)


def share(part: float, whole: float) -> float:
    """``part`` of ``whole``; of nothing everything is right."""
    return part / whole if whole else 1.0


def f1(precision: float, recall: float) -> float:
    """Harmonic mean."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def clusters(people: Sequence[str], found: Sequence[int]) -> dict[str, Any]:
    """Figures of a clustering ``found`` against the true ``people`` (both per record; records without truth are left out).

    ``pairs``: linked and true pairs; ``bcubed``: mean over records of the share of the cluster that is right and of the person
    that is found; ``clusters``: clusters that are exactly one person; ``mixed``: clusters holding records of more than one person,
    ``mixed_people`` the people in them.
    """
    kept = [(p, c) for p, c in zip(people, found, strict=True) if p]
    truth, made = Counter(p for p, _ in kept), Counter(c for _, c in kept)
    both = Counter(kept)
    right = _pairs(both.values())
    linked, true = _pairs(made.values()), _pairs(truth.values())
    precision, recall = share(right, linked), share(right, true)
    own = share(sum(n * n / made[c] for (_, c), n in both.items()), len(kept))
    whole = share(sum(n * n / truth[p] for (p, _), n in both.items()), len(kept))
    inside = Counter(c for _, c in both)
    exact = sum(1 for (p, c), n in both.items() if n == made[c] == truth[p])
    mixed = [c for c, n in inside.items() if n > 1]
    many = set(mixed)
    return {
        "records": len(kept),
        "people": len(truth),
        "clusters": len(made),
        "true_pairs": true,
        "linked_pairs": linked,
        "right_pairs": right,
        "precision": precision,
        "recall": recall,
        "f1": f1(precision, recall),
        "bcubed": {"precision": own, "recall": whole, "f1": f1(own, whole)},
        "exact": {
            "precision": share(exact, len(made)),
            "recall": share(exact, len(truth)),
            "f1": f1(share(exact, len(made)), share(exact, len(truth))),
        },
        "mixed": len(mixed),
        "mixed_people": len({p for p, c in both if c in many}),
        "mixed_per_50000_people": len(mixed) * 50_000 / len(truth) if truth else 0.0,
    }


def joined(found: Sequence[int], pairs: Iterable[tuple[int, int]]) -> list[int]:
    """The clustering after joining these pairs of clusters."""
    into: dict[int, int] = {}

    def top(c: int) -> int:
        while c in into:
            c = into[c]
        return c

    for a, b in pairs:
        low, high = sorted((top(a), top(b)))
        if low != high:
            into[high] = low
    return [top(c) for c in found]


def reviews(people: Sequence[str], found: Sequence[int], asked: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """What reviewers are asked: ``asked`` are pairs of clusters. True: some person has records in both.

    ``after``: recall when every true one is joined (and nothing else): what people can reach.
    """
    who: dict[int, set[str]] = {}
    for p, c in zip(people, found, strict=True):
        if p:
            who.setdefault(c, set()).add(p)
    pairs = {(min(a, b), max(a, b)) for a, b in asked if a != b}
    nobody: set[str] = set()
    true = [pair for pair in pairs if who.get(pair[0], nobody) & who.get(pair[1], nobody)]
    after = clusters(people, joined(found, true))
    return {
        "opened": len(pairs),
        "per_1000_records": len(pairs) * 1000 / max(1, len(people)),
        "true": len(true),
        "true_share": share(len(true), len(pairs)),
        "recall_after": after["recall"],
        "precision_after": after["precision"],
    }


def by_cause(
    people: Sequence[str], causes: Sequence[str], found: Sequence[int], asked: Iterable[tuple[int, int]] = ()
) -> dict[str, dict[str, int]]:
    """Per cause (of either record): true pairs, those linked, those missed, of the missed those within reach of a review; and
    records of a stranger in a mixed cluster. A pair with two causes counts for both; "none" is the pair without any."""
    open_pairs = {(min(a, b), max(a, b)) for a, b in asked}
    out: dict[str, Counter[str]] = {}
    for i, j in pairs_of(people):
        named = {c for c in f"{causes[i]};{causes[j]}".split(";") if c} or {"none"}
        a, b = found[i], found[j]
        outcome = "linked" if a == b else "missed"
        seen = outcome == "missed" and (min(a, b), max(a, b)) in open_pairs
        for cause in named:
            row = out.setdefault(cause, Counter())
            row["pairs"] += 1
            row[outcome] += 1
            row["in_review"] += seen
    most: dict[int, Counter[str]] = {}
    for p, c in zip(people, found, strict=True):
        if p:
            most.setdefault(c, Counter())[p] += 1
    owner = {c: count.most_common(1)[0][0] for c, count in most.items() if len(count) > 1}
    for p, c, cause in zip(people, found, causes, strict=True):
        if p and c in owner and owner[c] != p:
            for name in {n for n in cause.split(";") if n} or {"none"}:
                out.setdefault(name, Counter())["strangers"] += 1
    keys = ("pairs", "linked", "missed", "in_review", "strangers")
    return {
        cause: {k: row[k] for k in keys}
        for cause, row in sorted(out.items(), key=lambda item: (-item[1]["missed"], item[0]))
    }


def ranking(scores: Any, right: Any, true_pairs: int, precision: float = PRECISION) -> dict[str, float]:
    """Recall where a ranking of pairs still has ``precision`` (numpy arrays of scores and of whether each is of one person).

    Pairs of equal score come and go together. ``best_f1``: the best any threshold could do.
    """
    if not len(scores):
        return {"recall": 0.0, "threshold": 0.0, "best_f1": 0.0, "reach": 0.0}
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(right[order])
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    good, taken = hits[ends], ends + 1
    ratio = good / taken
    recall = good / max(1, true_pairs)
    fits = np.flatnonzero(ratio >= precision)
    last = int(fits[-1]) if len(fits) else -1
    both = 2 * ratio * recall / np.maximum(ratio + recall, 1e-12)
    return {
        "recall": float(recall[last]) if last >= 0 else 0.0,
        "threshold": float(ranked[ends[last]]) if last >= 0 else 0.0,
        "best_f1": float(both.max()),
        "best_threshold": float(ranked[ends[int(both.argmax())]]),
        "reach": float(hits[-1] / max(1, true_pairs)),
    }


def differing(one: Sequence[int], other: Sequence[int]) -> float:
    """Share of pairs, of those linked in either clustering, that are linked in only one of them."""
    a, b = _pairs(Counter(one).values()), _pairs(Counter(other).values())
    both = _pairs(Counter(zip(one, other, strict=True)).values())
    union = a + b - both
    return share(union - both, union) if union else 0.0
