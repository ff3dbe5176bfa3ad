"""Assigning authorities of the numbers in messages, asked once for all messages that are taken together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from lianxin.exchange.ihe import domains

Asked = tuple[int, str, str, str, str]
_known: ContextVar[dict[Asked, str] | None] = ContextVar("lianxin_v2_authorities", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Within it, what was found once is not asked again."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def system_of(institution_id: int, namespace: str, universal: str, kind: str, fallback: str) -> str:
    """The FHIR system of an authority as an institution uses it (:func:`lianxin.exchange.ihe.domains.of_authority`)."""
    known = _known.get()
    if known is None:
        return domains.of_authority(institution_id, namespace, universal, kind, fallback)
    asked = (institution_id, namespace, universal, kind, fallback)
    found = known.get(asked)
    if found is None:
        found = known[asked] = domains.of_authority(*asked)
    return found
