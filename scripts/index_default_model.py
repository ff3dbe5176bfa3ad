"""Make the model that ships (src/lianxin/index/match/default_model.json): EM without labels on generated registrations.

Run it after a change of levels.yaml or of the kit's rates; the counties and seeds below are never used for measuring.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from lianxin.index import kit
from lianxin.index.form import form_of
from lianxin.index.kit.desk import COLUMNS
from lianxin.index.match import em
from lianxin.index.match.keys import keys_of
from lianxin.index.match.model import starting

COUNTIES = {"qinghe": 101, "yunshan": 102, "tianhu": 103, "gaoyuan": 104}
PEOPLE = 8_000
STRANGERS = 1_500_000
CROWD = 60
"""Forms behind a key beyond which its pairs are left out of the training."""
TARGET = Path(__file__).parents[1] / "src/lianxin/index/match/default_model.json"


def main() -> None:
    """Write the model; the training record says from what it was made."""
    start, pairs, far, counts, space = starting(), Counter(), Counter(), {}, 0.0
    lots = {}
    for county, seed in COUNTIES.items():
        rows = kit.registrations(PEOPLE, seed, county)
        lots[county] = [form_of(reg) for reg in kit.from_rows(list(COLUMNS), list(rows)).registrations]
        counts[county] = len(lots[county])
    model = start.with_frequencies(form for forms in lots.values() for form in forms)
    rng = random.Random(20260)
    for forms in lots.values():
        local = model.for_people(PEOPLE).with_frequencies(forms)
        blocks = defaultdict(list)
        for at, form in enumerate(forms):
            for key in keys_of(form):
                blocks[key].append(at)
        near = {pair for block in blocks.values() if len(block) <= CROWD for pair in combinations(block, 2)}
        pairs.update(em.count(((forms[a], forms[b]) for a, b in sorted(near)), local))
        size = len(forms)
        space += size * (size - 1) / 2
        drawn = ((rng.randrange(size), rng.randrange(size)) for _ in range(STRANGERS // len(lots)))
        far.update(em.count(((forms[a], forms[b]) for a, b in drawn if a != b), local))
    record = {
        "data": "generated",
        "counties": COUNTIES,
        "people": PEOPLE * len(COUNTIES),
        "registrations": counts,
        "pairs": sum(pairs.values()),
        "strangers": sum(far.values()),
    }
    begin = model.for_people(PEOPLE)
    made = em.train(pairs, far, begin, pairs=space, version="default-1", record=record)
    TARGET.write_bytes(replace(made, prior=start.prior).dump())
    print(f"{TARGET}: {made.training}")


if __name__ == "__main__":
    main()
