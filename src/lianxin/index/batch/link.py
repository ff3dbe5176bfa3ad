"""Who is who among all forms at once: block, score, judge, group. The same keys, levels, weights and rules as online.

1. Pairs that share a key (crowded keys tell nothing and are counted), each once, slice by slice so that memory stays bounded.
2. Levels and bits in the engine; pairs whose best possible score is too low are dropped before any edit distance is worked out.
3. The policy's rule for a pair, asked once for every pattern of levels and range of bits.
4. Groups from pairs that link by themselves; in groups of three and more *every* pair is scored, so that a veto or a contradiction
   between any two members keeps them apart (see :mod:`lianxin.index.batch.cluster`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from lianxin.index.batch import cluster, statements
from lianxin.index.form import LATIN, NAMED
from lianxin.index.match import policy, sql
from lianxin.index.match.model import HAN_KINDS, POLICY, TF_OF, Frequencies, Model, tf_hash

log = logging.getLogger(__name__)

BIG = 400
"""Groups beyond this many forms are not compared all with all, only where a key is shared."""
SLICE = 400_000
"""Forms whose pairs are worked on at a time."""
_NOBODY: Sequence[tuple[int, int]] = ()


class Engine(Protocol):
    """What a batch engine can do; see :mod:`lianxin.index.batch.duck`."""

    dialect: str
    explode: str

    def read(self, name: str, paths: list[Path]) -> None:
        """A table from Parquet files."""

    def put(self, name: str, table: Any) -> None:
        """A table from an Arrow table."""

    def make(self, name: str, query: str) -> None:
        """A table from a query."""

    def drop(self, name: str) -> None:
        """Give a table's memory back."""

    def nested(self, query: str) -> str:
        """A query as a relation that another query reads from."""

    def columns(self, query: str) -> dict[str, Any]:
        """Result columns by name, as numpy arrays."""


@dataclass(slots=True)
class Linked:
    """The answer. ``rid``, ``pid`` of every form, ascending by rid; ``label``: smallest rid of the form's group.

    Of ``reviews``, one for every two groups that a person should look at: ``left``, ``right`` (rids), ``bits``, ``pattern``,
    ``kind`` (position in ``kinds``). ``figures``: what was counted on the way.
    """

    rid: Any
    pid: Any
    label: Any
    left: Any
    right: Any
    bits: Any
    pattern: Any
    kind: Any
    kinds: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Pairs:
    """Scored pairs as columns."""

    left: Any
    right: Any
    bits: Any
    pattern: Any

    @staticmethod
    def of(parts: Sequence[dict[str, Any]]) -> Pairs:
        def one(name: str, kind: Any) -> Any:
            return np.concatenate(
                [np.asarray(p[name], dtype=kind) for p in parts] or [np.empty(0, dtype=kind)]
            )

        return Pairs(
            one("l", np.int64), one("r", np.int64), one("bits", np.float64), one("pattern", np.int64)
        )


