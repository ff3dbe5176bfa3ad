"""An ECG drawn as ECG paper: SVG in paper millimetres, 1 mm and 5 mm grid, calibration pulse, true to scale on screen and in print.

One drawing for the page, the phone, the PDF and the browser without script. The drawing unit is 1/20 mm (5 µV at 10 mm/mV), whole numbers
only, so that ten seconds of twelve leads stay below 60 KB as sent. Filters change what is drawn, never what is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lianxin.regional.ecg.wave import STANDARD, Wave
from lianxin.standards.text import T, Text

UNIT = 20  # drawing units per millimetre
DRAWN_HZ = 250
LAYOUTS: dict[str, Text] = {
    "3x4": T("3×4 加节律", "3×4 with rhythm"),
    "6x2": T("6×2", "6×2"),
    "12x1": T("12×1", "12×1"),
    "rhythm": T("节律条", "Rhythm strip"),
}
SPEEDS = (25, 50)
GAINS = (5, 10, 20)
FILTERS: dict[str, Text] = {
    "baseline": T("基线 0.5 Hz", "Baseline 0.5 Hz"),
    "notch": T("工频 50 Hz", "Mains 50 Hz"),
    "low40": T("低通 40 Hz", "Low-pass 40 Hz"),
    "low35": T("低通 35 Hz", "Low-pass 35 Hz"),
}
_ROWS: dict[str, tuple[tuple[str, ...], ...]] = {
    "3x4": (("I", "aVR", "V1", "V4"), ("II", "aVL", "V2", "V5"), ("III", "aVF", "V3", "V6")),
    "6x2": tuple(zip(STANDARD[:6], STANDARD[6:], strict=True)),
    "12x1": tuple((name,) for name in STANDARD),
    "rhythm": (),
}
_HEIGHT = {"3x4": 32, "6x2": 24, "12x1": 15, "rhythm": 32}
PAPER = 250  # millimetres of tracing in a row: ten seconds at 25 mm/s
_LEFT, _TOP = 11, 4


@dataclass(frozen=True)
class Look:
    """How it is looked at: layout, mm/s, mm/mV, filters, the lead of the rhythm strip, from which second on."""

    layout: str = "3x4"
    speed: int = 25
    gain: int = 10
    filters: tuple[str, ...] = ()
    rhythm: str = "II"
    start: float = 0.0

    @property
    def words(self) -> str:
        """The line under the tracing of every printed ECG."""
        return " · ".join(
            (f"{self.speed} mm/s", f"{self.gain} mm/mV", *(str(FILTERS[f]) for f in self.filters))
        )

    def query(self, **changes: Any) -> str:
        """As the query of an address."""
        look = replace(self, **changes)
        parts = [f"layout={look.layout}", f"speed={look.speed}", f"gain={look.gain}"]
        parts += [f"filter={name}" for name in look.filters]
        parts += [f"rhythm={look.rhythm}"] if look.rhythm != "II" else []
        parts += [f"start={look.start:g}"] if look.start else []
        return "&".join(parts)


def look_of(query: Any, *, layout: str = "3x4") -> Look:
    """From a request's query; what is not known stays as it is by default."""

    def number(name: str, allowed: tuple[int, ...], default: int) -> int:
        text = query.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and int(text) in allowed else default

    filters = tuple(name for name in FILTERS if name in query.getlist("filter"))
    if "low40" in filters and "low35" in filters:
        filters = tuple(name for name in filters if name != "low40")
    chosen = query.get("layout", layout)
    rhythm = query.get("rhythm", "II")
    try:
        start = min(max(float(query.get("start", "0") or 0), 0.0), 300.0)
    except ValueError:
        start = 0.0
    return Look(
        chosen if chosen in LAYOUTS else layout, number("speed", SPEEDS, 25), number("gain", GAINS, 10), filters,
        rhythm if rhythm in STANDARD else "II", start if start == start else 0.0,
    )  # fmt: skip


