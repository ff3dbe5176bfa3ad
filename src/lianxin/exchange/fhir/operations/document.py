"""Composition/$document: a Composition and all it names directly, as one document Bundle."""

import uuid
from typing import Any

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers, shape
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.fhir.operations import gather
from lianxin.record import store, text
from lianxin.record.problems import refuse
from lianxin.record.store import Result, Write, moment, stamp

# What second-hand references lead to: who and what is named in the entries, not other parts of the record.
FURTHER = frozenset(
    {"Practitioner", "PractitionerRole", "Organization", "Location", "Medication", "Device", "Specimen"}
)


def register() -> None:
    """Offer the operation."""
    handlers.register_operation(
        "Composition", "document", document, affects_state=False, type_level=False,
        definition="http://hl7.org/fhir/OperationDefinition/Composition-document",
    )  # fmt: skip


def document(scope: Scope, asked: Request) -> Response:
    """``Composition/{id}/$document``; ``persist=true`` also keeps the Bundle (its Location is told)."""
    rid = asked.id or ""
    persist = asked.argument("persist", bool) or False
    if asked.argument("graph"):
        raise refuse(
            400, "not-supported", "不支持 graph 参数", "the parameter graph is not supported", "graph"
        )
    if persist:
        gate.demand(scope, "Bundle", "c")

    def work(cur: Any) -> list[Result] | None:
        first = store.read(cur, scope, "Composition", rid)
        if first is None:
            return None
        if first.deleted:
            raise gate.gone("Composition", rid)
        direct = gather.by_ids(cur, scope, gather.references([first]))
        known = {(r.rtype, r.id) for r in direct}
        further = {
            rtype: {i for i in ids if (rtype, i) not in known}
            for rtype, ids in gather.references([first, *direct]).items()
            if rtype in FURTHER
        }
        results = [first, *direct, *gather.by_ids(cur, scope, further)]
        gate.note(cur, scope, "read", results, f"Composition/{rid}/$document")
        return results

    results = connections.reading(work)
    if results is None:
        raise gate.absent("Composition", rid)
    entries = [(f"{asked.base}/{r.rtype}/{r.id}", r.body) for r in results]
    raw = bundle(entries)
    if not persist:
        return Response(200, raw)

    def keep(cur: Any) -> Result:
        made = store.apply(
            cur, scope, [Write("create", "Bundle", None, text.parse(raw.encode()), raw.encode())]
        )[0]
        gate.note(cur, scope, "create", [made])
        return made

    kept = gate.writing(keep)
    where = f"{asked.base}/Bundle/{kept.id}/_history/{kept.version}"
    return Response(200, kept.body, {"Location": where, "ETag": shape.etag(kept.version)})


def bundle(entries: list[tuple[str, str]]) -> str:
    """The text of a document Bundle of (fullUrl, resource) pairs; the first is the Composition."""
    inner = ",".join(
        f'{{"fullUrl":{text.dumps(url).decode()},"resource":{body}}}'  # type: ignore[arg-type]
        for url, body in entries
    )
    return (
        f'{{"resourceType":"Bundle","identifier":{{"system":"urn:ietf:rfc:3986","value":"urn:uuid:{uuid.uuid4()}"}},"type":"document",'
        f'"timestamp":"{stamp(moment())}","entry":[{inner}]}}'
    )
