"""Transaction and batch bundles: entries in any order, ``urn:uuid`` and conditional references, whole refusal naming the entry."""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from lianxin.access.scope import Scope
from lianxin.record import conditional, definitions, patch, persons, search, store, text, validate
from lianxin.record.conditional import Condition
from lianxin.record.problems import Problem, refuse
from lianxin.record.store import Result, Write

REFERENCE = re.compile(rb'("reference"\s*:\s*")((?:urn:(?:uuid|oid):|[A-Z][A-Za-z]+\?)[^"\\]*)(")')
URL = re.compile(r"([A-Z][A-Za-z]+)(?:/([A-Za-z0-9\-.]{1,64}))?(?:\?(.*))?")
LINK = re.compile(rb'("(?:reference|url)"\s*:\s*")([^"\\]*)(")')
BASE = re.compile(r"(https?://.+/)[A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64}$")
MAX_ENTRIES = 10_000
MOST_REFUSED = 20  # entries whose refusals are told at once
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class Request(msgspec.Struct):
    """``entry.request``."""

    method: str = ""
    url: str = ""
    ifMatch: str | None = None
    ifNoneExist: str | None = None
    ifNoneMatch: str | None = None
    ifModifiedSince: str | None = None


NOTHING = msgspec.Raw(b"")


class Entry(msgspec.Struct):
    """``entry`` with its resource as exact text."""

    fullUrl: str | None = None
    resource: msgspec.Raw = NOTHING
    request: Request | None = None


class Bundle(msgspec.Struct):
    """What is needed of a Bundle."""

    resourceType: str = ""
    type: str = ""
    entry: list[Entry] = []


_decoder = msgspec.json.Decoder(Bundle)


@dataclass(slots=True)
class Part:
    """One entry, understood: what it asks for."""

    place: str
    method: str
    rtype: str
    id: str | None
    query: str
    raw: bytes | None
    full_url: str | None
    request: Request
    condition: Condition | None = None
    creates: bool = False

    @property
    def writes(self) -> bool:
        """Whether the entry changes something itself (no read, no operation)."""
        return self.method not in ("GET", "HEAD") and "$" not in self.request.url


def decode(raw: bytes) -> Bundle:
    """The bundle with exact resource texts (400 when it is none)."""
    try:
        bundle = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(
            400, "structure", f"不是合法的 Bundle：{error}", f"not a valid Bundle: {error}", "Bundle"
        ) from None
    if bundle.resourceType != "Bundle" or bundle.type not in ("transaction", "batch"):
        raise refuse(
            400,
            "value",
            "Bundle.type 应为 transaction 或 batch",
            "Bundle.type must be transaction or batch",
            "Bundle.type",
        )
    if len(bundle.entry) > MAX_ENTRIES:
        raise refuse(
            413,
            "too-costly",
            f"条目超过 {MAX_ENTRIES} 个，请分批发送",
            f"more than {MAX_ENTRIES} entries; send several bundles",
            "Bundle.entry",
        )
    return bundle


def understand(entry: Entry, i: int) -> Part:
    """Method, type, id and exact resource of an entry; 400 names what is missing."""
    place = f"Bundle.entry[{i}]"
    request = entry.request
    if request is None or request.method not in METHODS:
        raise refuse(
            400,
            "value",
            f"request.method 应为 {'、'.join(METHODS)}",
            f"request.method must be one of {', '.join(METHODS)}",
            f"{place}.request.method",
        )
    match = URL.fullmatch(request.url.removeprefix("/"))
    plain = request.method in ("GET", "HEAD") or "$" in request.url
    raw = bytes(entry.resource) or None
    if match is None or match[1] not in definitions.types():
        if plain:
            return Part(place, request.method, "", None, request.url, raw, entry.fullUrl, request)
        raise refuse(
            400,
            "value",
            "request.url 应为 类型、类型/id 或 类型?条件",
            "request.url must be Type, Type/id or Type?condition",
            f"{place}.request.url",
        )
    part = Part(place, request.method, match[1], match[2], match[3] or "", raw, entry.fullUrl, request)
    if plain:
        return part
    if request.method != "DELETE" and raw is None:
        raise refuse(400, "required", "缺少 resource", "resource is missing", f"{place}.resource")
    if request.method == "POST":
        if part.id is not None:
            raise refuse(
                400,
                "value",
                "POST 的 request.url 应为 类型",
                "POST needs the type alone",
                f"{place}.request.url",
            )
        if request.ifNoneExist:
            part.condition = conditional.condition(
                part.rtype, request.ifNoneExist, f"{place}.request.ifNoneExist"
            )
    elif part.id is None:
        part.condition = conditional.condition(part.rtype, part.query, f"{place}.request.url")
    return part


