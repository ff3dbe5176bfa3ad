"""The consortium's ImplementationGuide: profiles, extensions, code systems and value sets that ship with the platform.

Canonical base ``http://lianxin.example/fhir/``.  The resources are made from the platform's own lists (tiers, kinds of
institution, roles), so the guide cannot say something else than the platform does.  ``publish`` keeps them in the record, where
every client reads them; validation reads them from here.
"""

from functools import cache
from typing import Any

from lianxin.record.profiles import build, codes, people, results, work

EXTRA_ID = "lianxin"


@cache
def guide() -> tuple[dict[str, Any], ...]:
    """Every resource of the guide; the ImplementationGuide itself comes last."""
    content = (*codes.resources(), *people.resources(), *results.resources(), *work.resources())
    return (*content, build.implementation_guide(content))


@cache
def by_url() -> dict[str, dict[str, Any]]:
    """The guide's resources by canonical url."""
    return {resource["url"]: resource for resource in guide()}


@cache
def listed(value_set: str) -> dict[str, frozenset[str]] | None:
    """Codes by system of one of the guide's value sets (each is a whole code system)."""
    found = by_url().get(value_set)
    if found is None or found["resourceType"] != "ValueSet":
        return None
    systems = [include["system"] for include in found["compose"]["include"]]
    return {url: frozenset(c["code"] for c in by_url()[url]["concept"]) for url in systems}


def publish() -> int:
    """Store what has changed of the guide in the record; returns how many resources it has."""
    import copy

    from lianxin.record import publish as record

    return len(record.publish(copy.deepcopy(list(guide())), person_id=None, institution_id=None))
