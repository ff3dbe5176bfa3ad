"""Settings of sterile supply as data (see ``data/policy.yaml``): how long packages keep, who answers for sets."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import yaml

from lianxin.network.models import Institution, Post
from lianxin.network.policy import Settings
from lianxin.standards.text import T, Text

SETTINGS = Settings(Path(__file__).parent / "data" / "policy.yaml", "sterile.Policy")
_SETS = Path(__file__).parent / "data" / "sets.yaml"


def materials(institution_id: int) -> dict[str, Text]:
    """Packing materials by code."""
    return {c: T(m["zh"], m["en"]) for c, m in SETTINGS.value("materials", institution_id).items()}


def expiry(material: str, institution_id: int, on: dt.date) -> dt.date:
    """The last day a package of ``material`` sterilised on a day is good; KeyError for an unknown material."""
    return on + dt.timedelta(days=int(SETTINGS.value("materials", institution_id)[material]["days"]))


def _first(table: dict[str, list[str]], institution: Institution) -> str:
    wanted = table.get(institution.kind, table["*"])
    held = set(
        Post.objects.live().filter(institution=institution, role__in=wanted).values_list("role", flat=True)
    )
    return next((role for role in wanted if role in held), wanted[0])


def keeper(institution: Institution) -> str:
    """The role that answers for sets at an institution: the most fitting that somebody holds there."""
    return _first(SETTINGS.value("keepers", institution.pk), institution)


def doctor(institution: Institution) -> str:
    """The role that must contact a patient of a recall."""
    return _first(SETTINGS.value("doctors", institution.pk), institution)


def load_shipped(**_: Any) -> None:
    """Insert or refresh the shipped kinds of set (after migrate)."""
    from lianxin.regional.sterile.models import SetType

    rows = yaml.load(_SETS.read_text("utf-8"), Loader=yaml.CSafeLoader)
    fields = ["name", "name_en", "contents", "implant", "cost_fen"]
    SetType.objects.bulk_create(
        [SetType(**row) for row in rows], update_conflicts=True, unique_fields=["code"], update_fields=fields
    )
