"""Order independence: the same registrations make the same people, whoever came first; how far is told in docs/how-to/index-matching.md."""

from __future__ import annotations

import csv
import datetime as dt
import io
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from django.db import transaction

from lianxin.index import kit, upkeep
from lianxin.index.form import Form, Registration, form_of
from lianxin.index.kit import evaluate
from lianxin.index.match.memory import MemoryIndex
from lianxin.index.models import LinkEvent, Person, SourceRecord
from lianxin.index.registry import register_many
from lianxin.network.models import Institution
from tests.factories import make_resident_id
from tests.index.conftest import SYSTEM

BOUND = 0.0003
"""Share of the linked pairs in which another order of arrival may differ."""
YOUNG = dt.date(2026, 6, 1)
GROWN = dt.date(1998, 2, 3)


def _labelled(people: int, seed: int, county: str) -> kit.Labelled:
    rows = io.StringIO()
    kit.write_csv(rows, people, seed, county)
    header, *lines = csv.reader(rows.getvalue().splitlines())
    return kit.from_rows(header, lines)


def _shuffled(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def _in_memory(forms: Sequence[Form], order: Sequence[int], index: MemoryIndex) -> list[int]:
    numbers = {at: index.register(forms[at]) for at in order}
    return [index.person(numbers[at]) for at in range(len(forms))]


def _pairs(*columns: Sequence[int]) -> int:
    return sum(n * (n - 1) // 2 for n in Counter(zip(*columns, strict=True)).values())


def test_other_orders_of_arrival_differ_in_hardly_a_pair() -> None:
    """Three counties with all the slips of the test kit: what other orders link otherwise, and nobody is mixed by any of them."""
    apart = linked = 0
    for seed, county in enumerate(("qinghe", "tianhu", "binjiang"), start=31):
        labelled = _labelled(1500, seed, county)
        forms = [form_of(reg) for reg in labelled.registrations]
        model = evaluate.choose_model("local", forms)
        first = _in_memory(forms, range(len(forms)), MemoryIndex(model))
        for turn in (1, 2):
            other = _in_memory(forms, _shuffled(len(forms), turn), MemoryIndex(model))
            both, union = _pairs(first, other), _pairs(first) + _pairs(other)
            linked += union - both
            apart += union - 2 * both
    assert linked > 15_000
    assert apart <= BOUND * linked


def _said(n: int) -> dict[str, tuple[list[dict[str, Any]], list[set[int]]]]:
    """Hard cases: what was registered, and who is who; ``n`` keeps the homes apart."""
    phone, home = f"1391111222{n}", f"清河县柳河镇张庄{n + 11}号"
    own, hers = make_resident_id(YOUNG, 2 * n + 1), make_resident_id(GROWN, 2 * n)
    child = {"name": "牛一诺", "birth_date": YOUNG, "id_no": own, "phone": phone}
    named = {"name": "李沐辰", "birth_date": YOUNG}
    lin, shan = {"name": "管凤林", "birth_date": YOUNG}, {"name": "管凤山", "birth_date": dt.date(2024, 2, 2)}
    house = {"phone": phone, "address": home}
    grown = {
        "name": "毕磊柏",
        "birth_date": GROWN,
        "id_no": make_resident_id(GROWN, 2 * n + 1),
        "phone": phone,
    }
    return {
        # a third registration proves two that say little of each other: one has the mother's number, birth date and sex
        "guardian": (
            [
                {"name": "牛一诺", "sex": "female", "birth_date": GROWN, "id_no": hers, "mother_name": "杨娇芳",
                 "mother_id_no": hers, "birth_certificate": "W379750027"} | house,
                child | house,
                child | {"birth_certificate": "W379750027"},
            ],
            [{0, 1, 2}],
        ),
        # the newborn, the child that got a name and a number, and the card that says that they are one
        "newborn": (
            [
                {"name": "马晓之子", "birth_date": YOUNG, "phone": phone, "mother_name": "马晓", "card": "Q12345678"},
                named | {"id_no": own, "address": home},
                named | {"id_no": own, "card": "Q12345678"} | house,
                named | {"mother_name": "马晓"} | house,
            ],
            [{0, 1, 2, 3}],
        ),
        # brothers of one home: never one, whoever comes first
        "brothers": (
            [
                lin | house | {"id_no": own},
                lin | house,
                shan | house | {"id_no": make_resident_id(dt.date(2024, 2, 2), 2 * n + 1)},
                shan | house,
            ],
            [{0, 1}, {2, 3}],
        ),
        # a slip of the sex and another phone: the home is named by the third alone
        "slips": (
            [grown, grown | {"sex": "female", "id_no": "", "phone": "13922223333", "address": home}, grown | {"address": home}],
            [{0, 1, 2}],
        ),
    }  # fmt: skip


CASES = list(_said(0))


def _registrations(place: int, case: str) -> list[Registration]:
    said = _said(CASES.index(case))[case][0]
    base = {"institution_id": place, "system": "urn:t", "sex": "male"}
    return [Registration(**(base | {"local_id": f"{case}-{k}"} | one)) for k, one in enumerate(said)]


def _groups(numbers: Sequence[int]) -> list[set[int]]:
    by: dict[int, set[int]] = defaultdict(set)
    for at, number in enumerate(numbers):
        by[number].add(at)
    return sorted(by.values(), key=min)


@pytest.mark.parametrize("case", CASES)
def test_every_order_of_a_hard_case_gives_the_same_people(case: str) -> None:
    forms = [form_of(reg) for reg in _registrations(1, case)]
    for order in permutations(range(len(forms))):
        assert _groups(_in_memory(forms, order, MemoryIndex())) == _said(0)[case][1], order


@pytest.mark.django_db
def test_the_database_makes_the_same_people_in_any_order_and_any_batches(here: Institution) -> None:
    """Hard cases and families of the kit, one by one and in batches: the same people, the index whole, every join in the log."""
    regs = [reg for case in CASES for reg in _registrations(here.pk, case)]
    regs += [replace(reg, institution_id=here.pk) for reg in _labelled(110, 5, "qinghe").registrations]
    expected: list[set[int]] | None = None
    joins = 0
    for turn, size in enumerate((40, 1, 7, len(regs))):
        order = _shuffled(len(regs), turn)
        with transaction.atomic():
            sources: dict[int, int] = {}
            for start in range(0, len(order), size):
                part = order[start : start + size]
                done = register_many(SYSTEM, [replace(regs[at]) for at in part])
                sources.update(zip(part, (one.source_id for one in done), strict=True))
            people = dict(SourceRecord.objects.unscoped("test").values_list("pk", "person_id"))
            found = _groups([people[sources[at]] for at in range(len(regs))])
            assert upkeep.check() == []
            merged = LinkEvent.objects.filter(kind="merged")
            joins += merged.count()
            gone = Person.objects.unscoped("test").filter(status="merged")
            assert merged.count() == gone.count()
            transaction.set_rollback(True)
        expected = expected or found
        assert found == expected, (turn, size)
    assert joins
