"""Search parameters that a site adds to the official ones, and what every process knows of them.

A parameter is written for new versions at once (status ``indexing``), can be searched when :mod:`lianxin.record.reindex` has
filled in what was stored before (``active``), and may be given up (``retired``; its number is never used again).
"""

import threading
import time
from typing import Any

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.record import definitions, extract, paths, store
from lianxin.record.definitions import Param
from lianxin.record.problems import Problem, refuse
from lianxin.record.store import Write

EVERY = 5.0  # seconds between looks at the table, in each process
FIRST = 20_000  # the official parameters have lower numbers
KINDS = frozenset({"token", "string", "reference", "date", "number", "quantity", "uri"})

_looked: dict[str, float] = {}
_known: dict[str, list[Any]] = {}
_guard = threading.Lock()


def refresh(*, now: bool = False) -> None:
    """Take over what another process has changed; looks at most every :data:`EVERY` seconds, unless ``now``."""
    name = connections.database()
    if not now and time.monotonic() < _looked.get(name, 0.0):
        return
    with _guard:
        _looked[name] = time.monotonic() + EVERY
        with connections.cursor() as cur:
            cur.execute(
                "SELECT number, rtype, code, kind, expression, targets, status FROM record_param WHERE status <> 'retired' ORDER BY number"
            )
            rows = cur.fetchall()
        if rows != _known.get("rows", []):
            own: dict[str, dict[str, tuple[Param, bool]]] = {}
            for number, rtype, code, kind, expression, targets, status in rows:
                param = Param(number, code, kind, tuple(expression.split(" | ")), tuple(targets))
                own.setdefault(rtype, {})[code] = (param, status == "active")
            definitions.add(own)
            _known["rows"] = rows


def forget() -> None:
    """Know nothing (tests)."""
    with _guard:
        _looked.clear()
        if _known.pop("rows", None):
            definitions.add({})


def add(cur: Any, resource: dict[str, Any]) -> list[str]:
    """Add a SearchParameter for its ``base`` types inside the caller's transaction; returns the types to be indexed.

    Refused (422) are kinds and expressions the engine cannot index, and codes a type has already.
    """
    code, kind, expression = (str(resource.get(k, "")) for k in ("code", "type", "expression"))
    bases = resource.get("base") or []
    if resource.get("resourceType") != "SearchParameter" or not code or not expression or not bases:
        raise _bad(
            "需要 SearchParameter 的 code、base、type、expression",
            "a SearchParameter needs code, base, type, expression",
        )
    if kind not in KINDS:
        raise _bad(f"不支持类型 {kind}", f"parameters of type {kind} cannot be added", "SearchParameter.type")
    cur.execute("LOCK TABLE record_param IN SHARE ROW EXCLUSIVE MODE")
    cur.execute("SELECT greatest(coalesce(max(number), 0), %s) FROM record_param", [FIRST])
    number = cur.fetchone()[0]
    for rtype in bases:
        parts = _parts(rtype, kind, expression)
        if code in definitions.indexed(rtype) or code.startswith("_"):
            raise _bad(
                f"{rtype} 已有查询参数 {code}",
                f"{rtype} has a search parameter {code} already",
                "SearchParameter.code",
            )
        number += 1
        cur.execute(
            "INSERT INTO record_param (number, rtype, code, kind, expression, targets, url, status)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, 'indexing')",
            [
                number,
                rtype,
                code,
                kind,
                " | ".join(parts),
                list(resource.get("target", [])),
                str(resource.get("url", "")),
            ],
        )
    rid = str(resource.get("id") or f"{code}-{number}")[:64]
    store.apply(
        cur,
        Scope.system("search parameter"),
        [Write("update", "SearchParameter", rid, {**resource, "id": rid})],
    )
    return list(bases)


def _parts(rtype: str, kind: str, expression: str) -> list[str]:
    """The parts of a union expression that speak of a type, each checked to be one the engine can follow to a fitting value."""
    if rtype not in definitions.types():
        raise _bad(f"没有资源类型 {rtype}", f"there is no resource type {rtype}", "SearchParameter.base")
    parts = [
        p.strip()
        for p in expression.split("|")
        if p.strip().lstrip("(").startswith((f"{rtype}.", "Resource.", "DomainResource."))
    ]
    try:
        fits = bool(parts) and all(
            any(
                leaf.type in extract.EMITTERS[kind] and leaf.steps for leaf in paths.compile_path(rtype, part)
            )
            for part in parts
        )
    except paths.Unsupported:
        fits = False
    if not fits:
        raise _bad(
            f"表达式不能用于 {rtype}：{expression}",
            f"the expression cannot be indexed as {kind} of {rtype}: {expression}",
            "SearchParameter.expression",
        )
    return parts


def _bad(zh: str, en: str, place: str = "SearchParameter") -> Problem:
    return refuse(422, "business-rule", zh, en, place)
