"""The kit's tables: weighted draws, names, characters that sound or look alike. Read once from ``data/``; see its README."""

from __future__ import annotations

import csv
from bisect import bisect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Generic, TypeVar

import yaml

from lianxin.standards import pinyin

DATA = Path(__file__).parent / "data"
T = TypeVar("T")

NEAR_FOLDS = (
    ("zh", "z"), ("ch", "c"), ("sh", "s"), ("ang", "an"), ("eng", "en"), ("ing", "in"),
    ("l", "n"), ("h", "f"), ("r", "l"),
)  # fmt: skip
"""Sounds that a southern ear or keyboard does not keep apart: ``near`` groups syllables equal after one of these folds."""


class Picker(Generic[T]):
    """Draws values by weight; about a third of a microsecond a draw."""

    __slots__ = ("cum", "values")

    def __init__(self, pairs: Iterable[tuple[T, float]]) -> None:
        kept = [(value, weight) for value, weight in pairs if weight > 0]
        if not kept:
            raise ValueError("nothing to draw from")
        total = sum(weight for _, weight in kept)
        self.values = [value for value, _ in kept]
        self.cum = list(accumulate(weight / total for _, weight in kept))
        self.cum[-1] = 1.0

    def __call__(self, rng: Random) -> T:
        """One value."""
        return self.values[bisect(self.cum, rng.random())]


def ranked(text: str, flat: float, slope: float) -> list[tuple[str, float]]:
    """Characters in falling order of use, weighted 1 / (rank + flat) ** slope; a repeated one counts once."""
    chars = list(dict.fromkeys(text))
    return [(c, (rank + flat) ** -slope) for rank, c in enumerate(chars)]


@lru_cache(maxsize=32)
def load(name: str) -> Any:
    """A YAML file of the kit."""
    return yaml.load((DATA / name).read_text("utf-8"), yaml.CSafeLoader)


@lru_cache(maxsize=1)
def surnames() -> dict[str, float]:
    """Surname -> share per 100,000."""
    with (DATA / "surnames.csv").open(encoding="utf-8", newline="") as file:
        return {row["surname"]: float(row["per_100k"]) for row in csv.DictReader(file)}


@lru_cache(maxsize=1)
def characters() -> dict[str, tuple[float, float]]:
    """Given-name character -> (male, female) uses per million."""
    with (DATA / "characters.csv").open(encoding="utf-8", newline="") as file:
        return {row["character"]: (float(row["male"]), float(row["female"])) for row in csv.DictReader(file)}


class Cohort:
    """Given names of those born until a year, for one sex (index 1 male, 2 female)."""

    def __init__(self, row: Mapping[str, Any], sex: int, overall: list[tuple[str, float]]) -> None:
        book = load("given.yaml")
        flat, slope = book["flat"], book["slope"]
        own = row["male" if sex == 1 else "female"]
        self.until: int = row["until"]
        self.one: float = own["one"]
        self.whole_share: float = row["whole"]
        self.whole = Picker(
            (name, (rank + flat) ** -slope) for rank, name in enumerate(dict.fromkeys(own["whole"]))
        )
        self.first = Picker(_mixed(ranked(own["first"], flat, slope), overall, row["list"]))
        self.second = Picker(_mixed(ranked(own["second"], flat, slope), overall, row["list"]))

    def draw(self, rng: Random) -> str:
        """A given name of one or two characters."""
        roll = rng.random()
        if roll < self.one:
            return self.second(rng)
        if rng.random() < self.whole_share:
            return self.whole(rng)
        return self.first(rng) + self.second(rng)


def _mixed(
    head: list[tuple[str, float]], tail: list[tuple[str, float]], share: float
) -> list[tuple[str, float]]:
    head_sum, tail_sum = sum(w for _, w in head), sum(w for _, w in tail)
    out: dict[str, float] = {}
    for part, total, weight in ((head, head_sum, share), (tail, tail_sum, 1 - share)):
        for char, w in part:
            out[char] = out.get(char, 0.0) + weight * w / total
    return list(out.items())


@lru_cache(maxsize=1)
def cohorts() -> tuple[list[int], list[tuple[Cohort, Cohort]]]:
    """(last years, (male, female) cohort of each), oldest first."""
    rows = load("given.yaml")["cohorts"]
    overall = [[(c, w[i]) for c, w in characters().items() if w[i] > 0] for i in (0, 1)]
    made = [(Cohort(row, 1, overall[0]), Cohort(row, 2, overall[1])) for row in rows]
    return [row["until"] for row in rows], made


def cohort(year: int, sex: int) -> Cohort:
    """The cohort of a birth year."""
    until, made = cohorts()
    return made[bisect(until, year - 1)][sex - 1]


@lru_cache(maxsize=1)
def sounds() -> tuple[dict[str, Picker[str]], dict[str, Picker[str]]]:
    """(character -> others with its toneless reading, character -> others with a near reading), by how much they are used."""
    used = {c: m + f for c, (m, f) in characters().items()}
    for name, share in surnames().items():
        if len(name) == 1:
            used[name] = used.get(name, 0.0) + share * 2
    reading = {c: pinyin.full(c) for c in used}
    by_sound: dict[str, list[str]] = {}
    by_near: dict[str, list[str]] = {}
    for char, sound in reading.items():
        by_sound.setdefault(sound, []).append(char)
        for near in _nears(sound):
            by_near.setdefault(near, []).append(char)
    same, close = {}, {}
    for char, sound in reading.items():
        if others := [c for c in by_sound[sound] if c != char]:
            same[char] = Picker((c, used[c] ** 0.7 + 1) for c in others)
        near_chars = {c for near in _nears(sound) for c in by_near[near] if reading[c] != sound}
        if near_chars:
            close[char] = Picker((c, used[c] ** 0.7 + 1) for c in sorted(near_chars))
    return same, close


def _nears(sound: str) -> list[str]:
    """The sound as each single fold hears it, tagged by the fold, so that only one confusion happens at a time."""
    out = []
    for full, short in NEAR_FOLDS:
        if sound.startswith(full) and full in ("zh", "ch", "sh", "l", "h", "r"):
            out.append(f"{full}:{short}{sound[len(full) :]}")
        elif sound.startswith(short) and full in ("zh", "ch", "sh", "l", "h", "r"):
            out.append(f"{full}:{sound}")
        elif sound.endswith(full):
            out.append(f"{full}:{sound[: -len(full)]}{short}")
        elif sound.endswith(short) and full in ("ang", "eng", "ing"):
            out.append(f"{full}:{sound}")
    return out


@lru_cache(maxsize=1)
def looks() -> dict[str, str]:
    """Character -> the others of its look-alike groups."""
    out: dict[str, str] = {}
    for line in (DATA / "lookalike.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        for group in line.split():
            for char in group:
                others = "".join(c for c in group if c != char)
                if others:
                    out[char] = out.get(char, "") + others
    return out


@lru_cache(maxsize=1)
def traditional() -> dict[str, str]:
    """Character of names -> its traditional form, where that differs."""
    import opencc

    convert = opencc.OpenCC("s2t").convert
    known = {*characters(), *"".join(surnames())}
    return {c: t for c in sorted(known) if (t := convert(c)) != c and len(t) == 1}
