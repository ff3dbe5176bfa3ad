"""FHIR of the pathology centre beside the common resources: ``Specimen`` of each container, block and slide, each naming its parent."""

from __future__ import annotations

from typing import Any

from lianxin.record.building import instant, trim
from lianxin.regional.pathology import stains
from lianxin.regional.pathology.models import Block, Slide, Specimen
from lianxin.regional.reading.models import Reading
from lianxin.regional.reading.publish import CS, ID, patient

WHY = "the projection of the case in hand"
_STATUS = {"refused": "unsatisfactory"}


def resources(reading: Reading) -> list[dict[str, Any]]:
    """Specimens of a pathology case; nothing before any was registered."""
    rows = list(Specimen.objects.unscoped(WHY).filter(reading=reading).order_by("letter"))
    blocks = list(
        Block.objects.unscoped(WHY).filter(reading=reading).select_related("specimen").order_by("code")
    )
    slides = list(
        Slide.objects.unscoped(WHY)
        .filter(reading=reading)
        .exclude(state="failed")
        .select_related("block")
        .order_by("code")
    )
    request = {"reference": f"ServiceRequest/{reading.case.number}"}
    return [
        *(_specimen(reading, row, request) for row in rows),
        *(
            _piece(reading, b.code, b.specimen.code, b.tissue or b.kind_label.zh, "block", b.made_at)
            for b in blocks
        ),
        *(
            _piece(reading, s.code, s.block.code, stains.label(s.stain).zh, "slide", s.ordered_at)
            for s in slides
        ),
    ]


def _specimen(reading: Reading, row: Specimen, request: dict[str, str]) -> dict[str, Any]:
    return trim(
        {
            "resourceType": "Specimen",
            "id": row.code,
            "identifier": [{"system": f"{ID}/specimen", "value": row.code}],
            "accessionIdentifier": {"system": f"{ID}/accession", "value": reading.accession},
            "status": _STATUS.get(row.state, "available"),
            "type": {"text": row.site},
            "subject": patient(reading),
            "receivedTime": instant(row.received_at),
            "request": [request],
            "collection": trim(
                {
                    "collectedDateTime": instant(row.taken_at), "quantity": {"value": row.pieces, "unit": "块"},
                    "method": {"text": row.procedure} if row.procedure else None, "bodySite": {"text": row.site},
                }
            ),
            "processing": [
                trim(
                    {
                        "description": f"固定：{row.fixative_label.zh}",
                        "procedure": {"coding": [{"system": f"{CS}/fixative", "code": row.fixative}]},
                        "timeDateTime": instant(row.fixed_at),
                    }
                )
            ]
            if row.fixed_at
            else [],
            "note": [{"text": row.gross}] if row.gross else [],
        }
    )  # fmt: skip


def _piece(reading: Reading, code: str, parent: str, words: str, kind: str, at: Any) -> dict[str, Any]:
    return trim(
        {
            "resourceType": "Specimen",
            "id": code,
            "identifier": [{"system": f"{ID}/specimen", "value": code}],
            "status": "available",
            "type": {"coding": [{"system": f"{CS}/specimen-kind", "code": kind}], "text": words},
            "subject": patient(reading),
            "parent": [{"reference": f"Specimen/{parent}"}],
            "processing": [{"description": words, "timeDateTime": instant(at)}],
        }
    )
