"""Splink 5 on DuckDB over a table of cleaned records: ``python splink_link.py TABLE.csv chinese|western OUT.npz``.

Comparisons are Splink's own library at its stock levels with term frequencies, trained without labels as its tutorial says: the
prior from two deterministic rules, u from random pairs, m by EM over several blocking rules.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import splink.comparison_level_library as cll
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

MAX_PAIRS = 2e6
CHINESE = {
    "comparisons": lambda: [
        cl.CustomComparison(
            output_column_name="name",
            comparison_levels=[
                cll.NullLevel("name"),
                cll.ExactMatchLevel("name", term_frequency_adjustments=True),
                cll.ExactMatchLevel("pinyin", term_frequency_adjustments=True),
                cll.LevenshteinLevel("name", 1),
                cll.ElseLevel(),
            ],
        ),
        cl.DateOfBirthComparison("born", input_is_string=True),
        cl.ExactMatch("sex"),
        cl.DamerauLevenshteinAtThresholds("id_no", [1, 2]),
        cl.DamerauLevenshteinAtThresholds("phone", [1]),
        cl.ExactMatch("card"),
        cl.CustomComparison(
            output_column_name="village",
            comparison_levels=[
                cll.NullLevel("village"),
                cll.And(cll.ExactMatchLevel("village"), cll.ExactMatchLevel("house")),
                cll.ExactMatchLevel("village", term_frequency_adjustments=True),
                cll.ExactMatchLevel("town"),
                cll.ElseLevel(),
            ],
        ),
    ],
    "blocks": lambda: [
        block_on("id_no"), block_on("card"), block_on("pinyin", "substr(born, 1, 4)"), block_on("pinyin", "substr(born, 6)"),
        block_on("pinyin", "town"), block_on("phone", "surname"), block_on("phone", "substr(born, 1, 4)"), block_on("born", "town"),
        block_on("substr(id_no, 7, 8)", "substr(id_no, 15, 3)"),
    ],
    "certain": lambda: [block_on("id_no", "name"), block_on("name", "born", "phone")],
    "train": lambda: [block_on("name", "sex"), block_on("born"), block_on("id_no")],
}  # fmt: skip
WESTERN = {
    "comparisons": lambda: [
        cl.ForenameSurnameComparison("given", "family", forename_surname_concat_col_name="fullname"),
        cl.DateOfBirthComparison("born", input_is_string=True),
        cl.DamerauLevenshteinAtThresholds("id_no", [1, 2]),
        cl.DamerauLevenshteinAtThresholds("address", [1, 3]).configure(term_frequency_adjustments=True),
        cl.DamerauLevenshteinAtThresholds("village", [2]).configure(term_frequency_adjustments=True),
        cl.DamerauLevenshteinAtThresholds("division", [2]).configure(term_frequency_adjustments=True),
        cl.ExactMatch("sex"),
    ],
    "blocks": lambda: [
        block_on("id_no"), block_on("born"), block_on("given", "family"), block_on("given", "division"), block_on("family", "division"),
        block_on("address"), block_on("family", "substr(born, 1, 4)"), block_on("given", "substr(born, 1, 4)"),
        block_on("family", "substr(born, 6)"), block_on("given", "substr(born, 6)"), block_on("village", "substr(family, 1, 3)"),
    ],
    "certain": lambda: [block_on("given", "born"), block_on("family", "born"), block_on("id_no", "given")],
    "train": lambda: [block_on("born"), block_on("given", "family"), block_on("id_no"), block_on("address")],
}  # fmt: skip


def main(table: Path, kind: str, out: Path) -> None:
    """Link the table; pairs with their match weight go to ``out``."""
    start = time.monotonic()
    rows = pd.read_csv(table, dtype=str, keep_default_na=False).replace("", None)
    rows["fullname"] = rows["given"].fillna("") + " " + rows["family"].fillna("")
    recipe = CHINESE if kind == "chinese" else WESTERN
    empty = [c for c in rows.columns if rows[c].isna().all()]
    comparisons = [c for c in recipe["comparisons"]() if not set(_columns(c)) & set(empty)]

    def usable(rules: list) -> list:
        return [r for r in rules if not any(f'"{c}"' in _sql(r) or f" {c} " in _sql(r) for c in empty)]

    two = rows["file"].notna().all()
    settings = SettingsCreator(
        link_type="link_only" if two else "dedupe_only",
        unique_id_column_name="rid",
        comparisons=comparisons,
        blocking_rules_to_generate_predictions=usable(recipe["blocks"]()),
        retain_intermediate_calculation_columns=False,
    )
    # Typed columns: one that is all missing would become a number and break the comparison.
    import pyarrow as pa

    api = DuckDBAPI()
    schema = pa.schema([(c, pa.string()) for c in rows.columns])
    lists = [part for _, part in rows.groupby("file")] if two else [rows]
    typed = [
        api.register(
            pa.Table.from_pandas(part, schema=schema, preserve_index=False), dataset_display_name=name
        )
        for part, name in zip(lists, "ab", strict=False)
    ]
    linker = Linker(typed, settings, log_level="ERROR")
    linker.training.estimate_probability_two_random_records_match(usable(recipe["certain"]()), recall=0.8)
    linker.training.estimate_u_using_random_sampling(max_pairs=MAX_PAIRS, seed=1)
    for rule in usable(recipe["train"]()):
        try:
            linker.training.estimate_parameters_using_expectation_maximisation(rule)
        except Exception as failure:  # a rule without enough pairs teaches nothing; Splink says so by many kinds of exceptions
            print(f"training over {_sql(rule)}: {failure}", file=sys.stderr)
    found = linker.inference.predict(threshold_match_weight=-10)
    pairs = found.as_pandas_dataframe()
    np.savez(
        out,
        left=pairs["rid_l"].astype(int).to_numpy(),
        right=pairs["rid_r"].astype(int).to_numpy(),
        score=pairs["match_weight"].to_numpy(dtype=float),
        seconds=time.monotonic() - start,
    )


def _columns(comparison: object) -> list[str]:
    made = comparison.get_comparison("duckdb")  # type: ignore[attr-defined]
    text = " ".join(level.sql_condition for level in made.comparison_levels)
    return [c for c in ("given", "family", "born", "id_no", "phone", "card", "address", "village", "division", "sex", "name", "town")
            if f'"{c}_l"' in text]  # fmt: skip


def _sql(rule: object) -> str:
    return rule.create_blocking_rule_dict("duckdb")["blocking_rule"].replace("l.", " ").replace("r.", " ")  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
