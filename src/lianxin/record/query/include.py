"""``_include`` and ``_revinclude``: what the matches refer to and what refers to them, visible to the asker, bounded.

References are read from the bodies at hand; ``:iterate`` goes on from what came along, never twice to the same resource, so
that circles end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from lianxin.record import definitions, extract, persons, visible
from lianxin.record.definitions import kept
from lianxin.record.keys import key_code, key_ref, ref_key
from lianxin.record.paths import Leaf, compile_path, walk
from lianxin.record.query.base import Context, bad
from lianxin.record.query.kinds import numbers
from lianxin.record.query.references import golden_keys, targets
from lianxin.record.query.result import COLUMNS, row_result
from lianxin.record.store import Result

MOST = 1000  # resources that come along with one page
TURNS = 12  # links followed under :iterate
NAMES = ("_include", "_include:iterate", "_revinclude", "_revinclude:iterate")


@dataclass(frozen=True)
class Wish:
    """One ``Type:parameter[:Target]`` of an include."""

    reverse: bool
    iterate: bool
    kind: str  # "" means any type
    code: str  # "*" means every reference parameter
    target: str


@dataclass
class Along:
    """What came along, and whether more was left behind."""

    results: list[Result] = field(default_factory=list)
    cut: bool = False


def wish(name: str, value: str) -> Wish:
    """Take one include apart; 400 when it names what is not there."""
    kind, _, rest = value.partition(":")
    code, _, target = rest.partition(":")
    if value == "*":
        kind, code = "", "*"
    elif kind not in definitions.types() or not code:
        raise bad(name, "应为 类型:引用参数[:目标类型]", "write Type:reference-parameter[:TargetType]")
    elif code != "*":
        param = definitions.params(kind).get(code)
        if param is None or param.kind != "reference" or code not in extract.supported(kind):
            raise bad(
                name, f"{kind} 没有引用参数 {code[:40]}", f"{kind} has no reference parameter {code[:40]}"
            )
    if target and target not in definitions.types():
        raise bad(name, f"没有类型 {target[:40]}", f"there is no type {target[:40]}")
    return Wish(name.startswith("_rev"), name.endswith(":iterate"), kind, code, target)


def follow(ctx: Context, wishes: Sequence[Wish], matches: Sequence[Result]) -> Along:
    """Everything the wishes bring along with these matches."""
    along = Along()
    seen = {(e.rtype, e.id) for e in matches}
    frontier = list(matches)
    for turn in range(TURNS):
        fresh: list[Result] = []
        for one in wishes:
            if turn and not one.iterate:
                continue
            fetch = _backward if one.reverse else _forward
            for found in fetch(ctx, one, frontier):
                if (found.rtype, found.id) in seen:
                    continue
                if len(along.results) + len(fresh) >= MOST:
                    along.cut = True
                    break
                seen.add((found.rtype, found.id))
                fresh.append(found)
        along.results += fresh
        frontier = fresh
        if not fresh or along.cut:
            return along
    along.cut = True
    return along


@kept
def _leaves(kind: str, code: str) -> tuple[tuple[Leaf, tuple[str, ...]], ...]:
    """Where references of one parameter (``*``: of all) are in a type, with the target types that count."""
    table = definitions.params(kind)
    codes = (
        [c for c in sorted(extract.supported(kind)) if table[c].kind == "reference"]
        if code == "*"
        else [code]
    )
    return tuple(
        (leaf, (leaf.only,) if leaf.only else tuple(targets(kind, table[c])))
        for c in codes
        for path in table[c].paths
        for leaf in compile_path(kind, path)
    )


def _forward(ctx: Context, one: Wish, sources: Sequence[Result]) -> list[Result]:
    keys: dict[int, None] = {}
    urls: dict[tuple[str, str], None] = {}
    for source in sources:
        if (one.kind and source.rtype != one.kind) or not source.body:
            continue
        resource = orjson.loads(source.body)
        for leaf, allowed in _leaves(source.rtype, one.code):
            for value in walk(resource, leaf.steps):
                if leaf.type == "Reference" and type(value) is dict:
                    found = extract.split_reference(value.get("reference") or "")
                    if found and found[0] in allowed and one.target in ("", found[0]):
                        keys[ref_key(f"{found[0]}/{found[1]}")] = None
                elif leaf.type == "canonical" and type(value) is str:
                    urls.update({(kind, value): None for kind in allowed if one.target in ("", kind)})
    found_ = _rows(ctx, "r.key = ANY(%s::bigint[])", [list(keys)]) if keys else []
    missing = set(keys) - {ref_key(f"{f.rtype}/{f.id}") for f in found_}
    if missing and one.target in ("", "Patient"):
        found_ += _golden(ctx, missing)
    return [*found_, *(_by_url(ctx, urls) if urls else [])]


def _golden(ctx: Context, missing: Iterable[int]) -> list[Result]:
    """Virtual Patients among references that name no stored resource."""
    ctx.cur.execute(
        "SELECT patient_id FROM record_patient WHERE subj = ANY(%s::bigint[]) AND length(patient_id) = 10",
        [list(missing)],
    )
    made = [persons.virtual(ctx.cur, ctx.scope, number) for (number,) in ctx.cur.fetchall()]
    return [one for one in made if one is not None]


def _by_url(ctx: Context, urls: Iterable[tuple[str, str]]) -> list[Result]:
    """Resources that canonical references name, in the version these ask for."""
    wanted: dict[int, set[str]] = {}
    for kind, text in urls:
        url, _, version = text.partition("#")[0].partition("|")
        if "url" in definitions.params(kind):
            for n in numbers(kind, "url"):
                wanted.setdefault(key_code(n, url), set()).add(version)
    if not wanted:
        return []
    found = _rows(ctx, "r.keys && %s::bigint[]", [list(wanted)])
    kept = []
    for one in found:
        resource = orjson.loads(one.body)
        versions: set[str] = set()
        for n in numbers(one.rtype, "url"):
            versions |= wanted.get(key_code(n, str(resource.get("url"))), set())
        if versions & {"", str(resource.get("version"))}:
            kept.append(one)
    return kept


def _backward(ctx: Context, one: Wish, sources: Sequence[Result]) -> list[Result]:
    keys: dict[int, None] = {}
    for source in sources:
        if one.target in ("", source.rtype):
            for own in _own_keys(ctx, source):
                for n in _pointing(one.kind, one.code, source.rtype):
                    keys[key_ref(n, own)] = None
    if not keys:
        return []
    return _rows(ctx, "r.keys && %s::bigint[]", [list(keys)])


def _own_keys(ctx: Context, source: Result) -> list[int]:
    """Keys under which others refer to a resource: its id, a person's sources, its canonical url."""
    found = [ref_key(f"{source.rtype}/{source.id}")]
    if source.rtype == "Patient" and not source.rid:
        found += golden_keys(ctx, source.id)
    if "url" in definitions.params(source.rtype) and source.body:
        resource = orjson.loads(source.body)
        url, version = resource.get("url"), resource.get("version")
        if type(url) is str:
            found.append(ref_key(url))
            if type(version) is str:
                found.append(ref_key(f"{url}|{version}"))
    return found


@kept
def _pointing(kind: str, code: str, target: str) -> tuple[int, ...]:
    """Numbers of the parameters of a type (any type: "") that may refer to the target type."""
    found: dict[int, None] = {}
    for rtype in [kind] if kind else sorted(definitions.types()):
        table = definitions.params(rtype)
        for one in [code] if code != "*" else sorted(extract.supported(rtype)):
            if table[one].kind == "reference" and target in targets(rtype, table[one]):
                found.update(dict.fromkeys(numbers(rtype, one)))
    return tuple(found)


def _rows(ctx: Context, where: str, args: list[Any]) -> list[Result]:
    seen, more = visible.condition(ctx.scope, "r")
    ctx.cur.execute(
        f"SELECT {COLUMNS} FROM record_resource r WHERE {where} AND NOT r.deleted AND {seen} ORDER BY r.rid LIMIT %s",
        [*args, *more, MOST + 1],
    )
    return [row_result(row) for row in ctx.cur.fetchall()]
