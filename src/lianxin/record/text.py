"""Exact JSON text: reading it strictly, and putting id and meta into it without touching the rest."""

import re
from typing import Any

import msgspec
import orjson

from lianxin.record.problems import Problem, refuse

STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.S)
MAX_DEPTH = 64
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def strict(raw: bytes) -> bytes:
    """Refuse (400) what may not even be parsed: not UTF-8, nested deeper than 64, or holding U+0000; returns the JSON's skeleton.

    The skeleton is the text without its strings: it is enough to count members and depth.
    """
    if not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise refuse(
                400,
                "structure",
                f"内容不是 UTF-8（第 {error.start} 字节），请改用 UTF-8",
                f"the body is not UTF-8 (byte {error.start}); send UTF-8",
            ) from None
    if b"\\u0000" in raw:
        raise refuse(
            400, "value", "字符串中不能有 U+0000，请删除", "strings must not contain U+0000; remove it"
        )
    skeleton = STRINGS.sub(b"", raw)
    if skeleton.count(b"{") + skeleton.count(b"[") > MAX_DEPTH and depth(skeleton) > MAX_DEPTH:
        raise refuse(
            400,
            "structure",
            f"嵌套超过 {MAX_DEPTH} 层，请简化",
            f"nested deeper than {MAX_DEPTH} levels; flatten it",
        )
    return skeleton


def depth(skeleton: bytes) -> int:
    """Greatest nesting of braces and brackets in a skeleton (stops counting above the limit)."""
    level = 0
    for char in re.findall(rb"[{}\[\]]", skeleton):
        if char in b"{[":
            level += 1
            if level > MAX_DEPTH:
                return level
        else:
            level -= 1
    return 0


def parse(raw: bytes) -> Any:
    """Parsed JSON (strict: no NaN, no lone surrogates); 400 with the place when it is not JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise refuse(
            400,
            "structure",
            f"不是合法 JSON（第 {error.lineno} 行第 {error.colno} 列），请更正",
            f"not valid JSON: {error}; correct it",
        ) from None
    except RecursionError:
        raise refuse(400, "structure", "嵌套过深", "nested too deeply") from None


def duplicate_check(skeleton: bytes, members: int) -> None:
    """Refuse duplicate member names: the text then has more members than the parsed tree."""
    if skeleton.count(b":") != members:
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


__all__ = ["Problem", "dumps", "duplicate_check", "members", "parse", "splice", "strict"]
