"""Schemathesis over an OpenAPI description made from our own CapabilityStatement: what it says, is tried with anything."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from tests.clients.conftest import Door
from tests.clients.speech import good, patient, unique

PATIENCE = 60.0  # seconds for one answer: a client's, generous for a busy machine
TYPES = (
    "Patient",
    "Observation",
    "Practitioner",
    "Encounter",
    "ServiceRequest",
    "Task",
    "Bundle",
    "Binary",
    "ValueSet",
    "Subscription",
)
FORMATS = {"date": "date", "number": "number", "quantity": "quantity"}


def described(statement: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3 of the CapabilityStatement: each type's interactions with its search parameters and operations."""
    text: dict[str, Any] = {"type": "string", "maxLength": 200}
    resource = {
        "type": "object",
        "properties": {
            "resourceType": text,
            "id": text,
            "meta": {"type": "object"},
            "status": text,
            "name": {},
            "code": {},
            "subject": {},
            "extension": {"type": "array"},
        },
    }
    steps = {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "op": {"enum": ["add", "remove", "replace", "move", "copy", "test"]},
                "path": text,
                "from": text,
                "value": {},
            },
        },
    }
    rid = {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 80},
    }
    version = {**rid, "name": "version"}

    def query(name: str) -> dict[str, Any]:
        return {"name": name, "in": "query", "required": False, "schema": text}

    def body(*kinds: str, schema: Any = resource) -> dict[str, Any]:
        return {"content": {kind: {"schema": schema} for kind in kinds}}

    def operation(
        parameters: list[Any] | None = None, sent: Any = None, headers: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        made: dict[str, Any] = {
            "responses": {"default": {"description": "a resource or an OperationOutcome"}}
        }
        made["parameters"] = [
            *(parameters or []),
            *({"name": n, "in": "header", "required": False, "schema": text} for n in headers),
        ]
        if sent:
            made["requestBody"] = sent
        return made

    json = "application/fhir+json"
    control = [
        query(n)
        for n in (
            "_count",
            "_sort",
            "_include",
            "_revinclude",
            "_summary",
            "_elements",
            "_total",
            "_cursor",
            "_format",
        )
    ]
    paths: dict[str, Any] = {
        "/metadata": {"get": operation([query("_format"), query("mode"), query("_summary")])},
        "/_history": {"get": operation([query("_since"), query("_count"), query("_cursor")])},
        "/": {"post": operation(sent=body(json)), "get": operation([query("_type"), *control])},
    }
    for one in statement["rest"][0]["resource"]:
        kind = one["type"]
        if kind not in TYPES:
            continue
        asked = [query(p["name"]) for p in one["searchParam"]]
        paths[f"/{kind}"] = {
            "get": operation([*asked, *control], headers=("Prefer",)),
            "post": operation(sent=body(json), headers=("If-None-Exist", "Prefer")),
            "put": operation(asked[:4], body(json)), "delete": operation(asked[:4]), "patch": operation(asked[:4], body("application/json-patch+json", schema=steps)),
        }  # fmt: skip
        paths[f"/{kind}/_history"] = {"get": operation([query("_since"), query("_count"), query("_cursor")])}
        paths[f"/{kind}/_search"] = {
            "post": operation(
                control,
                body(
                    "application/x-www-form-urlencoded",
                    schema={"type": "object", "properties": {p["name"]: text for p in asked[:6]}},
                ),
            )
        }
        paths[f"/{kind}/{{id}}"] = {
            "get": operation([rid, query("_elements")], headers=("If-None-Match", "If-Modified-Since")), "put": operation([rid], body(json), ("If-Match", "If-None-Match")),
            "patch": operation([rid], body("application/json-patch+json", schema=steps), ("If-Match",)), "delete": operation([rid], headers=("If-Match",)),
        }  # fmt: skip
        paths[f"/{kind}/{{id}}/_history"] = {"get": operation([rid, query("_since"), query("_count")])}
        paths[f"/{kind}/{{id}}/_history/{{version}}"] = {"get": operation([rid, version])}
        for named in one.get("operation", []):
            paths[f"/{kind}/${named['name']}"] = {
                "get": operation([query(n) for n in ("url", "code", "patient", "max", "filter")]),
                "post": operation(sent=body(json)),
            }
            paths[f"/{kind}/{{id}}/${named['name']}"] = {
                "get": operation([rid, query("_type"), query("_count")]),
                "post": operation([rid], body(json)),
            }
    for named in statement["rest"][0].get("operation", []):
        paths[f"/${named['name']}"] = {
            "get": operation([query("_type"), query("_since")]),
            "post": operation(sent=body(json)),
        }
    return {"openapi": "3.0.3", "info": {"title": "The FHIR door", "version": "4.0.1"}, "paths": paths}


@pytest.fixture(scope="module")
def schema(door: Door) -> Any:
    good(door("POST", "Patient", patient(unique())), 201)
    return schemathesis.openapi.from_dict(described(good(door("GET", "metadata", token=""), 200).json))


def test_whatever_the_capabilities_say_may_be_asked_in_any_way(door: Door, schema: Any) -> None:
    tried: dict[int, int] = {}
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=6,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(case=operation.as_strategy())
        def attempt(case: Any) -> None:
            answer = case.call(
                base_url=door.base, headers={"Authorization": f"Bearer {door.token}"}, timeout=PATIENCE
            )
            tried[answer.status_code] = tried.get(answer.status_code, 0) + 1
            assert answer.status_code < 500, (case.as_curl_command()[:2000], answer.text[:500])
            if (
                answer.status_code >= 400
                and answer.content
                and "json" in answer.headers.get("Content-Type", "")
            ):
                assert answer.json()["resourceType"] == "OperationOutcome", case.as_curl_command()[:1000]

        attempt()
    assert sum(tried.values()) > 500
    assert {200, 400, 404} <= tried.keys(), tried
