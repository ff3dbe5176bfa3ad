"""Lists in Latin letters: recognised by their columns, linked from these, one list or two. The people are made up."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from lianxin.config.index_cli import index
from lianxin.index import kit
from lianxin.index.kit import evaluate, latin
from lianxin.index.match import levels, western

HEADER = [
    "person",
    "file",
    "given",
    "surname",
    "street number",
    "street",
    "suburb",
    "postcode",
    "date of birth",
    "soc_sec_id",
]
HEADS = ["an", "bel", "cor", "dar", "el", "fre", "gil", "har", "jo", "mar"]
TAILS = ["na", "bert", "nice", "wyn", "gar", "dith", "sey"]


def made_up(people: int = 240) -> list[list[str]]:
    """Every second person twice, with a slip: the second list's rows stand before the first's."""
    rng = random.Random(11)
    first, second = [], []
    for n in range(people):
        born = f"{rng.randrange(1930, 2010)}{rng.randrange(1, 13):02d}{rng.randrange(1, 29):02d}"
        row = [str(n), "a", rng.choice(HEADS) + rng.choice(TAILS), rng.choice(HEADS) + rng.choice(TAILS) + rng.choice(["son", "ley"]),
               str(rng.randrange(1, 200)), rng.choice(HEADS) + rng.choice(TAILS) + " street", rng.choice(HEADS) + "ville",
               str(rng.randrange(2000, 2100)), born, str(rng.randrange(10**6, 10**7))]  # fmt: skip
        first.append(row)
        if n % 2:
            other = row.copy()
            other[1] = "b"
            place, value = {0: (8, born[:4] + "02" + "31"), 1: (2, ""), 2: (9, row[9][:-1] + "0")}[n % 3]
            other[place] = value
            second.append(other)
    return second + first


@pytest.mark.parametrize("files", [1, 2])
def test_a_list_in_latin_letters_is_recognised_and_linked_from_its_columns(files: int) -> None:
    rows = made_up()
    if files == 1:
        rows = [[*row[:1], "", *row[2:]] for row in rows]
    labelled = kit.from_rows(HEADER, rows)
    assert labelled.latin
    assert labelled.parts[-1].street.endswith(" street")
    assert any(p.born.endswith("0231") for p in labelled.parts)
    report = evaluate.evaluate(labelled, pairs=True, orders=1)
    assert (report["engine"], report["model"], report["file"]["lists"]) == ("western", "list", files)
    assert report["linkage"]["recall"] >= 0.98
    assert report["linkage"]["precision"] >= 0.98
    assert report["ranking"]["bits"]["reach"] == 1.0
    assert report["orders"]["differing_pairs"] < 0.05
    assert "western" in evaluate.text(report)


def test_between_two_lists_a_row_has_one_partner_of_the_other() -> None:
    rows = made_up(60)
    labelled = kit.from_rows(HEADER, [*rows, rows[-1]])
    first = latin.first_list(labelled)
    assert first == {at for at, row in enumerate(rows) if row[1] == "b"}
    found = latin.link(labelled).found
    for cluster in set(found):
        members = [at for at, c in enumerate(found) if c == cluster]
        assert len(members) <= 2
        assert len({at in first for at in members}) == len(members)


def test_a_lent_number_or_a_twins_birth_date_make_nobody_the_same_person() -> None:
    def seen(**told: str) -> dict[str, str]:
        one, two = (
            western.form_of_parts(western.Parts(given, "thornbury", street="mill road", house="7", **told))
            for given in ("margaret", "stephen")
        )
        vector = zip(levels.FIELDS, levels.compare(one, two), strict=True)
        return {field: levels.LEVELS[field][at].code for field, at in vector}

    assert seen(number="1234567")["id"] == "borrowed"
    assert seen(born="19800203")["born"] == "twins"
    both = seen(number="1234567", born="19800203")
    assert (both["given"], both["id"], both["born"]) == ("kin", "document", "exact")


def test_engines_by_name_and_what_cannot_be_done(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("\n".join(",".join(row) for row in [HEADER, *made_up(80)]), "utf-8")
    told = CliRunner().invoke(index, ["evaluate", str(file), "--json"])
    assert json.loads(told.stdout)["engine"] == "western"
    told = CliRunner().invoke(index, ["evaluate", str(file), "--engine", "memory", "--json"])
    assert json.loads(told.stdout)["engine"] == "memory"
    assert (
        CliRunner()
        .invoke(index, ["evaluate", str(file), "--engine", "western", "--model", "shipped"])
        .exit_code
        == 1
    )
    chinese = kit.from_rows(["person", "姓名"], [["1", "王芳"], ["1", "王芳"]])
    assert not chinese.latin
    assert evaluate.evaluate(chinese)["engine"] == "memory"
    with pytest.raises(evaluate.CannotEvaluate, match="--map given="):
        evaluate.evaluate(chinese, engine="western")
    assert not western.written(western.Parts("芳", "王"))
