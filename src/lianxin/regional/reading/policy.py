"""Settings of the centres as data: targets, leases, fairness, double reading (see ``data/policy.yaml``)."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from lianxin.network.policy import Settings
from lianxin.standards import calendar

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "reading.Policy")
values, value = SETTINGS.values, SETTINGS.value


def target(modality: str, priority: str, institution_id: int) -> str:
    """The span from order to report ("30m", "2h", "5wd") for a modality and priority at a centre."""
    table = value("target", institution_id)
    return str(table.get(modality, table["*"])[priority])


def report_due(start: dt.datetime, modality: str, priority: str, institution_id: int) -> dt.datetime:
    """When the report of something ordered at ``start`` is due."""
    return calendar.due(start, target(modality, priority, institution_id))


def cost(modality: str, institution_id: int) -> int:
    """How much work one study of a modality counts for the fairness between origins."""
    table = value("fair.cost", institution_id)
    return int(table.get(modality, table["*"]))
