"""The ticker process: does the periodic work that rooms have registered with ``duty.periodic``, a little every second.

Several tickers may run (one per machine): ``run_due`` lets only one at a time do each piece of work.
"""

from __future__ import annotations

import os

import django
import structlog

WORKER_SECONDS = 10.0  # that a worker has to finish what it is at


def main() -> None:
    """Run until told to stop; a failure of the database is logged and tried again, ever more slowly up to 30 s."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lianxin.config.settings")
    os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    django.setup()

    from django.db import Error, close_old_connections, connection

    from lianxin.config import process
    from lianxin.duty import periodic

    process.die_with_parent()
    log = structlog.get_logger("lianxin.ticker")
    stop = process.told_to_stop()
    workers = periodic.start_workers(stop)
    pause = 1.0
    while not stop.wait(pause):
        try:
            close_old_connections()
            periodic.run_due()
            pause = 1.0
        except Error:
            log.exception("periodic work met a database error; trying again")
            connection.close()
            pause = min(30.0, pause * 2)
    for worker in workers:
        worker.join(WORKER_SECONDS)
    connection.close()


if __name__ == "__main__":
    main()
