"""Assigning authorities: finding one by its FHIR system or its HL7 v2 name, and who may be told of its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection

from lianxin.access.scope import Scope
from lianxin.exchange.ihe import identifiers
from lianxin.exchange.ihe.models import ALL, OWN, PARTNERS, Domain
from lianxin.record import search
from lianxin.record.problems import Problem
from lianxin.standards import clock


def known(cur: Any, system: str) -> bool:
    """Whether a system of identifiers is one we know: of the platform, entered by an administrator, or fed by somebody."""
    if not system:
        return False
    if system in identifiers.PLATFORM_SYSTEMS or Domain.objects.filter(system=system).exists():
        return True
    try:
        looking = [("identifier", f"{identifiers.plain(system)}|"), ("_count", "1")]
        if search.search(cur, Scope.system("is this assigning authority known"), "Patient", looking).entries:
            return True
    except Problem:  # nothing that could be the system of an identifier
        return False
    cur.execute(
        "SELECT 1 FROM network_institution i WHERE EXISTS (SELECT 1 FROM index_sourcerecord s"
        " WHERE s.institution_id = i.id AND s.system = %s) LIMIT 1",
        [system],
    )
    return cur.fetchone() is not None


def sharing_of(systems: Iterable[str]) -> dict[tuple[str, int], str]:
    """What administrators entered about sharing, by (system, institution)."""
    rows = Domain.objects.filter(system__in=set(systems))
    return {(d.system, d.institution_id): d.sharing for d in rows}


def open_to(scope: Scope, institution_id: int, sharing: str = PARTNERS) -> bool:
    """Whether numbers that an institution gave out may be told to ``scope`` (which may see the person already)."""
    if scope.everything or institution_id == 0 or institution_id in scope.institution_ids:
        return True
    return sharing == ALL or (sharing == PARTNERS and institution_id in scope.partner_ids)


def target_open(cur: Any, scope: Scope, system: str) -> bool:
    """Whether a domain may be asked for at all: it is known, no document's, and not closed to this asker altogether."""
    if identifiers.is_document(system) or not known(cur, system):
        return False
    rows = list(Domain.objects.filter(system=system))
    return not rows or any(open_to(scope, d.institution_id, d.sharing) for d in rows)


# What is entered for an assigning authority: by its universal id (one's own entry first), then by one's own name for it.
_ENTERED = """
SELECT d.system FROM exchange_domain d, (SELECT %s::bigint AS who, %s AS namespace, %s AS oid) asked
WHERE (asked.oid <> '' AND d.oid = asked.oid) OR (asked.namespace <> '' AND d.namespace = asked.namespace AND d.institution_id = asked.who)
ORDER BY asked.oid <> '' AND d.oid = asked.oid DESC, d.institution_id = asked.who DESC, d.id LIMIT 1
"""


def of_authority(institution_id: int, namespace: str, universal: str, kind: str, fallback: str) -> str:
    """The FHIR system of an HL7 v2 assigning authority (HD) as ``institution_id`` uses it.

    What an administrator entered comes first; then the universal id itself (an OID or URI); then ``fallback`` when nothing is
    said; then a system made from the institution and the name, so that no number is taken for another institution's.
    """
    if universal or namespace:
        with connection.cursor() as cur:  # asked for every number of every message: plain SQL
            cur.execute(_ENTERED, [institution_id, namespace, universal.removeprefix("urn:oid:")])
            if row := cur.fetchone():
                return str(row[0])
    if universal and kind in ("ISO", "") and universal.replace(".", "").isdigit():
        return f"urn:oid:{universal}"
    if (universal and "://" in universal) or universal.startswith("urn:"):
        return universal
    if not namespace and not universal and fallback:
        return fallback
    return own_system(institution_id, namespace or universal)


def own_system(institution_id: int, name: str = "") -> str:
    """The system we make for an institution's numbers when it names none that is unique."""
    from lianxin.network.models import Institution

    code = Institution.objects.values_list("code", flat=True).get(pk=institution_id)
    plain = "".join(c if c.isalnum() or c in "-._" else "-" for c in name)[:80]
    return f"urn:lianxin:mr:{code}{f':{plain}' if plain else ''}"


def authority_of(system: str, institution_id: int) -> tuple[str, str, str]:
    """How a system is written in HL7 v2 (namespace, universal id, its type)."""
    row = (
        Domain.objects.filter(system=system, institution_id=institution_id).first()
        or Domain.objects.filter(system=system).first()
    )
    namespace = row.namespace if row else ""
    oid = (row.oid if row else "") or (
        system.removeprefix("urn:oid:") if system.startswith("urn:oid:") else ""
    )
    if oid:
        return namespace, oid, "ISO"
    return namespace, system, "URI"


def enter(system: str, institution_id: int, **values: Any) -> Domain:
    """Enter or change a domain of an institution."""
    row, _ = Domain.objects.update_or_create(
        system=system,
        institution_id=institution_id,
        defaults=values,
        create_defaults={**values, "created_at": clock.now()},
    )
    return row


__all__ = [
    "ALL",
    "OWN",
    "PARTNERS",
    "authority_of",
    "enter",
    "known",
    "of_authority",
    "open_to",
    "own_system",
    "sharing_of",
    "target_open",
]
