"""How booking for a person can be refused beyond what the pool says."""

from __future__ import annotations

import datetime as dt

from lianxin.duty.errors import MoveError
from lianxin.standards import clock
from lianxin.standards.text import T, Text


class Barred(MoveError):
    """Public numbers are closed to this person until ``until`` because visits were missed; ``why`` says which rule."""

    def __init__(self, until: dt.datetime, why: Text) -> None:
        super().__init__(
            T(
                "{why} {until} 前不能预约公开号源；转诊、急诊和到院挂号不受影响。如有异议可提出申诉。",
                "{why} Public numbers are closed until {until}; referrals, emergencies and registering on the spot are not"
                " affected. You may appeal.",
            ).format(why=why, until=f"{until.astimezone(clock.ZONE):%Y-%m-%d}")
        )
        self.until = until
        self.why = why


class TooMany(MoveError):
    """The policy's limit of coming visits (or waiting lists) is reached."""
