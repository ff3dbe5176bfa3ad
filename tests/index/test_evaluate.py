"""Figures of an evaluation, and the reading of other people's files."""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from lianxin.config.index_cli import index
from lianxin.index import kit
from lianxin.index.kit import evaluate, measure

PEOPLE = ["a", "a", "a", "b", "b", "c", ""]


def test_figures_of_a_known_clustering() -> None:
    found = [1, 1, 2, 2, 2, 3, 9]
    figures = measure.clusters(PEOPLE, found)
    assert (figures["true_pairs"], figures["linked_pairs"], figures["right_pairs"]) == (4, 4, 2)
    assert figures["precision"] == figures["recall"] == 0.5
    assert (figures["mixed"], figures["mixed_people"], figures["records"]) == (1, 2, 6)
    assert figures["exact"]["recall"] == pytest.approx(1 / 3)
    assert figures["bcubed"]["precision"] == pytest.approx((1 + 1 + 1 / 3 + 2 / 3 + 2 / 3 + 1) / 6)


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 4)), min_size=1, max_size=14))
def test_pair_figures_are_what_counting_pairs_gives(rows: list[tuple[str, int]]) -> None:
    people, found = [p for p, _ in rows], [c for _, c in rows]
    pairs = list(itertools.combinations(range(len(rows)), 2))
    linked = {p for p in pairs if found[p[0]] == found[p[1]]}
    true = {p for p in pairs if people[p[0]] == people[p[1]]}
    figures = measure.clusters(people, found)
    assert figures["precision"] == (len(linked & true) / len(linked) if linked else 1.0)
    assert figures["recall"] == (len(linked & true) / len(true) if true else 1.0)
    assert figures["mixed"] == sum(len({p for p, c in rows if c == n}) > 1 for n in set(found))


def test_reviews_true_ones_and_recall_after_them() -> None:
    found = [1, 1, 2, 3, 3, 4, 9]
    told = measure.reviews(PEOPLE, found, [(1, 2), (2, 1), (3, 4), (1, 1)])
    assert (told["opened"], told["true"]) == (2, 1)
    assert told["recall_after"] == 1.0
    causes = measure.by_cause(PEOPLE, ["", "", "typo", "", "", "", ""], found, [(1, 2)])
    assert causes["typo"] == {"pairs": 2, "linked": 0, "missed": 2, "in_review": 2, "strangers": 0}
    assert causes["none"]["linked"] == 2


def test_ranking_takes_pairs_of_equal_score_together() -> None:
    scores, right = np.array([9.0, 8.0, 8.0, 7.0]), np.array([True, True, False, True])
    told = measure.ranking(scores, right, 4)
    assert told["recall"] == 0.25
    assert told["threshold"] == 9.0
    assert measure.ranking(scores, right, 4, precision=0.6)["recall"] == 0.75
    assert measure.ranking(np.array([]), np.array([]), 4)["recall"] == 0.0


def test_orders_differ_only_in_pairs_linked_once() -> None:
    assert measure.differing([1, 1, 2, 3], [5, 5, 6, 7]) == 0.0
    assert measure.differing([1, 1, 2, 2], [1, 1, 2, 3]) == 0.5
    assert measure.differing([1, 2], [3, 4]) == 0.0


