"""Where centres and rooms above take part in reading work. Each function is called inside the move's transaction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from lianxin.regional.reading.models import Reading, Report

Told = Callable[[Reading], None]
Issued = Callable[[Reading, Report], None]


@dataclass(frozen=True)
class Centre:
    """What a centre adds to the mechanism.

    ``panel``: template shown beside the report editor, ``panel_context(request_scope, reading)`` what it needs · ``resources(reading)``:
    FHIR resources beyond the common ones · ``acquired(reading)``: None when there is something to read, else why not.
    """

    code: str
    panel: str = ""
    panel_context: Callable[[Any, Reading], dict[str, Any]] = field(default=lambda scope, reading: {})
    resources: Callable[[Reading], list[dict[str, Any]]] = field(default=lambda reading: [])
    acquired: Callable[[Reading], Any] = field(default=lambda reading: None)


_centres: dict[str, Centre] = {}
_ordered: list[Told] = []
_queued: list[Told] = []
_issued: list[Issued] = []


def register(centre: Centre) -> None:
    """Add a centre's own part (again: replaces it)."""
    _centres[centre.code] = centre


def centre(code: str) -> Centre:
    """What a centre adds (nothing, when it registered nothing)."""
    return _centres.get(code) or Centre(code)


def on_ordered(fn: Told) -> None:
    """Call ``fn(reading)`` when something was ordered."""
    if fn not in _ordered:
        _ordered.append(fn)


def on_queued(fn: Told) -> None:
    """Call ``fn(reading)`` when it enters the readers' queue."""
    if fn not in _queued:
        _queued.append(fn)


def on_issued(fn: Issued) -> None:
    """Call ``fn(reading, report)`` when a report goes out, and again for every amendment."""
    if fn not in _issued:
        _issued.append(fn)


def ordered(reading: Reading) -> None:
    """Tell everybody who registered."""
    for fn in _ordered:
        fn(reading)


def queued(reading: Reading) -> None:
    """Tell everybody who registered."""
    for fn in _queued:
        fn(reading)


def issued(reading: Reading, report: Report) -> None:
    """Tell everybody who registered."""
    for fn in _issued:
        fn(reading, report)
