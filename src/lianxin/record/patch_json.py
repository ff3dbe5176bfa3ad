"""JSON Patch (RFC 6902) on exact text: add, remove, replace, move, copy, test.

A patch that is not well formed is refused with 400; one that does not fit the resource (no such place, a failing test) with 422.
"""

import re

import msgspec

from lianxin.record.json_tree import Node
from lianxin.record.problems import Problem, refuse

INDEX = re.compile(r"0|[1-9]\d{0,8}")
MAX_STEPS = 1000


class Step(msgspec.Struct):
    """One operation of a patch; ``value`` is exact text."""

    op: str
    path: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    origin: str | msgspec.UnsetType = msgspec.field(name="from", default=msgspec.UNSET)


_decoder = msgspec.json.Decoder(list[Step])


def misfit(zh: str, en: str) -> Problem:
    """422: the patch is sound, but not for this resource."""
    return refuse(422, "processing", zh, en)


def malformed(zh: str, en: str) -> Problem:
    """400: this is no patch."""
    return refuse(400, "invalid", zh, en)


def decode(raw: bytes) -> list[Step]:
    """The steps of a patch document."""
    try:
        steps = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(
            400, "structure", f"不是合法的 JSON Patch：{error}", f"not a valid JSON Patch: {error}"
        ) from None
    if len(steps) > MAX_STEPS:
        raise refuse(
            413, "too-costly", f"一个补丁最多 {MAX_STEPS} 步", f"a patch has at most {MAX_STEPS} operations"
        )
    return steps


def apply(root: Node, steps: list[Step], limit: int) -> Node:
    """The patched tree; ``limit`` bounds its text in bytes (``copy`` could double it with every step)."""
    room = limit - len(root.text())
    for i, step in enumerate(steps):
        try:
            if step.op == "copy" or (step.op in ("add", "replace") and isinstance(step.value, msgspec.Raw)):
                room -= _weight(root, step)
                if room < 0:
                    raise refuse(
                        413,
                        "too-long",
                        "打补丁后的资源过大",
                        "the patched resource would be too large",
                    )
            root = _step(root, step)
        except Problem as problem:
            raise problem.at(f"patch[{i}]") from None
    return root


def _weight(root: Node, step: Step) -> int:
    if step.op == "copy":
        return len(_get(root, _pointer(_origin(step))).text())
    assert isinstance(step.value, msgspec.Raw)
    return len(bytes(step.value))


def _step(root: Node, step: Step) -> Node:
    path = _pointer(step.path)
    match step.op:
        case "add":
            return _add(root, path, _value(step))
        case "remove":
            _remove(root, path)
        case "replace":
            value = _value(step)
            _get(root, path)
            if not path:
                return value
            holder = _get(root, path[:-1])
            if holder.kind == "{":
                holder.members()[path[-1]] = value
            else:
                holder.elements()[_index(holder, path[-1])] = value
        case "move":
            origin = _pointer(_origin(step))
            if origin == path:
                _get(root, path)
                return root
            if path[: len(origin)] == origin:
                raise misfit("不能移到自身内部", "a value cannot be moved into itself")
            return _add(root, path, _remove(root, origin))
        case "copy":
            return _add(root, path, _get(root, _pointer(_origin(step))).copy())
        case "test":
            if not _get(root, path).same(_value(step)):
                raise misfit(
                    f"test 不成立：{step.path[:200]}",
                    f"the test does not hold at {step.path[:200] or 'the root'}",
                )
        case _:
            raise malformed(
                f"未知的操作 {step.op[:30]}", f"unknown operation {step.op[:30]}; use add, remove, replace, move, copy, test"
            )  # fmt: skip
    return root


def _pointer(text: str) -> list[str]:
    """The steps of a JSON pointer."""
    if not text:
        return []
    if text[0] != "/" or re.search(r"~(?![01])", text):
        raise malformed(f"不是合法的 JSON 指针：{text[:100]}", f"not a JSON pointer: {text[:100]}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/")]


def _origin(step: Step) -> str:
    if not isinstance(step.origin, str):
        raise malformed(f"{step.op} 缺少 from", f"{step.op} needs from")
    return step.origin


def _value(step: Step) -> Node:
    if not isinstance(step.value, msgspec.Raw):
        raise malformed(f"{step.op} 缺少 value", f"{step.op} needs a value")
    return Node(bytes(step.value))


def _nowhere(path: list[str]) -> Problem:
    text = "/" + "/".join(path)
    return misfit(f"资源中没有 {text[:200]}", f"the resource has no {text[:200]}")


def _index(holder: Node, part: str, extra: int = 0) -> int:
    """An array index; ``extra`` 1 allows the place behind the end."""
    if not INDEX.fullmatch(part) or int(part) >= len(holder.elements()) + extra:
        raise misfit(f"数组没有第 {part[:20]} 项", f"the array has no place {part[:20]}")
    return int(part)


def _get(root: Node, path: list[str]) -> Node:
    node = root
    for part in path:
        if node.kind == "{":
            found = node.members().get(part)
            if found is None:
                raise _nowhere(path)
            node = found
        elif node.kind == "[":
            node = node.elements()[_index(node, part)]
        else:
            raise _nowhere(path)
    return node


def _add(root: Node, path: list[str], value: Node) -> Node:
    if not path:
        return value
    holder = _get(root, path[:-1])
    if holder.kind == "{":
        holder.members()[path[-1]] = value
    elif holder.kind == "[":
        at = len(holder.elements()) if path[-1] == "-" else _index(holder, path[-1], 1)
        holder.elements().insert(at, value)
    else:
        raise _nowhere(path)
    return root


def _remove(root: Node, path: list[str]) -> Node:
    if not path:
        raise misfit("不能移除整个资源", "the whole resource cannot be removed")
    holder = _get(root, path[:-1])
    gone = _get(root, path)
    if holder.kind == "{":
        del holder.members()[path[-1]]
    else:
        del holder.elements()[_index(holder, path[-1])]
    return gone
