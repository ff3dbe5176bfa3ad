"""Exact JSON text: reading it strictly, and putting id and meta into it without touching the rest."""

import re
from typing import Any

import msgspec
import orjson

from lianxin.record.problems import Problem, refuse

STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.S)
BLANKS = (b'" ', b'"\t', b'"\n', b'"\r')
MAX_LEVELS = 254
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse(raw: bytes) -> Any:
    """Parsed JSON (strict: UTF-8, no NaN, no lone surrogates, no U+0000); 400 with the place when it is not JSON."""
    if b"\\u0000" in raw:
        raise refuse(
            400, "value", "字符串中不能有 U+0000，请删除", "strings must not contain U+0000; remove it"
        )
    try:
        value = orjson.loads(raw)
        if raw.count(b"{") + raw.count(b"[") > MAX_LEVELS:
            # Writes 254 levels and no more: what is deeper would exhaust the stack of those who walk it.
            orjson.dumps(value)
        return value
    except orjson.JSONDecodeError as error:
        raise refuse(
            400,
            "structure",
            f"不是合法 JSON（第 {error.lineno} 行第 {error.colno} 列），请更正",
            f"not valid JSON: {error}; correct it",
        ) from None
    except (RecursionError, orjson.JSONEncodeError):
        raise refuse(400, "structure", "嵌套过深，请简化", "nested too deeply; flatten it") from None


def duplicate_check(raw: bytes, members: int) -> None:
    """Refuse duplicate member names: the text then has more members than the parsed tree.

    In text without blanks after quotes, every member is a quote and a colon, so that an equal count proves it; otherwise strings
    are cut out first, which costs ten times as much.
    """
    if (
        not any(blank in raw for blank in BLANKS)
        and b"\\\\" not in raw
        and raw.count(b'":') - raw.count(b'\\":') == members
    ):
        return
    count = STRINGS.sub(b"", raw).count(b":")
    if count != members:
        raise refuse(
            400,
            "structure",
            "JSON 对象中有重复的成员名，请保留一个",
            "a JSON object has duplicate member names; keep one",
        )


def members(raw: bytes) -> dict[str, Any]:
    """Top-level members of an object as exact text."""
    try:
        return _members.decode(raw)
    except msgspec.DecodeError as error:
        raise refuse(400, "structure", "不是合法的 JSON 对象", f"not a JSON object: {error}") from None


def splice(raw: bytes, rid: str, version: int, updated: str) -> str:
    """The resource's text with ``id``, ``meta.versionId`` and ``meta.lastUpdated`` put in.

    Every other member keeps its place and its exact text; only blanks between top-level members go.
    """
    top = members(raw)
    own = f'"versionId":"{version}","lastUpdated":"{updated}"'
    meta = own
    if "meta" in top:
        rest = [
            f'"{key}":{bytes(value).decode()}'
            for key, value in members(bytes(top["meta"])).items()
            if key not in ("versionId", "lastUpdated")
        ]
        meta = ",".join([own, *rest])
    parts = []
    if "resourceType" in top:
        parts.append(f'"resourceType":{bytes(top.pop("resourceType")).decode()}')
    if "id" not in top:
        parts.append(f'"id":"{rid}"')
    if "meta" not in top and "id" not in top:
        parts.append('"meta":{' + meta + "}")
    for key, value in top.items():
        if key == "id":
            parts.append(f'"id":"{rid}"')
            if "meta" not in top:
                parts.append('"meta":{' + meta + "}")
        elif key == "meta":
            parts.append('"meta":{' + meta + "}")
        else:
            parts.append(f'"{key}":{bytes(value).decode()}')
    return "{" + ",".join(parts) + "}"


def dumps(resource: dict[str, Any]) -> bytes:
    """Compact JSON of a resource the platform made itself."""
    return orjson.dumps(resource)


__all__ = ["Problem", "dumps", "duplicate_check", "members", "parse", "splice"]
