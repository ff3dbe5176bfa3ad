"""The desk that registers: takes a person on a day at an institution and writes what it would have written, with the causes.

Rates come compiled from ``rates.yaml``; one cause a field at most, every cause is named in the row, so that what a matcher
misses can be counted by cause.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect
from itertools import accumulate
from random import Random
from typing import Any

from lianxin.index.kit import slips
from lianxin.index.kit.county import County, Institution
from lianxin.index.kit.people import Home, Human

COLUMNS = (
    "record_id", "person", "household", "institution", "system", "local_id", "received_at", "name", "sex", "birth_date", "birth_text",
    "id_type", "id_number", "phone", "phone2", "address", "division", "village", "card", "guardian_name", "guardian_id",
    "mother_name", "mother_id", "birth_certificate", "birth_order", "former_name", "deceased_on", "cause",
)  # fmt: skip
AGES = ("infant", "child", "adult", "elder")
INFANT, CHILD, ADULT, ELDER = range(4)
NEWBORN_DAYS = 45
_SEXES = ("unknown", "male", "female")
_DISTANT_FUTURE = 900


def rate(value: Any, age: int) -> float:
    """A rate of the file for a kind of person."""
    if isinstance(value, dict):
        value = value[AGES[age]] if AGES[age] in value else value.get("all", 0)
    return float(value)


class Chances:
    """The causes of one field for one kind of person: ``draw`` gives one, or "" (most often)."""

    __slots__ = ("causes", "cum", "total")

    def __init__(self, group: dict[str, Any], age: int, leave: tuple[str, ...] = ()) -> None:
        pairs = [(k, rate(v, age)) for k, v in group.items() if k not in leave]
        self.causes = [k for k, _ in pairs]
        self.cum = list(accumulate(v for _, v in pairs))
        self.total = self.cum[-1] if self.cum else 0.0

    def draw(self, roll: float) -> str:
        """The cause for a roll in 0..1 (divided by the desk's untidiness)."""
        return "" if roll >= self.total else self.causes[bisect(self.cum, roll)]


class Desk:
    """All desks of a county; one instance writes one town's registrations in order."""

    def __init__(self, county: County, rng: Random) -> None:
        rates = county.rates
        self.county, self.rates, self.rng = county, rates, rng
        self.name = [Chances(rates["name"], a) for a in range(4)]
        self.minority = [Chances({**rates["minority_name"], **rates["name"]}, a) for a in range(4)]
        self.id = [Chances(rates["id"], a, ("lower_x",)) for a in range(4)]
        self.birth = [Chances(rates["birth"], a) for a in range(4)]
        self.sex = [Chances(rates["sex"], a) for a in range(4)]
        self.phone = [Chances(rates["phone"], a, ("second", "formatted")) for a in range(4)]
        self.address = [Chances(rates["address"], a) for a in range(4)]
        self.card = [Chances(rates["card"], a) for a in range(4)]
        self.lower_x = rates["id"]["lower_x"]
        self.prefix = ""
        self.serial = 0
        self.families: dict[int, tuple[int, list[Human]]] = {}

    def know(self, people: list[Human]) -> None:
        """Who lives with whom: relatives lend phones, cards and numbers."""
        self.families = {}
        for person in people:
            self.families.setdefault(id(person.home), (person.pid, []))[1].append(person)

    def write(self, person: Human, inst: Institution, day: int) -> list[Any]:
        """One registration as a row in the order of :data:`COLUMNS`, without record_id."""
        random = self.rng.random
        days = day - person.born
        age = INFANT if days < 366 else CHILD if days < 5114 else ADULT if days < 23741 else ELDER
        loose = 1.0 / inst.untidy
        causes: list[str] = []
        family = self.families[id(person.home)]
        emergency = random() < self.rates["other"]["emergency"]

        number, id_type, guardian, own = self._number(person, inst, age, random() * loose, causes, family[1])
        name, mother_in_name = self._name(person, age, days, day, random() * loose, causes, family[1])
        birth, text = self._birth(
            person, age, day, random() * loose / (self.rates["with_own_id"]["birth"] if own else 1.0), causes
        )
        sex = person.sex
        cause = self.sex[age].draw(random() * loose / (self.rates["with_own_id"]["sex"] if own else 1.0))
        if cause:
            causes.append(f"sex_{cause}")
            sex = 0 if cause == "missing" else 3 - sex
        if guardian is not None and random() < self.rates["guardian_birth"]:
            causes.append("birth_of_guardian")
            birth, text, sex = guardian.birth_date.isoformat(), "", guardian.sex
        phone, second = self._phone(person, inst, age, day, random() * loose, causes, family[1])
        where, village = self._address(person, inst, day, random() * loose, causes, age)
        card = self._card(person, age, day, random() * loose, causes, family[1])

        mother = person.mother
        mother_name = mother_id = certificate = guardian_name = guardian_id = ""
        order = ""
        if age <= CHILD:
            if mother is not None:
                told = rate(self.rates["mother_told"], age)
                if random() < told:
                    mother_name = mother.name
                    mother_id = mother.id_no if random() < 0.8 else ""
            if person.certificate and random() < rate(self.rates["certificate_told"], age):
                certificate = person.certificate
            if guardian is not None:
                guardian_name = guardian.name if random() < 0.5 else ""
                if random() < 0.3:  # this desk has a box for it and leaves the child's own box empty
                    guardian_id, number, id_type = number, "", ""
            if mother_in_name and person.birth_order and random() < 0.5:
                order = str(person.birth_order)
        if emergency:
            causes.append("emergency")
            number = id_type = where = village = card = second = ""
            if random() < 0.5:
                phone = ""
            if random() < 0.5:
                birth = text = ""
        if random() < self.rates["other"]["future"]:
            causes.append("future")
            if random() < 0.5:
                birth, text = (
                    dt.date.fromordinal(
                        self.county.as_of.toordinal() + 1 + int(random() * 30000)
                    ).isoformat(),
                    "",
                )
            else:
                day = self.county.as_of.toordinal() + 30 + int(random() * _DISTANT_FUTURE)
        self.serial += 1
        stamp = f"{dt.date.fromordinal(day).isoformat()}T{7 + int(random() * 12):02d}:{int(random() * 60):02d}:{int(random() * 60):02d}"
        former = person.old_name if person.renamed_at and day >= person.renamed_at and random() < 0.3 else ""
        died = dt.date.fromordinal(person.died).isoformat() if person.died and day >= person.died else ""
        code = inst.code
        town = person.home.town.code if person.home is not None else ""
        return [
            person.pid, family[0], code, inst.kind, f"{code[-3:]}{self.prefix}{self.serial:06d}", stamp, name, _SEXES[sex], birth, text,
            id_type, number, phone, second, where, town if random() < 0.8 else "", village, card, guardian_name, guardian_id,
            mother_name, mother_id, certificate, order, former, died, ";".join(causes),
        ]  # fmt: skip

    def _number(
        self, person: Human, inst: Institution, age: int, roll: float, causes: list[str], family: list[Human]
    ) -> tuple[str, str, Human | None, bool]:
        """(number as written, document type, whose guardian's it is, read from the own card)."""
        rng, number = self.rng, person.id_no
        if inst.doctors_number and (age <= CHILD or rng.random() < 0.3):
            causes.append("id_doctor")
            return inst.doctor_id, "01", None, False
        cause = self.id[age].draw(roll)
        if cause in ("guardian", "relative_card"):
            other = _elder(person, family) if cause == "guardian" else _relative(person, family, rng)
            if other is None:
                causes.append("id_missing")
                return "", "", None, False
            causes.append(f"id_{cause}")
            return other.id_no, "01", other if cause == "guardian" else None, False
        if not cause:
            if number[17] == "X" and rng.random() < self.lower_x:
                causes.append("id_lower_x")
                return number[:17] + "x", "01", None, True
            return number, "01", None, True
        if cause == "old_15" and number[6:8] != "19":
            return number, "01", None, True
        causes.append(f"id_{cause}")
        if cause == "missing":
            return "", "", None, False
        if cause == "doctor":
            return inst.doctor_id, "01", None, False
        if cause == "junk":
            return rng.choice(slips.JUNK_NUMBERS), "01", None, False
        if cause == "other_type":
            kind = rng.choice(("02", "03", "04", "05", "99"))
            digest = (person.pid * 7919 + int(kind)) % 10**8
            return f"{'HEJDX'[int(kind) % 5]}{digest:08d}", kind, None, False
        if cause == "old_15":
            return number[:6] + number[8:17], "01", None, True
        if cause == "blanks":
            return f"{number[:6]} {number[6:14]} {number[14:]}", "01", None, True
        if cause == "full_width":
            return slips.full_width(number), "01", None, True
        return getattr(slips, cause)(number, rng), "01", None, False

    def _name(
        self,
        person: Human,
        age: int,
        days: int,
        day: int,
        roll: float,
        causes: list[str],
        family: list[Human],
    ) -> tuple[str, bool]:
        """(name as written, whether it is a newborn's name made of the mother's)."""
        rng, name = self.rng, person.name
        if days <= NEWBORN_DAYS and rng.random() < self.rates["newborn_name"]:
            causes.append("newborn_name")
            return _newborn(person, rng), True
        if person.renamed_at and day < person.renamed_at:
            causes.append("renamed")
            name = person.old_name
        cause = (self.minority if person.people else self.name)[age].draw(roll)
        if not cause:
            return name, False
        written = self._slip(person, name, cause, family)
        if written != name:
            causes.append(f"name_{cause}")
        return written, False

    def _slip(self, person: Human, name: str, cause: str, family: list[Human]) -> str:
        rng = self.rng
        if cause == "homophone":
            return slips.homophone(name, rng)
        if cause == "near_homophone":
            return slips.homophone(name, rng, near=True)
        if cause == "suffix":
            return name + rng.choice(slips.SUFFIXES)
        if cause == "placeholder":
            return rng.choice(slips.PLACEHOLDERS)
        if cause == "surname_only":
            return (person.surname or name[:2]) + rng.choice(
                ("某", "某某", "先生" if person.sex == 1 else "女士", "")
            )
        if cause == "relative_name":
            other = _relative(person, family, rng)
            return other.name if other is not None else name
        if cause == "traditional":
            return slips.traditional(name)
        if cause == "full_width":
            return name.replace("·", "．") if "·" in name else name + "　"
        if cause == "separator_variant":
            return name.replace("·", rng.choice(slips.SEPARATORS))
        if cause == "separator_lost":
            return name.replace("·", "")
        if cause == "first_part":
            return name.split("·")[0]
        if cause == "reversed":
            return "·".join(reversed(name.split("·")))
        return getattr(slips, cause)(name, rng)

    def _birth(self, person: Human, age: int, day: int, roll: float, causes: list[str]) -> tuple[str, str]:
        """(ISO date or "", text as typed when it is no date)."""
        true = person.birth_date
        cause = self.birth[age].draw(roll)
        if not cause:
            return true.isoformat(), ""
        rng = self.rng
        year, month, date = true.year, true.month, true.day
        if cause == "missing":
            causes.append("birth_missing")
            return "", ""
        if cause == "first_of_january":
            month, date = (1, 1) if rng.random() < 0.8 else (7, 1)
        elif cause == "lunar":
            year, month, date = slips.lunar(person.born)
        elif cause == "swapped":
            if date > 12 or date == month:
                return true.isoformat(), ""
            month, date = date, month
        elif cause == "day_off":
            near = dt.date.fromordinal(person.born + (1 if rng.random() < 0.5 else -1))
            year, month, date = near.year, near.month, near.day
        elif cause == "month_off":
            month = month % 12 + 1 if rng.random() < 0.5 else (month - 2) % 12 + 1
        elif cause == "year_off":
            year += rng.choice((-10, -2, -1, -1, 1, 1, 2, 10))
        elif cause == "typed_for_unknown":
            year, month, date = rng.choice(slips.FILLERS)
        elif cause == "today":
            today = dt.date.fromordinal(day)
            year, month, date = today.year, today.month, today.day
        written = f"{year:04d}-{month:02d}-{date:02d}"
        if written == true.isoformat():
            return written, ""
        causes.append(f"birth_{cause}")
        try:
            dt.date(year, month, date)
        except ValueError:
            return "", written
        return written, ""

    def _phone(
        self,
        person: Human,
        inst: Institution,
        age: int,
        day: int,
        roll: float,
        causes: list[str],
        family: list[Human],
    ) -> tuple[str, str]:
        rng = self.rng
        if inst.one_phone:
            causes.append("phone_institution")
            return inst.phone, ""
        own = person.phone
        if person.phone_at and day < person.phone_at:
            own = person.old_phone
        cause = self.phone[age].draw(roll)
        if cause == "relative" or not own:
            landline = person.home.landline if person.home is not None else ""
            other = next((p for p in _closest(person, family) if p.phone), None)
            if other is None and not landline:
                causes.append("phone_missing")
                return "", ""
            if cause == "relative":
                causes.append("phone_relative")
            if other is None or (landline and rng.random() < 0.3):
                return landline, ""
            return (other.old_phone if other.phone_at and day < other.phone_at else other.phone), ""
        if own is person.old_phone and own:
            causes.append("phone_old")
        if not cause:
            if rng.random() < self.rates["phone"]["formatted"]:
                own = rng.choice(
                    (
                        f"+86{own}",
                        f"{own[:3]}-{own[3:7]}-{own[7:]}",
                        f"86-{own}",
                        f"{own[:3]} {own[3:7]} {own[7:]}",
                    )
                )
            extra = ""
            if rng.random() < self.rates["phone"]["second"]:
                extra = next((p.phone for p in _closest(person, family) if p.phone and p is not person), "")
            return own, extra
        causes.append(f"phone_{cause}")
        if cause == "missing":
            return "", ""
        if cause == "junk":
            return rng.choice(slips.JUNK_PHONES), ""
        if cause == "institution":
            return inst.phone, ""
        return slips.wrong_digit(own, rng), ""

    def _address(
        self, person: Human, inst: Institution, day: int, roll: float, causes: list[str], age: int
    ) -> tuple[str, str]:
        """(address, village box)."""
        rng, home = self.rng, person.home
        if person.moved_at and day < person.moved_at:
            home = person.old_home
            causes.append("address_old")
        cause = self.address[age].draw(roll)
        if home is None or cause == "missing":
            causes.append("address_missing")
            return "", ""
        if cause == "town_only":
            causes.append("address_town_only")
            return f"{home.town.county_name}{home.town.name}", ""
        if cause == "relative":
            other = self._elsewhere(person)
            if other is not None:
                causes.append("address_relative")
                home = other
        odd = 0
        style = inst.style
        if cause == "variant":
            odd = 1 + int(rng.random() * 3)
            style = int(rng.random() * 6)
        text = slips.address(home, self.county.province, self.county.city, style, odd)
        return text, home.village if inst.kind == "station" else ""

    def _elsewhere(self, person: Human) -> Home | None:
        for other in (person.father, *(person.children or ())):
            if other is not None and other.home is not person.home:
                return other.home
        return None

    def _card(
        self, person: Human, age: int, day: int, roll: float, causes: list[str], family: list[Human]
    ) -> str:
        card = person.card
        if person.card_at and day < person.card_at and card:
            card = person.old_card
        cause = self.card[age].draw(roll)
        if cause == "missing":
            return ""
        if cause == "relative":
            other = _relative(person, family, self.rng)
            if other is not None and other.card:
                causes.append("card_relative")
                return other.card
        if not card:
            return ""
        if card is not person.card:
            causes.append("card_old")
        if cause == "wrong_digit":
            causes.append("card_wrong_digit")
            return card[0] + slips.wrong_digit(card[1:], self.rng)
        return card


def _newborn(person: Human, rng: Random) -> str:
    """王芳之子, 王芳之大女, 刘伟之女(when the father is asked), 王芳婴."""
    parent = person.mother if rng.random() < 0.92 or person.father is None else person.father
    base = parent.name if parent is not None else (person.surname or person.name)
    boy = person.sex == 1
    if person.birth_order:
        first = person.birth_order == 1
        words = ("大" if first else "小", "大" if first else "二", "长" if first else "次")
        return f"{base}之{rng.choice(words)}{'子' if boy else '女'}"
    roll = rng.random()
    if roll < 0.86:
        return f"{base}之{'子' if boy else '女'}"
    if roll < 0.92:
        return f"{base}之婴"
    if roll < 0.96:
        return f"{base}{'儿子' if boy else '女儿'}"
    return f"{base}之{'男' if boy else '女'}婴"


def _elder(person: Human, family: list[Human]) -> Human | None:
    """Whose number a child is registered with: the mother's mostly, else any grown person of the home."""
    for parent in (person.mother, person.father):
        if parent is not None:
            return parent
    return next((p for p in family if person.born - p.born > 6570), None)


def _closest(person: Human, family: list[Human]) -> list[Human]:
    """Relatives whose phone is given first."""
    out = [
        p for p in (person.spouse, person.mother, person.father, *(person.children or ())) if p is not None
    ]
    return out + [p for p in family if p is not person]


def _relative(person: Human, family: list[Human], rng: Random) -> Human | None:
    """A relative whose card is borrowed: of the same sex and like age rather than not."""
    near = [p for p in _closest(person, family) if p is not person]
    if not near:
        return None
    alike = [p for p in near if p.sex == person.sex]
    return rng.choice(alike if alike and rng.random() < 0.6 else near)
