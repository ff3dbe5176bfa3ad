"""Bulk load against a bare COPY of the same bytes, in the same run.

    python benchmarks/load_synthea.py [bundles.zip] [--jobs 1]

Without a path: the Synthea bundles of ``LIANXIN_SHARED`` when that folder is there, else bundles made here. Loads into a
scratch database that is dropped at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import against_pgbench as bench

NAME = "lianxin_bench_load"
ZIP = "data/fhir/synthea-100-bundles.zip"
CODE = "BENCH"


def made(folder: Path, people: int = 100, each: int = 300) -> Path:
    """A zip of transaction bundles, one person each, for where the Synthea one is not to be had."""
    import fhir

    path = folder / "made.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for p in range(people):
            rows = [fhir.patient(p), *(json.loads(fhir.observation(p, n)) for n in range(each))]
            entries = [
                {"resource": r, "request": {"method": "PUT", "url": f"{r['resourceType']}/{r['id']}"}}
                for r in rows
            ]
            out.writestr(
                f"{p}.json", json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
            )
    return path


def bare(path: Path) -> tuple[int, float]:
    """Resources, and seconds to COPY their texts into one unindexed table."""
    from django.db import connection

    from lianxin.exchange.load import outline
    from lianxin.exchange.sources import members
    from lianxin.record.rows import escape

    bodies = [
        item.raw.decode() for member in members([path]) for item in outline(member.read(), member.name)[1]
    ]
    with connection.cursor() as cur:
        cur.execute("CREATE TEMPORARY TABLE bare (body text)")
        started = time.perf_counter()
        with cur.copy("COPY bare FROM STDIN") as out:
            for body in bodies:
                out.write(escape(body) + "\n")
        return len(bodies), time.perf_counter() - started


def measure(path: Path, jobs: int) -> None:
    """Load once, print rate, CPU and ratio."""
    from lianxin.exchange import load
    from lianxin.network.models import Institution

    Institution.objects.create(code=CODE, name="基准医院", kind="hospital", tier="county")
    count, seconds = bare(path)
    before = os.times()
    report = load.load([path], institution=CODE, jobs=jobs)
    after = os.times()
    cpu = after.user + after.system + after.children_user + after.children_system
    cpu -= before.user + before.system + before.children_user + before.children_system
    print(
        f"accepted {report.accepted} of {count}, refused {report.refused}, members skipped {report.skipped}"
    )
    print(
        f"load {report.rate:,.0f} resources/s wall with {jobs} job(s); CPU of the loader {cpu / report.accepted * 1000:.2f} ms a resource"
    )
    print(
        f"bare COPY of the same texts {count / seconds:,.0f} resources/s; ratio {report.rate * seconds / count:.3f}"
    )


def main() -> None:
    """Find or make the bundles, load them into a scratch database."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    bench.setup()
    from django.conf import settings

    shared = settings.SHARED / ZIP
    with tempfile.TemporaryDirectory() as folder, bench.scratch(NAME):
        path = args.path or (shared if shared.exists() else made(Path(folder)))
        print(path.name)
        measure(path, args.jobs)


if __name__ == "__main__":
    main()
