"""The CapabilityStatement, generated from the tables, the handlers and the settings that are really there."""

import hashlib
from typing import Any

from django.conf import settings

from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.http import Incoming, Reply
from lianxin.record import capability, custom, definitions, patch, text
from lianxin.record.definitions import kept
from lianxin.record.store import moment, stamp

BASE = "http://base.invalid/fhir"  # stands for the address the client used
OPERATIONS = "http://lianxin.example/OperationDefinition"


def reply(request: Incoming) -> Reply:
    """``GET /fhir/metadata``, with an ETag: it changes only when the software, its settings or a site's search parameters do."""
    custom.refresh()
    body, tag = statement()
    headers = [("ETag", tag), ("Cache-Control", "no-cache")]
    if tag in [t.strip() for t in request.header("If-None-Match").split(",")]:
        return Reply(304, b"", headers)
    here = request.base.removesuffix("/fhir")  # addresses beside the door (SMART) move along
    return Reply(200, body.replace(BASE.removesuffix("/fhir").encode(), here.encode()), headers)


def _operation(one: handlers.Operation) -> dict[str, Any]:
    return {
        "name": one.name,
        "definition": one.definition or f"{OPERATIONS}/{one.rtype or 'System'}-{one.name}",
    }


@kept
def statement() -> tuple[bytes, str]:
    """The statement for the address ``BASE``, and its ETag."""
    registered = handlers.operations()
    limit = settings.LIANXIN_CONDITIONAL_DELETE
    resources = [
        capability.resource(
            rtype,
            operations=[_operation(o) for o in registered if o.rtype in (rtype, handlers.EVERY_TYPE)],
            conditional_delete="single" if limit == 1 else "multiple",
        )
        for rtype in sorted(definitions.types())
    ]
    made: dict[str, Any] = {
        "resourceType": "CapabilityStatement",
        "url": f"{BASE}/metadata",
        "name": "Lianxin",
        "title": "Lianxin 联心",
        "status": "active",
        "kind": "instance",
        "software": {"name": "Lianxin 联心"},
        "implementation": {"description": "Lianxin 联心", "url": BASE},
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json"],
        "patchFormat": [patch.JSON_PATCH, "application/fhir+json", patch.MERGE_PATCH],
        "rest": [
            {
                "mode": "server",
                "documentation": f"A conditional delete deletes at most {limit} matching resources; it refuses more with 412.",
                "security": {
                    "cors": bool(settings.LIANXIN_CORS_ORIGINS),
                    "description": "Bearer token with SMART scopes (v1 or v2)",
                },
                "resource": resources,
                "interaction": [
                    {"code": code} for code in ("transaction", "batch", "search-system", "history-system")
                ],
                "operation": [_operation(o) for o in registered if not o.rtype],
                "compartment": [
                    f"http://hl7.org/fhir/CompartmentDefinition/{name}"
                    for name in ("device", "encounter", "patient", "practitioner", "relatedPerson")
                ],
            }
        ],
    }
    if not made["rest"][0]["operation"]:
        del made["rest"][0]["operation"]
    for add in handlers.capabilities():
        add(made)
    tag = hashlib.blake2b(text.dumps(made), digest_size=8).hexdigest()
    made["date"] = stamp(moment())
    return text.dumps(made), f'W/"{tag}"'


def forget() -> None:
    """Make the statement anew at the next request (something was registered)."""
    statement.cache_clear()  # type: ignore[attr-defined]
