"""Critical values for the tests: one is reported for something ordered in the small county."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

from lianxin.access.scope import Scope
from lianxin.duty.models import Case
from lianxin.regional.critical import limits, service
from lianxin.regional.critical.models import Critical
from lianxin.regional.reading.models import Reading
from lianxin.standards import clock
from tests.factories import SmallCounty
from tests.reading import world

_serial = itertools.count(1)
DAY = dt.datetime(2026, 11, 24, 10, 0, tzinfo=clock.ZONE)  # a Tuesday
NIGHT = dt.datetime(2026, 11, 24, 22, 30, tzinfo=clock.ZONE)


def staffed(prefix: str = "WJ") -> SmallCounty:
    """The small county; everybody who answers has an account."""
    county = world.make_world(prefix)
    for post in county.posts.values():
        world.account_of(post)
    return county


def report(
    county: SmallCounty,
    reading: Reading,
    value: object = "6.8",
    code: str = "K",
    unit: str = "mmol/L",
    by: Scope | None = None,
    key: str = "",
    **fields: Any,
) -> Critical:
    """Report a value of ``reading`` the way the laboratory does."""
    hit = limits.check(code, value, unit, age_days=20_000, sex="male")
    given = {
        "person_id": reading.person_id, "source": "laboratory", "case_id": reading.pk, "reading_accession": reading.accession,
        "finding": hit.name if hit else "血钾", "code": code, "value": value, "unit": unit, "limit": hit, "found_at": clock.now(),
        "orderer": reading.orderer, "centre_of": county.lead, "key": key or f"r{next(_serial)}",
    }  # fmt: skip
    return service.report(by or world.scope_of(county, "lab0"), **(given | fields))


def state(critical: Critical) -> str:
    """Where its case stands."""
    return str(Case.objects.unscoped("test").get(pk=critical.pk).state)


def again(critical: Critical) -> Critical:
    """The row as it stands now."""
    found: Critical = Critical.objects.unscoped("test").select_related("case").get(pk=critical.pk)
    return found
