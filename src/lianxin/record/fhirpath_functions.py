"""The functions of FHIRPath: each ``fn(context, input, arguments) -> result``; arguments are closures."""

import math
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Any

import re2

from lianxin.record import validate_text
from lianxin.record.fhirpath_values import (
    DATES,
    Context,
    FhirPathError,
    Function,
    Node,
    Run,
    boolean,
    children,
    number,
    numeric,
    single,
    token,
    unique,
)
from lianxin.standards import clock

TRUE = Node(True, "System.Boolean")
FALSE = Node(False, "System.Boolean")
FUNCTIONS: dict[str, tuple[Function, int, int]] = {}


_OPTIONS = re2.Options()
_OPTIONS.max_mem = 4 << 20
_OPTIONS.log_errors = False
_OPTIONS.dot_nl = True


@lru_cache(maxsize=1024)
def pattern(source: str) -> Any:
    """A compiled pattern: by RE2, so that no pattern can run away on any text; no look-around or back references."""
    try:
        if len(source) > 2000:
            raise FhirPathError("the pattern is too long")
        return re2.compile(source, _OPTIONS)
    except re2.error as error:
        raise FhirPathError(f"bad or unsupported pattern: {error}") from None


def function(name: str, least: int = 0, most: int | None = None) -> Any:
    """Register a function with its number of arguments."""

    def register(fn: Function) -> Function:
        FUNCTIONS[name] = (fn, least, least if most is None else most)
        return fn

    return register


def find(name: str, given: int) -> Function:
    """The function of a name taking that many arguments."""
    row = FUNCTIONS.get(name)
    if row is None:
        raise FhirPathError(f"unknown function {name}()")
    if not row[1] <= given <= row[2]:
        raise FhirPathError(f"{name}() does not take {given} arguments")
    return row[0]


def truth(value: bool) -> list[Node]:
    """A boolean result."""
    return [TRUE if value else FALSE]


def text(value: str) -> list[Node]:
    """A string result."""
    return [Node(value, "System.String")]


def whole(value: int) -> list[Node]:
    """An integer result."""
    return [Node(value, "System.Integer")]


def each(c: Context, nodes: list[Node], run: Run) -> Iterator[tuple[Node, list[Node]]]:
    """Evaluate an argument for every node, with ``$this`` and ``$index``."""
    this, index = c.this, c.index
    try:
        for i, node in enumerate(c.walk(nodes)):
            c.this = [node]
            c.index = [Node(i, "System.Integer")]
            yield node, run(c, c.this)
    finally:
        c.this, c.index = this, index


def argument(c: Context, run: Run) -> list[Node]:
    """A plain argument, evaluated where the call stands."""
    return run(c, c.this if c.this is not None else [c.context])


# -- existence ----------------------------------------------------------------------------------------------------------


