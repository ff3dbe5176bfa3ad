"""A small made-up county with shared centres, for the tests of reading work and of the rooms over it. Names are invented."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterable
from typing import Any

import orjson
from django.db import connection

from lianxin.access.models import Account
from lianxin.access.scope import Scope, scope_for_account
from lianxin.index.models import Person
from lianxin.network.models import Institution, Post
from lianxin.record import rows, store
from lianxin.regional.reading import queue, service
from lianxin.regional.reading.models import Item, Policy, Reader, Reading
from tests.factories import SmallCounty, small_county, staff_centres

_serial = itertools.count(1)


def make_world(prefix: str = "SC") -> SmallCounty:
    """The small county with its centres staffed. No report is drawn for a random second reading: what a test does not ask for must not
    happen in it one time in thirty."""
    county = small_county(prefix)
    staff_centres(county)
    draw(0)
    return county


def draw(percent: int) -> None:
    """From now on so many of a hundred routine reports are read twice at random."""
    Policy.objects.update_or_create(
        name="double.random_percent", consortium=None, effective_from=dt.date(2020, 1, 1),
        defaults={"value": percent, "source": "测试"},
    )  # fmt: skip


def make_person(name: str = "测试", **fields: Any) -> int:
    """Somebody of the index."""
    number = f"{next(_serial):010d}"
    fields.setdefault("pinyin", "ceshi")
    fields.setdefault("initials", "cs")
    return Person.objects.create(number=number, card_number=number, name=name, **fields).pk


def account_of(post: Post) -> Account:
    """The account of whoever holds ``post``."""
    account, _ = Account.objects.get_or_create(
        practitioner=post.practitioner,
        defaults={"username": f"zx{next(_serial)}", "name": post.practitioner.name},
    )
    return account


def scope_of(county: SmallCounty, key: str) -> Scope:
    """The scope of the post called ``key`` (see ``factories.small_county`` and ``staff_centres``)."""
    return scope_for_account(account_of(county.posts[key]), county.posts[key])


def reader_of(
    county: SmallCounty,
    key: str,
    centre: str = "imaging",
    modalities: Iterable[str] = ("CT", "MR", "DX", "US"),
    **fields: Any,
) -> tuple[Scope, Reader]:
    """A reader of the lead hospital's centre, registered."""
    scope = scope_of(county, key)
    reader, _ = Reader.objects.update_or_create(
        account_id=scope.account_id, institution=county.lead, centre=centre, defaults={"modalities": list(modalities), **fields}
    )  # fmt: skip
    return scope, reader


def order(
    county: SmallCounty,
    by: str = "gp0",
    item: str = "CT-HEAD",
    person: int | None = None,
    performer: Institution | None = None,
    priority: str = "routine",
    key: str = "",
) -> Reading:
    """Order one item, performed at the orderer's own institution and read at the lead hospital."""
    scope = scope_of(county, by)
    return service.order(
        scope, person or make_person(), [Item.objects.get(code=item)], {"indication": "头痛三天，查因"}, key or f"o{next(_serial)}",
        performer=performer or county.posts[by].institution, centre_of=county.lead, priority=priority,
    )  # fmt: skip


def queued(county: SmallCounty, **fields: Any) -> Reading:
    """Something that was ordered, taken and has arrived."""
    reading = order(county, **fields)
    assert service.arrived(reading.accession)
    reading.refresh_from_db()
    return reading


def published(rtype: str, rid: str) -> dict[str, Any]:
    """A resource as the record holds it."""
    with connection.cursor() as cursor:
        found = store.read(rows.server_cursor(cursor), Scope.system("test"), rtype, rid)
    assert found is not None, f"{rtype}/{rid}"
    return dict(orjson.loads(found.body))


def write(scope: Scope, claim: queue.Claim, reading: Reading, conclusion: str = "未见异常。") -> None:
    """Type a report into the claimed seat."""
    service.save_draft(
        scope, reading.case.number, str(claim.token), {"findings": "所见如常。", "conclusion": conclusion}
    )
