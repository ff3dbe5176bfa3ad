"""A model: how many bits every level is worth, how rare names are, and the thresholds; versioned data with its training record."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import blake2b
from importlib import resources
from typing import Any

import numpy as np
import yaml

from lianxin.index.form import LATIN, NAMED, Form
from lianxin.index.match.levels import FIELDS, LEVELS

POLICY: dict[str, Any] = yaml.load(
    (resources.files(__package__) / "policy.yaml").read_text("utf-8"), yaml.CSafeLoader
)
"""The thresholds of policy.yaml."""

TF_OF: dict[str, str] = {
    "name": "name", "pinyin": "pinyin", "given": "given", "surname": "surname", "place": "town", "area": "county",
}  # fmt: skip
"""Term-frequency table -> the attribute of a form that it counts."""

HAN_KINDS = frozenset({"name", "pinyin"})
"""Tables of whole names; the others count names and places in Latin letters only, which are compared part by part."""
FLOORS = {"name": 17.0, "pinyin": 16.0, "given": 9.0, "surname": 10.0, "place": 5.0, "area": 5.0}
"""Bits of a value where hardly any was counted."""
_CACHE = 200_000


EMPTY = np.array([], dtype=np.uint64)


def tf_hash(value: str) -> int:
    """Unsigned 64-bit digest under which a value stands in a term-frequency table."""
    return int.from_bytes(blake2b(value.encode(), digest_size=8).digest(), "big")


@dataclass(frozen=True)
class Frequencies:
    """-log2 of how often a value occurs: sorted digests and their bits; any other value is as rare as ``floor``."""

    hashes: np.ndarray
    values: np.ndarray
    floor: float

    @cached_property
    def _seen(self) -> dict[str, float]:
        return {}

    def bits(self, value: str) -> float:
        """Bits of two registrations having ``value`` in common."""
        found = self._seen.get(value)
        if found is None:
            if len(self._seen) > _CACHE:
                self._seen.clear()
            digest = np.uint64(tf_hash(value))
            at = int(self.hashes.searchsorted(digest))
            hit = at < len(self.hashes) and self.hashes[at] == digest
            found = self._seen[value] = float(self.values[at]) if hit else self.floor
        return found

    @staticmethod
    def count(counts: Mapping[str, int], total: int, least: int, floor: float = 16.0) -> Frequencies:
        """From counts of registrations; values seen less than ``least`` times share the floor of that many.

        ``floor``: what a value is worth where hardly any was counted.
        """
        if total < least * 2:
            return Frequencies(EMPTY, np.array([], dtype=np.float32), floor)
        kept = sorted((tf_hash(value), n) for value, n in counts.items() if n >= least)
        hashes = np.array([h for h, _ in kept], dtype=np.uint64)
        values = np.array([math.log2(total / n) for _, n in kept], dtype=np.float32)
        return Frequencies(hashes, values.round(2), round(math.log2(max(total, 2) / least), 2))


@dataclass(frozen=True)
class Model:
    """``weights[field][level]`` in bits; ``prior`` in bits; thresholds and the training record (where the weights come from)."""

    version: str
    weights: dict[str, tuple[float, ...]]
    prior: float
    tf: dict[str, Frequencies]
    auto: float = POLICY["auto"]
    review: float = POLICY["review"]
    join: float = POLICY["join"]
    training: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def rows(self) -> tuple[tuple[float, ...], ...]:
        """The weights in the order of ``FIELDS``."""
        return tuple(self.weights[name] for name in FIELDS)

    def tf_bits(self, kind: str, value: str) -> float:
        """-log2 of how often ``value`` occurs among ``kind`` (name, pinyin, given, surname, place, area)."""
        return self.tf[kind].bits(value)

    def lack(self, kind: str, a: str, b: str) -> float:
        """What the rarer of two values lacks of being rare (0 or less): two common names are two names, not a slip."""
        table = self.tf[kind]
        return min(0.0, max(table.bits(a), table.bits(b)) - table.floor)

    @property
    def people(self) -> int:
        """People of the catchment that the prior stands for."""
        return round(2.0**-self.prior)

    def for_people(self, people: int) -> Model:
        """The same model for a catchment of so many people."""
        return replace(self, prior=-math.log2(max(people, 2)))

    def with_frequencies(self, forms: Iterable[Form], least: int = 3) -> Model:
        """The same model with the term frequencies of these forms."""
        return replace(self, tf=frequencies(forms, least))

    def dump(self) -> bytes:
        """The model as JSON; :func:`load` reads it back."""
        body = {
            "version": self.version,
            "prior": self.prior,
            "thresholds": {"auto": self.auto, "review": self.review, "join": self.join},
            "weights": {
                name: {level.code: bits for level, bits in zip(LEVELS[name], row, strict=True)}
                for name, row in self.weights.items()
            },
            "training": self.training,
            "tf": {
                kind: {
                    "floor": table.floor,
                    "hashes": base64.b64encode(table.hashes.astype("<u8").tobytes()).decode(),
                    "bits": base64.b64encode((table.values * 100).round().astype("<u2").tobytes()).decode(),
                }
                for kind, table in self.tf.items()
            },
        }
        return json.dumps(body, ensure_ascii=False, indent=1).encode()


def frequencies(forms: Iterable[Form], least: int = 3) -> dict[str, Frequencies]:
    """Term-frequency tables of these forms; equal forms of one person should be given once."""
    counts: dict[str, dict[str, int]] = {kind: {} for kind in TF_OF}
    for form in forms:
        for kind, attribute in TF_OF.items():
            value = getattr(form, attribute)
            if value and (form.kind == NAMED if kind in HAN_KINDS else form.script == LATIN):
                counts[kind][value] = counts[kind].get(value, 0) + 1
    return {
        kind: Frequencies.count(table, sum(table.values()), least, FLOORS[kind])
        for kind, table in counts.items()
    }


def load(body: bytes) -> Model:
    """The model that :meth:`Model.dump` wrote. A level that it does not know keeps its starting weight."""
    data = json.loads(body)
    tf = {}
    for kind in TF_OF:
        table = data["tf"].get(kind)
        if table is None:
            tf[kind] = Frequencies(EMPTY, np.array([], dtype=np.float32), 16.0)
            continue
        hashes = np.frombuffer(base64.b64decode(table["hashes"]), dtype="<u8")
        values = np.frombuffer(base64.b64decode(table["bits"]), dtype="<u2").astype(np.float32) / 100
        tf[kind] = Frequencies(hashes, values, table["floor"])
    weights = {
        name: tuple(
            float(data["weights"].get(name, {}).get(level.code, level.bits)) for level in LEVELS[name]
        )
        for name in FIELDS
    }
    return Model(data["version"], weights, data["prior"], tf, **data["thresholds"], training=data["training"])


def starting() -> Model:
    """The model of the table's starting weights: what training begins with."""
    return Model(
        "start",
        {name: tuple(level.bits for level in LEVELS[name]) for name in FIELDS},
        -math.log2(POLICY["people"]),
        {kind: Frequencies(EMPTY, np.array([], dtype=np.float32), floor) for kind, floor in FLOORS.items()},
        training={"kind": "starting weights"},
    )


def _default() -> Model:
    shipped = resources.files(__package__) / "default_model.json"
    return load(shipped.read_bytes()) if shipped.is_file() else starting()


DEFAULT = _default()
"""The model that ships: trained without labels on generated registrations; its ``training`` tells on which."""
