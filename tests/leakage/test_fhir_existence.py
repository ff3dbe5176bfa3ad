"""Nobody outside can tell a hidden resource from one that is not there: every interaction and operation the CapabilityStatement
lists is asked twice, about the canary and about something that never was, and the answers must be the same."""

from __future__ import annotations

import datetime as dt
import json
import re
import urllib.parse
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from lianxin.access import tokens
from lianxin.access.models import Account, Grant
from lianxin.access.models import Client as Machine
from lianxin.access.scope import posts_of
from lianxin.access.seal import sm3
from lianxin.index.models import Person
from lianxin.record import definitions
from lianxin.standards import clock
from lianxin.standards.identifiers import number_valid
from tests.exchange.client import Client, Reply
from tests.leakage.conftest import DIAGNOSIS, ID_NUMBER, NAME, NOTE, PHONE, Cage

pytestmark = [pytest.mark.concurrency]

VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d:\d\d|Z)|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
)
INSTANCE = (
    "{t}/{id}", "{t}/{id}/_history", "{t}/{id}/_history/1", "{t}/{id}/_history/2", "{t}/{id}/_history?_count=1",
    "{t}?_id={id}", "{t}?_id={id}&_summary=count", "{t}?_id={id}&_total=accurate&_count=0", "{t}?_id={id}&_include=*&_revinclude=*",
    "{t}?_list={id}", "{t}?_id:not={id}&_summary=count", "{t}?_has:Provenance:target:_id={id}", "{t}/{id}?_summary=text",
    "{t}/{id}?_elements=id", "Provenance?target={t}/{id}", "AuditEvent?entity={t}/{id}", "List?item={t}/{id}",
)  # fmt: skip
ABOUT = (
    "{t}?{p}={pid}", "{t}?{p}=Patient/{number}", "{t}?{p}={pid}&_summary=count", "{t}?{p}.name={name}", "{t}?{p}:Patient.identifier={idno}",
    "{t}?{p}:identifier=|{idno}", "{t}?{p}:missing=false&_summary=count", "Patient?_has:{t}:{p}:_id={id}&_summary=count",
    "Patient/{pid}/{t}", "Patient/{number}/{t}", "Patient?_revinclude={t}:{p}&_id={pid}",
)  # fmt: skip
OTHERS = (
    "Patient?name={name}", "Patient?name:contains={name}", "Patient?phonetic={name}", "Patient?identifier={idno}", "Patient?telecom={phone}",
    "Patient?phone={phone}", "Patient?_filter=name eq {name}", "Patient?link={pid}", "Patient/{number}", "Patient/{number}/$everything",
    "Condition?code:text={diagnosis}", "Observation?value-string={note}", "DocumentReference?description={note}", "?_type=Patient,Observation&_id={pid}",
    "?_id={pid}&_type=Patient", "Encounter/{id}/$everything", "Patient/{pid}/$summary", "Patient/{pid}/$export", "Group?member=Patient/{pid}",
    "Patient?general-practitioner.name=x&_id={pid}", "Person?patient={pid}", "RelatedPerson?patient.name={name}", "Task?patient.identifier={idno}",
    "Observation/$lastn?patient={pid}", "Observation/$lastn?subject=Patient/{number}", "Composition?subject={pid}",
)  # fmt: skip


