"""Arguments of the terminology operations, from the query or a Parameters body; 400 when they are missing or malformed."""

from typing import Any

from lianxin.exchange.fhir.handlers import Request
from lianxin.record.problems import Problem, refuse
from lianxin.record.terminology import sources
from lianxin.record.terminology.concepts import dicts

LONGEST = 4000  # characters of an argument
CODINGS = 50  # of one CodeableConcept


def text(request: Request, *names: str) -> str:
    """The first of these arguments that is given, as text ("" without)."""
    for name in names:
        value = request.argument(name)
        if value is not None:
            if len(value) > LONGEST or "\x00" in value:
                raise missing(
                    name, f"{name} 过长或含有无效字符", f"{name} is too long or has invalid characters"
                )
            return str(value)
    return ""


def texts(request: Request, name: str) -> list[str]:
    return [v for v in request.arguments.get(name, []) if isinstance(v, str)][:50]


def missing(name: str, zh: str, en: str) -> Problem:
    return refuse(400, "required", zh, en, f"Parameters.parameter.where(name='{name}')")


def given(request: Request, rtype: str, name: str) -> dict[str, Any] | None:
    """A resource sent along: as the argument ``name``, or as the whole body."""
    for one in (*request.arguments.get(name, []), *request.arguments.get("resource", [])):
        if isinstance(one, dict) and one.get("resourceType") == rtype:
            return one
        raise missing(name, f"{name} 应为 {rtype} 资源", f"{name} must be a {rtype} resource")
    return None


def instance(request: Request, rtype: str) -> dict[str, Any] | None:
    if request.id is None:
        return None
    found = sources.by_id(rtype, request.id)
    if found is None:
        raise refuse(
            404, "not-found", f"没有 {rtype}/{request.id[:64]}", f"there is no {rtype}/{request.id[:64]}"
        )
    return found


def codings(request: Request) -> list[tuple[str, str, str, str]]:
    """What is asked about, as (system, code, display, version): from code/system, coding or codeableConcept."""
    if request.arguments.get("code"):
        version = text(request, "systemVersion") or (
            "" if request.rtype == "ValueSet" else text(request, "version")
        )
        return [(text(request, "system"), text(request, "code"), text(request, "display"), version)]
    rows: list[Any] = []
    if request.arguments.get("coding"):
        rows = [request.argument("coding", dict)]
    elif request.arguments.get("codeableConcept"):
        rows = dicts(request.argument("codeableConcept", dict), "coding")
    if len(rows) > CODINGS:
        raise refuse(
            400,
            "too-long",
            f"一次最多 {CODINGS} 个 coding",
            f"at most {CODINGS} codings at once",
            "codeableConcept",
        )
    found = [
        (
            str(row.get("system") or ""),
            str(row.get("code") or ""),
            str(row.get("display") or ""),
            str(row.get("version") or ""),
        )
        for row in rows
        if isinstance(row, dict) and row.get("code")
    ]
    if not found:
        raise missing(
            "code",
            "请给出 code（及 system）、coding 或 codeableConcept",
            "give code (and system), coding or codeableConcept",
        )
    return found
