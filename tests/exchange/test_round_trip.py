"""What is kept is what was sent: member texts stay as they were, digits included, and every other answer equals it.

The default run makes resources of every type; with the shared data, the whole Synthea set and every official definition.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from django.conf import settings

from lianxin.access import connections
from lianxin.network.models import Institution
from lianxin.record import definitions, text
from tests.exchange.client import Client, patient
from tests.exchange.generated import dump, resource

pytestmark = pytest.mark.django_db(transaction=True)
SERVER = ("resourceType", "id", "meta")  # resourceType comes first, wherever it was
OWN = ("versionId", "lastUpdated")
SKIPPED = ("Parameters",)  # never kept by itself
BATCH = 200


@pytest.fixture
def client(db: None) -> Iterator[Client]:
    Institution.objects.create(code="R1", name="县医院", kind="hospital", tier="county", division="331023")
    yield Client("round trip", "R1")
    connections.close()


def exact(raw: bytes) -> dict[str, str]:
    """Top-level members as they are written."""
    return {key: bytes(value).decode() for key, value in text.members(raw).items()}


def loads(raw: bytes | str) -> Any:
    """JSON with numbers as their digits."""
    return json.loads(raw, parse_float=lambda digits: (digits, Decimal(digits)))


def same(sent: bytes, kept: bytes) -> None:
    """Every member's text is as it was sent; of id and meta all but what the server says."""
    mine, theirs = exact(sent), exact(kept)
    assert [k for k in mine if k not in SERVER] == [k for k in theirs if k not in SERVER]
    assert {k: v.strip() for k, v in mine.items() if k not in SERVER} == {
        k: v.strip() for k, v in theirs.items() if k not in SERVER
    }
    before = exact(mine["meta"].encode()) if "meta" in mine else {}
    after = exact(theirs["meta"].encode())
    assert {k: v.strip() for k, v in before.items() if k not in OWN} == {
        k: v.strip() for k, v in after.items() if k not in OWN
    }


def put_all(
    client: Client, resources: Iterable[tuple[str, str, bytes]]
) -> Iterator[tuple[str, str, bytes, str, Any]]:
    """Put (type, id, text) through batches; yields each with its status and the outcome when it was refused."""
    waiting: list[tuple[str, str, bytes]] = []

    def send() -> Iterator[tuple[str, str, bytes, str, Any]]:
        parts = [
            b'{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}' % (raw, t.encode(), i.encode())
            for t, i, raw in waiting
        ]
        answer = client(
            "POST",
            "",
            b'{"resourceType":"Bundle","type":"batch","entry":[' + b",".join(parts) + b"]}",
            prefer="return=minimal",
        )
        assert answer.status == 200, answer.raw[:500]
        for (t, i, raw), entry in zip(waiting, answer.json["entry"], strict=True):
            yield t, i, raw, entry["response"]["status"][:3], entry["response"].get("outcome")
        waiting.clear()

    size = 0
    for one in resources:
        if waiting and (len(waiting) >= BATCH or size + len(one[2]) > 8_000_000):
            yield from send()
            size = 0
        waiting.append(one)
        size += len(one[2])
    if waiting:
        yield from send()


def test_generated_resources_of_every_type(client: Client) -> None:
    pid = client("POST", "Patient", patient("环回")).json["id"]
    rnd = Random(20260301)
    sent = []
    for rtype in sorted(definitions.types() - set(SKIPPED)):
        for n in range(3):
            made = {**resource(rtype, rnd, pid, fullness=(0.0, 0.15, 0.3)[n]), "id": f"rt-{rtype}-{n}"}
            sent.append((rtype, made["id"], dump(made, rnd).encode()))
    kept, refused = 0, []
    for rtype, rid, raw, status, outcome in put_all(client, sent):
        if status not in ("200", "201"):
            assert status in ("400", "403", "409", "422"), (rtype, status, outcome)
            refused.append((rtype, rid, outcome["issue"][0]))
            continue
        kept += 1
        answer = client("GET", f"{rtype}/{rid}")
        assert answer.status == 200, (rtype, rid, answer.raw[:300])
        same(raw, answer.raw)
    assert kept > len(sent) / 3, refused[:10]