class Pair:
    """The same question about what is there and about what is not."""

    def __init__(self, cage: Cage) -> None:
        taken = set(Person.objects.unscoped("test").values_list("number", flat=True))
        number = next(
            n
            for n in (f"{i:010d}" for i in range(4_000_000_000, 4_100_000_000))
            if number_valid(n) and n not in taken
        )
        self.real = {
            "pid": cage.patient, "number": cage.person.number, "name": NAME, "idno": ID_NUMBER, "phone": PHONE, "diagnosis": DIAGNOSIS,
            "note": NOTE, "case": cage.case,
        }  # fmt: skip
        self.none = {
            "pid": str(uuid.uuid4()), "number": number, "name": "司空无人", "idno": "331023196107230001", "phone": "13900000001",
            "diagnosis": "金丝雀无此病", "note": "金丝雀无此文", "case": cage.case[:-3] + "997",
        }  # fmt: skip
        self.ids = dict(cage.resources) | {
            "Patient": cage.patient,
            "ServiceRequest": cage.case,
            "Task": f"{cage.case}-1",
        }
        self.absent = str(uuid.uuid4())
        self.shaped = {
            "ServiceRequest": self.none["case"],
            "Task": f"{self.none['case']}-1",
        }  # a case's number says what it is

    def values(self, rtype: str, real: bool) -> dict[str, str]:
        known = self.ids.get(rtype, self.ids["Condition"])
        base = self.real if real else self.none
        return base | {"t": rtype, "id": known if real else self.shaped.get(rtype, self.absent)}

    def blank(self, text: str, values: dict[str, str]) -> str:
        """An answer without what was asked with, and without what changes from call to call."""
        text = urllib.parse.unquote(text)
        for value in sorted(values.values(), key=len, reverse=True):
            if len(value) > 3 and value not in definitions.types():
                text = text.replace(value, "#")
        return VOLATILE.sub("~", text)


def by_app(account: Account, scope: str = "user/*.cruds") -> Client:
    """The door through an app that this person opened."""
    app, _ = Machine.objects.get_or_create(
        name="probing app", defaults={"kind": "app", "scope": scope, "redirect_uris": ["https://a.example/"]}
    )
    post = posts_of(account)[0]
    now = clock.now()
    grant = Grant.objects.create(
        client=app, account=account, post=post, scope=scope, created_at=now, expires_at=now + dt.timedelta(hours=12),
        code_hash=sm3(uuid.uuid4().bytes), code_expires_at=now,
        redirect_uri="https://a.example/", challenge="x",
    )  # fmt: skip
    made = Client.__new__(Client)
    made.token = tokens.mint(app, tuple(scope.split()), grant.expires_at - now, grant)
    return made


def outsiders(cage: Cage) -> Iterator[tuple[str, Client]]:
    """Clients and people who have nothing to do with the canary."""
    yield "outside", Client("outside", "OUT-1")
    yield "neighbour", Client("neighbour", "SC-T3")
    yield "neighbour's doctor by an app", by_app(cage.outsiders["neighbour gp"])


def same(
    pair: Pair,
    who: str,
    client: Client,
    method: str,
    pattern: str,
    rtype: str,
    body: Any = None,
    **headers: str,
) -> str | None:
    """A line saying how the two answers differ, or None."""
    got: list[tuple[Any, ...]] = []
    for real in (True, False):
        values = pair.values(rtype, real)
        given = (
            json.loads(json.dumps(body).replace("@id", values["id"]).replace("@pid", values["pid"]))
            if body is not None
            else None
        )
        path = pattern.format(**values)
        sent = {k: v.format(**values) for k, v in headers.items()}
        reply = client(method, path, given, **sent)
        if reply.status >= 500:
            return f"{who}: {method} {path} {reply.status}"
        got.append(
            (
                reply.status,
                pair.blank(reply.raw.decode(), values),
                "ETag" in reply.headers,
                "Last-Modified" in reply.headers,
            )
        )
    if got[0] != got[1]:
        return f"{who}: {method} {pattern} ({rtype}) {got[0][0]}/{got[1][0]}\n   {got[0][1][:300]}\n   {got[1][1][:300]}"
    return None


def statement() -> dict[str, Any]:
    """What the server says it can do."""
    reply: Reply = Client("capability")("GET", "metadata")
    return reply.json["rest"][0]


