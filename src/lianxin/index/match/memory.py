"""The index in one process without a database: the same keys, scores and policy, for tuning, evaluation and order tests."""

from __future__ import annotations

from collections.abc import Iterable

from lianxin.index.form import Form, pack
from lianxin.index.match.keys import keys_of
from lianxin.index.match.model import DEFAULT, POLICY, Model
from lianxin.index.match.policy import Candidate, Decision, decide


class MemoryIndex:
    """People by number, their forms and keys. ``reviews`` grows by (person, person, kind, bits); pairs may name joined people."""

    def __init__(self, model: Model = DEFAULT, crowd: int = POLICY["crowd"]) -> None:
        self.model = model
        self.crowd = crowd
        self.forms: dict[int, list[Form]] = {}
        self.reviews: list[tuple[int, int, str, float]] = []
        self._keys: dict[int, list[int]] = {}
        self._full: set[int] = set()
        self._into: dict[int, int] = {}
        self._next = 1

    def person(self, number: int) -> int:
        """The person that ``number`` is part of now."""
        while number in self._into:
            number = self._into[number]
        return number

    def candidates(self, keys: Iterable[int]) -> list[Candidate]:
        """People behind these keys; keys with a crowd behind them tell nothing."""
        found: set[int] = set()
        for key in keys:
            if key not in self._full:
                found.update(self._keys.get(key, ()))
        return [Candidate(p, self.forms[p], p) for p in sorted({self.person(number) for number in found})]

    def match(self, form: Form) -> Decision:
        """The decision on a form, without registering it."""
        return decide(form, self.candidates(keys_of(form)), self.model)

    def register(self, form: Form) -> int:
        """Register a form: the number of its person at this moment (:meth:`person` follows later joins)."""
        keys = keys_of(form)
        decision = decide(form, self.candidates(keys), self.model)
        target = decision.target
        if target is None:
            target = self._next
            self._next += 1
            self.forms[target] = []
        for gone in decision.joins:
            self._into[gone] = target
            self.forms[target] += self.forms.pop(gone)
        body = pack(form)
        if all(pack(known) != body for known in self.forms[target]):
            self.forms[target].append(form)
        for key in keys:
            people = self._keys.setdefault(key, [])
            if target not in people and key not in self._full:
                people.append(target)
                if len(people) > self.crowd:
                    self._full.add(key)
                    self._keys[key] = []
        self.reviews += [(target, other, kind, bits) for other, kind, bits, _ in decision.reviews]
        return target
