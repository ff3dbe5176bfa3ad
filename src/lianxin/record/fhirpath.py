"""FHIRPath (N1 with the R4 additions) compiled to Python closures: invariants, profile rules, slicing.

    compile("component.where(code.exists()).value")(Node.of(resource))

Written for the validator: choice elements go by their stem (``value``), types come from the R4 tables, every evaluation
has a budget of steps (``TooCostly`` when it is spent), distinctness is by hashing, and patterns that could run away are
refused.  ``fhirpathpy`` is the oracle in the tests.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from lianxin.record import fhirpath_functions as functions
from lianxin.record.fhirpath_values import (
    Context,
    FhirPathError,
    Node,
    Run,
    TooCostly,
    boolean,
    children,
    compare,
    equal,
    equivalent,
    fields,
    is_type,
    literal,
    number,
    single,
    unique,
)

__all__ = ["FhirPathError", "Node", "TooCostly", "compile", "holds"]

TOKEN = re.compile(
    r"""\s+ | //[^\n]* | /\*.*?\*/
    | (?P<date>@T?\d[\d\-:.TZ+]*)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<string>'(?:[^'\\]|\\.)*')
    | (?P<name>[A-Za-z_]\w*|`(?:[^`\\]|\\.)*`)
    | (?P<outside>%(?:[A-Za-z_][\w\-]*|'[^']*'|`[^`]*`))
    | (?P<special>\$\w+)
    | (?P<op><=|>=|!=|!~|[~=<>|&+\-*/()\[\].,{}])""",
    re.X | re.S,
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
LEVELS = {
    "implies": 1, "or": 2, "xor": 2, "and": 3, "in": 4, "contains": 4, "=": 5, "~": 5, "!=": 5, "!~": 5, "<": 6, "<=": 6, ">": 6,
    ">=": 6, "|": 7, "is": 8, "as": 8, "+": 9, "-": 9, "&": 9, "*": 10, "/": 10, "div": 10, "mod": 10,
}  # fmt: skip
UNITS = ("year", "month", "week", "day", "hour", "minute", "second", "millisecond")
CONSTANTS = {
    "%ucum": "http://unitsofmeasure.org",
    "%sct": "http://snomed.info/sct",
    "%loinc": "http://loinc.org",
}
MAX_LENGTH = 20_000
MAX_NESTED = 60


def unescape(text: str) -> str:
    """The text of a quoted literal without its quotes."""
    return re.sub(
        r"\\(?:u([0-9a-fA-F]{4})|(.))",
        lambda m: chr(int(m[1], 16)) if m[1] else ESCAPES.get(m[2], m[2]),
        text[1:-1],
        flags=re.S,
    )


class Parser:
    """Operator-precedence parser that makes closures ``(context, focus) -> result``."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise FhirPathError("the expression is too long")
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while at < len(text):
            match = TOKEN.match(text, at)
            if match is None:
                raise FhirPathError(f"unexpected character at {at}: {text[at : at + 20]!r}")
            at = match.end()
            if match.lastgroup:
                self.tokens.append((match.lastgroup, match[match.lastgroup]))
        self.tokens.append(("end", ""))
        self.at = 0
        self.nested = 0

    @property
    def ahead(self) -> str:
        """The next token's text (quoted strings stand for themselves, never for an operator)."""
        kind, text = self.tokens[self.at]
        return text if kind in ("op", "name") and not text.startswith("`") else ""

    def take(self, wanted: str = "") -> tuple[str, str]:
        """The next token, which must be ``wanted`` when given."""
        token = self.tokens[self.at]
        if (wanted and token[1] != wanted) or token[0] == "end":
            raise FhirPathError(f"expected {wanted or 'more'} and found {token[1]!r}")
        self.at += 1
        return token

    def whole(self) -> Run:
        """The whole expression."""
        made = self.expression(0)
        if self.tokens[self.at][0] != "end":
            raise FhirPathError(f"unexpected {self.tokens[self.at][1]!r}")
        return made

    def expression(self, level: int) -> Run:
        """An expression whose operators bind at least as tightly as ``level``."""
        self.nested += 1
        if self.nested > MAX_NESTED:
            raise FhirPathError("the expression is nested too deeply")
        left = self.unary()
        while LEVELS.get(self.ahead, 0) > level:
            op = self.take()[1]
            if op in ("is", "as"):
                name = self.type_name()
                left = _typed(op, left, name)
            else:
                left = _binary(op, left, self.expression(LEVELS[op]))
        self.nested -= 1
        return left

    def type_name(self) -> str:
        """A possibly qualified type name."""
        name = self.take()[1].strip("`")
        while self.ahead == ".":
            self.take(".")
            name += "." + self.take()[1].strip("`")
        return name

    def unary(self) -> Run:
        """A term with its sign and what follows it."""
        if self.ahead in ("+", "-"):
            sign = self.take()[1]
            inner = self.unary()
            return inner if sign == "+" else lambda c, f: [Node(-number(x), x.t) for x in single(inner(c, f))]
        made = self.term()
        while self.ahead in (".", "["):
            if self.take()[1] == ".":
                made = self.invocation(made)
            else:
                made = _indexed(made, self.expression(0))
                self.take("]")
        return made

    def term(self) -> Run:
        """A literal, a name, a function call, a constant or a parenthesis."""
        kind, text = self.tokens[self.at]
        if kind == "op" and text == "(":
            self.take()
            made = self.expression(0)
            self.take(")")
            return made
        if kind == "op" and text == "{":
            self.take()
            self.take("}")
            return lambda c, f: []
        if kind == "name":
            if text in ("true", "false") and self.tokens[self.at + 1][1] != "(":
                self.take()
                node = [Node(text == "true", "System.Boolean")]
                return lambda c, f: node
            return self.invocation(None)
        self.take()
        if kind == "string":
            node = [Node(unescape(text), "System.String")]
        elif kind == "number":
            node = [literal(text)]
            unit = self.tokens[self.at]
            if unit[0] == "string" or (unit[0] == "name" and unit[1].removesuffix("s") in UNITS):
                self.take()
                code = unescape(unit[1]) if unit[0] == "string" else unit[1].removesuffix("s")
                node = [Node({"value": node[0].v, "code": code}, "Quantity")]
        elif kind == "date":
            text = text[1:]
            shape = "System.Time" if text[0] == "T" else "System.DateTime" if "T" in text else "System.Date"
            node = [Node(text.removeprefix("T") if shape == "System.Time" else text.removesuffix("T"), shape)]
        elif kind == "outside":
            return _outside(text)
        elif kind == "special" and text == "$this":
            return lambda c, f: f if c.this is None else c.this
        elif kind == "special" and text in ("$index", "$total"):
            return lambda c, f: c.index if text == "$index" else c.total
        else:
            raise FhirPathError(f"unexpected {text!r}")
        return lambda c, f: node

    def invocation(self, before: Run | None) -> Run:
        """A member or a function applied to what stands before (None: to the focus)."""
        kind, text = self.take()
        if kind == "special":
            self.at -= 1
            return self.term()
        if kind != "name":
            raise FhirPathError(f"unexpected {text!r}")
        if self.ahead == "(":
            return self.call(before, text)
        name = unescape(text) if text.startswith("`") else text
        return _member(before, name)

    def call(self, before: Run | None, name: str) -> Run:
        """A function call; type arguments stay names, the others are closures."""
        self.take("(")
        if name in ("is", "as", "ofType"):
            argument = self.type_name()
            self.take(")")
            return _typed(name, before or _focus, argument)
        arguments = []
        while self.ahead != ")":
            arguments.append(self.expression(0))
            if self.ahead != ")":
                self.take(",")
        self.take(")")
        if name in ("exists", "empty") and not arguments and before is not None and hasattr(before, "member"):
            return _presence(before.member, name == "exists")
        made = functions.find(name, len(arguments))
        run = before or _focus
        return lambda c, f: made(c, run(c, f), arguments)


