"""Settings of booking as data: shipped values, and rows that take their place for a consortium or for everybody from a day on."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from lianxin.network.policy import Settings

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "booking.Policy")
values, value, forget = SETTINGS.values, SETTINGS.value, SETTINGS.forget


def time_of(spec: str) -> dt.time:
    """An hour of the day as written in the settings ("07:00")."""
    return dt.time.fromisoformat(spec)
