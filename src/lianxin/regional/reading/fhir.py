"""Outside reading systems claim and report over FHIR, as a doctor with a reader's account (an app they opened).

``POST Task/$claim``               the next study of ``centre`` (default imaging) for this reader
``POST Task/{number}-read/$claim``  that study
``POST Task/{id}/$renew``           lengthen the lease (``transactionUid``)
``POST Task/{id}/$release``         give it back (``transactionUid``, ``reason``)
``POST Task/{id}/$complete``        the report (``transactionUid``, ``findings``, ``conclusion``, ``positive``) and the signature; ``final`` false keeps
a draft. A second reading takes ``score`` and ``note``, an arbitration ``decided`` and ``note``.

The claim's token is DICOM's Transaction UID (PS3.4 CC.2.1.3: only its holder may change a claimed work item), written as a UUID-derived UID.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.models import Act
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.regional.reading import content, moves, publish, queue, service
from lianxin.regional.reading.models import CENTRES, Entry, Reading

TASK_ID = re.compile(r"^(JC\d{8}-\d+)-read$")
UUID_ROOT = "2.25."
"""Root of UIDs that are a UUID's number (DICOM PS3.5 annex B.2)."""
MAX_KEY = 100
Result = TypeVar("Result")


def register() -> None:
    """Hand the operations to the door."""
    for name, fn, type_level in (("claim", claim, True), ("renew", renew, False), ("release", release, False), ("complete", complete, False)):  # fmt: skip
        handlers.register_operation("Task", name, fn, type_level=type_level)


def uid_of(token: uuid.UUID) -> str:
    """A claim's token as a Transaction UID."""
    return f"{UUID_ROOT}{token.int}"


def token_of(text: str) -> str:
    """The token of a Transaction UID (or of a UUID); "" when it is neither."""
    tail = text.removeprefix(UUID_ROOT)
    try:
        if tail != text and tail.isascii() and tail.isdigit() and len(tail) <= 39:
            return str(uuid.UUID(int=int(tail)))
        return str(uuid.UUID(text))
    except ValueError:
        return ""


def _run(work: Callable[[], Result]) -> Result:
    """Run it; a refusal becomes an OperationOutcome."""
    try:
        return work()
    except kernel.Refused as refusal:
        where = "Parameters.parameter"
        raise Problem(
            422, *(Issue("invalid", text, f"{where}.where(name='{name}')" if name != "__all__" else where) for name, text in refusal.errors.items())
        ) from refusal  # fmt: skip
    except kernel.KeyReused as refusal:
        raise Problem(422, Issue("duplicate", refusal.text, "Parameters.parameter")) from refusal
    except kernel.NotAllowed as refusal:
        raise Problem(409, Issue("business-rule", refusal.text, "Parameters.parameter")) from refusal
    except kernel.MoveError as refusal:
        raise Problem(409, Issue("conflict", refusal.text, "Parameters.parameter")) from refusal


def _person(scope: Scope) -> None:
    """A report is a doctor's: a system on its own neither claims nor signs."""
    if scope.account_id is None or not scope.may("read_studies"):
        raise refuse(
            403, "forbidden", "阅片须由登录的诊断医师本人办理，机构系统的令牌不能认领或签发",
            "a study is read by a diagnostic doctor who signed in; a system's own token neither claims nor signs",
        )  # fmt: skip


def _number(scope: Scope, rid: str | None) -> str:
    """The case's number of a Task that the scope may see at its own centre; 404 otherwise."""
    found = TASK_ID.match(rid or "")
    if found is not None:
        rows = Reading.objects.within(scope).filter(case__number=found[1], case__kind=moves.KIND)
        if rows.filter(centre_of_id__in=scope.institution_ids).exists():
            return found[1]
    raise refuse(404, "not-found", f"没有可见的阅片任务 {rid}", f"no reading task {rid} that you may see")


def _token(request: Request) -> str:
    given = request.argument("transactionUid")
    if given is None:
        raise refuse(400, "required", "请给出参数 transactionUid", "give the parameter transactionUid", "Parameters.parameter.where(name='transactionUid')")  # fmt: skip
    return token_of(given)


def _answer(entry: Entry, *more: dict[str, Any]) -> Response:
    reading = entry.reading
    case = reading.case
    held: list[dict[str, Any]] = [
        {"name": "transactionUid", "valueString": uid_of(entry.token)},
        {"name": "leaseUntil", "valueInstant": publish.instant(entry.lease_until)},
    ] if entry.token is not None else []  # fmt: skip
    parts: list[dict[str, Any]] = [
        {"name": "number", "valueString": case.number},
        {"name": "accession", "valueString": reading.accession},
        {"name": "seat", "valueCode": entry.seat},
        *held,
        *more,
        {"name": "task", "resource": publish.task(reading, case.number, case.state, case.priority)},
    ]
    return Response(200, {"resourceType": "Parameters", "parameter": parts})


