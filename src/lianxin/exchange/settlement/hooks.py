"""What settlements offer to the rest of the house: a door of the inbox, chores, a self-check, rows that follow merged people."""

from __future__ import annotations

from lianxin.duty import periodic
from lianxin.exchange.feeds import inbox
from lianxin.exchange.feeds.models import SETTLEMENT
from lianxin.exchange.settlement import batches, linking
from lianxin.index import hooks
from lianxin.standards import checks


def register() -> None:
    """Called once by the app."""
    inbox.register_door(SETTLEMENT, batches.again)
    periodic.register("settlement.people", 3600, linking.link_rest)
    periodic.register("settlement.resume", 600, batches.resume)
    checks.register("settlement totals", batches.check)
    hooks.follow(hooks.Follower("exchange_settlementline"))
