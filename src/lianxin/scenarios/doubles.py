"""A handful of residents whom the hospital's desk registers anew and not quite rightly: what the review desk exists for.

Small and deterministic: a dozen residents among the first that are drawn. Some registrations are one person's with a slip, some are
a relative's with a borrowed number; only a person can tell, and the demonstration lets one try.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from lianxin.access.scope import Scope
from lianxin.index import registry
from lianxin.index.kit import slips
from lianxin.index.registry import Registration
from lianxin.network.models import Institution
from lianxin.scenarios.population import Resident, Village, generate

SYSTEM = "urn:lianxin:demo:his"
LOOKED_AT = 400
"""Residents among whom the cases are found."""


def register(villages: list[Village], count: int, seed: int, as_of: dt.date, lead: str) -> int:
    """Register the cases at the hospital ``lead``; how many registrations. Again: nothing happens, the door knows what it has had."""
    people = list(islice(generate(villages, count, seed, as_of), LOOKED_AT))
    place = Institution.objects.get(code=lead)
    regs = list(_cases(people, Random(f"doubles:{seed}"), place.pk, as_of))
    registry.register_many(Scope.system(f"scenario {lead}: hospital desk"), regs)
    return len(regs)


def _cases(people: Sequence[Resident], rng: Random, place: int, as_of: dt.date) -> Iterator[Registration]:
    grown = [p for p in people if 1950 <= p.birth_date.year <= 2000 and len(p.name) == 3]
    homes: dict[int, list[Resident]] = {}
    for person in people:
        homes.setdefault(person.household, []).append(person)

    def at_desk(person: Resident, number: int, **change: object) -> Registration:
        said = {
            "name": person.name, "sex": person.sex, "birth_date": person.birth_date, "id_type": "01", "id_no": person.id_no,
            "phone": person.phone, "address": f"天台县{person.address}", "division": person.village.division,
        }  # fmt: skip
        return Registration(place, SYSTEM, f"ZY{number:06d}", **{**said, **change})  # type: ignore[arg-type]

    for n, person in enumerate(
        grown[:5]
    ):  # heard, not read: the name sounds the same, the card was left at home, the phone is new
        name = slips.homophone(person.name, rng)
        yield at_desk(person, 100 + n, name=name, id_no="", id_type="", phone=_mobile(rng), address="")
    for n, person in enumerate(grown[5:7]):  # the birthday by the lunar calendar, nothing else to go by
        text = "-".join(f"{part:02d}" for part in slips.lunar(person.birth_date.toordinal()))
        yield at_desk(
            person,
            200 + n,
            birth_date=None,
            birth_text=text,
            id_no="",
            id_type="",
            phone=_mobile(rng),
            address="",
        )
    for n, person in enumerate(
        grown[7:10]
    ):  # one figure of the number is wrong, phone and address are new, the birthday a day off
        wrong = slips.wrong_digit(person.id_no, rng)
        born = person.birth_date + dt.timedelta(days=1)
        yield at_desk(
            person, 300 + n, id_no=wrong, phone=_mobile(rng), address="", division="", birth_date=born
        )
    borrowed = 0
    for family in homes.values():  # a brother's or the wife's card at the counter
        pair = [p for p in family if p.birth_date.year < 2008]
        if borrowed < 3 and len(pair) >= 2 and abs(pair[0].birth_date.year - pair[1].birth_date.year) < 9:
            borrowed += 1
            yield at_desk(pair[0], 400 + borrowed, id_no=pair[1].id_no, phone="", address="")
    mothers = [p for p in grown[10:] if p.sex == "female" and p.birth_date.year >= 1985]
    for n, mother in enumerate(
        mothers[:2]
    ):  # born in the hospital as 某某之女, weeks later registered by a name
        child = {"sex": "female", "birth_date": as_of - dt.timedelta(days=40 + n), "id_no": "", "id_type": ""}
        told = {"mother_name": mother.name, "mother_id_no": mother.id_no}
        yield at_desk(mother, 500 + n, **child, **told, name=f"{mother.name}之女")
        yield at_desk(mother, 510 + n, **child, phone=_mobile(rng), name=("周若溪", "钱雨桐")[n])


def _mobile(rng: Random) -> str:
    return f"13{rng.randrange(10**9):09d}"
