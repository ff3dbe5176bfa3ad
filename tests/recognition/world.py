"""Results of made-up people, for the tests of recognition."""

from __future__ import annotations

import datetime as dt
import itertools

from lianxin.clinical.recognition import knowing, results
from lianxin.clinical.recognition.models import Assessment, Group, Result
from lianxin.network.models import Institution
from lianxin.standards import clock

_serial = itertools.count(1)


def given(person: int, group: str, maker: Institution, days_ago: float = 1, ref: str = "") -> Result:
    """A recognisable result made some days ago."""
    at = clock.now() - dt.timedelta(days=days_ago)
    ref = ref or f"DiagnosticReport/t{next(_serial)}"
    results.offer(person, [Group.objects.get(code=group)], institution_id=maker.pk, at=at, ref=ref)
    return Result.objects.unscoped("test").get(ref=ref, group__code=group)


def passed(
    maker: Institution, group: str, reach: str = "province", ok: bool = True, year: int = 2026
) -> Assessment:
    """A quality assessment, in force for long."""
    region = {"province": "330000", "city": "331000", "county": "331023"}.get(reach, "")
    row = Assessment.objects.create(
        institution=maker, group=Group.objects.get(code=group), year=year, organiser="省临检中心", reach=reach, region=region, passed=ok,
        effective_from=dt.date(2020, 1, 1), source="试验通报",
    )  # fmt: skip
    knowing.forget()
    return row
