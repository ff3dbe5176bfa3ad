"""What stands beside the report of a pathology case, and what its page shows: specimens with their blocks and slides, pictures, the clock."""

from __future__ import annotations

from typing import Any

from lianxin.access.scope import Scope
from lianxin.regional.pathology import stains
from lianxin.regional.pathology.models import Block, Loan, Picture, Slide, Specimen, Work
from lianxin.regional.reading.models import Reading

WHY = "the work was reached within the scope"


def context(scope: Scope, reading: Reading) -> dict[str, Any]:
    """The panel's context."""
    return tree(reading) | {
        "pathology_reading": reading,
        "pathology_at_centre": reading.centre_of_id in scope.institution_ids,
    }


def tree(reading: Reading) -> dict[str, Any]:
    """Specimens → blocks → slides, pictures (without their bytes), loans and the work itself, in five queries."""
    specimens = list(
        Specimen.objects.unscoped(WHY)
        .filter(reading=reading)
        .select_related("parcel", "sender")
        .order_by("letter")
    )
    blocks = list(Block.objects.unscoped(WHY).filter(reading=reading).order_by("code"))
    slides = list(Slide.objects.unscoped(WHY).filter(reading=reading).order_by("code"))
    loans = {
        (loan.block_id, loan.slide_id): loan
        for loan in Loan.objects.filter(returned_at=None, block__reading=reading)
        | Loan.objects.filter(returned_at=None, slide__reading=reading)
    }
    for slide in slides:
        slide.loan = loans.get((None, slide.pk))
    for block in blocks:
        block.loan = loans.get((block.pk, None))
        block.own = [s for s in slides if s.block_id == block.pk]
    for specimen in specimens:
        specimen.own = [b for b in blocks if b.specimen_id == specimen.pk]
    work = Work.objects.unscoped(WHY).select_related("frozen__reading__case").filter(pk=reading.pk).first()
    later = Work.objects.unscoped(WHY).select_related("reading__case").filter(frozen_id=reading.pk).first()
    pictures = (
        Picture.objects.unscoped(WHY)
        .defer("data")
        .filter(reading=reading)
        .select_related("specimen", "slide")
        .order_by("pk")
    )
    return {
        "pathology_work": work, "pathology_specimens": specimens, "pathology_pictures": list(pictures), "pathology_permanent": later,
        "pathology_stains": stains.choices(), "pathology_slides": slides,
    }  # fmt: skip
