"""Subscriptions at the FHIR door: who may make, change and end one, and the operations of the R5 backport."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from django.db import connection

from lianxin.access import audit, seal, tokens
from lianxin.access.scope import Scope
from lianxin.exchange.fhir import handlers, shape
from lianxin.exchange.fhir.handlers import Request, Response
from lianxin.exchange.subscriptions import content, criteria, sending, topics
from lianxin.exchange.subscriptions.criteria import Wanted
from lianxin.exchange.subscriptions.models import (
    ACTIVE,
    EMPTY,
    ERROR,
    FULL,
    ID_ONLY,
    OFF,
    REQUESTED,
    Subscription,
    SubscriptionEvent,
)
from lianxin.record import feed, rows, store, visible
from lianxin.record.problems import Problem, refuse
from lianxin.record.query.base import UnknownParameter
from lianxin.record.store import Result, Write
from lianxin.standards import clock

MOST = 500  # subscriptions of one client that are not off
MOST_EVENTS = 500  # in one answer of $events
_DEFINITION = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/backport-subscription-"
_TOPIC_EXTENSION = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical"


def register() -> None:
    """Take the writes of Subscription, offer the operations, and keep subscriptions to their owners."""
    handlers.register_write("Subscription", write)
    handlers.register_operation(
        "Subscription", "status", status, definition=f"{_DEFINITION}status", affects_state=False
    )
    handlers.register_operation(
        "Subscription",
        "events",
        events,
        definition=f"{_DEFINITION}events",
        affects_state=False,
        type_level=False,
    )
    handlers.register_capability(_capability)
    visible.register_owner("Subscription", owned)


def owned(scope: Scope, alias: str) -> tuple[str, list[Any]]:
    """SQL: the subscription belongs to the scope's client."""
    return (
        f"EXISTS (SELECT 1 FROM exchange_subscription xs WHERE xs.fhir_id = {alias}.id AND xs.client_id = %s)",
        [scope.client_id or 0],
    )


# ------------------------------------------------------------------------------------------------------------------ writing


def write(scope: Scope, asked: Request) -> Response:
    """Create, update or delete a Subscription (inside the door's transaction)."""
    if asked.method == "DELETE":
        return _delete(scope, asked)
    client = _client(scope)
    assert asked.resource is not None
    wanted = criteria.understand(asked.resource)
    if urlsplit(wanted.endpoint).netloc.lower() == urlsplit(asked.base).netloc.lower():
        raise criteria.wrong(
            "接收地址是本服务器自己，会循环不止", "the endpoint is this server itself, which would never end",
            "channel.endpoint",
        )  # fmt: skip
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        old = _mine(client, asked.id) if asked.id else None
        if old is None and _own(scope).exclude(status=OFF).count() >= MOST:
            raise refuse(
                422, "too-costly", f"每个客户端最多 {MOST} 个订阅", f"a client may have {MOST} subscriptions"
            )
        _may(cur, scope, wanted)
        return _keep(cur, scope, client, asked, wanted, old)


def _client(scope: Scope) -> int:
    """The machine client that acts; people and apps opened by people have no receiver of their own."""
    if scope.client_id is None or scope.account_id is not None:
        raise refuse(
            403, "forbidden", "订阅属于系统客户端，请用系统的令牌建立",
            "a subscription belongs to a system's client; make it with the token of a system",
        )  # fmt: skip
    return scope.client_id


def _mine(client: int, fhir_id: str) -> Subscription | None:
    """The client's own subscription, locked; another's is as good as not there."""
    old = Subscription.objects.select_for_update().filter(fhir_id=fhir_id).first()
    if old is not None and old.client_id != client:
        raise _absent(fhir_id)
    return old


def _absent(fhir_id: str) -> Problem:
    where = f"Subscription/{fhir_id[:64]}"
    return refuse(404, "not-found", f"没有可查看的 {where}", f"there is no {where} that you may see")


