"""The pathology report on paper with the chosen pictures, and the structured templates that the centre ships."""

from __future__ import annotations

import base64
import datetime as dt
from pathlib import Path
from typing import Any

import yaml
from django.db.models import Min
from django.template.loader import render_to_string

from lianxin.access import seal
from lianxin.clinical.referral.print import gb_moment, qr
from lianxin.index import registry
from lianxin.network.kinds import SEXES
from lianxin.regional.pathology.models import Picture, Slide, Specimen, Work
from lianxin.regional.reading import reports
from lianxin.regional.reading.models import Reading, Template
from lianxin.standards import clock, paper

WHY = "printing a report that the caller has been allowed to see"
MOST_PICTURES = 6


def load_templates() -> None:
    """Insert or refresh the shipped templates; what centres and readers keep beside them stays."""
    document = yaml.load(
        (Path(__file__).parent / "data" / "templates.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader
    )
    for row in document["templates"]:
        fields = {k: v for k, v in row.items() if k != "code"} | {"centre": "pathology"}
        Template.objects.update_or_create(code=row["code"], institution=None, account=None, defaults=fields)


def pictures(reading: Reading) -> list[Picture]:
    """The pictures chosen for the report."""
    rows = (
        Picture.objects.unscoped(WHY).filter(reading=reading, chosen=True).select_related("specimen", "slide")
    )
    return list(rows.order_by("kind", "pk")[:MOST_PICTURES])


def context(reading: Reading) -> dict[str, Any] | None:
    """Everything the paper shows; None before a report was issued."""
    report = reports.issued(reading)
    if report is None:
        return None
    person = reading.person
    return {
        "r": reading, "report": report, "work": Work.objects.unscoped(WHY).filter(pk=reading.pk).first(),
        "person": {
            "name": person.name, "sex": SEXES[person.sex].zh, "number": person.number,
            "age": f"{registry.age_on(person.birth_date, clock.today())}岁" if person.birth_date else "",
        },
        "items": "、".join(o.item.name for o in reading.ordered.select_related("item").filter(active=True)),
        "specimens": Specimen.objects.unscoped(WHY).filter(reading=reading).exclude(state="refused").order_by("letter"),
        "slides": Slide.objects.unscoped(WHY).filter(reading=reading, state="ready").order_by("code"),
        "pictures": [
            {"uri": "data:image/jpeg;base64," + base64.b64encode(seal.unseal_bytes(bytes(p.data))).decode(), "caption": p.caption or p.kind_label.zh}
            for p in pictures(reading)
        ],
        "qr": qr(f"lianxin:report/{reading.accession}"), "signed": gb_moment(report.signed_at), "received": gb_moment(_received(reading)),
        "printed": gb_moment(clock.now()), "structured": [(k, v) for k, v in (report.structured or {}).items()],
    }  # fmt: skip


def _received(reading: Reading) -> dt.datetime | None:
    """When the centre took the first specimen in (not when it was handed over)."""
    rows = Specimen.objects.unscoped(WHY).filter(reading=reading).exclude(state="refused")
    found: dt.datetime | None = rows.aggregate(at=Min("received_at"))["at"]
    return found


def pdf(reading: Reading) -> bytes | None:
    """The report as PDF; None before it was issued."""
    made = context(reading)
    return paper.pdf(render_to_string("pathology/print/report.html", made)) if made else None


def labels(rows: list[dict[str, str]]) -> bytes:
    """Labels (code, words, QR) on A4 paper, three in a row."""
    made = [row | {"qr": qr(row["code"])} for row in rows]
    return paper.pdf(render_to_string("pathology/print/labels.html", {"rows": made}))
