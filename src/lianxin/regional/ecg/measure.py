"""Intervals of a 12-lead ECG from its mean beat: R peaks (ecgdatakit), beats aligned, their median per lead, and boundaries found on the
whole of the leads, as the recommendations ask for global intervals (Kligfield et al., AHA/ACCF/HRS 2007).

Pure: µV in, milliseconds and µV out. What cannot be measured is None; nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lianxin.regional.ecg.wave import INDEPENDENT, STANDARD, Wave

HZ = 500
_PRE, _POST = 0.40, 0.60
_LEAST_BEATS = 3
Row = NDArray[np.float64]


@dataclass
class Measured:
    """Rates in bpm, times in ms, axis in degrees, ``st`` µV by lead at J, J+40, J+60 and J+80 ms against the PQ level."""

    rate: float | None = None
    rr: float | None = None
    rr_all: list[float] = field(default_factory=list)
    rr_irregularity: float | None = None
    pr: float | None = None
    p: float | None = None
    qrs: float | None = None
    qt: float | None = None
    qtc_bazett: float | None = None
    qtc_fridericia: float | None = None
    axis: float | None = None
    p_amplitude: float | None = None
    p_steady: float | None = None
    beats: int = 0
    ectopic: int = 0
    noise: float | None = None
    limb_voltage: float | None = None
    st: dict[str, dict[str, float]] = field(default_factory=dict)
    p_area: dict[str, float] = field(default_factory=dict)
    qrs_area: dict[str, float] = field(default_factory=dict)
    flat: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For storage: rounded."""

        def short(value: Any) -> Any:
            if isinstance(value, float):
                return round(value, 3) if abs(value) < 10 else round(value, 1)
            if isinstance(value, dict):
                return {k: short(v) for k, v in value.items()}
            return [short(v) for v in value] if isinstance(value, list) else value

        return {name: short(value) for name, value in vars(self).items()}


def measure(wave: Wave) -> Measured:
    """Everything that can be measured; a recording without reliable beats gives a ``Measured`` that says only how many were seen."""
    made = Measured()
    leads = _prepared(wave, made)
    usable = [name for name in STANDARD if name in leads and name not in made.flat]
    if not usable:
        return made
    basis = [name for name in INDEPENDENT if name in usable] or usable
    peaks = _peaks(np.array([leads[name] for name in basis]))
    made.beats = len(peaks)
    if len(peaks) < _LEAST_BEATS:
        return made
    _rates(made, peaks)
    assert made.rr is not None
    beats = _cut(np.array([leads[name] for name in usable]), peaks, made.rr)
    if beats is None:
        return made
    beats, at = _aligned(beats)
    normal = _normal(beats, at)
    if normal is None:
        return made
    made.ectopic = int((~normal).sum())
    mean = np.median(beats[normal], axis=0)
    residue = beats[normal] - mean
    made.noise = float(np.median(np.abs(residue)) * 1.4826)
    _boundaries(made, usable, basis, mean, beats[normal], at)
    return made


def _prepared(wave: Wave, made: Measured) -> dict[str, Row]:
    """The leads at one rate, without gaps and slow wander; leads without a signal are named in ``made.flat``."""
    from scipy import signal

    found = {}
    for name, row in wave.standard().items():
        lost = ~np.isfinite(row)
        if lost.mean() > 0.2:
            made.flat.append(name)
            continue
        if lost.any():
            where = np.arange(len(row))
            row = np.interp(where, where[~lost], row[~lost])
        if wave.hz != HZ:
            row = signal.resample_poly(row - row[0], HZ * 10, round(wave.hz * 10)) + row[0]
        if np.ptp(row) < 30:
            made.flat.append(name)
            continue
        found[name] = _without_mains(row)
    return found


def _without_mains(row: Row) -> Row:
    """Take 50 Hz out where it stands above its neighbourhood: a mean beat does not average it away when RR is a multiple of 20 ms."""
    from scipy import signal

    spectrum = np.abs(np.fft.rfft((row - row.mean()) * np.hanning(len(row))))
    bins = np.fft.rfftfreq(len(row), 1 / HZ)
    hum = spectrum[(bins > 49) & (bins < 51)].max()
    around = np.median(spectrum[((bins > 42) & (bins < 48)) | ((bins > 52) & (bins < 58))])
    if hum < 8 * around:
        return row
    b, a = signal.iirnotch(50, 30, HZ)
    return np.asarray(signal.filtfilt(b, a, row))


def _peaks(rows: NDArray[np.float64]) -> NDArray[np.intp]:
    from ecgdatakit.processing import detect_r_peaks
    from scipy import signal

    band = signal.butter(2, (5, 30), "bandpass", fs=HZ, output="sos")
    steep = signal.sosfiltfilt(band, rows, axis=1)
    whole = np.sqrt(np.mean(steep**2, axis=0))
    if rows.shape[1] < 2 * HZ:
        return np.array([], np.intp)
    smooth = np.convolve(whole, np.ones(25) / 25, "same")
    found = detect_r_peaks(smooth, fs=HZ)
    near = int(0.06 * HZ)
    return np.array(sorted({int(max(0, p - near) + np.argmax(whole[max(0, p - near) : p + near + 1])) for p in found}), np.intp)  # fmt: skip


