"""What the record really supports, from the same tables that do the work."""

from typing import Any

from lianxin.record import definitions, extract
from lianxin.record.definitions import kept

ENGINE = [("_id", "token"), ("_lastUpdated", "date")]


@kept
def search_params(rtype: str) -> tuple[tuple[str, str], ...]:
    """(name, type) of every parameter that can be searched."""
    table = definitions.params(rtype)
    return (*ENGINE, *((code, table[code].kind) for code in sorted(extract.supported(rtype))))


@kept
def includes(rtype: str) -> tuple[str, ...]:
    """Values of ``_include``."""
    table = definitions.params(rtype)
    return tuple(f"{rtype}:{c}" for c in sorted(extract.supported(rtype)) if table[c].kind == "reference")


@kept
def rev_includes(rtype: str) -> tuple[str, ...]:
    """Values of ``_revinclude``."""
    found = []
    for other in sorted(definitions.types()):
        for code in extract.supported(other):
            param = definitions.params(other)[code]
            if param.kind == "reference" and rtype in param.targets:
                found.append(f"{other}:{code}")
    return tuple(sorted(found))


def resource(
    rtype: str,
    *,
    operations: list[dict[str, Any]] | None = None,
    conditional_delete: str = "single",
) -> dict[str, Any]:
    """``CapabilityStatement.rest.resource`` of a type."""
    codes = [
        "read",
        "vread",
        "update",
        "patch",
        "delete",
        "history-instance",
        "history-type",
        "create",
        "search-type",
    ]
    made: dict[str, Any] = {
        "type": rtype,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{rtype}",
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": conditional_delete,
        "referencePolicy": ["literal", "logical"],
        "searchInclude": list(includes(rtype)),
        "searchRevInclude": list(rev_includes(rtype)),
        "searchParam": [{"name": n, "type": t} for n, t in search_params(rtype)],
    }
    if operations:
        made["operation"] = operations
    return {k: v for k, v in made.items() if v != []}
