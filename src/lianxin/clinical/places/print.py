"""The preparation sheet a patient takes home: when, where, how to prepare, the consent to contrast. A4, a QR code each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.template.loader import render_to_string

from lianxin.clinical.places import consents
from lianxin.clinical.referral.print import gb_moment, qr
from lianxin.pool.models import ExamItem, Place
from lianxin.standards import clock, paper


def context(places: Iterable[Place]) -> dict[str, Any]:
    """What the paper shows; one block for each examination, in time order."""
    listed = sorted(places, key=lambda p: p.at)
    items = {i.code: i for i in ExamItem.objects.filter(code__in={p.item for p in listed})}
    blocks = []
    for place in listed:
        item = items.get(place.item)
        held = consents.standing(place.person_id, [place.item]).get(place.item)
        blocks.append(
            {
                "item": item, "name": item.name if item else place.item, "at": gb_moment(place.at), "where": place.session,
                "number": place.seat_no, "qr": qr(f"lianxin:place/{place.pk}"), "consent": held,
                "consent_at": gb_moment(held.at) if held else "", "contrast": bool(item and item.contrast),
                "fee": f"{item.fee_fen / 100:.2f}" if item and item.fee_fen else "",
            }
        )  # fmt: skip
    return {
        "person": listed[0].person, "blocks": blocks, "text": consents.words().zh, "printed": gb_moment(clock.now()),
    }  # fmt: skip


def html(places: Iterable[Place]) -> str:
    """The sheet as HTML (what the PDF is made of)."""
    return render_to_string("places/print/sheet.html", context(places))


def sheet(places: Iterable[Place]) -> bytes:
    """The sheet as PDF. The caller has checked that the reader may have it and writes the audit."""
    return paper.pdf(html(places))
