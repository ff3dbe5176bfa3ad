"""Settings of laboratories as data (see ``data/policy.yaml``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lianxin.network.policy import Settings

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "laboratory.Policy")
value = SETTINGS.value


def required(items: Iterable[str], institution_id: int) -> int:
    """How many people vouch for a report with these items: as many as the strictest asks for."""
    table = value("verify.required", institution_id)
    return max((int(table.get(code, table["*"])) for code in items), default=1)
