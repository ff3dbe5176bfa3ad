"""What rooms above do when resources of a type have been written: they register here, in ``AppConfig.ready()``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lianxin.access.scope import Scope

# fn(cursor, scope, [(resource, institution it came from)]): in the transaction that wrote them; may raise Problem to refuse it
Written = Callable[[Any, Scope, Sequence[tuple[dict[str, Any], int | None]]], None]

_written: dict[str, list[Written]] = {}


def on_written(rtype: str, fn: Written) -> None:
    """Call ``fn`` after creates and updates of ``rtype`` (not deletions, not what the platform publishes)."""
    if fn not in _written.setdefault(rtype, []):
        _written[rtype].append(fn)


def wanted(rtype: str) -> bool:
    """Whether anybody wants to know of this type."""
    return rtype in _written


def tell(cur: Any, scope: Scope, rtype: str, done: Sequence[tuple[dict[str, Any], int | None]]) -> None:
    """Tell everybody who registered."""
    for fn in _written.get(rtype, []) if done else []:
        fn(cur, scope, done)
