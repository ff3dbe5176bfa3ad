"""YAML of mappings: read without tricks (no anchors, no tags, no doubles), every key remembered with its line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from lianxin.standards.text import T, Text

LONGEST = 256 * 1024
DEEPEST = 12
Key = tuple[str, ...]


@dataclass(frozen=True)
class Fault:
    """What is wrong with a mapping, and where: ``line`` counts from 1 (0: nowhere in particular), ``key`` as ``a › b``."""

    line: int
    key: str
    text: Text


class Faulty(ValueError):
    """A mapping that cannot be used; ``faults`` says everything that is wrong."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("; ".join(f"{f.line} {f.key}: {f.text.en}" for f in faults[:5]))
        self.faults = faults


@dataclass(frozen=True)
class Sheet:
    """A text that was read: its values and the line of every key."""

    data: dict[str, Any]
    lines: dict[Key, int]

    def fault(self, key: Key, text: Text) -> Fault:
        """A fault at a key (or at the nearest key above it that stands in the text)."""
        key = tuple(part.rstrip("!") for part in key)
        for n in range(len(key), 0, -1):
            for near in (key[:n], (*key[: n - 1], f"{key[n - 1]}!")):
                if near in self.lines:
                    return Fault(self.lines[near], " › ".join(key), text)
        return Fault(0, " › ".join(key), text)


def read(text: str) -> Sheet:
    """Read a text; :class:`Faulty` when it is no usable YAML. Scalars are strings, booleans or None; an empty text is {}."""
    if len(text) > LONGEST:
        raise Faulty([Fault(0, "", T("映射过长。", "The mapping is too long."))])
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        why = str(error.problem or "")[:120]
        said = T("YAML 格式有误：{w}", "Not valid YAML: {w}").format(w=why)
        raise Faulty([Fault(line, "", said)]) from None
    except yaml.YAMLError as error:
        raise Faulty(
            [Fault(0, "", T("YAML 格式有误：{w}", "Not valid YAML: {w}").format(w=str(error)[:120]))]
        ) from None
    if node is None:
        return Sheet({}, {})
    lines: dict[Key, int] = {}
    data = _value(node, (), lines, set())
    if not isinstance(data, dict):
        raise Faulty([Fault(1, "", T("最外层应为“键: 值”。", "The outermost level is “key: value”."))])
    return Sheet(data, lines)


def _value(node: yaml.Node, key: Key, lines: dict[Key, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1

    def bad(text: Text) -> Faulty:
        return Faulty([Fault(line, " › ".join(key), text)])

    if id(node) in seen or len(key) > DEEPEST:
        raise bad(T("不支持锚点与过深的嵌套。", "Anchors and very deep nesting are not supported."))
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        made: dict[str, Any] = {}
        for name, inner in node.value:
            if not isinstance(name, yaml.ScalarNode):
                raise bad(T("键应为文字。", "A key is a text."))
            label = name.value
            lines[(*key, label)] = name.start_mark.line + 1
            if label in made:
                line = name.start_mark.line + 1
                raise bad(T("键“{k}”重复。", "The key “{k}” stands twice.").format(k=label[:40]))
            made[label] = _value(inner, (*key, label), lines, seen)
        return made
    if isinstance(node, yaml.SequenceNode):
        for n, inner in enumerate(node.value):
            lines[(*key, str(n))] = inner.start_mark.line + 1
        return [_value(inner, (*key, str(n)), lines, seen) for n, inner in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode)
    if node.tag == "tag:yaml.org,2002:null":
        return None
    if node.tag == "tag:yaml.org,2002:bool" and node.value.lower() in ("true", "false"):
        return node.value.lower() == "true"
    return node.value
