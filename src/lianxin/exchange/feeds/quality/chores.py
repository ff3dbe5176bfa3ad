"""What the quality room registers: its machine and its chores."""

from __future__ import annotations

from lianxin.duty import periodic
from lianxin.exchange.feeds import problems, report, scores
from lianxin.exchange.feeds.quality import replaying


def register() -> None:
    """Offer the machine to the kernel, and the chores to the ticker: figures, replays, problems sent back, Monday's reports."""
    problems.register()
    periodic.register("feeds.scores", 60, scores.run)
    periodic.register("feeds.replay", 5, replaying.run)
    periodic.register("feeds.problems", 3600, problems.run)
    periodic.register("feeds.reports", 3600, report.run)
