"""Small parts of FHIR resources that every room publishes in the same words: instants, references, no empty members."""

from __future__ import annotations

import datetime as dt
from typing import Any

from lianxin.network.models import Institution, Practitioner
from lianxin.standards import clock


def instant(at: dt.datetime | None) -> str | None:
    """A FHIR dateTime in the platform's zone: the same text whether the instant was just made or read from the database."""
    return at.astimezone(clock.ZONE).isoformat(timespec="seconds") if at else None


def org(institution: Institution | None) -> dict[str, Any] | None:
    """A reference to an institution."""
    if institution is None:
        return None
    return {"reference": f"Organization/{institution.code}", "display": institution.name}


def doctor(practitioner: Practitioner | None) -> dict[str, Any] | None:
    """A reference to a person of the network."""
    if practitioner is None:
        return None
    return {"reference": f"Practitioner/{practitioner.code}", "display": practitioner.name}


def trim(resource: dict[str, Any]) -> dict[str, Any]:
    """Without empty values (FHIR has none)."""
    return {key: value for key, value in resource.items() if value not in (None, "", [], {})}
