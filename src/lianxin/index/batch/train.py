"""Weights learned from the consortium's own registrations, without labels: patterns are counted in the engine, EM does the rest.

Counted are the pairs that share a key (of a sample of forms when there are very many) and random pairs, which are strangers but
for a few. The new model is stored beside the others and is not used until a person makes it the active one.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from lianxin.index.batch import link, statements
from lianxin.index.batch.link import Engine
from lianxin.index.match import em
from lianxin.index.match.model import FLOORS, HAN_KINDS, TF_OF, Frequencies, Model

ENOUGH = 3_000_000
"""Pairs that share a key beyond which more would teach nothing: the rest of the slices is left out."""
STRANGERS = 1_000_000
"""Random pairs, or as many as there are."""
LEAST = 3
"""A value seen less often than this shares the floor of rarity."""


def train(
    engine: Engine, start: Model, version: str, record: dict[str, Any] | None = None, seed: int = 20_260
) -> Model:
    """A model trained on the engine's table ``source``, beginning with ``start``; ``record`` is kept in its training record.

    Raises ValueError when there are fewer than 100 forms: nothing can be learned from them.
    """
    began = time.monotonic()
    rids = np.sort(np.asarray(engine.columns("SELECT rid FROM source")["rid"]))
    count = len(rids)
    if count < 100:
        raise ValueError(
            f"至少需要 100 条登记才能训练，现有 {count} 条 / at least 100 forms are needed, {count} given"
        )
    model = with_frequencies(engine, start)
    link.prepare(engine, model)
    figures = link.block(engine)
    slices = max(1, -(-count // link.SLICE))
    near: Counter[em.Pattern] = Counter()
    pairs = done = 0
    for done in range(1, slices + 1):
        pairs += link.slice_pairs(engine, slices, done - 1)
        near.update(_patterns(engine))
        if pairs >= ENOUGH:
            break
    far = _strangers(engine, rids, seed)
    # Pairs of the forms that were looked at, shared key or not; of a sample, its share of them.
    space = count * (count - 1) / 2 * done / slices
    told = {
        **(record or {}),
        "forms": count,
        "pairs": pairs,
        "share": round(done / slices, 4),
        "patterns": len(near),
        "strangers": sum(far.values()),
        "stranger_patterns": len(far),
        **figures,
    }
    trained = em.train(near, far, model, pairs=space, version=version, record=told)
    likelihood = log_likelihood(near, trained, pairs / space)
    trained.training.update(
        log_likelihood=round(likelihood, 4),
        log_likelihood_before=round(log_likelihood(near, model, pairs / space), 4),
        seconds=round(time.monotonic() - began, 1),
    )
    return trained


def with_frequencies(engine: Engine, start: Model) -> Model:
    """``start`` with the rarity of values counted in the table ``source``: the same numbers as counting forms one by one."""
    tables = {}
    for kind, attribute in TF_OF.items():
        which = "kind = 0" if kind in HAN_KINDS else "script = 1"
        query = statements.VALUES.format(attribute=attribute, which=which)
        found = engine.columns(query.replace("FROM form", "FROM source"))
        counts = dict(zip(found["value"], np.asarray(found["n"]).tolist(), strict=True))
        tables[kind] = Frequencies.count(counts, sum(counts.values()), LEAST, FLOORS[kind])
    return Model(**{**_fields(start), "tf": tables})


def _fields(model: Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in Model.__dataclass_fields__}


def _patterns(engine: Engine) -> Counter[em.Pattern]:
    """Counted patterns of the table ``part`` in the form that EM takes."""
    found = engine.columns(statements.counted(engine.nested(statements.everything(engine.dialect))))
    out: Counter[em.Pattern] = Counter()
    for pattern, rarity, n in zip(
        *(np.asarray(found[c]).tolist() for c in ("pattern", "rarity", "n")), strict=True
    ):
        vector, left, right, _ = statements.vector_of(pattern)
        out[(*vector, rarity, 0 if left == right == 0 else 1)] += n
    return out


def _strangers(engine: Engine, rids: Any, seed: int) -> Counter[em.Pattern]:
    rng = np.random.default_rng(seed)
    wanted = min(STRANGERS, len(rids) * (len(rids) - 1) // 4)
    a, b = rng.integers(0, len(rids), wanted), rng.integers(0, len(rids), wanted)
    low, high = np.minimum(a, b), np.maximum(a, b)
    both = np.unique(np.stack([low[low != high], high[low != high]], axis=1), axis=0)
    engine.put("part", pa.table({"l": rids[both[:, 0]], "r": rids[both[:, 1]]}))
    found = _patterns(engine)
    engine.drop("part")
    return found


def log_likelihood(counts: Counter[em.Pattern], model: Model, share: float) -> float:
    """Mean log2 of how much likelier the model makes the counted patterns than strangers alone would: higher fits better.

    ``share``: part of all pairs that shares a key, to turn the prior of all pairs into that of the counted ones.
    """
    table = em.Table.of(counts)
    odds = model.prior - math.log2(max(share, 1e-12))
    chance = 1.0 / (1.0 + 2.0 ** -min(odds, 40.0))
    ratio = np.clip(table.bits(model.weights, 0.0), -60, 60)
    return float((table.n * np.log2(1 - chance + chance * np.exp2(ratio))).sum() / table.n.sum())
