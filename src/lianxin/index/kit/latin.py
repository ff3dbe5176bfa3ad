"""Lists in Latin letters (Febrl, RLdata, pseudopeople, anybody's): linked all at once by ``match/western.py``, from their columns.

What a registration does not keep of such a list (street and house apart, the postcode, a birth date that no calendar has) is
compared here. With a column ``file`` that tells two lists apart, rows of one are linked with rows of the other only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from lianxin.index.batch import cluster
from lianxin.index.kit import measure
from lianxin.index.kit.csvfile import Labelled
from lianxin.index.match import western
from lianxin.index.match.model import Model


@dataclass
class Linked:
    """A linked list: cluster per row, the model learned, every compared pair (positions and bits, strongest first)."""

    found: list[int]
    model: Model
    left: np.ndarray
    right: np.ndarray
    bits: np.ndarray
    seconds: float
    processor: float

    def ranking(self, labelled: Labelled) -> dict[str, Any]:
        """What the scores are worth, whatever the threshold."""
        who: dict[str, int] = {}
        label = np.array([who.setdefault(p, len(who)) if p else -1 for p in labelled.people], dtype=np.int64)
        hit = (label[self.left] == label[self.right]) & (label[self.left] >= 0)
        ranks = measure.ranking(self.bits, hit, true_pairs(labelled))
        return {"pairs": len(self.bits), "bits": ranks, "decision": ranks}


def true_pairs(labelled: Labelled) -> int:
    """Pairs of one person, all of them."""
    return int(measure.clusters(labelled.people, [0] * len(labelled))["true_pairs"])


def first_list(labelled: Labelled) -> set[int] | None:
    """Positions of the rows of the first of two lists; None when it is one list, or more than two."""
    names = list(dict.fromkeys(labelled.files))
    if len(names) != 2:
        return None
    return {at for at, name in enumerate(labelled.files) if name == names[0]}


def link(labelled: Labelled) -> Linked:
    """Link the list by itself: no labels are looked at, one threshold for every list."""
    start, used = time.monotonic(), time.process_time()
    count, first = len(labelled), first_list(labelled)
    order = sorted(range(count), key=lambda at: first is not None and at not in first)
    forms = [western.form_of_parts(labelled.parts[at]) for at in order]
    left = None if first is None else len(first)
    model, scored = western.ranked(forms, left)
    chosen = western.chosen(count, scored, left)
    place = np.array(order, dtype=np.int64)
    pairs = np.array([(a, b) for a, b, _ in chosen], dtype=np.int64).reshape(-1, 2)
    found = cluster.components(count, place[pairs[:, 0]], place[pairs[:, 1]]).tolist()
    compared = np.array([(a, b) for _, a, b in scored], dtype=np.int64).reshape(-1, 2)
    return Linked(
        found,
        model,
        place[compared[:, 0]],
        place[compared[:, 1]],
        np.array([s[0] for s in scored], dtype=np.float64),
        time.monotonic() - start,
        time.process_time() - used,
    )
