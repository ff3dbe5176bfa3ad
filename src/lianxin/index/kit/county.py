"""A synthetic county and its neighbours: towns, villages, estates, institutions with their habits; deterministic by seed."""

from __future__ import annotations

import csv
import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import lianxin.standards
from lianxin.index.kit import tables
from lianxin.index.kit.tables import Picker

ROADS = (
    "人民",
    "建设",
    "解放",
    "中山",
    "文化",
    "新华",
    "和平",
    "胜利",
    "光明",
    "迎宾",
    "工业",
    "滨河",
    "青年",
    "健康",
    "学府",
)
ESTATE_FIRST = (
    "锦绣",
    "阳光",
    "金色",
    "幸福",
    "翠湖",
    "碧桂",
    "丽景",
    "东方",
    "世纪",
    "御景",
    "书香",
    "和谐",
    "新城",
    "紫荆",
    "龙湖",
)
ESTATE_LAST = ("花园", "家园", "华庭", "小区", "新村", "名苑", "佳苑", "公寓", "新城", "府邸", "嘉园", "山庄")
KINDS = ("hospital", "centre", "station")


@dataclass(frozen=True)
class Institution:
    """Who registers. ``untidy`` multiplies error rates; ``style`` 0-5 is how its system writes addresses."""

    code: str
    kind: str
    untidy: float
    style: int
    phone: str
    doctor_id: str
    one_phone: bool = False
    doctors_number: bool = False


@dataclass(frozen=True)
class Town:
    """Town number ``index`` of all; ``place`` of those with its county."""

    index: int
    place: int
    county_name: str
    code: str
    name: str
    villages: tuple[str, ...]
    estates: tuple[tuple[str, str], ...]
    clans: tuple[Picker[str], ...]
    outside: Picker[str]
    people: int


