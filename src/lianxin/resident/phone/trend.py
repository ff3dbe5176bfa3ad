"""Results as a small drawing made on the server: the line, its points, the normal range behind them. No script, no style.

The picture has a text beside it and a table behind it; it is decoration for those who cannot see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lianxin.record.timeline import Point
from lianxin.resident.phone import words
from lianxin.standards.text import T, Text

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 20, 40
SHOWN = 40
"""Points drawn of a series: the last ones."""
NAMES = {"8480-6": T("收缩压（高压）", "Systolic"), "8462-4": T("舒张压（低压）", "Diastolic")}


@dataclass(frozen=True)
class Line:
    """One measured thing of a drawing."""

    name: str
    points: list[Point]


def outside(point: Point) -> str:
    """``high``, ``low`` or nothing, against the point's own range."""
    if point.high is not None and point.value > point.high:
        return "high"
    return "low" if point.low is not None and point.value < point.low else ""


def said(points: Sequence[Point]) -> Text:
    """The trend in a sentence: how many, since when, up or down, how often outside the range."""
    if not points:
        return T("没有数值结果。", "No numeric results.")
    last = points[-1]
    where = {
        "high": T("高于正常范围", "above the normal range"), "low": T("低于正常范围", "below the normal range"), "": T("在正常范围内", "within the normal range"),
    }[outside(last)]  # fmt: skip
    known = last.low is not None or last.high is not None
    now = T("最近一次 {v}{where}。", "The last was {v}{where}.").format(
        v=f"{last.value:g} {last.unit}".strip(),
        where=Text(f"，{where.zh}", f", {where.en}") if known else Text("", ""),
    )
    if len(points) < 2:
        return now
    third = max(len(points) // 3, 1)  # thirds, so that one odd reading does not turn the word
    early, late = (sum(p.value for p in part) / len(part) for part in (points[:third], points[-third:]))
    steady = abs(late - early) <= max(abs(early), 1e-9) * 0.05
    trend = (
        T("总体平稳", "steady")
        if steady
        else T("总体上升", "rising")
        if late > early
        else T("总体下降", "falling")
    )
    return T("{now}{a} 以来共 {n} 次，{trend}。", "{now} {n} results since {a}, {trend}.").format(
        now=now, a=f"{words.local(points[0].date):%Y-%m-%d}", n=str(len(points)), trend=trend
    )


def lines_of(result: dict[str, Any], series: Any) -> list[Line]:
    """The lines of one result of the summary (blood pressure has two)."""
    codes = result.get("codes") or [result["code"]]
    found = [Line(str(NAMES.get(code, result["title"])), series(code)) for code in codes]
    return [line for line in found if line.points]


def drawing(lines: Sequence[Line]) -> SafeString | str:
    """The SVG; nothing when there are not two points to join."""
    shown = [Line(line.name, line.points[-SHOWN:]) for line in lines]
    if not shown or max(len(line.points) for line in shown) < 2:
        return ""
    every = [p for line in shown for p in line.points]
    low, high = _span(every)
    first, last = min(p.date for p in every), max(p.date for p in every)
    seconds = max((last - first).total_seconds(), 1.0)

    def x(point: Point) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (point.date - first).total_seconds() / seconds

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low))

    parts = [_bands(shown, y), _axis(low, high, y)]
    for number, line in enumerate(shown):
        path = " ".join(f"{x(p):.1f},{y(p.value):.1f}" for p in line.points)
        parts.append(format_html('<polyline class="t-line t-line-{}" points="{}"/>', number, path))
        dots = ((f"{x(p):.1f}", f"{y(p.value):.1f}", outside(p) or "in") for p in line.points)
        parts.append(format_html_join("", '<circle cx="{}" cy="{}" r="5" class="t-dot t-{}"/>', dots))
    for at, anchor, place in ((first, "start", LEFT), (last, "end", WIDTH - RIGHT)):
        day = f"{words.local(at):%Y-%m-%d}"
        parts.append(
            format_html('<text x="{}" y="{}" text-anchor="{}">{}</text>', place, HEIGHT - 10, anchor, day)
        )
    body = format_html_join("", "{}", ((part,) for part in parts))
    return format_html(
        '<svg class="trend" viewBox="0 0 {} {}" aria-hidden="true" focusable="false">{}</svg>',
        WIDTH,
        HEIGHT,
        body,
    )


def _span(points: Sequence[Point]) -> tuple[float, float]:
    values = [p.value for p in points] + [b for p in points for b in (p.low, p.high) if b is not None]
    low, high = min(values), max(values)
    room = max((high - low) * 0.08, max(abs(high), 1.0) * 0.1)  # a small change must not look like a cliff
    return low - room, high + room


def _bands(lines: Sequence[Line], y: Any) -> SafeString | str:
    """The normal range of each line, as it was told last."""
    rows = []
    for line in lines:
        told = next((p for p in reversed(line.points) if p.low is not None or p.high is not None), None)
        if told is None:
            continue
        top = y(told.high) if told.high is not None else TOP
        bottom = y(told.low) if told.low is not None else HEIGHT - BOTTOM
        rows.append((LEFT, f"{top:.1f}", WIDTH - LEFT - RIGHT, f"{max(bottom - top, 0):.1f}"))
    return format_html_join("", '<rect class="t-band" x="{}" y="{}" width="{}" height="{}"/>', rows)


def _axis(low: float, high: float, y: Any) -> SafeString | str:
    ticks = [low + (high - low) * n / 4 for n in range(5)]
    return format_html_join(
        "",
        '<line class="t-grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>',
        (
            (LEFT, WIDTH - RIGHT, f"{y(t):.1f}", f"{y(t):.1f}", LEFT - 8, f"{y(t) + 6:.1f}", f"{t:.3g}")
            for t in ticks
        ),
    )