def test_a_generated_file_is_read_back_whole(tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        count = kit.write_csv(out, 200, 3, "tianhu")
    read = kit.read_csv(file)
    assert len(read) == count
    assert read.ignored == ["received_at", "household"] or set(read.ignored) <= {"received_at", "household"}
    assert all(read.people)
    assert any(";" in cause or cause for cause in read.causes)


FILES = {
    "chinese": (
        "记录号,人员编号,姓名,性别,出生日期,身份证号,联系电话,家庭住址,随便\n1,P1,买买提·艾力,男,1980年2月3日,,13912345678,某县某村,x\n",
        ("买买提·艾力", "male", dt.date(1980, 2, 3), "P1"),
    ),
    "english": (
        "PatientID;Cluster;Full Name;Gender;DOB;Tel\n7;42;Wang Fang;F;02/03/1980;139\n",
        ("Wang Fang", "female", dt.date(1980, 2, 3), "42"),
    ),
    "febrl": (
        "rec_id, given_name, surname, street_number, address_1, address_2, suburb, postcode, state, date_of_birth, soc_sec_id\n"
        "rec-12-dup-0, ann, lee, 7, hill st, , perth, 6000, wa, 19560409, 1804974\n",
        ("ann lee", "unknown", dt.date(1956, 4, 9), "12"),
    ),
    "rldata": (
        "label_true,fname_c1,fname_c2,lname_c1,lname_c2,by,bm,bd\n3,FRANK,,MUELLER,,1967,9,27\n",
        ("FRANK MUELLER", "unknown", dt.date(1967, 9, 27), "3"),
    ),
    "pseudopeople": (
        "simulant_id,first_name,middle_initial,last_name,date_of_birth,sex,ssn,street_number,street_name\n0_2,Diana,P,Kofron,05/06/1994,Female,,5,145th st\n",
        ("Diana P Kofron", "female", dt.date(1994, 5, 6), "0_2"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
def test_other_peoples_files_are_understood(kind: str, encoding: str, tmp_path: Path) -> None:
    text, expected = FILES[kind]
    file = tmp_path / "f.csv"
    file.write_bytes(text.encode(encoding))
    read = kit.read_csv(file)
    reg = read.registrations[0]
    assert (reg.name, reg.sex, reg.birth_date, read.people[0]) == expected


def test_a_date_that_is_none_is_kept_as_typed_and_a_mapping_wins(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("xm,birth_date,grp\n张三,1980-02-30,9\n", "utf-8")
    with pytest.raises(kit.UnreadableFile, match="--map name="):
        kit.read_csv(file)
    read = kit.read_csv(file, {"name": "xm", "person": "grp"})
    assert (read.registrations[0].birth_date, read.registrations[0].birth_text) == (None, "1980-02-30")
    assert read.people == ["9"]
    with pytest.raises(kit.UnreadableFile, match="no such column: nothing"):
        kit.read_csv(file, {"name": "nothing"})
    with pytest.raises(kit.UnreadableFile, match="no such field: surnameX"):
        kit.read_csv(file, {"surnameX": "xm"})


def test_the_commands_generate_and_evaluate(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    run = CliRunner().invoke(index, ["generate", "--people", "400", "--seed", "5", "--out", str(file)])
    assert run.exit_code == 0, run.output
    text = CliRunner().invoke(index, ["evaluate", str(file), "--orders", "1", "--pairs"])
    assert text.exit_code == 0, text.output
    assert "mixed" in text.output
    told = CliRunner().invoke(index, ["evaluate", str(file), "--engine", "batch", "--json"])
    report = json.loads(told.stdout)
    assert report["linkage"]["precision"] > 0.99
    assert report["linkage"]["recall"] > 0.9
    assert report["linkage"]["people"] == 400


def test_what_cannot_be_evaluated_is_told(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text("name\n张三\n", "utf-8")
    told = CliRunner().invoke(index, ["evaluate", str(file)])
    assert told.exit_code == 1
    assert "--map person=" in told.output
    file.write_bytes(b"\xff\xfe\x00")
    assert CliRunner().invoke(index, ["evaluate", str(file)]).exit_code == 1
    assert CliRunner().invoke(index, ["generate", "--county", "atlantis"]).exit_code == 1
    with pytest.raises(evaluate.CannotEvaluate, match="--engine memory"):
        evaluate.evaluate(kit.from_rows(["name", "person"], [["张三", "1"]]), engine="database", orders=1)
    with pytest.raises(evaluate.CannotEvaluate, match="no model file"):
        evaluate.choose_model(str(file), [])


@pytest.mark.django_db
def test_the_running_index_decides_as_the_one_in_memory_and_refuses_people_of_others() -> None:
    rows = io.StringIO()
    kit.write_csv(rows, 200, 12)
    header, *lines = list(csv.reader(rows.getvalue().splitlines()))
    in_memory = evaluate.evaluate(kit.from_rows(header, lines))
    in_database = evaluate.evaluate(kit.from_rows(header, lines), engine="database")
    for figure in ("linkage", "causes"):
        assert in_database[figure] == in_memory[figure]
    with pytest.raises(ValueError, match="already holds people"):
        evaluate.evaluate(kit.from_rows(header, lines), engine="database")


def test_orders_of_arrival_agree_on_a_quiet_file() -> None:
    rows = io.StringIO()
    kit.write_csv(rows, 150, 8)
    header, *lines = list(csv.reader(rows.getvalue().splitlines()))
    report = evaluate.evaluate(kit.from_rows(header, lines), orders=2)
    assert report["orders"]["differing_pairs"] < 0.05
    assert report["linkage"]["precision"] == 1.0
