"""Bombs and abuse against the served FHIR door: depth, patterns, sizes, circles, crowds of parameters, torn and stuffed HTTP.

Every request must be answered within a client's patience, with a refusal that says what is wrong; the workers stay the same
ones (``_workers_live_on``) and grow no fatter.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import json
import socket
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.conftest import Town
from tests.reliability.installation import Answer
from tests.reliability.test_bad_input import (
    MEGABYTE,
    _workers_live_on,
    bundle,
    chunked,
    patient,
    spoken,
    told,
)

__all__ = ["_workers_live_on"]
pytestmark = [pytest.mark.concurrency]
BOUND = 60.0  # seconds after which an answer counts as none, on a machine that does other things too
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def ask(town: Town, method: str, path: str, body: Any = None, **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return town.site.fhir(town.head, method, path, body, sent, seconds=BOUND)


@pytest.fixture(scope="module")
def somebody(town: Town) -> str:
    """A patient whom the asking system knows."""
    made = ask(town, "POST", "Patient", patient(identifier=[{"system": "urn:bombs", "value": "somebody"}]))
    assert made.status == 201, made.raw[:300]
    return str(made.json["id"])


def fine(answer: Answer) -> Answer:
    """Answered: done, or refused with a reason; never 5xx."""
    assert answer.status < 500, (answer.status, answer.raw[:400])
    if answer.status >= 400 and answer.raw:
        assert answer.json["resourceType"] == "OperationOutcome", answer.raw[:300]
    return answer


# ---------------------------------------------------------------------------------------------------------------- depth


def nested(depth: int, inner: str = "1") -> str:
    return '{"extension":[' * depth + inner + "]}" * depth


@pytest.mark.parametrize("depth", [40, 500, 5_000, 200_000])
def test_deep_nesting(town: Town, somebody: str, depth: int) -> None:
    for body in ("[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth, f'{{"resourceType":"Patient","extension":[{nested(depth)}]}}',
                 '{"resourceType":"Patient","contained":[' * depth + "]}" * depth, f'{{"resourceType":"Bundle","type":"batch","entry":[{{"resource":{nested(depth)}}}]}}'):  # fmt: skip
        told(ask(town, "POST", "Patient", body.encode()), 400, 413, 422)
        fine(ask(town, "POST", "", body.encode()))
        fine(ask(town, "POST", "Patient/$validate", body.encode()))
    steps = f'[{{"op":"add","path":"/extension","value":[{nested(depth)}]}}]'
    told(
        ask(
            town,
            "PATCH",
            f"Patient/{somebody}",
            steps.encode(),
            Content_Type="application/json-patch+json",
        ),
        400,
        413,
        422,
    )
    told(
        ask(
            town,
            "PATCH",
            f"Patient/{somebody}",
            ('{"a":' * depth + "1" + "}" * depth).encode(),
            Content_Type="application/merge-patch+json",
        ),
        400,
        413,
        422,
    )


def test_bundles_in_bundles(town: Town) -> None:
    inner: Any = patient()
    for _ in range(30):
        inner = bundle("batch", inner)
    fine(ask(town, "POST", "", inner))
    fine(ask(town, "POST", "Bundle", inner))


# -------------------------------------------------------------------------------------------------------------- patterns


LONG = 200_000
PATTERNS: list[dict[str, Any]] = [
    {"photo": [{"contentType": "a" * LONG + " ", "data": "=" * LONG}]},
    {"photo": [{"data": "AAAA " * (LONG // 5) + "!"}]},
    {"photo": [{"data": "AAA" * (LONG // 3)}]},
    {"implicitRules": "a" * LONG + " "},
    {"language": "a " * LONG + "!"},
    {"language": "a" + " a" * LONG + "  "},
    {"birthDate": "1" * LONG},
    {"birthDate": "1980-01-01" + "T" * LONG},
    {"deceasedDateTime": "2026-03-01T08:00:00." + "0" * LONG},
    {"id": "a" * LONG},
    {"identifier": [{"system": "urn:oid:" + "1." * LONG, "value": "x" * LONG}]},
    {"identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": "1" * LONG}]},
    {"name": [{"text": " " * LONG}]},
    {"name": [{"text": "单" * LONG, "family": "a" * LONG, "given": ["长" * 1000] * 200}]},
    {"telecom": [{"system": "phone", "value": "+" + "1" * LONG + "-"}]},
    {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">' + "<div>" * 20_000 + "</div>" * 20_000 + "</div>"}},
    {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml"' + " a='" * 50_000 + ">x</div>"}},
    {"text": {"status": "generated", "div": '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]><div xmlns="http://www.w3.org/1999/xhtml">&b;&b;</div>'}},
    {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">' + "&" * LONG + "</div>"}},
    {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">' + "<!--" * 50_000 + "</div>"}},
    {"managingOrganization": {"reference": "Organization/" + "a/" * LONG}},
    {"managingOrganization": {"reference": "Organization?" + "a=b&" * 20_000}},
    {"extension": [{"url": "http://x", "valueDecimal": int("9" * 4000)}]},
    {"extension": [{"url": "http://x", "valueString": "(a+)+$" * 20_000}] * 20},
    {"meta": {"tag": [{"system": "urn:t", "code": f"t{n}"} for n in range(20_000)]}},
]  # fmt: skip


@pytest.mark.parametrize("which", range(len(PATTERNS)))
def test_texts_that_explode_in_patterns(town: Town, which: int) -> None:
    body = patient(**PATTERNS[which])
    fine(ask(town, "POST", "Patient", body))
    fine(ask(town, "POST", "Patient/$validate", body))
    fine(ask(town, "POST", "", bundle("batch", body)))


@pytest.mark.parametrize(
    "number", ["1e999999999", "-1e999999999", "1e-999999999", "9" * 100_000, "0." + "1" * 100_000]
)
def test_numbers_that_explode(town: Town, somebody: str, number: str) -> None:
    raw = f'{{"resourceType":"Observation","status":"final","code":{{"text":"x"}},"subject":{{"reference":"Patient/{somebody}"}},"valueQuantity":{{"value":{number}}}}}'
    fine(ask(town, "POST", "Observation", raw.encode()))
    fine(ask(town, "GET", f"Observation?value-quantity={number[:20_000]}"))
    fine(ask(town, "GET", f"Observation?value-quantity=gt{number[:20_000]}|http://unitsofmeasure.org|mg"))


# --------------------------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize(
    "question",
    [
        "Observation?" + "subject:Patient." * 200 + "name=x", "Patient?" + "_has:Observation:subject:" * 100 + "code=x", "Observation?subject." + "general-practitioner." * 50 + "name=x",
        "Patient?_id=" + ",".join(f"p{n}" for n in range(5_000)), "Patient?name=" + ",".join("ab" for _ in range(15_000)), "Patient?name=" + "," * 10_000, "Patient?identifier=" + "|" * 10_000,
        "Patient?_sort=" + ",".join(["name", "-birthdate"] * 500), "Patient?_elements=" + ",".join(["name"] * 10_000), "Patient?" + "name=a&" * 400, "Patient?" + "&" * 50_000, "Patient?" + "name=a&" * 5_000,
        "Patient?" + "&".join(f"_include=Patient:general-practitioner:Type{n}" for n in range(200)), "Patient?_include=*&_revinclude=*", "Patient?_include:iterate=*&_revinclude:iterate=*&_count=1000",
        "Patient?_revinclude:iterate=Observation:subject&_include:iterate=Observation:subject&_revinclude:iterate=Observation:subject", "Patient?_has:Observation:patient:_has:Encounter:subject:_has:Patient:link:name=x",
        "Patient?_filter=" + "(" * 5_000 + "name eq a" + ")" * 5_000, "Patient?_filter=" + " or ".join(["name eq a"] * 4_000), "Patient?_filter=not " * 3_000, "Patient?_list=" + "x" * 5_000, "?_type=" + ",".join(["Patient"] * 8_000),
        "Patient?name:contains=" + "%25" * 10_000, "Patient?name:contains=" + "_" * 20_000, "Patient?name=" + "%5C" * 15_001, "Patient?birthdate=" + "0" * 60_000, "Observation?code-value-quantity=" + "$" * 30_000, "Patient?_lastUpdated=" + "9" * 50_000,
        "Observation?code:in=http://example.org/" + "x" * 20_000, "Observation?code:below=http://loinc.org|" + "x" * 20_000, "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender&filter=" + "(a%2B)%2B" * 5_000,
        "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/languages&count=-5&offset=99999999999999999999", "CodeSystem/$lookup?system=" + "x" * 30_000 + "&code=" + "y" * 20_000, "Observation/$lastn?max=99999999999999999999", "Patient?_count=00000000000000000000000000000001",
        "_history?_count=100000&_since=0001-01-01", "Patient/_history?_since=9999-12-31T23:59:59%2B14:00", "_history?_cursor=" + "A" * 30_000, "Patient?_cursor=" + "eyJ" * 10_000, "Patient?_cursor=W10", "Patient?_summary=" + "true," * 9_000,
    ],
    ids=lambda q: q[:60],
)  # fmt: skip
def test_questions_that_explode(town: Town, question: str) -> None:
    quoted = urllib.parse.quote(question, safe="?&=%/:$,.|*_-")
    fine(ask(town, "GET", quoted))
    path, _, query = quoted.partition("?")
    if path and "/" not in path and not path.startswith("_"):
        fine(ask(town, "POST", f"{path}/_search", query.encode(), **FORM))


def test_circular_includes_end(town: Town) -> None:
    ring = [
        {
            "resourceType": "Organization",
            "id": f"ring-{n}",
            "name": f"环{n}",
            "partOf": {"reference": f"Organization/ring-{(n + 1) % 5}"},
        }
        for n in range(5)
    ]
    entries = [{"resource": r, "request": {"method": "PUT", "url": f"Organization/{r['id']}"}} for r in ring]
    assert (
        ask(town, "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": entries}).status
        == 200
    )
    for more in (
        "_include:iterate=Organization:partof",
        "_revinclude:iterate=Organization:partof",
        "_include:iterate=Organization:partof&_revinclude:iterate=Organization:partof",
    ):
        answer = fine(ask(town, "GET", f"Organization?_id=ring-0&{more}"))
        assert answer.status == 200
        ids = [e["resource"]["id"] for e in answer.json["entry"]]
        assert len(ids) == len(set(ids))
        assert sorted(ids) == [f"ring-{n}" for n in range(5)], more


def test_a_resource_that_refers_to_itself(town: Town) -> None:
    own = {
        "resourceType": "Organization",
        "id": "self-1",
        "name": "自指",
        "partOf": {"reference": "Organization/self-1"},
    }
    fine(ask(town, "PUT", "Organization/self-1", own))
    answer = fine(
        ask(
            town,
            "GET",
            "Organization?_id=self-1&_include:iterate=Organization:partof&_revinclude=Organization:partof",
        )
    )
    assert len({e["resource"]["id"] for e in answer.json.get("entry", [])}) == len(
        answer.json.get("entry", [])
    )


def test_bundles_beyond_measure(town: Town) -> None:
    read = {"request": {"method": "GET", "url": "Organization?_count=1"}}
    told(ask(town, "POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [read] * 10_001}), 413)
    same = {"fullUrl": "urn:uuid:1", "resource": patient(), "request": {"method": "POST", "url": "Patient"}}
    told(
        ask(town, "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [same] * 500}),
        400,
        422,
    )
    chain = [
        {
            "fullUrl": f"urn:uuid:{n}",
            "resource": {
                "resourceType": "Organization",
                "name": "x",
                "partOf": {"reference": f"urn:uuid:{n + 1}"},
            },
            "request": {"method": "POST", "url": "Organization"},
        }
        for n in range(2_000)
    ]
    fine(ask(town, "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": chain}))
    conditional = [
        {
            "resource": patient(),
            "request": {"method": "POST", "url": "Patient", "ifNoneExist": f"identifier=urn:many|{n % 7}"},
        }
        for n in range(300)
    ]
    fine(ask(town, "POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": conditional}))


# ----------------------------------------------------------------------------------------------------------------- sizes


def test_a_hundred_megabytes(town: Town, somebody: str) -> None:
    huge = b" " * (100 * MEGABYTE)
    for path in ("Patient", "", "Patient/$validate", "Binary", "Patient/_search", "$import"):
        answer = ask(town, "POST", path, huge, **(FORM if path.endswith("_search") else {}))
        told(answer, 400, 404, 413)
    told(ask(town, "PUT", "Patient/x", huge), 413)
    told(
        ask(town, "PATCH", f"Patient/{somebody}", huge, Content_Type="application/json-patch+json"),
        413,
    )
    said = spoken(town.site, chunked([b" " * MEGABYTE] * 100, town))
    assert said == b"" or b" 413 " in said.split(b"\r\n")[0], said[:200]


def test_gzip_bombs(town: Town) -> None:
    bomb = gzip.compress(b" " * (300 * MEGABYTE))
    for path in ("Patient", "", "Patient/$validate"):
        told(ask(town, "POST", path, bomb, Content_Encoding="gzip"), 400, 413)
    many = gzip.compress(b" " * MEGABYTE) * 300  # members one after the other
    told(ask(town, "POST", "Patient", many, Content_Encoding="gzip"), 400, 413)
    told(ask(town, "POST", "Patient", gzip.compress(bomb), Content_Encoding="gzip"), 400, 413)
    told(ask(town, "POST", "Patient", bomb, Content_Encoding="gzip, gzip"), 400, 413, 415)
    binary = {
        "resourceType": "Binary",
        "contentType": "application/gzip",
        "data": base64.b64encode(bomb).decode(),
    }
    fine(ask(town, "POST", "Binary", binary))  # kept as it is, never opened


def test_unsafe_addresses_are_not_called(town: Town) -> None:
    """What the door is asked to call later may not be a file, this machine's inside or another scheme."""
    for address in (
        "file:///etc/passwd",
        "gopher://127.0.0.1:70/x",
        "ftp://x/y",
        "javascript:alert(1)",
        "",
        "http://",
        "//x",
    ):
        hook = {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "x",
            "criteria": "Patient?name=x",
            "channel": {"type": "rest-hook", "endpoint": address, "payload": "application/fhir+json"},
        }
        told(ask(town, "POST", "Subscription", hook), 400, 403, 422)
        source = {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "inputFormat", "valueCode": "application/fhir+ndjson"},
                {
                    "name": "input",
                    "part": [{"name": "type", "valueCode": "Patient"}, {"name": "url", "valueUrl": address}],
                },
            ],
        }
        told(ask(town, "POST", "$import", source, Prefer="respond-async"), 400, 401, 403, 404, 422)
    for criteria in (
        "",
        "Unicorn?x=y",
        "Patient?shoe=1",
        "Patient?name:shoe=x",
        "Patient?birthdate=never",
        "'; --",
        "Patient?" + "subject." * 200 + "name=x",
    ):
        hook = {
            "resourceType": "Subscription",
            "status": "requested",
            "reason": "x",
            "criteria": criteria,
            "channel": {"type": "rest-hook", "endpoint": "http://127.0.0.1:9/x"},
        }
        told(ask(town, "POST", "Subscription", hook), 400, 403, 422)


