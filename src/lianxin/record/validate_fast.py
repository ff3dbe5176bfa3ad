"""The quick check of a resource's text: everything ``validate_walk`` checks, decided by msgspec while it decodes.

For each type a msgspec Struct is made from the tables (known members only, required ones, required codes, lists that are
not empty); formats, references and choices are small hooks.  The decoded structs are thrown away: only "sound" or "ask the
walk" comes out.  It may say "ask" about sound resources (odd but allowed forms: ids on data types, values in several
parts); it never says "sound" of what the walk refuses.  About 8 µs for a small Observation.
"""

import operator
import re
import sys
import threading
import types
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from lianxin.record import definitions
from lianxin.record.validate_text import MAX_STRING, checker, reference_problem
from lianxin.record.validate_walk import MAX_DEPTH, Element, Shape, shape

# How a string that begins with a blank may look in compact JSON: such text is left to the walk.
BLANK_START = re.compile(rb'"(?:\xc2[\x85\xa0]|\xe1\x9a|\xe2\x80|\xe2\x81|\xe3\x80\x80)')
TEXT = Annotated[str, Meta(min_length=1, max_length=MAX_STRING)]
RANGES = {
    "integer": Annotated[int, Meta(ge=-2147483648, le=2147483647)],
    "unsignedInt": Annotated[int, Meta(ge=0, le=2147483647)],
    "positiveInt": Annotated[int, Meta(ge=1, le=2147483647)],
}
PLAIN: dict[str, Any] = {"string": TEXT, "markdown": TEXT, "boolean": bool, "decimal": float, **RANGES}


class Format:
    """A primitive format or a reference: ``ok`` is its check; one instance stands for every value of it."""

    ok: Callable[[Any], bool]
    one: "Format"


def _hook(kind: Any, value: Any) -> Any:
    if kind.ok(value):
        return kind.one
    raise ValueError(kind.__name__)


_home = types.ModuleType("lianxin.record._structs")  # where msgspec looks up the names in annotations
sys.modules[_home.__name__] = _home


@cache
def _format(name: str, kind: str, targets: frozenset[str] | None = None) -> type[Format]:
    if kind == "reference":
        ok: Callable[[Any], bool] = lambda v: (  # noqa: E731
            type(v) is str
            and v != ""
            and not v.isspace()
            and len(v) <= MAX_STRING
            and reference_problem(v, targets) == ""
        )
    elif kind == "type":
        uri, known = checker("uri"), definitions.types()
        ok = lambda v: uri(v) and (targets is None or v in targets or v not in known)  # noqa: E731
    elif kind == "never":
        ok = lambda v: False  # noqa: E731
    else:
        ok = checker(kind)
    made: type[Format] = type(name, (Format,), {"ok": staticmethod(ok)})
    made.one = made()
    setattr(_home, name, made)
    return made


def _identifier(name: str) -> str:
    return "T_" + name.replace(".", "_").replace("[x]", "_x")


_targets: dict[frozenset[str], int] = {}


def _annotation(element: Element, todo: set[tuple[str, frozenset[str] | None]]) -> Any:
    """The msgspec type of an element's single value; complex types by name, to be made later."""
    kind = element.type
    if element.codes is not None:
        return Literal[tuple(sorted(element.codes))]
    if kind in PLAIN:
        return PLAIN[kind]
    if element.primitive:
        return _format("F_" + kind, kind)
    if (
        kind == "Resource"
    ):  # contained ones are looked at one by one; of others (in Bundle, Parameters) the walk decides
        return msgspec.Raw if element.name == "contained" else _format("F_never", "never")
    todo.add((kind, element.targets if kind == "Reference" else None))
    return _struct_name(kind, element.targets)


def _struct_name(kind: str, targets: frozenset[str] | None) -> str:
    name = _identifier(kind)
    if kind == "Reference" and targets is not None:
        name += f"_{_targets.setdefault(targets, len(_targets))}"
    return name


def _groups(rules: Shape) -> Callable[[Any], None] | None:
    """The check of the choice groups of a shape, after decoding; ValueError when one is not kept."""
    stems: dict[str, list[str]] = {}
    for element in rules.keys.values():
        if element.choice and (rules.name != "Extension"):
            names = [element.name, "_" + element.name] if element.primitive else [element.name]
            stems.setdefault(element.choice, []).extend(names)
    needed = {name.removesuffix("[x]") for name, _ in rules.required if name.endswith("[x]")}
    tests = [
        (operator.attrgetter(*(_attribute(n) for n in names)), len(names) - 1, stem in needed)
        for stem, names in stems.items()
    ]
    if rules.name == "Extension":
        return _extension
    if not tests:
        return None

    def post(self: Any) -> None:
        for values, absent, required in tests:
            count = values(self).count(UNSET)
            if count < absent or (required and count != absent):
                raise ValueError("choice")

    return post


