"""PIXm: ITI-104 (feed) and ITI-83 (query) over the wire, who may ask what, and every refusal the profile names."""

import random
from urllib.parse import quote

import pytest

from lianxin.access import connections, journal
from lianxin.access.models import AuditEvent, Relationship
from lianxin.access.scope import Scope
from lianxin.exchange.ihe import domains, identifiers
from lianxin.index.models import Person, ReviewItem, SourceRecord
from lianxin.index.registry import Registration, register
from tests.exchange.client import Client, patient
from tests.factories import make_consortium, make_institution, make_resident_id

pytestmark = pytest.mark.django_db(transaction=True)

RED, GREEN = "urn:oid:2.999.1.1", "urn:oid:2.999.1.2"


@pytest.fixture
def world(db):
    a, b, out = (make_institution(code, "township") for code in ("PIX-A", "PIX-B", "PIX-OUT"))
    make_consortium(a, [b])
    make_consortium(out, [make_institution("PIX-X", "township")])
    yield {"a": a, "b": b, "out": out}
    connections.close()


@pytest.fixture
def a(world):
    return Client("pix-a", "PIX-A")


@pytest.fixture
def b(world):
    return Client("pix-b", "PIX-B")


def put(client, system, value, **more):
    body = patient(identifier=[{"system": system, "value": value}], **more)
    return client("PUT", f"Patient?identifier={quote(f'{system}|{value}')}", body)


def fed(client, system, value, **more):
    reply = put(client, system, value, **more)
    assert reply.status in (200, 201), reply.raw.decode()
    return reply.json["id"]


def pix(client, system, value, *targets, extra=""):
    query = f"sourceIdentifier={quote(f'{system}|{value}')}" + "".join(
        f"&targetSystem={quote(t)}" for t in targets
    )
    return client("GET", f"Patient/$ihe-pix?{query}{extra}")


def told(reply):
    assert reply.status == 200, reply.raw.decode()
    parameters = reply.json.get("parameter", [])
    pairs = {
        (p["valueIdentifier"]["system"], p["valueIdentifier"]["value"])
        for p in parameters
        if p["name"] == "targetIdentifier"
    }
    return pairs, {p["valueReference"]["reference"] for p in parameters if p["name"] == "targetId"}


@pytest.fixture
def linked(world, a, b):
    """One person at two institutions of a consortium."""
    number = make_resident_id()
    official = [{"use": "official", "system": identifiers.RESIDENT_ID_SYSTEM, "value": number}]
    ids = []
    for client, system, value in ((a, RED, "A1"), (b, GREEN, "B1")):
        body = patient("欧阳明月", "1969-05-17", identifier=[{"system": system, "value": value}, *official])
        reply = client("PUT", f"Patient?identifier={quote(f'{system}|{value}')}", body)
        assert reply.status == 201, reply.raw.decode()
        ids.append(reply.json["id"])
    assert Person.objects.unscoped("test").count() == 1
    return {"number": number, "ids": ids, "person": Person.objects.unscoped("test").get()}


def test_identifiers_of_the_other_institution_are_told(a, linked):
    pairs, ids = told(pix(a, RED, "A1"))
    person = linked["person"]
    assert (GREEN, "B1") in pairs
    assert (identifiers.NUMBER_SYSTEM, person.number) in pairs
    assert (identifiers.CARD_SYSTEM, person.card_number) in pairs
    assert (RED, "A1") not in pairs
    assert f"Patient/{person.number}" in ids
    assert {f"Patient/{i}" for i in linked["ids"]} <= ids


def test_targets_select(a, linked):
    assert told(pix(a, RED, "A1", GREEN)) == ({(GREEN, "B1")}, set())
    pairs, ids = told(pix(a, RED, "A1", "http://t/fhir"))
    assert pairs == set()
    assert len(ids) == 3


def test_by_logical_id_and_by_the_platforms_numbers(a, linked):
    assert (GREEN, "B1") in told(pix(a, "http://t/fhir", f"Patient/{linked['ids'][0]}"))[0]
    assert (GREEN, "B1") in told(pix(a, identifiers.NUMBER_SYSTEM, linked["person"].number))[0]


def test_identity_documents_are_never_told(a, linked):
    assert linked["number"] not in pix(a, RED, "A1").raw.decode()
    assert pix(a, RED, "A1", identifiers.RESIDENT_ID_SYSTEM).status == 403


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 400, "required"),
        ("sourceIdentifier=", 400, "required"),
        (f"sourceIdentifier={RED}|A1&sourceIdentifier={RED}|A2", 400, "invalid"),
        ("sourceIdentifier=A1", 400, "code-invalid"),
        ("sourceIdentifier=|A1", 400, "code-invalid"),
        (f"sourceIdentifier={RED}|", 400, "code-invalid"),
        ("sourceIdentifier=urn:oid:2.999.9.9|A1", 400, "code-invalid"),
        (f"sourceIdentifier={RED}|NOBODY", 404, "not-found"),
        (f"sourceIdentifier={RED}|A1&targetSystem=urn:oid:2.999.9.9", 403, "code-invalid"),
    ],
)
def test_refusals_of_the_profile(a, linked, query, status, code):
    reply = a("GET", f"Patient/$ihe-pix?{query.replace('|', '%7C')}")
    assert (reply.status, reply.issues[0]["code"]) == (status, code)


