"""Consultations over FHIR: an expert's hospital answers from its own system, with the guards that the pages have.

``POST ServiceRequest/{number}/$opinion``       sign an opinion (``impression``, ``advice``, ``reason`` when it is changed; ``summary=true``: the summary)
``POST ServiceRequest/{number}/$consult-move``  any other move (``move``, ``expectedVersion``, the form's fields)

Both need an idempotency key (parameter ``key`` or header Idempotency-Key). A client with an institution acts at its institution's seat.
"""

from __future__ import annotations

from typing import Any

from lianxin.access.errors import AccessError
from lianxin.access.scope import Scope
from lianxin.clinical.referral import fhir_parse
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.regional.consult import effects, guards, moves, publish
from lianxin.standards.text import Text

MOST_KEY = 100
WHERE = "Parameters.parameter"


def register() -> None:
    """Hand the operations to the door."""
    handlers.register_operation("ServiceRequest", "opinion", opinion, type_level=False)
    handlers.register_operation("ServiceRequest", "consult-move", move, type_level=False)


def _case(scope: Scope, rid: str | None) -> Case:
    case = Case.objects.within(scope).filter(number=rid or "", kind=moves.KIND).first()
    if case is None:
        raise refuse(404, "not-found", f"没有可见的会诊 {rid}", f"no consultation {rid} that you may see")
    found: Case = case
    return found


def _key(scope: Scope, request: Request, given: Any) -> str:
    key = str(given or request.key or "").strip()
    if not key or len(key) > MOST_KEY:
        raise refuse(
            400, "required", "请用参数 key 或 Idempotency-Key 头给出幂等键（不超过 100 字符）",
            "give an idempotency key: parameter key or header Idempotency-Key (at most 100 characters)", "key",
        )  # fmt: skip
    return f"fhir:{scope.client_id or scope.account_id}:{key}"


def opinion(scope: Scope, request: Request) -> Response:
    """Sign an opinion, or the summary."""
    data = fhir_parse.parameters(request.resource or {})
    name = "conclude" if data.pop("summary", False) in (True, "true") else "opine"
    return _made(scope, request, name, data)


def move(scope: Scope, request: Request) -> Response:
    """Make any other move."""
    data = fhir_parse.parameters(request.resource or {})
    name = str(data.pop("move", None) or "")
    if not name:
        raise refuse(
            400, "required", "请给出参数 move", "give the parameter move", f"{WHERE}.where(name='move')"
        )
    return _made(scope, request, name, data)


def _made(scope: Scope, request: Request, name: str, data: dict[str, Any]) -> Response:
    case = _case(scope, request.id)
    version = data.pop("expected_version", None)
    if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
        raise refuse(
            400, "value", "expectedVersion 须为整数", "expectedVersion must be a whole number", WHERE
        )
    key = _key(scope, request, data.pop("key", None))
    try:
        done = kernel.execute(name, case.number, scope, data, version, key)
    except (kernel.MoveError, AccessError) as error:
        raise _problem(scope, case, error) from error
    return _answer(done)


def _problem(scope: Scope, case: Case, error: Exception) -> Problem:
    """The refusal as HTTP status and issues."""
    if isinstance(error, kernel.Refused):
        return Problem(
            422, *(Issue("invalid", text, f"{WHERE}.where(name='{n}')") for n, text in error.errors.items())
        )
    if isinstance(error, kernel.Stale):
        more = f" ({error.current_version})"
        return Problem(409, Issue("conflict", Text(error.text.zh + more, error.text.en + more), WHERE))
    if isinstance(error, kernel.KeyReused):
        return Problem(422, Issue("duplicate", error.text, WHERE))
    if isinstance(error, AccessError):
        return Problem(403, Issue("forbidden", error.message, WHERE))
    assert isinstance(error, kernel.MoveError)
    outsider = not kernel.context(case, scope).mine
    return Problem(
        403 if outsider else 409, Issue("forbidden" if outsider else "business-rule", error.text, WHERE)
    )


def _answer(done: kernel.Done) -> Response:
    case = done.case
    parts: list[dict[str, Any]] = [
        {"name": "number", "valueString": case.number},
        {"name": "state", "valueCode": case.state},
        {"name": "version", "valueInteger": case.version},
        {"name": "replayed", "valueBoolean": done.replayed},
    ]
    subject = effects.load(case)
    if subject is not None:
        seats = guards.seats(subject)
        parts.append(
            {"name": "task", "resource": publish.task(subject, case.number, case.state, case.priority, seats)}
        )
        documents = publish.documents(subject, case.number)
        parts += [
            {"name": "document", "resource": d} for d in documents if d["resourceType"] == "Composition"
        ]
    return Response(200, {"resourceType": "Parameters", "parameter": parts})