# ------------------------------------------------------------------------------------------------------------------ http


def _head(town: Town, method: str = "GET", path: str = "/fhir/metadata", *more: str) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: t",
        f"Authorization: Bearer {town.head}",
        "Content-Type: application/fhir+json",
        *more,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 7"), ("Content-Length: 5", "Transfer-Encoding: chunked"), ("Content-Length: -1",), ("Content-Length: 1e3",), ("Content-Length: 99999999999999999999",), ("Content-Length: 0x10",),
        ("Transfer-Encoding: gzip, chunked",), ("Transfer-Encoding: chunked, chunked",), ("X-Long: " + "a" * 200_000,), tuple(f"X-{n}: y" for n in range(2_000)), ("X-Bad: a\x00b",), ("Bad Header: x",), (": x",), ("If-Match: " + "W/" * 3_000,),
        ("If-None-Match: " + '"1",' * 3_000,), ("Accept: " + "a/b;q=0.1," * 1_000,), ("Prefer: " + "x," * 3_000,), ("Cookie: " + "a=b;" * 2_000,), ("Host: other", "Host: third"), ("Host: evil.example/x?y#z",), ("X-Forwarded-Host: evil.example", "X-Forwarded-Proto: javascript"),
        ("Expect: 100-continue",), ("Expect: 200-ok",), ("Connection: upgrade", "Upgrade: h2c"), ("Range: bytes=0-1,2-3," + "4-5," * 1_000,), ("Authorization: Bearer x",), ("Accept-Encoding: " + "gzip;q=0.1," * 1_000,),
    ],
    ids=lambda lines: lines[0][:30],
)  # fmt: skip
def test_stuffed_headers(town: Town, lines: tuple[str, ...]) -> None:
    for method, path in (("GET", "/fhir/metadata"), ("POST", "/fhir/Patient")):
        said = spoken(town.site, _head(town, method, path, "Connection: close", *lines) + b"{}\r\n")
        first = said.split(b"\r\n")[0]
        assert said == b"" or (first.startswith(b"HTTP/1.") and first.split(b" ")[1][:1] in b"1234"), said[
            :200
        ]
        assert (
            b"evil.example" not in said.replace(b"evil.example/x?y#z", b"")
            or b"X-Forwarded-Host" in lines[0].encode()
        )


