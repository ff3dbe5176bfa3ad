"""Settings of the channel as data (``data/policy.yaml``) and the thrombolysis checklist (``data/thrombolysis.yaml``)."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lianxin.network.policy import Settings
from lianxin.standards.text import T, Text

_DATA = Path(__file__).parent / "data"
SETTINGS = Settings(_DATA / "policy.yaml", "emergency.Policy")
value = SETTINGS.value


@dataclass(frozen=True)
class Target:
    """So many ``minutes`` from the milestone ``since``."""

    minutes: int
    since: str


def target(name: str, institution_id: int) -> Target:
    """A target by its name ("ecg", "wire"…)."""
    found = value(f"target.{name}", institution_id)
    return Target(int(found["minutes"]), str(found["from"]))


@dataclass(frozen=True)
class Contraindication:
    """One line of the checklist."""

    code: str
    absolute: bool
    label: Text


@functools.cache
def checklist() -> tuple[Contraindication, ...]:
    """The contraindications, absolute ones first."""
    rows = _list()["items"]
    return tuple(Contraindication(r["code"], r["kind"] == "absolute", T(r["zh"], r["en"])) for r in rows)


def checklist_version() -> str:
    """The version that was gone through."""
    return str(_list()["version"])


@functools.cache
def _list() -> dict[str, Any]:
    return dict(yaml.load((_DATA / "thrombolysis.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader))
