"""Where upper rooms take part in the FHIR door: operations, and writes of types they own.

A handler runs inside a Django transaction: ``fn(scope, request) -> Response``.  Raise ``lianxin.record.problems.Problem``
(or return a Response with another status) to refuse; the transaction is then rolled back.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lianxin.access.scope import Scope


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


@dataclass
class Response:
    """What a handler gives back; ``resource`` may be a dict or exact JSON text."""

    status: int
    resource: dict[str, Any] | str | None = None
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Scope, Request], Response]

_writes: dict[str, Handler] = {}
_operations: dict[tuple[str, str], Handler] = {}


def register_write(rtype: str, fn: Handler) -> None:
    """Give every create, update and delete of ``rtype`` at the door to ``fn``; a second claim is an error."""
    if _writes.setdefault(rtype, fn) is not fn:
        raise ValueError(f"writes of {rtype} are already taken")


def register_operation(rtype: str, name: str, fn: Handler) -> None:
    """Offer ``$name`` on ``rtype`` (type or instance level; ``rtype`` "" is the system level)."""
    if _operations.setdefault((rtype, name.lstrip("$")), fn) is not fn:
        raise ValueError(f"{rtype}/${name} is already taken")


def write_handler(rtype: str) -> Handler | None:
    """The handler that took the writes of ``rtype``, if any."""
    return _writes.get(rtype)


def operation(rtype: str, name: str) -> Handler | None:
    """The handler of ``$name`` on ``rtype``, if any."""
    return _operations.get((rtype, name.lstrip("$")))


def operations() -> list[tuple[str, str]]:
    """(type, name) of every operation registered, for the CapabilityStatement."""
    return sorted(_operations)
