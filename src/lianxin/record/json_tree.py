"""JSON text as a tree that is opened only where it is touched: everything else keeps its exact text (``1.10`` stays ``1.10``).

A :class:`Node` holds text; :meth:`Node.members` and :meth:`Node.elements` open it one level.  :meth:`Node.text` gives the text
back: untouched parts as they were, opened ones without blanks between their members.
"""

import json
from decimal import Decimal
from typing import Any

import msgspec
import orjson

_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


class Node:
    """A JSON value: its text, or its opened members or elements."""

    __slots__ = ("_raw", "_some")

    def __init__(self, raw: bytes) -> None:
        """``raw`` must be valid JSON text."""
        self._raw: bytes = raw.strip()
        self._some: dict[str, Node] | list[Node] | None = None

    @classmethod
    def of(cls, value: Any) -> "Node":
        """A node of a plain value (or of what already is one)."""
        if isinstance(value, Node):
            return value
        if isinstance(value, dict | list):
            node = cls(b"{}" if isinstance(value, dict) else b"[]")
            node._some = (
                {k: cls.of(v) for k, v in value.items()}
                if isinstance(value, dict)
                else [cls.of(v) for v in value]
            )
            return node
        return cls(orjson.dumps(value))

    @property
    def kind(self) -> str:
        """``{``, ``[``, ``"``, ``n`` (null), ``t``, ``f``, or ``0`` for a number."""
        first = self._raw[:1].decode()
        return first if first in '{["ntf' else "0"

    def members(self) -> dict[str, "Node"]:
        """The members of an object, opened: changing the dict changes the node."""
        if self._some is None:
            self._some = {k: Node(bytes(v)) for k, v in _object.decode(self._raw).items()}
        assert isinstance(self._some, dict)
        return self._some

    def elements(self) -> list["Node"]:
        """The elements of an array, opened: changing the list changes the node."""
        if self._some is None:
            self._some = [Node(bytes(v)) for v in _array.decode(self._raw)]
        assert isinstance(self._some, list)
        return self._some

    def text(self) -> bytes:
        """The JSON text."""
        if self._some is None:
            return self._raw
        if isinstance(self._some, dict):
            return b"{" + b",".join(orjson.dumps(k) + b":" + v.text() for k, v in self._some.items()) + b"}"
        return b"[" + b",".join(v.text() for v in self._some) + b"]"

    def copy(self) -> "Node":
        """A node of its own with the same text."""
        return Node(self.text())

    def value(self) -> Any:
        """The plain value; numbers are Decimals."""
        return json.loads(self.text(), parse_int=Decimal, parse_float=Decimal)

    def same(self, other: "Node") -> bool:
        """Whether two nodes are equal as JSON: numbers by value, objects in any order, true is not 1."""
        return equal(self.value(), other.value())


def equal(one: Any, two: Any) -> bool:
    """Equality of plain JSON values, where true is not 1."""
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(equal(v, two[k]) for k, v in one.items())
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(equal(a, b) for a, b in zip(one, two, strict=True))
    return isinstance(one, bool) == isinstance(two, bool) and one == two
