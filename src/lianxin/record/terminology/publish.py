"""Definitions as resources of the record, so that ``GET ValueSet?url=`` and ``GET CodeSystem/id`` answer like everything else.

What ships (R4's code systems and value sets) is stored once, at migration; the platform's own tables are stored again whenever
they have changed.  The platform publishes these resources: only it may change them.  Operations do not read these copies.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import orjson
from django.db import connection, transaction

from lianxin.access.scope import Scope
from lianxin.record.terminology import shipped, sources
from lianxin.record.terminology.concepts import System

LOCK = 0x4C58_5456  # advisory lock: two processes starting at once load once
BATCH = 200
MOST = 5000  # concepts written out; a larger system is described without them
STAMP = "urn:lianxin:shipped:"
TAG = {"system": sources.ORIGIN, "code": sources.SHIPPED}


def load_shipped() -> int:
    """Bring what ships and our own tables into the record; returns how many resources were written (0: nothing had changed)."""
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        return _official(cur) + _store(cur, _own())


_seen: Any = None


def refresh() -> int:
    """Bring our own tables into the record again if they have changed since this process last looked (a chore)."""
    global _seen
    now = sources.snapshot().marker["own"]
    if now == _seen:
        return 0
    with transaction.atomic(), connection.cursor() as cur:
        cur.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        written = _store(cur, _own())
    _seen = now
    return written


def _official(cur: Any) -> int:
    """R4's own; the first one carries the archive's stamp and is written last, so an equal stamp means all is there."""
    stamp = STAMP + hashlib.sha256(shipped.ARCHIVE.read_bytes()).hexdigest()[:32]
    (rtype, rid, raw), *rest = shipped.every()
    held = _held(cur, rtype, rid)
    if held is not None and (held.get("meta") or {}).get("source") == stamp:
        return 0
    written = _store(cur, (orjson.loads(text) for _, _, text in rest))
    first = orjson.loads(raw)
    first["meta"] = {**first.get("meta", {}), "source": stamp}
    return written + _store(cur, [first])


def _held(cur: Any, rtype: str, rid: str) -> dict[str, Any] | None:
    from lianxin.record import rows, store

    found = store.read(rows.server_cursor(cur), Scope.system("terminology"), rtype, rid)
    return None if found is None or found.deleted else orjson.loads(found.body)


def _store(cur: Any, resources: Iterable[dict[str, Any]]) -> int:
    """Write what differs from what is stored."""
    from lianxin.record import store
    from lianxin.record.store import Write

    scope = Scope.system("terminology")
    written, batch = 0, []
    for resource in resources:
        resource["meta"] = {**resource.get("meta", {}), "tag": [TAG]}
        held = _held(cur, resource["resourceType"], resource["id"])
        if held is None or _bare(held) != _bare(resource):
            batch.append(Write("update", resource["resourceType"], resource["id"], resource, trusted=True))
        if len(batch) == BATCH:
            written += len(store.apply(cur, scope, batch, platform=True))
            batch = []
    return written + len(store.apply(cur, scope, batch, platform=True) if batch else [])


def _bare(resource: dict[str, Any]) -> dict[str, Any]:
    """A resource without what the store adds."""
    meta = {k: v for k, v in resource.get("meta", {}).items() if k not in ("versionId", "lastUpdated")}
    return {**resource, "meta": meta}


def _own() -> Iterable[dict[str, Any]]:
    """Our own tables as CodeSystem and ValueSet."""
    for url in sources.own_systems():
        system = sources.own(url)
        if system is None:
            continue
        rid = "lx-" + re.sub(r"[^A-Za-z0-9.-]+", "-", system.name)[:60]
        yield _code_system(system, rid)
        yield {
            "resourceType": "ValueSet",
            "id": rid,
            "url": system.value_set,
            **({"version": system.version} if system.version else {}),
            "name": _name(system),
            "title": system.title,
            "status": "active",
            "experimental": False,
            "language": "zh",
            "publisher": "Lianxin 联心",
            "description": f"{system.title}（全部代码） · every code of {system.url}",
            "immutable": True,
            "compose": {"include": [{"system": system.url}]},
        }


def _name(system: System) -> str:
    """A name that a program can use (invariant vsd-0 / csd-0)."""
    words = "".join(word.capitalize() for word in re.split(r"[^A-Za-z0-9]+", system.name) if word)
    return words if words[:1].isalpha() else f"Lx{words}"


def _code_system(system: System, rid: str) -> dict[str, Any]:
    small = len(system.concepts) <= MOST
    properties = {code: kind for concept in system.concepts.values() for code, kind, _ in concept.properties}
    nested = any(concept.parents for concept in system.concepts.values())
    made: dict[str, Any] = {
        "resourceType": "CodeSystem",
        "id": rid,
        "url": system.url,
        **({"version": system.version} if system.version else {}),
        "name": _name(system),
        "title": system.title,
        "status": "active",
        "experimental": False,
        "language": system.language,
        "publisher": "Lianxin 联心",
        "caseSensitive": system.case_sensitive,
        "valueSet": system.value_set,
        "content": system.content if small else "not-present",
        "count": len(system.concepts),
    }
    if nested:
        made["hierarchyMeaning"] = "is-a"
    rows = [{"code": "parent", "type": "code"}] if nested else []
    rows += [
        {"code": code, "type": "boolean" if kind == "valueBoolean" else "string"}
        for code, kind in properties.items()
    ]
    if rows:
        made["property"] = rows
    if small:
        made["concept"] = [_concept(system, code) for code in system.concepts]
    return made


def _concept(system: System, code: str) -> dict[str, Any]:
    concept = system.concepts[code]
    row: dict[str, Any] = {"code": code, "display": concept.display}
    if concept.designations:
        row["designation"] = [
            {"language": language, "value": value} for language, _, value in concept.designations
        ]
    properties = [{"code": "parent", "valueCode": parent} for parent in concept.parents]
    properties += [{"code": code, kind: value} for code, kind, value in concept.properties]
    if properties:
        row["property"] = properties
    return row


__all__ = ["load_shipped", "refresh"]