def _may(cur: Any, scope: Scope, wanted: Wanted) -> None:
    """403 unless the token may search and read what is subscribed to; 422 for criteria the search does not understand."""
    for rtype in wanted.rtypes:
        for letter in wanted.letters:
            if not tokens.allows(scope, rtype, letter):
                raise refuse(
                    403, "forbidden", f"令牌的授权范围不含 {rtype}.{letter}，不能订阅",
                    f"the token's scopes do not include {rtype}.{letter}, so it may not subscribe", "Subscription.criteria",
                )  # fmt: skip
    for i, (rtype, pairs) in enumerate(wanted.filters):
        place = "criteria" if wanted.form == "plain" else f"criteria.extension[{i}]"
        try:
            feed.matching(cur, scope, rtype, [p for p in pairs if p[0] != topics.BEFORE], [], {})
        except UnknownParameter as unknown:
            raise criteria.wrong(
                f"{rtype} 没有查询参数 {unknown}",
                f"{rtype} has no search parameter {unknown}",
                place,
                "not-supported",
            ) from None
        except Problem as problem:
            raise Problem(422, *problem.at(f"Subscription.{place}").issues) from None


_KEPT = ("form", "criteria", "endpoint", "payload", "content")


def _keep(
    cur: Any, scope: Scope, client: int, asked: Request, wanted: Wanted, old: Subscription | None
) -> Response:
    """Store the resource with the state the server gives it, and the row beside it."""
    assert asked.resource is not None
    state = _state(wanted, old)
    resource, raw = asked.resource, asked.raw or None
    error = old.error if old and state == ERROR else ""
    words = error.replace("\n", " ")
    if (resource.get("status"), resource.get("error", "")) != (state, words):
        resource = {**resource, "status": state, "error": words}
        if not words:
            del resource["error"]
        raw = None
    done = store.apply(cur, scope, [_as_write(asked, resource, raw)])[0]
    action = "create" if asked.method == "POST" else "update"
    audit.write(
        scope,
        action,
        what=f"Subscription/{done.id}/_history/{done.version}",
        detail={"criteria": wanted.criteria},
    )
    values: dict[str, Any] = {
        "version": done.version, "client_id": client, "smart": " ".join(scope.smart), "base": asked.base or "", "form": wanted.form,
        "rtypes": wanted.rtypes, "criteria": wanted.criteria, "filters": wanted.filters, "endpoint": wanted.endpoint,
        "headers": seal.seal(json.dumps(wanted.headers)) if wanted.headers else "", "payload": wanted.payload,
        "content": wanted.content, "heartbeat": wanted.heartbeat, "timeout": wanted.timeout, "max_count": wanted.max_count,
        "ends_at": wanted.ends_at, "status": state, "error": error,
    }  # fmt: skip
    begins = {"since_rid": done.rid, "read_rid": done.rid}
    if old is None:
        Subscription.objects.create(fhir_id=done.id, created_at=clock.now(), **begins, **values)
    else:
        if old.status == OFF and state != OFF:  # what happened while it was off is not told
            values |= begins
        if state == REQUESTED:
            values |= {
                "failures": 0,
                "failing_since": None,
                "not_before": None,
                "slow": False,
                "batch_until": None,
            }
        Subscription.objects.filter(pk=old.pk).update(match_not_before=None, **values)
    return _answer(asked, done)


def _as_write(asked: Request, resource: dict[str, Any], raw: bytes | None) -> Write:
    method = "create" if asked.method == "POST" else "update"
    header = asked.headers.get
    return Write(
        method, "Subscription", asked.id, resource, raw, if_match=header("If-Match"), if_none_match=header("If-None-Match"),
        trusted=True,
    )  # fmt: skip


def _state(wanted: Wanted, old: Subscription | None) -> str:
    """The state the server gives: a client asks (requested) or ends (off); active and error are the server's."""
    if wanted.status == OFF:
        return OFF
    if wanted.status == ERROR:
        if old is None or old.status != ERROR:
            raise criteria.wrong(
                "error 只能由服务器设置；请用 requested",
                "only the server sets error; ask with requested",
                "status",
            )
        return ERROR
    same = old is not None and all(getattr(old, name) == getattr(wanted, name) for name in _KEPT)
    if old is not None and wanted.status == ACTIVE and old.status == ACTIVE and same:
        return ACTIVE
    return REQUESTED


def _answer(asked: Request, done: Result) -> Response:
    headers = {"ETag": shape.etag(done.version), "Last-Modified": shape.http_date(done)}
    if asked.method != "DELETE":
        headers["Location"] = f"{asked.base}/Subscription/{done.id}/_history/{done.version}"
    minimal = "return=minimal" in asked.headers.get("Prefer", "").replace(" ", "").lower()
    return Response(done.status, done.body if done.body and not minimal else None, headers)


