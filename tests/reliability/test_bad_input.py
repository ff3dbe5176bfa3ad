"""Bad input at the door of the real server: a clear refusal in both languages, and the workers that answered it still there."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import socket
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from lianxin.config.serve import WORKER_THREADS
from tests.reliability.conftest import Town
from tests.reliability.installation import Answer, Installation, eventually
from tests.reliability.moves import parameters, referral

pytestmark = [pytest.mark.concurrency]

BOUND = 20.0  # seconds after which an answer counts as none
MEGABYTE = 1024 * 1024
CHINESE = re.compile(r"[㐀-鿿]")


def patient(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "name": [{"text": "查无错"}],
        "gender": "male",
        "birthDate": "1980-05-06",
        **more,
    }


def told(answer: Answer, *statuses: int) -> dict[str, Any]:
    """The refusal's first issue: an OperationOutcome that speaks both languages."""
    assert answer.status in statuses, (answer.status, answer.raw[:500])
    outcome = answer.json
    assert outcome["resourceType"] == "OperationOutcome", answer.raw[:500]
    for issue in outcome["issue"]:
        assert CHINESE.search(issue["details"]["text"]), issue
        assert re.search(r"[a-z]{3}", issue["diagnostics"]), issue
    return dict(outcome["issue"][0])


@pytest.fixture(autouse=True)
def _workers_live_on(town: Town) -> Iterator[None]:
    """The same worker processes before and after, and they answer."""
    before = set(town.site.web_workers)
    yield
    assert town.site.ready()
    assert set(town.site.web_workers) == before, "a worker died of it"


BODIES: list[tuple[str, bytes, tuple[int, ...]]] = [
    ("empty", b"", (400,)),
    ("cut off", b'{"resourceType":"Patient"', (400,)),
    ("no object", b"[]", (400, 422)),
    ("a word", b'"Patient"', (400, 422)),
    ("null", b"null", (400, 422)),
    ("two documents", b'{"resourceType":"Patient"}{}', (400,)),
    ("duplicate keys", b'{"resourceType":"Patient","gender":"male","gender":"female"}', (400,)),
    ("duplicate keys inside", b'{"resourceType":"Patient","name":[{"text":"a","text":"b"}]}', (400,)),
    ("duplicate keys in disguise", b'{"resourceType":"Patient","gender":"male","gend\\u0065r":"female"}', (400,)),
    ("not UTF-8", b'{"resourceType":"Patient","name":[{"text":"\xff\xfe"}]}', (400,)),
    ("GB 18030", '{"resourceType":"Patient","name":[{"text":"单晓明"}]}'.encode("gb18030"), (400,)),
    ("UTF-16", json.dumps(patient()).encode("utf-16"), (400,)),
    ("lone surrogate", b'{"resourceType":"Patient","name":[{"text":"\\ud800"}]}', (400,)),
    ("NUL", b'{"resourceType":"Patient","name":[{"text":"a\\u0000b"}]}', (400, 422)),
    ("NaN", b'{"resourceType":"Patient","multipleBirthInteger":NaN}', (400,)),
    ("Infinity", b'{"resourceType":"Patient","multipleBirthInteger":-Infinity}', (400,)),
    ("1e400", b'{"resourceType":"Patient","multipleBirthInteger":1e400}', (400, 422)),
    ("a number of 100,000 digits", b'{"resourceType":"Patient","multipleBirthInteger":' + b"9" * 100_000 + b"}", (400, 422)),
    ("deep arrays", b'{"resourceType":"Patient","extension":' + b"[" * 200_000 + b"]" * 200_000 + b"}", (400, 422)),
    ("deep objects", b'{"resourceType":"Patient","contained":' + b'[{"contained":' * 50_000 + b"[]" + b"}]" * 50_000 + b"}", (400, 422)),
    ("open brackets", b"[" * 2_000_000, (400,)),
    ("wrong type of element", json.dumps(patient(gender=7)).encode(), (422,)),
    ("object for a list", json.dumps(patient(name={"text": "a"})).encode(), (422,)),
    ("list for an object", json.dumps(patient(maritalStatus=[])).encode(), (422,)),
    ("unknown element", json.dumps(patient(favouriteColour="red")).encode(), (422,)),
    ("impossible day", json.dumps(patient(birthDate="2026-02-30")).encode(), (422,)),
    ("year 0000", json.dumps(patient(birthDate="0000-01-01")).encode(), (422,)),
    ("year 9999", json.dumps(patient(birthDate="9999-12-31")).encode(), (201, 422)),
    ("unknown code", json.dumps(patient(gender="maybe")).encode(), (422,)),
    ("other type", b'{"resourceType":"Group"}', (400, 422)),
    ("no such type", b'{"resourceType":"Bogus"}', (400, 422)),
    ("no type", b"{}", (400, 422)),
    ("identity number of a wrong check digit", json.dumps(patient(identifier=[
        {"system": "http://lianxin.example/id/resident-id-card", "value": "110105194912310021"}])).encode(), (201, 422)),
    ("50,000 names", json.dumps(patient(name=[{"text": "a"}] * 50_000)).encode(), (201, 413, 422)),
    ("a name of a million characters", json.dumps(patient(name=[{"text": "长" * 1_000_000}])).encode(), (201, 413, 422)),
]  # fmt: skip


