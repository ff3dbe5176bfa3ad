"""Search against the slow oracle: the official expressions, thousands of questions, no difference.

A few hundred are asked of resources made here. With the shared data folder the Synthea people are loaded and asked about:
``LIANXIN_DIFFERENTIAL`` says how many questions (default 150 about 8 bundles; with a number, that many about all of them).
"""

import json
import os
import random
import zipfile
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from lianxin.access.scope import Scope
from lianxin.exchange import load
from lianxin.network.models import Institution
from lianxin.record import rows, search, store
from lianxin.record.query import order
from tests.record.asker import Asker, Pair
from tests.record.oracle import Oracle, published

pytestmark = pytest.mark.django_db
SYSTEM = Scope.system("test")
WANTED = int(os.environ.get("LIANXIN_DIFFERENTIAL", "0"))


def found(cur, rtype: str, pairs: list[Pair], size: int = 1000) -> list[str]:
    """Ids of all pages, in order."""
    ids, cursor = [], None
    while True:
        more = [("_cursor", cursor)] if cursor else []
        page = search.search(cur, SYSTEM, rtype, [*pairs, ("_count", str(size)), *more], strict=True)
        ids += [e.id for e in page.entries]
        cursor = page.next
        if not cursor:
            return ids


def compare(cur, oracle: Oracle, asker: Asker, questions: int) -> None:
    """Ask both; sometimes sorted, in small pages."""
    done = 0
    while done < questions:
        rtype = asker.dice.choice(sorted(oracle.by_type))
        pairs = asker.question(rtype)
        if not pairs:
            continue
        done += 1
        wanted = oracle.search(rtype, pairs)
        sort = asker.dice.choice([None, *asker.known[rtype], "_lastUpdated"])
        if sort is None or order.key(rtype, sort) is None or len(wanted) > 400:
            assert set(found(cur, rtype, pairs)) == wanted, (rtype, pairs)
            continue
        down = asker.dice.random() < 0.5
        ids = found(
            cur, rtype, [*pairs, ("_sort", f"{'-' if down else ''}{sort}")], asker.dice.choice([7, 50, 1000])
        )
        assert len(ids) == len(set(ids)), (rtype, pairs, sort)
        assert set(ids) == wanted, (rtype, pairs)
        keys = [oracle.sort_value(oracle.by_name[f"{rtype}/{i}"], sort, down) for i in ids]
        valued = [k for k in keys if k is not None]
        assert keys[len(valued) :] == [None] * (len(keys) - len(valued)), (rtype, pairs, sort)
        assert valued == sorted(valued, reverse=down), (rtype, pairs, sort, down)


def stored(cur) -> list[dict]:
    """Everything the record has now."""
    cur.execute("SELECT rtype, body FROM record_resource WHERE NOT deleted")
    return [json.loads(store.opened(rtype, body)) for rtype, body in cur.fetchall()]


# ------------------------------------------------------------------------------------------------------ generated

SYSTEMS = ["urn:s1", "urn:s2"]
WORDS = ["收缩压", "Heart rate", "Müller, A|B", "höhe $x", "a\\b", "心率 每分钟"]
TIMES = [
    "2024",
    "2024-05",
    "2024-05-01",
    "2024-05-01T08:00:00+08:00",
    "2023-12-31T23:59:59.5+08:00",
    "2024-04-30T16:00:00Z",
    "2024-02-29",
]
NUMBERS = [5, 5.4, 5.45, 100, 99.5, -3, 0.001, 0]
UNITS = ["mg", "g", "kg", "mmol/L", "cm"]


