"""Nothing is lost: documents of every kind through FHIR and back, resources through documents and back."""

from __future__ import annotations

import json

import pytest

from lianxin.exchange.cda import mapping, reading, writing
from lianxin.exchange.cda.elements import BY_KIND
from lianxin.exchange.cda.kinds import KINDS
from lianxin.record import validate
from tests.exchange.cda_resources import DOCTOR, HOSPITAL, PATIENT, facts, made, resources
from tests.exchange.cda_samples import DIALECTS, Sample, said
from tests.exchange.cda_structure import problems

CONTEXT = mapping.Context("7", "Organization/o1")
TEN = (
    "500.1",
    "500.2",
    "500.4",
    "500.5",
    "500.6",
    "500.7",
    "500.32",
    "500.49",
    "500.53",
    "483.12",
    "483.13",
    "483.16",
    "483.18",
    "483.20",
)
STAY = made(
    "Encounter", 1, status="finished", period={"start": "2026-01-01T08:00:00+08:00", "end": "2026-01-04T08:00:00+08:00"},
    identifier=[{"system": "urn:oid:2.16.156.10011.1.12", "value": "ZY1"}],
    **{"class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"}},
)  # fmt: skip


def sound(found: list[dict]) -> None:
    """All are valid R4, each has an id of its own."""
    for one in found:
        validate.read(json.dumps(one).encode())
    ids = [one["id"] for one in found]
    assert len(set(ids)) == len(ids)


def test_the_tables_have_every_kind_and_element() -> None:
    assert sum(k.startswith("500.") for k in KINDS) == 53
    assert sum(k.startswith("483.") for k in KINDS) == 20
    assert sum(len(rows) for kind, rows in BY_KIND.items() if kind.startswith("500.")) == 1093
    assert {"483.1", "483.9", "483.12", "483.13", "483.16", "483.17", "483.18", "483.19", "483.20"} <= set(
        BY_KIND
    )


@pytest.mark.parametrize("number", BY_KIND)
def test_every_element_of_every_kind_comes_back(number: str) -> None:
    """CDA → FHIR → CDA, every element of the kind filled, as three vendors write it."""
    for n, dialect in enumerate(DIALECTS):
        sample = Sample(number, dialect)
        document = reading.read(sample.data)
        assert document.kind is KINDS[number]
        assert not sample.said - said(document), "read"
        mapped = mapping.resources(document, "Patient/p1", CONTEXT)
        if n == hash_of(number) % 3:
            sound(mapped.resources)
        written = writing.write(number, mapped.resources, document)
        assert problems(written) == []
        assert not sample.said - said(reading.read(written)), f"through FHIR, {dialect}"


def hash_of(number: str) -> int:
    """A number that is the same in every run."""
    return int(number.replace(".", ""))


@pytest.mark.parametrize("number", TEN)
def test_what_resources_say_comes_back(number: str) -> None:
    """FHIR → CDA → FHIR of resources that know nothing of data elements."""
    for seed in range(hash_of(number), hash_of(number) + 4):
        given = resources(seed)
        header = writing.header_of(
            PATIENT, author=DOCTOR, organization=HOSPITAL, encounter=STAY, time="2026-01-05T10:00:00+08:00"
        )
        written = writing.write(number, given, header)
        assert problems(written) == []
        document = reading.read(written)
        assert document.kind is KINDS[number]
        assert document.patient.resident_id == "11010519491231002X"
        found = mapping.resources(document, "Patient/p1", CONTEXT).resources
        sound(found)
        assert not facts(given) - facts(found)


def test_a_second_round_changes_nothing() -> None:
    for number in ("500.49", "483.12"):
        first = mapping.resources(
            reading.read(Sample(number, "nested").data), "Patient/p1", CONTEXT
        ).resources
        header = writing.header_of(PATIENT, time="2026-01-05T10:00:00+08:00")
        once = reading.read(writing.write(number, first, header))
        twice = mapping.resources(once, "Patient/p1", CONTEXT).resources
        assert said(once) == said(reading.read(writing.write(number, twice, header)))


def test_a_new_version_updates_what_the_old_one_made() -> None:
    data = Sample("500.2").data
    set_id = b'<setId root="1.2.156.1" extension="S1"/>'
    old = reading.read(data.replace(b"<setId/>", set_id))
    new = reading.read(data.replace(b"<setId/>", set_id).replace(b"-plain-", b"-plain-v2-"))
    assert str(old.id) != str(new.id)
    ids = [{r["id"] for r in mapping.resources(d, "Patient/p1", CONTEXT).resources} for d in (old, new)]
    assert ids[0] == ids[1]
    other = mapping.resources(old, "Patient/p1", mapping.Context("8")).resources
    assert not ids[0] & {r["id"] for r in other}, (
        "another hospital's document of the same number is another document"
    )
    keyed = mapping.resources(reading.read(data), "Patient/p1", mapping.Context("7", key=old.key)).resources
    assert {r["id"] for r in keyed} - ids[0] == set(), "the registry may know the lasting key"


def test_one_visit_is_one_encounter_whatever_its_documents() -> None:
    one, two = Sample("500.34"), Sample("500.49")
    number = b'extension="ZY'
    data = two.data.replace(number + str(two.n).encode(), number + str(one.n).encode())
    two_n = reading.read(data).patient.ids[0].extension
    first = reading.read(
        one.data.replace(reading.read(one.data).patient.ids[0].extension.encode(), two_n.encode())
    )
    shared = [mapping.resources(d, "Patient/p1", CONTEXT).shared for d in (first, reading.read(data))]
    assert shared[0] == shared[1]
    assert len(shared[0]) == 1
