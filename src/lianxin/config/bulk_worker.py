"""A bulk worker process: does the steps of bulk exports and imports, one at a time, at low priority.

``lianxin serve`` runs some; more may run on other machines that share the folder of bulk files (``lianxin bulk-worker``).  A worker
that is killed loses only the step it was in: somebody else takes its lane when the lease has run out.
"""

from __future__ import annotations

import os

import django

NICENESS = 10  # behind whoever waits at a screen or the door


def main() -> None:
    """Work until told to stop."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    django.setup()

    from django.db import connection

    from lianxin.config import process
    from lianxin.exchange.bulk import runner

    process.die_with_parent()
    os.nice(NICENESS)
    stop = process.told_to_stop()
    runner.worker(stop)
    connection.close()


if __name__ == "__main__":
    main()