@function("exists", 0, 1)
def _exists(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth(any(boolean(r) for _, r in each(c, f, a[0])) if a else bool(f))


@function("empty")
def _empty(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth(not f)


@function("not")
def _not(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    value = boolean(f)
    return [] if value is None else truth(not value)


@function("hasValue")
def _has_value(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth(len(f) == 1 and f[0].v is not None and type(f[0].v) is not dict)


@function("getValue")
def _get_value(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f if len(f) == 1 and f[0].v is not None and type(f[0].v) is not dict else []


@function("all", 1)
def _all(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth(all(boolean(r) for _, r in each(c, f, a[0])))


for _name, _wanted, _some in (("allTrue", True, False), ("anyTrue", True, True), ("allFalse", False, False), ("anyFalse", False, True)):  # fmt: skip

    def _booleans(
        c: Context, f: list[Node], a: list[Run], wanted: bool = _wanted, some: bool = _some
    ) -> list[Node]:
        return truth((any if some else all)(x.v is wanted for x in c.walk(f)))

    function(_name)(_booleans)


@function("subsetOf", 1)
def _subset(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth({token(x) for x in c.walk(f)} <= {token(x) for x in c.walk(argument(c, a[0]))})


@function("supersetOf", 1)
def _superset(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth({token(x) for x in c.walk(f)} >= {token(x) for x in c.walk(argument(c, a[0]))})


@function("count")
def _count(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return whole(len(f))


@function("distinct")
def _distinct(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return unique(c, f)


@function("isDistinct")
def _is_distinct(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth(len(unique(c, f)) == len(f))


# -- filtering, choosing, combining -------------------------------------------------------------------------------------


@function("where", 1)
def _where(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [node for node, r in each(c, f, a[0]) if boolean(r)]


@function("select", 1)
def _select(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [x for _, r in each(c, f, a[0]) for x in r]


@function("repeat", 1)
def _repeat(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    found: list[Node] = []
    seen: set[Any] = set()
    todo = f
    while todo:
        fresh = []
        for _, r in each(c, todo, a[0]):
            for node in r:
                mark = token(node)
                if mark not in seen:
                    seen.add(mark)
                    fresh.append(node)
        found += fresh
        todo = fresh
    return found


@function("single")
def _single(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return single(f)


@function("first")
def _first(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f[:1]


@function("last")
def _last(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f[-1:]


@function("tail")
def _tail(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f[1:]


@function("skip", 1)
def _skip(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f[max(0, _int(argument(c, a[0]))) :]


@function("take", 1)
def _take(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f[: max(0, _int(argument(c, a[0])))]


@function("intersect", 1)
def _intersect(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    other = {token(x) for x in c.walk(argument(c, a[0]))}
    return unique(c, [x for x in f if token(x) in other])


@function("exclude", 1)
def _exclude(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    other = {token(x) for x in c.walk(argument(c, a[0]))}
    return [x for x in f if token(x) not in other]


@function("union", 1)
def _union(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return unique(c, f + argument(c, a[0]))


@function("combine", 1)
def _combine(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f + argument(c, a[0])


@function("iif", 2, 3)
def _iif(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    if boolean(a[0](c, f)):
        return a[1](c, f)
    return a[2](c, f) if len(a) > 2 else []


@function("aggregate", 1, 2)
def _aggregate(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    before = c.total
    c.total = argument(c, a[1]) if len(a) > 1 else []
    try:
        for _, r in each(c, f, a[0]):
            c.total = r
        return c.total
    finally:
        c.total = before


@function("children")
def _children(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [x for node in f for x in children(c, node)]


@function("descendants")
def _descendants(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    found: list[Node] = []
    todo = f
    while todo:
        todo = [x for node in todo for x in children(c, node)]
        found += todo
    return found


@function("extension", 1)
def _extension(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    url = [x.v for x in argument(c, a[0])]
    return [
        x for node in f for x in children(c, node, "extension") if type(x.v) is dict and x.v.get("url") in url
    ]


@function("resolve")
def _resolve(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    """Contained resources, and entries of the bundle the resource is: nothing else is fetched."""
    found = []
    for node in c.walk(f):
        reference = node.v.get("reference") if type(node.v) is dict else node.v
        if type(reference) is not str:
            continue
        if reference == "#":
            found.append(c.rootResource)
        elif reference[:1] == "#":
            contained = children(c, c.rootResource, "contained")
            found += [x for x in contained if type(x.v) is dict and x.v.get("id") == reference[1:]]
        elif c.rootResource.t == "Bundle":
            for entry in children(c, c.rootResource, "entry"):
                full = entry.v.get("fullUrl", "")
                if full == reference or (":" not in reference and full.endswith("/" + reference)):
                    found += children(c, entry, "resource")
    return found


@function("trace", 1, 2)
def _trace(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return f


@function("htmlChecks")
def _html(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return truth(all(type(x.v) is str and validate_text.safe_xhtml(x.v) for x in f))


@function("now")
def _now(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [Node(clock.now().isoformat(timespec="milliseconds"), "System.DateTime")]


@function("today")
def _today(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [Node(clock.now().astimezone(clock.ZONE).date().isoformat(), "System.Date")]


@function("timeOfDay")
def _time_of_day(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [Node(clock.now().astimezone(clock.ZONE).strftime("%H:%M:%S"), "System.Time")]


# -- conversion ---------------------------------------------------------------------------------------------------------


def _to_integer(value: Any) -> Any:
    if type(value) is bool:
        return int(value)
    if type(value) is int:
        return value
    return int(value) if type(value) is str and re.fullmatch(r"[+-]?\d{1,18}", value) else None


def _to_decimal(value: Any) -> Any:
    if type(value) is bool:
        return Decimal(int(value))
    if numeric(value):
        return Decimal(str(value))
    return (
        Decimal(value) if type(value) is str and re.fullmatch(r"[+-]?\d{1,40}(\.\d{1,40})?", value) else None
    )


def _to_string(value: Any) -> Any:
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float or type(value) is Decimal:
        return format(Decimal(repr(value)) if type(value) is float else value, "f")
    return None if type(value) is dict or value is None else str(value)


def _to_boolean(value: Any) -> Any:
    if type(value) is bool:
        return value
    low = value.lower() if type(value) is str else value
    if low in ("true", "t", "yes", "y", "1", "1.0") or (numeric(low) and low == 1):
        return True
    return False if low in ("false", "f", "no", "n", "0", "0.0") or (numeric(low) and low == 0) else None


def _pattern_of(kind: str) -> Any:
    check = validate_text.checker(kind)
    return lambda v: (
        v if check(v) else (v[:10] if kind == "date" and type(v) is str and check(v[:10]) else None)
    )


for _name, _convert, _type in (
    ("Integer", _to_integer, "System.Integer"),
    ("Decimal", _to_decimal, "System.Decimal"),
    ("String", _to_string, "System.String"),
    ("Boolean", _to_boolean, "System.Boolean"),
    ("Date", _pattern_of("date"), "System.Date"),
    ("DateTime", _pattern_of("dateTime"), "System.DateTime"),
    ("Time", _pattern_of("time"), "System.Time"),
):

    def _to(
        c: Context, f: list[Node], a: list[Run], convert: Any = _convert, kind: str = _type
    ) -> list[Node]:
        made = [convert(x.v) for x in single(f)]
        return [Node(v, kind) for v in made if v is not None]

    def _converts(c: Context, f: list[Node], a: list[Run], convert: Any = _convert) -> list[Node]:
        return [TRUE if convert(x.v) is not None else FALSE for x in single(f)]

    function("to" + _name)(_to)
    function("convertsTo" + _name)(_converts)


@function("toQuantity", 0, 1)
def _to_quantity(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [
        x if type(x.v) is dict else Node({"value": number(x), "code": "1"}, "Quantity") for x in single(f)
    ]


# -- strings ------------------------------------------------------------------------------------------------------------


def _string(nodes: list[Node]) -> str | None:
    if not nodes or single(nodes)[0].v is None:
        return None
    value = nodes[0].v
    if type(value) is not str:
        raise FhirPathError("a string was expected")
    return value


def _int(nodes: list[Node]) -> int:
    return int(number(single(nodes)[0])) if nodes else 0


def _plain(name: str, made: Any, most: int = 1) -> None:
    """A string function of one string argument: empty when either is."""

    def run(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
        value, other = _string(f), _string(argument(c, a[0])) if a else None
        if value is None or other is None:
            return []
        c.spend(1 + len(value) // 100)
        result = made(value, other)
        return (
            truth(result) if type(result) is bool else whole(result) if type(result) is int else text(result)
        )

    function(name, 1, most)(run)


_plain("startsWith", lambda v, o: v.startswith(o))
_plain("endsWith", lambda v, o: v.endswith(o))
_plain("contains", lambda v, o: o in v)
_plain("indexOf", lambda v, o: v.find(o))
_plain("lastIndexOf", lambda v, o: v.rfind(o))
_plain("matches", lambda v, o: pattern(o).search(v) is not None)
_plain("matchesFull", lambda v, o: pattern(o).fullmatch(v) is not None)

for _name, _made in (
    ("upper", str.upper),
    ("lower", str.lower),
    ("trim", str.strip),
):

    def _change(c: Context, f: list[Node], a: list[Run], made: Any = _made) -> list[Node]:
        value = _string(f)
        return [] if value is None else text(made(value))

    function(_name)(_change)


@function("length")
def _length(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    value = _string(f)
    return [] if value is None else whole(len(value))


@function("toChars")
def _chars(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return [Node(x, "System.String") for x in _string(f) or ""]


@function("substring", 1, 2)
def _substring(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    value = _string(f)
    start = _int(argument(c, a[0]))
    if value is None or not 0 <= start < len(value):
        return []
    return text(value[start : start + _int(argument(c, a[1]))] if len(a) > 1 else value[start:])


@function("replace", 2)
def _replace(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    value, old, new = _string(f), _string(argument(c, a[0])), _string(argument(c, a[1]))
    if value is None or old is None or new is None:
        return []
    c.spend((len(value) + 1) * (len(new) + 1) // 100)
    return text(value.replace(old, new))


@function("replaceMatches", 2)
def _replace_matches(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    value, old, new = _string(f), _string(argument(c, a[0])), _string(argument(c, a[1]))
    if value is None or old is None or new is None:
        return []
    c.spend((len(value) + 1) * (len(new) + 1) // 100)
    try:
        return text(pattern(old).sub(re.sub(r"\$(\d)", r"\\\1", new), value))
    except (re2.error, IndexError) as error:
        raise FhirPathError(f"bad replacement: {error}") from None


@function("split", 1)
def _split(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    value, by = _string(f), _string(argument(c, a[0]))
    return [] if value is None or not by else [Node(x, "System.String") for x in value.split(by)]


@function("join", 0, 1)
def _join(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    by = (_string(argument(c, a[0])) or "") if a else ""
    return text(by.join(str(x.v) for x in c.walk(f))) if f else []


# -- arithmetic ---------------------------------------------------------------------------------------------------------


def arithmetic(op: str, left: list[Node], right: list[Node]) -> list[Node]:
    """``+ - * / div mod &``; empty when a side is empty (``&``: an empty side is an empty string) or the divisor is zero."""
    if op == "&":
        return text("".join(str(_to_string(x.v) or "") for x in [*single(left), *single(right)]))
    if not single(left) or not single(right):
        return []
    a, b = left[0], right[0]
    if type(a.v) is str or type(b.v) is str:
        if op == "+" and type(a.v) is str and type(b.v) is str and a.t not in DATES:
            return text(a.v + b.v)
        raise FhirPathError(f"{op} is not defined for these values")
    x, y = number(a), number(b)
    if op in ("/", "div", "mod") and y == 0:
        return []
    with localcontext() as decimal:
        decimal.prec = 28
        try:
            value = {
                "+": lambda: x + y,
                "-": lambda: x - y,
                "*": lambda: x * y,
                "/": lambda: Decimal(x) / Decimal(y),
                "div": lambda: int(Decimal(x) / Decimal(y)),
                "mod": lambda: x - y * int(Decimal(x) / Decimal(y)),
            }[op]()
        except (InvalidOperation, OverflowError, ArithmeticError) as error:
            raise FhirPathError(f"{op} overflows") from error
    if type(value) is int and value.bit_length() > 200:
        raise FhirPathError(f"{op} overflows")
    return [Node(value, "System.Integer" if type(value) is int else "System.Decimal")]


for _name, _calculate in (
    ("abs", abs),
    ("ceiling", math.ceil),
    ("floor", math.floor),
    ("truncate", math.trunc),
    ("sqrt", lambda v: Decimal(v).sqrt() if v >= 0 else None),
):

    def _math(c: Context, f: list[Node], a: list[Run], calculate: Any = _calculate) -> list[Node]:
        made = [calculate(number(x)) for x in single(f)]
        return [
            Node(v, "System.Integer" if type(v) is int else "System.Decimal") for v in made if v is not None
        ]

    function(_name)(_math)


@function("round", 0, 1)
def _round(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    digits = max(0, min(20, _int(argument(c, a[0])))) if a else 0
    return [
        Node(Decimal(number(x)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP), "System.Decimal")
        for x in single(f)
    ]


@function("type")
def _type_of(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    return text(f[0].t) if f else []


@function("memberOf", 1)
def _member_of(c: Context, f: list[Node], a: list[Run]) -> list[Node]:
    """Whether a code, Coding or CodeableConcept is in a value set; nothing when the value set is not held."""
    from lianxin.record import bindings

    url = _string(argument(c, a[0]))
    found = [bindings.within(url, x.v) for x in single(f)] if url else []
    return [TRUE if one else FALSE for one in found if one is not None]
