"""Places in a resource by FHIRPath, for FHIRPath Patch: ``Patient.name.where(use = 'official').given[0]``.

The part of FHIRPath that names places: members, choice elements, ``[n]``, ``where first last tail skip take single ofType as
extension`` with criteria of comparisons, ``and or xor``, ``exists empty not count hasValue startsWith endsWith contains`` and
literals.  Everything else is refused.  Work is bounded: each step looks at each place once.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from lianxin.record import definitions
from lianxin.record.json_tree import Node
from lianxin.record.problems import refuse

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<date>@[0-9T:.+Z\-]+)|(?P<number>\d+(?:\.\d+)?)|(?P<name>[A-Za-z_]\w*|`[^`]+`|\$this)"
    r"|(?P<mark><=|>=|!=|!~|[=~<>().,\[\]{}]))"
)
MAX_PATH = 1000
MAX_DEPTH = 20
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "f": "\f"}


@dataclass(frozen=True)
class Place:
    """A value in the tree: its node, its type, and where it hangs (``holder[key]``, the member of the element ``stem``)."""

    node: Node
    type: str
    holder: Node | None = None
    key: str = ""
    stem: str = ""
    index: int | None = None


Items = list[Any]  # places and plain values
Step = Callable[[Items, Any], Items]


def wrong(zh: str, en: str) -> Exception:
    """400: the path cannot be used."""
    return refuse(400, "invalid", zh, en)


@cache
def elements(type_name: str) -> dict[str, tuple[str, bool, str]]:
    """JSON key -> (element, repeats, type) of a type or backbone element."""
    found = {}
    for name, row in definitions.elements(type_name).items():
        for option in row[2].split("|"):
            base = option.partition("(")[0]
            if not base:
                continue
            stem = name.removesuffix("[x]")
            key = stem + base[0].upper() + base[1:] if name.endswith("[x]") else stem
            found[key] = (stem, row[1] != 1, base.lstrip("@"))
    return found


def below(place: Place, name: str) -> Iterator[Place]:
    """The places of the member ``name`` (a choice element under its stem); of a primitive, its id and extensions."""
    primitive = place.node.kind != "{"
    node = _beside(place) if primitive else place.node
    kind_of = "Element" if primitive else _type(place)
    if node is None:
        return
    keys = elements(kind_of)
    for key, found in node.members().items():
        stem, _, kind = keys.get(key, (key, False, ""))
        if name not in (key, stem):
            continue
        if found.kind == "[":
            for i, one in enumerate(found.elements()):
                yield Place(one, kind, node, key, stem, i)
        else:
            yield Place(found, kind, node, key, stem)


def _beside(place: Place) -> Node | None:
    """What holds the id and extensions of a primitive: its ``_name`` sibling."""
    found = place.holder.members().get("_" + place.key) if place.holder is not None else None
    if found is not None and place.index is not None and found.kind == "[":
        some = found.elements()
        found = some[place.index] if place.index < len(some) else None
    return found if found is not None and found.kind == "{" else None


def _type(place: Place) -> str:
    if place.type in ("Resource", "") and place.node.kind == "{":
        told = place.node.members().get("resourceType")
        return str(told.value()) if told is not None else place.type
    return place.type


def find(root: Node, path: str) -> list[Place]:
    """Every place that ``path`` names."""
    if len(path) > MAX_PATH:
        raise wrong("FHIRPath 过长", "the FHIRPath is too long")
    parser = _Parser(path)
    step = parser.expression()
    parser.end()
    top = Place(root, str(root.members()["resourceType"].value()))
    return [item for item in step([top], top) if isinstance(item, Place)]


def plain(item: Any) -> Any:
    """The value of a place."""
    return item.node.value() if isinstance(item, Place) else item


def truth(items: Items) -> bool:
    """Whether a criterion holds: true, or one thing that is there."""
    return bool(items) and plain(items[0]) is not False


class _Parser:
    """Recursive descent over the tokens; every method returns a step over items."""

    def __init__(self, text: str) -> None:
        self.text, self.tokens, at = text, [], 0
        while text[at:].strip():
            match = TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise wrong(
                    f"FHIRPath 无法识别：{text[at : at + 30]}",
                    f"FHIRPath not understood at: {text[at : at + 30]}",
                )
            self.tokens.append((match.lastgroup, match[match.lastgroup]))
            at = match.end()
        self.at = 0
        self.depth = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("", "")

    def take(self, wanted: str = "") -> tuple[str, str]:
        token = self.peek()
        if not token[0] or (wanted and token[1] != wanted):
            raise wrong(f"FHIRPath 不完整：{self.text[:100]}", f"FHIRPath is not complete: {self.text[:100]}")
        self.at += 1
        return token

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise wrong(
                f"FHIRPath 在 {self.peek()[1]} 处无法识别", f"FHIRPath not understood at {self.peek()[1]}"
            )

    def expression(self) -> Step:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise wrong("FHIRPath 嵌套过深", "the FHIRPath is nested too deeply")
        left = self.both()
        while self.peek() in (("name", "or"), ("name", "xor")):
            left = _logic(self.take()[1], left, self.both())
        self.depth -= 1
        return left

    def both(self) -> Step:
        left = self.compared()
        while self.peek() == ("name", "and"):
            left = _logic(self.take()[1], left, self.compared())
        return left

    def compared(self) -> Step:
        left = self.chain()
        if self.peek()[1] in ("=", "!=", "~", "!~", "<", ">", "<=", ">="):
            return _compare(self.take()[1], left, self.chain())
        return left

    def chain(self) -> Step:
        step = self.first()
        while self.peek()[1] in (".", "["):
            if self.take()[1] == "[":
                step = _then(step, _nth(self.number()))
                self.take("]")
            else:
                step = _then(step, self.member())
        return step

    def number(self) -> int:
        kind, text = self.take()
        if kind != "number" or not text.isdigit() or len(text) > 9:
            raise wrong("应为序号", "an index must be a whole number")
        return int(text)

    def first(self) -> Step:
        kind, text = self.peek()
        if kind in ("text", "number", "date"):
            self.take()
            value: Any = (
                re.sub(r"\\(.)", lambda m: ESCAPES.get(m[1], m[1]), text[1:-1])
                if kind == "text"
                else Decimal(text)
                if kind == "number"
                else text[1:]
            )
            return lambda items, this: [value]
        if text == "(":
            self.take()
            inner = self.expression()
            self.take(")")
            return inner
        if text == "{":
            self.take()
            self.take("}")
            return lambda items, this: []
        if text in ("true", "false"):
            self.take()
            return lambda items, this: [text == "true"]
        if text == "$this":
            self.take()
            return lambda items, this: [this]
        if kind == "name" and text[0].isupper() and self.at + 1 <= len(self.tokens):
            self.take()
            return lambda items, this: [i for i in items if isinstance(i, Place) and _type(i) == text]
        return self.member()

    def member(self) -> Step:
        kind, text = self.take()
        if kind != "name":
            raise wrong(f"FHIRPath 在 {text} 处无法识别", f"FHIRPath not understood at {text}")
        if self.peek()[1] != "(":
            return _named(text.strip("`"))
        self.take("(")
        arguments: list[Step] = []
        kinds = self.peek()[1]
        if kinds != ")":
            if text in ("ofType", "as"):
                return self.typed()
            arguments.append(self.expression())
        self.take(")")
        return _function(text, arguments)

    def typed(self) -> Step:
        name = self.take()[1]
        if self.peek()[1] == ".":
            self.take()
            name = self.take()[1]
        self.take(")")
        name = name.strip("`")
        return lambda items, this: [i for i in items if isinstance(i, Place) and _type(i) == name]


def _then(one: Step, two: Step) -> Step:
    return lambda items, this: two(one(items, this), this)


def _named(name: str) -> Step:
    return lambda items, this: [p for i in items if isinstance(i, Place) for p in below(i, name)]


def _nth(n: int) -> Step:
    return lambda items, this: items[n : n + 1]


def _logic(word: str, one: Step, two: Step) -> Step:
    def run(items: Items, this: Any) -> Items:
        a, b = truth(one(items, this)), truth(two(items, this))
        return [{"or": a or b, "and": a and b, "xor": a != b}[word]]

    return run


def _compare(mark: str, one: Step, two: Step) -> Step:
    def run(items: Items, this: Any) -> Items:
        left, right = [plain(i) for i in one(items, this)], [plain(i) for i in two(items, this)]
        if mark in ("~", "!~"):
            left, right = [_folded(v) for v in left], [_folded(v) for v in right]
            return [(left == right) == (mark == "~")]
        if not left or not right:
            return []
        if mark in ("=", "!="):
            return [(left == right) == (mark == "=")]
        if len(left) != 1 or len(right) != 1 or type(left[0]) is not type(right[0]):
            return []
        if not isinstance(left[0], str | Decimal):
            return []
        a, b = left[0], right[0]
        return [{"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[mark]]

    return run


def _folded(value: Any) -> Any:
    return " ".join(value.lower().split()) if isinstance(value, str) else value


def _function(name: str, arguments: list[Step]) -> Step:
    """A function by name; those that take a criterion see each item as ``$this``."""
    with_one = {
        "where": lambda items, this, c: [i for i in items if truth(c([i], i))],
        "exists": lambda items, this, c: [any(truth(c([i], i)) for i in items)],
        "all": lambda items, this, c: [all(truth(c([i], i)) for i in items)],
        "skip": lambda items, this, c: items[_whole(c, items, this) :],
        "take": lambda items, this, c: items[: _whole(c, items, this)],
        "extension": lambda items, this, c: [
            p for i in items if isinstance(i, Place) for p in below(i, "extension")
            if [plain(u) for u in below(p, "url")] == [plain(v) for v in c(items, this)]
        ],
        "startsWith": _textual(lambda a, b: a.startswith(b)),
        "endsWith": _textual(lambda a, b: a.endswith(b)),
        "contains": _textual(lambda a, b: b in a),
    }  # fmt: skip
    without: dict[str, Callable[[Items], Items]] = {
        "first": lambda items: items[:1],
        "last": lambda items: items[-1:],
        "tail": lambda items: items[1:],
        "single": _single,
        "exists": lambda items: [bool(items)],
        "empty": lambda items: [not items],
        "hasValue": lambda items: [len(items) == 1 and not isinstance(plain(items[0]), dict | list)],
        "not": lambda items: [not truth(items)] if items else [],
        "count": lambda items: [Decimal(len(items))],
    }
    if arguments and name in with_one:
        chosen, criterion = with_one[name], arguments[0]
        return lambda items, this: chosen(items, this, criterion)
    if not arguments and name in without:
        simple = without[name]
        return lambda items, this: simple(items)
    raise wrong(f"补丁的 FHIRPath 不支持 {name[:40]}()", f"FHIRPath of a patch cannot use {name[:40]}()")


def _whole(step: Step, items: Items, this: Any) -> int:
    found = step(items, this)
    if len(found) == 1 and isinstance(found[0], Decimal) and found[0] < 1_000_000:
        return int(found[0])
    raise wrong("应为整数", "a whole number is needed")


def _textual(test: Callable[[str, str], bool]) -> Callable[[Items, Any, Step], Items]:
    def run(items: Items, this: Any, criterion: Step) -> Items:
        wanted = [plain(i) for i in criterion([this], this)]
        if len(items) != 1 or len(wanted) != 1:
            return []
        value = plain(items[0])
        return [test(value, wanted[0])] if isinstance(value, str) and isinstance(wanted[0], str) else []

    return run


def _single(items: Items) -> Items:
    if len(items) > 1:
        raise refuse(422, "processing", "single() 找到多个元素", "single() finds several elements")
    return items
