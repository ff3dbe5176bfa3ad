"""What the tables offer to the rest of the house: the way back of a row, the chores, and a worker in every ticker."""

from __future__ import annotations

from lianxin.duty import periodic
from lianxin.exchange.tables import door, running, schedule


def register() -> None:
    """Take part."""
    door.register()
    periodic.register("tables.due", 30, schedule.due)
    periodic.register("tables.tidy", 3600, running.tidy)
    periodic.register_worker("tables", running.worker)