def test_every_type_and_interaction(cage: Cage) -> None:
    pair, wrong = Pair(cage), []
    offered = {r["type"]: r for r in statement()["resource"]}
    for who, client in outsiders(cage):
        for rtype in sorted(offered):
            if rtype in definitions.OPEN_TYPES or (who != "outside" and rtype not in pair.ids):
                continue
            params = {p["name"] for p in offered[rtype].get("searchParam", [])}
            patterns = list(INSTANCE) if rtype in pair.ids or who == "outside" else ["{t}/{id}"]
            for name in ("patient", "subject"):
                if name in params:
                    patterns += [a.replace("{p}", name) for a in (ABOUT if rtype in pair.ids else ABOUT[:3])]
            wrong += [same(pair, who, client, "GET", pattern, rtype) for pattern in patterns]
            bare = {"resourceType": rtype}
            wrong += [
                same(pair, who, client, "DELETE", "{t}/{id}", rtype),
                same(pair, who, client, "DELETE", "{t}?_id={id}", rtype),
                same(pair, who, client, "PUT", "{t}/{id}", rtype, bare | {"id": "@id"}, if_match='W/"1"'),
                same(pair, who, client, "PUT", "{t}/{id}", rtype, bare | {"id": "@id"}, if_match='W/"7"'),
                same(pair, who, client, "PATCH", "{t}/{id}", rtype, [{"op": "add", "path": "/language", "value": "zh"}],
                     content_type="application/json-patch+json"),
                same(pair, who, client, "PATCH", "{t}?_id={id}", rtype, [{"op": "add", "path": "/language", "value": "zh"}],
                     content_type="application/json-patch+json"),
                same(pair, who, client, "POST", "{t}", rtype, bare | {"bogus": 1}, if_none_exist="_id={id}"),
                same(pair, who, client, "GET", "{t}/{id}", rtype, if_none_match='W/"1"'),
                same(pair, who, client, "POST", "{t}/_search", rtype),
            ]  # fmt: skip
        for pattern in OTHERS:
            wrong.append(same(pair, who, client, "GET", pattern, "Condition"))
    wrong = [line for line in wrong if line]
    assert wrong == [], "\n".join(map(str, wrong[:40]))


def test_every_operation(cage: Cage) -> None:
    pair, wrong = Pair(cage), []
    rest = statement()
    offered = [
        (r["type"], o["name"])
        for r in rest["resource"]
        for o in r.get("operation", [])
        if r["type"] not in definitions.OPEN_TYPES
    ]
    systemwide = [o["name"] for o in rest.get("operation", [])]
    parameters = {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "patient", "valueReference": {"reference": "Patient/@pid"}}, {"name": "subject", "valueReference": {"reference": "Patient/@pid"}},
            {"name": "meta", "valueMeta": {"tag": [{"system": "urn:x", "code": "x"}]}}, {"name": "move", "valueCode": "receive"},
            {"name": "key", "valueString": "probe"}, {"name": "reference", "valueReference": {"reference": "Condition/@id"}},
        ],
    }  # fmt: skip
    assert len({name for _, name in offered}) >= 5
    for who, client in outsiders(cage):
        for rtype, name in offered:
            if rtype not in pair.ids:
                continue
            for method, body in (("GET", None), ("POST", parameters)):
                for pattern in (
                    "{t}/{id}/$" + name,
                    "{t}/$" + name + "?patient={pid}&subject=Patient/{number}",
                ):
                    wrong.append(same(pair, who, client, method, pattern, rtype, body))
        for name in systemwide:
            if name == "export":
                continue
            wrong.append(
                same(pair, who, client, "POST", "$" + name + "?patient={pid}", "Condition", parameters)
            )
    found = {
        "resourceType": "Parameters",
        "parameter": [{"name": "resource", "resource": {"resourceType": "Patient", "name": [{"text": NAME}], "birthDate": "1961-07-23",
                       "identifier": [{"system": "http://lianxin.example/id/resident-id-card", "value": ID_NUMBER}]}}],
    }  # fmt: skip
    for who, client in outsiders(cage):
        reply = client("POST", "Patient/$match", found)
        if reply.status == 200 and reply.json.get("entry"):
            wrong.append(f"{who}: $match found {len(reply.json['entry'])}")
        if leaks := cage.leaked(reply.raw, NAME, ID_NUMBER):
            wrong.append(f"{who}: $match {leaks}")
    wrong = [line for line in wrong if line]
    assert wrong == [], "\n".join(map(str, wrong[:40]))


