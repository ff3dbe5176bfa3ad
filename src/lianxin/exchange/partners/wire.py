"""``POST /partners/selftest``: the self-test over the wire, with the client's own token; the answer is JSON.

The body is a sample as it would be sent (HL7 v2, CDA, CSV or Excel), or empty for the general steps.  ``GET`` tells how far it is.
"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from lianxin.access import tokens
from lianxin.access.models import Client
from lianxin.exchange.partners import selftest as tests
from lianxin.exchange.partners.models import Partner
from lianxin.standards.text import T, Text


@csrf_exempt
def selftest(request: HttpRequest) -> HttpResponse:
    """Run the steps a sample allows, and tell what is still lacking."""
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    scope = tokens.scope_for_token(bearer.strip()) if kind.lower() == "bearer" and bearer.strip() else None
    if scope is None or scope.client_id is None or not scope.machine:
        answer = _refused(
            T("请在 Authorization 头中提供系统的 Bearer 令牌", "send the system's own Bearer token"), 401
        )
        answer.headers["WWW-Authenticate"] = 'Bearer realm="lianxin"'
        return answer
    if request.method not in ("GET", "POST"):
        answer = _refused(T("请用 GET 或 POST", "use GET or POST"), 405)
        answer.headers["Allow"] = "GET, POST"
        return answer
    partner = Partner.objects.filter(links__client_id=scope.client_id).first()
    if partner is None:
        return _refused(
            T(
                "该系统不属于任何接入方，请联系医共体登记",
                "this system belongs to no partner; have it entered",
            ),
            404,
        )
    ran: list[dict[str, Any]] = []
    if request.method == "POST":
        client = Client.objects.select_related("institution").get(pk=scope.client_id)
        try:
            found = tests.run(
                partner,
                client,
                f"client {client.name}",
                request.body,
                request.headers.get("X-File-Name", ""),
                called=True,
            )
        except RequestDataTooBig:
            return _refused(T("样例过大，最多 5 MB", "the sample is too large: 5 MB at most"), 413)
        except tests.Unfit as unfit:
            return _refused(unfit.text, 422)
        ran = [one.as_dict() | {"label": str(tests.STEPS[one.step].zh)} for one in found]
    done = tests.latest(partner)
    required = [
        {"step": s, "label": tests.STEPS[s].zh, "passed": s in done and done[s].passed, "at": done[s].at.isoformat() if s in done else None}
        for s in tests.required(partner)
    ]  # fmt: skip
    return JsonResponse(
        {
            "partner": partner.name, "state": partner.state, "ran": ran, "required": required,
            "lacking": [{"zh": t.zh, "en": t.en} for t in tests.lacking(partner)],
        },
        json_dumps_params={"ensure_ascii": False},
    )  # fmt: skip


def _refused(told: Text, status: int) -> HttpResponse:
    return JsonResponse(
        {"error": {"zh": told.zh, "en": told.en}}, status=status, json_dumps_params={"ensure_ascii": False}
    )
