"""The test kit is itself tested: an artefact of the generator would flatter or hurt every figure measured with it."""

from __future__ import annotations

import datetime as dt
import io
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lianxin.index import kit
from lianxin.index.kit import tables
from lianxin.index.kit.county import County
from lianxin.index.kit.desk import COLUMNS
from lianxin.index.kit.people import Human, settle
from lianxin.standards.identifiers import resident_id

COUNTIES = ("qinghe", "yunshan", "tianhu", "gaoyuan", "binjiang")
AT = {name: i for i, name in enumerate(COLUMNS)}


def town_of(county: str = "qinghe", people: int = 8000, seed: int = 3) -> tuple[County, list[Human]]:
    place = County(county, people, seed, kit.read_rates(None))
    out: list[Human] = []
    for town in place.towns:
        out += settle(place, town, len(out) + 1)
    return place, out


@pytest.fixture(scope="module")
def people() -> list[Human]:
    return town_of()[1]


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    return [[str(v) for v in row] for row in kit.registrations(6000, 4, "yunshan")]


def test_same_seed_same_file_and_another_seed_another() -> None:
    def made(seed: int) -> str:
        out = io.StringIO()
        kit.write_csv(out, 600, seed, "tianhu")
        return out.getvalue()

    assert made(1) == made(1)
    assert made(1) != made(2)


def test_order_of_arrival_is_the_same_through_files_as_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    straight, piecewise = io.StringIO(), io.StringIO()
    kit.write_csv(straight, 500, 9)
    monkeypatch.setattr("lianxin.index.kit.generate.IN_MEMORY", 0)
    kit.write_csv(piecewise, 500, 9)
    assert straight.getvalue() == piecewise.getvalue()
    stamps = [line.split(",")[AT["received_at"]] for line in straight.getvalue().splitlines()[1:]]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize("county", COUNTIES)
def test_identity_numbers_are_valid_and_unique_and_agree_with_their_holders(county: str) -> None:
    _, everybody = town_of(county, 2500)
    assert len({p.id_no for p in everybody}) == len(everybody)
    for person in everybody:
        read = resident_id(person.id_no)
        assert read.birth_date == person.birth_date
        assert read.sex == ("male" if person.sex == 1 else "female")


def test_ages_follow_the_pyramid_and_no_birth_date_is_crowded(people: list[Human]) -> None:
    as_of = tables.load("counties.yaml")["defaults"]["as_of"]
    pyramid = tables.load("counties.yaml")["defaults"]["pyramid"]
    whole = sum(map(sum, pyramid.values()))
    ages = Counter((p.sex, min(20, int((as_of - p.birth_date).days / 365.2425 / 5))) for p in people)
    for sex, key in ((1, "male"), (2, "female")):
        for band, weight in enumerate(pyramid[key]):
            expected = len(people) * weight / whole
            assert abs(ages[(sex, band)] - expected) < 6 * (expected + 1) ** 0.5 + 4
    assert max(Counter(p.born for p in people).values()) <= 6
    first = sum(p.birth_date.month == 1 and p.birth_date.day == 1 for p in people)
    assert first < len(people) / 365 * 2.5


def test_surnames_and_given_names_are_as_common_as_they_should_be() -> None:
    _, everybody = town_of("binjiang", 8000)
    surnames = Counter(p.surname for p in everybody)
    assert {s for s, _ in surnames.most_common(6)} >= {"王", "李", "张", "刘"}
    assert 0.05 < surnames["王"] / len(everybody) < 0.09
    assert sum(len(s) == 2 for s in surnames) >= 1
    assert len(surnames) > 250
    names = Counter(p.name for p in everybody)
    assert names.most_common(1)[0][1] < len(everybody) * 0.002, "no name is everybody's"
    one = [p for p in everybody if 1975 <= p.birth_date.year < 1990 and len(p.surname) == 1]
    old = [p for p in everybody if p.birth_date.year < 1950 and len(p.surname) == 1]
    young = [p for p in everybody if p.birth_date.year >= 2012 and len(p.surname) == 1]
    share = [sum(len(p.name) == 2 for p in group) / len(group) for group in (old, one, young)]
    assert share[1] > 2.5 * share[0]
    assert share[1] > 2.5 * share[2]
    assert {c for c, _ in Counter(c for p in old if p.sex == 2 for c in p.given).most_common(8)} & set(
        "秀英桂兰珍玉"
    )
    assert {c for c, _ in Counter(c for p in young for c in p.given).most_common(12)} & set("梓涵子宇欣轩")


