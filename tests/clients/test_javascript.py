"""fhir-kit-client and @medplum/core, run by Node: each script goes through the whole door and tells what it found."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Door, run_js, value


class _Changed(str):
    """How a history tells of a patch: R4 allows PATCH and, as the change it amounts to, PUT."""

    def __eq__(self, other: object) -> bool:
        return other in ("PUT", "PATCH")

    __hash__ = str.__hash__


CHANGED = _Changed("PUT or PATCH")
VALUES = [117, 116, 115, 114, 113, 112, 111]


@pytest.fixture(scope="module")
def kit(node: str, door: Door) -> dict[str, Any]:
    return run_js(node, "kit.mjs", door)


@pytest.fixture(scope="module")
def medplum(node: str, door: Door) -> dict[str, Any]:
    return run_js(node, "medplum.mjs", door)


def same(steps: dict[str, Any], step: str, wanted: Any) -> None:
    assert value(steps, step) == wanted


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ("capability", ["CapabilityStatement", "4.0.1", "server"]),
        ("history", [CHANGED, "PUT", "POST"]),
        ("type history", "history"),
        ("system history", "history"),
        ("batch", ["batch-response", "201", "201", "201", "404"]),
        ("transaction", ["transaction-response", True]),
        ("conditional create", [201, 200]),
        ("conditional update", [True, "2", False]),
        ("page to the end", {"values": VALUES, "pages": [3, 3, 1]}),
        ("post search", 7),
        ("compartment", 7),
        ("compartment by post", 7),
        ("include", ["match", "include"]),
        ("resolve", True),
        ("delete", 410),
    ],
)
def test_fhir_kit_client(kit: dict[str, Any], step: str, wanted: Any) -> None:
    same(kit, step, wanted)


def test_fhir_kit_client_resources(kit: dict[str, Any]) -> None:
    assert value(kit, "create")["meta"]["versionId"] == "1"
    assert value(kit, "read") == value(kit, "create")
    assert value(kit, "update")["gender"] == "other"
    assert value(kit, "vread") == value(kit, "create")
    assert value(kit, "patch")["gender"] == "unknown"
    assert value(kit, "patch")["meta"]["versionId"] == "3"
    assert value(kit, "operation") >= 8
    assert value(kit, "stale update")["status"] == 412
    told = value(kit, "refusal")
    assert told["status"] in (400, 422)
    assert told["outcome"]["issue"][0]["expression"] == ["Patient.gender"]


@pytest.mark.parametrize(
    ("step", "wanted"),
    [
        ("capability", ["CapabilityStatement", "4.0.1", "server"]),
        ("read reference", True),
        ("failing patch", "OperationOutcome"),
        ("history", [CHANGED, "PUT", "POST"]),
        ("vread", "female"),
        ("batch", ["batch-response", "201", "201", "201", "404"]),
        ("transaction", ["transaction-response", "201", "201"]),
        ("conditional create", True),
        ("create if none exist by header", True),
        ("upsert", [True, "2", False]),
        ("page to the end", {"values": VALUES, "pages": [3, 3, 1]}),
        ("search one", 111),
        ("search resources", 5),
        ("count", 7),
        ("validate", "OperationOutcome"),
        ("delete", "deleted"),
    ],
)
def test_medplum(medplum: dict[str, Any], step: str, wanted: Any) -> None:
    same(medplum, step, wanted)


def test_medplum_resources(medplum: dict[str, Any]) -> None:
    assert value(medplum, "create")["meta"]["versionId"] == "1"
    assert value(medplum, "read") == value(medplum, "create")
    assert value(medplum, "update")["gender"] == "other"
    assert value(medplum, "patch")["gender"] == "unknown"
    assert value(medplum, "everything") >= 8
    assert value(medplum, "refusal")["expression"] == ["Patient.gender"]
