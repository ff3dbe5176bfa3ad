"""``$export`` and ``$import`` at the door: arguments checked one by one, a job noted, 202 with where to ask for it.

HL7 Bulk Data Access 2.0 ("Bulk Data Kick-off Request"; ``_until`` as in 3.0); ``$import`` by the manifest proposal of
smart-on-fhir/bulk-import, as a Parameters resource or as plain JSON.  With ``Prefer: handling=lenient`` what is not supported is
passed over and told in the manifest's errors; otherwise it is refused.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

import orjson

from lianxin.access import connections
from lianxin.access.scope import Scope
from lianxin.exchange.bulk import authority, jobs, slices, sources
from lianxin.exchange.fhir import handlers, shape
from lianxin.record import definitions, persons, search, store
from lianxin.record.keys import ref_key
from lianxin.record.problems import Issue, Problem, outcome, refuse
from lianxin.standards import clock
from lianxin.standards.text import Text

CANONICAL = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"
FORMATS = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
PLAIN = frozenset({"_format", "_pretty"})  # about the answer to the kick-off itself
NOT_SUPPORTED = (
    "includeAssociatedData",
    "organizeOutputBy",
    "allowPartialManifests",
    "_typePostFetchFilterUrl",
)
RESULT_PARAMETERS = frozenset(
    {"_include", "_revinclude", "_sort", "_count", "_total", "_summary", "_elements", "_cursor", "_contained", "_containedType"}
)  # fmt: skip
MAX_INPUTS = 1000
MAX_PATIENTS = 200_000
MAX_FILTERS = 50
GROUP_DEPTH = 5
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")
_QUERIES = re.compile(r",(?=[A-Z][A-Za-z]+(?:\?|%3F))")


@dataclass
class _Kickoff:
    """A kick-off being understood."""

    scope: Scope
    request: handlers.Request
    level: str
    lenient: bool
    passed: list[Issue] = field(default_factory=list)

    def texts(self, name: str) -> list[str]:
        """Every value of a parameter as text."""
        values = self.request.arguments.get(name, [])
        if any(type(v) is not str for v in values):
            raise _bad(name, "取值应为文本", "the value must be text")
        return [v for v in values if v]

    def listed(self, name: str) -> list[str]:
        """Values of a parameter that takes comma-separated ones, in order, each once."""
        return list(dict.fromkeys(p.strip() for v in self.texts(name) for p in v.split(",") if p.strip()))

    def refuse(self, problem: Problem) -> None:
        """Refuse, or with ``handling=lenient`` note that it was passed over."""
        if not self.lenient:
            raise problem
        self.passed += [Issue(i.code, i.text, i.expression, "warning") for i in problem.issues]


def _bad(name: str, zh: str, en: str, status: int = 400, code: str = "invalid") -> Problem:
    return refuse(status, code, f"{name}：{zh}", f"{name}: {en}", name)


# -------------------------------------------------------------------------------------------------------------- $export


def system_export(scope: Scope, request: handlers.Request) -> handlers.Response:
    """``[base]/$export``."""
    return _export(scope, request, "system")


def patient_export(scope: Scope, request: handlers.Request) -> handlers.Response:
    """``[base]/Patient/$export``: what belongs to any patient."""
    return _export(scope, request, "patient")


def group_export(scope: Scope, request: handlers.Request) -> handlers.Response:
    """``[base]/Group/[id]/$export``: what belongs to the members of a Group."""
    return _export(scope, request, "group")


def _export(scope: Scope, request: handlers.Request, level: str) -> handlers.Response:
    authority.demand_machine(scope)
    asked = _Kickoff(scope, request, level, _lenient(request))
    known = {
        "_outputFormat",
        "_since",
        "_until",
        "_type",
        "_typeFilter",
        "_elements",
        "patient",
        *NOT_SUPPORTED,
        *PLAIN,
    }
    for name in request.arguments:
        if name not in known:
            asked.refuse(_bad(name, "不支持该参数", "this parameter is not supported", code="not-supported"))
    for name in NOT_SUPPORTED:
        if any(v not in ("false", False, "") for v in request.arguments.get(name, [])):
            asked.refuse(
                _bad(
                    name,
                    "本平台不支持，请去掉后重试",
                    "not supported here; ask without it",
                    code="not-supported",
                )
            )
    for form in asked.listed("_outputFormat"):
        if form.replace(" ", "+") not in FORMATS:
            raise _bad(
                "_outputFormat",
                "只提供 application/fhir+ndjson",
                "only application/fhir+ndjson is offered",
                code="not-supported",
            )
    spec: dict[str, Any] = {
        "level": level,
        "since": _instant(asked, "_since"),
        "until": _instant(asked, "_until"),
        "types": _types(asked),
        "elements": _elements(asked),
    }
    spec["filters"] = _filters(asked, spec["types"])
    if level == "group":
        spec["group"] = request.id
    patients = _patients(asked)
    if patients is not None:
        spec["patients"] = patients
    return _accepted(scope, request, "export", spec, asked)


def _accepted(
    scope: Scope, request: handlers.Request, kind: str, spec: dict[str, Any], asked: _Kickoff
) -> handlers.Response:
    spec["passed"] = [[i.code, i.text.zh, i.text.en, i.expression] for i in asked.passed]
    path = "/".join(p for p in (request.base, request.rtype, request.id, f"${kind}") if p)
    query = shape.query(request.params)
    job = jobs.create(scope, kind, request, spec, f"{path}?{query}" if query else path)
    told = Text(
        "已接受，请按 Content-Location 查询进度", "accepted; ask at Content-Location for its progress"
    )
    body = outcome([Issue("informational", told, "", "information"), *asked.passed])
    return handlers.Response(202, body, {"Content-Location": jobs.status_url(job)})


def _lenient(request: handlers.Request) -> bool:
    prefer = next((v for n, v in request.headers.items() if n.lower() == "prefer"), "")
    return "handling=lenient" in prefer.replace(" ", "").lower()


def _instant(asked: _Kickoff, name: str) -> str | None:
    values = asked.texts(name)
    if not values:
        return None
    value = values[0].replace(" ", "+")
    try:
        if len(values) > 1 or not _INSTANT.fullmatch(value):
            raise ValueError
        return dt.datetime.fromisoformat(value).isoformat()
    except ValueError:
        raise _bad(
            name, "应为一个带时区的时刻，如 2026-11-23T08:00:00+08:00", "must be one instant with its zone, such as 2026-11-23T08:00:00+08:00"
        ) from None  # fmt: skip


def _types(asked: _Kickoff) -> list[str]:
    """The types to export: those asked for, all of which must be allowed, or all that are."""
    allowed = authority.exportable(asked.scope)
    if asked.level != "system":
        allowed = slices.of_patients(allowed)
    wanted = asked.listed("_type")
    found = []
    for rtype in wanted:
        if rtype not in definitions.types():
            asked.refuse(
                _bad(
                    "_type",
                    f"没有资源类型 {rtype[:60]}",
                    f"there is no resource type {rtype[:60]}",
                    code="not-supported",
                )
            )
        elif asked.level != "system" and rtype in definitions.OPEN_TYPES:
            asked.refuse(
                _bad(
                    "_type",
                    f"{rtype} 不属于患者，请用系统级导出",
                    f"{rtype} belongs to no patient; use the system level",
                    code="not-supported",
                )
            )
        elif rtype not in allowed:
            asked.refuse(
                _bad(
                    "_type",
                    f"令牌的授权范围不含 {rtype}.rs",
                    f"the token's scopes do not include {rtype}.rs",
                    403,
                    "forbidden",
                )
            )
        else:
            found.append(rtype)
    if not (found if wanted else allowed):
        raise _bad(
            "_type", "令牌的授权范围不含任何可导出的资源类型（需要 system/类型.rs）",
            "the token's scopes allow no type to be exported (system/Type.rs is needed)", 403, "forbidden",
        )  # fmt: skip
    return found if wanted else allowed


def _elements(asked: _Kickoff) -> list[str]:
    found = []
    for one in asked.listed("_elements"):
        rtype, dot, name = one.partition(".")
        if (dot and (rtype not in definitions.types() or "." in name)) or not (name or rtype).isidentifier():
            asked.refuse(
                _bad(
                    "_elements",
                    f"{one[:80]} 不是顶层元素，应写 类型.元素 或 元素",
                    f"{one[:80]} is no top-level element: write Type.element or element",
                )
            )
        else:
            found.append(one)
    return found


def _filters(asked: _Kickoff, types: list[str]) -> dict[str, list[list[tuple[str, str]]]]:
    """``_typeFilter``: queries by type, each tried once so that a wrong one is refused now and not in an hour."""
    found: dict[str, list[list[tuple[str, str]]]] = {}
    queries = [q for value in asked.texts("_typeFilter") for q in _QUERIES.split(value) if q]
    if len(queries) > MAX_FILTERS:
        raise _bad("_typeFilter", f"最多 {MAX_FILTERS} 个查询", f"at most {MAX_FILTERS} queries")
    for query in queries:
        try:
            rtype, pairs = _filter(query, asked, types)
        except Problem as problem:
            asked.refuse(problem)
            continue
        found.setdefault(rtype, []).append(pairs)
    return found


def _filter(query: str, asked: _Kickoff, types: list[str]) -> tuple[str, list[tuple[str, str]]]:
    text = unquote(query) if "?" not in query else query
    rtype, mark, rest = text.partition("?")
    if rtype not in definitions.types() or not mark:
        raise _bad("_typeFilter", "应为 类型?参数=值", "write Type?parameter=value")
    if rtype not in types:
        raise _bad("_typeFilter", f"{rtype} 不在导出的类型之中", f"{rtype} is not among the types exported")
    pairs = parse_qsl(rest, keep_blank_values=True)
    if not pairs:
        raise _bad("_typeFilter", "查询条件为空", "the query has no parameters")
    for name, _ in pairs:
        if name.partition(":")[0] in RESULT_PARAMETERS:
            raise _bad("_typeFilter", f"不能用 {name}", f"{name} cannot be used here")
    connections.reading(
        lambda cur: search.search(
            cur, asked.scope, rtype, [*pairs, ("_id", "tried-at-the-kick-off"), ("_count", "1")], strict=True
        )
    )
    return rtype, pairs


# ------------------------------------------------------------------------------------------------------ which patients


def _patients(asked: _Kickoff) -> list[int] | None:
    """Reference keys of the patients a Group or ``patient`` names; None: no certain patients."""
    members = _members(asked) if asked.level == "group" else None
    named = _named(asked)
    if named is None:
        return None if members is None else sorted(members)
    for key, reference in named.items():
        if members is not None and key not in members:
            raise _bad(
                "patient",
                f"{reference} 不是该 Group 的成员",
                f"{reference} is not a member of this Group",
                code="not-found",
            )
    return sorted(named)


def _named(asked: _Kickoff) -> dict[int, str] | None:
    given = asked.request.arguments.get("patient", [])
    if not given:
        return None
    if asked.request.method != "POST" or asked.level == "system":
        asked.refuse(
            _bad(
                "patient",
                "只用于 POST 的患者级或 Group 级导出",
                "only for POST requests at the patient or group level",
                code="not-supported",
            )
        )
        return None
    references = [str(v.get("reference", "")) if type(v) is dict else str(v) for v in given]
    if len(references) > MAX_PATIENTS:
        raise _bad("patient", "应为 Patient 的引用", "must be references to Patients")
    found: dict[int, str] = {}
    for reference in references:
        rid = reference.removeprefix(f"{asked.request.base}/").removeprefix("Patient/")
        if not store.ID.fullmatch(rid):
            raise _bad(
                "patient",
                f"{reference[:80]} 不是 Patient 的引用",
                f"{reference[:80]} is no reference to a Patient",
            )
        keys = _keys(asked.scope, rid)
        if not keys:
            raise _bad(
                "patient",
                f"没有可查看的 Patient/{rid}",
                f"there is no Patient/{rid} that you may see",
                code="not-found",
            )
        found.update(dict.fromkeys(keys, reference))
    return found


def _read(scope: Scope, rtype: str, rid: str) -> store.Result | None:
    return connections.reading(lambda cur: store.read(cur, scope, rtype, rid))


def _keys(scope: Scope, rid: str) -> list[int]:
    """Reference keys of a patient that the scope may see: one, or for a person number those of all its sources."""
    found = _read(scope, "Patient", rid)
    if found is None or found.deleted:
        return []
    if not persons.is_number(rid):
        return [ref_key(f"Patient/{rid}")]

    def work(cur: Any) -> list[int]:
        cur.execute("SELECT subj FROM record_patient WHERE person_id = %s", [persons.by_number(cur, rid)])
        return [row[0] for row in cur.fetchall()]

    return connections.reading(work)


def _members(asked: _Kickoff) -> set[int]:
    """Reference keys of a Group's present members; Groups inside Groups are opened too."""
    waiting, seen, keys = [(asked.request.id or "", 0)], set(), set[int]()
    while waiting:
        rid, depth = waiting.pop()
        if rid in seen or depth > GROUP_DEPTH:
            continue
        seen.add(rid)
        found = _read(asked.scope, "Group", rid)
        if found is None or found.deleted:
            if depth:
                continue
            raise refuse(
                404,
                "not-found",
                f"没有可查看的 Group/{rid[:64]}",
                f"there is no Group/{rid[:64]} that you may see",
            )
        group: dict[str, Any] = orjson.loads(found.body)
        if not group.get("actual", True) and not group.get("member"):
            raise refuse(
                422, "not-supported", "该 Group 只有定义、没有成员，不能导出", "this Group has a definition and no members; it cannot be exported", "Group.member"
            )  # fmt: skip
        for member in group.get("member", []):
            kind, _, name = str(member.get("entity", {}).get("reference", "")).rpartition("/")
            kind = kind.rpartition("/")[2]
            if member.get("inactive") or _over(member.get("period", {}).get("end")):
                continue
            if kind == "Patient" and persons.is_number(name):
                keys.update(_keys(asked.scope, name))
            elif kind == "Patient":
                keys.add(ref_key(f"Patient/{name}"))
            elif kind == "Group":
                waiting.append((name, depth + 1))
    return keys


