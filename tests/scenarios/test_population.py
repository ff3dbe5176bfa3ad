"""The synthetic county: deterministic, plausible, and nobody twice."""

import datetime as dt
from collections import Counter
from random import Random

from lianxin.scenarios import population, tiantai, xining
from lianxin.standards import identifiers

DAY = dt.date(2026, 3, 2)


def people(count: int = 2000, seed: int = 7) -> list[population.Resident]:
    return list(population.generate(tiantai.villages(), count, seed, DAY))


def test_same_seed_same_people_other_seed_others() -> None:
    assert people(300) == people(300)
    assert [p.name for p in people(300)] != [p.name for p in people(300, seed=8)]


def test_identity_numbers_are_valid_unique_and_agree_with_the_person() -> None:
    drawn = people()
    assert len({p.id_no for p in drawn}) == len(drawn)
    for person in drawn:
        read = identifiers.resident_id(person.id_no)
        assert (read.birth_date, read.sex, read.division) == (person.birth_date, person.sex, tiantai.DIVISION)


def test_families_share_an_address_and_mostly_a_surname() -> None:
    households: dict[int, list[population.Resident]] = {}
    for person in people():
        households.setdefault(person.household, []).append(person)
    several = [h for h in households.values() if len(h) >= 3]
    assert several
    assert all(len({p.address for p in h}) == 1 for h in several)
    assert sum(Counter(p.name[0] for p in h).most_common(1)[0][1] >= 2 for h in several) / len(several) > 0.95


def test_chronic_diseases_grow_with_age() -> None:
    def share(low: int, high: int) -> float:
        group = [p for p in people(4000) if low <= (DAY - p.birth_date).days / 365.25 < high]
        return sum(any(c[0] == "I10" for c in p.conditions) for p in group) / len(group)

    assert share(18, 45) < share(45, 60) < share(60, 120)
    assert share(60, 120) > 0.35


def test_every_reference_of_a_residents_record_points_to_the_resident() -> None:
    for person in people(400):
        wanted = {"reference": f"Patient/{person.patient_id}"}
        for resource in population.clinical(person, Random(1), DAY):
            assert (resource.get("subject") or resource["patient"]) == wanted


def test_tiantai_has_the_institutions_of_the_document() -> None:
    plan = tiantai.blueprint(1)
    tiers = Counter(row["tier"] for row in plan.institutions)
    assert tiers["county"] == 2
    assert tiers["township"] == 15
    assert tiers["village"] >= 60
    codes = {row["code"] for row in plan.institutions}
    assert all(row["parent"] in codes for row in plan.institutions if row["tier"] == "village")
    assert all(v.clinic in codes and v.centre in codes for v in tiantai.villages())


def test_xining_has_the_third_branch() -> None:
    plan = xining.blueprint(1)
    assert plan.roles[xining.TCM] == "branch"
    assert plan.lead == xining.HEAD
