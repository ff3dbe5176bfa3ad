"""Structural validation of R4 resources, driven by the generated tables.

Checked: types, cardinality, unknown elements, choice types, primitive formats, required codes, reference target types,
contained resources, empty values.  Not checked: invariants and profiles.  About 40 µs for a small resource.
"""

from dataclasses import dataclass, field
from datetime import date
from functools import cache
from typing import Any

from lianxin.record import definitions
from lianxin.record.problems import Issue
from lianxin.standards.text import Text

TEXTUAL = frozenset({"string", "markdown", "xhtml"})
NUMERIC = frozenset({"integer", "positiveInt", "unsignedInt"})
MAX_DEPTH = 32  # objects within objects; with their arrays 64 levels of JSON
MOST = 20  # issues told of one resource


@dataclass(slots=True)
class Element:
    """One allowed key of an object."""

    name: str
    many: bool
    type: str
    primitive: bool
    pattern: Any = None
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
            if element.primitive:
                element.pattern = formats[base].fullmatch
            if len(row) > 3:
                element.codes = definitions.codes(row[3])
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
                    if one is None and element.primitive and "_" + key in value:
                        continue
                    self.one(one, element, path, i)
            else:
                self.one(item, element, path, -1)
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

    def one(self, value: Any, element: Element, path: str, i: int) -> None:
        """Check one value of an element."""
        kind = element.type
        if element.primitive:
            if kind == "boolean":
                good = type(value) is bool
            elif kind in NUMERIC:
                good = (
                    type(value) is int
                    and -2147483649 < value < 2147483648
                    and (kind == "integer" or value >= (kind == "positiveInt"))
                )
            elif kind == "decimal":
                good = type(value) in (int, float)
            elif type(value) is not str or not value or (len(value) > 1_048_576 and kind != "base64Binary"):
                good = False
            elif kind in TEXTUAL:
                good = not value.isspace() and (kind != "xhtml" or _harmless(value))
            elif element.codes is not None:
                good = value in element.codes
            elif kind == "base64Binary":
                good = value.isascii()
            else:
                good = element.pattern(value) is not None
                if good and kind in ("date", "dateTime", "instant") and value[8:10] > "28":
                    good = _real_day(value)
            if not good:
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
                        f"取值不符合 {kind} 的格式，请更正",
                        f"the value is not a valid {kind}; correct it",
                    )
            return
        where = f"{path}.{element.name}" + (f"[{i}]" if i >= 0 else "")
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
            self.object(value, shape(kind), where)

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
