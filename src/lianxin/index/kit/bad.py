"""Bad sources as scenarios: what an index must take without merging anybody, without growing slow, and say whose fault it is.

Each gives registrations of one institution; people are all different unless said otherwise, so that any link is wrong.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from random import Random

from lianxin.index.form import Registration
from lianxin.index.kit import slips, tables
from lianxin.index.kit.county import County
from lianxin.index.kit.people import Human, settle

SYSTEM = "kit-bad"


def nameless(institution: int, number: int, day: dt.date) -> Iterator[Registration]:
    """``number`` unknown patients of one day: nobody's name, nobody's number, an age guessed for some (a filler birth date)."""
    rng = Random(f"nameless:{number}:{day}")
    for n in range(number):
        yield Registration(
            institution_id=institution,
            system=SYSTEM,
            local_id=f"N{day:%Y%m%d}{n:06d}",
            name="无名氏" if n % 5 else rng.choice(slips.PLACEHOLDERS),
            sex=("male", "female", "unknown")[n % 3],
            birth_date=dt.date(day.year - 10 * (n % 9), 1, 1) if n % 4 == 0 else None,
        )


def only_a_name(institution: int, number: int, name: str = "张伟") -> Iterator[Registration]:
    """Every field missing but the name, which they all share."""
    for n in range(number):
        yield Registration(institution, SYSTEM, f"M{n:06d}", name)


def people_of(number: int, seed: int = 1, county: str = "qinghe") -> list[Human]:
    """Different people of a synthetic county, to be spoilt."""
    place = County(county, number, seed, tables.load("rates.yaml"))
    out: list[Human] = []
    for town in place.towns:
        out += settle(place, town, len(out) + 1)
    return out


def clean(institution: int, number: int, seed: int = 1, system: str = SYSTEM) -> Iterator[Registration]:
    """One faultless registration each of different people."""
    serial = count(1)
    for person in people_of(number, seed):
        home = person.home
        yield Registration(
            institution,
            system,
            f"P{next(serial):06d}",
            person.name,
            "male" if person.sex == 1 else "female",
            person.birth_date,
            "01",
            person.id_no,
            person.phone,
            slips.address(home, "山东省", "泰沂市", 0) if home is not None else "",
        )


def one_phone(
    institution: int, number: int, phone: str = "05388765432", seed: int = 1
) -> Iterator[Registration]:
    """The institution's own phone on everybody, no identity numbers: name, birth and address must tell them apart."""
    for reg in clean(institution, number, seed):
        yield replace(reg, phone=phone, id_no="", id_type="")


def doctors_number(institution: int, number: int, id_no: str, seed: int = 1) -> Iterator[Registration]:
    """The doctor's identity number on everybody."""
    for reg in clean(institution, number, seed):
        yield replace(reg, id_no=id_no)


def future(institution: int, number: int, today: dt.date, seed: int = 1) -> Iterator[Registration]:
    """People not born yet, and identity numbers of dates to come."""
    for n, reg in enumerate(clean(institution, number, seed)):
        yield replace(
            reg, birth_date=today + dt.timedelta(days=30 + n * 37 % 20000), id_no="" if n % 2 else reg.id_no
        )
