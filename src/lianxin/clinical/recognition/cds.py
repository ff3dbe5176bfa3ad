"""CDS Hooks 2.0: at ``order-select`` and ``order-sign`` a hospital's own system is shown the results that may stand for what is drafted.

Cards name the result, its HR mark and the days left, offer to delete the draft, and list the reason codes as override reasons; feedback is
the decision. The bearer token is the one of ``/fhir``; a person who is not there and one without a relationship get the same answer: no
cards. https://cds-hooks.org/specification/2.0/
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import uuid
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from lianxin.access import audit, relationships, tokens
from lianxin.access.scope import Scope
from lianxin.clinical.recognition import decisions, knowing, results, search, shipped
from lianxin.clinical.recognition.decisions import Choice
from lianxin.clinical.recognition.models import Card, Group, Result
from lianxin.clinical.recognition.results import Content
from lianxin.clinical.recognition.rules import Verdict
from lianxin.clinical.recognition.search import Hit
from lianxin.duty.errors import MoveError
from lianxin.exchange.partners import limits
from lianxin.index import registry
from lianxin.network.models import Post, Practitioner
from lianxin.standards import clock

log = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024
MOST_ORDERS = 60
MOST_FEEDBACK = 100
KEPT = dt.timedelta(days=14)
SPACE = uuid.UUID("6f4b1a52-6a0f-5d0f-9f3f-2f1c6f0c7a11")
REASONS = "http://lianxin.example/cs/recognition-reason"
HOOKS = {"recognition-order-select": "order-select", "recognition-order-sign": "order-sign"}
TITLES = {
    "order-select": "检查检验结果互认（选择项目时）/ Recognisable results while an order is chosen",
    "order-sign": "检查检验结果互认（签发前）/ Recognisable results before an order is signed",
}
View = Callable[..., HttpResponse]


class Bad(Exception):
    """A request that cannot be answered: HTTP status and words in both languages."""

    def __init__(self, status: int, zh: str, en: str) -> None:
        super().__init__(en)
        self.status, self.text = status, f"{zh} / {en}"


def _door(method: str) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        def answered(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                if request.method != method:
                    raise Bad(405, f"请用 {method}", f"use {method}")
                response = view(request, *args, **kwargs)
            except Bad as bad:
                response = JsonResponse({"error": bad.text}, status=bad.status)
                if bad.status == 405:
                    response.headers["Allow"] = method
                if bad.status == 401:
                    response.headers["WWW-Authenticate"] = 'Bearer realm="lianxin"'
            response.headers["Cache-Control"] = "no-store"
            return response

        return answered

    return decorate


def _scope(request: HttpRequest) -> Scope:
    kind, _, bearer = request.headers.get("Authorization", "").partition(" ")
    scope = tokens.scope_for_token(bearer.strip()) if kind.lower() == "bearer" and bearer.strip() else None
    if scope is None:
        raise Bad(
            401,
            "请在 Authorization 头中提供有效的 Bearer 令牌",
            "send a valid Bearer token in the Authorization header",
        )
    if limited := limits.at_door(scope):
        raise Bad(limited.status, "请求过多，请稍后再试", "too many requests; try again later")
    if scope.institution_id is None or scope.client_id is None:
        raise Bad(403, "令牌须属于一家机构的系统", "the token must belong to the system of an institution")
    for needed in ("DiagnosticReport", "ServiceRequest"):
        if not tokens.allows(scope, needed, "r"):
            raise Bad(403, f"令牌的授权范围不含 {needed}.r", f"the token's scopes do not include {needed}.r")
    return scope


def _body(request: HttpRequest) -> dict[str, Any]:
    if (request.content_type or "").partition(";")[0].strip() != "application/json":
        raise Bad(415, "请发送 application/json", "send application/json")
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MOST_BYTES:
        raise Bad(413, "请求过大", "the request is too large")
    try:
        found = json.loads(request.read(MOST_BYTES + 1))
    except (ValueError, RecursionError):
        raise Bad(400, "不是 JSON", "this is no JSON") from None
    if type(found) is not dict:
        raise Bad(400, "请发送一个 JSON 对象", "send a JSON object")
    return found


@_door("GET")
def discovery(request: HttpRequest) -> HttpResponse:
    """The services (public, as the specification has it)."""
    services = [
        {
            "hook": hook,
            "id": name,
            "title": TITLES[hook],
            "description": "对草拟的检查检验查找可互认的既往结果；可删除草拟项目，或选择不采用的原因。Finds earlier results that may stand for what is drafted.",
            "prefetch": {"patient": "Patient/{{context.patientId}}"},
        }
        for name, hook in HOOKS.items()
    ]  # fmt: skip
    return JsonResponse({"services": services}, json_dumps_params={"ensure_ascii": False})


@_door("POST")
def call(request: HttpRequest, service: str) -> HttpResponse:
    """The cards for a draft."""
    if service not in HOOKS:
        raise Bad(404, "没有这个服务", "there is no such service")
    scope = _scope(request)
    asked = _body(request)
    if asked.get("hook") != HOOKS[service]:
        raise Bad(400, f"hook 应为 {HOOKS[service]}", f"hook must be {HOOKS[service]}")
    try:
        instance = uuid.UUID(str(asked.get("hookInstance")))
    except ValueError:
        raise Bad(400, "hookInstance 应为 UUID", "hookInstance must be a UUID") from None
    context = asked.get("context")
    if type(context) is not dict or type(context.get("patientId")) is not str:
        raise Bad(400, "缺少 context.patientId", "context.patientId is missing")
    drafts = _drafts(context)
    person_id = _person(scope, context["patientId"])
    cards = (
        _cards(request, scope, service, instance, person_id, drafts, _doctor(scope, context))
        if person_id is not None
        else []
    )
    return JsonResponse({"cards": cards}, json_dumps_params={"ensure_ascii": False})


def _drafts(context: dict[str, Any]) -> list[dict[str, Any]]:
    bundle = context.get("draftOrders")
    if (
        type(bundle) is not dict
        or bundle.get("resourceType") != "Bundle"
        or type(bundle.get("entry", [])) is not list
    ):
        raise Bad(400, "context.draftOrders 应为 Bundle", "context.draftOrders must be a Bundle")
    found = [e.get("resource") for e in bundle.get("entry", []) if type(e) is dict]
    drafts = [r for r in found if type(r) is dict and r.get("resourceType") == "ServiceRequest"]
    chosen = context.get("selections")
    if type(chosen) is list:
        wanted = {str(one).rpartition("/")[2] for one in chosen if type(one) is str}
        drafts = [r for r in drafts if str(r.get("id")) in wanted]
    if len(drafts) > MOST_ORDERS:
        raise Bad(400, f"一次最多 {MOST_ORDERS} 项", f"at most {MOST_ORDERS} orders at a time")
    return drafts


def _person(scope: Scope, patient: str) -> int | None:
    rid = patient.rpartition("/")[2]
    if not rid or len(rid) > 64 or "\x00" in rid:
        return None
    try:
        found: int | None = registry.get(rid).pk
    except registry.UnknownPerson:
        found = registry.by_patient_id(rid)
    return found if found is not None and relationships.sees(scope, found) else None


def _doctor(scope: Scope, context: dict[str, Any]) -> Practitioner | None:
    """The user, when somebody of the client's institution."""
    kind, _, code = str(context.get("userId") or "").partition("/")
    if kind not in ("Practitioner", "PractitionerRole") or not code or len(code) > 64 or "\x00" in code:
        return None
    posts = (
        Post.objects.live().filter(institution_id__in=scope.institution_ids).select_related("practitioner")
    )
    if kind == "Practitioner":
        post = posts.filter(practitioner__code=code).first()
    else:
        plain = code.removeprefix("post-")
        post = (
            posts.filter(pk=int(plain)).first()
            if plain.isascii() and plain.isdigit() and len(plain) < 16
            else None
        )
    return post.practitioner if post else None