def link(
    engine: Engine,
    model: Model,
    *,
    must: Iterable[tuple[int, int]] = _NOBODY,
    apart: Iterable[tuple[int, int]] = _NOBODY,
    settled: bool = False,
    told: Callable[[str], None] | None = None,
) -> Linked:
    """Link what stands in the engine's table ``source`` (see :mod:`lianxin.index.batch.table`).

    ``must`` and ``apart``: pairs of rids that a person has judged; they win over every score. Forms that belong to one person now
    stay together unless something speaks against it; ``settled``: they stay in any case, and two persons become one only through a
    form that has none yet. Nothing is written anywhere.
    """
    clock = _Clock(told)
    prepare(engine, model)
    clock.done("forms")
    figures = block(engine)
    clock.done("keys")
    people = engine.columns("SELECT rid, pid FROM form")
    order = np.argsort(people["rid"], kind="stable")
    rid, pid = (np.asarray(people[c])[order] for c in ("rid", "pid"))
    slices = max(1, -(-len(rid) // SLICE))
    found, compared = [], 0
    levels = statements.hopeful(model, engine.dialect)
    for n in range(slices):
        compared += slice_pairs(engine, slices, n)
        found.append(engine.columns(statements.scored(model, engine.nested(levels))))
        clock.tell(f"{n + 1}/{slices}")
    engine.drop("part")
    pairs = Pairs.of(found)
    found.clear()
    clock.done("pairs")
    verdict, kind, kinds = judged(pairs, model)
    at: Callable[[Any], Any] = partial(np.searchsorted, rid)
    left, right = at(pairs.left), at(pairs.right)
    same_person = (pid[left] == pid[right]) & (pid[left] != 0)
    links = (verdict == policy.AUTO) | ((verdict == policy.REVIEW) & same_person)
    must_rows = [(int(at(a)), int(at(b))) for a, b in must]
    if settled:
        links &= (pid[left] == 0) | (pid[right] == 0)
        must_rows += _chains(pid)
    apart_rows = [(int(at(a)), int(at(b))) for a, b in apart]
    label = cluster.components(
        len(rid),
        np.concatenate([left[links], np.array([a for a, _ in must_rows], dtype=np.int64)]),
        np.concatenate([right[links], np.array([b for _, b in must_rows], dtype=np.int64)]),
    )
    clock.done("rules")
    votes = _votes(engine, model, rid, label, figures)
    clock.done("groups")
    grouped = cluster.cluster(
        cluster.Links(left[links], right[links], pairs.bits[links]),
        votes,
        label,
        join=model.join,
        margin=float(POLICY["margin"]),
        must=must_rows,
        apart=apart_rows,
    )
    refused = np.zeros(len(verdict), dtype=bool)
    refused[np.flatnonzero(links)[grouped.refused]] = True
    refused |= (verdict == policy.AUTO) & ~links
    kinds.append("two_matches")
    kind[refused & (verdict == policy.AUTO)] = len(kinds) - 1
    shown = refused | (verdict == policy.REVIEW)
    best = _one_per_groups(grouped.label, pairs, left, right, np.flatnonzero(shown))
    clock.done("clusters")
    figures |= {
        "forms": len(rid),
        "pairs": int(compared),
        "scored": len(pairs.bits),
        "links": int(links.sum()),
        "refused": int((refused & (grouped.label[left] != grouped.label[right])).sum()),
        "groups": len(np.unique(grouped.label)),
        "reviews": len(best),
        "seconds": clock.laps,
    }
    return Linked(
        rid,
        pid,
        rid[grouped.label],
        pairs.left[best],
        pairs.right[best],
        pairs.bits[best],
        pairs.pattern[best],
        kind[best],
        kinds,
        figures,
    )


class _Clock:
    """Seconds of every stage, and word of where the run is."""

    def __init__(self, told: Callable[[str], None] | None) -> None:
        self.last = time.monotonic()
        self.laps: dict[str, float] = {}
        self.tell = told or (lambda word: None)

    def done(self, stage: str) -> None:
        now = time.monotonic()
        self.laps[stage] = round(now - self.last, 2)
        self.last = now
        self.tell(stage)


def prepare(engine: Engine, model: Model) -> None:
    """Table ``form``: ``source`` with the rarity of its values under the model."""
    joins, columns = [], []
    for column, (kind, attribute) in sql.TF_COLUMNS.items():
        values = engine.columns(
            statements.VALUES.format(attribute=attribute, which=counted_where(kind)).replace(
                "FROM form", "FROM source"
            )
        )["value"]
        rarity = pa.table({"value": pa.array(values, pa.string()), "bits": _bits_of(model.tf[kind], values)})
        engine.put(f"rarity_{kind}", rarity)
        floor = model.tf[kind].floor
        columns.append(f"coalesce({column}.bits, CAST({floor!r} AS DOUBLE)) AS {column}")
        joins.append(f"LEFT JOIN rarity_{kind} {column} ON {column}.value = f.{attribute}")
    engine.make("form", f"SELECT f.*, {', '.join(columns)} FROM source f {' '.join(joins)}")
    for kind in TF_OF:
        engine.drop(f"rarity_{kind}")


def counted_where(kind: str) -> str:
    """SQL of the forms whose values count for a table of rarities (as :func:`lianxin.index.match.model.frequencies` counts them):
    only Latin names are compared by given name, surname and place on their own."""
    return f"kind = {NAMED}" if kind in HAN_KINDS else f"script = {LATIN}"


def _bits_of(table: Frequencies, values: Any) -> Any:
    """Bits of many values at once: the same numbers as ``table.bits``."""
    if not len(table.hashes):
        return pa.array(np.full(len(values), table.floor), pa.float64())
    digests = np.fromiter((tf_hash(v) for v in values), dtype=np.uint64, count=len(values))
    at = np.minimum(np.searchsorted(table.hashes, digests), len(table.hashes) - 1)
    hit = table.hashes[at] == digests
    return pa.array(np.where(hit, table.values[at].astype(np.float64), table.floor), pa.float64())


def block(engine: Engine) -> dict[str, Any]:
    """Table ``key`` of keys that two or more share and that are not crowded; what was left out."""
    cap = POLICY["crowd"]
    engine.make("key_all", statements.KEY.format(explode=engine.explode))
    crowded = engine.columns(statements.CROWDED.format(cap=cap))
    engine.make("key_crowded", statements.TOO_MANY.format(cap=cap))
    engine.make("key_useful", statements.USEFUL.format(cap=cap))
    engine.make("key", statements.KEY_USED)
    for name in ("key_all", "key_useful"):
        engine.drop(name)
    return {"crowded_keys": int(crowded["keys"][0]), "crowded_entries": int(crowded["entries"][0])}


def slice_pairs(engine: Engine, slices: int, n: int) -> int:
    """Table ``part``: the pairs of the ``n``-th slice; how many."""
    engine.make("part", statements.PAIRS.format(slices=slices, slice=n))
    return int(engine.columns("SELECT count(*) AS n FROM part")["n"][0])


def judged(pairs: Pairs, model: Model) -> tuple[Any, Any, list[str]]:
    """(verdict, position of the review kind, kinds) of every pair: the policy's rule, once for each pattern and range of bits."""
    beyond = {
        0.0,
        POLICY["sure"],
        *POLICY["name_demand"].values(),
        *(bits for row in POLICY["review_demand"].values() for bits in row.values()),
    }
    cuts = np.array(
        sorted(
            {from_ + d for from_ in (model.review, model.auto) for d in beyond} | {POLICY["contradiction"]}
        ),
        dtype=float,
    )
    place = np.searchsorted(cuts, pairs.bits, side="right")
    both, back = np.unique(pairs.pattern * (len(cuts) + 1) + place, return_inverse=True)
    verdicts, codes, kinds = np.empty(len(both), dtype=np.int8), np.empty(len(both), dtype=np.int8), []
    for i, code in enumerate(both.tolist()):
        pattern, range_ = divmod(code, len(cuts) + 1)
        total = cuts[range_ - 1] if range_ else cuts[0] - 1.0
        verdict, kind = policy.pair(*statements.vector_of(pattern), float(total), model)
        if kind not in kinds:
            kinds.append(kind)
        verdicts[i], codes[i] = verdict, kinds.index(kind)
    return verdicts[back], codes[back], kinds


def _chains(pid: Any) -> list[tuple[int, int]]:
    """Rows of one person, each with the next."""
    held = np.flatnonzero(pid)
    held = held[np.argsort(pid[held], kind="stable")]
    same = pid[held[1:]] == pid[held[:-1]]
    return list(zip(held[:-1][same].tolist(), held[1:][same].tolist(), strict=True))


def _votes(engine: Engine, model: Model, rid: Any, label: Any, figures: dict[str, Any]) -> cluster.Votes:
    """What the pairs of a group say, of every group of three and more in which any pair speaks against one person."""
    size = np.bincount(label, minlength=len(rid))[label]
    members = np.flatnonzero((size >= 3) & (size <= BIG))
    crowd = np.flatnonzero(size > BIG)
    figures["large_groups"] = len(np.unique(label[crowd]))
    limit = float(POLICY["contradiction"])
    parts = []
    for rows, query in ((members, statements.WITHIN), (crowd, statements.WITHIN_KEYED)):
        if not len(rows):
            continue
        engine.put("member", pa.table({"rid": rid[rows], "label": label[rows]}))
        engine.make("part", query)
        levels = engine.nested(statements.everything(engine.dialect))
        engine.make("within", statements.all_scored(model, levels))
        patterns = np.asarray(
            engine.columns("SELECT DISTINCT pattern FROM within")["pattern"], dtype=np.int64
        )
        for name, said in (("veto", policy.vetoed), ("two_names", policy.two_names)):
            told = [p for p in patterns.tolist() if said(statements.vector_of(p)[0])]
            engine.put(name, pa.table({"pattern": pa.array(told, pa.int64())}))
        engine.make(
            "vote",
            f"SELECT l, r, CASE WHEN pattern IN (SELECT pattern FROM veto)"
            f" OR bits < {model.join!r} AND pattern IN (SELECT pattern FROM two_names) THEN {cluster.NEVER}"
            f" WHEN bits < {limit!r} THEN -1 WHEN bits >= {model.review!r} THEN 1 ELSE 0 END AS vote FROM within",
        )
        engine.make(
            "torn", "SELECT DISTINCT m.label FROM vote v JOIN member m ON m.rid = v.l WHERE v.vote < 0"
        )
        parts.append(
            engine.columns(
                "SELECT v.l, v.r, v.vote FROM vote v JOIN member m ON m.rid = v.l"
                " WHERE v.vote <> 0 AND m.label IN (SELECT label FROM torn)"
            )
        )
        for name in ("part", "within", "vote", "torn", "member"):
            engine.drop(name)

    def one(name: str) -> Any:
        return np.concatenate([np.asarray(p[name], dtype=np.int64) for p in parts] or [np.empty(0, np.int64)])

    return cluster.Votes(np.searchsorted(rid, one("l")), np.searchsorted(rid, one("r")), one("vote"))


def _one_per_groups(label: Any, pairs: Pairs, left: Any, right: Any, rows: Any) -> Any:
    """Of the pairs at ``rows``, the strongest for every two groups (none within a group), by group."""
    a, b = label[left[rows]], label[right[rows]]
    rows, a, b = rows[a != b], a[a != b], b[a != b]
    low, high = np.minimum(a, b), np.maximum(a, b)
    order = np.lexsort((pairs.right[rows], pairs.left[rows], -pairs.bits[rows], high, low))
    rows, low, high = rows[order], low[order], high[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return rows[first]
