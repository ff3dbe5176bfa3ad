"""Strangers at the door: bodies and questions of every kind. Nothing gives 500, and every refusal says what is wrong."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lianxin.access import connections
from lianxin.network.models import Institution
from lianxin.record import definitions
from tests.exchange.client import Client, Reply, observation, patient
from tests.exchange.generated import Exact, dump, garble, nasty, resource, spoil

pytestmark = pytest.mark.django_db(transaction=True)
TYPES = sorted(definitions.types())
lightly = settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

VALUES = (
    "", " ", "'", "' OR '1'='1' --", "'; DROP TABLE record_resource; --", '"', "\\", "\\,", "%", "_", "%s", "%(a)s", "{0}", "${jndi:ldap://x}", "$$", "$", "|", "||", "|||", "a|", "|a", ",", "," * 10_000,
    "a," * 5_000, "9" * 400, "-" + "9" * 400, "1e400", "1e-400", "1e999999999", "0x10", "NaN", "Infinity", "-0", "+1", "1.", ".5", "1,5", "٣", "0000", "0001", "9999", "10000", "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+14:00", "2026-02-30", "2026-13", "2026-1-1", "2026-03-01T24:00:00Z", "2026-03-01T08:00", "2026-03-01T08:00:60Z", "2026-03-01T08:00:00.123456789012Z", "gt", "eq", "zz2026", "gtgt2026", "ge9999-12-31",
    "lt0001-01-01", "ap9999", "sa0001", "-2026", "Patient/", "/", "Patient/x/y", "Patient/../Observation/1", "http://", "http://[::1", "Patient?name=x", "Patient/1/_history/1", "#", "urn:uuid:", "x" * 10_000, "(a+)+$",
    "^(([a-z])+.)+[A-Z]([a-z])+$", "*", "[", "Patient.name.where(true)", "%resource", "iif(true,1,2)", "(1..9999999)", "\u202e", "👩‍⚕️", "\ufeff", "e\u0301", "ﬃ", "İ", "ß", "\x01", "\x7f", "\r\nSet-Cookie: a=b", "true", "null",
    "undefined", "[]", "{}", "a:b", "a.b.c", "5.40e-3|http://unitsofmeasure.org|mg", "1||", "1|http://unitsofmeasure.org|" + "m" * 3000, "5|http://unitsofmeasure.org|10*99999", "5|http://unitsofmeasure.org|((((((((m", "a$b", "a$b$c$d", "$" * 3000,
)  # fmt: skip
MODIFIERS = (
    "",
    "",
    "",
    ":exact",
    ":contains",
    ":missing",
    ":not",
    ":text",
    ":in",
    ":not-in",
    ":below",
    ":above",
    ":identifier",
    ":of-type",
    ":Patient",
    ":shoe",
    ":",
    ":iterate",
    ":exact:exact",
    ":Patient.name",
    ":\u202e",
)
CONTROL = ("_id", "_lastUpdated", "_tag", "_profile", "_security", "_source", "_text", "_content", "_list", "_has", "_type", "_sort", "_count", "_total", "_summary", "_elements", "_include", "_revinclude", "_include:iterate",
           "_contained", "_filter", "_cursor", "_since", "_at", "_format", "_pretty", "_query", "_score", "_getpages", "_offset", "_page")  # fmt: skip


@pytest.fixture
def client(db: None) -> Iterator[Client]:
    Institution.objects.create(code="F1", name="县医院", kind="hospital", tier="county", division="331023")
    yield Client("fuzz", "F1")
    connections.close()


@pytest.fixture
def person(client: Client) -> str:
    """Somebody with a few readings."""
    pid: str = client("POST", "Patient", patient("单晓明")).json["id"]
    for n in range(3):
        assert client("POST", "Observation", observation(pid, value=str(100 + n))).status == 201
    return pid


def sane(reply: Reply, *asked: Any) -> Reply:
    """No 5xx; JSON; a refusal is an OperationOutcome that says something."""
    assert reply.status < 500, (reply.status, reply.raw[:400], *[str(a)[:1500] for a in asked])
    if reply.status >= 400:
        assert reply.json["resourceType"] == "OperationOutcome"
        issue = reply.issues[0]
        assert issue["severity"] in ("error", "fatal"), asked
        assert issue["code"]
        assert issue.get("diagnostics") or issue.get("details", {}).get("text"), asked
        assert "psycopg" not in reply.raw.decode()
        assert "Traceback" not in reply.raw.decode()
    return reply


def quoted(value: str) -> str:
    return urllib.parse.quote(value.encode("utf-8", "surrogatepass"), safe="")


def utf8(value: Any, rnd: Random) -> bytes:
    """JSON text; a lone surrogate becomes the bytes that some programs send for it."""
    return dump(value, rnd).encode("utf-8", "surrogatepass")


# --------------------------------------------------------------------------------------------------------------- bodies


def test_resources_sound_and_broken(client: Client, person: str) -> None:
    @lightly
    @given(
        st.sampled_from(TYPES),
        st.randoms(use_true_random=False),
        st.sampled_from(("POST", "PUT", "$validate")),
    )
    def attempt(rtype: str, rnd: Random, how: str) -> None:
        sound = resource(rtype, rnd, person, 0.2)
        broken = spoil(json.loads(json.dumps(sound, default=str)), rnd)
        for body in (sound, broken):
            raw = utf8({**body, "id": "fz-1"} if how == "PUT" else body, rnd)
            path = f"{rtype}/fz-1" if how == "PUT" else f"{rtype}/$validate" if how == "$validate" else rtype
            method = "PUT" if how == "PUT" else "POST"
            reply = sane(client(method, path, raw), method, path, raw)
            if reply.status in (200, 201) and how != "$validate":
                where = reply.headers["Location"].split("/fhir/")[1]
                sane(client("GET", where), raw)
                sane(client("GET", where.split("/_history")[0] + "?_summary=true"), raw)
            sane(client(method, path, garble(raw, rnd)), method, path, raw)

    attempt()


def test_every_type_with_every_nasty_value(client: Client, person: str) -> None:
    rnd = Random(7)
    for rtype in TYPES:
        base = resource(rtype, rnd, person, 0.1)
        rows = definitions.elements(rtype)
        for name in rnd.sample(sorted(rows), min(4, len(rows))):
            raw = utf8({**base, name.removesuffix("[x]"): nasty(rnd)}, rnd)
            sane(client("POST", rtype, raw), rtype, raw)


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_bundles(client: Client, person: str, kind: str) -> None:
    urls = ("Patient", "Patient/", "/Patient", "Patient/x", "Patient?name=x", "Patient/x/_history", "Patient/x/_history/1", "$validate", "Patient/$everything", "../x", "", "?", "_history", "metadata", "Patient?identifier=%00",
            "http://other.example/fhir/Patient", "Unicorn", "Patient/x?y=z", "Observation?patient=Patient/x&_count=99999999999999", "Bundle", "%zz", "\u202e", "x" * 5000)  # fmt: skip

    @lightly
    @given(st.randoms(use_true_random=False))
    def attempt(rnd: Random) -> None:
        entries: list[Any] = []
        for n in range(rnd.choice((1, 2, 4))):
            rtype = rnd.choice(
                ("Patient", "Observation", "Practitioner", "Encounter", "Binary", "Parameters")
            )
            body: Any = resource(rtype, rnd, person, 0.1)
            if rnd.random() < 0.5:
                body = {
                    "resourceType": "Practitioner",
                    "name": [{"text": "李"}],
                    "id": rnd.choice(("bx", f"b{n}")),
                }
                rtype = "Practitioner"
            elif rnd.random() < 0.2:
                body = rnd.choice(
                    (
                        spoil(json.loads(json.dumps(body, default=str)), rnd),
                        nasty(rnd),
                        {"reference": f"urn:uuid:{n}"},
                    )
                )
            method = rnd.choice(("GET", "POST", "POST", "PUT", "PUT", "PATCH", "DELETE", "HEAD"))
            url = (
                rtype if method == "POST" else rnd.choice((f"{rtype}/bx", f"{rtype}/b{n}", f"{rtype}?_id=bx"))
            )
            wild = ("FLY", "", 7) if rnd.random() < 0.05 else ()
            request: Any = {
                "method": rnd.choice((*wild, method, method)),
                "url": rnd.choice(urls) if rnd.random() < 0.2 else url,
            }
            for name in ("ifMatch", "ifNoneMatch", "ifNoneExist", "ifModifiedSince"):
                if rnd.random() < 0.04:
                    request[name] = rnd.choice((rnd.choice(VALUES), nasty(rnd)))
            entry: Any = {
                "fullUrl": f"urn:uuid:{n if rnd.random() < 0.9 else 0}",
                "request": request,
            }
            if rnd.random() < 0.8:
                entry["resource"] = body
            entries.append(nasty(rnd) if rnd.random() < 0.02 else entry)
        raw = utf8({"resourceType": "Bundle", "type": kind, "entry": entries}, rnd)
        reply = sane(client("POST", "", raw), raw)
        if reply.status == 200:
            for got in reply.json["entry"]:
                assert got["response"]["status"][0] in "234", raw

    attempt()


def test_patches(client: Client, person: str) -> None:
    rid = client(
        "POST",
        "Practitioner",
        {"resourceType": "Practitioner", "name": [{"text": "李", "given": ["a"]}], "active": True},
    ).json["id"]
    pointers = (
        "",
        "/",
        "/name",
        "/name/0",
        "/name/-",
        "/name/99999999999",
        "/name/-1",
        "/name/0/given/0",
        "/active",
        "/a~0b",
        "/~",
        "~2",
        "/name/00",
        "x",
        "/meta/versionId",
        "/id",
        "/" * 5000,
        "/name/0/" + "x/" * 3000,
    )
    paths = ("", "Practitioner", "Practitioner.name", "Practitioner.name[0].given", "name", "%resource", "Practitioner.repeat(name)", "(((((((((1", "Practitioner.name.where(text.matches('(a+)+$'))", "Practitioner" + ".name" * 2000,
             "Practitioner.name.where(" * 200, "1 + 1", "Practitioner.name | Practitioner.name", "'" * 99, "iif(" * 500, "Practitioner.descendants()", "now()", "Practitioner.name.first().text", "resolve()", "\u202e", "a" * 100_000)  # fmt: skip

    @lightly
    @given(st.randoms(use_true_random=False))
    def attempt(rnd: Random) -> None:
        steps = [
            {
                k: v
                for k, v in {
                    "op": rnd.choice(("add", "remove", "replace", "move", "copy", "test", "fly", 7)),
                    "path": rnd.choice(pointers),
                    "from": rnd.choice(pointers),
                    "value": nasty(rnd),
                }.items()
                if rnd.random() < 0.9
            }
            for _ in range(rnd.choice((1, 2, 5)))
        ]
        raw = utf8(steps, rnd)
        sane(client("PATCH", f"Practitioner/{rid}", raw, content_type="application/json-patch+json"), raw)
        part: list[Any] = [
            {"name": "type", "valueCode": rnd.choice(("add", "insert", "delete", "replace", "move", "fly"))},
            {"name": "path", "valueString": rnd.choice(paths)},
        ]
        for name in ("name", "value", "index", "source", "destination", "shoe"):
            if rnd.random() < 0.5:
                kind = rnd.choice(
                    ("valueString", "valueInteger", "valueHumanName", "part", "resource", "valueX")
                )
                part.append(
                    {
                        "name": name,
                        kind: rnd.choice((0, 1, -1, 10**12, "text", {"text": "x"}, nasty(rnd))),
                    }
                )
        raw = utf8({"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}, rnd)
        sane(client("PATCH", f"Practitioner/{rid}", raw), raw)
        raw = utf8(
            {rnd.choice(("name", "active", "shoe", "meta", "id", "resourceType", "")): nasty(rnd)}, rnd
        )
        sane(client("PATCH", f"Practitioner/{rid}", raw, content_type="application/merge-patch+json"), raw)
        assert sane(client("GET", f"Practitioner/{rid}")).status == 200

    attempt()


# ------------------------------------------------------------------------------------------------------------ questions


def test_every_parameter_of_every_type(client: Client, person: str) -> None:
    rnd = Random(11)
    for rtype in TYPES:
        for name in sorted(definitions.params(rtype)):
            question = f"{rtype}?{name}{rnd.choice(MODIFIERS)}={quoted(rnd.choice(VALUES))}&_count=1"
            sane(client("GET", question), question)


@pytest.mark.parametrize("rtype", ["Patient", "Observation", "ValueSet"])
def test_every_nasty_value_in_some_parameter_of_each_kind(client: Client, person: str, rtype: str) -> None:
    seen: dict[str, str] = {}
    for name, param in definitions.params(rtype).items():
        seen.setdefault(param.kind, name)
    for name in (*seen.values(), *CONTROL):
        for value in VALUES:
            question = f"{rtype}?{name}={quoted(value)}"
            sane(client("GET", question), question)


def test_questions_of_many_parts(client: Client, person: str) -> None:
    @lightly
    @given(
        st.sampled_from(("Patient", "Observation", "Encounter", "Condition", "Practitioner", "")),
        st.randoms(use_true_random=False),
    )
    def attempt(rtype: str, rnd: Random) -> None:
        names = [*(definitions.params(rtype) if rtype else ()), *CONTROL]
        parts = []
        for _ in range(rnd.choice((1, 2, 3, 8))):
            name = rnd.choice(names)
            if rnd.random() < 0.3:
                name = rnd.choice(
                    (
                        f"{name}.{rnd.choice(names)}",
                        f"_has:Observation:{name}:{rnd.choice(names)}",
                        f"subject:Patient.{name}",
                        f"_has:{name}",
                        f"{name}:Patient.general-practitioner:Practitioner.name",
                    )
                )
            parts.append(
                f"{quoted(name) if rnd.random() < 0.2 else name}{rnd.choice(MODIFIERS)}={quoted(rnd.choice(VALUES)[:3000])}"
            )
        where = rnd.choice(
            (
                rtype,
                f"{rtype}/{person}",
                f"Patient/{person}/{rtype}",
                f"{rtype}/_history",
                f"{rtype}/{person}/$everything",
                f"{rtype}/$lastn",
                f"{rtype}/$shoe",
            )
        )
        question = f"{where}?{'&'.join(parts)}"
        sane(
            client("GET", question, prefer=rnd.choice(("", "handling=strict", "handling=lenient", "\u202e"))),
            question,
        )
        form = "&".join(parts).encode()
        sane(
            client("POST", f"{rtype}/_search", form, content_type="application/x-www-form-urlencoded"),
            question,
        )

    attempt()


def test_any_text_anywhere(client: Client, person: str) -> None:
    words = st.text(max_size=40)

    @lightly
    @given(words, words, words, st.binary(max_size=60))
    def attempt(name: str, value: str, place: str, raw: bytes) -> None:
        for question in (f"Patient?{quoted(name)}={quoted(value)}", f"Patient/{quoted(place)}", f"{quoted(place)}?{quoted(name)}", f"Observation?code={quoted(value)}&{quoted(name)}=1",
                         f"Patient/{person}/_history/{quoted(place)}", f"ValueSet/$expand?url={quoted(value)}&filter={quoted(name)}", f"Patient?{urllib.parse.quote_from_bytes(raw)}"):  # fmt: skip
            sane(client("GET", question), question)
        sane(client("POST", "Patient", raw), raw)
        sane(client("POST", "", raw), raw)

    attempt()


def test_headers(client: Client, person: str) -> None:
    names = ("if_match", "if_none_match", "if_modified_since", "if_none_exist", "prefer", "accept", "accept_encoding", "content_encoding", "content_type", "host", "x_forwarded_proto", "x_forwarded_host", "x_request_id", "authorization",
             "idempotency_key", "accept_language", "range", "expect", "origin", "x_http_method_override", "x_security_context")  # fmt: skip

    @lightly
    @given(
        st.sampled_from(names),
        st.one_of(
            st.sampled_from([v for v in VALUES if v.isascii()]),
            st.text(alphabet=st.characters(max_codepoint=255), max_size=60),
        ),
        st.sampled_from(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")),
    )
    def attempt(name: str, value: str, method: str) -> None:
        body = (
            {**patient("头"), "id": "hd-1"}
            if method == "PUT"
            else patient("头")
            if method in ("POST", "PATCH")
            else None
        )
        path = "Patient" if method == "POST" else "Patient/hd-1"
        reply = client(method, path, body, **{name: value})
        assert reply.status < 500, (reply.status, reply.raw[:300], name, value, method)
        for got in reply.headers.values():
            assert "\n" not in got
            assert "\r" not in got

    attempt()


def test_exact_numbers_are_only_numbers(client: Client, person: str) -> None:
    """Whatever digits a value has, the door keeps them, searches them, or says why not."""
    rnd = Random(3)
    for digits in (
        "1e308",
        "1e309",
        "-1e309",
        "1e-320",
        "0.1e1",
        "1E400",
        "9" * 60,
        "0." + "0" * 400 + "1",
        "1e99999999999",
        "-0",
        "0e0",
        "123456789012345678901234567890.123456789",
    ):
        body = json.loads(observation(person))
        body["valueQuantity"]["value"] = Exact(digits)
        reply = sane(client("POST", "Observation", utf8(body, rnd)), digits)
        assert reply.status in (201, 400, 422)
        if reply.status == 201:
            assert digits.encode() in client("GET", f"Observation/{reply.json['id']}").raw
        sane(client("GET", f"Observation?value-quantity={quoted(digits)}"), digits)
