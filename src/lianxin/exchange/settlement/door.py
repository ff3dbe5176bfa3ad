"""``POST /settlement``: the insurance bureau's own system hands in a file with its control sheet (multipart, bearer token).

The token needs ``system/ExplanationOfBenefit.c`` (what a settlement is in FHIR).  Its client acts for the bureau (an institution of
kind "other" in the consortium's division), for the consortium's lead, or for the whole platform.  The answer is JSON with the totals
and where they differ; the same files again are answered with the batch they were.
"""

from __future__ import annotations

from typing import Any, cast

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from lianxin.access import tokens
from lianxin.access.scope import Scope
from lianxin.exchange.settlement import batches, control
from lianxin.exchange.settlement.models import REFUSED, SettlementBatch
from lianxin.network.models import Consortium, Institution
from lianxin.standards.money import Money
from lianxin.standards.text import T, Text

MOST_BYTES = 512 * 1024 * 1024
MOST_DIFFERENCES = 100


class _No(Exception):
    def __init__(self, status: int, told: Text) -> None:
        super().__init__(told.en)
        self.status, self.told = status, told


@csrf_exempt
def hand_in(request: HttpRequest) -> JsonResponse:
    """201 accepted, 202 held (with the differences), 200 known already, 422 not understood; 400, 401, 403, 405 as usual."""
    try:
        if request.method != "POST":
            answer = _told(405, T("请用 POST 提交。", "Send it by POST."))
            answer["Allow"] = "POST"
            return answer
        return _take(request, _scope(request))
    except _No as no:
        return _told(no.status, no.told)


def _scope(request: HttpRequest) -> Scope:
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    scope = tokens.scope_for_token(bearer.strip()) if kind.lower() == "bearer" and bearer.strip() else None
    if scope is None or not scope.machine:
        raise _No(
            401,
            T(
                "请在 Authorization 头中提供有效的 Bearer 令牌。",
                "Send a valid bearer token in the Authorization header.",
            ),
        )
    if not tokens.allows(scope, "ExplanationOfBenefit", "c"):
        raise _No(
            403,
            T(
                "令牌的授权范围不含 ExplanationOfBenefit.c。",
                "The token's scopes do not include ExplanationOfBenefit.c.",
            ),
        )
    return scope


def consortium_for(scope: Scope, code: str) -> Consortium | None:
    """The consortium a client hands in for: the one of this code, or the only one there is for it; None when it is not its to do."""
    found = Consortium.objects.all()
    if code:
        found = found.filter(code=code)
    if scope.institution_id is not None:
        institution = Institution.objects.get(pk=scope.institution_id)
        mine = [
            c
            for c in found
            if c.lead_id == institution.pk
            or (
                institution.kind == "other"
                and institution.division
                and _covers(institution.division, c.division)
            )
        ]
    else:
        mine = list(found[:2])
    return mine[0] if len(mine) == 1 else None


def _covers(bureau: str, county: str) -> bool:
    return bureau == county or (bureau.endswith("00") and bureau[:4] == county[:4])


def _take(request: HttpRequest, scope: Scope) -> JsonResponse:
    detail, sheet = request.FILES.get("detail"), request.FILES.get("control")
    if detail is None or not detail.size:
        raise _No(400, T("缺少 detail 文件（结算明细）。", "The file “detail” (the settlements) is missing."))
    if detail.size > MOST_BYTES:
        raise _No(413, T("文件超过 512 MB，请分批提交。", "Larger than 512 MB; hand it in in parts."))
    consortium = consortium_for(scope, request.POST.get("consortium", ""))
    if consortium is None:
        raise _No(
            403,
            T(
                "请用 consortium 指明医共体代码，并由其医保经办机构的系统提交。",
                "Name the consortium's code as “consortium”; its insurance bureau's system may hand in.",
            ),
        )
    before = SettlementBatch.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    batch = batches.keep(
        scope,
        consortium,
        cast(Any, detail.file),
        detail.name or "detail",
        cast(Any, sheet.file) if sheet is not None else None,
        (sheet.name or "control") if sheet is not None else "",
    )
    known = batch.pk <= before
    batch = batches.process(scope, batch)
    if batch.state == REFUSED:
        why = batch.report.get("refused", {})
        return _told(422, T(why.get("zh", ""), why.get("en", "")), batch=batch.pk, code=why.get("code", ""))
    status = 200 if known else 201 if batch.differences == 0 else 202
    return JsonResponse(answer(batch), status=status, json_dumps_params={"ensure_ascii": False})


def answer(batch: SettlementBatch) -> dict[str, Any]:
    """What the sender is told of a batch."""
    found = control.compare(batch) if batch.differences else []
    names = ("rows", "total", "fund")

    def said(values: tuple[Any, ...]) -> dict[str, Any]:
        return {
            n: v if n == "rows" or v is None else Money(v).yuan() for n, v in zip(names, values, strict=True)
        }

    return {
        "batch": batch.pk,
        "state": batch.state,
        "rows": batch.rows,
        "rejected": batch.rejected,
        "total": Money(batch.total).yuan(),
        "fund": Money(batch.fund).yuan(),
        "new": batch.report.get("new", 0),
        "changed": batch.report.get("changed", 0),
        "unchanged": batch.report.get("unchanged", 0),
        "linked": batch.report.get("linked", 0),
        "rules": batch.report.get("broken", {}),
        "differences": batch.differences,
        "where": [
            {
                "provider": d.provider,
                "scheme": d.scheme,
                "month": d.month,
                "control": said(d.said),
                "lines": said(d.found),
                "by": said(d.by),
            }
            for d in found[:MOST_DIFFERENCES]
        ],
    }


def _told(status: int, text: Text, **more: Any) -> JsonResponse:
    body = {"error": {"zh": text.zh, "en": text.en}, **more}
    return JsonResponse(body, status=status, json_dumps_params={"ensure_ascii": False})


urlpatterns = [path("settlement", hand_in, name="settlement")]
