"""What is sent: the resource as R4 rest-hook wants it, or the notification Bundle of the R5 backport (STU 1.1, R4 form).

R4 (4.0.1, 2.46): without a payload an empty POST to the endpoint; with one, the resource by PUT to ``endpoint/Type/id``.
Backport: a Bundle of type history whose first entry is a Parameters resource with the status.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lianxin.exchange.fhir import shape
from lianxin.exchange.subscriptions.models import EMPTY, FULL, PLAIN, Subscription, SubscriptionEvent
from lianxin.record import text
from lianxin.record.store import Result, moment, stamp

PROFILE = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
NUMBER_HEADER = "X-Subscription-Event"
KEY_HEADER = "Idempotency-Key"


@dataclass(frozen=True)
class Told:
    """An event with the version its client may see now (None: none, or a deletion)."""

    event: SubscriptionEvent
    result: Result | None
    visible: bool


@dataclass(frozen=True)
class Message:
    """One HTTP request to a receiver."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def message(one: Subscription, headers: Sequence[tuple[str, str]], told: Sequence[Told]) -> Message:
    """The request that tells these events (R4: exactly one)."""
    first, last = told[0].event.number, told[-1].event.number
    span = str(first) if first == last else f"{first}-{last}"
    sent = {**dict(headers), NUMBER_HEADER: span, KEY_HEADER: f"{one.fhir_id}:{span}"}
    if one.form != PLAIN:
        body = notification(one, "event-notification", told)
        return Message("POST", one.endpoint, {**sent, "Content-Type": one.payload}, body)
    if not one.payload:
        return Message("POST", one.endpoint, sent, b"")
    result = told[0].result
    assert result is not None
    base, mark, query = one.endpoint.partition("?")
    url = f"{base.rstrip('/')}/{result.rtype}/{result.id}{mark}{query}"
    return Message("PUT", url, {**sent, "Content-Type": one.payload}, result.body.encode())


def signal(one: Subscription, headers: Sequence[tuple[str, str]], kind: str) -> Message:
    """A handshake or heartbeat."""
    sent = {**dict(headers), "Content-Type": one.payload, KEY_HEADER: f"{one.fhir_id}:{kind}:{uuid.uuid4()}"}
    return Message("POST", one.endpoint, sent, notification(one, kind, ()))


def notification(
    one: Subscription, kind: str, told: Sequence[Told], *, content: str | None = None, errors: bool = False
) -> bytes:
    """A notification Bundle: ``kind`` is handshake, heartbeat, event-notification or query-event."""
    content = content or one.content
    entries = [_status_entry(one, kind, told, content, errors)]
    if content != EMPTY:
        entries += [
            entry for one_told in told if one_told.visible and (entry := _entry(one, one_told, content))
        ]
    return (
        f'{{"resourceType":"Bundle","id":"{uuid.uuid4()}","meta":{{"profile":["{PROFILE}backport-subscription-notification-r4"]}},'
        f'"type":"history","timestamp":"{stamp(moment())}","entry":[{",".join(entries)}]}}'
    ).encode()


def status(
    one: Subscription, kind: str, told: Sequence[Told] = (), content: str = EMPTY, errors: bool = True
) -> dict[str, Any]:
    """The Parameters resource that stands for R5 SubscriptionStatus."""
    parts: list[dict[str, Any]] = [
        {"name": "subscription", "valueReference": {"reference": f"{one.base}/Subscription/{one.fhir_id}"}}
    ]
    if one.form != PLAIN:
        parts.append({"name": "topic", "valueCanonical": one.criteria})
    parts += [
        {"name": "status", "valueCode": one.status},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(one.events)},
    ]
    parts += [_event(one, each, content) for each in told]
    if errors:
        words = one.error if one.status == "error" else one.last_error if one.failures else ""
        if words:
            code = "no-response" if one.failures else "processing"
            system = "http://terminology.hl7.org/CodeSystem/subscription-error"
            concept: dict[str, Any] = {"text": words.replace("\n", " ")}
            if one.failures:
                concept["coding"] = [{"system": system, "code": code}]
            parts.append({"name": "error", "valueCodeableConcept": concept})
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [f"{PROFILE}backport-subscription-status-r4"]},
        "parameter": parts,
    }


def _event(one: Subscription, told: Told, content: str) -> dict[str, Any]:
    event = told.event
    parts: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": stamp(event.happened_at)},
    ]
    if content != EMPTY and told.visible:
        reference = f"{one.base}/{event.rtype}/{event.resource_id}"
        parts.append({"name": "focus", "valueReference": {"reference": reference}})
    return {"name": "notification-event", "part": parts}


def _status_entry(one: Subscription, kind: str, told: Sequence[Told], content: str, errors: bool) -> str:
    resource = status(one, kind, told, content, errors)
    made = {
        "fullUrl": f"urn:uuid:{resource['id']}",
        "resource": resource,
        "request": {"method": "GET", "url": f"{one.base}/Subscription/{one.fhir_id}/$status"},
        "response": {"status": "200"},
    }
    return text.dumps(made).decode()


def _entry(one: Subscription, told: Told, content: str) -> str:
    """The focus of an event: with the exact text of the resource, or only where it is."""
    event = told.event
    where = f"{event.rtype}/{event.resource_id}"
    method, code = {"create": ("POST", "201"), "update": ("PUT", "200"), "delete": ("DELETE", "204")}[
        event.interaction
    ]
    request = {"method": method, "url": event.rtype if method == "POST" else where}
    response = {
        "status": code,
        "etag": shape.etag(event.version),
        "lastModified": stamp(event.happened_at),
    }
    body = (
        told.result.body
        if told.result is not None and content == FULL and event.interaction != "delete"
        else ""
    )
    resource = f'"resource":{body},' if body else ""
    return (
        f'{{"fullUrl":{json.dumps(f"{one.base}/{where}")},{resource}"request":{json.dumps(request)},'
        f'"response":{json.dumps(response)}}}'
    )
