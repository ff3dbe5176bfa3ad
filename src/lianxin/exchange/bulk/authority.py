"""On whose behalf a job runs, asked anew for every slice.

A job may outlive the token that started it; it never outlives the client, and it never sees more than the client would see
now: institution, village clinics, consortia and relationships are those of the moment.  The token's SMART scopes are kept.
"""

from __future__ import annotations

from typing import Any

from lianxin.access import sharing, smart
from lianxin.access.models import Client
from lianxin.access.scope import Scope, institutions_for, scope_for_client
from lianxin.exchange.bulk.models import BulkJob
from lianxin.record import definitions
from lianxin.record.problems import refuse

Pairs = tuple[tuple[str, str], ...]


class Ended(Exception):
    """The client was switched off, or its institution left: its jobs end."""


def noted(scope: Scope) -> dict[str, Any]:
    """What a job keeps of the scope it was started with."""
    return {"smart": list(scope.smart)} if scope.client_id else {"reason": scope.reason}


def current(job: BulkJob) -> Scope:
    """The scope of a job as of now; raises :class:`Ended`."""
    if job.client_id is None:
        return Scope.system(job.scope["reason"])
    client = Client.objects.select_related("institution").filter(pk=job.client_id, active=True).first()
    if client is None or (client.institution is not None and not client.institution.active):
        raise Ended
    kept, strict = tuple(job.scope["smart"]), client.validation != "warn"
    if client.institution is None:
        return scope_for_client(client.pk, client.name, None, kept, strict=strict)
    own = institutions_for(client.institution)
    return scope_for_client(
        client.pk, client.name, client.institution_id, kept, own, sharing.partners(own), strict
    )


def demand_machine(scope: Scope) -> None:
    """Bulk data is for systems: 403 for an app that a person opened."""
    if not scope.machine:
        raise refuse(
            403,
            "forbidden",
            "批量数据只供系统客户端（system/ 授权范围）使用",
            "bulk data is for system clients (system/ scopes) only",
        )


def _permissions(scope: Scope, letters: str) -> list[smart.Permission]:
    found = [smart.understood(part) for part in scope.smart]
    return [p for _, p in filter(None, found) if p.level == "system" and set(letters) <= set(p.letters)]


def may_export(scope: Scope, rtype: str) -> bool:
    """Whether the token's system scopes allow reading and searching a type."""
    if scope.client_id is None:
        return scope.everything
    return any(p.rtype in ("*", rtype) for p in _permissions(scope, "rs"))


def exportable(scope: Scope) -> list[str]:
    """Every type the scope may export."""
    return [rtype for rtype in sorted(definitions.types()) if may_export(scope, rtype)]


def limits(scope: Scope, rtype: str) -> list[Pairs]:
    """Query limits of the token's scopes for a type, one of which a resource must match; none: no limit."""
    if scope.client_id is None:
        return []
    found = [p for p in _permissions(scope, "rs") if p.rtype in ("*", rtype)]
    return [] if any(not p.query for p in found) else [p.query for p in found]


def _may(scope: Scope, rtype: str, letter: str) -> bool:
    """Whether a letter is allowed on a whole type; a scope with a query limit does not suffice."""
    if scope.client_id is None:
        return scope.everything
    return any(p.rtype in ("*", rtype) and not p.query for p in _permissions(scope, letter))


def may_change(scope: Scope, rtype: str) -> bool:
    """Whether what exists of a type may be changed."""
    return _may(scope, rtype, "u")


def demand_write(scope: Scope, rtype: str, letter: str) -> None:
    """403 unless a line of an import may be created (c) or changed (u)."""
    if not _may(scope, rtype, letter):
        raise refuse(
            403,
            "forbidden",
            f"令牌的授权范围不含 {rtype}.{letter}，请申请相应授权",
            f"the token's scopes do not include {rtype}.{letter}; ask for that scope",
        )


def may_write(scope: Scope, rtype: str) -> bool:
    """Whether the token's system scopes allow creating or changing a type ("": any type)."""
    if scope.client_id is None:
        return scope.everything
    found = [*_permissions(scope, "c"), *_permissions(scope, "u")]
    return any(not p.query and (not rtype or p.rtype in ("*", rtype)) for p in found)