def filtered(rows: dict[str, NDArray[np.float64]], hz: float, names: tuple[str, ...]) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """The leads through zero-phase filters (they move no wave in time). Gaps are bridged for the filter and open again after it."""
    if not names:
        return rows
    from scipy import signal

    stages: list[Any] = []
    if "baseline" in names:
        stages.append(signal.butter(2, 0.5, "highpass", fs=hz, output="sos"))
    if "notch" in names and hz > 110:
        stages.append(signal.tf2sos(*signal.iirnotch(50, 30, hz)))
    for name, cut in (("low40", 40), ("low35", 35)):
        if name in names and hz > 2.2 * cut:
            stages.append(signal.butter(4, cut, "lowpass", fs=hz, output="sos"))
    made = {}
    for lead, row in rows.items():
        lost = ~np.isfinite(row)
        if lost.all():
            made[lead] = row
            continue
        if lost.any():
            where = np.arange(len(row))
            row = np.interp(where, where[~lost], row[~lost])
        for stage in stages:
            row = signal.sosfiltfilt(stage, row)
        made[lead] = np.where(lost, np.nan, row)
    return made


@dataclass
class _Sheet:
    width: int
    height: int
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, words: str, css: str = "ecg-lead", size: float = 3.4) -> None:
        self.parts.append(
            f'<text class="{css}" x="{x * UNIT:.0f}" y="{y * UNIT:.0f}" font-size="{size * UNIT:.0f}">{words}</text>'
        )


def draw(wave: Wave, look: Look, *, fit: bool = False, mono: bool = False) -> str:
    """The tracing as an SVG element. ``fit``: as wide as its place instead of true to scale; ``mono``: for paper that is white."""
    leads = filtered(wave.standard(), wave.hz, look.filters)
    rows: list[tuple[str, ...]] = [row for row in _ROWS[look.layout] if any(name in leads for name in row)]
    with_rhythm = look.layout in ("3x4", "rhythm") and look.rhythm in leads
    high = _HEIGHT[look.layout]
    count = len(rows) + with_rhythm
    sheet = _Sheet(PAPER + _LEFT + 1, _TOP + count * high + 2)
    centre = _TOP + high / 2
    for row in rows:
        _pulse(sheet, centre, look)
        each = PAPER / len(row)
        for i, name in enumerate(row):
            if name in leads:
                begin = look.start + (i * each / look.speed if look.layout == "3x4" else 0.0)
                _lead(sheet, wave, leads[name], name, look, _LEFT + i * each, centre, begin, each, high)
        centre += high
    if with_rhythm:
        _pulse(sheet, centre, look)
        _lead(sheet, wave, leads[look.rhythm], look.rhythm, look, _LEFT, centre, look.start, PAPER, high)
    return _svg(sheet, look, fit, mono)


def _pulse(sheet: _Sheet, centre: float, look: Look) -> None:
    """1 mV for 200 ms before every row: 5 mm wide at 25 mm/s, 10 mm at 50."""
    wide, tall = round(look.speed / 5 * UNIT), look.gain * UNIT
    foot = round(0.8 * UNIT) if look.speed == 25 else 0
    x, y = (1.5 if foot else 0.5) * UNIT, (centre + look.gain / 2) * UNIT
    sheet.parts.append(f'<path class="ecg-line" d="M{x:.0f} {y:.0f}h{foot}v{-tall}h{wide}v{tall}h{foot}"/>')


def _lead(
    sheet: _Sheet, wave: Wave, row: NDArray[np.float64], name: str, look: Look, x: float, centre: float, begin: float, wide: float, high: float
) -> None:  # fmt: skip
    first, last = round(begin * wave.hz), round((begin + wide / look.speed) * wave.hz)
    part = row[first:last]
    if look.layout == "3x4" and x > _LEFT:
        sheet.parts.append(
            f'<path class="ecg-cut" d="M{x * UNIT:.0f} {(centre - 3) * UNIT:.0f}v{2 * UNIT}m0 {2 * UNIT}v{2 * UNIT}"/>'
        )
    label = name + ("*" if name in wave.derived else "")
    sheet.text(x + 0.8, centre - high / 2 + 3.8, label)
    if len(part) < 2:
        return
    level = float(np.nanmedian(row)) if np.isfinite(row).any() else 0.0
    path = _path(part - level, wave.hz, look, x, centre, high)
    if path:
        sheet.parts.append(f'<path class="ecg-line" d="{path}"/>')


