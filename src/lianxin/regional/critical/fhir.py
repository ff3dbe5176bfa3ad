"""Over the wire: an outside system reads back a critical value with ``POST /fhir/Communication/{number}/$acknowledge``.

Parameters: ``readback`` (string, required), ``recipient`` (who heard it, string), ``key`` (or the header ``Idempotency-Key``). The token needs
update on Communication and on Task. A wrong read-back is answered 422 and stays on record, so the operation opens no transaction of the door's.
"""

from __future__ import annotations

from lianxin.access.scope import Scope
from lianxin.duty import kernel
from lianxin.duty.models import Case
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.regional.critical import moves, service
from lianxin.regional.critical.effects import load
from lianxin.regional.critical.publish import communication

MAX_KEY = 100


def register() -> None:
    """Hand the operation to the door."""
    handlers.register_operation(
        "Communication", "acknowledge", acknowledge, affects_state=False, letter="u", type_level=False
    )


def acknowledge(scope: Scope, request: Request) -> Response:
    """Read back a critical value; answers with the Communication as it stands then."""
    if request.method != "POST":
        raise refuse(405, "not-supported", "请用 POST 提交复述", "send the read-back with POST")
    case = (
        Case.objects.within(scope)
        .filter(number=(request.id or "").split("/")[0], kind=moves.KIND)
        .select_related("person")
        .first()
    )
    if case is None:
        raise refuse(
            404, "not-found", f"没有可见的危急值 {request.id}", f"no critical value {request.id} that you may see"
        )  # fmt: skip
    readback = request.argument("readback")
    if not readback:
        raise refuse(
            400,
            "required",
            "请给出参数 readback",
            "give the parameter readback",
            "Parameters.parameter.where(name='readback')",
        )
    key = str(request.argument("key") or request.key or "").strip()
    if not key or len(key) > MAX_KEY:
        raise refuse(
            400, "required", "请用参数 key 或 Idempotency-Key 头给出幂等键（不超过 100 字符）",
            "give an idempotency key: parameter key or header Idempotency-Key (at most 100 characters)", "key",
        )  # fmt: skip
    form = {"readback": readback, "recipient": request.argument("recipient") or ""}
    own = f"fhir:{scope.client_id or scope.account_id}:{key}"
    try:
        done = service.act(scope, case.number, "acknowledge", form, None, own)
    except kernel.Refused as wrong:
        raise Problem(422, *(Issue("invalid", text, "Parameters.parameter.where(name='readback')") for text in wrong.errors.values())) from wrong  # fmt: skip
    except kernel.KeyReused as used:
        raise Problem(422, Issue("duplicate", used.text, "key")) from used
    except kernel.MoveError as trouble:
        raise Problem(409, Issue("business-rule", trouble.text)) from trouble
    subject = load(done.case)
    assert subject is not None
    state = moves.MACHINE.state(done.case.state)
    return Response(200, communication(subject, case.number, state.fhir_status, state.code))
