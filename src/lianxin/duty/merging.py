"""When the index finds that two people are one, the gone one's cases and duties become the kept one's, and go back if that is undone.

The act chain does not name the person, so it stands. Single registrations moving to another person leave cases alone: a
case belongs to the human being it was opened for.
"""

from __future__ import annotations

from lianxin.index import hooks

TABLES = ("duty_case", "duty_duty")


def register() -> None:
    """Called once from ``DutyConfig.ready``."""
    for table in TABLES:
        hooks.follow(hooks.Follower(table))
