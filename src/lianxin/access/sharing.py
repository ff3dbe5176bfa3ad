"""What of a person's record an institution may see: decided for each resource by its source, the relationship, and the person's word.

Whoever sent a resource sees it. Anybody else needs a live relationship with the person, and then

1. inside its own consortia the relationship is enough; what institutions of *other* consortia sent opens only to a relationship
   the person's care asked for (an open duty such as a referral, a contract, an emergency opening), or where the person agreed to
   share with that institution (consent ``share``);
2. what the person refused to share (consent ``share``, decision ``deny``) stays closed: all of it or one source's, to everybody or
   to one institution, whole or only what is marked confidential (``meta.security`` R or V). Only an emergency opening sees
   through a refusal (PIPL art. 13 (4)); it is personal, ends by itself and is reviewed.

It is one SQL condition, so that searches, counts, chains, includes, history and exports agree before anything is paged.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.db import connection

from lianxin.standards import clock

if TYPE_CHECKING:
    from lianxin.access.scope import Scope

ACROSS = ("break_glass", "contract", "duty")
"""Kinds of relationship that open what other consortia's institutions sent."""

_PARTNERS = """
WITH RECURSIVE up(id, parent_id) AS (
  SELECT id, parent_id FROM network_institution WHERE id = ANY(%(ids)s::bigint[])
  UNION SELECT i.id, i.parent_id FROM network_institution i JOIN up ON i.id = up.parent_id),
live AS (
  SELECT consortium_id, institution_id FROM network_membership WHERE since <= %(day)s AND (until IS NULL OR until > %(day)s)),
bound(id) AS (
  SELECT institution_id FROM live UNION SELECT i.id FROM network_institution i JOIN bound ON i.parent_id = bound.id),
ours(id) AS (
  SELECT institution_id FROM live WHERE consortium_id IN (SELECT l.consortium_id FROM live l JOIN up ON up.id = l.institution_id)
  UNION SELECT id FROM up
  UNION SELECT i.id FROM network_institution i JOIN ours ON i.parent_id = ours.id)
SELECT id FROM ours UNION SELECT id FROM network_institution WHERE id NOT IN (SELECT id FROM bound)"""


def partners(institution_ids: Iterable[int], *, cursor: Any = None) -> frozenset[int]:
    """Institutions whose data any relationship opens to these: they themselves, the members (and what belongs to them) of all
    their consortia today, and institutions that are in no consortium, which no boundary keeps."""
    given: dict[str, Any] = {"ids": sorted(institution_ids), "day": clock.today()}
    if cursor is not None:
        cursor.execute(_PARTNERS, given)
        return frozenset(row[0] for row in cursor.fetchall())
    with connection.cursor() as own:
        own.execute(_PARTNERS, given)
        return frozenset(row[0] for row in own.fetchall())


def sql(
    scope: Scope, person: str, institution: str, confidential: tuple[str, list[Any]]
) -> tuple[str, list[Any]]:
    """SQL condition (``%s`` style) true for a resource of ``person`` from ``institution`` that the scope may see by relationship.

    ``person`` and ``institution`` are columns written by a programmer, ``confidential`` a condition true for a resource marked
    R or V. What the scope's own institution sent is not asked here.
    """
    if scope.everything:
        return "TRUE", []
    if scope.resident_ids:  # one's own record is kept from nobody by one's own refusals
        return f"{person} = ANY(%s::bigint[])", [sorted(scope.resident_ids)]
    if not scope.clinical or not scope.institution_ids:
        return "FALSE", []
    now = clock.now()
    return (
        f"EXISTS (SELECT 1 FROM access_relationship lxr WHERE lxr.person_id = {person}"
        " AND lxr.institution_id = ANY(%s::bigint[]) AND lxr.since <= %s AND (lxr.until IS NULL OR lxr.until > %s)"
        " AND (lxr.account_id IS NULL OR lxr.account_id = %s)"
        f" AND ({institution} IS NULL OR {institution} = ANY(%s::bigint[]) OR lxr.kind IN {ACROSS}"
        f" OR EXISTS (SELECT 1 FROM access_consent lxp WHERE lxp.person_id = {person} AND lxp.institution_id = lxr.institution_id"
        " AND lxp.decision = 'permit' AND lxp.kind = 'share' AND lxp.withdrawn_at IS NULL))"
        " AND (lxr.kind = 'break_glass' OR NOT EXISTS (SELECT 1 FROM access_consent lxd"
        f" WHERE lxd.person_id = {person} AND lxd.decision = 'deny' AND lxd.withdrawn_at IS NULL"
        f" AND (lxd.source_id IS NULL OR lxd.source_id = {institution})"
        " AND (lxd.institution_id IS NULL OR lxd.institution_id = lxr.institution_id OR lxd.institution_id = %s)"
        f" AND (NOT lxd.sensitive OR {confidential[0]}))))",
        [
            sorted(scope.institution_ids),
            now,
            now,
            scope.account_id or 0,
            sorted(scope.partner_ids),
            scope.institution_id or 0,
            *confidential[1],
        ],
    )


def facts(scope: Scope, person: str) -> tuple[str, list[Any]]:
    """What :func:`sql` asks of one ``person`` alone, as three SQL columns: ``related`` (some live relationship), ``across`` (one
    that opens other consortia's sources too) and ``refused`` (the person refused something, so that :func:`sql` must be asked).

    Without a refusal a resource may be seen by relationship exactly if ``across``, or if ``related`` and the source is a partner.
    """
    now = clock.now()
    live = (
        f"FROM access_relationship lxr WHERE lxr.person_id = {person} AND lxr.institution_id = ANY(%s::bigint[])"
        " AND lxr.since <= %s AND (lxr.until IS NULL OR lxr.until > %s) AND (lxr.account_id IS NULL OR lxr.account_id = %s)"
    )
    args = [sorted(scope.institution_ids), now, now, scope.account_id or 0]
    # OFFSET 0: asked of the one person by index; without it a plan for any values hashes everybody's relationships.
    return (
        f"EXISTS (SELECT 1 {live} OFFSET 0) AS related,"
        f" EXISTS (SELECT 1 {live} AND (lxr.kind IN {ACROSS} OR EXISTS (SELECT 1 FROM access_consent lxp"
        f" WHERE lxp.person_id = {person} AND lxp.institution_id = lxr.institution_id"
        " AND lxp.decision = 'permit' AND lxp.kind = 'share' AND lxp.withdrawn_at IS NULL)) OFFSET 0) AS across,"
        f" EXISTS (SELECT 1 FROM access_consent lxd WHERE lxd.person_id = {person} AND lxd.decision = 'deny'"
        " AND lxd.withdrawn_at IS NULL OFFSET 0) AS refused",
        [*args, *args],
    )
