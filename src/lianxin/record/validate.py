"""Structural validation of R4 resources, driven by the generated tables.

Checked: types, cardinality, unknown elements, choice types, primitive formats, required codes, reference target types,
contained resources, empty values.  Not checked: invariants and profiles.  About 40 µs for a small resource.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

from lianxin.record import definitions
from lianxin.record.problems import Issue
from lianxin.standards.text import Text

TEXTUAL = frozenset({"string", "markdown", "xhtml"})
NUMERIC = frozenset({"integer", "positiveInt", "unsignedInt"})
MAX_STRING = 1_048_576
MAX_DEPTH = 32  # objects within objects; with their arrays 64 levels of JSON
MOST = 20  # issues told of one resource


@dataclass(slots=True)
class Element:
    """One allowed key of an object."""

    name: str
    many: bool
    type: str
    primitive: bool
    check: Callable[[Any], bool] | None = None
    rules: "Shape | None" = None
    codes: frozenset[str] | None = None
    targets: frozenset[str] | None = None
    choice: str = ""


@dataclass(slots=True)
class Shape:
    """Allowed keys, required groups of keys and choice elements of one type."""

    keys: dict[str, Element] = field(default_factory=dict)
    required: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    choices: bool = False


@cache
def shape(type_name: str) -> Shape:
    """The compiled shape of a type."""
    made = Shape()
    formats = definitions.primitives()
    resource = type_name in definitions.types()
    for name, row in definitions.elements(type_name).items():
        options = _split(row[2])
        stem = name.removesuffix("[x]")
        keys = []
        for option in options:
            base, _, rest = option.partition("(")
            if name == "id" and resource:
                base = "id"
            key = stem + base[0].upper() + base[1:] if name.endswith("[x]") else stem
            element = Element(key, row[1] != 1, base.lstrip("@"), base in formats)
            if len(row) > 3:
                element.codes = definitions.codes(row[3])
            if element.primitive:
                element.check = checker(base, formats[base], element.codes)
            if rest:
                element.targets = frozenset(rest.rstrip(")").split(","))
            if len(options) > 1:
                element.choice = stem
                made.choices = True
            made.keys[key] = element
            keys.append(key)
        if row[0]:
            made.required.append((name, tuple(k for key in keys for k in (key, "_" + key))))
    return made


def _split(text: str) -> list[str]:
    return [part for part in text.split("|") if part]


def checker(kind: str, pattern: re.Pattern[str], codes: frozenset[str] | None) -> Callable[[Any], bool]:
    """Whether a JSON value is a value of a primitive type."""
    match = pattern.fullmatch
    if kind == "boolean":
        return lambda v: v is True or v is False
    if kind in NUMERIC:
        least = {"integer": -2147483648, "unsignedInt": 0, "positiveInt": 1}[kind]
        return lambda v: type(v) is int and least <= v < 2147483648
    if kind == "decimal":
        return lambda v: type(v) is float or type(v) is int
    if kind == "xhtml":
        return lambda v: type(v) is str and _harmless(v)
    if kind in TEXTUAL:
        return lambda v: type(v) is str and v != "" and not v.isspace() and len(v) <= MAX_STRING
    if codes is not None:
        return lambda v: type(v) is str and v in codes
    if kind == "base64Binary":
        return lambda v: type(v) is str and v != "" and v.isascii()
    if kind in ("date", "dateTime", "instant"):
        return lambda v: (
            type(v) is str and match(v) is not None and v != "" and (v[8:10] <= "28" or _real_day(v))
        )
    return lambda v: type(v) is str and v != "" and len(v) <= MAX_STRING and match(v) is not None


class Validator:
    """Walks one resource; ``count`` is the number of object members seen (to find duplicate keys against the text)."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.count = 0
        self.depth = 0

    def tell(self, code: str, path: str, zh: str, en: str) -> None:
        """Note a problem."""
        if len(self.issues) < MOST:
            self.issues.append(Issue(code, Text(zh, en), path))

    def resource(self, value: Any, path: str = "") -> None:
        """Check a resource (top level or contained)."""
        rtype = value.get("resourceType") if isinstance(value, dict) else None
        if not isinstance(rtype, str) or rtype not in definitions.types():
            self.tell(
                "structure",
                f"{path}.resourceType".lstrip("."),
                "resourceType 缺失或不是 R4 资源类型，请更正",
                "resourceType is missing or not an R4 resource type; correct it",
            )
            return
        self.object(value, shape(rtype), path or rtype, True)

    def object(self, value: dict[str, Any], rules: Shape, path: str, resource: bool = False) -> None:
        """Check the members of an object against its shape."""
        self.count += len(value)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.tell(
                "structure",
                path[:200],
                f"嵌套超过 {MAX_DEPTH} 层，请简化",
                f"nested deeper than {MAX_DEPTH} levels; flatten it",
            )
            self.depth -= 1
            return
        keys = rules.keys
        chosen: dict[str, str] = {}
        for key, item in value.items():
            element = keys.get(key)
            if element is None:
                if key == "resourceType" and resource:
                    continue
                base = keys.get(key[1:]) if key[:1] == "_" else None
                if base is None or not base.primitive:
                    self.tell(
                        "structure",
                        f"{path}.{key}",
                        f"未知元素 {key}，请删除或改名",
                        f"unknown element {key}; remove or rename it",
                    )
                else:
                    self.shadow(item, base, f"{path}.{key}")
                continue
            if element.choice and chosen.setdefault(element.choice, key) != key:
                self.tell(
                    "structure",
                    f"{path}.{key}",
                    f"{element.choice}[x] 只能有一个值，请保留一个",
                    f"only one of {element.choice}[x] may be given; keep one",
                )
            check = element.check
            if element.many:
                if type(item) is not list:
                    self.tell("structure", f"{path}.{key}", f"{key} 应为数组", f"{key} must be an array")
                    continue
                if not item:
                    self.tell(
                        "structure",
                        f"{path}.{key}",
                        f"{key} 不能为空数组，请删除",
                        f"{key} must not be an empty array; remove it",
                    )
                for i, one in enumerate(item):
                    if check is None:
                        self.complex(one, element, path, i)
                    elif not check(one) and not (one is None and "_" + key in value):
                        self.wrong(one, element, path, i)
            elif check is None:
                self.complex(item, element, path, -1)
            elif not check(item):
                self.wrong(item, element, path, -1)
        for name, names in rules.required:
            if names[0] not in value and not any(n in value for n in names):
                self.tell(
                    "required",
                    f"{path}.{name}",
                    f"缺少必填元素 {name}，请补充",
                    f"required element {name} is missing; add it",
                )
        self.depth -= 1
        if not value:
            self.tell("structure", path, "不能为空对象，请删除", "an object must not be empty; remove it")

    def wrong(self, value: Any, element: Element, path: str, i: int) -> None:
        """Tell of a primitive value that is not of its type."""
        where = f"{path}.{element.name}" + (f"[{i}]" if i >= 0 else "")
        if element.codes is not None and isinstance(value, str):
            self.tell(
                "code-invalid",
                where,
                f"代码“{value[:60]}”不在规定的取值范围内",
                f"code '{value[:60]}' is not one of the required codes",
            )
        else:
            self.tell(
                "value",
                where,
                f"取值不符合 {element.type} 的格式，请更正",
                f"the value is not a valid {element.type}; correct it",
            )

    def complex(self, value: Any, element: Element, path: str, i: int) -> None:
        """Check an object: a data type, a backbone element or a contained resource."""
        kind = element.type
        where = f"{path}.{element.name}[{i}]" if i >= 0 else f"{path}.{element.name}"
        if type(value) is not dict:
            self.tell(
                "structure",
                where,
                f"{element.name} 应为对象（{kind}）",
                f"{element.name} must be an object ({kind})",
            )
        elif kind == "Resource":
            self.resource(value, where)
        else:
            if element.targets is not None:
                self.target(value, element.targets, where)
            rules = element.rules
            if rules is None:
                rules = element.rules = shape(kind)
            self.object(value, rules, where)

    def target(self, value: dict[str, Any], targets: frozenset[str], path: str) -> None:
        """Check that a relative reference points to an allowed type."""
        reference = value.get("reference")
        if type(reference) is str and reference[:1].isupper():
            rtype = reference.partition("/")[0].partition("?")[0]
            if rtype not in targets:
                allowed = ", ".join(sorted(targets))
                self.tell(
                    "structure",
                    f"{path}.reference",
                    f"不能引用 {rtype}；可引用：{allowed}",
                    f"must not refer to {rtype}; allowed: {allowed}",
                )

    def shadow(self, value: Any, base: Element, path: str) -> None:
        """Check ``_name``: the id and extensions of a primitive."""
        items = value if base.many and type(value) is list else [value]
        for item in items:
            if item is None and base.many:
                continue
            if type(item) is not dict:
                self.tell(
                    "structure",
                    path,
                    "应为含 id 或 extension 的对象",
                    "must be an object with id or extension",
                )
            else:
                self.object(item, shape("Element"), path)


def _harmless(text: str) -> bool:
    low = text[:200_000].lower()
    return low.lstrip().startswith("<div") and "<script" not in low


def _real_day(text: str) -> bool:
    try:
        date.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


def check(resource: Any) -> tuple[list[Issue], int]:
    """Problems of a resource (empty: it is sound), and the number of object members seen."""
    walker = Validator()
    walker.resource(resource)
    return walker.issues, walker.count
