"""Where upper rooms take part in the FHIR door: operations, routes, capabilities, and writes of types they own.

A handler is ``fn(scope, request) -> Response``.  Those that change something run inside a transaction of Django's connection:
raise ``lianxin.record.problems.Problem`` (or return a Response of status 400 and up) to refuse, and it is rolled back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lianxin.access.scope import Scope
from lianxin.record.problems import refuse

EVERY_TYPE = "Resource"  # an operation registered on it is offered on every resource type
WHOLE_NUMBER = 9  # digits


@dataclass
class Request:
    """What the door hands to a handler."""

    method: str
    rtype: str
    id: str | None
    operation: str | None
    params: list[tuple[str, str]]
    headers: dict[str, str]
    resource: dict[str, Any] | None
    raw: bytes = b""
    key: str = ""
    base: str = ""

    @cached_property
    def arguments(self) -> dict[str, list[Any]]:
        """Arguments of an operation: name -> values, from the query (texts) and from a Parameters body (``value[x]`` unwrapped,
        ``resource`` as dict, ``part`` as a dict like this one).  A body of another type is the argument ``resource``."""
        found: dict[str, list[Any]] = {}
        for name, value in self.params:
            found.setdefault(name, []).append(value)
        if self.resource is not None:
            if self.resource.get("resourceType") == "Parameters":
                for name, values in unwrapped(self.resource.get("parameter")).items():
                    found.setdefault(name, []).extend(values)
            else:
                found.setdefault("resource", []).append(self.resource)
        return found

    def argument(self, name: str, kind: type = str) -> Any:
        """The first value of an argument, None when it is not given; 400 unless it is of ``kind`` (query texts are converted)."""
        values = self.arguments.get(name)
        if not values:
            return None
        value = values[0]
        if kind is bool and value in ("true", "false"):
            return value == "true"
        if kind is int and type(value) is str and value.isdigit() and len(value) <= WHOLE_NUMBER:
            return int(value)
        if type(value) is kind:
            return value
        wanted = {bool: "true / false", int: "integer", dict: "object", str: "string"}.get(
            kind, kind.__name__
        )
        raise refuse(
            400, "value", f"参数 {name} 的取值应为 {wanted}", f"the parameter {name} must be: {wanted}",
            f"Parameters.parameter.where(name='{name}')",
        )  # fmt: skip


def unwrapped(parameters: Any) -> dict[str, list[Any]]:
    """``Parameters.parameter`` (or ``part``) as name -> values."""
    found: dict[str, list[Any]] = {}
    for one in parameters if type(parameters) is list else []:
        if type(one) is not dict or type(one.get("name")) is not str:
            continue
        if "resource" in one:
            value = one["resource"]
        elif "part" in one:
            value = unwrapped(one["part"])
        else:
            value = next((v for k, v in one.items() if k.startswith("value")), None)
        if value is not None:
            found.setdefault(one["name"], []).append(value)
    return found


@dataclass
class Response:
    """What a handler gives back; ``resource`` may be a dict or exact JSON text."""

    status: int
    resource: dict[str, Any] | str | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Scope, Request], Response]
RouteHandler = Callable[[Scope | None, Request], Response]


@dataclass(frozen=True)
class Operation:
    """An operation as registered; ``affects_state`` False: GET may call it, and no transaction is opened for it."""

    rtype: str
    name: str
    fn: Handler
    definition: str
    affects_state: bool
    instance: bool
    type_level: bool
    letter: str
    checked: bool


@dataclass(frozen=True)
class Route:
    """An exact address below /fhir with its handler; ``public``: no token is asked for."""

    fn: RouteHandler
    public: bool


_writes: dict[str, Handler] = {}
_operations: dict[tuple[str, str], Operation] = {}
_routes: dict[tuple[str, ...], Route] = {}
_capabilities: list[Callable[[dict[str, Any]], None]] = []
_fresheners: dict[str, Callable[[], None]] = {}


def register_write(rtype: str, fn: Handler) -> None:
    """Give every create, update and delete of ``rtype`` at the door to ``fn``; a second claim is an error."""
    if _writes.setdefault(rtype, fn) is not fn:
        raise ValueError(f"writes of {rtype} are already taken")


def register_operation(
    rtype: str,
    name: str,
    fn: Handler,
    *,
    definition: str = "",
    affects_state: bool = True,
    instance: bool = True,
    type_level: bool = True,
    letter: str = "",
    checked: bool = True,
) -> None:
    """Offer ``$name`` on ``rtype``; "" is the system level, "Resource" every type.

    ``definition`` is the canonical of its OperationDefinition.  ``affects_state=False``: GET may call it, and it runs outside a
    transaction.  ``instance`` and ``type_level`` say where it may be called.  ``letter`` is the SMART permission on the type it
    needs (default u, or r when it changes nothing); at system level the handler itself asks what it needs.
    ``checked=False``: the body is parsed but not validated (the handler does that, or wants it as it is).
    """
    given = Operation(
        rtype, name.lstrip("$"), fn, definition, affects_state, instance, type_level,
        letter or ("u" if affects_state else "r"), checked,
    )  # fmt: skip
    if _operations.setdefault((rtype, given.name), given).fn is not fn:
        raise ValueError(f"{rtype}/${name} is already taken")


def register_route(path: tuple[str, ...], fn: RouteHandler, *, public: bool = False) -> None:
    """Answer an exact address below /fhir (any method), such as ``(".well-known", "smart-configuration")``."""
    if _routes.setdefault(tuple(path), Route(fn, public)).fn is not fn:
        raise ValueError(f"/{'/'.join(path)} is already taken")


def register_capability(fn: Callable[[dict[str, Any]], None]) -> None:
    """Let ``fn(statement)`` add to the CapabilityStatement (a dict) when it is made."""
    if fn not in _capabilities:
        _capabilities.append(fn)


def register_freshener(rtype: str, fn: Callable[[], None]) -> None:
    """Call ``fn()`` before resources of ``rtype`` are read or searched: what they project may have changed with the time."""
    if _fresheners.setdefault(rtype, fn) is not fn:
        raise ValueError(f"{rtype} is already kept fresh")


def ages(rtype: str | None) -> bool:
    """Whether resources of a type (None: of any) have to be brought up to date before they are read."""
    return rtype in _fresheners if rtype else bool(_fresheners)


def freshen(rtype: str | None) -> None:
    """Bring resources of a type (None: of every type) up to date before they are read."""
    for fn in dict.fromkeys(
        [_fresheners[rtype]] if rtype in _fresheners else [] if rtype else _fresheners.values()
    ):
        fn()


def write_handler(rtype: str) -> Handler | None:
    """The handler that took the writes of ``rtype``, if any."""
    return _writes.get(rtype)


def operation(rtype: str, name: str) -> Operation | None:
    """``$name`` on ``rtype``, if it is offered there."""
    short = name.lstrip("$")
    found = _operations.get((rtype, short))
    return found or (_operations.get((EVERY_TYPE, short)) if rtype else None)


def operations() -> list[Operation]:
    """Every operation registered, by type and name."""
    return [_operations[key] for key in sorted(_operations)]


def route(path: list[str]) -> Route | None:
    """The handler of an exact address, if any."""
    return _routes.get(tuple(path))


def capabilities() -> list[Callable[[dict[str, Any]], None]]:
    """What adds to the CapabilityStatement, in order of registration."""
    return list(_capabilities)
