"""FHIRPath Patch: a Parameters resource of ``operation`` parts (add, insert, delete, replace, move) applied to exact text.

Each operation's path names one place (``delete`` may find none).  Values keep the digits they were sent with.  A value may also be
given as parts, named by the elements of a backbone element.  Malformed operations: 400; what does not fit the resource: 422.
"""

from typing import Any

import msgspec

from lianxin.record.json_tree import Node
from lianxin.record.patch_json import MAX_STEPS, malformed, misfit
from lianxin.record.patch_path import Place, elements, find
from lianxin.record.problems import Problem, refuse

KINDS = ("add", "insert", "delete", "replace", "move")


def apply(root: Node, parameters: Node, limit: int) -> Node:
    """The patched tree; ``limit`` bounds its text in bytes."""
    operations = _operations(parameters)
    room = limit - len(root.text()) - len(parameters.text())
    if room < 0:
        raise refuse(413, "too-long", "打补丁后的资源过大", "the patched resource would be too large")
    for i, parts in operations:
        try:
            _run(root, parts)
        except Problem as problem:
            raise problem.at(f"Parameters.parameter[{i}]") from None
    return root


def _members(node: Node) -> dict[str, Node]:
    return node.members() if node.kind == "{" else {}


def _listed(node: Node | None) -> list[Node]:
    return node.elements() if node is not None and node.kind == "[" else []


def _string(node: Node | None) -> str:
    value = node.value() if node is not None and node.kind == '"' else ""
    return str(value)


def _operations(parameters: Node) -> list[tuple[int, dict[str, Node]]]:
    """(position, part name -> part) of every operation."""
    try:
        given = _listed(_members(parameters).get("parameter"))
        found = []
        for i, one in enumerate(given):
            members = _members(one)
            if _string(members.get("name")) != "operation":
                raise malformed("参数名应为 operation", "each parameter must be named operation").at(
                    f"Parameters.parameter[{i}]"
                )
            parts = {_string(_members(p).get("name")): p for p in _listed(members.get("part"))}
            found.append((i, parts))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(f"不是合法的 Parameters：{error}", f"not a valid Parameters: {error}") from None
    if not found:
        raise malformed("补丁没有操作", "the patch has no operation")
    if len(found) > MAX_STEPS:
        raise refuse(
            413, "too-costly", f"一个补丁最多 {MAX_STEPS} 步", f"a patch has at most {MAX_STEPS} operations"
        )
    return found


def _plain(parts: dict[str, Node], name: str) -> Any:
    """The primitive value of a part, None when it is not given."""
    if name not in parts:
        return None
    found = _valued(parts[name])
    return found[1].value() if found else None


def _valued(part: Node) -> tuple[str, Node] | None:
    """(type, value) of a part's ``value[x]``; the type starts as in JSON, with a capital."""
    for key, node in _members(part).items():
        if key.startswith("value") and len(key) > 5:
            return key[5:], node
    return None


def _text(parts: dict[str, Node], name: str) -> str:
    value = _plain(parts, name)
    if type(value) is not str or not value:
        raise malformed(f"缺少 {name}", f"the part {name} is missing")
    return value


def _number(parts: dict[str, Node], name: str) -> int:
    value = _plain(parts, name)
    if value is None or isinstance(value, bool | str) or value != int(value) or not 0 <= value < 1_000_000:
        raise malformed(f"{name} 应为非负整数", f"the part {name} must be a whole number, 0 or more")
    return int(value)


def _one(root: Node, path: str) -> Place:
    found = find(root, path)
    if len(found) != 1:
        raise misfit(
            f"路径 {path[:100]} 应恰好找到一个元素，实际 {len(found)} 个",
            f"the path {path[:100]} must find exactly one element, it finds {len(found)}",
        )
    return found[0]


def _run(root: Node, parts: dict[str, Node]) -> None:
    kind, path = _text(parts, "type"), _text(parts, "path")
    if kind not in KINDS:
        raise malformed(f"未知的操作 {kind[:30]}", f"unknown operation {kind[:30]}; use {', '.join(KINDS)}")
    if kind == "add":
        _add(_one(root, path), _text(parts, "name"), parts)
    elif kind == "delete":
        found = find(root, path)
        if len(found) > 1:
            raise misfit(
                f"路径 {path[:100]} 找到 {len(found)} 个元素，只能删除一个",
                f"the path {path[:100]} finds {len(found)} elements; only one can be deleted",
            )
        for place in found:
            _delete(place)
    elif kind == "replace":
        _replace(_one(root, path), parts)
    else:
        some, beside, holder, key, type_name = _list(root, path)
        if kind == "insert":
            at = _number(parts, "index")
            if at > len(some):
                raise misfit(f"列表只有 {len(some)} 项", f"the list has {len(some)} elements only")
            value = _value(parts, type_name)[1]
            some.insert(at, value)
            if beside is not None:
                beside.insert(at, Node(b"null"))
        else:
            source, target = _number(parts, "source"), _number(parts, "destination")
            if source >= len(some) or target >= len(some):
                raise misfit(f"列表只有 {len(some)} 项", f"the list has {len(some)} elements only")
            for one in (some, beside):
                if one is not None:
                    one.insert(target, one.pop(source))
        holder.members()[key] = Node.of(some)