class Maker:
    """Resources of many shapes, from one seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.made: list[dict] = []

    def some(self, chance: float = 0.6) -> bool:
        return self.dice.random() < chance

    def coding(self) -> dict:
        one = {"code": self.dice.choice("abcd")}
        return {
            **one,
            **({"system": self.dice.choice(SYSTEMS)} if self.some(0.7) else {}),
            **({"display": self.dice.choice(WORDS)} if self.some() else {}),
        }

    def concept(self) -> dict:
        return {
            "coding": [self.coding() for _ in range(self.dice.choice([1, 1, 2]))],
            **({"text": self.dice.choice(WORDS)} if self.some(0.4) else {}),
        }

    def quantity(self) -> dict:
        unit = self.dice.choice(UNITS)
        return {
            "value": self.dice.choice(NUMBERS),
            **(
                {"unit": unit, "code": unit, "system": "http://unitsofmeasure.org"}
                if self.some(0.8)
                else {"unit": "片"}
                if self.some()
                else {}
            ),
            **({"comparator": self.dice.choice(["<", ">="])} if self.some(0.15) else {}),
        }

    def period(self) -> dict:
        start, end = sorted(self.dice.sample(["2023-11", "2024-04-01", "2024-06", "2025-01-01T10:00:00Z"], 2))
        return {
            **({"start": start} if self.some(0.8) else {}),
            **({"end": end} if self.some(0.7) else {"start": start}),
        }

    def identifier(self) -> dict:
        return {
            "value": f"n|{self.dice.randrange(6)}",
            **({"system": self.dice.choice(SYSTEMS)} if self.some() else {}),
            **({"type": self.concept()} if self.some(0.3) else {}),
        }

    def one_of(self, kind: str) -> dict:
        return {
            "reference": self.dice.choice(
                [f"{r['resourceType']}/{r['id']}" for r in self.made if r["resourceType"] == kind]
            )
        }

    def add(self, kind: str, **members: object) -> None:
        number = sum(r["resourceType"] == kind for r in self.made)
        meta = {
            "tag": [self.coding()],
            **({"profile": [f"http://x.cn/p/{self.dice.randrange(3)}|1"]} if self.some(0.3) else {}),
            **({"source": f"http://x.cn/s#{self.dice.randrange(3)}"} if self.some(0.3) else {}),
        }
        self.made.append(
            {
                "resourceType": kind,
                "id": f"{kind[:2].lower()}{number}",
                "meta": meta,
                **{k: v for k, v in members.items() if v not in (None, [], {})},
            }
        )

    def all(self) -> list[dict]:
        dice = self.dice
        for i in range(6):
            self.add("Organization", name=dice.choice(WORDS), active=self.some(), identifier=[self.identifier()], partOf=self.one_of("Organization") if i and self.some() else None,
                     type=[self.concept()], address=[{"city": "台州", "line": ["Zürich 5"], "postalCode": "318000"}] if self.some() else [])  # fmt: skip
            self.add("Practitioner", name=[{"family": dice.choice(["单", "仇", "O'Neil"]), "given": [dice.choice(["雄信", "英"])]}], identifier=[self.identifier()],
                     telecom=[{"system": dice.choice(["phone", "email"]), "value": f"1{i}"}])  # fmt: skip
        for i in range(14):
            self.add("Patient", name=[{"family": dice.choice(["Müller", "muller", "Mull", "单"]), "given": ["雄信", "Jo"][: dice.randrange(3)]}], gender=dice.choice(["male", "female"]),
                     birthDate=f"19{50 + i}-0{1 + i % 9}-01", identifier=[self.identifier()], telecom=[{"system": "phone", "value": f"555-{i % 4}"}] if self.some() else [],
                     **dice.choice([{}, {"deceasedBoolean": False}, {"deceasedBoolean": True}, {"deceasedDateTime": "2024-05"}]),
                     generalPractitioner=[self.one_of("Practitioner")] if self.some() else [], managingOrganization=self.one_of("Organization") if self.some() else None)  # fmt: skip
        for _ in range(25):
            self.add("Encounter", status=dice.choice(["finished", "planned"]), subject=self.one_of("Patient"), period=self.period() if self.some(0.8) else None, type=[self.concept()],
                     serviceProvider=self.one_of("Organization") if self.some() else None, participant=[{"individual": self.one_of("Practitioner")}] if self.some() else [],
                     length={"value": dice.choice(NUMBERS), "unit": "min", "code": "min", "system": "http://unitsofmeasure.org"} if self.some() else None, **{"class": self.coding()})  # fmt: skip
        for i in range(90):
            value = dice.choice([{"valueQuantity": self.quantity()}, {"valueQuantity": self.quantity()}, {"valueCodeableConcept": self.concept()}, {"valueString": dice.choice(WORDS)},
                                 {"valueDateTime": dice.choice(TIMES)}, {"valuePeriod": self.period()}, {}])  # fmt: skip
            when = dice.choice(
                [
                    {"effectiveDateTime": dice.choice(TIMES)},
                    {"effectivePeriod": self.period()},
                    {"effectiveTiming": {"event": dice.sample(TIMES, 2)}},
                    {},
                ]
            )
            parts = [
                {
                    "code": self.concept(),
                    **dice.choice(
                        [{"valueQuantity": self.quantity()}, {"valueCodeableConcept": self.concept()}, {}]
                    ),
                }
                for _ in range(dice.choice([0, 0, 2, 3]))
            ]
            self.add("Observation", status=dice.choice(["final", "amended"]), code=self.concept(), subject=self.one_of("Patient"), encounter=self.one_of("Encounter") if self.some() else None,
                     hasMember=[self.one_of("Observation")] if i and self.some(0.3) else [], component=parts, category=[self.concept()] if self.some() else [],
                     performer=[self.one_of(dice.choice(["Practitioner", "Organization"])), {"identifier": self.identifier()}][: dice.randrange(3)], **value, **when)  # fmt: skip
        for i in range(20):
            self.add("Condition", code=self.concept(), subject=self.one_of("Patient"), clinicalStatus=self.concept(), onsetDateTime=dice.choice(TIMES) if self.some() else None,
                     abatementPeriod=self.period() if self.some() else None, recordedDate=dice.choice(TIMES) if self.some() else None)  # fmt: skip
            self.add("DocumentReference", status="current", subject=self.one_of("Patient"), content=[{"attachment": {"url": "x"}}], identifier=[self.identifier()],
                     relatesTo=[{"code": dice.choice(["replaces", "appends"]), "target": self.one_of("DocumentReference")} for _ in range(dice.randrange(3))] if i else [])  # fmt: skip
            self.add("ValueSet", status="active", url=dice.choice(["http://x.cn/fhir/vs/", "http://x.cn/fhir/", "urn:v:"]) + str(i), version="1" if self.some() else None, name=dice.choice(WORDS),
                     useContext=[{"code": self.coding(), **dice.choice([{"valueQuantity": self.quantity()}, {"valueCodeableConcept": self.concept()}, {"valueRange": {"low": {"value": 1, "unit": "a"}}}])}
                                 for _ in range(dice.randrange(3))])  # fmt: skip
            self.add(
                "RiskAssessment",
                status="final",
                subject=self.one_of("Patient"),
                prediction=[
                    {"probabilityDecimal": dice.choice([0.1, 0.25, 0.5])} for _ in range(dice.randrange(3))
                ],
            )
        return self.made


@pytest.mark.parametrize("seed", [1, 2])
def test_generated_resources(seed):
    institution = Institution.objects.create(code="OR", name="丁医院", kind="hospital", tier="county")
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        writes = [
            store.Write("update", r["resourceType"], r["id"], r, trusted=True) for r in Maker(seed).all()
        ]
        store.apply(cur, SYSTEM, writes, source_institution_id=institution.pk)
        oracle = Oracle(stored(cur))
        compare(cur, oracle, Asker(oracle, seed), 250)


@pytest.mark.shared
@pytest.mark.skipif(not settings.SHARED.exists(), reason="the shared data folder is not here")
def test_the_synthea_people(tmp_path: Path):
    Institution.objects.create(code="SY", name="丁医院", kind="hospital", tier="county")
    whole = settings.SHARED / "data" / "fhir" / "synthea-100-bundles.zip"
    part = tmp_path / "part.zip"
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(part, "w") as kept:
        people = [n for n in given.namelist() if "Information" not in n and n.endswith(".json")]
        for name in given.namelist():
            if name not in people[8:]:
                kept.writestr(name, given.read(name))
    report = load.load([whole if WANTED else part], institution="SY")
    assert report.refused == 0
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        cur.execute("ANALYZE record_resource")
        oracle = Oracle(stored(cur), published(settings.SHARED / "data" / "fhir" / "r4-definitions.zip"))
        compare(cur, oracle, Asker(oracle, 1), WANTED or 150)