def _rates(made: Measured, peaks: NDArray[np.intp]) -> None:
    rr = np.diff(peaks) * 1000.0 / HZ
    made.rr_all = [float(v) for v in rr]
    made.rr = float(np.mean(rr))
    made.rate = 60_000 / made.rr
    if len(rr) > 2:
        made.rr_irregularity = float(np.sqrt(np.mean(np.diff(rr) ** 2)) / made.rr)


def _cut(rows: NDArray[np.float64], peaks: NDArray[np.intp], rr: float) -> NDArray[np.float64] | None:
    """Beats × leads × samples around each peak that has its whole window, each on the level before its QRS."""
    pre = int(HZ * _PRE)
    post = int(min(HZ * _POST, rr / 1000 * HZ * 0.85))
    whole = [p for p in peaks if p >= pre and p + post <= rows.shape[1]]
    if len(whole) < _LEAST_BEATS - 1:
        return None
    return np.array([rows[:, p - pre : p + post] for p in whole])


def _aligned(beats: NDArray[np.float64]) -> tuple[NDArray[np.float64], int]:
    """Shift every beat by a few samples to fit their median best; the peak's place in the window."""
    pre, shift = int(HZ * _PRE), 10
    wide = slice(pre - 40, pre + 40)
    slopes = np.diff(beats, axis=2, append=beats[:, :, -1:])
    model = np.median(slopes, axis=0)[:, wide]
    out = []
    for beat, slope in zip(beats, slopes, strict=True):
        tries = range(-shift, shift + 1)
        fit = [float(np.sum(slope[:, wide.start + s : wide.stop + s] * model)) for s in tries]
        best = tries[int(np.argmax(fit))]
        out.append(beat[:, shift + best : beat.shape[1] - shift + best])
    made = np.array(out)
    at = pre - shift
    level = made[:, :, max(0, at - 45) : at - 30].mean(axis=2, keepdims=True)
    return made - level, at


def _normal(beats: NDArray[np.float64], at: int) -> NDArray[np.bool_] | None:
    """Which beats look like the rest around their QRS; None when hardly any two are alike (noise, fibrillation)."""
    window = beats[:, :, at - 40 : at + 50].reshape(len(beats), -1)
    model = np.median(window, axis=0)
    fit = np.array([_correlation(row, model) for row in window])
    if float(np.median(fit)) < 0.7:
        return None
    keep = fit >= 0.85
    return keep if keep.sum() >= _LEAST_BEATS - 1 else np.ones(len(beats), bool)


def _correlation(a: Row, b: Row) -> float:
    a, b = a - a.mean(), b - b.mean()
    size = float(np.sqrt(np.sum(a * a) * np.sum(b * b)))
    return float(np.sum(a * b) / size) if size > 0 else 0.0


def _activity(mean: NDArray[np.float64]) -> Row:
    """How fast all leads together move, µV per ms, smoothed over 10 ms."""
    from scipy import signal

    smooth = signal.savgol_filter(mean, 7, 2, axis=1)
    return np.sqrt(np.mean((np.gradient(smooth, axis=1) * HZ / 1000) ** 2, axis=0))


def _boundaries(
    made: Measured, names: list[str], basis: list[str], mean: NDArray[np.float64], beats: NDArray[np.float64], at: int
) -> None:  # fmt: skip
    rows = [names.index(n) for n in basis]
    speed = _activity(mean[rows])
    start, end = _qrs(speed, at)
    level = np.median(mean[:, max(0, start - 10) : max(1, start - 2)], axis=1, keepdims=True)
    mean, beats = mean - level, beats - level
    made.qrs = (end - start) * 1000 / HZ
    _st(made, names, mean, end)
    area = mean[:, start:end].sum(axis=1) / HZ * 1000
    made.qrs_area = {n: float(a) for n, a in zip(names, area, strict=True)}
    made.axis = _axis(made.qrs_area)
    limbs = [i for i, n in enumerate(names) if not n.startswith("V")]
    made.limb_voltage = float(np.ptp(mean[limbs, start:end], axis=1).max()) if limbs else None
    finish = _t_end(mean[rows], end, made.rr or 1000)
    if finish is not None:
        made.qt = (finish - start) * 1000 / HZ
        beat = (made.rr or 1000) / 1000
        made.qtc_bazett, made.qtc_fridericia = made.qt / beat**0.5, made.qt / beat ** (1 / 3)
    _p_wave(made, names, basis, mean, beats, start)


