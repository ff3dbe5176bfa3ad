"""Pictures of gross specimens and through the microscope: decoded and made anew by us, so that nothing hostile or hidden is kept."""

from __future__ import annotations

import hashlib
import io
from typing import Any

from django.db import IntegrityError, transaction
from PIL import Image, ImageOps, UnidentifiedImageError

from lianxin.access import seal
from lianxin.access.scope import Scope
from lianxin.duty.errors import NotAllowed, Refused
from lianxin.regional.pathology import service
from lianxin.regional.pathology.models import PICTURES, Picture, Slide, Specimen
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from lianxin.standards.text import T

MOST_BYTES = 12 * 1024 * 1024
MOST_PIXELS = 60_000_000
LONGEST = 1800


def add(by: Scope, reading: Reading, code: str, kind: str, content: bytes, caption: str = "") -> Picture:
    """Keep a picture of the specimen or slide ``code`` of this very case. Refused for another case's code, or bytes that are no image."""
    service.at_centre(by, reading)
    of = _of(reading, code)
    if kind not in PICTURES:
        raise Refused({"kind": T("请选择图片类别。", "Choose the kind.")})
    made, width, height = _clean(content)
    digest = hashlib.sha256(made).hexdigest()
    try:
        with transaction.atomic():
            row: Picture = Picture.objects.create(
                reading=reading, person_id=reading.person_id, kind=kind, data=seal.seal_bytes(made), sha256=digest, width=width, height=height,
                caption=caption.strip()[:120], taken_by=by.name[:80], at=clock.now(), **of,
            )  # fmt: skip
            service.trace(by, reading, code, "picture", caption)
    except IntegrityError:
        raise Refused({"picture": T("这张图片已上传。", "This picture is here already.")}) from None
    return row


def _of(reading: Reading, code: str) -> dict[str, Any]:
    slide = Slide.objects.unscoped("of the case in hand").filter(code=code, reading=reading).first()
    if slide is not None:
        return {"slide": slide}
    specimen = Specimen.objects.unscoped("of the case in hand").filter(code=code, reading=reading).first()
    if specimen is None:
        raise Refused(
            {"code": T("该编号不属于本病例，请核对标签。", "That code is not of this case; check the label.")}
        )
    return {"specimen": specimen}


def _clean(content: bytes) -> tuple[bytes, int, int]:
    if not content or len(content) > MOST_BYTES:
        raise Refused({"picture": T("请上传 12 MB 以内的图片。", "Upload a picture of at most 12 MB.")})
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG", "TIFF", "BMP")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Refused(
                    {
                        "picture": T(
                            "图片过大，请缩小或按整张切片上传到归档。",
                            "Too large; make it smaller, or send a whole-slide image to the archive.",
                        )
                    }
                )
            straight = ImageOps.exif_transpose(image).convert("RGB")
            straight.thumbnail((LONGEST, LONGEST))
            out = io.BytesIO()
            straight.save(out, "JPEG", quality=88)
            return out.getvalue(), straight.width, straight.height
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise Refused(
            {
                "picture": T(
                    "无法识别的图片，请上传 JPEG 或 PNG。", "Not a picture we can read; upload JPEG or PNG."
                )
            }
        ) from None


def choose(by: Scope, reading: Reading, pk: int, chosen: bool) -> None:
    """Put a picture into the report, or take it out, until the report was issued."""
    service.at_centre(by, reading)
    if reading.issued_at is not None:
        raise NotAllowed(T("报告已签发，不能再更换图片。", "The report is out; its pictures stay."))
    if (
        not Picture.objects.unscoped("of the case in hand")
        .filter(pk=pk, reading=reading)
        .update(chosen=chosen)
    ):
        raise Refused({"picture": T("没有这张图片。", "No such picture.")})
    service.trace(by, reading, reading.accession, "picture", f"{'选入' if chosen else '移出'}报告 {pk}")


def jpeg(picture: Picture) -> bytes:
    """The picture's bytes."""
    return seal.unseal_bytes(bytes(picture.data))