def _extension(self: Any) -> None:
    """``url`` and exactly one more member: a value or extensions (ext-1)."""
    if msgspec.structs.astuple(self).count(UNSET) != len(self.__struct_fields__) - 2:
        raise ValueError("ext-1")


def _attribute(name: str) -> str:
    return "m_" + name


def _make(kind: str, targets: frozenset[str] | None, todo: set[tuple[str, frozenset[str] | None]]) -> None:
    """Make the struct of one type in the home module."""
    rules = shape(kind)
    required = {name for name, _ in rules.required}
    lone = not required and not rules.resource  # a lone id would not do: leave ids to the walk
    fields: list[tuple[str, Any, Any]] = []
    rename = {}
    if rules.resource:
        fields.append(("m_resourceType", Literal[kind], msgspec.field()))
        rename["m_resourceType"] = "resourceType"
    shadows = []
    for key, element in rules.keys.items():
        if key == "id" and lone:
            continue
        if kind == "Reference" and key == "reference":
            number = "any" if targets is None else _targets[targets]
            single: Any = _format(f"R_{number}", "reference", targets)
        elif kind == "Reference" and key == "type" and targets is not None:
            single = _format(f"K_{_targets[targets]}", "type", targets)
        else:
            single = _annotation(element, todo)
        wanted: Any = single
        if element.many:
            wanted = Annotated[list[single], Meta(min_length=1, max_length=element.most or None)]
        attribute = _attribute(key)
        rename[attribute] = key
        if key in required:
            fields.append((attribute, wanted, msgspec.field()))
        else:
            fields.append((attribute, _optional(wanted), msgspec.field(default=UNSET)))
        if element.primitive and not element.many:
            todo.add(("Element", None))
            rename[_attribute("_" + key)] = "_" + key
            shadows.append(
                (_attribute("_" + key), _optional(_identifier("Element")), msgspec.field(default=UNSET))
            )
    if kind == "Element":  # beside a primitive: without extensions it says nothing
        fields = [(name, list_of, msgspec.field()) for name, list_of, _ in fields]
    namespace: dict[str, Any] = {}
    post = _groups(rules)
    if post is not None:
        namespace["__post_init__"] = post
    made = msgspec.defstruct(
        _struct_name(kind, targets),
        [*fields, *shadows],
        namespace=namespace,
        module=_home.__name__,
        rename=rename,
        forbid_unknown_fields=True,
        gc=False,
        kw_only=True,
    )
    setattr(_home, made.__name__, made)


def _optional(wanted: Any) -> Any:
    if isinstance(wanted, str):
        return f"{wanted} | UnsetType"
    return wanted | UnsetType


_home.UnsetType = UnsetType  # type: ignore[attr-defined]


_making = (
    threading.Lock()
)  # msgspec works out a Struct's fields when it is first decoded into: one thread at a time
_decoders: dict[str, msgspec.json.Decoder[Any]] = {}


def decoder(rtype: str) -> msgspec.json.Decoder[Any]:
    """The decoder of a resource type; making it takes some tens of milliseconds, once."""
    found = _decoders.get(rtype)
    if found is None:
        with _making:
            found = _decoders.get(rtype)
            if found is None:
                found = _decoders[rtype] = _decoder(rtype)
    return found


def _decoder(rtype: str) -> msgspec.json.Decoder[Any]:
    todo: set[tuple[str, frozenset[str] | None]] = {(rtype, None)}
    while todo:
        kind, targets = todo.pop()
        if not hasattr(_home, _struct_name(kind, targets)):
            _make(kind, targets, todo)
    return msgspec.json.Decoder(getattr(_home, _identifier(rtype)), dec_hook=_hook)


def _shallow(value: Any, left: int) -> bool:
    """Whether objects nest at most ``left`` deep."""
    if type(value) is dict:
        return left > 0 and all(
            _shallow(v, left - 1) for v in value.values() if type(v) is dict or type(v) is list
        )
    return all(_shallow(v, left) for v in value if type(v) is dict or type(v) is list)


def sound(raw: bytes, resource: dict[str, Any], compact: bytes) -> bool:
    """Whether a parsed resource is certainly sound; ``compact`` is the same in compact JSON."""
    rtype = resource.get("resourceType")
    if type(rtype) is not str or rtype not in definitions.types():
        return False
    if b'" ' in compact or b"{}" in compact or (b"\\" in compact and b'"\\' in compact):
        return False
    if not compact.isascii() and BLANK_START.search(compact):
        return False
    if compact.count(b"{") > MAX_DEPTH and not _shallow(resource, MAX_DEPTH):
        return False
    try:
        made = decoder(rtype).decode(raw)
        if "contained" in resource:
            seen = set()
            for part, one in zip(made.m_contained, resource["contained"], strict=True):
                if type(one) is not dict or "contained" in one or "id" not in one or one["id"] in seen:
                    return False
                seen.add(one["id"])
                decoder(one["resourceType"]).decode(part)
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
    return True