def _over(end: Any) -> bool:
    """Whether a membership's period has ended (its last day counts as a whole)."""
    return type(end) is str and end[:10] < clock.today().isoformat()


# -------------------------------------------------------------------------------------------------------------- $import


def system_import(scope: Scope, request: handlers.Request) -> handlers.Response:
    """``[base]/$import``."""
    authority.demand_machine(scope)
    given = request.resource or {}
    if given.get("resourceType") not in ("Parameters", None) or not given:
        raise refuse(
            400, "required", "请发送 Parameters（或 JSON 清单）", "send Parameters (or the JSON manifest)"
        )
    arguments = (
        request.arguments
        if "resourceType" in given
        else {k: v if type(v) is list else [v] for k, v in given.items()}
    )
    formats = arguments.get("inputFormat") or ["application/fhir+ndjson"]
    if formats[0] not in FORMATS:
        raise _bad(
            "inputFormat",
            "只接受 application/fhir+ndjson",
            "only application/fhir+ndjson is taken",
            code="not-supported",
        )
    known = {"inputFormat", "inputSource", "storageDetail", "input", "mode"}
    for name in arguments:
        if name not in known:
            raise _bad(name, "不支持该参数", "this parameter is not supported", code="not-supported")
    mode = (arguments.get("mode") or ["update"])[0]
    if mode not in ("update", "create"):
        raise _bad("mode", "应为 update 或 create", "must be update or create")
    source = (arguments.get("inputSource") or [""])[0]
    if type(source) is not str or len(source) > 1000:
        raise _bad("inputSource", "应为 uri", "must be a uri")
    _storage(arguments.get("storageDetail") or [{}])
    inputs = [_input(scope, request, n, one) for n, one in enumerate(arguments.get("input") or [])]
    if not 0 < len(inputs) <= MAX_INPUTS:
        raise _bad("input", f"应有 1 至 {MAX_INPUTS} 个", f"there must be 1 to {MAX_INPUTS}", code="required")
    if not any(authority.may_write(scope, one["type"]) for one in inputs):
        raise refuse(
            403, "forbidden", "令牌的授权范围不允许写入（需要 system/类型.cu）", "the token's scopes allow no writing (system/Type.cu is needed)"
        )  # fmt: skip
    asked = _Kickoff(scope, request, "system", False)
    return _accepted(scope, request, "import", {"input": inputs, "mode": mode, "source": source}, asked)