def _qrs(speed: Row, at: int) -> tuple[int, int]:
    """First and last sample of the QRS: from the steepest point outwards to where the leads rest for 12 ms."""
    near = slice(max(0, at - 40), at + 40)
    peak = near.start + int(np.argmax(speed[near]))
    calm = float(np.percentile(speed[max(0, at - 60) : at + 120], 20))
    limit = min(max(0.035 * float(speed[peak]), 1.6 * calm), 0.12 * float(speed[peak]))
    rest = 6
    start = peak
    while start > rest and not np.all(speed[start - rest : start] < limit):
        start -= 1
    end = peak
    # after the peak a slow ST slope is no QRS: the threshold is a little higher there
    after = max(limit, 0.05 * float(speed[peak]))
    while end < len(speed) - rest and not np.all(speed[end : end + rest] < after):
        end += 1
    return start, end


def _st(made: Measured, names: list[str], mean: NDArray[np.float64], j: int) -> None:
    for name, row in zip(names, mean, strict=True):
        found = {}
        for label, ms in (("j", 0), ("j40", 40), ("j60", 60), ("j80", 80)):
            at = j + ms * HZ // 1000
            if at + 3 <= len(row):
                found[label] = float(np.median(row[max(0, at - 1) : at + 3]))
        made.st[name] = found


def _axis(area: dict[str, float]) -> float | None:
    """Frontal axis from the QRS areas of I and aVF (degrees, −180…180)."""
    if "I" not in area or "aVF" not in area:
        return None
    x, y = area["I"], area["aVF"] * 2 / np.sqrt(3)
    return float(np.degrees(np.arctan2(y, x))) if abs(x) + abs(y) > 500 else None


def _t_end(rows: NDArray[np.float64], j: int, rr: float) -> int | None:
    """Where the steepest tangent of the T wave's descent meets the level before the QRS (Lepeschkin and Surawicz), on all leads."""
    from scipy import signal

    first = j + int(0.06 * HZ)
    last = min(rows.shape[1] - 2, int(j + 0.70 * rr / 1000 * HZ))
    if last - first < 30:
        return None
    smooth = signal.savgol_filter(rows, 25, 2, axis=1)
    size = np.sqrt(np.mean(smooth**2, axis=0))
    top = first + int(np.argmax(size[first:last]))
    if size[top] < 25 or top >= last - 10:
        return None
    slope = np.gradient(size)
    down = top + int(np.argmin(slope[top : min(last + 1, top + int(0.2 * HZ))]))
    if slope[down] >= 0:
        return None
    # the level the T wave comes down to: the PQ level, or higher when the leads never rest (noise, U wave)
    floor = min(float(np.min(size[down : min(len(size), down + int(0.12 * HZ))])), 0.3 * float(size[top]))
    finish = down + (size[down] - floor) / -slope[down]
    return round(finish) if finish < rows.shape[1] + 20 else None


def _p_wave(
    made: Measured, names: list[str], basis: list[str], mean: NDArray[np.float64], beats: NDArray[np.float64], start: int
) -> None:  # fmt: skip
    from scipy import signal

    rows = [names.index(n) for n in basis]
    first, last = max(0, start - int(0.32 * HZ)), start - int(0.02 * HZ)
    if (
        made.qt is not None and made.rr is not None
    ):  # at fast rates the T wave before it reaches into the window
        first = max(first, start - int((made.rr - made.qt - 25) * HZ / 1000))
    if last - first < 40:
        return
    window = signal.savgol_filter(mean[rows, first:last], 15, 2, axis=1)
    window = window - np.median(window[:, -8:], axis=1, keepdims=True)
    size = np.sqrt(np.mean(window**2, axis=0))
    top = int(np.argmax(size[10:-5])) + 10 if len(size) > 20 else 0
    made.p_amplitude = float(size[top])
    fit = [_correlation((b[rows, first:last]).reshape(-1), window.reshape(-1)) for b in beats]
    made.p_steady = float(np.mean(fit)) if fit else None
    if made.p_amplitude < 15 or not 12 <= top <= len(size) - 6:
        return
    low, far = 0.12 * float(size[top]), max(0, top - int(0.09 * HZ))
    before, past = np.flatnonzero(size[far:top] < low), np.flatnonzero(size[top:] < low)
    slope = np.gradient(size)
    up = far + int(np.argmax(slope[far:top]))
    tangent = up - size[up] / max(float(slope[up]), 1e-9) - 0.008 * HZ
    begin = max(0.0, float(tangent), float(far + before[-1]) if len(before) else 0.0)
    finish = float(top + past[0]) if len(past) else float(len(size))
    made.pr = (start - first - begin) * 1000 / HZ
    made.p = (finish - begin) * 1000 / HZ
    made.p_area = {
        n: float(mean[names.index(n), first + int(begin) : first + top + 15].mean()) for n in names
    }
