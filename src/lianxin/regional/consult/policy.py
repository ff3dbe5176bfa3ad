"""Settings of consultations as data: clocks, fees, shares, credits (see ``data/policy.yaml``)."""

from __future__ import annotations

from pathlib import Path

from lianxin.duty.machine import Ctx
from lianxin.network.policy import Settings

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "consult.Policy")
values, value = SETTINGS.values, SETTINGS.value


def clock(ctx: Ctx, name: str) -> str:
    """The span of one of the machine's clocks for the case's priority, as its desk has it."""
    return str(value(f"clock.{name}", ctx.parties.get("desk", 0))[ctx.case.priority])


def source(institution_id: int, name: str) -> str:
    """The document a setting follows: the row's in force, else the shipped file's."""
    from lianxin.regional.consult.models import Policy
    from lianxin.standards import clock as house

    row = Policy.objects.filter(
        name=name, effective_from__lte=house.today(), value=value(name, institution_id)
    ).order_by("-effective_from").first()  # fmt: skip
    return row.source if row else SETTINGS.source
