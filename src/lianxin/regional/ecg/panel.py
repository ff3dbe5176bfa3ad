"""What the ECG centre adds to the reading mechanism: the tracing beside the report editor, and its FHIR resources."""

from __future__ import annotations

from typing import Any

from lianxin.regional.ecg import drawing, publish, rules, service
from lianxin.regional.ecg.models import Confirmation, Tracing
from lianxin.regional.reading.hooks import Centre
from lianxin.regional.reading.models import Reading
from lianxin.standards.text import T, Text


def acquired(reading: Reading) -> Text | None:
    """There is something to read once a recording is attached."""
    there = Tracing.objects.unscoped("the order's own").filter(reading=reading, state="attached").exists()
    return None if there else T("还没有上传心电图数据文件。", "No ECG recording has been uploaded yet.")


def context(scope: Any, reading: Reading) -> dict[str, Any]:
    """What ``ecg/_panel.html`` shows: the tracing, what is proposed, what came before, what was confirmed."""
    return traced(reading, drawing.Look())


def traced(reading: Reading, look: drawing.Look, chosen: int | None = None) -> dict[str, Any]:
    """The recordings of an order with the one that is looked at (``chosen``, else the last)."""
    found = service.attached(reading)
    tracing = next((t for t in found if t.pk == chosen), found[0] if found else None)
    proposal = getattr(tracing, "proposal", None) if tracing else None
    return {
        "reading": reading, "number": reading.case.number, "tracing": tracing, "recordings": found, "look": look,
        "svg": drawing.draw(tracing.wave, look) if tracing else "", "proposal": proposal,
        "lines": proposal.lines() if proposal else [], "values": values(proposal.measured) if proposal else [],
        "earlier": service.earlier(tracing) if tracing else [], "levels": rules.LEVELS,
        "confirmations": list(
            Confirmation.objects.unscoped("the order's own").filter(reading=reading).order_by("at")
        ),
        "layouts": drawing.LAYOUTS, "speeds": drawing.SPEEDS, "gains": drawing.GAINS, "filters": drawing.FILTERS,
    }  # fmt: skip


def values(measured: dict[str, Any]) -> list[tuple[Text, str]]:
    """The usual line of numbers: rate, PR, QRS, QT/QTc, axis; a dash for what could not be measured."""

    def said(name: str, unit: str = "") -> str:
        value = measured.get(name)
        return "—" if value is None else f"{value:.0f}{unit}"

    return [
        (T("心率", "Rate"), said("rate", " bpm")),
        (T("PR 间期", "PR"), said("pr", " ms")),
        (T("QRS 时限", "QRS"), said("qrs", " ms")),
        (T("QT/QTcB", "QT/QTcB"), f"{said('qt')}/{said('qtc_bazett', ' ms')}"),
        (T("QTcF", "QTcF"), said("qtc_fridericia", " ms")),
        (T("电轴", "Axis"), said("axis", "°")),
    ]


CENTRE = Centre(
    "ecg", panel="ecg/_panel.html", panel_context=context, resources=publish.resources, acquired=acquired
)
