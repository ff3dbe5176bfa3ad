"""Which beds, theatres and rooms are free, and how each stands: the reading half of :mod:`lianxin.pool.exclusive`.

"Free" is the absence of a live claim. A hold past its expiry is not in the way; an occupied or uncleaned bed is, until somebody
says otherwise, however long its time is over.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Q

from lianxin.index.models import Person
from lianxin.pool.models import CLAIMS, LIVE_CLAIMS, Claim, Resource
from lianxin.standards import clock
from lianxin.standards.text import T, Text

CHILD_BELOW = 14
"""Below this many years a patient lies in a children's bed (paediatrics in China: up to and including 13 whole years)."""
FOREVER = dt.datetime(2200, 1, 1, tzinfo=clock.ZONE)
STAYS = ("occupied", "cleaning")
"""In the way until somebody says otherwise, whatever the end they were given."""
_ANY_GRADE = ("general", "single")


@dataclass(frozen=True)
class Standing:
    """How a resource stands at a moment. ``claim``: what makes it so; ``next``: the first claim after that."""

    state: str
    claim: Claim | None = None
    next: Claim | None = None
    overdue: bool = False

    @property
    def label(self) -> Text:
        """State in words."""
        return T("空闲", "Free") if self.state == "free" else CLAIMS[self.state]


def _claims() -> Any:
    return Claim.objects.unscoped("the pool keeps claims apart whoever they are of")


def age_class(birth: dt.date | None, on: dt.date | None = None) -> str:
    """ "child" or "adult" on a day (today); "" when the birth date is not known."""
    if birth is None:
        return ""
    day = on or clock.today()
    years = day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day))
    return "child" if years < CHILD_BELOW else "adult"


IN_THE_WAY = """
c.state = ANY(%(live)s) AND NOT (c.state = 'held' AND c.expires_at <= %(now)s)
AND CASE WHEN c.state = ANY(%(stays)s) AND upper(c.during) <= %(now)s THEN tstzrange(lower(c.during), %(now)s, '[]')
         ELSE c.during END && tstzrange(%(at)s, %(until)s)"""


def window(at: dt.datetime, until: dt.datetime) -> dict[str, Any]:
    """The parameters of :data:`IN_THE_WAY`."""
    return {
        "live": list(LIVE_CLAIMS), "stays": list(STAYS), "now": clock.now(), "at": at, "until": until,
    }  # fmt: skip


def find(
    kind: str,
    institutions: Iterable[int],
    at: dt.datetime,
    until: dt.datetime,
    *,
    sex: str = "",
    age: str = "",
    grade: str = "",
    isolation: str = "",
    limit: int = 200,
) -> list[Resource]:
    """Resources of ``kind`` with nothing in the way from ``at`` to ``until``, by institution, department and code.

    ``sex``/``age``: of the patient ("" when unknown: then only places for anybody). ``grade`` "": general and single ones.
    ``isolation`` is exact: a bed with negative pressure is not given to somebody who needs none. Nothing is locked.
    """
    if until <= at:
        raise ValueError("the time ends before it begins")
    params = window(at, until) | {
        "kind": kind, "ids": list(institutions), "sexes": ["any", sex] if sex else ["any"],
        "ages": ["any", age] if age else ["any"], "grades": [grade] if grade else list(_ANY_GRADE), "isolation": isolation,
    }  # fmt: skip
    sql = f"""
SELECT r.id FROM pool_resource r
 WHERE r.active AND r.kind = %(kind)s AND r.institution_id = ANY(%(ids)s) AND r.sex = ANY(%(sexes)s) AND r.age = ANY(%(ages)s)
   AND (r.kind <> 'bed' OR (r.grade = ANY(%(grades)s) AND r.isolation = %(isolation)s))
   AND NOT EXISTS (SELECT 1 FROM pool_claim c WHERE c.resource_id = r.id AND {IN_THE_WAY})
 ORDER BY r.institution_id, r.department_id, r.code LIMIT {int(limit)}"""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        ids = [row[0] for row in cursor.fetchall()]
    found = Resource.objects.select_related("institution", "department").in_bulk(ids)
    return [found[pk] for pk in ids]


def alternatives(
    resource: Resource, at: dt.datetime, until: dt.datetime, person_id: int | None = None, count: int = 3
) -> list[Resource]:
    """Others of the kind free at that time and fit for the patient (nobody named: of the same sort): the same ward first."""
    if until <= at:
        return []
    sex, age = ("" if value == "any" else value for value in (resource.sex, resource.age))
    if person_id is not None:
        person = Person.objects.unscoped("whom the other beds have to suit").get(pk=person_id)
        sex = person.sex if person.sex in ("male", "female") else sex
        age = age_class(person.birth_date) or age
    found = find(
        resource.kind, [resource.institution_id], at, until, sex=sex, age=age, grade=resource.grade,
        isolation=resource.isolation,
    )  # fmt: skip
    found.sort(key=lambda r: (r.department_id != resource.department_id, r.code))
    return [r for r in found if r.pk != resource.pk][:count]


def standing(resources: Iterable[Resource], now: dt.datetime | None = None) -> dict[int, Standing]:
    """resource id → how it stands now, in one query; persons come with the claims."""
    moment = now or clock.now()
    ids = [r.pk for r in resources]
    live = Q(during__endswith__gt=moment) | Q(state__in=STAYS)
    rows = (
        _claims()
        .filter(live, resource_id__in=ids, state__in=LIVE_CLAIMS)
        .exclude(state="held", expires_at__lte=moment)
        .select_related("person")
        .order_by("during")
    )
    by: dict[int, list[Claim]] = {}
    for claim in rows:
        by.setdefault(claim.resource_id, []).append(claim)
    return {pk: _standing(by.get(pk, []), moment) for pk in ids}


def _standing(claims: list[Claim], now: dt.datetime) -> Standing:
    here = [c for c in claims if c.during.lower <= now]
    here.sort(key=lambda c: c.state not in STAYS)
    current = here[0] if here else None
    coming = [c for c in claims if c is not current]
    late = current is not None and current.state in STAYS and current.during.upper <= now
    return Standing(
        current.state if current else "free", current, coming[0] if coming else None, overdue=late
    )
