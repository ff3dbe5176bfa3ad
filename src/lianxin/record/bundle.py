"""Transaction and batch bundles: entries in any order, ``urn:uuid`` and conditional references, whole refusal naming the entry."""

import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import msgspec

from lianxin.access.scope import Scope
from lianxin.record import definitions, search, store, text, validate
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.record.store import Result, Write

REFERENCE = re.compile(rb'("reference"\s*:\s*")((?:urn:(?:uuid|oid):|[A-Z][A-Za-z]+\?)[^"\\]*)(")')
URL = re.compile(r"([A-Z][A-Za-z]+)(?:/([A-Za-z0-9\-.]{1,64}))?(?:\?(.*))?")
MAX_ENTRIES = 10_000


class Request(msgspec.Struct):
    """``entry.request``."""

    method: str = ""
    url: str = ""
    ifMatch: str | None = None
    ifNoneExist: str | None = None
    ifNoneMatch: str | None = None


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


def decode(raw: bytes) -> Bundle:
    """The bundle with exact resource texts (400 when it is none)."""
    try:
        bundle = _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
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
    if request is None or request.method not in ("GET", "POST", "PUT", "DELETE"):
        raise refuse(
            400,
            "value",
            "request.method 应为 GET、POST、PUT 或 DELETE",
            "request.method must be GET, POST, PUT or DELETE",
            f"{place}.request.method",
        )
    match = URL.fullmatch(request.url.removeprefix("/"))
    if match is None or match[1] not in definitions.types():
        if request.method == "GET" or "$" in request.url:
            return Part(place, request.method, "", None, request.url, None, entry.fullUrl, request)
        raise refuse(
            400,
            "value",
            "request.url 应为 类型 或 类型/id",
            "request.url must be Type or Type/id",
            f"{place}.request.url",
        )
    raw = bytes(entry.resource) or None
    if request.method in ("POST", "PUT") and raw is None and "$" not in request.url:
        raise refuse(400, "required", "缺少 resource", "resource is missing", f"{place}.resource")
    if request.method == "PUT" and match[2] is None:
        raise refuse(400, "not-supported", "PUT 需要 类型/id", "PUT needs Type/id", f"{place}.request.url")
    return Part(place, request.method, match[1], match[2], match[3] or "", raw, entry.fullUrl, request)


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
        found = (
            search.match(cur, scope, rtype, unquote(query).replace("+", "%2B"))
            if rtype in definitions.types()
            else []
        )
        if len(found) != 1:
            n = len(found)
            raise refuse(
                412, "not-found" if not n else "multiple-matches",
                f"条件引用 {reference[:120]} 匹配到 {'零' if not n else '多'}个资源", f"conditional reference {reference[:120]} matches {n or 'no'} resources",
            )  # fmt: skip
        targets[reference] = f"{found[0].rtype}/{found[0].id}"
    return targets


Reader = Callable[[Part], tuple[int, Result | dict[str, Any] | str | None]]
Writer = Callable[[Part], "tuple[int, Result | dict[str, Any] | str | None] | None"]


def transaction(
    cur: Any,
    scope: Scope,
    bundle: Bundle,
    *,
    read: Reader,
    claim: Writer,
    source_institution_id: int | None = None,
) -> list[tuple[Part, int, Any]]:
    """Make a transaction in the caller's database transaction: deletes, creates, updates, then reads (any order as sent).

    ``read`` answers GET entries afterwards; ``claim`` takes writes of types that upper rooms own (None: not claimed).
    Raises Problem naming the entry: roll back.
    """
    parts = [understand(entry, i) for i, entry in enumerate(bundle.entry)]
    targets: dict[str, str] = {}
    for part in parts:
        if part.method == "POST" and part.rtype and "$" not in part.request.url:
            part.id = str(uuid.uuid4())
        if part.full_url and part.id and part.method in ("POST", "PUT"):
            if part.full_url in targets:
                raise refuse(
                    400, "duplicate", "fullUrl 重复", "the fullUrl occurs twice", f"{part.place}.fullUrl"
                )
            targets[part.full_url] = f"{part.rtype}/{part.id}"
    _existing(cur, scope, parts, targets)
    raws = [part.raw for part in parts if part.raw]
    try:
        targets.update(resolve_conditional(cur, scope, conditional_references(raws)))
    except Problem as problem:
        culprit = next(
            (p for p in parts if p.raw and problem.issues[0].text.en.split()[2][:100].encode() in p.raw), None
        )
        raise (problem.at(culprit.place) if culprit else problem) from None
    answers: dict[int, tuple[int, Any]] = {}
    writes: list[tuple[int, Write]] = []
    for i, part in enumerate(parts):
        if part.method == "GET" or "$" in part.request.url:
            continue
        if part.raw:
            part.raw = rewrite(part.raw, targets)
        try:
            taken = claim(part)
        except Problem as problem:
            raise problem.at(part.place) from None
        if taken is not None:
            answers[i] = taken
            continue
        writes.append((i, as_write(part)))
    results = store.apply(cur, scope, [w for _, w in writes], source_institution_id=source_institution_id)
    for (i, _), result in zip(writes, results, strict=True):
        answers[i] = (result.status, result)
    for i, part in enumerate(parts):
        if i not in answers:
            try:
                answers[i] = read(part)
            except Problem as problem:
                raise problem.at(part.place) from None
    return [(part, *answers[i]) for i, part in enumerate(parts)]


def _existing(cur: Any, scope: Scope, parts: list[Part], targets: dict[str, str]) -> None:
    """Conditional creates that will find something: references go to what is there (the lock is taken first)."""
    conditional = [p for p in parts if p.method == "POST" and p.request.ifNoneExist]
    store.lock(
        cur, [f"{p.rtype}?{'&'.join(sorted((p.request.ifNoneExist or '').split('&')))}" for p in conditional]
    )
    for part in conditional:
        found = search.match(cur, scope, part.rtype, part.request.ifNoneExist or "")
        if len(found) == 1 and part.full_url:
            targets[part.full_url] = f"{part.rtype}/{found[0].id}"


def as_write(part: Part) -> Write:
    """The store's write of an entry; the resource is checked for duplicate members here."""
    method = {"POST": "create", "PUT": "update", "DELETE": "delete"}[part.method]
    if method == "delete":
        if part.id is None:
            raise refuse(
                400,
                "not-supported",
                "DELETE 需要 类型/id",
                "DELETE needs Type/id",
                f"{part.place}.request.url",
            )
        return Write("delete", part.rtype, part.id, if_match=part.request.ifMatch, place=part.place)
    raw = part.raw or b""
    resource = parsed(raw, f"{part.place}.resource")
    return Write(
        method, part.rtype, part.id, resource, raw, if_match=part.request.ifMatch, if_none_exist=part.request.ifNoneExist,
        if_none_match=part.request.ifNoneMatch, place=f"{part.place}.resource", trusted=True,
    )  # fmt: skip


def parsed(raw: bytes, place: str = "") -> dict[str, Any]:
    """A resource from its text: strict JSON, no duplicate members, structurally valid; refusals name the place."""
    try:
        resource = text.parse(raw)
        issues, count = validate.check(resource)
        if issues:
            raise Problem(422, *issues)
        text.duplicate_check(raw, count)
    except Problem as problem:
        raise (problem.at(place) if place else problem) from None
    return resource


def batch_problem(error: Problem) -> tuple[int, list[Issue]]:
    """Status and issues of a refused batch entry."""
    return error.status, error.issues