def unescaped(query: str) -> str:
    """The query of a conditional reference: percent-encoding goes, a plus stays a plus."""
    return unquote(query).replace("+", "%2B")


def rewrite(raw: bytes, targets: dict[str, str]) -> bytes:
    """The resource's text with ``urn:`` and conditional references replaced; unknown ones stay as they are."""

    def replace(found: re.Match[bytes]) -> bytes:
        target = targets.get(found[2].decode())
        return found[1] + target.encode() + found[3] if target else found[0]

    return REFERENCE.sub(replace, raw)


def conditional_references(raws: Sequence[bytes]) -> set[str]:
    """Every ``Type?condition`` reference in some texts."""
    found = {m.decode() for raw in raws if b"?" in raw for m in (g[1] for g in REFERENCE.findall(raw))}
    return {f for f in found if not f.startswith("urn:")}


def resolve_conditional(cur: Any, scope: Scope, references: set[str]) -> dict[str, str]:
    """``Type?condition`` -> ``Type/id``; exactly one match each, or 412 naming the reference."""
    targets = {}
    for reference in sorted(references):
        rtype, _, query = reference.partition("?")
        found = search.match(cur, scope, rtype, unescaped(query)) if rtype in definitions.types() else []
        if len(found) != 1:
            n = len(found)
            raise refuse(
                412, "not-found" if not n else "multiple-matches",
                f"条件引用 {reference[:120]} 匹配到 {'零' if not n else '多'}个资源", f"conditional reference {reference[:120]} matches {n or 'no'} resources",
            )  # fmt: skip
        targets[reference] = f"{found[0].rtype}/{found[0].id}"
    return targets


@dataclass(frozen=True)
class Hooks:
    """What the caller of :func:`transaction` does itself.

    ``check(part)`` refuses what the caller may not ask.  ``claim(part, method, raw)`` makes the write of a type that an upper room
    owns and returns (status, body), or None when nobody claims it.  ``read(part)`` answers GET and operations.
    """

    check: Callable[[Part], None]
    claim: Callable[[Part, str, bytes | None], "tuple[int, Any] | None"]
    read: Callable[[Part], tuple[int, Any]]


Answers = dict[int, tuple[int, Any]]


def transaction(
    cur: Any, scope: Scope, bundle: Bundle, hooks: Hooks, *, source_institution_id: int | None = None
) -> list[tuple[Part, int, Any]]:
    """Make a transaction in the caller's database transaction: deletes, creates, updates and patches, then reads.

    Entries may stand in any order; answers come in the order of the entries.  Raises Problem naming the entries: roll back.
    """
    parts = _each(list(enumerate(bundle.entry)), lambda i, entry: understand(entry, i))
    for part in parts:
        _placed(part, lambda p=part: hooks.check(p))  # type: ignore[misc]
    writes = [(i, p) for i, p in enumerate(parts) if p.writes]
    conditions = [p.condition for _, p in writes if p.condition]
    if len({c.lock for c in conditions}) != len(conditions):
        twice = next(p for _, p in writes if p.condition and conditions.count(p.condition) > 1)
        raise refuse(
            400,
            "duplicate",
            "同一事务中有两个相同的条件，请合并",
            "two entries of this transaction have the same condition; merge them",
            f"{twice.place}.request",
        )
    conditional.hold(cur, conditions, [f"{p.rtype}/{p.id}" for _, p in writes if p.id])
    answers: Answers = {}
    _delete(cur, scope, [w for w in writes if w[1].method == "DELETE"], hooks, answers, source_institution_id)
    changing = [w for w in writes if w[1].method != "DELETE"]
    targets = _identities(cur, scope, changing, answers)
    _unique([p for i, p in writes if i not in answers or p.method == "DELETE"])
    changing = [w for w in changing if w[0] not in answers]
    _references(cur, scope, parts, [p for _, p in changing], targets)
    _write(cur, scope, changing, targets, hooks, answers, source_institution_id)
    for i, part in enumerate(parts):
        if i not in answers:
            answers[i] = _placed(part, lambda p=part: hooks.read(p))  # type: ignore[misc]
    return [(part, *answers[i]) for i, part in enumerate(parts)]


def _placed(part: Part, work: Callable[[], Any]) -> Any:
    """Run ``work``; its refusals are told from inside the entry."""
    try:
        return work()
    except Problem as problem:
        raise (problem if part.place in str(problem) else problem.at(part.place)) from None


def _each(items: Sequence[tuple[int, Any]], work: Callable[[int, Any], Any]) -> list[Any]:
    """``work`` of every item; the refusals of all of them together."""
    made, problems = [], list[Problem]()
    for i, item in items:
        try:
            made.append(work(i, item))
        except Problem as problem:
            problems.append(problem)
            if len(problems) >= MOST_REFUSED:
                break
    if problems:
        raise Problem(problems[0].status, *(issue for problem in problems for issue in problem.issues))
    return made