def test_the_diagnostics_are_those_of_the_profile(a, linked):
    assert pix(a, RED, "X").issues[0]["diagnostics"] == "sourceIdentifier Patient Identifier not found"
    assert (
        pix(a, "urn:oid:2.999.9", "X").issues[0]["diagnostics"]
        == "sourceIdentifier Assigning Authority not found"
    )
    assert pix(a, RED, "A1", "urn:x:y").issues[0]["diagnostics"] == "targetSystem not found"


def test_another_consortium_learns_nothing(world, a, linked):
    outside = Client("pix-out", "PIX-OUT")
    for system, value in (
        (RED, "A1"),
        (identifiers.NUMBER_SYSTEM, linked["person"].number),
        ("http://t/fhir", f"Patient/{linked['ids'][0]}"),
    ):
        reply = pix(outside, system, value)
        assert reply.status == 404
        assert not any(
            i in reply.raw.decode().replace(value, "")
            for i in ("B1", linked["person"].number, *linked["ids"])
        )
    assert pix(outside, RED, "A1").raw == pix(outside, RED, "NOBODY").raw


def test_with_a_relationship_only_open_domains_are_told(world, linked):
    outside = Client("pix-out", "PIX-OUT")
    fed(outside, "urn:oid:2.999.1.3", "O1", name="欧阳明月", birth="1969-05-17")
    source = SourceRecord.objects.unscoped("test").get(institution=world["out"])
    if source.person_id != linked["person"].pk:
        Relationship.objects.create(
            person_id=linked["person"].pk,
            institution=world["out"],
            kind="duty",
            source="t",
            since="2020-01-01T00:00Z",
        )
        pairs, _ = told(pix(outside, identifiers.NUMBER_SYSTEM, linked["person"].number))
        assert (RED, "A1") not in pairs
        domains.enter(RED, world["a"].pk, sharing=domains.ALL)
        assert (RED, "A1") in told(pix(outside, identifiers.NUMBER_SYSTEM, linked["person"].number))[0]


def test_a_domain_kept_to_itself_is_not_told_to_partners(world, a, b, linked):
    domains.enter(RED, world["a"].pk, sharing=domains.OWN)
    assert (RED, "A1") not in told(pix(b, GREEN, "B1"))[0]
    assert pix(b, GREEN, "B1", RED).status == 403
    assert (RED, "A1") in told(pix(a, identifiers.NUMBER_SYSTEM, linked["person"].number))[0]


def test_the_token_must_allow_it(world, linked):
    narrow = Client("pix-narrow", "PIX-A", "system/Observation.rs")
    assert pix(narrow, RED, "A1").status == 403


def test_queries_are_audited(a, linked):
    pix(a, RED, "A1")
    journal.drain()
    event = AuditEvent.objects.get(what="Patient/$ihe-pix", person_id=linked["person"].pk)
    assert "ITI-83" in event.detail


def test_feed_adds_and_revises_once(a):
    first = fed(a, RED, "A7", name="张一")
    again = put(a, RED, "A7", name="张一", birth="1980-05-07")
    assert (again.status, again.json["id"]) == (200, first)
    assert SourceRecord.objects.unscoped("test").count() == 1


def test_a_duplicate_is_resolved_inside_the_sender(a):
    gone = fed(a, RED, "DUP", name="李二丫", birth="1955-01-30")
    keep = fed(a, RED, "KEEP", name="李尔雅", birth="1958-01-30")
    assert Person.objects.unscoped("test").filter(status="active").count() == 2
    link = [{"type": "replaced-by", "other": {"identifier": {"system": RED, "value": "KEEP"}}}]
    for _ in range(2):  # the same again changes nothing
        reply = put(a, RED, "DUP", name="李二丫", birth="1955-01-30", active=False, link=link)
        assert (reply.status, reply.json["id"]) == (200, gone)
        people = list(Person.objects.unscoped("test").order_by("pk"))
        assert [p.status for p in people] == ["active", "merged"]
    pairs, ids = told(pix(a, RED, "DUP"))
    assert (RED, "KEEP") in pairs
    assert f"Patient/{keep}" in ids
    assert f"Patient/{gone}" not in ids
    assert (RED, "DUP") not in told(pix(a, RED, "KEEP"))[0]
    golden = a("GET", f"Patient/{people[0].number}").json
    assert golden["active"] is True
    assert {one["other"]["reference"] for one in golden["link"]} == {f"Patient/{gone}", f"Patient/{keep}"}
    assert a("GET", f"Patient/{people[1].number}").json["id"] == people[0].number


