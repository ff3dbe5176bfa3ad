"""Measure the index on a labelled file: run it (in memory, in the database, set-based), compare with the truth, tell in figures.

The memory engine shows what the decisions are worth, the database engine that the running index takes the same ones, the batch
engine what re-linking would say. Nothing here knows where a file comes from.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lianxin.index.form import Form, form_of
from lianxin.index.kit import latin, measure
from lianxin.index.kit.csvfile import Labelled
from lianxin.index.match import model as models
from lianxin.index.match.memory import MemoryIndex
from lianxin.index.match.model import Model

if TYPE_CHECKING:
    from lianxin.index.batch.duck import Duck

AUTO, WESTERN = "auto", "western"
ENGINES = (AUTO, "memory", WESTERN, "database", "batch")
MODELS = ("shipped", "local")


class CannotEvaluate(ValueError):
    """The file or the database does not allow it; the message says why and what to do."""


@dataclass
class Linkage:
    """What an engine made of the records: a cluster number per record, the pairs of clusters that reviewers are asked about."""

    found: list[int]
    asked: list[tuple[int, int]] = field(default_factory=list)
    kinds: dict[tuple[int, int], str] = field(default_factory=dict)
    seconds: float = 0.0
    processor: float = 0.0


def evaluate(
    labelled: Labelled,
    *,
    engine: str = AUTO,
    model: str = "local",
    orders: int = 0,
    pairs: bool = False,
    told: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The figures of an engine and a model on labelled registrations; see docs/how-to/index-evaluate.md for each.

    ``engine``: "auto" takes "western" for a list in Latin letters (linked all at once by what it teaches of itself), else "memory";
    ``model``: "shipped", "local" (shipped weights, with the file's own number of people and name frequencies) or a model file;
    ``orders``: so many more random orders of arrival; ``pairs``: rank all candidate pairs by score. Raises CannotEvaluate.
    """
    if not any(labelled.people):
        raise CannotEvaluate(
            "no column says which registrations are of one person; say which: --map person=COLUMN"
        )
    if orders and engine == "database":
        raise CannotEvaluate("other orders of arrival need an index that can be emptied: use --engine memory")
    say = told or (lambda word: None)
    if engine == AUTO:
        engine = WESTERN if labelled.latin and model == "local" else "memory"
    if engine == WESTERN:
        return _western(labelled, model, orders, pairs, say)
    forms = [form_of(reg) for reg in labelled.registrations]
    weights = choose_model(model, forms)
    say("run")
    run = RUNNERS[engine](labelled, forms, weights)
    report = _report(labelled, engine, weights.version, run)
    if pairs:
        say("pairs")
        report["ranking"] = rank(labelled.people, forms, weights, run.found)
    if orders:
        report["orders"] = _orders(
            labelled, run, orders, say,
            lambda shuffled, places: RUNNERS[engine](shuffled, [forms[i] for i in places], weights).found,
        )  # fmt: skip
    return report


def _report(labelled: Labelled, engine: str, model: str, run: Linkage) -> dict[str, Any]:
    people, causes = labelled.people, labelled.causes
    return {
        "file": {"columns": labelled.columns, "ignored": labelled.ignored, "records": len(labelled)},
        "engine": engine,
        "model": model,
        "linkage": measure.clusters(people, run.found),
        "reviews": measure.reviews(people, run.found, run.asked) | {"kinds": _kinds(people, run)},
        "causes": measure.by_cause(people, causes, run.found, run.asked),
        "seconds": round(run.seconds, 2),
        "processor_seconds": round(run.processor, 2),
    }


def _western(
    labelled: Labelled, model: str, orders: int, pairs: bool, say: Callable[[str], None]
) -> dict[str, Any]:
    """The report on a list in Latin letters."""
    if not labelled.parts:
        raise CannotEvaluate(
            "a list in Latin letters needs columns of its own for given name and surname: "
            "--map given=COLUMN --map family=COLUMN"
        )
    if model != "local":
        raise CannotEvaluate("a list in Latin letters teaches its own weights: leave --model out")
    say("run")
    linked = latin.link(labelled)
    run = Linkage(linked.found, seconds=linked.seconds, processor=linked.processor)
    report = _report(labelled, WESTERN, linked.model.version, run)
    report["file"]["lists"] = 1 if latin.first_list(labelled) is None else 2
    if pairs:
        report["ranking"] = linked.ranking(labelled)
    if orders:
        report["orders"] = _orders(
            labelled, run, orders, say, lambda shuffled, places: latin.link(shuffled).found
        )
    return report