@pytest.mark.parametrize(("body", "statuses"), [pytest.param(b, s, id=n) for n, b, s in BODIES])
def test_a_bad_body_is_refused_by_name(town: Town, body: bytes, statuses: tuple[int, ...]) -> None:
    before = town.site.count("SELECT count(*) FROM record_resource WHERE rtype = 'Patient'")
    answer = town.site.fhir(town.head, "POST", "Patient", body, seconds=BOUND)
    assert answer.status in statuses, (answer.status, answer.raw[:300])
    if answer.status != 201:
        told(answer, *statuses)
        assert town.site.count("SELECT count(*) FROM record_resource WHERE rtype = 'Patient'") == before


def test_sizes_and_wrappings(town: Town) -> None:
    site, sound = town.site, json.dumps(patient()).encode()

    def post(body: bytes, path: str = "Patient", **headers: str) -> Answer:
        return site.fhir(
            town.head, "POST", path, body, {k.replace("_", "-"): v for k, v in headers.items()}, seconds=BOUND
        )

    told(post(b" " * (10 * MEGABYTE + 1)), 413)
    told(post(gzip.compress(b" " * (60 * MEGABYTE)), Content_Encoding="gzip"), 413)
    told(post(gzip.compress(b" " * (80 * MEGABYTE)), "", Content_Encoding="gzip"), 413)
    told(post(b"no gzip at all", Content_Encoding="gzip"), 400)
    told(post(gzip.compress(sound)[:-9], Content_Encoding="gzip"), 400)
    told(post(gzip.compress(gzip.compress(sound)), Content_Encoding="gzip"), 400)
    told(post(sound, Content_Encoding="br"), 415)
    told(post(sound, Content_Type="application/fhir+xml"), 415)
    told(post(sound, Content_Type="text/plain"), 415)
    told(post(sound, Content_Type="application/fhir+json; charset=gbk"), 415)
    told(post(sound, "Patient/_search", Content_Type="application/json"), 415)
    assert post(gzip.compress(sound), Content_Encoding="gzip").status == 201
    told(site.fhir(town.head, "GET", "Patient", headers={"Accept": "text/turtle"}), 406)
    for path in ("Patient?_format=xml", "metadata?_format=application/fhir%2Bxml"):
        told(site.fhir(town.head, "GET", path), 406)


def bundle(kind: str, *resources: dict[str, Any]) -> dict[str, Any]:
    entries = [{"resource": r, "request": {"method": "POST", "url": r["resourceType"]}} for r in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def flags(n: int, subject: str) -> list[dict[str, Any]]:
    about = {"reference": f"Patient/{subject}"}
    return [
        {"resourceType": "Flag", "status": "active", "code": {"text": f"f{i}"}, "subject": about}
        for i in range(n)
    ]


def test_a_bundle_of_ten_thousand_with_one_bad_entry(town: Town) -> None:
    site, subject = town.site, town.people[-1]
    many = flags(10_000, subject)
    many[9_999]["status"] = "nonsense"
    issue = told(site.fhir(town.township, "POST", "", bundle("transaction", *many), seconds=90), 422)
    assert issue["expression"] == ["Bundle.entry[9999].resource.Flag.status"]
    assert site.count("SELECT count(*) FROM record_resource WHERE rtype = 'Flag'") == 0, (
        "something of it was written"
    )
    told(site.fhir(town.township, "POST", "", bundle("transaction", *many, many[0]), seconds=BOUND), 413)

    some = flags(60, subject)
    some[31]["status"] = "nonsense"
    answer = site.fhir(town.township, "POST", "", bundle("batch", *some), seconds=60)
    statuses = [entry["response"]["status"] for entry in answer.json["entry"]]
    assert statuses == ["422" if n == 31 else "201" for n in range(60)]
    assert answer.json["entry"][31]["response"]["outcome"]["issue"][0]["diagnostics"]
    assert site.count("SELECT count(*) FROM record_resource WHERE rtype = 'Flag'") == 59


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Bundle", "type": "transaction", "entry": {}},
        {"resourceType": "Bundle", "type": "transaction", "entry": [None]},
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"request": {"method": "POST", "url": "Patient"}}]},
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient()}]},
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient(), "request": {"method": "PATCH", "url": "Patient/1"}}]},
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient(), "request": {"method": "POST", "url": "../etc/passwd"}}]},
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": patient(), "request": {"method": "POST", "url": "Group"}}]},
        {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": bundle("transaction", patient()), "request": {"method": "POST", "url": "Patient"}}]},
        {"resourceType": "Bundle", "type": "history", "entry": []},
        {"resourceType": "Bundle"},
        {"resourceType": "Patient"},
    ],
)  # fmt: skip
def test_a_malformed_bundle_is_refused(town: Town, body: dict[str, Any]) -> None:
    told(town.site.fhir(town.head, "POST", "", body, seconds=BOUND), 400, 422)


