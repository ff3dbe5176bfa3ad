"""In which order those who have come are called."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from lianxin.pool.models import Place


def turn(place: Place, late: dt.timedelta) -> tuple[dt.datetime, int]:
    """When a number's turn is: its own time for whoever came in time, the time of coming for who came more than ``late`` after it.

    ``changed_at`` of an arrived place is when the patient came.
    """
    on_time = place.changed_at <= place.at + late
    return (place.at if on_time else place.changed_at, place.seat_no)


def is_late(place: Place, late: dt.timedelta) -> bool:
    """Whether an arrived patient came too late for the number's own time."""
    return place.state == "arrived" and place.changed_at > place.at + late


def in_turn(places: Iterable[Place], late: dt.timedelta) -> list[Place]:
    """Those who are here and not seen, in the order they are called."""
    return sorted((p for p in places if p.state == "arrived"), key=lambda p: turn(p, late))