def _list(root: Node, path: str) -> tuple[list[Node], list[Node] | None, Node, str, str]:
    """The list that a path names: its elements, those of its ``_name`` sibling, holder, key and element type."""
    found = find(root, path)
    holders = {(id(p.holder), p.key) for p in found}
    if found and len(holders) == 1 and found[0].index is not None and found[0].holder is not None:
        first = found[0]
        holder = first.holder
        assert holder is not None
        some = holder.members()[first.key].elements()
        if len(found) != len(some):
            raise misfit(f"路径 {path[:100]} 应指向整个列表", f"the path {path[:100]} must name a whole list")
        return some, _sidecar(holder, first.key, len(some)), holder, first.key, first.type
    parent, _, name = path.rpartition(".")
    if found or not parent:
        raise misfit(f"路径 {path[:100]} 不是列表", f"the path {path[:100]} is not a list")
    place = _one(root, parent)
    known = elements(_kind(place)).get(name)
    if known is None or not known[1] or place.node.kind != "{":
        raise misfit(f"路径 {path[:100]} 不是列表", f"the path {path[:100]} is not a list")
    return [], None, place.node, name, known[2]


def _sidecar(holder: Node, key: str, length: int) -> list[Node] | None:
    found = holder.members().get("_" + key)
    if found is None or found.kind != "[":
        return None
    some = found.elements()
    some += [Node(b"null") for _ in range(length - len(some))]
    return some


def _kind(place: Place) -> str:
    if place.type in ("", "Resource") and place.node.kind == "{":
        return _string(place.node.members().get("resourceType"))
    return place.type


def _key(type_name: str, name: str, given: str) -> tuple[str, bool, str]:
    """(JSON key, repeats, element type) of the element ``name``, for a value of type ``given`` ("" when built from parts)."""
    known = elements(type_name)
    if name in known:
        return name, known[name][1], known[name][2]
    choice = name.removesuffix("[x]") + given
    if choice in known and known[choice][0] == name.removesuffix("[x]"):
        return choice, known[choice][1], known[choice][2]
    raise misfit(
        f"{type_name} 没有元素 {name[:60]}（{given}）",
        f"{type_name} has no element {name[:60]} of type {given or 'this'}",
    )


def _value(parts: dict[str, Node], type_name: str) -> tuple[str, Node]:
    """(type, value) of the part ``value``; parts become an object of ``type_name``."""
    part = parts.get("value")
    if part is None:
        raise malformed("缺少 value", "the part value is missing")
    found = _valued(part)
    if found:
        return found
    members = _members(part)
    if "resource" in members:
        return "Resource", members["resource"]
    if "part" in members:
        return "", _built(members["part"], type_name)
    raise malformed("value 没有取值", "the part value has no value")


def _built(parts: Node, type_name: str) -> Node:
    """An object of ``type_name`` from parts named by its elements."""
    made: dict[str, Any] = {}
    for part in _listed(parts):
        name = _string(_members(part).get("name"))
        given = _valued(part)
        key, many, kind = _key(type_name, name, given[0] if given else "")
        node = given[1] if given else _value({"value": part}, kind)[1]
        if many:
            made.setdefault(key, []).append(node)
        elif key in made:
            raise malformed(f"{name} 只能出现一次", f"{name} may occur once only")
        else:
            made[key] = node
    return Node.of(made)


def _add(place: Place, name: str, parts: dict[str, Node]) -> None:
    if place.node.kind != "{":
        raise misfit("该路径不是对象", "the path does not name an object")
    type_name = _kind(place)
    part = parts.get("value")
    given = _valued(part)[0] if part is not None and _valued(part) else ""  # type: ignore[index]
    key, many, kind = _key(type_name, name, given)
    value = _value(parts, kind)[1]
    members = place.node.members()
    if many:
        some = _listed(members.get(key))
        some.append(value)
        members[key] = Node.of(some)
        return
    stem = elements(type_name)[key][0]
    if any(elements(type_name).get(k, ("",))[0] == stem for k in members):
        raise misfit(f"{name[:60]} 已有取值，请用 replace", f"{name[:60]} has a value already; use replace")
    members[key] = value


def _delete(place: Place) -> None:
    holder = place.holder
    if holder is None:
        raise misfit("不能删除整个资源", "the whole resource cannot be deleted")
    members = holder.members()
    if place.index is None:
        del members[place.key]
        members.pop("_" + place.key, None)
        return
    some = members[place.key].elements()
    beside = _sidecar(holder, place.key, len(some))
    del some[place.index]
    if beside is not None:
        del beside[place.index]
        if not any(one.kind == "{" for one in beside):
            del members["_" + place.key]
    if not some:
        del members[place.key]


def _replace(place: Place, parts: dict[str, Node]) -> None:
    holder = place.holder
    given, value = _value(parts, place.type)
    if holder is None:
        raise misfit("不能替换整个资源，请用 PUT", "the whole resource cannot be replaced; use PUT")
    members = holder.members()
    if place.index is not None:
        members[place.key].elements()[place.index] = value
        return
    if not given or place.stem + given == place.key or place.stem == place.key:
        members[place.key] = value
        return
    wanted = place.stem + given
    renamed = {(wanted if k == place.key else k): v for k, v in members.items()}
    renamed[wanted] = value
    renamed.pop("_" + place.key, None)
    members.clear()
    members.update(renamed)
