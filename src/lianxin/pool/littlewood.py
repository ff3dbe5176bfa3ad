"""How many numbers to keep for whom: pure arithmetic, no database.

*Which rule.* Two classes: K. Littlewood, "Forecasting and control of passenger bookings" (AGIFORS 1972): keep ``y`` for the dearer
class while P(its demand > y) > value(cheap) / value(dear). Our four channels nest, so :func:`nested` works out the exact optimum for
demand that comes in order of value (Curry 1990; Wollmer 1992; Brumelle and McGill 1993) by dynamic programming. Belobaba's EMSR-b
(1989) approximates that optimum by one pooled class with a mean value; at the size of a clinic (tens of numbers) the exact answer
costs a millisecond, so nothing is approximated. The public asks first (numbers open to all at 7:00 a fortnight ahead) and the
grassroots later (a patient must be seen before being sent), which is the order the rule assumes.

*Demand behind a closed door.* A channel that was full shows only a lower limit of its demand, unless those turned away knocked and
were counted. :func:`mean_of` fills the sessions whose demand is not known by expectation-maximisation on a Poisson demand (each full session counts as E[X | X >= what it showed]); spread beyond
Poisson comes from the sessions that never closed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

Pmf = tuple[float, ...]
"""P(demand = n) at index n; the last entry is P(demand >= its index)."""


def beyond(pmf: Pmf, n: int) -> float:
    """P(demand > n)."""
    return math.fsum(pmf[n + 1 :])


def littlewood(pmf: Pmf, open_value: float, kept_value: float) -> int:
    """How many numbers to keep for a channel with demand ``pmf``: the least ``y`` with P(demand > y) <= open_value / kept_value.

    Littlewood (1972). ValueError for values that are not positive.
    """
    if open_value <= 0 or kept_value <= 0:
        raise ValueError("values are positive")
    ratio = open_value / kept_value
    return next(y for y in range(len(pmf)) if beyond(pmf, y) <= ratio)


def nested(demand: Sequence[Pmf], values: Sequence[float], capacity: int) -> list[int]:
    """Numbers to keep of ``capacity``: entry j for all channels after j, against j and those before it.

    ``demand`` and ``values`` from the least valued channel (public) to the most (village), values not falling; the result (one shorter)
    never rises. Exact for channels that ask in that order (Brumelle and McGill 1993).
    """
    if len(demand) != len(values) or not demand or capacity < 0:
        raise ValueError("one demand for each value, and a capacity")
    if values[0] <= 0 or any(a > b for a, b in itertools.pairwise(values)):
        raise ValueError("values are positive and do not fall from the public to the village")
    worth = _worth(demand[-1], values[-1], [0.0] * (capacity + 1), 0)
    kept: list[int] = []
    for pmf, value in zip(reversed(demand[:-1]), list(values)[-2::-1], strict=True):
        y = capacity
        while y > 0 and worth[y] - worth[y - 1] <= value + 1e-12:
            y -= 1
        y = max([y, *kept[:1]])
        kept.insert(0, y)
        worth = _worth(pmf, value, worth, y)
    return kept


def _worth(pmf: Pmf, value: float, after: list[float], kept: int) -> list[float]:
    """Expected value of 0..capacity numbers when this channel asks first and ``kept`` are kept from it."""
    found = []
    for left in range(len(after)):
        most = max(0, left - kept)
        total = 0.0
        for n, chance in enumerate(pmf):
            sold = min(n, most)
            total += chance * (value * sold + after[left - sold])
        found.append(total)
    return found


def mean_of(seen: Sequence[tuple[int, bool]], rounds: int = 60) -> float:
    """Mean demand from ``(numbers asked for, closed)`` of past sessions; ``closed``: there may have been more. 0 without any."""
    if not seen:
        return 0.0
    mean = sum(n for n, _ in seen) / len(seen)
    if not any(closed for _, closed in seen):
        return mean
    mean = max(mean, 0.1)
    # Nothing but closed doors: no upper evidence, and the mean would creep up without end; one step is what the doors bear.
    for _ in range(rounds if any(not closed for _, closed in seen) else 1):
        filled = [_at_least(mean, n) if closed else float(n) for n, closed in seen]
        last, mean = mean, sum(filled) / len(filled)
        if abs(mean - last) < 1e-6:
            break
    return mean


def _at_least(mean: float, n: int) -> float:
    """E[X | X >= n] of a Poisson demand: mean * P(X >= n - 1) / P(X >= n)."""
    if n <= 0:
        return mean
    below = math.fsum(_poisson(mean, k) for k in range(n))
    tail = 1.0 - below
    return max(float(n), mean * (tail + _poisson(mean, n - 1)) / tail) if tail > 1e-9 else float(n)


def _poisson(mean: float, n: int) -> float:
    return math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) if mean > 0 else float(n == 0)


def spread_of(seen: Sequence[tuple[int, bool]]) -> float:
    """Variance over mean of the sessions that never closed (at least 1, as a Poisson demand has; 1 with fewer than five)."""
    free = [n for n, closed in seen if not closed]
    mean = sum(free) / len(free) if free else 0.0
    if len(free) < 5 or mean == 0:
        return 1.0
    return max(1.0, sum((n - mean) ** 2 for n in free) / (len(free) - 1) / mean)


def distribution(mean: float, spread: float, most: int) -> Pmf:
    """Poisson demand of ``mean`` (``spread`` > 1: negative binomial with that variance over mean), cut at ``most``."""
    if mean < 0 or spread < 1 or most < 0:
        raise ValueError("mean >= 0, spread >= 1, most >= 0")
    if mean < 1e-12:  # nobody in any history; the logarithms below would not bear it
        chances = [1.0] + [0.0] * most
    elif spread < 1.0001:
        chances = [_poisson(mean, n) for n in range(most + 1)]
    else:
        size, p = mean / (spread - 1.0), 1.0 / spread
        chances = [
            math.exp(
                math.lgamma(n + size)
                - math.lgamma(size)
                - math.lgamma(n + 1)
                + size * math.log(p)
                + n * math.log1p(-p)
            )
            for n in range(most + 1)
        ]
    chances[-1] += max(0.0, 1.0 - math.fsum(chances))
    return tuple(chances)


@dataclass(frozen=True)
class Request:
    """Somebody asked for ``units`` numbers through channel ``rank`` (0 public … 3 village) at ``at`` (any steady clock)."""

    at: float
    rank: int
    units: int = 1


@dataclass(frozen=True)
class Past:
    """A session that was: its capacity, when each kept quota opened (county, township, village), who asked in what order."""

    capacity: int
    releases: tuple[float, float, float]
    requests: tuple[Request, ...]


@dataclass
class Outcome:
    """What quotas make of past demand: numbers given by channel, numbers refused by channel, numbers left empty."""

    served: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    refused: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    empty: int = 0
    capacity: int = 0

    def add(self, other: Outcome) -> None:
        """Sum over sessions."""
        self.served = [a + b for a, b in zip(self.served, other.served, strict=True)]
        self.refused = [a + b for a, b in zip(self.refused, other.refused, strict=True)]
        self.empty += other.empty
        self.capacity += other.capacity

    @property
    def grassroots(self) -> int:
        """Numbers that township and village got."""
        return self.served[2] + self.served[3]


def replay(past: Past, kept: Sequence[int]) -> Outcome:
    """Give the numbers of a past session out anew, in the order of asking, under ``kept`` (county, township, village).

    The predicate is that of booking: a channel of rank r may take while, for every later tier t that is not open yet, those before t
    have taken no more than capacity - kept[t]. Nobody who was refused comes again.
    """
    outcome = Outcome(capacity=past.capacity)
    for request in sorted(past.requests, key=lambda r: r.at):
        room = sum(outcome.served) + request.units <= past.capacity and all(
            past.releases[t - 1] <= request.at
            or sum(outcome.served[:t]) + request.units <= past.capacity - kept[t - 1]
            for t in range(request.rank + 1, 4)
        )
        (outcome.served if room else outcome.refused)[request.rank] += request.units
    outcome.empty = past.capacity - sum(outcome.served)
    return outcome