def _focus(context: Context, focus: list[Node]) -> list[Node]:
    return focus


def _outside(text: str) -> Run:
    name = "%" + text[1:].strip("'`")
    if name in ("%resource", "%rootResource", "%context"):
        key = name[1:]
        return lambda c, f: [getattr(c, key)]
    value = CONSTANTS.get(name)
    if name.startswith("%vs-"):
        value = f"http://hl7.org/fhir/ValueSet/{name[4:]}"
    elif name.startswith("%ext-"):
        value = f"http://hl7.org/fhir/StructureDefinition/{name[5:]}"
    if value is None:
        raise FhirPathError(f"unknown constant {name}")
    node = [Node(value, "System.String")]
    return lambda c, f: node


def _member(before: Run | None, name: str) -> Run:
    def run(context: Context, focus: list[Node]) -> list[Node]:
        found: list[Node] = []
        for node in focus if before is None else before(context, focus):
            if before is None and name[:1].isupper() and is_type(node, name):
                found.append(node)
            else:
                found += children(context, node, name)
        return found

    if before is None:
        run.member = name  # type: ignore[attr-defined]
    return run


def _presence(name: str, wanted: bool) -> Run:
    """``name.exists()`` and ``name.empty()`` of the focus: the usual invariant, without making nodes."""

    def run(context: Context, focus: list[Node]) -> list[Node]:
        for node in focus:
            if type(node.v) is not dict or name[:1].isupper():
                if _member(None, name)(context, [node]):
                    return _truth(wanted)
                continue
            for key, _ in fields(node.t).get(name, ()):
                if key in node.v or "_" + key in node.v:
                    return _truth(wanted)
        return _truth(not wanted)

    return run