def test_many_requests_in_one_breath(town: Town, somebody: str) -> None:
    """Pipelined requests are answered each in turn, a bad one among them not at the others' cost."""
    asked = [f"/fhir/Patient/{somebody}", "/fhir/Patient/nobody-there"] * 3
    sent = b"".join(_head(town, "GET", path) for path in asked) + _head(
        town, "GET", "/fhir/metadata", "Connection: close"
    )
    with socket.create_connection(("127.0.0.1", town.site.port), timeout=BOUND) as wire:
        wire.sendall(sent)
        reader = wire.makefile("rb")
        for path in asked:
            status = int(reader.readline().split()[1])
            length = int(http.client.parse_headers(reader)["Content-Length"])
            told_of = json.loads(reader.read(length))
            wanted = (200, somebody) if path.endswith(somebody) else (404, None)
            assert (status, told_of.get("id")) == wanted


@pytest.mark.parametrize("part", [0.05, 0.3, 0.6, 0.95])
def test_requests_cut_off(town: Town, part: float) -> None:
    whole = json.dumps(patient(identifier=[{"system": "urn:cut", "value": str(part)}])).encode()
    sent = _head(town, "POST", "/fhir/Patient", f"Content-Length: {len(whole)}") + whole
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", town.site.port), timeout=BOUND) as wire:
            wire.sendall(sent[: int(len(sent) * part)])
    assert ask(town, "GET", f"Patient?identifier=urn:cut|{part}").json["total"] == 0