def test_bundles_and_references(cage: Cage) -> None:
    pair, wrong = Pair(cage), []
    about = {"resourceType": "Condition", "code": {"text": "x"}}
    for who, client in outsiders(cage):
        for url in (
            "Condition/@id",
            "Condition?_id=@id",
            "Patient/@pid/$everything",
            "Patient/@pid",
            "Condition/@id/_history",
        ):
            bundle = {
                "resourceType": "Bundle",
                "type": "batch",
                "entry": [{"request": {"method": "GET", "url": url}}],
            }
            wrong.append(same(pair, who, client, "POST", "", "Condition", bundle))
            wrong.append(same(pair, who, client, "POST", "", "Condition", bundle | {"type": "transaction"}))
        for kind in ("batch", "transaction"):
            for reference in ("Patient/@pid", "Patient?_id=@pid"):
                entry = {
                    "resource": about | {"subject": {"reference": reference}},
                    "request": {"method": "POST", "url": "Condition"},
                }
                wrong.append(
                    same(
                        pair,
                        who,
                        client,
                        "POST",
                        "",
                        "Condition",
                        {"resourceType": "Bundle", "type": kind, "entry": [entry]},
                    )
                )
            for request in (
                {"method": "DELETE", "url": "Condition/@id"},
                {"method": "DELETE", "url": "Condition?_id=@id"},
            ):
                bundle = {"resourceType": "Bundle", "type": kind, "entry": [{"request": request}]}
                wrong.append(same(pair, who, client, "POST", "", "Condition", bundle))
        wrong.append(
            same(
                pair,
                who,
                client,
                "POST",
                "Condition",
                "Condition",
                about | {"subject": {"reference": "Patient/@pid"}},
            )
        )
        known = {
            "resourceType": "Condition",
            "code": {"text": "x"},
            "encounter": {"reference": "Encounter/@id"},
            "subject": {"reference": "Patient/@pid"},
        }
        wrong.append(same(pair, who, client, "POST", "Condition", "Encounter", known))
    wrong = [line for line in wrong if line]
    assert wrong == [], "\n".join(map(str, wrong[:40]))


def test_a_cursor_from_inside_opens_nothing_outside(cage: Cage) -> None:
    home = Client("home again", cage.world.county.townships[0].code)
    for path in (
        "Condition?_count=1",
        "Observation?_count=1&_sort=-date",
        "_history?_count=1",
        "Observation/_history?_count=1",
    ):
        for extra in range(2):
            home("POST", "Observation", {"resourceType": "Observation", "status": "final", "code": {"text": f"{extra}"},
                                         "subject": {"reference": f"Patient/{cage.patient}"}, "valueString": NOTE})  # fmt: skip
            home(
                "POST",
                "Condition",
                {
                    "resourceType": "Condition",
                    "code": {"text": NOTE},
                    "subject": {"reference": f"Patient/{cage.patient}"},
                },
            )
        found = home("GET", path).json
        cursor = next(link["url"] for link in found["link"] if link["relation"] == "next").partition(
            "/fhir/"
        )[2]
        assert home("GET", cursor).json.get("entry")
        for who, client in outsiders(cage):
            reply = client("GET", cursor)
            assert reply.status in (200, 400, 403), (who, cursor)
            assert cage.leaked(reply.raw, cursor) == [], (who, cursor)
            if "history" not in path:
                assert not [
                    e for e in reply.json.get("entry", []) if e.get("search", {}).get("mode") == "match"
                ], (who, cursor)


def test_every_role_through_an_app(cage: Cage) -> None:
    paths = [
        f"Patient/{cage.patient}", f"Patient/{cage.person.number}", f"Patient?name={NAME}", f"Patient?identifier={ID_NUMBER}", "Condition",
        f"Observation?patient={cage.patient}", f"Patient/{cage.patient}/$everything", "_history", "Patient?_has:Condition:patient:code=E04.1",
        f"Condition/{cage.resources['Condition']}/_history/1", f"ServiceRequest/{cage.case}", "Encounter?_include=Encounter:patient",
    ]  # fmt: skip
    for role, account in cage.outsiders.items():
        client = by_app(account)
        for path in paths:
            reply = client("GET", path)
            assert reply.status in (200, 403, 404), (role, path, reply.status)
            assert cage.leaked(reply.raw, path) == [], (role, path)
            if reply.status == 200 and "_history" not in path:
                assert reply.json.get("total", 0) == 0, (role, path)
