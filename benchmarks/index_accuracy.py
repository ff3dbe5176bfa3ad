"""How accurate the index is, beside Splink 5 and recordlinkage on the same data in the same run: ``make bench-accuracy``.

    python -m benchmarks.index_accuracy [--sets febrl3,febrl4,rldata10000,pseudopeople,qinghe,tianhu] [--people 25000] [--seed 77]

The peers live in a virtual environment of their own (``--peers``; requirements/bench.txt). They are given the fields as the index
has cleaned them (simplified characters, pinyin, canonical numbers, split addresses; of lists in Latin letters each column on its
own, dates as typed), which flatters them. Febrl 4 is two lists of single people: everybody links one with the other, and of each
method's pairs the best partner of a row counts. For every method: pair
precision, recall and F1 at its own fixed threshold, the best F1 that any threshold on its scores would reach, recall at pair
precision 0.9999, people holding a stranger's record, seconds and peak memory. Needs no database.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PUBLIC = ("febrl3", "febrl4", "rldata10000", "pseudopeople")
COUNTIES = ("qinghe", "yunshan", "tianhu", "gaoyuan", "binjiang")
THRESHOLDS = {"splink": (6.63, 9.97), "recordlinkage": (0.5, 0.99)}
"""Match weights of probability 0.99 and 0.999; probabilities of the classifier."""
COLUMNS = ("rid", "name", "surname", "given", "family", "pinyin", "born", "sex", "id_no", "phone", "card", "town", "village", "house",
           "address", "division", "file")  # fmt: skip


def main() -> int:
    """Run, print the table; 1 when a method could not run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", default=",".join((*PUBLIC, "qinghe", "tianhu")))
    parser.add_argument("--people", type=int, default=25_000)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--per-person", type=float, default=2.0)
    parser.add_argument("--rates", default=None, help="rates file of the generator, or: other")
    parser.add_argument("--peers", type=Path, default=Path(".venv-bench/bin/python"))
    parser.add_argument("--methods", default="lianxin,splink,recordlinkage")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    import django

    django.setup()
    if given.one:
        print(json.dumps(ours(given.one)))
        return 0
    failed, table = 0, []
    with tempfile.TemporaryDirectory(prefix="accuracy-") as place:
        folder = Path(place)
        public = [s for s in given.sets.split(",") if s in PUBLIC]
        if public:
            subprocess.run(
                [str(given.peers), str(HERE / "peers" / "public_sets.py"), place],
                check=True,
                capture_output=True,
            )
        for name in given.sets.split(","):
            file = folder / f"{name}.csv"
            if name not in PUBLIC:
                generate(file, name, given)
            for method in given.methods.split(","):
                row = measured(method, file, "western" if name in PUBLIC else "chinese", given.peers)
                row |= {"set": name, "method": method}
                failed += "failed" in row
                table.append(row)
                print(line(row), flush=True)
    if given.json:
        given.json.write_text(json.dumps(table, indent=1), "utf-8")
    return min(failed, 1)


def generate(file: Path, county: str, given: argparse.Namespace) -> None:
    """A generated set."""
    from lianxin.index import kit

    if county not in COUNTIES:
        raise SystemExit(f"no set {county!r}: {', '.join((*PUBLIC, *COUNTIES))}")
    with file.open("w", encoding="utf-8", newline="") as out:
        kit.write_csv(out, given.people, given.seed, county, given.per_person, kit.read_rates(given.rates))


