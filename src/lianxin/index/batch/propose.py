"""Everybody linked anew with another model, kept as a proposal: what would change, for whom, and why. Nothing changes by itself.

What people have decided wins: pairs said to be different never meet, and nothing is taken from a person whom somebody has merged,
moved or split by hand. Numbers stay: the oldest of joined persons keeps its own, and the others lead there.
"""

from __future__ import annotations

import logging
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from django.conf import settings
from django.db import connection, transaction

from lianxin.access import audit
from lianxin.access.errors import Invalid
from lianxin.access.scope import Scope
from lianxin.index import active, payload
from lianxin.index.batch import effects, link, mending, reading, table
from lianxin.index.batch.differences import Differences, differences
from lianxin.index.batch.duck import Duck
from lianxin.index.batch.link import Linked
from lianxin.index.batch.models import Proposal, ProposedChange
from lianxin.index.form import Form, form_of, pack
from lianxin.index.match import score
from lianxin.index.match.model import Model
from lianxin.standards import clock
from lianxin.standards.text import T

log = logging.getLogger(__name__)

_CHUNK = 5_000
_BY_HAND = ("merged", "unmerged", "moved", "split")
FOLDER = "index-batch"
"""Folder of runs inside the installation's home."""


def home() -> Path:
    """Where runs keep their files."""
    return Path(settings.HOME) / FOLDER


def make_engine(name: str, place: Path, memory: str = "10GB") -> Any:
    """The batch engine ``duckdb`` or ``spark``; raises ValueError for another name, SparkMissing without pyspark."""
    if name == "duckdb":
        return Duck(place, memory)
    if name == "spark":
        from lianxin.index.batch.spark import Spark

        return Spark(place)
    raise ValueError(f"no batch engine {name!r}: duckdb or spark")


def propose(
    scope: Scope,
    model: Model,
    *,
    engine: str = "duckdb",
    processes: int = 2,
    told: Callable[[str], None] | None = None,
) -> Proposal:
    """Link everybody with ``model`` and keep the differences. Permission ``relink``; raises Invalid while another re-link runs.

    One that is killed leaves nothing behind but its proposal, which the next one (or the ticker) finds failed.
    """
    scope.demand("relink")
    with mending.one(mending.ONE_RELINK) as free:
        if not free:
            raise Invalid(
                {
                    "proposal": T(
                        "另一重新关联正在进行，请待其完成。", "Another re-link is running; wait for it."
                    )
                }
            )
        mending.give_up()
        return _propose(scope, model, engine, processes, told)


def _propose(
    scope: Scope, model: Model, engine: str, processes: int, told: Callable[[str], None] | None
) -> Proposal:
    began = time.monotonic()
    proposal = Proposal.objects.create(
        model_version=model.version, engine=engine, made_at=clock.now(), made_by=scope.name[:120]
    )
    try:
        with table.workplace(home()) as place:
            run = make_engine(engine, place)
            try:
                figures = _fill(proposal, run, model, place, processes, told)
            finally:
                run.close()
    except BaseException:
        Proposal.objects.filter(pk=proposal.pk).update(state="failed")
        raise
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    proposal.figures = figures | {"seconds": round(time.monotonic() - began, 1), "peak_mb": peak}
    proposal.state = "ready"
    proposal.save(update_fields=["figures", "state"])
    audit.write(scope, "create", what=f"index proposal {proposal.pk}", detail={"model": model.version})
    return proposal


def _fill(
    proposal: Proposal,
    run: Any,
    model: Model,
    place: Path,
    processes: int,
    told: Callable[[str], None] | None,
) -> dict[str, Any]:
    began = time.monotonic()
    paths = reading.forms(place, processes)
    read = round(time.monotonic() - began, 1)
    if told:
        told("read")
    if not paths:
        return {"forms": 0, "join": 0, "split": 0, "review": 0}
    run.read("source", paths)
    must, apart = _judged(run)
    linked = link.link(run, model, must=must, apart=apart, told=told)
    found = differences(linked)
    with transaction.atomic():
        counts = _keep(proposal, run, model, linked, found)
    stages = linked.figures.pop("seconds")
    return {
        **linked.figures,
        "people": len(set(linked.pid.tolist()) - {0}),
        "prior": model.prior,
        **counts,
        "stages": {"read": read, **stages},
    }


