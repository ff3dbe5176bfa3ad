"""recordlinkage over a table of cleaned records: ``python recordlinkage_link.py TABLE.csv chinese|western OUT.npz``.

Its ECM classifier (Fellegi-Sunter weights by expectation maximisation, no labels) on its own string comparisons, as its manual shows.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import recordlinkage as rl

BLOCKS = {
    "chinese": [
        ["id_no"],
        ["card"],
        ["pinyin", "year"],
        ["pinyin", "town"],
        ["phone", "surname"],
        ["born", "town"],
        ["name", "day"],
    ],
    "western": [
        ["id_no"],
        ["born"],
        ["given", "family"],
        ["given", "division"],
        ["family", "division"],
        ["address"],
        ["family", "year"],
    ],
}


def main(table: Path, kind: str, out: Path) -> None:
    """Link the table; pairs with the classifier's probability go to ``out``."""
    start = time.monotonic()
    rows = pd.read_csv(table, dtype=str, keep_default_na=False).set_index("rid")
    rows["year"], rows["day"] = rows["born"].str[:4], rows["born"].str[5:]
    rows = rows.replace("", None)
    two, index = rows["file"].notna().all(), None
    for columns in BLOCKS[kind]:
        if rows[columns].isna().all().any():
            continue
        known = rows.dropna(subset=columns)
        lists = [part for _, part in known.groupby("file")] if two else [known]
        pairs = rl.index.Block(columns).index(*lists)
        index = pairs if index is None else index.union(pairs)
    compare = rl.Compare()
    if kind == "chinese":
        compare.exact("name", "name")
        compare.exact("pinyin", "pinyin")
        compare.string("village", "village", method="levenshtein", threshold=0.8)
        compare.exact("house", "house")
        compare.exact("card", "card")
        compare.exact("phone", "phone")
    else:
        for column in ("given", "family"):
            compare.string(column, column, method="jarowinkler", threshold=0.85)
        compare.string("address", "address", method="levenshtein", threshold=0.8)
        compare.string("village", "village", method="jarowinkler", threshold=0.9)
        compare.exact("division", "division")
    compare.string("id_no", "id_no", method="damerau_levenshtein", threshold=0.9)
    compare.string("born", "born", method="damerau_levenshtein", threshold=0.8)
    compare.exact("sex", "sex")
    features = compare.compute(index, rows)
    features = features.loc[:, features.nunique() > 1]
    classifier = rl.ECMClassifier()
    classifier.fit(features)
    chance = np.asarray(classifier.prob(features))
    left = features.index.get_level_values(0).astype(int).to_numpy()
    right = features.index.get_level_values(1).astype(int).to_numpy()
    np.savez(out, left=left, right=right, score=chance, seconds=time.monotonic() - start)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
