"""ECGs with known intervals: every wave is a piece of a raised cosine or a line, so that its beginning and end are exact."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lianxin.regional.ecg import wave
from lianxin.regional.ecg.wave import Wave

# amplitude of P, Q, R, S, T in µV by lead, of an ordinary heart with an axis near 50°
LEADS = {
    "I": (80, -60, 700, -120, 200), "II": (150, -80, 1200, -150, 320),
    "V1": (60, 0, 250, -900, 60), "V2": (70, 0, 400, -1100, 350), "V3": (70, 0, 700, -700, 420),
    "V4": (80, -60, 1400, -300, 450), "V5": (80, -80, 1300, -150, 350), "V6": (80, -80, 1000, -80, 260),
}  # fmt: skip


@dataclass
class Heart:
    """What is drawn: times in ms, ``st`` µV by lead added from the J point to the T wave, ``rr`` ms (one number, or one per beat)."""

    rr: float | list[float] = 800.0
    pr: float = 160.0
    p: float = 100.0
    qrs: float = 90.0
    qt: float = 380.0
    st: dict[str, float] = field(default_factory=dict)
    has_p: bool = True
    noise: float = 0.0
    wander: float = 0.0
    mains: float = 0.0
    seconds: float = 10.0
    hz: int = 500
    turned: tuple[str, ...] = ()


def _bump(t: np.ndarray, start: float, end: float) -> np.ndarray:
    inside = (t > start) & (t < end)
    return np.where(inside, 0.5 - 0.5 * np.cos(2 * np.pi * (t - start) / (end - start)), 0.0)


def _beat(t: np.ndarray, heart: Heart, lead: str) -> np.ndarray:
    p, q, r, s, tw = LEADS[lead]
    third = heart.qrs / 3
    made = (
        q * _bump(t, 0, third) + r * _bump(t, third * 0.6, third * 2.2) + s * _bump(t, third * 1.9, heart.qrs)
    )
    if heart.has_p:
        made = made + p * _bump(t, -heart.pr, -heart.pr + heart.p)
    peak = heart.qt - 80
    made = made + tw * _bump(t, max(heart.qt - 200, heart.qrs + 10), heart.qt)
    lift = heart.st.get(lead, 0.0)
    if lift:
        ramp = np.clip((t - heart.qrs + 8) / 8, 0, 1) * np.clip((heart.qt - t) / (heart.qt - peak), 0, 1)
        made = made + lift * ramp
    return made


def ecg(heart: Heart | None = None, **fields: object) -> Wave:
    """The twelve leads of a heart as a device would send eight of them, in counts of 2.5 µV."""
    heart = heart or Heart(**fields)  # type: ignore[arg-type]
    count = int(heart.seconds * heart.hz)
    t = np.arange(count) * 1000.0 / heart.hz
    each = heart.rr if isinstance(heart.rr, list) else [heart.rr]
    onsets, at, n = [], 300.0, 0
    while at < t[-1] + 1000:
        onsets.append(at)
        at += each[n % len(each)]
        n += 1
    random = np.random.default_rng(7)
    rows = []
    for lead in LEADS:
        row = sum((_beat(t - onset, heart, lead) for onset in onsets), np.zeros(count))
        if lead in heart.turned:
            row = -row
        row = (
            row
            + heart.wander * np.sin(2 * np.pi * 0.25 * t / 1000)
            + heart.mains * np.sin(2 * np.pi * 50 * t / 1000)
        )
        rows.append(row + heart.noise * random.standard_normal(count))
    return wave.from_physical(
        list(LEADS), float(heart.hz), rows, [2.5] * len(rows), {"highpass": 0.05, "lowpass": 150.0}
    )
