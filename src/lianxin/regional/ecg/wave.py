"""The one form in which an ECG is held here: leads × samples as 16-bit counts, µV per count, Hz (ADR 0045).

What a device measured is kept as the device counted it; physical values, derived leads and filters are worked out when they are looked
at and never written back. A sample the device left out is ``MISSING``.
"""

from __future__ import annotations

import functools
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MISSING = -32768
STANDARD = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
INDEPENDENT = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
_FULL = 32767


@dataclass(frozen=True)
class Wave:
    """``counts`` (leads × samples, int16) with ``gains`` in µV per count; ``filters`` as the device reported them (Hz)."""

    leads: tuple[str, ...]
    hz: float
    gains: tuple[float, ...]
    counts: NDArray[np.int16]
    filters: dict[str, Any] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return float(self.counts.shape[1] / self.hz)

    @functools.cached_property
    def microvolts(self) -> dict[str, NDArray[np.float64]]:
        """Every recorded lead in µV; missing samples are NaN."""
        found = {}
        for name, gain, row in zip(self.leads, self.gains, self.counts, strict=True):
            values = row.astype(np.float64) * gain
            values[row == MISSING] = np.nan
            found[name] = values
        return found

    def standard(self) -> dict[str, NDArray[np.float64]]:
        """The twelve leads in µV that were recorded or follow from I and II (Einthoven, Goldberger); what cannot be had is left out."""
        have = dict(self.microvolts)
        if "I" in have and "II" in have:
            one, two = have["I"], have["II"]
            derived = {"III": two - one, "aVR": -(one + two) / 2, "aVL": one - two / 2, "aVF": two - one / 2}
            have = derived | have
        return {name: have[name] for name in STANDARD if name in have}

    @property
    def derived(self) -> tuple[str, ...]:
        """Leads of :meth:`standard` that the device did not send."""
        return tuple(name for name in self.standard() if name not in self.leads)

    def packed(self) -> bytes:
        """The samples for storage: differences along each lead, high and low bytes apart, deflated (a third of the counts)."""
        steps = np.diff(self.counts, axis=1, prepend=np.zeros((len(self.leads), 1), np.int16)).astype("<i2")
        halves = steps.view(np.uint8).reshape(-1, 2)
        return zlib.compress(halves[:, 0].tobytes() + halves[:, 1].tobytes(), 6)


def unpacked(data: bytes, leads: int) -> NDArray[np.int16]:
    """What :meth:`Wave.packed` made."""
    raw = np.frombuffer(zlib.decompress(data), np.uint8).reshape(2, -1)
    steps = np.ascontiguousarray(raw.T).reshape(-1).view("<i2").reshape(leads, -1)
    return np.cumsum(steps, axis=1, dtype=np.int16)


def from_physical(
    leads: list[str], hz: float, rows: list[NDArray[np.float64]], steps: list[float], filters: dict[str, Any] | None = None
) -> Wave:  # fmt: skip
    """A wave from µV. ``steps`` is what one count stands for per lead (µV): values that are whole multiples of it are kept exactly, and
    a lead that would not fit in 16 bits gets a coarser step. ValueError when leads differ in length."""
    if len({len(row) for row in rows}) != 1:
        raise ValueError("leads of different length")
    counts, gains = np.empty((len(rows), len(rows[0])), np.int16), []
    for i, (row, step) in enumerate(zip(rows, steps, strict=True)):
        lost = ~np.isfinite(row)
        largest = float(np.max(np.abs(row[~lost]), initial=0.0))
        gain = step if step > 0 and largest / step <= _FULL else max(largest / _FULL, 1e-6)
        counts[i] = np.where(lost, MISSING, np.rint(np.where(lost, 0, row) / gain)).astype(np.int16)
        gains.append(gain)
    return Wave(tuple(leads), hz, tuple(gains), counts, dict(filters or {}))