def _indexed(run: Run, index: Run) -> Run:
    def pick(context: Context, focus: list[Node]) -> list[Node]:
        items = run(context, focus)
        at = single(index(context, focus))
        if not at:
            return []
        i = int(number(at[0]))
        return [items[i]] if 0 <= i < len(items) else []

    return pick


def _typed(op: str, run: Run, name: str) -> Run:
    if op == "is":
        return lambda c, f: [Node(is_type(x, name), "System.Boolean") for x in single(run(c, f))]
    return lambda c, f: [x for x in run(c, f) if is_type(x, name)]


def _truth(value: bool | None) -> list[Node]:
    return [] if value is None else [functions.TRUE if value else functions.FALSE]


def _binary(op: str, left: Run, right: Run) -> Run:
    if op in ("and", "or", "xor", "implies"):
        return _logical(op, left, right)
    if op in ("=", "!="):
        wanted = op == "="

        def equals(c: Context, f: list[Node]) -> list[Node]:
            result = equal(left(c, f), right(c, f))
            return _truth(None if result is None else result is wanted)

        return equals
    if op in ("~", "!~"):
        return lambda c, f: _truth(equivalent(left(c, f), right(c, f)) is (op == "~"))
    if op in ("<", "<=", ">", ">="):

        def ordered(c: Context, f: list[Node]) -> list[Node]:
            a, b = single(left(c, f)), single(right(c, f))
            order = compare(a[0], b[0]) if a and b else None
            if order is None:
                return []
            return _truth({"<": order < 0, "<=": order <= 0, ">": order > 0, ">=": order >= 0}[op])

        return ordered
    if op == "|":
        return lambda c, f: unique(c, left(c, f) + right(c, f))
    if op in ("in", "contains"):
        one, many = (left, right) if op == "in" else (right, left)

        def within(c: Context, f: list[Node]) -> list[Node]:
            a = single(one(c, f))
            return _truth(any(equal(a, [x]) for x in c.walk(many(c, f)))) if a else []

        return within
    return lambda c, f: functions.arithmetic(op, left(c, f), right(c, f))


def _logical(op: str, left: Run, right: Run) -> Run:
    def run(c: Context, f: list[Node]) -> list[Node]:
        a = boolean(left(c, f))
        if (op, a) in (("and", False), ("or", True), ("implies", False)):
            return _truth(op != "and")
        b = boolean(right(c, f))
        if op == "and":
            return _truth(False if b is False else (True if a and b else None))
        if op == "or":
            return _truth(True if b else (False if a is False and b is False else None))
        if op == "xor":
            return _truth(None if a is None or b is None else a is not b)
        return _truth(True if b else (b if a else None))

    return run


@lru_cache(maxsize=4096)
def compile(expression: str) -> Callable[..., list[Node]]:
    """The expression as ``fn(node, resource=None, root=None, budget=...) -> [Node]``; FhirPathError when it is none."""
    run = Parser(expression).whole()

    def evaluate(
        node: Node, resource: Node | None = None, root: Node | None = None, budget: int = 200_000
    ) -> list[Node]:
        context = Context(node, resource or node, root or resource or node, budget)
        return run(context, [node])

    return evaluate


def holds(
    expression: str, node: Node, resource: Node | None = None, root: Node | None = None, **more: Any
) -> bool:
    """Whether a rule is true of a node (an empty result is not)."""
    return boolean(compile(expression)(node, resource, root, **more)) is True
