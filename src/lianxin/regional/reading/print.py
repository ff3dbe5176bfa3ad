"""A report on paper: A4, in Chinese whatever the language of the screen, findings and conclusion apart, with its mark of recognition."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string

from lianxin.clinical.recognition import marks
from lianxin.index import registry
from lianxin.network.kinds import SEXES
from lianxin.regional.reading import reports, view
from lianxin.regional.reading.models import CENTRES, Ordered, Reading
from lianxin.standards import clock, paper

_TITLES = {"imaging": "影像诊断报告单", "ecg": "心电图诊断报告单", "laboratory": "检验报告单", "pathology": "病理诊断报告单"}  # fmt: skip
_METHODS = {"DX": "X 线", "CT": "CT", "MR": "磁共振", "US": "超声", "ECG": "心电图", "PATH": "病理", "FROZEN": "冰冻病理"}  # fmt: skip


def _moment(at: Any) -> str:
    return f"{at.astimezone(clock.ZONE):%Y-%m-%d %H:%M}" if at else ""


def context(reading: Reading) -> dict[str, Any] | None:
    """Everything the paper shows; None before a report went out."""
    out = reports.outgoing(reading)
    if not out:
        return None
    shown = view.show(out[-1])
    person = reading.person
    items = [o.item for o in Ordered.objects.filter(reading=reading, active=True).select_related("item").order_by("pk")]  # fmt: skip
    return {
        "title": _TITLES[reading.centre], "centre_name": f"{reading.centre_of.name}{CENTRES[reading.centre].zh}诊断中心",
        "reading": reading, "number": reading.case.number, "shown": shown, "report": shown.report, "method": _METHODS.get(reading.modality, reading.modality),
        "items": "、".join(i.name for i in items), "part": "、".join(i.body_part for i in items if i.body_part),
        "name": person.name, "sex": SEXES[person.sex].zh,
        "age": f"{registry.age_on(person.birth_date, (reading.acquired_at or reading.ordered_at).date())}岁" if person.birth_date else "",
        "person_number": person.number, "ordered": _moment(reading.ordered_at), "acquired": _moment(reading.acquired_at),
        "signed": _moment(shown.report.signed_at), "printed": _moment(clock.now()), "mark": _mark(reading), "amended": len(out) > 1,
        "structured": [(label.zh, value) for label, value in shown.structured],
    }  # fmt: skip


def _mark(reading: Reading) -> str:
    """The mark of mutual recognition (互认标识) that the report carries, "" when it has none."""
    of = getattr(marks, "mark_of", None)  # the room below offers it once quality assessments are kept
    return str(of(reading) or "") if of else ""


def pdf(reading: Reading) -> bytes | None:
    """The report as PDF; None before it went out. The caller has checked that the reader may have it and writes the audit."""
    found = context(reading)
    return paper.pdf(render_to_string("reading/print/report.html", found)) if found else None
