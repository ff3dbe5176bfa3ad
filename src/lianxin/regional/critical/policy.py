"""How critical values are handed over, as data (see ``data/policy.yaml``): cover, who answers, the county's on-call, repeats."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from lianxin.network.models import Institution
from lianxin.network.policy import Settings
from lianxin.standards import calendar, clock

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "critical.Policy")
value = SETTINGS.value


def asks(institution: Institution) -> int:
    """Whose membership decides the settings of an institution: the township's for a village clinic."""
    return (
        institution.parent_id if institution.kind == "village" and institution.parent_id else institution.pk
    )


def covered(institution: Institution, now: dt.datetime) -> bool:
    """Whether somebody is there at this hour (kinds without an entry always have somebody)."""
    hours = value("no_cover", asks(institution)).get(institution.kind)
    if not hours:
        return True
    local = now.astimezone(clock.ZONE)
    if hours.get("days_off") and not calendar.is_workday(local.date()):
        return False
    return bool(dt.time.fromisoformat(hours["open"]) <= local.time() < dt.time.fromisoformat(hours["close"]))


def answers(institution: Institution) -> list[str]:
    """Roles that answer at an institution, most fitting first."""
    table = value("answers", asks(institution))
    return list(table.get(institution.kind, table["*"]))


def county_roles(institution: Institution) -> list[str]:
    """Roles on call at the lead institution, most fitting first."""
    return list(value("county", institution.pk))
