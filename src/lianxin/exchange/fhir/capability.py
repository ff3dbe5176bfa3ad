"""The CapabilityStatement, generated from the tables and the handlers that are really there."""

from functools import lru_cache
from typing import Any

from lianxin.exchange.fhir import handlers
from lianxin.record import capability, definitions, text
from lianxin.record.store import moment, stamp

BUILT_IN = {("Patient", "everything"): "http://hl7.org/fhir/OperationDefinition/Patient-everything"}


def _operation(rtype: str, name: str) -> dict[str, Any]:
    url = (
        BUILT_IN.get((rtype, name))
        or f"http://lianxin.example/OperationDefinition/{rtype or 'System'}-{name}"
    )
    return {"name": name, "definition": url}


@lru_cache(maxsize=8)
def statement(base: str) -> bytes:
    """``GET /fhir/metadata``."""
    registered = [*BUILT_IN, *handlers.operations()]
    resources = []
    for rtype in sorted(definitions.types()):
        operations = [_operation(t, n) for t, n in registered if t == rtype]
        operations.append(
            {"name": "validate", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-validate"}
        )
        resources.append(capability.resource(rtype, operations=operations))
    made: dict[str, Any] = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": stamp(moment()),
        "kind": "instance",
        "software": {"name": "Lianxin 联心"},
        "implementation": {"description": "Lianxin 联心", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "Bearer token with SMART system scopes (v1 or v2)"},
                "resource": resources,
                "interaction": [{"code": "transaction"}, {"code": "batch"}, {"code": "history-system"}],
                "operation": [_operation(t, n) for t, n in registered if t == ""],
            }
        ],
    }
    if not made["rest"][0]["operation"]:
        del made["rest"][0]["operation"]
    return text.dumps(made)