def _delete(
    cur: Any, scope: Scope, parts: list[tuple[int, Part]], hooks: Hooks, answers: Answers, source: int | None
) -> None:
    """Deletes come first, so that a create of the same transaction may find its condition free."""
    wanted: list[tuple[int, Write]] = []
    for i, part in parts:
        if part.condition is not None:
            found = conditional.one(cur, scope, part.condition, f"{part.place}.request.url")
            if found is None:
                answers[i] = (204, None)
                continue
            part.id = found.id
        _placed(part, lambda p=part: stored(cur, scope, p.rtype, p.id))  # type: ignore[misc]
        taken = _placed(part, lambda p=part: hooks.claim(p, "DELETE", None))  # type: ignore[misc]
        if taken is not None:
            answers[i] = taken
        else:
            wanted.append(
                (i, Write("delete", part.rtype, part.id, if_match=part.request.ifMatch, place=part.place))
            )
    _unique([p for i, p in parts if p.id])
    done = store.apply(cur, scope, [w for _, w in wanted], source_institution_id=source) if wanted else []
    for (i, _), result in zip(wanted, done, strict=True):
        answers[i] = (result.status, result)


def _identities(cur: Any, scope: Scope, parts: list[tuple[int, Part]], answers: Answers) -> dict[str, str]:
    """Give every entry its id; what ``fullUrl`` s stand for.  A conditional create that finds something is answered here."""
    targets: dict[str, str] = {}
    for i, part in parts:
        found, place = None, f"{part.place}.request"
        if part.method == "PUT" and part.condition is not None:
            given = _own_id(part)
            part.id = conditional.target(cur, scope, part.condition, given, f"{place}.url")
            part.creates = part.id is None
        elif part.condition is not None:
            found = conditional.one(cur, scope, part.condition, place)
            if part.method == "PATCH":
                if found is None:
                    raise refuse(
                        404,
                        "not-found",
                        "没有符合条件的资源",
                        "no resource matches the condition",
                        f"{place}.url",
                    )
                part.id = found.id
            elif found is not None:
                part.id = found.id
                answers[i] = (200, found)
        if part.method == "POST" and part.id is None:
            part.creates = True
        if part.creates:
            part.id = str(uuid.uuid4())
        if part.full_url and part.method in ("POST", "PUT"):
            if part.full_url in targets:
                raise refuse(
                    400, "duplicate", "fullUrl 重复", "the fullUrl occurs twice", f"{part.place}.fullUrl"
                )
            targets[part.full_url] = f"{part.rtype}/{part.id}"
    return targets


def _own_id(part: Part) -> str | None:
    """The id in the resource of a conditional update, before it has been checked."""
    resource = text.parse(part.raw or b"")
    given = resource.get("id") if isinstance(resource, dict) else None
    return given if isinstance(given, str) else None


def _unique(parts: list[Part]) -> None:
    """No resource may be written twice in one transaction."""
    seen: set[tuple[str, str | None]] = set()
    for part in parts:
        if (part.rtype, part.id) in seen:
            raise refuse(
                400,
                "duplicate",
                f"{part.rtype}/{part.id} 在同一事务中出现多次",
                f"{part.rtype}/{part.id} occurs more than once in this transaction",
                part.place,
            )
        seen.add((part.rtype, part.id))


def _references(
    cur: Any, scope: Scope, parts: list[Part], changing: list[Part], targets: dict[str, str]
) -> None:
    """Add what the conditional references stand for: an entry with the same condition, or the one match."""
    mine = {
        p.condition.lock: f"{p.rtype}/{p.id}"
        for p in parts
        if p.condition and p.id and p.method in ("POST", "PUT")
    }
    for part in changing:
        for reference in conditional_references([part.raw] if part.raw else []) - targets.keys():
            rtype, _, query = reference.partition("?")
            try:
                same = mine.get(conditional.condition(rtype, unescaped(query)).lock)
                targets.update({reference: same} if same else resolve_conditional(cur, scope, {reference}))
            except Problem as problem:
                raise problem.at(f"{part.place}.resource") from None


