"""$versions: the FHIR versions this server speaks; $diff: what changed between two versions, as a FHIRPath Patch."""

from typing import Any

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import gate, handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record import patch_diff, store
from lianxin.record.json_tree import Node
from lianxin.record.problems import refuse
from lianxin.record.store import Result


def register() -> None:
    """Offer both."""
    handlers.register_operation(
        "", "versions", versions, affects_state=False,
        definition="http://hl7.org/fhir/OperationDefinition/CapabilityStatement-versions",
    )  # fmt: skip
    handlers.register_operation(
        handlers.EVERY_TYPE, "diff", diff, affects_state=False, type_level=False,
        definition="http://lianxin.example/OperationDefinition/Resource-diff",
    )  # fmt: skip


def versions(scope: Scope, asked: Request) -> Response:
    """``GET /fhir/$versions``."""
    parts = [{"name": "version", "valueCode": "4.0"}, {"name": "default", "valueCode": "4.0"}]
    return Response(200, {"resourceType": "Parameters", "parameter": parts})


def diff(scope: Scope, asked: Request) -> Response:
    """``Type/id/$diff?from=1&to=2`` (default: the version before ``to``, and the current one)."""
    rid, start, end = asked.id or "", _version(asked, "from"), _version(asked, "to")

    def work(cur: Any) -> tuple[Result, Result]:
        current = store.read(cur, scope, asked.rtype, rid)
        if current is None or not current.rid:
            raise gate.absent(asked.rtype, rid)
        last = current.version if end is None else end
        first = max(1, last - 1) if start is None else start
        pair = [store.vread(cur, scope, asked.rtype, rid, n) for n in (first, last)]
        for found, n in zip(pair, (first, last), strict=True):
            if found is None:
                raise gate.absent(asked.rtype, f"{rid}/_history/{n}")
            if found.deleted:
                raise gate.gone(asked.rtype, f"{rid}/_history/{n}")
        assert pair[0] is not None
        assert pair[1] is not None
        gate.note(cur, scope, "read", [pair[0], pair[1]], f"{asked.rtype}/{rid}/$diff")
        return pair[0], pair[1]

    old, new = connections.reading(work)
    made = patch_diff.parameters(asked.rtype, Node(old.body.encode()), Node(new.body.encode()))
    return Response(200, made.text().decode())


def _version(asked: Request, name: str) -> int | None:
    given = asked.arguments.get(name)
    if not given:
        return None
    text = str(given[0]).rpartition("/")[2]
    if not text.isdigit() or not text.isascii() or not 0 < len(text) < 10:
        raise refuse(400, "invalid", f"{name} 应为版本号", f"{name} must be a version number", name)
    return int(text)
