"""The CapabilityStatement, generated from the tables and the handlers that are really there."""

from functools import lru_cache
from typing import Any

from lianxin.exchange.fhir import handlers
from lianxin.record import capability, definitions, text
from lianxin.record.store import moment, stamp

BUILT_IN = {("Patient", "everything"): "http://hl7.org/fhir/OperationDefinition/Patient-everything"}


def _operation(rtype: str, name: str, definition: str = "") -> dict[str, Any]:
    url = (
        definition
        or BUILT_IN.get((rtype, name))
        or f"http://lianxin.example/OperationDefinition/{rtype or 'System'}-{name}"
    )
    return {"name": name, "definition": url}


@lru_cache(maxsize=8)
def statement(base: str) -> bytes:
    """``GET /fhir/metadata``."""
    registered = [(t, n, url) for (t, n), url in BUILT_IN.items()]
    registered += [(o.rtype, o.name, o.definition) for o in handlers.operations()]
    if not any(n == "validate" for _, n, _ in registered):
        registered.append(
            (
                handlers.EVERY_TYPE,
                "validate",
                "http://hl7.org/fhir/OperationDefinition/Resource-validate",
            )
        )
    resources = []
    for rtype in sorted(definitions.types()):
        operations = [_operation(*one) for one in registered if one[0] in (rtype, handlers.EVERY_TYPE)]
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
                "operation": [_operation(*one) for one in registered if one[0] == ""],
            }
        ],
    }
    if not made["rest"][0]["operation"]:
        del made["rest"][0]["operation"]
    for add in handlers.capabilities():
        add(made)
    return text.dumps(made)


def forget() -> None:
    """Make the statement anew at the next request (something was registered)."""
    statement.cache_clear()
