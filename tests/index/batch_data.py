"""Generated registrations for the tests of batches, the same in every process."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from lianxin.index import kit
from lianxin.index.batch import table
from lianxin.index.batch.duck import Duck
from lianxin.index.form import Form, Registration, form_of
from lianxin.index.match.model import DEFAULT, Model
from tests.factories import make_resident_id


@cache
def text(people: int = 500, seed: int = 11) -> str:
    """A labelled CSV."""
    out = io.StringIO()
    kit.write_csv(out, people, seed, "yunshan", 2.4)
    return out.getvalue()


@cache
def labelled(people: int = 500, seed: int = 11) -> Any:
    """The same, read."""
    header, *rows = csv.reader(text(people, seed).splitlines())
    return kit.from_rows(header, rows)


def registrations(institution_id: int, people: int = 500, seed: int = 11) -> list[Registration]:
    """Fresh registrations, all by one institution."""
    header, *rows = csv.reader(text(people, seed).splitlines())
    regs: list[Registration] = kit.from_rows(header, rows).registrations
    for reg in regs:
        reg.institution_id = institution_id
    return regs


@cache
def forms() -> tuple[Form, ...]:
    """Their forms."""
    return tuple(form_of(reg) for reg in labelled().registrations)


@cache
def model() -> Model:
    """The shipped weights for so few people, with their own rarities."""
    return DEFAULT.for_people(500).with_frequencies(forms())


DOCTORS = make_resident_id(dt.date(1980, 2, 3), 451)


def desk(name: str, **said: Any) -> Form:
    """A registration under the doctor's number, which the desk types for whoever has none at hand."""
    return form_of(Registration(1, "his", name, name, id_type="01", id_no=DOCTORS, **said))


def desks() -> list[Form]:
    """Four people, a newborn and a nameless one, all under that number."""
    return [
        desk("李建平", sex="male", birth_date=dt.date(1983, 1, 11)),
        desk("王捷硕", sex="male", birth_date=dt.date(1979, 2, 21)),
        desk("李静刚", sex="male"),
        desk("谢梅", birth_date=dt.date(1984, 2, 12)),
        desk("肖丽燕之子", sex="male"),
        desk("无名氏", sex="male"),
    ]


def fill(engine: Any, place: Path, given: Sequence[Form], pids: Sequence[int] | None = None) -> None:
    """Table ``source`` of an engine: rids from 1."""
    rows = [(n + 1, pids[n] if pids else 0, form) for n, form in enumerate(given)]
    path = place / "forms.parquet"
    table.write(table.table(rows), path)
    engine.read("source", [path])


def duck(place: Path, given: Sequence[Form], pids: Sequence[int] | None = None) -> Duck:
    """A DuckDB with these forms."""
    engine = Duck(place, "1GB", 1)
    fill(engine, place, given, pids)
    return engine


def agreement(a: Iterable[Any], b: Iterable[Any]) -> float:
    """F1 of the pairs that two labellings put together: 1 when they are the same partition."""
    a, b = list(a), list(b)

    def pairs(labels: Iterable[Any]) -> int:
        return sum(n * (n - 1) // 2 for n in Counter(labels).values())

    both, left, right = pairs(zip(a, b, strict=True)), pairs(a), pairs(b)
    return 2 * both / (left + right) if left + right else 1.0
