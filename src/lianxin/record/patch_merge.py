"""JSON Merge Patch (RFC 7396) on exact text: members given are put, members given as null go, objects are merged."""

from lianxin.record.json_tree import Node
from lianxin.record.problems import refuse

MAX_DEPTH = 64  # deeper than any resource that is taken; every level is read anew


def apply(root: Node, change: Node, limit: int) -> Node:
    """The merged tree; 400 when the patch is no object, 413 when the result would exceed ``limit`` bytes."""
    if change.kind != "{":
        raise refuse(400, "structure", "合并补丁应为 JSON 对象", "a merge patch is a JSON object")
    if len(root.text()) + len(change.text()) > limit:
        raise refuse(413, "too-long", "打补丁后的资源过大", "the patched resource would be too large")
    return _merged(root, change, 0)


def _merged(target: Node, change: Node, depth: int) -> Node:
    if change.kind != "{":
        return change
    if depth > MAX_DEPTH:
        raise refuse(400, "structure", "补丁嵌套过深", "the patch is nested too deeply")
    if target.kind != "{":
        target = Node(b"{}")
    own = target.members()
    for name, value in change.members().items():
        if value.kind == "n":
            own.pop(name, None)
        else:
            own[name] = _merged(own.get(name, Node(b"{}")), value, depth + 1)
    return target