def test_a_duplicate_whose_person_others_know_takes_only_its_own_number_along(a, b, linked):
    fed(a, RED, "KEEP", name="诸葛青", birth="1970-03-03")
    keep = SourceRecord.objects.unscoped("test").latest("id").person_id
    body = {"name": "欧阳明月", "birth": "1969-05-17", "active": False}
    link = [{"type": "replaced-by", "other": {"identifier": {"system": RED, "value": "KEEP"}}}]
    assert put(a, RED, "A1", link=link, **body).status == 200
    rows = dict(SourceRecord.objects.unscoped("test").values_list("patient_id", "person_id"))
    assert rows[linked["ids"][0]] == keep
    assert rows[linked["ids"][1]] == linked["person"].pk
    assert ReviewItem.objects.filter(state="open").count() >= 1


def test_two_valid_identity_numbers_are_not_merged_but_asked(a):
    for value in ("N1", "N2"):
        number = make_resident_id()
        ids = [{"system": RED, "value": value}, {"system": identifiers.RESIDENT_ID_SYSTEM, "value": number}]
        body = patient(f"王{value}", "1969-05-17", identifier=ids)
        assert a("PUT", f"Patient?identifier={quote(f'{RED}|{value}')}", body).status == 201
        body["active"], body["link"] = (
            False,
            [{"type": "replaced-by", "other": {"identifier": {"system": RED, "value": "N1"}}}],
        )
    assert a("PUT", f"Patient?identifier={quote(f'{RED}|N2')}", body).status == 200
    assert Person.objects.unscoped("test").filter(status="active").count() == 2
    assert ReviewItem.objects.filter(state="open").exists()


@pytest.mark.parametrize(
    "other",
    [{"identifier": {"system": RED, "value": "NOBODY"}}, {"reference": "Patient/nobody"}, {"display": "x"}],
)
def test_a_survivor_nobody_knows_is_refused(a, other):
    fed(a, RED, "DUP")
    reply = put(a, RED, "DUP", active=False, link=[{"type": "replaced-by", "other": other}])
    assert (reply.status, reply.issues[0]["code"]) == (422, "not-found")
    assert told(pix(a, RED, "DUP"))[1]  # nothing was changed


def test_another_institutions_patient_cannot_be_the_survivor(a, b):
    fed(b, GREEN, "B9", name="赵九")
    fed(a, RED, "DUP")
    link = [{"type": "replaced-by", "other": {"identifier": {"system": GREEN, "value": "B9"}}}]
    assert put(a, RED, "DUP", active=False, link=link).status == 422
    itself = [{"type": "replaced-by", "other": {"identifier": {"system": RED, "value": "DUP"}}}]
    assert put(a, RED, "DUP", active=False, link=itself).status == 422


def test_a_removed_patient_is_told_no_more(a, b, linked):
    assert b("DELETE", f"Patient?identifier={quote(f'{GREEN}|B1')}").status == 204
    pairs, ids = told(pix(a, RED, "A1"))
    assert (GREEN, "B1") not in pairs
    assert f"Patient/{linked['ids'][1]}" not in ids


def test_registrations_from_tables_are_cross_referenced_too(world, a, b, linked):
    reg = Registration(
        world["b"].pk,
        "urn:lianxin:mr:B",
        "T-1",
        "欧阳明月",
        "male",
        linked["person"].birth_date,
        "01",
        linked["number"],
    )
    done = register(Scope.system("test"), reg)
    assert done.person_id == linked["person"].pk
    assert ("urn:lianxin:mr:B", "T-1") in told(pix(a, RED, "A1"))[0]
    assert (RED, "A1") in told(pix(b, "urn:lianxin:mr:B", "T-1"))[0]


def test_the_statement_names_the_actors(a):
    made = a("GET", "metadata").json
    assert any("PIXm.Manager" in one for one in made["instantiates"])
    assert any("PDQm" in one for one in made["instantiates"])
    mine = next(r for r in made["rest"][0]["resource"] if r["type"] == "Patient")
    assert {"ihe-pix", "match"} <= {o["name"] for o in mine["operation"]}
    assert mine["conditionalUpdate"] is True


def test_fuzz_every_answer_is_an_answer(a, linked):
    rnd = random.Random(5)
    pieces = [
        RED,
        "|",
        "A1",
        "%",
        "\\",
        ",",
        "$",
        "http://t/fhir",
        "Patient/",
        "Patient/0000000000",
        "é",
        "张",
        " ",
        "&targetSystem=",
        "%00",
        "%ff",
        "x" * 3000,
    ]
    for _ in range(120):
        value = "".join(rnd.choice(pieces) for _ in range(rnd.randint(1, 5)))
        query = value if rnd.random() < 0.5 else quote(value)
        reply = a("GET", "Patient/$ihe-pix?sourceIdentifier=" + query.encode().decode("latin-1"))
        assert reply.status in (200, 400, 403, 404), (value, reply.raw)
