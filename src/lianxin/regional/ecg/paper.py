"""An ECG on paper: A4 across, 25 mm/s and 10 mm/mV true to scale, with the numbers, the proposal marked as the machine's, and the report."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string

from lianxin.regional.ecg import drawing
from lianxin.regional.reading import reports
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock, paper


def html(reading: Reading, found: dict[str, Any]) -> str:
    """The page."""
    return render_to_string(
        "ecg/print/report.html",
        found | {"person": reading.person, "report": reports.issued(reading), "style": drawing.STYLE, "printed": clock.now(), "mono": True},
    )  # fmt: skip


def pdf(reading: Reading, found: dict[str, Any]) -> bytes:
    """As PDF."""
    return paper.pdf(html(reading, found))