def _wanted(scope: Scope, drafts: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Group code -> ids of the drafts that ask for it."""
    known, found = knowing.known(), dict[str, list[str]]()
    for draft in drafts:
        concept = draft.get("code")
        codings = concept.get("coding") if type(concept) is dict else None
        for coding in codings if type(codings) is list else []:
            if type(coding) is not dict:
                continue
            group = known.group_of(
                str(coding.get("system") or ""), str(coding.get("code") or ""), scope.institution_id
            )
            if group is not None:
                ids = found.setdefault(group.code, [])
                rid = str(draft.get("id") or "")[:64]
                if rid not in ids:
                    ids.append(rid)
    return found


def _cards(
    request: HttpRequest, scope: Scope, service: str, instance: uuid.UUID, person_id: int, drafts: list[dict[str, Any]],
    doctor: Practitioner | None,
) -> list[dict[str, Any]]:  # fmt: skip
    wanted = _wanted(scope, drafts)
    assert scope.institution_id is not None
    assert scope.client_id is not None  # the door has checked both
    hits = decisions.best(search.find(person_id, wanted, scope.institution_id))
    said = results.content(scope, [h.ref for h in hits])
    rows, cards = [], []
    for hit in hits:
        seed = f"{scope.client_id}:{instance}:{service}:{hit.pk}:{hit.wanted.code}"
        card, suggestion = uuid.uuid5(SPACE, seed), uuid.uuid5(SPACE, f"{seed}:use")
        order = ",".join(wanted[hit.wanted.code])[:80] or str(instance)
        rows.append(
            Card(
                uuid=card, person_id=person_id, client_id=scope.client_id, institution_id=scope.institution_id, practitioner=doctor, result_id=hit.pk,
                group=hit.wanted, rule=hit.verdict.rule, mark=hit.mark, must=hit.must, own=hit.own, order=order, service=service,
                suggestion=suggestion, at=clock.now(),
            )
        )  # fmt: skip
        cards.append(_card(request, hit, card, suggestion, wanted[hit.wanted.code], said.get(hit.ref)))
    if rows:
        Card.objects.bulk_create(rows, ignore_conflicts=True)
        audit.write(
            scope,
            "read",
            person_id=person_id,
            what="recognisable results (CDS Hooks)",
            detail={"results": [h.ref for h in hits]},
        )
    return cards


def _card(
    request: HttpRequest,
    hit: Hit,
    card: uuid.UUID,
    suggestion: uuid.UUID,
    drafts: list[str],
    content: Content | None,
) -> dict[str, Any]:
    when = f"{hit.at.astimezone(clock.ZONE):%Y-%m-%d}"
    mark = f" {hit.mark}" if hit.mark else ""
    lines = [
        f"**{hit.institution.zh}** {when}{mark}，还有 {hit.days_left} 天有效 / {hit.days_left} days left"
    ]
    if content is not None:
        if content.values or content.findings:
            lines.append(
                "结果 Result: " + _plain(" · ".join([*content.values, content.findings]).strip(" ·"))
            )
        if content.conclusion:
            lines.append(
                "诊断意见（不属互认内容）Conclusion (not what is recognised): " + _plain(content.conclusion)
            )
    if hit.must:
        lines.append(
            "应予互认；确需重做请选择原因并向患者说明。To be recognised; a repetition needs its reason."
        )
    found: dict[str, Any] = {
        "uuid": str(card),
        "summary": f"{hit.wanted.name}：{hit.institution.zh} {when} 已有结果{mark}"[:139],
        "detail": "\n\n".join(lines),
        "indicator": "warning" if hit.must else "info",
        "source": {"label": "联心 · 检查检验结果互认", "url": request.build_absolute_uri("/recognition/rules"), "topic": {"system": "http://lianxin.example/cs/recognition", "code": "recognisable", "display": "可互认结果"}},
        "overrideReasons": [{"code": r.code, "system": REASONS, "display": r.label.zh} for r in shipped.reasons().values()],
        "links": [{"label": "查看结果 / Open the result", "url": request.build_absolute_uri(f"/fhir/{hit.ref}"), "type": "absolute"}],
    }  # fmt: skip
    if named := [rid for rid in drafts if rid]:
        found["selectionBehavior"] = "at-most-one"
        found["suggestions"] = [
            {
                "label": "采用已有结果，删除此申请 / Use it, delete the draft"[:80],
                "uuid": str(suggestion),
                "isRecommended": hit.must,
                "actions": [{"type": "delete", "description": f"删除重复的 {hit.wanted.name}", "resourceId": f"ServiceRequest/{rid}"} for rid in named],
            }
        ]  # fmt: skip
    return found


def _plain(words: str) -> str:
    """Words of a report inside Markdown: nothing of theirs is markup."""
    short = words if len(words) <= 600 else words[:600] + "…"
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#+!|" else c for c in short)


# ----------------------------------------------------------------------------------------------------------------- feedback


@_door("POST")
def feedback(request: HttpRequest, service: str) -> HttpResponse:
    """What became of cards: accepted, or overridden with a reason. Each card's first word counts; the same again changes nothing."""
    if service not in HOOKS:
        raise Bad(404, "没有这个服务", "there is no such service")
    scope = _scope(request)
    told = _body(request).get("feedback")
    if type(told) is not list or not told or len(told) > MOST_FEEDBACK:
        raise Bad(
            400,
            f"feedback 应为 1 至 {MOST_FEEDBACK} 项的数组",
            f"feedback must be an array of 1 to {MOST_FEEDBACK}",
        )
    pairs = [_told(scope, service, one) for one in told]
    for card, choice in pairs:
        try:
            decisions.decide(
                scope, card.person_id, [_hit(card)], {card.result_id: choice}, order=card.order, door="cds", key=f"cds:{card.uuid}",
                doctor=card.practitioner,
            )  # fmt: skip
        except MoveError as error:
            raise Bad(422, error.text.zh, error.text.en) from error
    return HttpResponse(status=200)


def _told(scope: Scope, service: str, one: Any) -> tuple[Card, Choice]:
    if type(one) is not dict:
        raise Bad(400, "feedback 的每一项应为对象", "each feedback must be an object")
    try:
        wanted = uuid.UUID(str(one.get("card")))
    except ValueError:
        raise Bad(400, "card 应为 UUID", "card must be a UUID") from None
    rows = Card.objects.unscoped("the client's own cards").filter(
        uuid=wanted, client_id=scope.client_id, service=service
    )
    card = rows.select_related("result", "group", "rule", "practitioner").first()
    if card is None:
        raise Bad(404, "没有这张卡片", "there is no such card")
    outcome = one.get("outcome")
    if outcome == "accepted":
        return card, Choice(True)
    if outcome != "overridden":
        raise Bad(400, "outcome 应为 accepted 或 overridden", "outcome must be accepted or overridden")
    return card, _overridden(one)


def _overridden(one: dict[str, Any]) -> Choice:
    """The coded reason; one that is missing or not of our codes is 08, told in the doctor's words."""
    given = one.get("overrideReason")
    reason = given.get("reason") if type(given) is dict else None
    code = str(reason.get("code") or "") if type(reason) is dict else ""
    comment = str(given.get("userComment") or "").strip()[: decisions.LONGEST] if type(given) is dict else ""
    known = shipped.reasons().get(code)
    if known is None:
        return Choice(False, "08", comment or "未说明原因")
    return Choice(False, code, comment or ("未说明理由" if known.text else ""))


def _hit(card: Card) -> Hit:
    """What the card was about, as it was shown."""
    result: Result = card.result
    group: Group = card.group
    known = knowing.known()
    maker = known.places.get(result.institution_id)
    label = maker.label if maker else group.label
    verdict = Verdict(True, card.must, card.rule, card.own)
    return Hit(
        result.pk,
        group,
        group,
        result.institution_id,
        label,
        result.at,
        result.at,
        1,
        card.mark,
        verdict,
        result.quality,
        result.ref,
    )


def tidy() -> int:
    """Cards older than a fortnight are let go of (decisions stay). Returns how many."""
    gone, _ = Card.objects.unscoped("old cards").filter(at__lt=clock.now() - KEPT).delete()
    return gone