def _write(
    cur: Any,
    scope: Scope,
    parts: list[tuple[int, Part]],
    targets: dict[str, str],
    hooks: Hooks,
    answers: Answers,
    source: int | None,
) -> None:
    """Creates, then updates and patches: owners of types by themselves, all others at once."""
    order = {"POST": 0, "PUT": 1, "PATCH": 2}
    ordered = sorted(parts, key=lambda w: (order[w[1].method], w[0]))

    def prepared(i: int, part: Part) -> tuple[int, Part, Write]:
        raw = relinked(part, targets)
        place = f"{part.place}.resource"
        _placed(part, lambda: stored(cur, scope, part.rtype, part.id))
        if part.method == "PATCH":
            return i, part, _patch(cur, scope, part, raw, place)
        return i, part, Write(
            "create" if part.creates else "update", part.rtype, part.id, _typed(part, parsed(raw, place, strict=scope.strict), place), raw,
            if_match=part.request.ifMatch, if_none_match=part.request.ifNoneMatch, place=place, trusted=True,
        )  # fmt: skip

    ready = _each(ordered, prepared)
    wanted: list[tuple[int, Write]] = []
    for i, part, write in ready:
        method = "POST" if write.method == "create" else "PUT"
        taken = _placed(part, lambda p=part, m=method, w=write: hooks.claim(p, m, w.raw))  # type: ignore[misc]
        if taken is not None:
            answers[i] = taken
        else:
            wanted.append((i, write))
    done = store.apply(cur, scope, [w for _, w in wanted], source_institution_id=source) if wanted else []
    for (i, _), result in zip(wanted, done, strict=True):
        answers[i] = (result.status, result)


def _typed(part: Part, resource: dict[str, Any], place: str) -> dict[str, Any]:
    if resource.get("resourceType") != part.rtype:
        raise refuse(
            400,
            "structure",
            f"resourceType 应为 {part.rtype}",
            f"resourceType must be {part.rtype}",
            f"{place}.resourceType",
        )
    return resource


def _patch(cur: Any, scope: Scope, part: Part, raw: bytes, place: str) -> Write:
    assert part.id is not None
    try:
        sent = patch.of_resource(raw)
        current = patchable(cur, scope, part.rtype, part.id)
        made = sent.apply(current.body)
        resource = patched(made, part.rtype, part.id, strict=scope.strict)
    except Problem as problem:
        raise problem.at(place) from None
    return Write(
        "update", part.rtype, part.id, resource, made, if_match=part.request.ifMatch or f'W/"{current.version}"', place=place,
        trusted=True,
    )  # fmt: skip


def relinked(part: Part, targets: dict[str, str]) -> bytes:
    """The entry's text with references (and links to other entries) replaced; a relative one is read against its ``fullUrl``."""
    raw = part.raw or b""
    if not targets:
        return raw
    base = BASE.match(part.full_url or "")
    prefix = base[1] if base else ""

    def replace(found: re.Match[bytes]) -> bytes:
        link = found[2].decode()
        target = targets.get(link) or (targets.get(prefix + link) if prefix else None)
        return found[1] + target.encode() + found[3] if target else found[0]

    return LINK.sub(replace, raw)


def patchable(cur: Any, scope: Scope, rtype: str, rid: str) -> Result:
    """The current version of what is to be patched, locked until the transaction ends; 404, 410, 403 when there is nothing to."""
    store.lock(cur, [f"{rtype}/{rid}"])
    current = store.read(cur, scope, rtype, rid)
    if current is None:
        raise refuse(
            404,
            "not-found",
            f"没有可查看的 {rtype}/{rid[:64]}",
            f"there is no {rtype}/{rid[:64]} that you may see",
        )
    if current.deleted:
        raise refuse(410, "deleted", f"{rtype}/{rid} 已删除", f"{rtype}/{rid} was deleted")
    if not current.rid:
        raise _composed(rid)
    return current


def _composed(rid: str) -> Problem:
    return refuse(
        403,
        "forbidden",
        f"Patient/{rid} 由各来源合成，请修改来源",
        f"Patient/{rid} is put together from its sources; change a source",
    )


def stored(cur: Any, scope: Scope, rtype: str, rid: str | None) -> None:
    """403 for the golden Patient of a person number: it is made from its sources and cannot be written."""
    if rtype == "Patient" and rid is not None and persons.is_number(rid):
        current = store.read(cur, scope, rtype, rid)
        if current is not None and not current.deleted and not current.rid:
            raise _composed(rid)


def patched(raw: bytes, rtype: str, rid: str, *, strict: bool = True) -> dict[str, Any]:
    """The patched resource, checked like an update; its type and id must be what they were."""
    resource = parsed(raw, strict=strict)
    if resource.get("resourceType") != rtype or resource.get("id") != rid:
        raise refuse(
            422,
            "business-rule",
            "补丁不能改变 resourceType 和 id",
            "a patch cannot change resourceType and id",
            f"{rtype}.id",
        )
    return resource


def parsed(raw: bytes, place: str = "", *, strict: bool = True) -> dict[str, Any]:
    """A resource from its text: strict JSON, no duplicate members, structurally valid; refusals name the place.

    ``strict``: invariants, required bindings and the profiles it claims are demanded too (clients may be set to be warned only).
    """
    try:
        resource = validate.accept(raw)
        validate.rules(resource, raw, strict=strict)
    except Problem as problem:
        raise (problem.at(place) if place else problem) from None
    return resource
