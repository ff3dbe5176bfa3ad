"""What a Subscription resource asks for: R4 criteria (rest-hook), or a topic in the form of the R5 backport (STU 1.1, for R4)."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from lianxin.exchange.subscriptions import topics, wire
from lianxin.exchange.subscriptions.models import EMPTY, FULL, ID_ONLY, OFF, PLAIN, STATUSES, TOPIC
from lianxin.record import definitions, search, values
from lianxin.record.problems import Issue, Problem, refuse
from lianxin.standards import clock
from lianxin.standards.text import T, Text

EXTENSION = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-"
JSON_PAYLOADS = frozenset({"application/fhir+json", "application/json"})
NEVER = frozenset(
    {"Subscription"}
)  # nobody is told of other people's subscriptions, nor of the server's own doings
MOST_FILTERS, MOST_HEADERS, MOST_HEADER = 20, 20, 4000
TIMEOUT, LONGEST_TIMEOUT = 15, 60  # seconds for one request
BATCH, LARGEST_BATCH = 20, 200  # events in one notification
SHORTEST_HEARTBEAT = 10  # seconds
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x20-\x7e\t]*)")
_OURS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade",
                   "expect", "keep-alive", "proxy-authorization", "proxy-connection"})  # fmt: skip


@dataclass
class Wanted:
    """A Subscription understood: what to match, and where and how to send it."""

    form: str
    criteria: str
    rtypes: list[str]
    filters: list[tuple[str, list[tuple[str, str]]]]  # (type, search parameters), all must hold for the type
    endpoint: str
    headers: list[tuple[str, str]]
    payload: str
    content: str
    heartbeat: int | None = None
    timeout: int = TIMEOUT
    max_count: int = BATCH
    ends_at: dt.datetime | None = None
    status: str = "requested"
    letters: str = field(default="s")

    def filter_of(self, rtype: str) -> list[tuple[str, str]]:
        """Every search parameter that narrows a type."""
        return [pair for kind, pairs in self.filters if kind == rtype for pair in pairs]


def wrong(zh: str, en: str, place: str, code: str = "value") -> Problem:
    """A Subscription that cannot be taken (422)."""
    return refuse(422, code, zh, en, f"Subscription.{place}")


def extension(element: Any, name: str) -> list[Any]:
    """Values of a backport extension of an element (a dict, or None)."""
    found = []
    for one in (element or {}).get("extension", []) if isinstance(element, dict) else []:
        if isinstance(one, dict) and one.get("url") == EXTENSION + name:
            found.append(next((v for k, v in one.items() if k.startswith("value")), None))
    return found


def understand(resource: dict[str, Any]) -> Wanted:
    """Read a Subscription; ``Problem`` 422 with the place of whatever cannot be taken."""
    channel = resource.get("channel") or {}
    text = resource.get("criteria") or ""
    status = resource.get("status")
    if status not in STATUSES:
        raise wrong(
            "status 应为 requested、active、error 或 off",
            "status must be requested, active, error or off",
            "status",
        )
    if channel.get("type") != "rest-hook" or extension(channel.get("_type"), "channel-type"):
        raise wrong(
            "只支持 rest-hook 通道",
            "only the channel rest-hook is supported",
            "channel.type",
            "not-supported",
        )
    is_topic = (
        "://" in text.partition("?")[0]
        or text.startswith("urn:")
        or bool(extension(resource.get("_criteria"), "filter-criteria"))
    )
    endpoint = channel.get("endpoint") or ""
    try:
        wire.endpoint(endpoint)
    except wire.NotAllowed as refused:
        raise Problem(422, Issue("value", refused.text, "Subscription.channel.endpoint")) from None
    payload = channel.get("payload") or ""
    if payload and payload.partition(";")[0].strip() not in JSON_PAYLOADS:
        raise wrong("payload 只支持 application/fhir+json", "the only payload is application/fhir+json", "channel.payload",
                    "not-supported")  # fmt: skip
    wanted = Wanted(
        TOPIC if is_topic else PLAIN, text, [], [], endpoint, _headers(channel.get("header") or []), payload,
        _content(channel, payload, is_topic), ends_at=_end(resource.get("end")), status=status,
    )  # fmt: skip
    if is_topic:
        _topic(wanted, resource, channel)
    else:
        rtype, pairs = search_string(text, "criteria")
        wanted.rtypes, wanted.filters = [rtype], [(rtype, pairs)]
    if wanted.content != EMPTY:
        wanted.letters = "rs"
    if wanted.ends_at and wanted.ends_at <= clock.now() and status != OFF:
        raise wrong("end 已过，请给出将来的时间", "end is past; give a time to come", "end")
    return wanted


def _content(channel: dict[str, Any], payload: str, is_topic: bool) -> str:
    given = extension(channel.get("_payload"), "payload-content")
    if not is_topic:
        return FULL if payload else EMPTY
    content = given[0] if given else EMPTY
    if content not in (EMPTY, ID_ONLY, FULL):
        raise wrong("payload-content 应为 empty、id-only 或 full-resource", "payload-content must be empty, id-only or full-resource",
                    "channel.payload.extension")  # fmt: skip
    return content


def _end(text: str | None) -> dt.datetime | None:
    if not text:
        return None
    try:
        return values.date_range(text)[0]
    except ValueError:
        raise wrong("end 不是合法的时间", "end is not a valid instant", "end") from None


def _headers(given: list[Any]) -> list[tuple[str, str]]:
    """``Name: value`` lines; those of HTTP itself are ours."""
    if len(given) > MOST_HEADERS:
        raise wrong(f"header 最多 {MOST_HEADERS} 个", f"at most {MOST_HEADERS} headers", "channel.header")
    found = []
    for i, line in enumerate(given):
        match = _HEADER.fullmatch(line) if isinstance(line, str) and len(line) <= MOST_HEADER else None
        if match is None or match[1].lower() in _OURS:
            raise wrong(
                "header 应写成“名称: 值”，不能是 HTTP 自身的报头",
                "write a header as “Name: value”; it must not be one of HTTP's own",
                f"channel.header[{i}]",
            )
        found.append((match[1], match[2].strip()))
    return found


def search_string(text: str, place: str) -> tuple[str, list[tuple[str, str]]]:
    """``Type?name=value&…`` as type and parameters; 422 unless it is one of this server and asks only what a resource can answer."""
    rtype, _mark, query = text.partition("?")
    if rtype not in definitions.types():
        raise wrong(
            "criteria 应为“资源类型?查询参数”，如 Observation?code=…",
            "criteria must be “Type?parameters”, such as Observation?code=…", place,
        )  # fmt: skip
    if rtype in NEVER:
        raise wrong(f"不能订阅 {rtype}", f"{rtype} cannot be subscribed to", place, "not-supported")
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict", max_num_fields=50
        )
    except ValueError:
        raise wrong("criteria 的查询串无效", "the search string is not valid", place) from None
    for name, _ in pairs:
        if name in search.CONTROL or "\x00" in name:
            raise wrong(
                f"criteria 中不能用 {name[:40]}",
                f"{name[:40]} has no place in criteria",
                place,
                "not-supported",
            )
    return rtype, pairs


def _whole(channel: dict[str, Any], name: str, least: int, most: int, otherwise: int | None) -> int | None:
    given = extension(channel, name)
    if not given:
        return otherwise
    if type(given[0]) is not int or given[0] < least:
        raise wrong(
            f"{name} 应为不小于 {least} 的整数",
            f"{name} must be a whole number, {least} or more",
            "channel.extension",
        )
    return min(given[0], most)


def _topic(wanted: Wanted, resource: dict[str, Any], channel: dict[str, Any]) -> None:
    topic = topics.find(wanted.criteria)
    if topic is None:
        offered = " ".join(sorted(topics.topics()))
        raise wrong(f"没有这个主题；可订阅的主题：{offered}", f"there is no such topic; topics: {offered}", "criteria",
                    "not-found")  # fmt: skip
    wanted.rtypes = topic.rtypes
    given = extension(resource.get("_criteria"), "filter-criteria")
    if len(given) > MOST_FILTERS:
        raise wrong(
            f"过滤条件最多 {MOST_FILTERS} 个", f"at most {MOST_FILTERS} filters", "criteria.extension"
        )
    for i, text in enumerate(given):
        place = f"criteria.extension[{i}]"
        rtype, pairs = search_string(text if isinstance(text, str) else "", place)
        allowed = topic.filters.get(rtype)
        if allowed is None:
            raise wrong(f"该主题与 {rtype} 无关", f"this topic is not about {rtype}", place)
        for name, _ in pairs:
            if name.partition(":")[0] not in allowed:
                raise wrong(
                    f"该主题不能按 {name[:40]} 过滤；可用：{'、'.join(allowed)}",
                    f"this topic cannot be filtered by {name[:40]}; one can use: {', '.join(allowed)}", place,
                )  # fmt: skip
        wanted.filters.append((rtype, pairs))
    if not wanted.payload:
        wanted.payload = "application/fhir+json"
    wanted.heartbeat = _whole(channel, "heartbeat-period", 1, 86_400 * 30, None)
    if wanted.heartbeat is not None:
        wanted.heartbeat = max(wanted.heartbeat, SHORTEST_HEARTBEAT)
    wanted.timeout = _whole(channel, "timeout", 1, LONGEST_TIMEOUT, TIMEOUT) or TIMEOUT
    wanted.max_count = _whole(channel, "max-count", 1, LARGEST_BATCH, BATCH) or BATCH


def headline(subscription: Any) -> Text:
    """What a stored subscription listens to, in words for people."""
    topic = topics.find(subscription.criteria) if subscription.form == TOPIC else None
    return topic.title if topic else T(subscription.criteria, subscription.criteria)
