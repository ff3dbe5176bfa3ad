"""The difference of two versions as a FHIRPath Patch: applied to the old one it gives the new one.

``meta.versionId`` and ``meta.lastUpdated``, which every write sets, are left out; so are the ids and extensions of primitives
(``_name`` members), which FHIRPath Patch cannot name.
"""

from typing import Any

from lianxin.record.json_tree import Node
from lianxin.record.patch_path import elements

STAMPS = ("versionId", "lastUpdated")
Part = dict[str, Any]


def parameters(rtype: str, old: Node, new: Node) -> Node:
    """A Parameters resource with the operations, in the order they must be applied."""
    operations: list[Part] = []
    _object(rtype, rtype, old, new, operations)
    made: dict[str, Any] = {"resourceType": "Parameters"}
    if operations:
        made["parameter"] = operations
    return Node.of(made)


def _operation(kind: str, path: str, *more: Part) -> Part:
    parts = [{"name": "type", "valueCode": kind}, {"name": "path", "valueString": path}, *more]
    return {"name": "operation", "part": parts}


def _value(kind: str, node: Node) -> Part:
    """The part ``value`` for an element of type ``kind``; backbone elements become parts."""
    return {"name": "value", **_content(kind, node)}


def _content(kind: str, node: Node) -> Part:
    if kind in ("Resource", "") or (node.kind == "{" and "resourceType" in node.members()):
        return {"resource": node}
    name = "string" if kind == "xhtml" else kind
    key = f"value{name[0].upper()}{name[1:]}"
    if key not in elements("Parameters.parameter"):
        parts = []
        for member, one in node.members().items():
            if member.startswith("_"):
                continue
            stem, _, inner = elements(kind).get(member, (member, False, "string"))
            for value in one.elements() if one.kind == "[" else [one]:
                parts.append({"name": stem, **_content(inner, value)})
        return {"part": parts}
    return {key: node}


def _alike(one: Node, two: Node) -> bool:
    return (one.kind == "[") == (two.kind == "[")


def _object(kind: str, path: str, old: Node, new: Node, operations: list[Part]) -> None:
    keys = elements(kind)
    before, after = old.members(), new.members()
    skip = STAMPS if kind == "Meta" else ()
    for key, node in before.items():
        if key.startswith("_") or key in skip or (key in after and _alike(after[key], node)):
            continue
        stem = keys.get(key, (key, False, ""))[0]
        if node.kind == "[":
            size = len(node.elements())
            operations += [_operation("delete", f"{path}.{stem}[{i}]") for i in reversed(range(size))]
        else:
            operations.append(_operation("delete", f"{path}.{stem}"))
    for key, node in after.items():
        if key.startswith("_") or key in skip or key == "resourceType":
            continue
        stem, _, inner = keys.get(key, (key, False, "string"))
        there = before.get(key)
        if there is None or not _alike(there, node):
            name = {"name": "name", "valueString": stem}
            for one in node.elements() if node.kind == "[" else [node]:
                operations.append(_operation("add", path, name, _value(inner, one)))
        elif node.kind == "[":
            _list(inner, f"{path}.{stem}", there.elements(), node.elements(), operations)
        else:
            _single(inner, f"{path}.{stem}", there, node, operations)


def _single(kind: str, path: str, old: Node, new: Node, operations: list[Part]) -> None:
    if old.text() == new.text():
        return
    if old.kind == new.kind == "{" and "resourceType" not in new.members():
        _object(kind, path, old, new, operations)
    else:
        operations.append(_operation("replace", path, _value(kind, new)))


def _list(kind: str, path: str, old: list[Node], new: list[Node], operations: list[Part]) -> None:
    """Equal ends stay; the middle is changed place by place, then shortened from its end or lengthened."""
    start = 0
    while start < min(len(old), len(new)) and old[start].text() == new[start].text():
        start += 1
    tail = 0
    while tail < min(len(old), len(new)) - start and old[-1 - tail].text() == new[-1 - tail].text():
        tail += 1
    middle_old, middle_new = old[start : len(old) - tail], new[start : len(new) - tail]
    for i, (one, two) in enumerate(zip(middle_old, middle_new, strict=False)):
        _single(kind, f"{path}[{start + i}]", one, two, operations)
    for i in reversed(range(len(middle_new), len(middle_old))):
        operations.append(_operation("delete", f"{path}[{start + i}]"))
    for i in range(len(middle_old), len(middle_new)):
        index = {"name": "index", "valueInteger": start + i}
        operations.append(_operation("insert", path, index, _value(kind, middle_new[i])))