TRICKY = (
    b'{"resourceType":"Practitioner","active":true,"name":[{"text":"\\u5f20 \\ud83d\\ude00 \\"x\\" \\\\ \\/","family":"a"}]}',
    b'{ "active" : true , "resourceType" : "Practitioner" , "identifier" : [ { "value" : "1" } ] }',
    b'{"meta":{"tag":[{"code":"a"}],"versionId":"9","security":[{"code":"R"}],"lastUpdated":"2001-01-01T00:00:00Z"},"resourceType":"Practitioner","id":"zz","active":false}',
    '{"resourceType":"Practitioner","name":[{"text":"\u2028\u2029\ufeff𠮷"}],"_birthDate":{"extension":[{"url":"u","valueCode":"x"}]}}'.encode(),
    b'{"resourceType":"Practitioner","name":[{"given":["a",null,"b"],"_given":[null,{"id":"x","extension":[{"url":"u","valueCode":"y"}]},null]}]}',
    b'{"resourceType":"Practitioner","text":{"status":"generated","div":"<div xmlns=\\"http://www.w3.org/1999/xhtml\\">\\n\\t&#160;\\u5f20</div>"}}',
    b'{"resourceType":"Practitioner","extension":[{"url":"u","valueDecimal":1.000},{"url":"v","valueDecimal":1E+5},{"url":"w","valueDecimal":-0.0},{"url":"x","valueDecimal":0.1234567890123456789012345}]}',
)  # fmt: skip


@pytest.mark.parametrize("raw", TRICKY)
def test_tricky_texts_and_every_other_way_to_see_them(client: Client, raw: bytes) -> None:
    made = client("POST", "Practitioner", raw)
    assert made.status == 201, made.raw
    rid = made.json["id"]
    read = client("GET", f"Practitioner/{rid}")
    assert read.raw == made.raw
    same(raw, read.raw)
    wanted = loads(read.raw)
    assert loads(client("GET", f"Practitioner/{rid}?_pretty=true").raw) == wanted
    assert loads(client("GET", f"Practitioner/{rid}/_history/1").raw) == wanted
    assert loads(client("GET", f"Practitioner?_id={rid}").raw)["entry"][0]["resource"] == wanted
    assert loads(client("GET", f"Practitioner/{rid}/_history").raw)["entry"][0]["resource"] == wanted
    assert loads(client("GET", f"Practitioner?_id={rid}&_pretty=true").raw)["entry"][0]["resource"] == wanted
    zipped = client("GET", f"Practitioner?_id={rid}", accept_encoding="gzip")
    plain = gzip.decompress(zipped.raw) if zipped.headers.get("Content-Encoding") == "gzip" else zipped.raw
    assert loads(plain)["entry"][0]["resource"] == wanted
    shown = loads(client("GET", f"Practitioner/{rid}?_summary=false").raw)
    assert shown == wanted
    again = client("PUT", f"Practitioner/{rid}", read.raw)
    assert again.status == 200
    same(read.raw, client("GET", f"Practitioner/{rid}").raw)
    same(raw, client("GET", f"Practitioner/{rid}/_history/2").raw)


def test_a_patch_elsewhere_leaves_the_digits(client: Client) -> None:
    raw = TRICKY[-1]
    rid = client("POST", "Practitioner", raw).json["id"]
    change = b'[{"op":"add","path":"/active","value":true}]'
    answer = client("PATCH", f"Practitioner/{rid}", change, content_type="application/json-patch+json")
    assert answer.status == 200, answer.raw
    assert exact(answer.raw)["extension"] == exact(raw)["extension"]


def test_a_transaction_keeps_what_it_does_not_rewrite(client: Client) -> None:
    ref = "urn:uuid:0f3c2b7e-55aa-4f0e-9a44-000000000001"
    role = (
        b'{"resourceType":"PractitionerRole","practitioner":{"reference":"%s"},"extension":[{"url":"u","valueDecimal":1.10}],"code":[{"text":"\\u533b"}]}'
        % ref.encode()
    )
    person = b'{"resourceType":"Practitioner", "active" : true}'
    entries = b'{"resource":%s,"request":{"method":"POST","url":"PractitionerRole"}},{"fullUrl":"%s","resource":%s,"request":{"method":"POST","url":"Practitioner"}}'
    whole = (
        b'{"resourceType":"Bundle","type":"transaction","entry":['
        + entries % (role, ref.encode(), person)
        + b"]}"
    )
    answer = client("POST", "", whole)
    assert answer.status == 200, answer.raw
    rid = re.search(r"PractitionerRole/([^/]+)", answer.json["entry"][0]["response"]["location"])
    assert rid
    kept = exact(client("GET", f"PractitionerRole/{rid[1]}").raw)
    assert kept["extension"] == '[{"url":"u","valueDecimal":1.10}]'
    assert kept["code"] == '[{"text":"\\u533b"}]'


