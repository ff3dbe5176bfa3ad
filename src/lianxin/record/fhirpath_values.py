"""Values of FHIRPath: nodes of a resource with their R4 types, navigation, equality, order."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any

from lianxin.record import definitions, units


class FhirPathError(ValueError):
    """An expression that cannot be read or evaluated."""


class TooCostly(FhirPathError):
    """The evaluation used up its steps."""


class Node:
    """A value with its type (``Patient``, ``HumanName``, ``code``, ``System.String``) and the ``_name`` beside a primitive."""

    __slots__ = ("s", "t", "v")

    def __init__(self, v: Any, t: str, s: dict[str, Any] | None = None) -> None:
        self.v = v
        self.t = t
        self.s = s

    @staticmethod
    def of(resource: dict[str, Any]) -> "Node":
        """The node of a resource."""
        return Node(resource, str(resource.get("resourceType", "")))

    def __repr__(self) -> str:
        return f"<{self.t} {str(self.v)[:40]}>"


class Context:
    """One evaluation: what it stands on, what is current, how many steps are left."""

    __slots__ = ("context", "index", "left", "resource", "rootResource", "this", "total")

    def __init__(self, context: Node, resource: Node, root: Node, budget: int) -> None:
        self.context = context
        self.resource = resource
        self.rootResource = root
        self.left = budget
        self.this: list[Node] | None = None
        self.index: list[Node] = []
        self.total: list[Node] = []

    def spend(self, steps: int) -> None:
        """Use up steps."""
        self.left -= steps
        if self.left < 0:
            raise TooCostly("the expression takes too many steps on this resource")

    def walk(self, nodes: Iterable[Node]) -> Iterator[Node]:
        """The nodes, each a step."""
        for node in nodes:
            self.spend(1)
            yield node


Run = Callable[[Context, list[Node]], list[Node]]
Function = Callable[[Context, list[Node], list[Run]], list[Node]]

DATES = frozenset({"date", "dateTime", "instant", "System.Date", "System.DateTime"})
TIMES = frozenset({"time", "System.Time"})
QUANTITIES = frozenset(
    {"Quantity", "Age", "Count", "Distance", "Duration", "MoneyQuantity", "SimpleQuantity"}
)
PARENTS = {
    "code": "string", "id": "string", "markdown": "string", "url": "uri", "canonical": "uri", "uuid": "uri", "oid": "uri",
    "unsignedInt": "integer", "positiveInt": "integer", "Age": "Quantity", "Count": "Quantity", "Distance": "Quantity",
    "Duration": "Quantity",
}  # fmt: skip
SYSTEM = {
    "Boolean": frozenset({"boolean"}), "Integer": frozenset({"integer", "unsignedInt", "positiveInt"}),
    "Decimal": frozenset({"decimal"}), "Date": frozenset({"date"}), "DateTime": frozenset({"dateTime", "instant"}),
    "Time": frozenset({"time"}), "Quantity": QUANTITIES,
    "String": frozenset({"string", "uri", "code", "oid", "id", "uuid", "markdown", "base64Binary", "url", "canonical", "xhtml"}),
}  # fmt: skip
PLAIN_RESOURCES = frozenset({"Bundle", "Binary", "Parameters"})


@cache
def fields(type_name: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """Elements of a type by the name FHIRPath gives them: the JSON keys and the type at each."""
    made = {}
    for name, row in definitions.elements(type_name).items():
        kinds = [part.partition("(")[0].lstrip("@") for part in row[2].split("|") if part]
        if name.endswith("[x]"):
            stem = name[:-3]
            made[stem] = tuple((stem + kind[0].upper() + kind[1:], kind) for kind in kinds)
        else:
            made[name] = ((name, kinds[0]),)
    return made


def at(value: dict[str, Any], key: str, kind: str) -> list[Node]:
    """The nodes under one JSON key."""
    item = value.get(key)
    beside = value.get("_" + key)
    if item is None and beside is None:
        return []
    if type(item) is list or type(beside) is list:
        items = item if type(item) is list else [None] * len(beside or ())
        sides = beside if type(beside) is list else []
        return [
            Node(one, _kind(kind, one), sides[i] if i < len(sides) and type(sides[i]) is dict else None)
            for i, one in enumerate(items)
            if one is not None or (i < len(sides) and sides[i] is not None)
        ]
    return [Node(item, _kind(kind, item), beside if type(beside) is dict else None)]


def _kind(kind: str, value: Any) -> str:
    return str(value.get("resourceType", kind)) if kind == "Resource" and type(value) is dict else kind


def children(context: Context, node: Node, name: str = "") -> list[Node]:
    """Children of a node: those of one name, or all."""
    value = node.v
    if type(value) is not dict:
        if node.s is None:
            return []
        value, kind = node.s, "Element"
    else:
        kind = node.t
    table = fields(kind)
    found: list[Node] = []
    for options in (table.get(name, ()),) if name else table.values():
        for key, type_name in options:
            found += at(value, key, type_name)
    context.spend(1 + len(found))
    return found


def is_type(node: Node, name: str) -> bool:
    """Whether a node is of a type or of one derived from it; System types also take the FHIR primitives of that kind."""
    space, _, bare = name.rpartition(".")
    kind = node.t.removeprefix("System.")
    if space != "FHIR" and bare in SYSTEM and (kind == bare or kind in SYSTEM[bare]):
        return True
    if space == "System" or node.t.startswith("System."):
        return False
    if kind == bare or PARENTS.get(kind) == bare:
        return True
    resource = kind in definitions.types()
    return (bare == "Resource" and resource) or (
        bare == "DomainResource" and resource and kind not in PLAIN_RESOURCES
    ) or (bare == "Element" and not resource) or (bare == "BackboneElement" and "." in kind)  # fmt: skip


def literal(text: str) -> Node:
    """A number literal."""
    return Node(Decimal(text), "System.Decimal") if "." in text else Node(int(text), "System.Integer")


def single(nodes: list[Node]) -> list[Node]:
    """At most one node, or an error."""
    if len(nodes) > 1:
        raise FhirPathError("a single value was expected")
    return nodes


def boolean(nodes: list[Node]) -> bool | None:
    """A collection as a truth value: a boolean itself, any other single item is true, nothing is None."""
    if not nodes:
        return None
    value = single(nodes)[0].v
    return value if type(value) is bool else True


def number(node: Node) -> Any:
    """An int or Decimal."""
    value = node.v
    if type(value) is float:
        return Decimal(repr(value))
    if type(value) is int or type(value) is Decimal:
        return value
    if node.t in QUANTITIES and type(value) is dict and "value" in value:
        return number(Node(value["value"], "decimal"))
    raise FhirPathError(f"not a number: {str(value)[:40]}")


def numeric(value: Any) -> bool:
    """Whether a Python value is a number (not a boolean)."""
    return type(value) is int or type(value) is float or type(value) is Decimal


def frozen(value: Any) -> Any:
    """A hashable stand-in: equal values have equal ones, members in any order."""
    if type(value) is dict:
        return frozenset((k, frozen(v)) for k, v in value.items())
    if type(value) is list:
        return tuple(frozen(v) for v in value)
    if type(value) is bool:
        return ("b", value)
    return Decimal(repr(value)) if type(value) is float else value


def token(node: Node) -> Any:
    """What makes two nodes the same in ``distinct``, ``|`` and ``intersect``."""
    if node.t in DATES and type(node.v) is str:
        return ("date", moment(node.v) or node.v)
    if node.v is None:
        return ("only", frozen(node.s))
    return frozen(node.v)


def unique(context: Context, nodes: list[Node]) -> list[Node]:
    """The nodes without repetitions, in order."""
    seen = set()
    kept = []
    for node in context.walk(nodes):
        mark = token(node)
        if mark not in seen:
            seen.add(mark)
            kept.append(node)
    return kept


MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d)?(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:\d\d)?)?)?)?"
)
ZONED = re.compile(r"(?:Z|[+-]\d\d:\d\d)$")


def moment(text: str, zoned: bool = True) -> tuple[Any, ...] | None:
    """Parts of a date or instant as far as given (year ... second), in UTC when it has a zone and ``zoned``; None when it is none."""
    match = MOMENT.fullmatch(text)
    if match is None:
        return None
    parts: list[Any] = [int(p) for p in match.groups()[:5] if p is not None]
    if match[6] is not None:
        parts.append(Decimal(match[6]))
    if not zoned or match[7] is None or len(parts) < 5 or match[7] in ("Z", "+00:00", "-00:00"):
        return tuple(parts)
    shift = int(match[7][1:3]) * 60 + int(match[7][4:6])
    try:
        total = date(parts[0], parts[1], parts[2]).toordinal() * 1440 + parts[3] * 60 + parts[4]
        total -= shift if match[7][0] == "+" else -shift
        day = date.fromordinal(total // 1440)
    except (ValueError, OverflowError):
        return tuple(parts)
    return (day.year, day.month, day.day, total % 1440 // 60, total % 60, *parts[5:])


def compare_moments(a: str, b: str) -> int | None:
    """-1, 0, 1; None when the precision does not tell, or when both have a time and only one of them a zone."""
    timed = "T" in a and "T" in b
    if timed and bool(ZONED.search(a)) != bool(ZONED.search(b)):
        return None
    first, second = moment(a, timed), moment(b, timed)
    if first is None or second is None:
        return None
    for x, y in zip(first, second, strict=False):
        if x != y:
            return -1 if x < y else 1
    return 0 if len(first) == len(second) else None


def _amount(value: dict[str, Any]) -> tuple[Decimal | None, str]:
    try:
        amount = Decimal(str(value["value"]))
    except (KeyError, InvalidOperation):
        return None, ""
    return amount, str(value.get("code") or value.get("unit") or "1")


def compare_quantities(a: dict[str, Any], b: dict[str, Any]) -> int | None:
    """Order of two quantities, converted by UCUM when their units differ; None when they cannot be compared."""
    (x, unit), (y, other) = _amount(a), _amount(b)
    if x is None or y is None:
        return None
    if unit != other:
        converted = units.convert(y, other, unit)
        if converted is None:
            return None
        y = converted
    return (x > y) - (x < y)


def compare(a: Node, b: Node) -> int | None:
    """-1, 0 or 1; None when not known."""
    x, y = a.v, b.v
    if type(x) is dict and type(y) is dict:
        return compare_quantities(x, y)
    if numeric(x) and numeric(y):
        x, y = number(a), number(b)
        return (x > y) - (x < y)
    if type(x) is str and type(y) is str:
        if a.t in DATES or b.t in DATES:
            return compare_moments(x, y)
        return (x > y) - (x < y)
    if x is None or y is None:
        return None
    raise FhirPathError("these values have no order")


def equal(left: list[Node], right: list[Node]) -> bool | None:
    """FHIRPath ``=``: None when a side is empty or the precision does not tell."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    unknown = False
    for a, b in zip(left, right, strict=True):
        one = _same(a, b)
        if one is False:
            return False
        unknown |= one is None
    return None if unknown else True