def _delete(scope: Scope, asked: Request) -> Response:
    """End a subscription for good; its events go with it."""
    client = _client(scope)
    assert asked.id is not None
    old = _mine(client, asked.id)
    with connection.cursor() as own:
        done = store.apply(
            rows.server_cursor(own), scope,
            [Write("delete", "Subscription", asked.id, if_match=asked.headers.get("If-Match"))],
        )[0]  # fmt: skip
    if old is not None:
        audit.write(scope, "delete", what=f"Subscription/{asked.id}")
        Subscription.objects.filter(pk=old.pk).update(status=OFF, version=done.version)
        SubscriptionEvent.objects.filter(subscription_id=old.pk, status="waiting").delete()
    return Response(204, None, {"ETag": shape.etag(done.version)} if done.version else {})


# --------------------------------------------------------------------------------------------------------------- operations


def status(scope: Scope, asked: Request) -> Response:
    """``$status``: of one subscription, or of all of the client's (``id``, ``status`` narrow)."""
    mine = _own(scope)
    if asked.id:
        mine = mine.filter(fhir_id=asked.id)
    else:
        ids = [str(v).removeprefix("Subscription/") for v in asked.arguments.get("id", [])]
        states = [str(v) for v in asked.arguments.get("status", [])]
        if ids:
            mine = mine.filter(fhir_id__in=[one for value in ids for one in value.split(",")])
        if states:
            mine = mine.filter(status__in=[one for value in states for one in value.split(",")])
    found = list(mine.order_by("pk")[:1000])
    if asked.id and not found:
        raise _absent(asked.id)
    entries = []
    for one in found:
        resource = content.status(one, "query-status")
        entries.append(
            {"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource, "search": {"mode": "match"}}
        )
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(found)}
    if entries:
        bundle["entry"] = entries
    return Response(200, bundle)


def _own(scope: Scope) -> Any:
    return Subscription.objects.filter(client_id=scope.client_id or 0)


def _number(asked: Request, name: str, otherwise: int) -> int:
    value = next(iter(asked.arguments.get(name, [])), None)
    if value is None or value == "":
        return otherwise
    if not str(value).isdigit() or len(str(value)) > 18:
        raise refuse(400, "value", f"{name} 应为事件号", f"{name} must be an event number", name)
    return int(str(value))


def events(scope: Scope, asked: Request) -> Response:
    """``$events``: what one was (or should have been) told, from a number to a number; at most 500 events in one answer."""
    one = _own(scope).filter(fhir_id=asked.id or "").first()
    if one is None:
        raise _absent(asked.id or "")
    since = _number(asked, "eventsSinceNumber", 0)
    until = _number(asked, "eventsUntilNumber", 2**62)
    wished = next(iter(asked.arguments.get("content", [])), None) or one.content
    if wished not in (EMPTY, ID_ONLY, FULL):
        raise refuse(400, "value", "content 应为 empty、id-only 或 full-resource",
                     "content must be empty, id-only or full-resource", "content")  # fmt: skip
    # never more than the subscription itself would send
    order = (EMPTY, ID_ONLY, FULL)
    wished = min(wished, one.content, key=order.index)
    kept = SubscriptionEvent.objects.filter(subscription=one, number__gte=since, number__lte=until).order_by(
        "number"
    )
    with connection.cursor() as own:
        cur = rows.server_cursor(own)
        told = [sending.tell(cur, scope, one, event) for event in kept[:MOST_EVENTS]]
        sending.note(cur, scope, one, told, wished)
    return Response(200, content.notification(one, "query-event", told, content=wished, errors=True).decode())


# --------------------------------------------------------------------------------------------------------------- capability


def _capability(statement: dict[str, Any]) -> None:
    for resource in statement["rest"][0]["resource"]:
        if resource["type"] == "Subscription":
            resource.setdefault("extension", []).extend(
                {"url": _TOPIC_EXTENSION, "valueCanonical": url} for url in sorted(topics.topics())
            )
            resource.setdefault("supportedProfile", []).append(f"{content.PROFILE}backport-subscription")