# --------------------------------------------------------------------------------------------------------------- shared


def _entries(raw: bytes) -> list[bytes]:
    """The resources of a Bundle as they are written."""
    top = text.members(raw)
    parts = msgspec.json.decode(bytes(top["entry"]), type=list[msgspec.Raw]) if "entry" in top else []
    return [bytes(text.members(bytes(part))["resource"]) for part in parts]


def _check_all(client: Client, resources: Iterable[tuple[str, str, bytes]], kept: int = 0) -> int:
    """Put them in transactions of ``BATCH``, read each transaction's resources back by search, and compare the texts."""
    waiting: dict[tuple[str, str], bytes] = {}

    def send() -> None:
        parts = [
            b'{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}' % (raw, t.encode(), i.encode())
            for (t, i), raw in waiting.items()
        ]
        whole = b'{"resourceType":"Bundle","type":"transaction","entry":[' + b",".join(parts) + b"]}"
        answer = client("POST", "", whole, prefer="return=minimal")
        assert answer.status == 200, answer.raw[:600]
        for rtype in {t for t, _ in waiting}:
            ids = [i for t, i in waiting if t == rtype]
            found = client("GET", f"{rtype}?_id={','.join(ids)}&_count={BATCH}")
            read = {json.loads(raw)["id"]: raw for raw in _entries(found.raw)}
            assert sorted(read) == sorted(ids), found.raw[:300]
            for rid in ids:
                same(waiting[rtype, rid], read[rid])
        waiting.clear()

    size = 0
    for rtype, rid, raw in resources:
        if waiting and (len(waiting) >= BATCH or size + len(raw) > 8_000_000 or (rtype, rid) in waiting):
            send()
            size = 0
        waiting[rtype, rid] = raw
        size += len(raw)
        kept += 1
    if waiting:
        send()
    return kept


def _synthea() -> Iterator[tuple[str, str, bytes]]:
    """Every bundled resource with its own id, references by type and id, people first."""
    with zipfile.ZipFile(settings.SHARED / "data" / "fhir" / "synthea-100-bundles.zip") as archive:
        for name in sorted(archive.namelist()):
            raw = archive.read(name)
            entries = json.loads(raw).get("entry", [])
            place = {
                e["fullUrl"].encode(): f"{e['resource']['resourceType']}/{e['resource']['id']}".encode()
                for e in entries
            }
            bodies = _entries(raw)
            order = sorted(
                range(len(entries)), key=lambda i: entries[i]["resource"]["resourceType"] != "Patient"
            )
            for i in order:
                made = re.sub(
                    rb"urn:uuid:[0-9a-f-]{36}", lambda m, place=place: place.get(m[0], m[0]), bodies[i]
                )
                made = re.sub(
                    rb'"(Practitioner|Organization|Location)\?identifier=[^"|]*\|([^"]+)"', rb'"\1/\2"', made
                )
                yield entries[i]["resource"]["resourceType"], entries[i]["resource"]["id"], made


@pytest.mark.shared
@pytest.mark.skipif(not settings.SHARED.exists(), reason="the shared data folder is not here")
def test_the_synthea_resources(client: Client) -> None:
    assert _check_all(client, _synthea()) == 38_970


@pytest.mark.shared
@pytest.mark.skipif(not settings.SHARED.exists(), reason="the shared data folder is not here")
def test_the_official_definitions(client: Client) -> None:
    """All 4,489, but for eleven search parameters that are themselves no valid R4: ten lack ``base``, one has an id of 67 characters."""
    sound, unsound = [], []
    with zipfile.ZipFile(settings.SHARED / "data" / "fhir" / "r4-definitions.zip") as archive:
        for name in archive.namelist():
            raw = archive.read(name)
            own = json.loads(raw)
            wrong = len(own["id"]) > 64 or (own["resourceType"] == "SearchParameter" and not own.get("base"))
            (unsound if wrong else sound).append((own["resourceType"], own["id"], raw))
    assert len(unsound) == 11
    assert _check_all(client, sound) == 4478
    for _, _, raw in unsound:
        answer = client("POST", "SearchParameter", raw)
        assert answer.status == 422
        assert answer.issues[0]["expression"][0] in ("SearchParameter.base", "SearchParameter.id")
