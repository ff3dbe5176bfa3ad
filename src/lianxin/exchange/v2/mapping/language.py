"""The expressions of a mapping: what an element is made from, and when.

::

    OBX-3.1                          field 3, component 1 of the nearest OBX (OBX-3.1.2: sub-component)
    $status                          a value that hangs on the event (``events`` of the mapping)
    time(OBX-14 | OBR-7)             a function; ``|``: the first that says something
    'text', F, 12                    constants
    OBX-11 in (X, D) and not OBX-5   a condition

:func:`value` and :func:`condition` read them into tuples that the compiler turns into closures.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from lianxin.standards.text import T, Text


class Path(NamedTuple):
    """A place in a segment; ``component`` 0: the field as a whole; ``field`` 0: the segment."""

    segment: str
    field: int = 0
    component: int = 0
    sub: int = 0

    def __str__(self) -> str:
        tail = "".join(f".{n}" for n in (self.component, self.sub) if n)
        return f"{self.segment}-{self.field}{tail}" if self.field else self.segment


class Const(NamedTuple):
    """A word that stands for itself."""

    text: str


class Var(NamedTuple):
    """A value that hangs on the event."""

    name: str


class Call(NamedTuple):
    """A function of the table with its arguments."""

    name: str
    args: tuple[Any, ...]


class Either(NamedTuple):
    """The first that says something."""

    of: tuple[Any, ...]


class Test(NamedTuple):
    """A condition: ``op`` is ``and or not is among``; ``of`` its parts."""

    op: str
    of: tuple[Any, ...]


Node = Any


class Unreadable(ValueError):
    """An expression that is none; ``text`` says why."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.en)
        self.text = text


_TOKEN = re.compile(
    r"\s*(?:(?P<path>[A-Z][A-Z0-9]{2}(?:-\d{1,3}(?:\.\d{1,3}){0,2})?(?![\w-]))"
    r"|(?P<var>\$[a-z_]+)|'(?P<str>[^']*)'|(?P<word>[^\W\d][\w-]*)|(?P<num>\d+)|(?P<op>!=|[()|,=]))"
)
_EXPRESSION = re.compile(r"[a-z_]+\(|[A-Z][A-Z0-9]{2}-\d|\$|'")
_PATH = re.compile(r"([A-Z][A-Z0-9]{2})(?:-(\d+)(?:\.(\d+)(?:\.(\d+))?)?)?")
_KEYWORDS = frozenset({"and", "or", "not", "in"})
DEEPEST = 20


def is_expression(text: str) -> bool:
    """Whether a value of a mapping is an expression (anything else stands for itself)."""
    return _EXPRESSION.match(text) is not None


def path_of(text: str) -> Path:
    """A path such as ``OBX-3.1``; :class:`Unreadable` when it is none."""
    found = _PATH.fullmatch(text.strip())
    if found is None:
        raise Unreadable(
            T("“{t}”不是段与字段，如 OBX-3.1。", "“{t}” is no segment and field such as OBX-3.1.").format(
                t=text[:40]
            )
        )
    return Path(found[1], *(int(n or 0) for n in found.groups()[1:]))


def value(text: str) -> Node:
    """Read an expression."""
    reader = _Reader(text)
    made = reader.either()
    reader.end()
    return made


def condition(text: str) -> Node:
    """Read a condition."""
    reader = _Reader(text)
    made = reader.any_of()
    reader.end()
    return made


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.tokens, self.at, self.depth = text, _tokens(text), 0, 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, kind: str, text: str = "") -> bool:
        if self.peek()[0] == kind and (not text or self.peek()[1] == text):
            self.at += 1
            return True
        return False

    def need(self, text: str) -> None:
        if not self.take("op", text):
            raise self.wrong()

    def wrong(self) -> Unreadable:
        here = self.peek()[1] or "…"
        return Unreadable(
            T("表达式“{t}”在“{h}”处读不懂。", "The expression “{t}” cannot be read at “{h}”.").format(
                t=self.text[:80], h=here[:30]
            )
        )

    def end(self) -> None:
        if self.at < len(self.tokens):
            raise self.wrong()

    def either(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.wrong()
        parts = [self.term()]
        while self.take("op", "|"):
            parts.append(self.term())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def term(self) -> Node:
        kind, text = self.peek()
        if kind in ("end", "op") or text in _KEYWORDS:
            raise self.wrong()
        self.at += 1
        if kind == "path":
            return path_of(text)
        if kind == "var":
            return Var(text[1:])
        if kind == "word" and self.take("op", "("):
            args: list[Node] = []
            while not self.take("op", ")"):
                if args:
                    self.need(",")
                args.append(self.either())
            return Call(text, tuple(args))
        return Const(text)

    def any_of(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.wrong()
        parts = [self.all_of()]
        while self.take("word", "or"):
            parts.append(self.all_of())
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Test("or", tuple(parts))

    def all_of(self) -> Node:
        parts = [self.one()]
        while self.take("word", "and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Test("and", tuple(parts))

    def one(self) -> Node:
        if self.take("word", "not"):
            return Test("not", (self.one(),))
        if self.take("op", "("):
            inner = self.any_of()
            self.need(")")
            return inner
        left = self.either()
        if self.take("op", "="):
            return Test("is", (left, self.either()))
        if self.take("op", "!="):
            return Test("not", (Test("is", (left, self.either())),))
        outside = self.take("word", "not")
        if self.take("word", "in"):
            made = Test("among", (left, self.words()))
            return Test("not", (made,)) if outside else made
        if outside:
            raise self.wrong()
        return left

    def words(self) -> tuple[str, ...]:
        self.need("(")
        out: list[str] = []
        while not self.take("op", ")"):
            if out:
                self.need(",")
            kind, text = self.peek()
            if kind in ("end", "op", "var"):
                raise self.wrong()
            self.at += 1
            out.append(text)
        return tuple(out)


def _tokens(text: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    at = 0
    plain = text.strip()
    while at < len(plain):
        found = _TOKEN.match(plain, at)
        if found is None:
            raise Unreadable(
                T("表达式“{t}”在“{h}”处读不懂。", "The expression “{t}” cannot be read at “{h}”.").format(
                    t=plain[:80], h=plain[at : at + 12]
                )
            )
        kind = found.lastgroup or ""
        out.append((kind, found[kind]))
        at = found.end()
    return out


def paths(node: Node) -> list[Path]:
    """Every path an expression reads, in order."""
    if isinstance(node, Path):
        return [node]
    if isinstance(node, Call):
        return [p for arg in node.args for p in paths(arg)]
    if isinstance(node, Either | Test):
        return [p for part in node.of if not isinstance(part, str) for p in paths(part)]
    return []
