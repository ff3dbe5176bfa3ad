"""The people of one town and their families: ages by the county's pyramid first, then couples, children, parents, homes.

Oldest first, so that surnames, generation characters and homes pass down. A town is independent of all others, so that
towns can be made in any order, by several processes, and millions of people never stand in memory at once.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from dataclasses import dataclass
from random import Random

from lianxin.index.kit import tables
from lianxin.index.kit.county import County, Town, check
from lianxin.index.kit.tables import Picker

MOBILE = ("130", "131", "132", "133", "135", "136", "137", "138", "139", "150", "151", "152", "153", "155", "156",
          "157", "158", "159", "166", "173", "177", "178", "180", "181", "182", "183", "185", "186", "187", "188",
          "189", "191", "193", "198", "199")  # fmt: skip
SEASON = (1.05, 0.92, 0.96, 0.93, 0.93, 0.95, 0.98, 1.02, 1.05, 1.12, 1.05, 1.04)
"""Births by month beside an even year (autumn has most)."""
HAN = ""


@dataclass(slots=True)
class Home:
    """A dwelling. ``village`` is a village or an estate (then with ``road``, ``building``)."""

    town: Town
    village: str
    clan: int
    group: int
    number: int
    road: str = ""
    building: int = 0
    unit: int = 0
    room: int = 0
    landline: str = ""


@dataclass(slots=True, eq=False, repr=False)
class Human:
    """One person, and what was true of them before ``*_at`` (days since the era; 0 = never changed)."""

    pid: int
    sex: int
    born: int
    people: str = HAN
    surname: str = ""
    given: str = ""
    name: str = ""
    id_no: str = ""
    home: Home | None = None
    father: Human | None = None
    mother: Human | None = None
    spouse: Human | None = None
    phone: str = ""
    card: str = ""
    old_phone: str = ""
    phone_at: int = 0
    old_home: Home | None = None
    moved_at: int = 0
    old_name: str = ""
    renamed_at: int = 0
    old_card: str = ""
    card_at: int = 0
    died: int = 0
    birth_order: int = 0
    certificate: str = ""
    children: list[Human] | None = None

    def __repr__(self) -> str:
        return f"<{self.pid} {self.name}>"  # relatives would lead through the whole town

    @property
    def birth_date(self) -> dt.date:
        """Date of birth."""
        return dt.date.fromordinal(self.born)


def settle(county: County, town: Town, first: int) -> list[Human]:
    """The town's people (numbers from ``first`` on), deterministic by the county's seed and the town."""
    return _Settlement(county, town, first).run()


class _Settlement:
    def __init__(self, county: County, town: Town, first: int) -> None:
        self.county, self.town, self.first = county, town, first
        self.set = county.set
        self.rng = Random(f"{county.seed}:{county.name}:people:{town.index}")
        self.as_of = county.as_of.toordinal()
        self.taken: dict[tuple[str, int, int], int] = {}
        self.houses: dict[int, int] = {}

    def run(self) -> list[Human]:
        people = self._born()
        couples = self._marry(people)
        self._bear(people, couples)
        people.sort(key=lambda p: p.born)
        for person in people:
            self._name(person)
            self._house(person)
        for person in people:
            self._papers(person)
        self._fates(people)
        return people

    def _born(self) -> list[Human]:
        rng, pyramid = self.rng, self.set["pyramid"]
        bands = Picker(
            ((sex, band), weight)
            for sex, key in ((1, "male"), (2, "female"))
            for band, weight in enumerate(pyramid[key])
        )
        peoples = Picker([*self.county.minorities.items(), (HAN, 1 - sum(self.county.minorities.values()))])
        out, random = [], rng.random
        top = max(SEASON)
        for number in range(self.town.people):
            sex, band = bands(rng)
            while True:
                born = self.as_of - int((band * 5 + random() * 5) * 365.2425)
                if random() * top < SEASON[dt.date.fromordinal(born).month - 1]:
                    break
            out.append(Human(self.first + number, sex, born, peoples(rng)))
        return out

    def _marry(self, people: list[Human]) -> list[tuple[Human, Human]]:
        """Couples (his, hers) of one people, of like age."""
        rng, married = self.rng, self.set["married"]
        couples: list[tuple[Human, Human]] = []
        for group in sorted({p.people for p in people}):
            adult = self.as_of - int(23 * 365.25)
            men = [p for p in people if p.people == group and p.sex == 1 and p.born < adult]
            women = sorted(
                (p for p in people if p.people == group and p.sex == 2 and p.born < adult),
                key=lambda p: p.born,
            )
            births = [w.born for w in women]
            rng.shuffle(men)
            for man in men:
                age = (self.as_of - man.born) / 365.25
                if not women or rng.random() > married * min(1.0, (age - 20) / 12):
                    continue
                at = bisect_left(births, man.born + int(rng.gauss(700, 900)))
                at = min(at, len(women) - 1)
                wife = women[at]
                if abs(wife.born - man.born) > 12 * 365:
                    continue
                del women[at], births[at]
                man.spouse, wife.spouse = wife, man
                man.children = wife.children = []
                couples.append((man, wife))
        return couples

    def _bear(self, people: list[Human], couples: list[tuple[Human, Human]]) -> None:
        """Give children (of any age) to couples by the mother's age; sometimes two at once."""
        rng = self.rng
        for group in sorted({p.people for p in people}):
            mothers = sorted((c for c in couples if c[1].people == group), key=lambda c: c[1].born)
            births = [c[1].born for c in mothers]
            if not mothers:
                continue
            children = sorted((p for p in people if p.people == group), key=lambda p: p.born)
            skip = False
            for index, child in enumerate(children):
                if skip:
                    skip = False
                    continue
                age = (self.as_of - child.born) / 365.25
                if age > 20 and rng.random() < (0.3 if child.sex == 1 else 0.75):
                    continue  # the parents live elsewhere or are dead
                for _ in range(4):
                    at = bisect_left(births, child.born - int(rng.gauss(26.5, 4.6) * 365.25))
                    if at >= len(mothers):
                        continue
                    father, mother = mothers[at]
                    brood = father.children
                    gap = child.born - max(mother.born, father.born)
                    if brood is None or len(brood) >= 5 or gap < 17 * 365 or gap > 46 * 365:
                        continue
                    if any(abs(sister.born - child.born) < 300 for sister in brood):
                        continue
                    self._adopt(child, father, mother, brood)
                    twin = children[index + 1] if index + 1 < len(children) else None
                    if twin is not None and twin.spouse is None and rng.random() < self.set["twin"] * 1.5:
                        twin.born = child.born
                        if rng.random() < 0.64:
                            twin.sex = child.sex
                        self._adopt(twin, father, mother, brood)
                        child.birth_order, twin.birth_order = 1, 2
                        skip = True
                    break

    @staticmethod
    def _adopt(child: Human, father: Human, mother: Human, brood: list[Human]) -> None:
        child.father, child.mother = father, mother
        brood.append(child)

    def _name(self, person: Human) -> None:
        rng = self.rng
        if person.people:
            self._minority_name(person)
            return
        father, mother = person.father, person.mother
        if father is not None and mother is not None:
            person.surname = mother.surname if rng.random() < self.set["mother_surname"] else father.surname
        elif rng.random() < self.set["clan"]:
            person.surname = self.town.clans[rng.randrange(len(self.town.clans))](rng)
        else:
            person.surname = self.county.surname(rng)
        year = person.birth_date.year
        cohort = tables.cohort(year, person.sex)
        given = cohort.draw(rng)
        if father is not None and father.children:
            elder = [s for s in father.children if s.name and s.sex == person.sex and len(s.given) == 2]
            share = next(v for until, v in self.set["generation_name"].items() if year <= until)
            if elder and (rng.random() < share or person.birth_order == 2):
                given = elder[0].given[0] + cohort.second(rng)
            taken = {s.given for s in father.children if s.name}
            while given in taken or given == father.given:
                given = cohort.first(rng) + cohort.second(rng)
        person.given = given
        person.name = person.surname + given

    def _minority_name(self, person: Human) -> None:
        rng = self.rng
        book = tables.load("given.yaml")["minority"][person.people]
        own = book["male" if person.sex == 1 else "female"]
        first = own[int(rng.random() * len(own))]
        ending = rng.choice(book["endings"]["male" if person.sex == 1 else "female"])
        if not first.endswith(ending):
            first += ending
        if book["separator"]:
            if person.father is not None:
                last = person.father.name.split("·")[0]
            else:
                last = book["male"][int(rng.random() * len(book["male"]))]
            person.name = f"{first}·{last}"
        elif book["parts"] == 2:
            person.name = first + own[int(rng.random() * len(own))]
        else:
            person.name = first
        person.given = person.name

    def _house(self, person: Human) -> None:
        """A home: the spouse's, the parents' (children, and some grown sons), or a new one."""
        rng = self.rng
        if person.spouse is not None and person.spouse.home is not None:
            person.home = person.spouse.home
            return
        father = person.father
        if father is not None and father.home is not None:
            grown = self.as_of - person.born > 22 * 365
            if not grown or (person.sex == 1 and rng.random() < self.set["with_parents"]) or (
                grown and person.spouse is None and rng.random() < 0.5
            ):  # fmt: skip
                person.home = father.home
                return
        person.home = self._new_home(
            father.home if father is not None and rng.random() < 0.5 else None, person.surname
        )

    def _new_home(self, near: Home | None, surname: str = "") -> Home:
        rng, town = self.rng, self.town
        if near is None and rng.random() < self.set["urban"]:
            at = rng.randrange(len(town.estates))
            road, estate = town.estates[at]
            return Home(
                town, estate, -1, 0, 1 + at * 17 % 288, road,
                1 + int(rng.random() * 22), 1 + int(rng.random() * 4),
                (1 + int(rng.random() * 17)) * 100 + 1 + int(rng.random() * 4), self._landline(),
            )  # fmt: skip
        if near is not None and near.clan >= 0:
            at = near.clan
        else:
            at = rng.randrange(len(town.villages))
            for _ in range(3):  # families of a surname live in its village
                if surname in town.clans[at].values:
                    break
                at = rng.randrange(len(town.villages))
        self.houses[at] = self.houses.get(at, 0) + 1 + int(rng.random() * 2)
        number = self.houses[at]
        return Home(town, town.villages[at], at, 1 + number // 60, number, landline=self._landline())

    def _landline(self) -> str:
        rng = self.rng
        if rng.random() >= self.set["phone"]["landline"]:
            return ""
        return f"0{int(self.town.code[:3]) % 690 + 310}{2_000_000 + int(rng.random() * 6_999_999)}"

    def _papers(self, person: Human) -> None:
        random = self.rng.random
        person.id_no = self._number(person)
        age = (self.as_of - person.born) / 365.25
        phones = self.set["phone"]
        if age >= 11:
            share = phones["young"] if age < 18 else phones["adult"] if age < 65 else phones["elder"]
            if random() < share:
                person.phone = self._mobile()
        if random() < self.set["card"]:
            person.card = self._card()
        if age < 12:
            person.certificate = f"{'ABCDEFGHJKLMNPQRSTUVWXYZ'[int(random() * 24)]}{int(self.town.code[:2])}{int(random() * 10**7):07d}"

    def _card(self) -> str:
        rng = self.rng
        return f"{'ABCDEFGHJKLMNPQRSTUVWXYZ'[int(rng.random() * 24)]}{int(rng.random() * 10**8):08d}"

    def _mobile(self) -> str:
        random = self.rng.random
        return f"{MOBILE[int(random() * len(MOBILE))]}{int(random() * 10**8):08d}"

    def _number(self, person: Human) -> str:
        """An identity number nobody else has: sequence numbers go by blocks of twenty to a county's towns (police stations)."""
        rng, town = self.rng, self.town
        own = rng.random() >= self.set["elsewhere"] or (
            person.father is not None and self.as_of - person.born < 20 * 365
        )
        while True:
            code = town.code if own else town.outside(rng)
            key = (code, person.born, person.sex)
            used = self.taken.get(key, 0)
            if used < 10:
                break
            own = False
        self.taken[key] = used + 1
        # One after the other, as twins get them; where a day begins is mixed, so that the first one is not always the same.
        at = (used + person.born * 7 + town.place) % 10
        sequence = town.place * 20 + at * 2 + (1 if person.sex == 1 else 2)
        born = person.birth_date
        first = f"{code}{born.year:04d}{born.month:02d}{born.day:02d}{sequence:03d}"
        return first + check(first)

    def _fates(self, people: list[Human]) -> None:
        """What changes in a life during the period: number, home, name, card, death."""
        rng, random = self.rng, self.rng.random
        life = self.county.rates["life"]
        since = self.county.since.toordinal()
        span = self.as_of - since
        for person in people:
            age = (self.as_of - person.born) / 365.25
            kind = "child" if age < 14 else "elder" if age >= 65 else "adult"
            if person.phone and random() < life["phone_changed"]:
                person.old_phone, person.phone_at = self._mobile(), since + int(random() * span)
            if random() < life["card_changed"]:
                person.old_card, person.card_at = self._card(), since + int(random() * span)
            if random() < life["renamed"].get(kind, 0) and not person.people:
                cohort = tables.cohort(person.birth_date.year, person.sex)
                given = cohort.draw(rng)
                if given != person.given:
                    person.old_name, person.renamed_at = person.surname + given, since + int(random() * span)
            if random() < life["died"].get(kind, 0):
                person.died = max(person.born + 30, since + int(random() * span))
        homes: dict[int, list[Human]] = {}
        for person in people:
            homes.setdefault(id(person.home), []).append(person)
        for family in homes.values():
            if random() < life["moved"]:
                old, at = self._new_home(None, family[0].surname), since + int(random() * span)
                for person in family:
                    person.old_home, person.moved_at = old, at
