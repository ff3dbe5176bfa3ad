"""Where rooms above take part in the ECG centre."""

from __future__ import annotations

from collections.abc import Callable

from lianxin.access.scope import Scope
from lianxin.regional.ecg.models import Confirmation

Confirmed = Callable[[Scope, Confirmation], None]
_confirmed: list[Confirmed] = []


def on_confirmed(fn: Confirmed) -> None:
    """Call ``fn(by, confirmation)`` when a person confirms a critical ECG, inside that transaction."""
    if fn not in _confirmed:
        _confirmed.append(fn)


def confirmed(by: Scope, confirmation: Confirmation) -> None:
    """Tell everybody who registered."""
    for fn in _confirmed:
        fn(by, confirmation)