def _same(a: Node, b: Node) -> bool | None:
    x, y = a.v, b.v
    if type(x) is str and type(y) is str:
        if a.t in DATES and b.t in DATES and x != y:
            order = compare_moments(x, y)
            return None if order is None else order == 0
        return x == y
    if type(x) is dict and type(y) is dict and (a.t in QUANTITIES or b.t in QUANTITIES):
        order = compare_quantities(x, y)
        return frozen(x) == frozen(y) if order is None else order == 0
    if x is None or y is None:
        return None if x is y else False
    if type(x) is bool or type(y) is bool:
        return x is y
    if numeric(x) and numeric(y):
        return bool(number(a) == number(b))
    return bool(frozen(x) == frozen(y))


def equivalent(left: list[Node], right: list[Node]) -> bool:
    """FHIRPath ``~``: order does not matter, case and blanks of strings neither, two empties are equivalent."""
    return sorted(map(_loose, left)) == sorted(map(_loose, right))


def _loose(node: Node) -> str:
    value = node.v
    if type(value) is str:
        return repr(" ".join(value.lower().split()))
    if type(value) is dict and node.t in ("Coding", "CodeableConcept"):
        codings = value.get("coding", []) if node.t == "CodeableConcept" else [value]
        return (
            repr(sorted((str(c.get("system")), str(c.get("code"))) for c in codings))
            if codings
            else repr(value.get("text"))
        )
    if numeric(value):
        return repr(Decimal(str(value)).normalize())
    return repr(sorted(map(repr, frozen(value)))) if type(value) is dict else repr(value)