def claim(scope: Scope, request: Request) -> Response:
    """Take the next study, or the one named; 404 when nothing waits, 409 when somebody else was faster."""
    _person(scope)
    if request.id is None:
        centre, number = request.argument("centre") or "imaging", None
        if centre not in CENTRES:
            raise refuse(422, "value", "参数 centre 不是诊断中心", "the parameter centre is no centre", "Parameters.parameter.where(name='centre')")  # fmt: skip
    else:
        number = _number(scope, request.id)
        centre = Reading.objects.within(scope).values_list("centre", flat=True).get(case__number=number)
    got = _run(lambda: service.claim(scope, centre, number))
    if got is None and number is None:
        raise refuse(404, "not-found", "当前没有可认领的检查", "nothing is waiting that you may take")
    if got is None:
        raise refuse(409, "conflict", "该检查已被认领或不在您可认领的范围", "it was taken by somebody else, or is not yours to take")  # fmt: skip
    return _answer(got[0])


def renew(scope: Scope, request: Request) -> Response:
    """Lengthen the lease."""
    _person(scope)
    number, token = _number(scope, request.id), _token(request)

    def work() -> Entry:
        service.renew(scope, number, token)
        return service.held(scope, number, token)

    return _answer(_run(work))


def release(scope: Scope, request: Request) -> Response:
    """Give it back to the queue; what was drafted is kept."""
    _person(scope)
    number, token = _number(scope, request.id), _token(request)

    def work() -> Entry:
        entry = service.held(scope, number, token)
        service.give_back(scope, number, str(request.argument("reason") or ""))
        entry.token = entry.lease_until = None
        return entry

    return _answer(_run(work))


def complete(scope: Scope, request: Request) -> Response:
    """Write the report and sign it (a report that needs approval is proposed)."""
    _person(scope)
    number, token = _number(scope, request.id), _token(request)
    key = str(request.argument("key") or request.key or "").strip()
    final = request.argument("final", bool)
    if final is not False and (not key or len(key) > MAX_KEY):
        raise refuse(
            400, "required", "请用参数 key 或 Idempotency-Key 头给出幂等键（不超过 100 字符）",
            "give an idempotency key: parameter key or header Idempotency-Key (at most 100 characters)", "key",
        )  # fmt: skip
    own = f"fhir:{scope.client_id or 0}:{scope.account_id}:{key}"
    done = Act.objects.filter(key=own, case__number=number).exists() if key else False
    if done:
        return _done(scope, number)
    return _run(lambda: _complete(scope, request, number, token, own, final=final is not False))


def _complete(scope: Scope, request: Request, number: str, token: str, key: str, *, final: bool) -> Response:
    entry = service.held(scope, number, token)
    reader = queue.reader_of(scope, entry.centre, entry.institution_id)
    typed = {name: request.argument(name) for name in ("findings", "conclusion", "measurements", "key_images") if request.argument(name) is not None}  # fmt: skip
    positive = request.argument("positive", bool)
    if positive is not None:
        typed["positive"] = "yes" if positive else "no"
    if typed:
        service.save_draft(scope, number, token, content.typed(typed, reader))
    if not final:
        return _answer(service.held(scope, number, token))
    if entry.seat == "second":
        service.complete(scope, number, token)
    move, form = _move(entry, reader.signs, request)
    service.act(scope, number, move, form, None, key)
    return _done(scope, number)


def _move(entry: Entry, signs: bool, request: Request) -> tuple[str, dict[str, Any]]:
    note = {"note": request.argument("note") or ""}
    if entry.seat == "second":
        return "second", {"score": request.argument("score") or "", **note}
    if entry.seat == "arbitrate":
        return "arbitrate", {"decided": request.argument("decided") or "", **note}
    if entry.seat == "approve":
        return "approve", {}
    return ("sign" if signs else "propose"), {}


def _done(scope: Scope, number: str) -> Response:
    """Where the work stands now, and its report when it went out."""
    reading = Reading.objects.within(scope).select_related("case", "person", "orderer", "centre_of").get(case__number=number)  # fmt: skip
    case = reading.case
    parts: list[dict[str, Any]] = [
        {"name": "number", "valueString": number},
        {"name": "state", "valueCode": case.state},
        {"name": "task", "resource": publish.task(reading, number, case.state, case.priority)},
    ]
    if reading.issued_at is not None:
        parts.append({"name": "report", "valueReference": {"reference": f"DiagnosticReport/{number}"}})
    return Response(200, {"resourceType": "Parameters", "parameter": parts})
