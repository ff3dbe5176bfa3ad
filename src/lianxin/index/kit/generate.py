"""Labelled registrations of a synthetic county: ``registrations`` streams them town by town, ``write_csv`` in order of arrival.

Deterministic by (people, seed, county, per person, rates); towns are independent, so memory holds one town at a time.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, TextIO

import yaml

from lianxin.index.kit import tables
from lianxin.index.kit.county import County, Institution, Town
from lianxin.index.kit.desk import AGES, COLUMNS, Desk
from lianxin.index.kit.people import Human, settle

DEFAULT_RATES = "rates.yaml"
OTHER_RATES = "rates-other.yaml"
IN_MEMORY = 400_000
"""Up to so many registrations are put in order in memory; more go through temporary files by month of arrival."""
_AT = COLUMNS.index("received_at")


def read_rates(path: str | Path | None) -> dict[str, Any]:
    """Rates of a file over the shipped ones (a missing group or cause keeps the shipped rate); "other" is the second shipped set."""
    rates = tables.load(DEFAULT_RATES)
    if path is None:
        return rates
    if str(path) == "other":
        return tables.load(OTHER_RATES)
    given = yaml.load(Path(path).read_text("utf-8"), yaml.CSafeLoader)
    if not isinstance(given, dict):
        raise ValueError(f"{path}: a map of groups of rates is needed")
    unknown = set(given) - set(rates)
    if unknown:
        raise ValueError(f"{path}: unknown groups of rates: {', '.join(sorted(map(str, unknown)))}")
    out = dict(rates)
    for group, value in given.items():
        if isinstance(rates[group], dict) and isinstance(value, dict):
            strange = set(value) - set(rates[group])
            if strange:
                raise ValueError(f"{path}: {group}: unknown: {', '.join(sorted(map(str, strange)))}")
            out[group] = {**rates[group], **value}
        else:
            out[group] = value
    return out


def registrations(
    people: int,
    seed: int,
    county: str = "qinghe",
    per_person: float = 2.0,
    rates: dict[str, Any] | None = None,
) -> Iterator[list[Any]]:
    """Rows in the order of :data:`desk.COLUMNS`, town by town and person by person (not in order of arrival).

    Raises ValueError for an unknown county or numbers that make no sense.
    """
    if people < 1 or per_person < 1:
        raise ValueError("at least one person, and one registration a person")
    place = County(county, people, seed, rates if rates is not None else tables.load(DEFAULT_RATES))
    first, number = 1, 0
    for town in place.towns:
        for row in _town(place, town, first, per_person):
            number += 1
            row.insert(0, number)
            yield row
        first += town.people


def _town(place: County, town: Town, first: int, per_person: float) -> Iterator[list[Any]]:
    people = settle(place, town, first)
    rng = Random(f"{place.seed}:{place.name}:visits:{town.index}")
    desk = Desk(place, rng)
    desk.prefix = f"{town.index:04d}"
    desk.know(people)
    where = place.registrars(town)
    hospitals, centres, stations = where["hospital"], where["centre"], where["station"]
    since, as_of = place.since.toordinal(), place.as_of.toordinal()
    visits, spread = place.set["visits"], place.set["spread"]
    twice, at_birth = place.rates["other"]["twice"], place.rates["birth_visits"]
    weights = [visits[AGES[_kind(as_of - p.born)]] for p in people]
    scale = (per_person - 1) * len(people) / sum(weights) if weights else 0.0
    random = rng.random
    for person, weight in zip(people, weights, strict=True):
        extra = _poisson(rng, rng.gammavariate(spread, weight * scale / spread)) if scale > 0 else 0
        start = max(person.born, since)
        end = min(as_of, person.died + 3) if person.died else as_of
        for _ in range(1 + extra):
            day = start + int(random() * (end - start + 1))
            if person.born >= since and random() < at_birth:
                day = min(end, person.born + int(random() * 40))
            roll = random()
            group = hospitals if roll < 0.45 else centres if roll < 0.8 else stations
            inst = group[int(random() * len(group))]
            yield desk.write(person, inst, day)
            if random() < twice:
                row = desk.write(person, inst, min(end, day + int(random() * 30)))
                row[-1] = f"{row[-1]};twice" if row[-1] else "twice"
                yield row


def _kind(days: int) -> int:
    return 0 if days < 366 else 1 if days < 5114 else 2 if days < 23741 else 3


def _poisson(rng: Random, mean: float) -> int:
    if mean > 30:
        return max(0, round(rng.gauss(mean, mean**0.5)))
    limit, product, count = 2.718281828459045**-mean, rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count


def write_csv(
    out: TextIO,
    people: int,
    seed: int,
    county: str = "qinghe",
    per_person: float = 2.0,
    rates: dict[str, Any] | None = None,
) -> int:
    """Write header and rows in order of arrival (``received_at``); returns the number of registrations."""
    made = registrations(people, seed, county, per_person, rates)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    if people * per_person <= IN_MEMORY:
        rows = sorted(made, key=_arrival)
        writer.writerows(_numbered(rows))
        return len(rows)
    return _through_files(writer, made)


def _through_files(writer: Any, made: Iterator[list[Any]]) -> int:
    """Rows by month of arrival into temporary files, then month after month in order."""
    count = 0
    with tempfile.TemporaryDirectory(prefix="kit-") as folder:
        open_files: dict[str, tuple[io.TextIOWrapper, Any]] = {}
        for row in made:
            month = row[_AT][:7]
            if month not in open_files:
                file = (Path(folder) / month).open("w", encoding="utf-8", newline="")
                open_files[month] = (file, csv.writer(file, lineterminator="\n"))
            open_files[month][1].writerow(row)
        for file, _ in open_files.values():
            file.close()
        for month in sorted(open_files):
            with (Path(folder) / month).open(encoding="utf-8", newline="") as file:
                rows = sorted(csv.reader(file), key=_arrival)
            writer.writerows(_numbered(rows, count))
            count += len(rows)
    return count


def _arrival(row: list[Any]) -> tuple[str, int]:
    return row[_AT], int(row[0])


def _numbered(rows: list[list[Any]], before: int = 0) -> Iterator[list[Any]]:
    """Record ids anew in order of arrival, so that the id tells nothing about whose record it is."""
    for number, row in enumerate(rows, before + 1):
        row[0] = f"r{number}"
        yield row


__all__ = ["COLUMNS", "Human", "Institution", "read_rates", "registrations", "write_csv"]