def _path(part: NDArray[np.float64], hz: float, look: Look, x: float, centre: float, high: float) -> str:
    """Relative whole-number steps; samples are thinned to 250 Hz by keeping the extremes of each stretch in their order."""
    across = look.speed * UNIT / hz
    xs = np.arange(len(part)) * across + x * UNIT
    ys = centre * UNIT - part * look.gain * UNIT / 1000
    ys = np.clip(ys, (centre - high * 0.95) * UNIT, (centre + high * 0.95) * UNIT)
    step = max(1, round(2 * hz / DRAWN_HZ / (look.speed / 25)))
    if step >= 3:
        xs, ys = _extremes(xs, ys, step)
    whole = np.isfinite(ys)
    out: list[str] = []
    edges = np.flatnonzero(np.diff(np.concatenate(([False], whole, [False]))))
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        px, py = np.rint(xs[start:end]).astype(int), np.rint(ys[start:end]).astype(int)
        dx, dy = np.diff(px), np.diff(py)
        # steps in one direction are one step: a quarter of the points of a resting line
        turn = np.flatnonzero((dx[1:] != dx[:-1]) | (dy[1:] != dy[:-1])) + 1
        cuts = np.concatenate(([0], turn, [len(dx)])) if len(dx) else np.array([0, 0])
        sx, sy = np.concatenate(([0], np.cumsum(dx))), np.concatenate(([0], np.cumsum(dy)))
        steps = zip(np.diff(sx[cuts]).tolist(), np.diff(sy[cuts]).tolist(), strict=True)
        out.append(
            f"M{px[0]} {py[0]}l" + "".join(f"{a}{b}" if b < 0 else f"{a} {b}" for a, b in _joined(steps))
        )
    return "".join(out)


def _joined(steps: Any) -> Any:
    """Numbers of a path may stand together when the next begins with a minus sign; the first of a pair gets a blank before it."""
    first = True
    for a, b in steps:
        yield (f"{a}" if first else f" {a}"), b
        first = False


def _extremes(xs: Any, ys: Any, step: int) -> tuple[Any, Any]:
    """Lowest and highest sample of every stretch of ``step`` samples, in the order in which they stand."""
    count = len(ys) // step
    if not count:
        return xs, ys
    block = ys[: count * step].reshape(count, step)
    filled = np.where(np.isfinite(block), block, np.inf), np.where(np.isfinite(block), block, -np.inf)
    pair = np.sort(np.stack([filled[0].argmin(1), filled[1].argmax(1)], 1), axis=1)
    where = (np.arange(count)[:, None] * step + pair).reshape(-1)
    where = np.unique(np.concatenate((where, np.arange(count * step, len(ys)))))
    return xs[where], ys[where]


def _grid(width: int, height: int) -> str:
    fine = "".join(f"M{i * UNIT} 0v{height * UNIT}" for i in range(width + 1) if i % 5)
    fine += "".join(f"M0 {i * UNIT}h{width * UNIT}" for i in range(height + 1) if i % 5)
    bold = "".join(f"M{i * UNIT} 0v{height * UNIT}" for i in range(0, width + 1, 5))
    bold += "".join(f"M0 {i * UNIT}h{width * UNIT}" for i in range(0, height + 1, 5))
    return f'<path class="ecg-fine" d="{fine}"/><path class="ecg-bold" d="{bold}"/>'


def _svg(sheet: _Sheet, look: Look, fit: bool, mono: bool) -> str:
    width, height = sheet.width, sheet.height + 5
    sheet.text(1.5, height - 1.6, look.words, "ecg-note", 3)
    size = 'width="100%"' if fit else f'width="{width}mm" height="{height}mm"'
    css = "ecg-paper" + (" ecg-mono" if mono else "")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{css}" {size} viewBox="0 0 {width * UNIT} {height * UNIT}"'
        f' data-speed="{look.speed}" data-gain="{look.gain}" data-unit="{UNIT}" data-width="{width}" role="img"'
        f' aria-label="{look.words}">'
        f'<rect class="ecg-ground" width="100%" height="100%"/>{_grid(width, height)}{"".join(sheet.parts)}</svg>'
    )


STYLE = """.ecg-ground{fill:#fff}.ecg-fine{stroke:#f4b9b9;stroke-width:1.6;fill:none}.ecg-bold{stroke:#e58a8a;stroke-width:3;fill:none}
.ecg-line{stroke:#111;stroke-width:5;fill:none;stroke-linejoin:round}.ecg-cut{stroke:#111;stroke-width:4;fill:none}
.ecg-lead{font-family:sans-serif;font-weight:600;fill:#111;stroke:#fff;stroke-width:10;paint-order:stroke}.ecg-note{font-family:sans-serif;fill:#333}"""
"""The same look for paper, where no stylesheet of the pages is at hand."""
