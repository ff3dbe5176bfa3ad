"""ECGs over FHIR: what a vendor's cart or gateway sends, and what somebody else's viewer fetches.

``POST ServiceRequest/{id}/$import-ecg``  a file for an order: Parameters with ``file`` (valueBase64Binary or Attachment) and ``name``, or a
                                          Binary, or a DocumentReference with its data inline
``GET  Observation/{id}/$ecg-waveform``   the recording as SampledData, every lead
``GET  DocumentReference/{id}/$ecg-file`` the file as it came (Binary)
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.duty.errors import KeyReused, NotAllowed, Refused
from lianxin.exchange.fhir import handlers
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.regional.ecg import publish, service
from lianxin.regional.ecg.models import Tracing
from lianxin.regional.reading.models import Reading
from lianxin.standards.text import T


def register() -> None:
    """Hand the operations to the door."""
    handlers.register_operation("ServiceRequest", "import-ecg", import_ecg, type_level=False)
    handlers.register_operation("Observation", "ecg-waveform", waveform, affects_state=False, type_level=False)  # fmt: skip
    handlers.register_operation("DocumentReference", "ecg-file", file, affects_state=False, type_level=False)


def _reading(scope: Scope, number: str) -> Reading:
    rows = Reading.objects.within(scope).select_related("case", "person", "performer", "centre_of", "orderer")
    found: Reading | None = rows.filter(case__number=number, centre="ecg").first()
    if found is None:
        raise Problem(404, Issue("not-found", T("没有这份心电图申请。", "There is no such ECG order."), "id"))
    return found


def _sent(request: Request) -> tuple[bytes, str]:
    """The bytes and a file name from whatever form the sender chose."""
    body = request.resource or {}
    data: Any = None
    name = ""
    if body.get("resourceType") == "Binary":
        data = body.get("data")
    elif body.get("resourceType") == "DocumentReference":
        content = body.get("content")
        first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
        attachment = first.get("attachment")
        attachment = attachment if isinstance(attachment, dict) else {}
        data, name = attachment.get("data"), str(attachment.get("title") or "")
    else:
        given = (request.arguments.get("file") or [None])[0]
        data = given.get("data") if isinstance(given, dict) else given
        name = str((request.arguments.get("name") or [given.get("title") if isinstance(given, dict) else ""])[0] or "")  # fmt: skip
    if not isinstance(data, str) or not data:
        raise refuse(400, "required", "缺少心电图文件（file，Base64）", "the ECG file is missing (file, base64)", "Parameters.parameter.where(name='file')")  # fmt: skip
    try:
        return base64.b64decode(data, validate=True), name[:120]
    except (binascii.Error, ValueError):
        raise refuse(400, "value", "文件不是有效的 Base64", "the file is not valid base64", "Parameters.parameter.where(name='file')") from None  # fmt: skip


def import_ecg(scope: Scope, request: Request) -> Response:
    """Take a device's file for an order. 201 when it is attached, 202 when it waits for somebody to check whose it is."""
    reading = _reading(scope, request.id or "")
    data, name = _sent(request)
    try:
        tracing = service.take(scope, reading, name, data, source="wire")
    except Refused as refusal:
        raise Problem(422, *[Issue("invalid", text, "Parameters") for text in refusal.errors.values()]) from None  # fmt: skip
    except KeyReused as reused:
        raise Problem(422, Issue("duplicate", reused.text, "Parameters")) from None
    except NotAllowed as refusal:
        raise Problem(403, Issue("forbidden", refusal.text, "id")) from None
    if tracing.state != "attached":
        said = T("已收存，待核对归属：{why}", "Kept; somebody must check whose it is: {why}").format(why=tracing.problem_words)  # fmt: skip
        return Response(202, _outcome("business-rule", said))
    return Response(201, publish.measurements(reading, tracing))


def _outcome(code: str, text: Any) -> dict[str, Any]:
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "warning", "code": code, "details": {"text": f"{text.zh} / {text.en}"}}]}  # fmt: skip


def _tracing(scope: Scope, request: Request) -> tuple[Reading, Tracing]:
    reading = _reading(scope, (request.id or "").removesuffix("-ecg"))
    tracing = service.latest(reading)
    if tracing is None:
        raise Problem(404, Issue("not-found", T("还没有心电图记录。", "There is no recording yet."), "id"))
    return reading, tracing


def waveform(scope: Scope, request: Request) -> Response:
    """Every sample as it was recorded."""
    reading, tracing = _tracing(scope, request)
    audit.write(scope, "read", person_id=reading.person_id, what=f"ecg {reading.case.number}", detail={"samples": tracing.pk})  # fmt: skip
    return Response(200, publish.sampled(reading, tracing))


def file(scope: Scope, request: Request) -> Response:
    """The file as it came."""
    reading, tracing = _tracing(scope, request)
    audit.write(scope, "export", person_id=reading.person_id, what=f"ecg {reading.case.number}", detail={"sha256": tracing.sha256})  # fmt: skip
    return Response(200, publish.binary(tracing))
