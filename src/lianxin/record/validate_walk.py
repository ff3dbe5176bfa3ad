"""The structural walk: one resource against the tables of the R4 definitions, with a path for every problem.

Checked: types, cardinality, unknown elements, choices, primitive formats, required codes, reference targets, contained
resources, empty values, ``ele-1`` (a value or children), ``ext-1`` (a value or extensions).  It decides; the quick check
in ``validate_fast`` only ever accepts what this accepts.  About 30 µs for a small resource.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lianxin.record import bindings, definitions
from lianxin.record.problems import Issue
from lianxin.record.validate_text import checker, reference_problem
from lianxin.standards.text import Text

MAX_DEPTH = 32  # objects within objects; with their arrays 64 levels of JSON
MOST = 20  # issues told of one resource


@dataclass(slots=True)
class Element:
    """One allowed key of an object."""

    name: str
    most: int  # 0: any number
    type: str
    primitive: bool
    check: Callable[[Any], bool] | None = None
    rules: "Shape | None" = None
    codes: frozenset[str] | None = None
    targets: frozenset[str] | None = None
    choice: str = ""

    @property
    def many(self) -> bool:
        """Whether it is an array."""
        return self.most != 1


@dataclass(slots=True)
class Shape:
    """Allowed keys, required groups of keys and choice elements of one type."""

    name: str
    keys: dict[str, Element] = field(default_factory=dict)
    required: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    resource: bool = False


class Enough(Exception):
    """The number of problems told is reached."""


@cache
def shape(type_name: str) -> Shape:
    """The compiled shape of a resource type, data type or backbone path."""
    made = Shape(type_name, resource=type_name in definitions.types())
    formats = definitions.primitives()
    for name, row in definitions.elements(type_name).items():
        options = [part for part in row[2].split("|") if part]
        stem = name.removesuffix("[x]")
        keys = []
        for option in options:
            base, _, rest = option.partition("(")
            if name == "id" and made.resource:
                base = "id"
            key = stem + base[0].upper() + base[1:] if name.endswith("[x]") else stem
            element = Element(key, row[1], base.lstrip("@"), base in formats)
            if len(row) > 3:
                element.codes = definitions.codes(row[3])
            elif (type_name, name) == ("Money", "currency"):
                element.codes = bindings.currencies()
            if element.primitive:
                element.check = checker(base, element.codes)
            if rest:
                element.targets = frozenset(rest.rstrip(")").split(","))
            if name.endswith("[x]"):
                element.choice = stem
            made.keys[key] = element
            keys.append(key)
        if row[0]:
            made.required.append((name, tuple(k for key in keys for k in (key, "_" + key))))
    return made


class Validator:
    """Walks one resource; ``count`` is the number of object members seen (to find duplicate keys against the text)."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        self.count = 0
        self.depth = 0

    def tell(self, code: str, path: str, zh: str, en: str) -> None:
        """Note a problem."""
        self.issues.append(Issue(code, Text(zh, en), path[:1000]))
        if len(self.issues) >= MOST:
            raise Enough

    def resource(self, value: Any, path: str = "", contained: bool = False) -> None:
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
        rules = shape(rtype)
        if "contained" in value and "contained" in rules.keys:
            self.contained(value["contained"], path or rtype, contained)
        self.object(value, rules, path or rtype)

    def contained(self, value: Any, path: str, nested: bool) -> None:
        """Contained resources: not within contained ones (dom-2), each with an id of its own within the resource."""
        if nested:
            self.tell(
                "structure",
                f"{path}.contained",
                "dom-2：被包含的资源不能再包含资源，请展开",
                "dom-2: a contained resource must not contain resources; flatten it",
            )
        seen = set()
        for i, one in enumerate(value if type(value) is list else ()):
            rid = one.get("id") if type(one) is dict else None
            if type(rid) is not str or rid in seen:
                self.tell(
                    "structure" if rid is None else "duplicate",
                    f"{path}.contained[{i}].id",
                    "被包含的资源需要一个在本资源内唯一的 id",
                    "a contained resource needs an id that is unique within the resource",
                )
            else:
                seen.add(rid)

    def object(self, value: dict[str, Any], rules: Shape, path: str) -> None:
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
                if key == "resourceType" and rules.resource:
                    continue
                element = keys.get(key[1:]) if key[:1] == "_" else None
                if element is None or not element.primitive:
                    self.tell(
                        "structure",
                        f"{path}.{key[:100]}",
                        f"未知元素 {key[:100]}，请删除或改名",
                        f"unknown element {key[:100]}; remove or rename it",
                    )
                    continue
                self.shadow(item, value.get(key[1:]), element, f"{path}.{key}")
            if element.choice and chosen.setdefault(element.choice, element.name) != element.name:
                self.tell(
                    "structure",
                    f"{path}.{element.name}",
                    f"{element.choice}[x] 只能有一个值，请保留一个",
                    f"only one of {element.choice}[x] may be given; keep one",
                )
            if key[:1] != "_":
                self.member(value, key, item, element, path)
        for name, names in rules.required:
            if names[0] not in value and not any(n in value for n in names):
                self.tell(
                    "required",
                    f"{path}.{name.removesuffix('[x]')}",
                    f"缺少必填元素 {name}，请补充",
                    f"required element {name} is missing; add it",
                )
        self.depth -= 1
        self.filled(value, rules, path)

    def filled(self, value: dict[str, Any], rules: Shape, path: str) -> None:
        """Something must be said: ``ele-1`` and, of extensions, ``ext-1``."""
        if not value:
            self.tell("structure", path, "不能为空对象，请删除", "an object must not be empty; remove it")
        elif len(value) == 1 and "id" in value and not rules.resource:
            self.tell(
                "invariant",
                path,
                "ele-1：除 id 外还须有值或子元素",
                "ele-1: there must be a value or children besides the id",
            )
        if rules.name == "Extension" and ("extension" in value) == any(
            key.startswith(("value", "_value")) for key in value
        ):
            self.tell(
                "invariant",
                path,
                "ext-1：扩展须有值或子扩展，且只能有其一",
                "ext-1: an extension must have a value or extensions, not both",
            )

    def member(self, value: dict[str, Any], key: str, item: Any, element: Element, path: str) -> None:
        """Check one known member of an object."""
        check = element.check
        if element.most == 1:
            if check is None:
                self.complex(item, element, f"{path}.{element.name}")
            elif not check(item):
                self.wrong(item, element, f"{path}.{element.name}")
            return
        where = f"{path}.{element.name}"
        if type(item) is not list:
            self.tell("structure", where, f"{key} 应为数组", f"{key} must be an array")
            return
        if not item:
            self.tell(
                "structure",
                where,
                f"{key} 不能为空数组，请删除",
                f"{key} must not be an empty array; remove it",
            )
        if element.most and len(item) > element.most:
            self.tell(
                "structure",
                where,
                f"{key} 最多 {element.most} 个",
                f"{key} may be given at most {element.most} times",
            )
        for i, one in enumerate(item):
            if check is None:
                self.complex(one, element, f"{where}[{i}]")
            elif one is None:
                beside = value.get("_" + key)
                if not (type(beside) is list and len(beside) > i and beside[i] is not None):
                    self.wrong(one, element, f"{where}[{i}]")
            elif not check(one):
                self.wrong(one, element, f"{where}[{i}]")

    def wrong(self, value: Any, element: Element, where: str) -> None:
        """Tell of a primitive value that is not of its type."""
        if element.codes is not None and isinstance(value, str):
            self.tell(
                "code-invalid",
                where,
                f"代码“{value[:60]}”不在规定的取值范围内",
                f"code '{value[:60]}' is not one of the required codes",
            )
        elif element.type == "xhtml":
            self.tell(
                "invariant",
                where,
                "txt-1：叙述须为一个 <div>，只含允许的 HTML 元素和属性，且有内容",
                "txt-1: the narrative must be one <div> of allowed HTML elements and attributes, with content",
            )
        else:
            self.tell(
                "value",
                where,
                f"取值不符合 {element.type} 的格式，请更正",
                f"the value is not a valid {element.type}; correct it",
            )

    def complex(self, value: Any, element: Element, where: str) -> None:
        """Check an object: a data type, a backbone element or a contained resource."""
        kind = element.type
        if type(value) is not dict:
            self.tell(
                "structure",
                where,
                f"{element.name} 应为对象（{kind}）",
                f"{element.name} must be an object ({kind})",
            )
        elif kind == "Resource":
            self.resource(value, where, contained=element.name == "contained")
        else:
            if kind == "Reference":
                self.target(value, element.targets, where)
            rules = element.rules
            if rules is None:
                rules = element.rules = shape(kind)
            self.object(value, rules, where)

    def target(self, value: dict[str, Any], targets: frozenset[str] | None, where: str) -> None:
        """Check that a reference is well formed and points to an allowed type."""
        reference = value.get("reference")
        wrong = reference_problem(reference, targets) if type(reference) is str else ""
        named = value.get("type")
        if not wrong and targets is not None and named in definitions.types() and named not in targets:
            wrong, reference, where = "type", str(named), f"{where}.type"
        if wrong == "type":
            allowed = ", ".join(sorted(targets or ()))
            self.tell(
                "structure",
                where if where.endswith(".type") else f"{where}.reference",
                f"不能引用 {str(reference)[:100]}；可引用：{allowed}",
                f"must not refer to {str(reference)[:100]}; allowed: {allowed}",
            )
        elif wrong:
            self.tell(
                "value",
                f"{where}.reference",
                "引用应为 类型/id、绝对地址、urn: 或 #id",
                "a reference must be Type/id, an absolute address, urn: or #id",
            )

    def shadow(self, value: Any, beside: Any, base: Element, path: str) -> None:
        """Check ``_name``: the id and extensions of a primitive, which must have a value or extensions (ele-1)."""
        items, values = [value], [beside]
        if base.many:
            if (
                type(value) is not list
                or not value
                or (beside is not None and (type(beside) is not list or len(beside) != len(value)))
            ):
                self.tell(
                    "structure",
                    path,
                    f"_{base.name} 应为与 {base.name} 等长的数组",
                    f"_{base.name} must be an array as long as {base.name}",
                )
                return
            items, values = value, beside or [None] * len(value)
        for i, item in enumerate(items):
            where = f"{path}[{i}]" if base.many else path
            if item is None and base.many:
                if values[i] is None:
                    self.tell(
                        "structure",
                        where,
                        "既无值也无扩展，请删除",
                        "neither a value nor an extension; remove it",
                    )
            elif type(item) is not dict:
                self.tell(
                    "structure",
                    where,
                    "应为含 id 或 extension 的对象",
                    "must be an object with id or extension",
                )
            else:
                if values[i] is not None and set(item) == {"id"}:
                    self.count += 1
                    if not checker("string")(item["id"]):
                        self.tell("value", f"{where}.id", "id 应为字符串", "the id must be a string")
                    continue
                self.object(item, shape("Element"), where)


def check(resource: Any) -> tuple[list[Issue], int]:
    """Problems of a resource (empty: it is sound), and the number of object members seen."""
    walker = Validator()
    with suppress(Enough):
        walker.resource(resource)
    return walker.issues, walker.count