def test_families_hang_together(people: list[Human]) -> None:
    for person in people:
        if person.mother is not None:
            assert 16 <= (person.born - person.mother.born) / 365.25 <= 47
            assert person.father is not None
            assert person.father.spouse is person.mother
        if person.spouse is not None:
            assert person.spouse.spouse is person
            assert person.spouse.sex != person.sex
            assert person.spouse.home is person.home
    fathers = [p for p in people if p.father is not None]
    assert sum(p.surname == p.father.surname for p in fathers if p.father) / len(fathers) > 0.9
    homes = Counter(id(p.home) for p in people)
    assert 2.0 < len(people) / len(homes) < 3.5
    twins = [p for p in people if p.birth_order]
    assert twins
    by_mother: dict[tuple[int, int], set[int]] = {}
    for twin in twins:
        by_mother.setdefault((id(twin.mother), twin.born), set()).add(twin.birth_order)
    assert all(orders == {1, 2} for orders in by_mother.values())


def test_minority_names_have_separators_where_the_people_has_them() -> None:
    _, everybody = town_of("tianhu", 3000)
    share = sum("·" in p.name for p in everybody) / len(everybody)
    assert 0.45 < share < 0.65
    assert not any("·" in p.name for p in town_of("qinghe", 800)[1])


def test_every_cause_of_the_rates_happens_and_changes_what_it_names(rows: list[list[str]]) -> None:
    causes = Counter(c for row in rows for c in row[AT["cause"]].split(";") if c)
    rates = tables.load("rates.yaml")
    often = [f"{field}_{cause}" for field in ("name", "id", "birth", "sex") for cause, rate in rates[field].items()
             if not isinstance(rate, dict) and rate >= 0.002]  # fmt: skip
    missing = [c for c in often if not causes[c] and c not in ("name_full_width",)]
    assert not missing
    assert causes["id_missing"] / len(rows) == pytest.approx(0.075, abs=0.03)
    for row in rows:
        named = set(row[AT["cause"]].split(";"))
        if "id_missing" in named:
            assert not row[AT["id_number"]]
        if "name_placeholder" in named:
            assert row[AT["name"]] in (
                "无名氏",
                "未知",
                "急诊患者",
                "不详",
                "无名",
                "患者",
                "路人",
                "无名男",
                "无名女",
                "未知名",
                "测试",
                "待查",
                "无",
            )
        if "birth_missing" in named:
            assert not row[AT["birth_date"]] or "birth_of_guardian" in named or "future" in named
        if "address_missing" in named:
            assert not row[AT["address"]]


def test_without_causes_the_registration_is_the_truth() -> None:
    rates = kit.read_rates(None)
    calm = {**rates, "other": dict.fromkeys(rates["other"], 0.0), "newborn_name": 0.0, "guardian_birth": 0.0}
    for group in ("name", "minority_name", "id", "birth", "sex", "phone", "address", "card"):
        calm[group] = dict.fromkeys(rates[group], 0.0)
    calm["life"] = {
        **rates["life"],
        "phone_changed": 0.0,
        "moved": 0.0,
        "card_changed": 0.0,
        "renamed": {},
        "died": {},
    }
    made = list(kit.registrations(500, 1, rates=calm))
    assert {row[AT["cause"]] for row in made} <= {"", "phone_missing"}
    told: dict[int, set[tuple[str, ...]]] = {}
    for row in made:
        told.setdefault(row[AT["person"]], set()).add(
            tuple(row[AT[c]] for c in ("name", "sex", "birth_date", "id_number"))
        )
    assert all(len(ways) == 1 for ways in told.values())


def test_rates_are_data_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "rates.yaml"
    file.write_text(yaml.safe_dump({"id": {"missing": 1.0}}), "utf-8")
    made = list(kit.registrations(300, 1, rates=kit.read_rates(file)))
    assert sum(not row[AT["id_number"]] for row in made) > 0.5 * len(made)
    file.write_text(yaml.safe_dump({"id": {"forgotten": 1.0}}), "utf-8")
    with pytest.raises(ValueError, match="forgotten"):
        kit.read_rates(file)
    file.write_text("- 1", "utf-8")
    with pytest.raises(ValueError, match="map"):
        kit.read_rates(file)
    assert kit.read_rates("other") != kit.read_rates(None)
    with pytest.raises(ValueError, match="no county"):
        list(kit.registrations(10, 1, "atlantis"))


def test_registrations_a_person_and_local_numbers(rows: list[list[str]]) -> None:
    assert 1.85 < len(rows) / 6000 < 2.2
    locals_ = Counter((r[AT["institution"]], r[AT["system"]], r[AT["local_id"]]) for r in rows)
    assert max(locals_.values()) == 1
    days = [dt.date.fromisoformat(r[AT["received_at"]][:10]) for r in rows if "future" not in r[AT["cause"]]]
    assert max(days) <= tables.load("counties.yaml")["defaults"]["as_of"]
