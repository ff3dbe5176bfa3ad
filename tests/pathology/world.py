"""A small made-up county with a pathology centre, for the tests of specimens, slides and frozen sections. Names are invented."""

from __future__ import annotations

import datetime as dt
import io
import itertools
from typing import Any

from PIL import Image

from lianxin.access.scope import Scope
from lianxin.regional.pathology import service
from lianxin.regional.pathology.models import Slide, Specimen
from lianxin.regional.reading import service as reading_service
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world as reading

_serial = itertools.count(1)
scope_of, published = reading.scope_of, reading.published


def make_world() -> SmallCounty:
    """The small county with its centres staffed and two pathologists."""
    county = reading.make_world()
    for key in ("reader0", "reader1"):
        reading.reader_of(county, key, "pathology", ("PATH", "FROZEN"))
    return county


def order(county: SmallCounty, item: str = "PATH-BIOPSY", **fields: Any) -> Reading:
    """A biopsy ordered at the first township, read at the lead hospital."""
    made = reading.order(county, item=item, **fields)
    return service.find(scope_of(county, "technician0"), made.case.number)


def container(**fields: Any) -> dict[str, Any]:
    """A container as it is registered."""
    now = clock.now()
    return {"site": "胃窦", "procedure": "活检", "pieces": 3, "fixative": "nbf", "taken_at": now - dt.timedelta(hours=10), "fixed_at": now - dt.timedelta(hours=10) + dt.timedelta(minutes=20), **fields}  # fmt: skip


def registered(county: SmallCounty, reading_: Reading, **fields: Any) -> Specimen:
    """A container registered by the township's technician."""
    return service.register(scope_of(county, "technician0"), reading_, container(**fields))


def sent(county: SmallCounty, *specimens: Specimen) -> str:
    """The number of the parcel in which they travel."""
    return service.dispatch(
        scope_of(county, "technician0"), [s.code for s in specimens], "运送员甲", f"p{next(_serial)}"
    ).number


def received(county: SmallCounty, item: str = "PATH-BIOPSY", **fields: Any) -> tuple[Reading, Specimen]:
    """A case whose one specimen has been received at the centre."""
    case = order(county, item)
    specimen = registered(county, case, **fields)
    service.receive(scope_of(county, "lab0"), sent(county, specimen))
    specimen.refresh_from_db()
    case.refresh_from_db()
    return case, specimen


def ready(county: SmallCounty, case: Reading, specimen: Specimen, kind: str = "paraffin") -> Slide:
    """Grossed, cut and stained: in the readers' queue."""
    lab = scope_of(county, "lab0")
    block = service.gross(lab, specimen.code, "灰白组织三块。", ["全取"], kind=kind)[0]
    slide = Slide.objects.unscoped("test").get(block=block)
    service.step(lab, slide.code)
    return service.step(lab, slide.code)


def report(county: SmallCounty, case: Reading, conclusion: str = "（胃窦）慢性炎症。") -> Scope:
    """Read and signed by the first pathologist."""
    scope = scope_of(county, "reader0")
    got = reading_service.claim(scope, "pathology", case.case.number)
    assert got is not None
    reading.write(scope, got[1], case, conclusion)
    reading_service.act(scope, case.case.number, "sign", {}, None, f"s{next(_serial)}")
    case.refresh_from_db()
    return scope


def png(colour: str = "#a06", size: tuple[int, int] = (64, 48)) -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()