def _judged(run: Any) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(pairs of rids that stay together, pairs that never meet), from what people have decided."""
    with connection.cursor() as cur:
        cur.execute(
            "WITH RECURSIVE up(start, id, into_id) AS ("
            " SELECT p.id, p.id, p.merged_into_id FROM index_person p WHERE p.id IN ("
            "  SELECT person_id FROM index_linkevent WHERE kind = ANY(%s) AND account_id IS NOT NULL)"
            " UNION ALL SELECT u.start, p.id, p.merged_into_id FROM up u JOIN index_person p ON p.id = u.into_id)"
            " SELECT DISTINCT id FROM up WHERE into_id IS NULL",
            [list(_BY_HAND)],
        )
        held = [row[0] for row in cur.fetchall()]
        cur.execute(
            "SELECT person_a_id, person_b_id FROM index_reviewitem"
            " WHERE state = 'different' AND person_a_id <> person_b_id"
        )
        different = cur.fetchall()
    rids = _rids(run, {*held, *(p for pair in different for p in pair)})
    must = [(rids[p][0], other) for p in held for other in rids.get(p, ())[1:]]
    apart = [(a, b) for p, q in different for a in rids.get(p, ()) for b in rids.get(q, ())]
    return must, apart


def _rids(run: Any, people: Collection[int]) -> dict[int, list[int]]:
    out: dict[int, list[int]] = defaultdict(list)
    if people:
        run.put("wanted", pa.table({"pid": pa.array(sorted(people), pa.int64())}))
        found = run.columns("SELECT rid, pid FROM source WHERE pid IN (SELECT pid FROM wanted) ORDER BY rid")
        for rid, pid in zip(found["rid"].tolist(), found["pid"].tolist(), strict=True):
            out[pid].append(rid)
        run.drop("wanted")
    return out


def _forms(run: Any, people: Collection[int]) -> dict[int, list[tuple[int, Form]]]:
    """(rid, form) of these persons."""
    out: dict[int, list[tuple[int, Form]]] = defaultdict(list)
    run.put("wanted", pa.table({"pid": pa.array(sorted(people), pa.int64())}))
    found = run.arrow("SELECT * FROM source WHERE pid IN (SELECT pid FROM wanted) ORDER BY rid")
    for rid, pid, form in table.forms_of(found):
        out[pid].append((rid, form))
    run.drop("wanted")
    return out


def _keep(proposal: Proposal, run: Any, model: Model, linked: Linked, found: Differences) -> dict[str, Any]:
    """Write the changes; counts by kind, and how many touch people with clinical records."""
    counts = {"join": 0, "split": 0, "review": 0, "unclear": 0, "with_records": 0, "records": 0}
    makers = (
        (found.joins, lambda part: _joins(run, model, part)),
        (found.splits, lambda part: _splits(run, model, part, counts)),
        (found.reviews, lambda part: _reviews(run, model, linked, part)),
    )
    for items, make in makers:
        for part in table.chunks(items, _CHUNK):
            changes = list(make(part))
            _effects(changes, counts)
            for change in changes:
                change.proposal = proposal
                counts[change.kind] += 1
            ProposedChange.objects.bulk_create(changes, batch_size=1000)
    return counts


def _effects(changes: Sequence[ProposedChange], counts: dict[str, Any]) -> None:
    people = {p for c in changes for p in (c.person_a, c.person_b) if p is not None}
    with connection.cursor() as cur:
        held = effects.records(cur, people) if people else {}
    for change in changes:
        moved = change.person_b if change.kind == "join" else change.person_a
        change.records = held.get(moved or 0, 0)
        if change.records and change.kind != "review":
            counts["with_records"] += 1
            counts["records"] += change.records


def _best(model: Model, ours: Sequence[tuple[int, Form]], theirs: Sequence[tuple[int, Form]]) -> score.Scored:
    scored = [score.score(a, b, model) for _, a in ours for _, b in theirs]
    return max(scored, key=lambda s: (s.bits, s.parts))


def _joins(run: Any, model: Model, part: Sequence[Any]) -> Iterator[ProposedChange]:
    forms = _forms(run, {p for join in part for p in (join.keep, join.gone)})
    for join in part:
        best = _best(model, forms[join.keep], forms[join.gone])
        yield ProposedChange(
            kind="join",
            person_a=join.keep,
            person_b=join.gone,
            bits=best.bits,
            probability=best.probability,
            parts=best.parts,
        )


def _splits(run: Any, model: Model, part: Sequence[Any], counts: dict[str, Any]) -> Iterator[ProposedChange]:
    forms = _forms(run, {split.person for split in part})
    with connection.cursor() as cur:
        generic = active.fresh(cur).generic
        cur.execute(
            "SELECT person_id, id, payload FROM index_sourcerecord WHERE person_id = ANY(%s) ORDER BY id",
            [sorted(forms)],
        )
        sources: dict[int, list[tuple[int, bytes]]] = defaultdict(list)
        for person_id, source_id, stored in cur.fetchall():
            sources[person_id].append((source_id, pack(form_of(payload.unpack(stored), generic))))
    for split in part:
        going = [(rid, form) for rid, form in forms[split.person] if rid in split.rids]
        staying = [(rid, form) for rid, form in forms[split.person] if rid not in split.rids]
        bodies = {pack(form) for _, form in going}
        mine = [source_id for source_id, body in sources[split.person] if body in bodies]
        if not mine or len(mine) == len(sources[split.person]):
            counts["unclear"] += (
                1  # normalised otherwise today than when the form was kept: rebuild the forms first
            )
            continue
        best = _best(model, staying, going)
        yield ProposedChange(
            kind="split",
            person_a=split.person,
            person_b=split.other,
            sources=mine,
            bits=best.bits,
            probability=best.probability,
            parts=best.parts,
        )


def _reviews(run: Any, model: Model, linked: Linked, part: Sequence[int]) -> Iterator[ProposedChange]:
    rids = {rid: n for n in part for rid in (int(linked.left[n]), int(linked.right[n]))}
    run.put("wanted", pa.table({"rid": pa.array(sorted(rids), pa.int64())}))
    found = run.arrow("SELECT * FROM source WHERE rid IN (SELECT rid FROM wanted)")
    forms = {rid: (pid, form) for rid, pid, form in table.forms_of(found)}
    run.drop("wanted")
    pairs = {n: (forms[int(linked.left[n])], forms[int(linked.right[n])]) for n in part}
    asked = _asked([(a[0], b[0]) for a, b in pairs.values()])
    for n, ((a, form_a), (b, form_b)) in pairs.items():
        if (min(a, b), max(a, b)) in asked:
            continue
        asked.add((min(a, b), max(a, b)))
        best = score.score(form_a, form_b, model)
        yield ProposedChange(
            kind="review",
            person_a=min(a, b),
            person_b=max(a, b),
            bits=best.bits,
            probability=best.probability,
            parts=best.parts,
            reason=linked.kinds[int(linked.kind[n])],
        )


def _asked(pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Which of these pairs of persons somebody has been asked about already."""
    with connection.cursor() as cur:
        cur.execute(
            "SELECT least(r.person_a_id, r.person_b_id), greatest(r.person_a_id, r.person_b_id)"
            " FROM unnest(%s::bigint[], %s::bigint[]) AS w(a, b) JOIN index_reviewitem r"
            " ON least(r.person_a_id, r.person_b_id) = least(w.a, w.b)"
            " AND greatest(r.person_a_id, r.person_b_id) = greatest(w.a, w.b)",
            [[a for a, _ in pairs], [b for _, b in pairs]],
        )
        return set(cur.fetchall())