STRINGS = [
    "' OR '1'='1", "'; DROP TABLE record_resource; --", '"', "\\", "%", "_", "%s", "%(x)s", "{0}", "${jndi:ldap://x}", "<script>alert(1)</script>",
    "\x01", "a" * 5000, "../../etc/passwd", "||", "$$", "|", ",,,", "\\,", "1e999999", "9" * 400, "-", "+", "0001-01-01", "9999-99-99", "eq", "ge",
    "\u202e", "👩‍⚕️", "單", "*", "(", "[", "a:b:c", "Patient/", "Patient?name=x", "http://x/Patient/1", "null", "true", "٣",
]  # fmt: skip
QUESTIONS = [
    "Patient?name=", "Patient?identifier=", "Patient?birthdate=", "Patient?_id=", "Patient?_lastUpdated=", "Patient?gender=", "Patient?address=",
    "Observation?code=", "Observation?date=", "Observation?value-quantity=", "Observation?patient=", "Observation?code-value-quantity=",
    "Observation?subject:Patient.name=", "Patient?_has:Observation:patient:code=", "Patient?_sort=", "Patient?_include=", "Patient?_revinclude=",
    "Patient?_elements=", "Patient?_summary=", "Patient?_count=", "Patient?_cursor=", "Patient?_total=", "Patient/_history?_since=",
    "_history?_cursor=", "Patient/rel-001/$everything?_type=", "Patient?name:", "Patient?",
]  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_any_string_in_any_parameter_is_only_a_string(town: Town, question: str) -> None:
    for string in STRINGS:
        path = question + urllib.parse.quote(string)
        answer = town.site.fhir(town.head, "GET", path, seconds=BOUND)
        assert answer.status < 500, (path, answer.raw[:300])
        if answer.status >= 400:
            told(answer, 400, 403, 404, 405, 406, 410, 414, 422)
        assert answer.json["resourceType"] in ("Bundle", "OperationOutcome")


def test_counts_operations_and_addresses_that_make_no_sense(town: Town) -> None:
    site = town.site
    for count in ("-1", "abc", "1.5", "99999999999999999999", "1e3", "%00"):
        told(site.fhir(town.head, "GET", f"Patient?_count={count}", seconds=BOUND), 400)
    for count in ("0", "100000"):
        answer = site.fhir(town.head, "GET", f"Patient?_count={count}", seconds=BOUND)
        assert answer.status == 200
        assert len(answer.json.get("entry", [])) <= 1000
    for path in ("$nonsense", "Patient/$nonsense", "Patient/1/$nonsense", "Nonsense", "Nonsense/1", "Patient/1/2/3/4", "Patient/" + "x" * 300,
                 "Patient/%27%20OR%201=1", "Patient/1/_history/abc", "Patient/1/_history/99999999999", "patient/1", "%2e%2e/%2e%2e/etc/passwd"):  # fmt: skip
        told(site.fhir(town.head, "GET", path, seconds=BOUND), 400, 404, 405)
        told(site.fhir(town.head, "POST", path, patient(), seconds=BOUND), 400, 404, 405, 422)
    for method in ("PATCH", "TRACE", "PROPFIND", "OPTIONS"):
        answer = site.fhir(
            town.head, method, "Patient/1", b"{}" if method == "PATCH" else None, seconds=BOUND
        )
        assert (
            400 <= answer.status < 500
            or answer.status == 501
            or (method == "OPTIONS" and answer.status < 300)
        ), (
            method,
            answer.status,
        )
    for header in ({"If-Match": "nonsense"}, {"If-Match": 'W/"x"'}, {"Prefer": "x" * 5000}, {"If-None-Exist": "&&&=%%"}, {"If-None-Exist": "name"},
                   {"If-Modified-Since": "yesterday"}, {"Authorization": "Basic eDp5"}, {"Accept-Encoding": "x" * 2000}):  # fmt: skip
        for method, body in (("PUT", patient(id="rel-bad")), ("POST", patient()), ("GET", None)):
            path = "Patient" if method == "POST" else "Patient/rel-bad"
            assert site.fhir(town.head, method, path, body, header, seconds=BOUND).status < 500, (
                header,
                method,
            )
    assert site.fhir(town.head, "GET", "Patient?name=" + "x" * 200_000, seconds=BOUND).status in (
        400,
        414,
        431,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"patient": "Patient/nobody"}, {"patient": ""}, {"patient": "Organization/XN-SYY"}, {"toInstitution": "NOWHERE"}, {"specialty": "99.99"},
        {"priority": "soon"}, {"direction": "sideways"}, {"reasonCode": "because"}, {"pack": {"nonsense": "x" * 100_000}}, {"facts": {"tirads": "many"}},
        {"consent": False}, {"diagnosisCode": "'; --"}, {"diagnosisName": "\x00"}, {"expectedVersion": 10**30}, {"key": "k" * 200},
        {"toDepartment": "'"}, {"facts": {"tirads": "9" * 500}}, {"send": "perhaps"}, {"emergency": "perhaps"},
    ],
)  # fmt: skip
def test_a_referral_with_a_bad_field_names_it(town: Town, changes: dict[str, Any]) -> None:
    site = town.site
    cases = site.count("SELECT count(*) FROM duty_case")
    body = referral(town.people[-2], f"bad-{sorted(changes)}-{len(str(changes))}")
    kept = [p for p in body["parameter"] if p["name"] not in changes]
    body["parameter"] = kept + parameters(**changes)["parameter"]
    answer = site.fhir(town.township, "POST", "ServiceRequest/$refer", body, seconds=BOUND)
    if answer.status == 201 and set(changes) <= {
        "diagnosisCode",
        "specialty",
        "send",
        "emergency",
        "facts",
        "toDepartment",
        "expectedVersion",
        "pack",
    }:
        return  # taken as text, or as advice that was not understood
    told(answer, 400, 403, 404, 409, 422)
    assert site.count("SELECT count(*) FROM duty_case") == cases, "a refused referral left a case"


