"""The indicators of chest-pain centres: median and share within target of every interval, with the channels they are counted from."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field

from lianxin.regional.emergency import policy, rules
from lianxin.regional.emergency.models import Channel, Milestone
from lianxin.standards.text import Text


@dataclass
class Indicator:
    """One interval over a period."""

    name: str
    label: Text
    target: int | None
    minutes: list[tuple[int, Channel]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many channels have both ends."""
        return len(self.minutes)

    @property
    def median(self) -> float | None:
        """Median minutes."""
        return statistics.median(m for m, _ in self.minutes) if self.minutes else None

    @property
    def within(self) -> int | None:
        """How many kept the target."""
        return None if self.target is None else sum(m <= self.target for m, _ in self.minutes)

    @property
    def percent(self) -> int | None:
        """Share within target, whole percent."""
        return None if self.within is None or not self.minutes else round(100 * self.within / self.count)


def times_of(channels: Iterable[Channel]) -> dict[int, rules.Times]:
    """The times in force of many channels in one query."""
    found: dict[int, rules.Times] = {c.pk: {} for c in channels}
    for row in Milestone.objects.filter(channel_id__in=list(found)).order_by("version"):
        found[row.channel_id][row.code] = row.at
    return found


def indicators(channels: list[Channel], institution_id: int) -> list[Indicator]:
    """Every interval over ``channels``; targets are those in force at ``institution_id``. Stopped channels count as far as they went."""
    times = times_of(channels)
    made = {
        name: Indicator(name, label, policy.target(rules.LIMITS[name], institution_id).minutes if name in rules.LIMITS else None)
        for name, (_, _, label) in rules.INTERVALS.items()
    }  # fmt: skip
    for channel in channels:
        for name, minutes in rules.intervals(times[channel.pk]).items():
            if name == "dido" and channel.first_id == channel.lab_id:
                continue  # nobody was sent anywhere
            made[name].minutes.append((minutes, channel))
    return list(made.values())


def of_period(mine: set[int], since: dt.datetime) -> list[Channel]:
    """The channels in which ``mine`` play a part, opened since."""
    rows = Channel.objects.unscoped("one's own institution's").filter(opened_at__gte=since)
    rows = rows.filter(first_id__in=mine) | rows.filter(centre_id__in=mine) | rows.filter(lab_id__in=mine)
    return list(rows.select_related("case", "person", "first", "centre", "lab").order_by("-opened_at")[:2000])