def choose_model(name: str, forms: Sequence[Form]) -> Model:
    """The model to evaluate with; raises CannotEvaluate when a file cannot be read as one."""
    if name == "shipped":
        return models.DEFAULT
    if name == "local":
        return models.DEFAULT.with_frequencies(forms).for_people(max(100, len(forms) // 2))
    try:
        return models.load(Path(name).read_bytes())
    except (OSError, ValueError, KeyError) as failure:
        raise CannotEvaluate(
            f"{name}: no model file ({failure}); known names: {', '.join(MODELS)}"
        ) from failure


def in_memory(labelled: Labelled, forms: Sequence[Form], model: Model) -> Linkage:
    """One registration after the other, in the file's order."""
    start, used = time.monotonic(), time.process_time()
    index = MemoryIndex(model)
    at = [index.register(form) for form in forms]
    run = Linkage([index.person(p) for p in at])
    for a, b, kind, *_ in index.reviews:
        _ask(run, index.person(a), index.person(b), kind)
    run.seconds, run.processor = time.monotonic() - start, time.process_time() - used
    return run


def _ask(run: Linkage, a: int, b: int, kind: str) -> None:
    """Note a review; one that a later registration settled (both are one person now) is no longer asked."""
    pair = (min(a, b), max(a, b))
    if a != b and pair not in run.kinds:
        run.asked.append(pair)
        run.kinds[pair] = kind


def _in_batch(labelled: Labelled, forms: Sequence[Form], model: Model) -> Linkage:
    """Everything at once, set-based."""
    from lianxin.index.batch import link

    start, used = time.monotonic(), time.process_time()
    with _Source(forms) as duck:
        linked = link.link(duck, model)
    label = np.asarray(linked.label)
    run = Linkage(label.tolist())
    rid = np.asarray(linked.rid)
    left, right = label[np.searchsorted(rid, linked.left)], label[np.searchsorted(rid, linked.right)]
    for a, b, kind in zip(left.tolist(), right.tolist(), np.asarray(linked.kind).tolist(), strict=True):
        _ask(run, a, b, linked.kinds[kind])
    run.seconds, run.processor = time.monotonic() - start, time.process_time() - used
    return run


def _in_database(labelled: Labelled, forms: Sequence[Form], model: Model) -> Linkage:
    from lianxin.index.kit import database

    start, used = time.monotonic(), time.process_time()
    found, asked = database.register(labelled, model)
    run = Linkage(found)
    for a, b, kind in asked:
        _ask(run, a, b, kind)
    run.seconds, run.processor = time.monotonic() - start, time.process_time() - used
    return run


RUNNERS: dict[str, Callable[[Labelled, Sequence[Form], Model], Linkage]] = {
    "memory": in_memory,
    "database": _in_database,
    "batch": _in_batch,
}


class _Source:
    """Forms as the table ``source`` of a batch engine; record ids are positions in the file."""

    def __init__(self, forms: Sequence[Form]) -> None:
        self.forms = forms
        self.folder = tempfile.TemporaryDirectory(prefix="kit-")
        self.duck: Duck | None = None

    def __enter__(self) -> Duck:
        from lianxin.index.batch import table
        from lianxin.index.batch.duck import Duck

        self.duck = duck = Duck(Path(self.folder.name))
        paths = []
        import pyarrow.parquet as pq

        for number, part in enumerate(table.chunks(enumerate(self.forms), 50_000)):
            path = Path(self.folder.name) / f"{number}.parquet"
            pq.write_table(table.table([(rid, 0, form) for rid, form in part]), path)
            paths.append(path)
        duck.read("source", paths)
        return duck

    def __exit__(self, *error: object) -> None:
        if self.duck is not None:
            self.duck.close()
        self.folder.cleanup()


def rank(people: Sequence[str], forms: Sequence[Form], model: Model, found: Sequence[int]) -> dict[str, Any]:
    """All pairs that share a key, by score: how much is found at pair precision 0.9999, whatever the thresholds.

    ``bits``: by score alone (vetoed pairs last); ``decision``: pairs that the policy would link first, then by score;
    ``persons``: pairs that stand under one person in ``found`` first, by all that its registrations say together, then by score.
    """
    from lianxin.index.batch import link, statements
    from lianxin.index.match import policy

    label = numbers(people)
    persons = np.asarray(found)
    bits, verdicts, right, together, compared = [], [], [], [], 0
    levels = statements.hopeful(model, "duckdb")
    with _Source(forms) as duck:
        link.prepare(duck, model)
        figures = link.block(duck)
        slices = max(1, -(-len(forms) // link.SLICE))
        for n in range(slices):
            compared += link.slice_pairs(duck, slices, n)
            part = link.Pairs.of([duck.columns(statements.scored(model, duck.nested(levels)))])
            verdict, _, _ = link.judged(part, model)
            vetoed = np.isin(part.pattern, [p for p in np.unique(part.pattern).tolist()
                                            if policy.vetoed(statements.vector_of(p)[0])])  # fmt: skip
            bits.append(np.where(vetoed, -1000.0, part.bits))
            verdicts.append(verdict)
            right.append((label[part.left] == label[part.right]) & (label[part.left] >= 0))
            together.append(persons[part.left] == persons[part.right])
    score, verdict, hit = np.concatenate(bits), np.concatenate(verdicts), np.concatenate(right)
    true = measure.clusters(people, [0] * len(people))["true_pairs"]
    return {
        "pairs": int(compared),
        "crowded_keys": figures["crowded_keys"],
        "bits": measure.ranking(score, hit, true),
        "persons": measure.ranking(score + np.where(np.concatenate(together), 2000.0, 0.0), hit, true),
        "decision": measure.ranking(score + np.where(verdict == policy.AUTO, 500.0, 0.0), hit, true),
    }


def numbers(people: Sequence[str]) -> Any:
    """People as numbers (-1: no truth)."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(p, len(seen)) if p else -1 for p in people], dtype=np.int64)


def _kinds(people: Sequence[str], run: Linkage) -> dict[str, dict[str, int]]:
    """Reviews by kind: how many, and how many of them true."""
    who: dict[int, set[str]] = {}
    for p, c in zip(people, run.found, strict=True):
        if p:
            who.setdefault(c, set()).add(p)
    out: dict[str, dict[str, int]] = {}
    for (a, b), kind in run.kinds.items():
        row = out.setdefault(kind, {"opened": 0, "true": 0})
        row["opened"] += 1
        row["true"] += bool(who.get(a, set()) & who.get(b, set()))
    return dict(sorted(out.items()))


def _orders(
    labelled: Labelled,
    first: Linkage,
    orders: int,
    say: Callable[[str], None],
    run: Callable[[Labelled, list[int]], list[int]],
) -> dict[str, Any]:
    """Other orders of arrival: in how many of the linked pairs they differ from the file's order, and their worst figures."""
    shares, mixed, recalls = [], [], []
    for number in range(orders):
        say(f"order {number + 1}/{orders}")
        places = list(range(len(labelled)))
        random.Random(number).shuffle(places)
        found = run(labelled.taken(places), places)
        back = [0] * len(places)
        for at, place in enumerate(places):
            back[place] = found[at]
        shares.append(measure.differing(first.found, back))
        figures = measure.clusters(labelled.people, back)
        mixed.append(figures["mixed"])
        recalls.append(figures["recall"])
    return {
        "orders": orders,
        "differing_pairs": max(shares),
        "mean_differing_pairs": sum(shares) / len(shares),
        "mixed": max(mixed),
        "least_recall": min(recalls),
    }


def text(report: dict[str, Any]) -> str:
    """The report for people to read."""
    link, review = report["linkage"], report["reviews"]
    lines = [
        f"{link['records']:,} registrations of {link['people']:,} people -> {link['clusters']:,} persons"
        f"   ({report['engine']}, model {report['model']}, {report['seconds']} s)",
        "",
        f"pairs      precision {link['precision']:.6f}   recall {link['recall']:.5f}   F1 {link['f1']:.5f}"
        f"   ({link['true_pairs']:,} true, {link['linked_pairs']:,} linked)",
        *(
            f"{name:<10} precision {link[key]['precision']:.6f}   recall {link[key]['recall']:.5f}   F1 {link[key]['f1']:.5f}"
            for name, key in (("B-cubed", "bcubed"), ("clusters", "exact"))
        ),
        f"mixed      {link['mixed']:,} persons hold a stranger's registration"
        f" ({link['mixed_per_50000_people']:.2f} per 50,000 people)",
        f"reviews    {review['opened']:,} ({review['per_1000_records']:.2f} per 1,000 registrations),"
        f" {review['true_share']:.1%} of them true; recall after review {review['recall_after']:.5f}",
        *(
            f"             {kind:<16} {row['opened']:>7,} {row['true']:>7,} true"
            for kind, row in review["kinds"].items()
        ),
    ]
    if ranks := report.get("ranking"):
        lines += [
            f"ranking    recall {ranks.get('persons', ranks['decision'])['recall']:.5f} at pair precision 0.9999 (by score alone"
            f" {ranks['bits']['recall']:.5f}); {ranks['pairs']:,} pairs share a key, {ranks['bits']['reach']:.5f} of the true ones",
        ]
    if orders := report.get("orders"):
        lines += [
            f"orders     {orders['orders']} other orders of arrival: up to {orders['differing_pairs']:.4%} of linked pairs differ,"
            f" least recall {orders['least_recall']:.5f}, most mixed {orders['mixed']}",
        ]
    shown = [(c, r) for c, r in report["causes"].items() if r["missed"] or r["strangers"]]
    if shown:
        lines += [
            "",
            f"{'cause':<28}{'true pairs':>11}{'missed':>9}{'in review':>11}{'strangers':>11}{'recall':>9}",
        ]
        lines += [
            f"{cause:<28}{r['pairs']:>11,}{r['missed']:>9,}{r['in_review']:>11,}{r['strangers']:>11,}"
            f"{measure.share(r['linked'], r['pairs']):>9.4f}"
            for cause, r in shown
        ]
    return "\n".join(lines)
