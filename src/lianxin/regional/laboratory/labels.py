"""Labels of tubes and boxes on paper: 50 × 30 mm, one a page, with the bar code of the tube."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from lianxin.regional.laboratory import barcode, catalogue
from lianxin.regional.laboratory.models import Box, Specimen
from lianxin.standards import paper

_CSS = (
    "@page{size:50mm 30mm;margin:1.5mm}body{margin:0;font:7pt/1.25 'Noto Sans CJK SC','Source Han Sans SC',sans-serif}"
    "section{page-break-after:always;height:27mm;overflow:hidden}section:last-child{page-break-after:auto}"
    "img{display:block;width:47mm;height:9mm}b{font-size:9pt}.n{font-family:monospace;font-size:8pt;letter-spacing:.5pt;text-align:center}"
)


def _code(text: str) -> str:
    data = base64.b64encode(barcode.svg(text).encode()).decode()
    return f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(text)}"><div class="n">{escape(text)}</div>'


def tubes(rows: Sequence[Specimen]) -> bytes:
    """Labels of tubes (``reading.person``, ``reading.ordered`` at hand) as PDF: name, sex and age, number, tests, tube and volume."""
    pages = []
    for row in rows:
        person, kind = row.reading.person, catalogue.kind(row.kind)
        items = "、".join(
            o.item.name for o in row.reading.ordered.select_related("item").filter(active=True).order_by("pk")
        )
        sex = {"male": "男", "female": "女"}.get(person.sex, "")
        born = f"{person.birth_date:%Y-%m-%d}" if person.birth_date else ""
        pages.append(
            f"<section>{_code(row.number)}<div><b>{escape(person.name)}</b> {sex} {born}</div>"
            f"<div>{escape(items)}</div><div>{escape(kind.container.zh)} {kind.volume_ml} mL　{escape(row.reading.orderer.name)}</div></section>"
        )  # fmt: skip
    return paper.pdf(f'<meta charset="utf-8"><style>{_CSS}</style>{"".join(pages)}')


def box(row: Box) -> bytes:
    """The label of a transport box."""
    return paper.pdf(
        f'<meta charset="utf-8"><style>{_CSS}</style><section>{_code(row.number)}<div><b>{escape(row.sender.name)}</b></div>'
        f"<div>→ {escape(row.destination.name)}</div><div>{row.low}–{row.high} ℃</div></section>"
    )
