"""EM finds the weights that the data were made with; Western lists are linked without labels."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from lianxin.index.match import em, levels, western
from lianxin.index.match.levels import FIELDS, POSITION
from lianxin.index.match.model import starting


def test_em_recovers_what_simulated_pairs_were_made_with() -> None:
    truth = {
        "phone": {"exact": (0.7, 0.002), "edit": (0.05, 0.001)},
        "born": {"exact": (0.9, 0.004), "year": (0.06, 0.05)},
    }
    last = {"phone": "other", "born": "other"}
    rng = random.Random(3)

    def draw(same: bool) -> em.Pattern:
        vector = [0] * len(FIELDS)
        vector[POSITION["name"]] = levels.number(
            "name", "exact" if rng.random() < (0.95 if same else 0.01) else "other"
        )
        for field, rows in truth.items():
            roll, code = rng.random(), last[field]
            for name, chance in rows.items():
                if roll < chance[0 if same else 1]:
                    code = name
                    break
                roll -= chance[0 if same else 1]
            vector[POSITION[field]] = levels.number(field, code)
        rarity = 8 if vector[POSITION["name"]] == levels.number("name", "exact") else 0
        return (*vector, rarity, 0)

    near = Counter(draw(True) for _ in range(4_000)) + Counter(draw(False) for _ in range(60_000))
    far = Counter(draw(False) for _ in range(200_000))
    model = em.train(
        near, far, starting().for_people(3_000), pairs=4e6, version="t", record={"seed": 3}, leash=99.0
    )
    for field, rows in truth.items():
        for code, (m, u) in rows.items():
            learned = model.weights[field][levels.number(field, code)]
            assert learned == pytest.approx(math.log2(m / u), abs=0.9), (field, code)
    assert model.training["kind"] == "em"
    assert 3_500 < model.training["matches"] < 4_500
    again = em.train(
        near, far, starting().for_people(3_000), pairs=4e6, version="t", record={"seed": 3}, leash=99.0
    )
    assert again.weights == model.weights
    held = em.train(near, far, starting().for_people(3_000), pairs=4e6, version="t", record={})
    moved = [abs(a - b) for f in FIELDS for a, b in zip(held.weights[f], starting().weights[f], strict=True)]
    assert max(moved) <= 3.0
    assert held.weights["id"][levels.number("id", "own")] == 25.0, "what stands for a dependence stays"


def test_a_western_list_is_linked_without_labels() -> None:
    rng = random.Random(5)
    heads, tails = (
        ["an", "bel", "cor", "dar", "el", "fre", "gil", "har", "jo", "mar"],
        ["na", "bert", "nice", "wyn", "gar", "dith", "sey"],
    )
    forms, truth = [], set()
    for n in range(400):
        given, family = (
            rng.choice(heads) + rng.choice(tails),
            rng.choice(heads) + rng.choice(tails) + rng.choice(["son", "ley", "man"]),
        )
        told = {
            "born": f"{rng.randrange(1930, 2010)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}",
            "street": rng.choice(heads) + rng.choice(tails) + " street",
            "house": str(rng.randrange(1, 200)),
            "town": rng.choice(heads) + "ville",
            "area": str(rng.randrange(2000, 2100)),
            "number": str(rng.randrange(10**6, 10**7)),
        }
        forms.append(western.form_of_parts(western.Parts(given, family, **told)))
        if n % 2:
            told["number"] = told["number"][:-1] + "0"
            slip = {0: {"given": given[:-1]}, 1: {"family": ""}, 2: {"given": family, "family": given}}[n % 3]
            forms.append(
                western.form_of_parts(western.Parts(**{"given": given, "family": family, **told, **slip}))
            )
            truth.add((len(forms) - 2, len(forms) - 1))
    found = {(a, b) for a, b, _ in western.link(forms)}
    assert len(found & truth) >= 0.99 * len(truth)
    assert len(found - truth) <= 1