def chunked(pieces: list[bytes], town: Town, path: str = "/fhir/Patient") -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {town.head}\r\nContent-Type: application/fhir+json\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )  # fmt: skip
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


def spoken(site: Installation, sent: bytes) -> bytes:
    """What the server says to some bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=BOUND) as wire:
        with contextlib.suppress(OSError):  # a refusal may come before everything was sent
            wire.sendall(sent)
        got = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := wire.recv(65536):
                got += piece
        return got


def test_a_body_in_chunks_without_a_length(town: Town) -> None:
    sound = json.dumps(patient()).encode()
    said = spoken(town.site, chunked([sound[:10], sound[10:]], town))
    assert b" 201 " in said.split(b"\r\n")[0], said[:300]
    said = spoken(town.site, chunked([b" " * MEGABYTE] * 12, town))
    assert said == b"" or b" 413 " in said.split(b"\r\n")[0], said[:300]
    assert (
        b" 4"
        in spoken(
            town.site, b"POST /fhir/Patient HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n"
        )[:16]
    )


def test_what_is_no_http_at_all(town: Town) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /fhir/Patient HTTP/1.1\r\n\r\n",
                 b"POST /fhir/Patient HTTP/1.1\r\nHost: t\r\nContent-Length: -5\r\n\r\n", b"GET /%ff%fe HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
                 b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", b"GET /fhir/\xff HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", town.site.port), timeout=BOUND) as wire:
            wire.sendall(sent)
            wire.shutdown(socket.SHUT_WR)
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := wire.recv(65536):
                    got += piece
            assert b" 500 " not in got.split(b"\r\n")[0], sent


def test_slow_senders_are_survived(town: Town) -> None:
    """A sender that pauses holds a thread (a front server that buffers bodies prevents it): fewer than threads harm nobody, and
    any number of them is forgotten when they hang up."""
    head = (
        f"POST /fhir/Patient HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {town.head}\r\nContent-Type: application/fhir+json\r\n"
        "Content-Length: 1000\r\n\r\n{"
    )  # fmt: skip
    before = town.site.count("SELECT count(*) FROM record_resource WHERE rtype = 'Patient'")
    for number in (WORKER_THREADS - 1, 24):
        with contextlib.ExitStack() as stack:
            for _ in range(number):
                wire = stack.enter_context(
                    socket.create_connection(("127.0.0.1", town.site.port), timeout=BOUND)
                )
                wire.sendall(head.encode())
            if number < WORKER_THREADS:
                for _ in range(8):
                    assert town.site.http("GET", "/healthz", seconds=BOUND).status == 200
                    assert town.site.fhir(town.head, "GET", "metadata", seconds=BOUND).status == 200
        eventually(town.site.ready, what="the server after the slow ones")
    assert town.site.count("SELECT count(*) FROM record_resource WHERE rtype = 'Patient'") == before
