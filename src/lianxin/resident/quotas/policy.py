"""The quota policy in force: shipped defaults, then rows for everybody, then rows of the institution's consortium."""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lianxin.network import directory
from lianxin.network.models import Institution
from lianxin.pool.models import TIERS
from lianxin.resident.quotas.models import in_force
from lianxin.standards import clock

DATA = Path(__file__).parent / "data" / "policy.yaml"


@dataclass(frozen=True)
class Rules:
    """Worth of a number by channel (public … village), floor for remote townships, how history is read, and where it is from."""

    values: tuple[float, ...]
    remote_km: float
    per_week: float
    village_share: float
    most: float
    weeks: int
    least_sessions: int
    sources: tuple[str, ...]


@functools.cache
def shipped() -> dict[str, Any]:
    """The defaults that come with the platform."""
    found: dict[str, Any] = yaml.load(DATA.read_text("utf-8"), Loader=yaml.CSafeLoader)
    return found


def rules(institution: Institution, on: dt.date | None = None) -> Rules:
    """The policy of ``institution`` on a day (today). ValueError when a row's value makes no sense."""
    defaults = shipped()
    parts = {name: dict(defaults[name]) for name in ("values", "floor", "history")}
    sources = {name: str(defaults["source"]) for name in parts}
    consortia = [c.pk for c in directory.consortia_of(institution)]
    for row in in_force(on or clock.today(), consortia):
        parts[row.name].update(row.value)
        sources[row.name] = row.source
    values = tuple(float(parts["values"][tier]) for tier in TIERS)
    if values[0] <= 0 or list(values) != sorted(values):
        raise ValueError("the worth of a number is positive and does not fall from the public to the village")
    floor, history = parts["floor"], parts["history"]
    return Rules(
        values, float(floor["remote_km"]), float(floor["per_week"]), float(floor["village_share"]), float(floor["most"]),
        int(history["weeks"]), int(history["least_sessions"]), tuple(dict.fromkeys(sources.values())),
    )  # fmt: skip
