"""How often something may be tried before it has to wait; the numbers are data (``limits.yaml``)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import yaml

from lianxin.access import seal
from lianxin.access.errors import AccessError
from lianxin.resident.card.models import Attempt
from lianxin.standards import clock
from lianxin.standards.text import T

EVERYBODY = b"everybody".ljust(16, b"\0")


@dataclass(frozen=True)
class Limit:
    """At most ``most`` within ``window``."""

    window: dt.timedelta
    most: int


class TooMany(AccessError):
    """Tried too often; ``wait``: after how long it may be tried again."""

    def __init__(self, wait: dt.timedelta) -> None:
        self.wait = wait
        seconds = max(1, int(wait.total_seconds()))
        words = (
            T("操作太频繁，请{n}秒后再试。", "Too often; try again in {n} seconds.").format(n=seconds)
            if seconds <= 90
            else T("操作太频繁，请{n}分钟后再试。", "Too often; try again in {n} minutes.").format(
                n=-(-seconds // 60)
            )
        )
        super().__init__(words)


@lru_cache(maxsize=1)
def limits() -> dict[str, Limit]:
    """All limits by name."""
    rows = yaml.load(Path(__file__).with_name("limits.yaml").read_bytes(), Loader=yaml.CSafeLoader)
    return {n: Limit(dt.timedelta(minutes=row["window"]), row["most"]) for n, row in rows.items()}


def who(kind: str, text: str) -> bytes:
    """The keyed digest somebody is counted under."""
    return seal.blind(f"{kind}:{text}", "attempts")


def check(name: str, what: str, counted: bytes) -> None:
    """Raise :class:`TooMany` when ``counted`` has failed too often at ``what`` by the limit ``name``."""
    limit = limits()[name]
    now = clock.now()
    times = list(
        Attempt.objects.filter(what=what, who=counted, at__gt=now - limit.window)
        .order_by("-at")
        .values_list("at", flat=True)[: limit.most]
    )
    if len(times) >= limit.most:
        raise TooMany(times[-1] + limit.window - now)


def failed(what: str, *counted: bytes) -> None:
    """Count a failure against everybody named."""
    now = clock.now()
    Attempt.objects.bulk_create([Attempt(what=what, who=one, at=now) for one in counted])