class County:
    """Everything about where people live, for ``people`` people: one county, and neighbours when there are too many."""

    def __init__(self, name: str, people: int, seed: int, rates: dict[str, Any]) -> None:
        book = tables.load("counties.yaml")
        if name not in book["counties"]:
            raise ValueError(f"no county {name!r}: {', '.join(sorted(book['counties']))}")
        self.name = name
        self.set: dict[str, Any] = {**book["defaults"], **book["counties"][name]}
        self.seed = seed
        self.rates = rates
        self.since: dt.date = self.set["since"]
        self.as_of: dt.date = self.set["as_of"]
        self.province, self.city = self.set["province"], self.set["city"]
        shares = tables.surnames()
        tilt = self.set["surnames"]
        self.weights = {s: w * tilt.get(s, 1.0) for s, w in shares.items()}
        self.surname: Picker[str] = Picker(self.weights.items())
        self.minorities: dict[str, float] = self.set.get("minorities", {})
        self.towns = self._towns(people)
        self.institutions: dict[int, dict[str, list[Institution]]] = {}

    def _towns(self, people: int) -> list[Town]:
        size, per = self.set["town_people"], self.set["towns_per_county"]
        count = max(min(4, max(1, people // 400)), -(-people // size))
        groups = -(-count // per)
        out: list[Town] = []
        used: set[str] = set()
        codes = _other_codes(str(self.set["code"]))
        for index in range(count):
            group = index // per
            rng = Random(f"{self.seed}:{self.name}:town:{index}")
            names = self.set["names"]
            county_name = names[group % len(names)]
            if group >= len(names):
                county_name = f"{'东西南北新'[group // len(names) % 5]}{county_name}"
            code = str(int(self.set["code"]) + group)
            name = _town_name(self.set["towns"], rng, used)
            rural = [_village(self.set["villages"], rng) for _ in range(rng.randrange(9, 17))]
            estates = [
                (f"{rng.choice(ROADS)}{rng.choice(['路', '路', '街', '大道'])}",
                 rng.choice(ESTATE_FIRST) + rng.choice(ESTATE_LAST))
                for _ in range(rng.randrange(5, 12))
            ]  # fmt: skip
            villages = tuple(dict.fromkeys(rural))
            clans = tuple(self._clan(rng) for _ in villages)
            near = [c for c in codes if c[:2] == code[:2]][group::groups]
            far = codes[group::groups]
            share = self.set["near_share"]
            outside = Picker(
                [(c, share / len(near)) for c in near] + [(c, (1 - share) / len(far)) for c in far]
            )
            mine = people // count + (1 if index < people % count else 0)
            out.append(
                Town(
                    index,
                    index % per,
                    county_name,
                    code,
                    name,
                    villages,
                    tuple(dict.fromkeys(estates)),
                    clans,
                    outside,
                    mine,
                )
            )
        return out

    def _clan(self, rng: Random) -> Picker[str]:
        leading = {self.surname(rng): weight for weight in (0.55, 0.25, 0.12, 0.08)}
        return Picker(leading.items())

    def registrars(self, town: Town) -> dict[str, list[Institution]]:
        """Institutions that people of a town go to, by kind: the county's hospitals and centres, the town's own stations."""
        group = town.index - town.place
        if group not in self.institutions:
            self.institutions[group] = {
                kind: [self._institution(town.code, kind, n) for n in range(self.set["institutions"][kind])]
                for kind in KINDS
            }
        every = self.institutions[group]
        centres, stations = every["centre"], every["station"]
        return {
            "hospital": every["hospital"],
            "centre": [centres[town.place % len(centres)], centres[(town.place + 1) % len(centres)]],
            "station": [stations[(town.place * 3 + n) % len(stations)] for n in range(3)],
        }

    def _institution(self, code: str, kind: str, number: int) -> Institution:
        rng = Random(f"{self.seed}:{self.name}:{code}:{kind}:{number}")
        low, high = self.rates["untidiness"][kind]
        habits = self.rates["institutions"]
        born = dt.date(1965, 1, 1) + dt.timedelta(days=rng.randrange(12000))
        first = f"{code}{born:%Y%m%d}{rng.randrange(1000):03d}"
        return Institution(
            code=f"{code}-{kind[0]}{number:02d}",
            kind=kind,
            untidy=low * (high / low) ** rng.random(),
            style=rng.randrange(6),
            phone=f"0{rng.randrange(310, 999)}{rng.randrange(2_000_000, 8_999_999)}",
            doctor_id=first + check(first),
            one_phone=rng.random() < habits["one_phone"],
            doctors_number=rng.random() < habits["doctors_number"],
        )


_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CHECKS = "10X98765432"


def check(first17: str) -> str:
    """Check character of an identity number (GB 11643); the short form of ``standards.identifiers`` for digits known to be good."""
    total = 0
    for digit, weight in zip(first17, _WEIGHTS, strict=False):
        total += (ord(digit) - 48) * weight
    return _CHECKS[total % 11]


def _other_codes(own: str) -> list[str]:
    """Codes of real counties: whose identity numbers people bring from elsewhere."""
    path = Path(lianxin.standards.__file__).parent / "data" / "divisions.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row["code"] for row in csv.DictReader(file)]
    return [c for c in rows if not c.endswith("00") and c[:2] < "70" and c[:4] != own[:4]]


def _town_name(rule: dict[str, Any], rng: Random, used: set[str]) -> str:
    tails = rule.get("tail", ["镇", "镇", "乡", "街道"])
    for attempt in range(400):
        middle = rng.choice(rule["second"])
        extra = rng.choice(rule["first"]) if attempt > 40 else ""
        name = rng.choice(rule["first"]) + extra + middle
        if name not in used:
            used.add(name)
            return name + rng.choice(tails)
    raise ValueError("too many towns for the county's name table")


def _village(rule: dict[str, Any], rng: Random) -> str:
    return rng.choice(rule["first"]) + rng.choice(rule["second"]) + rng.choice(rule["suffix"])
