"""The Levey-Jennings chart as a drawing made on the server: no script, no style; the table below it says the same."""

from __future__ import annotations

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lianxin.regional.laboratory.models import Control, Measure
from lianxin.standards.text import T

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 760, 280, 64, 14, 30
_COLOURS = {"accept": "var(--bs-primary)", "warn": "#b45309", "reject": "#b91c1c"}
_SHOWN = 40


def levey_jennings(rows: Sequence[Measure], control: Control) -> SafeString | str:
    """Deviations of a lot over time with its lines at ±1, ±2 and ±3 s; nothing when nothing was measured. Points beyond ±4 s stand at
    the edge."""
    shown = list(rows)[-_SHOWN:]
    if not shown:
        return ""
    step = (_WIDTH - _LEFT - 20) / max(len(shown) - 1, 1)

    def y(z: float) -> float:
        return round(_TOP + (4 - max(min(z, 4.0), -4.0)) / 8 * (_HEIGHT - _TOP - _BOTTOM), 1)

    spots = [(round(_LEFT + n * step, 1), y(row.z), row) for n, row in enumerate(shown)]
    lines = format_html_join(
        "",
        '<line x1="{}" x2="{}" y1="{}" y2="{}" stroke="{}" stroke-width="1" stroke-dasharray="{}"/><text x="{}" y="{}" font-size="11" text-anchor="end" fill="currentColor">{}</text>',
        [
            (
                _LEFT, _WIDTH - 10, y(k), y(k), {0: "currentColor", 1: "#9ca3af", 2: "#b45309", 3: "#b91c1c"}[abs(k)], "0" if k == 0 else "4 3",
                _LEFT - 6, y(k) + 4, f"{float(control.mean) + k * float(control.sd):g}",
            )
            for k in range(-3, 4)
        ],
    )  # fmt: skip
    path = " ".join(f"{x},{top}" for x, top, _ in spots)
    points = format_html_join(
        "",
        '<circle cx="{}" cy="{}" r="{}" fill="{}"><title>{}</title></circle>',
        [
            (x, top, 5 if row.verdict == "reject" else 4, _COLOURS[row.verdict], f"{row.at:%m-%d %H:%M} {row.value:g} ({row.z:+.2f} s) {' '.join(row.rules)}")
            for x, top, row in spots
        ],
    )  # fmt: skip
    days = format_html_join(
        "",
        '<text x="{}" y="{}" font-size="11" text-anchor="middle" fill="currentColor">{}</text>',
        [(x, _HEIGHT - 8, f"{row.at:%m-%d}") for x, _, row in spots[:: max(len(spots) // 8, 1)]],
    )
    out = sum(row.verdict == "reject" for row in shown)
    said = T(
        "近 {n} 次质控，失控 {k} 次；同样的数值见下表",
        "{n} control measurements, {k} rejected; the table below says the same",
    ).format(n=str(len(shown)), k=str(out))
    return format_html(
        '<svg class="trend-drawing" viewBox="0 0 {} {}" width="100%" role="img" aria-label="{}">{}<polyline points="{}" fill="none" stroke="var(--bs-primary)" stroke-width="1.5"/>{}{}</svg>',
        _WIDTH, _HEIGHT, said, lines, path, points, days,
    )  # fmt: skip
