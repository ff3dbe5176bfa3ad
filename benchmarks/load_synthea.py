"""Bulk load against a bare COPY of the same bytes, in the same run.

    python benchmarks/load_synthea.py bundles.zip --institution CODE

Needs ``DATABASE_URL`` of a scratch database where the zip has not been loaded yet.
"""

import argparse
import time

import django

django.setup()

from django.db import connection  # noqa: E402

from lianxin.exchange import load  # noqa: E402
from lianxin.exchange.load import outline  # noqa: E402
from lianxin.exchange.sources import members  # noqa: E402
from lianxin.record.rows import escape  # noqa: E402


def bare(path: str) -> tuple[int, float]:
    """Resources, and seconds to COPY their texts into one unindexed table."""
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


def main() -> None:
    """Load once, print rate, CPU and ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path")
    parser.add_argument("--institution", required=True)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    count, seconds = bare(args.path)
    cpu = time.process_time()
    report = load.load([args.path], institution=args.institution, jobs=args.jobs)
    cpu = time.process_time() - cpu
    print(
        f"accepted {report.accepted} of {count}, refused {report.refused}, members skipped {report.skipped}"
    )
    print(
        f"load {report.rate:.0f} resources/s wall, {report.accepted / cpu if cpu else 0:.0f} per CPU second of this process"
    )
    print(
        f"bare COPY of the same texts {count / seconds:.0f} resources/s; ratio {report.rate * seconds / count:.3f}"
    )


if __name__ == "__main__":
    main()