def test_answers_nobody_reads(town: Town) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", town.site.port), timeout=BOUND) as wire:
            wire.sendall(_head(town, "GET", "/fhir/_history?_count=500") * 3)
    assert ask(town, "GET", "metadata").status == 200


# ---------------------------------------------------------------------------------------------------------------- memory


def _resident(pids: list[int]) -> int:
    """Megabytes of memory that the processes hold."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            found = next(
                line
                for line in Path(f"/proc/{pid}/status").read_text().splitlines()
                if line.startswith("VmRSS")
            )
            total += int(found.split()[1]) // 1024
    return total


def test_no_memory_growth(town: Town) -> None:
    """After a warm-up, rounds of bad and good requests leave the workers no fatter than a little."""

    def round_(turn: int) -> None:
        for n in range(60):
            fine(ask(town, "GET", f"Patient?name=zz{turn}{n}&identifier=urn:x|{turn}{n}&_sort=-birthdate"))
            fine(ask(town, "POST", "Patient", patient(gender=f"x{turn}{n}")))
            fine(ask(town, "POST", "Patient", b"{" * (1000 + n)))
            fine(
                ask(
                    town,
                    "GET",
                    f"Observation?code=http://x/{turn}/{n}|{n}&shoe{turn}{n}=1&_has:Provenance:target:agent=x{n}",
                )
            )
            fine(ask(town, "GET", f"ValueSet/$expand?url=http://example.org/{turn}-{n}"))
            town.site.fhir(f"{turn}-{n}-no-such-token-at-all-xx", "GET", "Patient", seconds=BOUND)
        fine(
            ask(
                town,
                "POST",
                "Patient",
                json.dumps(patient(extension=[{"url": "u", "valueString": "长" * 2_000_000}])).encode(),
            )
        )
        fine(ask(town, "POST", "", bundle("batch", *[patient(gender="x")] * 500)))

    pids = town.site.web_workers
    for turn in range(3):
        round_(turn)
    before = _resident(pids)
    for turn in range(3, 7):
        round_(turn)
    grown = _resident(pids) - before
    assert grown < 80, f"{grown} MB more than {before} MB"
