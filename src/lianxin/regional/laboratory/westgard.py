"""Westgard multirules over control measurements. Pure: deviations in standard deviations go in, the verdict comes out.

Within a level: 1-2s warns; 1-3s, 2-2s, 4-1s and 10-x reject. Across levels of one run: 2-2s (two levels beyond 2 s on the same side) and
R-4s (one beyond +2 s, another beyond -2 s). Rules other than 1-3s, R-4s, 4-1s and 10-x are asked only after a warning, as WS/T 641-2018 has
it; 4-1s and 10-x detect a drift that no single point shows and are always asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.standards.text import T, Text

RULES: dict[str, Text] = {
    "1-2s": T("1-2s 警告", "1-2s warning"),
    "1-3s": T("1-3s 失控", "1-3s rejected"),
    "2-2s": T("2-2s 失控", "2-2s rejected"),
    "R-4s": T("R-4s 失控", "R-4s rejected"),
    "4-1s": T("4-1s 失控", "4-1s rejected"),
    "10-x": T("10-x 失控", "10-x rejected"),
}


@dataclass(frozen=True)
class Verdict:
    """``accept``, ``warn`` or ``reject`` and the rules that said so."""

    verdict: str
    rules: tuple[str, ...]


def judge(z: float, before: Sequence[float] = (), beside: Sequence[float] = ()) -> Verdict:
    """The verdict on a measurement ``z``: ``before`` are earlier ones of the same lot and level, newest first (those that count: a
    rejected run that was put right does not), ``beside`` those of the other levels in the same run."""
    found = []
    if abs(z) > 3:
        found.append("1-3s")
    if abs(z) > 2:
        if any(abs(one) > 2 and (one > 0) == (z > 0) for one in (*before[:1], *beside)):
            found.append("2-2s")
        if any(abs(one) > 2 and (one > 0) != (z > 0) for one in beside):
            found.append("R-4s")
    line = [z, *before]
    if len(line) >= 4 and _same_side(line[:4], 1):
        found.append("4-1s")
    if len(line) >= 10 and _same_side(line[:10], 0):
        found.append("10-x")
    if found:
        return Verdict("reject", tuple(found))
    return Verdict("warn", ("1-2s",)) if abs(z) > 2 else Verdict("accept", ())


def _same_side(line: Sequence[float], beyond: float) -> bool:
    return all(one > beyond for one in line) or all(one < -beyond for one in line)


def summary(values: Sequence[float], mean: float, allowed: float | None) -> dict[str, Any]:
    """A period in figures: n, mean, sd, CV %, bias % and the sigma metric (allowed error − |bias|) / CV. Raises nothing on few values."""
    n = len(values)
    if not n:
        return {"n": 0}
    own = sum(values) / n
    out: dict[str, Any] = {"n": n, "mean": own}
    if mean:
        out["bias"] = (own - mean) / mean * 100
    if n > 1 and own:
        sd = math.sqrt(sum((v - own) ** 2 for v in values) / (n - 1))
        out |= {"sd": sd, "cv": abs(sd / own) * 100}
        if allowed is not None and out["cv"] > 0:
            out["sigma"] = (allowed - abs(out.get("bias", 0))) / out["cv"]
    return out