def measured(method: str, file: Path, kind: str, peers: Path) -> dict[str, Any]:
    """Run a method as a process of its own: figures, seconds, peak memory in MB."""
    out = file.with_suffix(f".{method}.npz")
    if method == "lianxin":
        command = [sys.executable, "-m", "benchmarks.index_accuracy", "--one", str(file)]
    else:
        table = file.with_suffix(".table")
        if not table.exists():
            clean(file, table)
        command = [str(peers), str(HERE / "peers" / f"{method}_link.py"), str(table), kind, str(out)]
    start = time.monotonic()
    env = os.environ if method == "lianxin" else {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as wrong:
        child = subprocess.Popen(command, stdout=said, stderr=wrong, env=env)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        for stream in (said, wrong):
            stream.seek(0)
        if child.returncode:
            return {"failed": wrong.read().decode(errors="replace")[-400:]}
        row = json.loads(said.read().splitlines()[-1]) if method == "lianxin" else theirs(method, file, out)
    return row | {
        "seconds": round(time.monotonic() - start, 1),
        "processor": round(used.ru_utime + used.ru_stime, 1),
        "memory_mb": round(used.ru_maxrss / 1024),
    }


def clean(file: Path, table: Path) -> None:
    """The fields as the index cleans them, for the peers."""
    from lianxin.index import kit
    from lianxin.index.form import form_of
    from lianxin.index.kit import latin
    from lianxin.index.match.western import form_of_parts

    labelled = kit.read_csv(file)
    with table.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        if labelled.latin:
            first = latin.first_list(labelled)
            for rid, parts in enumerate(labelled.parts):
                form = form_of_parts(parts)
                where = "" if first is None else "a" if rid in first else "b"
                writer.writerow(
                    [rid, form.name, form.surname, parts.given.lower(), parts.family.lower(), form.pinyin, dashed(int(parts.born or 0)), form.sex or "",
                     parts.number, form.phone, "", "", parts.town.lower(), parts.house.lower(),
                     f"{parts.house} {parts.street}".strip().lower(), parts.area.lower(), where]
                )  # fmt: skip
            return
        for rid, reg in enumerate(labelled.registrations):
            form = form_of(reg)
            writer.writerow(
                [rid, form.name, form.surname, (reg.given or form.given).lower(), (reg.family or form.surname).lower(), form.pinyin,
                 dashed(form.born), form.sex or "", form.id_no, form.phone, form.card, form.town, form.village or reg.village.lower(),
                 form.house, reg.address.lower(), reg.division.lower(), ""]
            )  # fmt: skip


def dashed(born: int) -> str:
    """yyyy-mm-dd, or nothing."""
    return f"{born // 10000:04d}-{born // 100 % 100:02d}-{born % 100:02d}" if born else ""


def ours(file: Path) -> dict[str, Any]:
    """The index on a file: decisions online in memory, the ranking of pairs set-based; a list in Latin letters all at once."""
    from lianxin.index import kit
    from lianxin.index.kit import evaluate

    report = evaluate.evaluate(kit.read_csv(file), pairs=True)
    link, ranks, review = report["linkage"], report["ranking"], report["reviews"]
    return {
        "precision": link["precision"],
        "recall": link["recall"],
        "f1": link["f1"],
        "best_f1": max(ranks["decision"]["best_f1"], ranks["bits"]["best_f1"]),
        "recall_at": ranks.get("persons", ranks["decision"])["recall"],
        "mixed": link["mixed"],
        "people": link["people"],
        "reviews": review["per_1000_records"],
        "reviews_true": review["true_share"],
        "recall_after_review": review["recall_after"],
        "engine": report["engine"],
    }


def theirs(method: str, file: Path, out: Path) -> dict[str, Any]:
    """A peer's pairs against the truth: components at its thresholds (the better one is told), its ranking."""
    import numpy as np

    from lianxin.index import kit
    from lianxin.index.batch import cluster
    from lianxin.index.kit import latin, measure
    from lianxin.index.kit.evaluate import numbers

    labelled = kit.read_csv(file)
    found = np.load(out)
    label = numbers(labelled.people)
    left, right, score = found["left"], found["right"], found["score"]
    hit = (label[left] == label[right]) & (label[left] >= 0)
    two = latin.first_list(labelled) is not None
    best: dict[str, Any] = {}
    for threshold in THRESHOLDS[method]:
        over = score >= threshold
        chosen = one_to_one(left, right, np.where(over, score, -np.inf)) if two else over
        groups = cluster.components(len(label), left[chosen], right[chosen])
        figures = measure.clusters(labelled.people, groups.tolist())
        if not best or figures["f1"] > best["f1"]:
            best = {k: figures[k] for k in ("precision", "recall", "f1", "mixed", "people", "true_pairs")}
    ranks = measure.ranking(score, hit, best.pop("true_pairs"))
    return best | {"best_f1": ranks["best_f1"], "recall_at": ranks["recall"]}


def one_to_one(left: Any, right: Any, score: Any) -> Any:
    """Positions of the pairs that remain when each row keeps its best free partner, as the index does between two lists."""
    import numpy as np

    from lianxin.index.match.western import partners

    order = [at for at in np.argsort(-score, kind="stable").tolist() if score[at] > -np.inf]
    place = {(int(left[at]), int(right[at])): at for at in order}
    kept = partners((float(score[at]), int(left[at]), int(right[at])) for at in order)
    return np.array([place[a, b] for a, b, _ in kept], dtype=np.int64)


def line(row: dict[str, Any]) -> str:
    """One row of the table, as Markdown."""
    if "failed" in row:
        return f"| {row['set']} | {row['method']} | failed: {row['failed']} |"
    review = f"{row['reviews']:.2f} ({row['reviews_true']:.0%})" if "reviews" in row else "-"
    return (
        f"| {row['set']} | {row['method']} | {row['precision']:.5f} | {row['recall']:.5f} | {row['f1']:.5f} | {row['best_f1']:.5f}"
        f" | {row['recall_at']:.4f} | {row['mixed']} | {review} | {row['seconds']} | {row['memory_mb']} |"
    )


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