def _one(values: Any) -> Any:
    return values[0] if type(values) is list and values else values


def _storage(details: list[Any]) -> None:
    detail = details[0] if type(details[0]) is dict else {}
    kind = _one(detail.get("type", "https"))
    if kind not in ("https", "http", "file"):
        raise _bad("storageDetail", "只支持 https", "only https is supported", code="not-supported")
    for name in detail:
        if name not in ("type", "contentEncoding"):
            raise _bad(
                "storageDetail", f"不支持 {name[:60]}", f"{name[:60]} is not supported", code="not-supported"
            )


def _input(scope: Scope, request: handlers.Request, n: int, one: Any) -> dict[str, str]:
    place = f"Parameters.parameter.where(name='input')[{n}]"
    if type(one) is not dict:
        raise refuse(400, "invalid", "input 应含 type 和 url", "an input has a type and a url", place)
    rtype, url = _one(one.get("type", "")), _one(one.get("url", ""))
    if type(url) is not str or not url:
        raise refuse(400, "required", "缺少 url", "the url is missing", place)
    if type(rtype) is not str or (rtype and rtype not in definitions.types()):
        raise refuse(400, "value", "type 不是资源类型", "the type is no resource type", place)
    if url.startswith(("/bulk/", "Binary/")):
        url = request.base.removesuffix("/fhir") + (url if url.startswith("/") else f"/fhir/{url}")
    sources.check(scope, request.base.removesuffix("/fhir"), url, place)
    return {"type": rtype, "url": url}


# --------------------------------------------------------------------------------------------------------- registration


def capability(statement: dict[str, Any]) -> None:
    """Say in the CapabilityStatement that bulk data is served."""
    declared = statement.setdefault("instantiates", [])
    if (canonical := "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data") not in declared:
        declared.append(canonical)


def register() -> None:
    """Offer the operations at the door."""
    for rtype, name, fn in (
        ("", "export", system_export),
        ("Patient", "patient-export", patient_export),
        ("Group", "group-export", group_export),
    ):
        handlers.register_operation(
            rtype, "export", fn, definition=f"{CANONICAL}/{name}", affects_state=False, instance=rtype == "Group",
            type_level=rtype == "Patient", checked=False,
        )  # fmt: skip
    handlers.register_operation("", "import", system_import, definition="", affects_state=True, checked=False)
    handlers.register_capability(capability)
