"""Settings that consortia may change: shipped values in a file, and rows that take their place from a day on.

A room keeps a model ``Policy(Setting)`` and asks a :class:`Settings`.
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from pathlib import Path
from typing import Any

import yaml
from django.apps import apps
from django.db import models
from django.db.models import Q
from django.db.models.signals import post_delete, post_save

from lianxin.network.models import Membership
from lianxin.standards import clock

_CACHE_SECONDS = 60.0
_CACHED = 5000


class Setting(models.Model):
    """A row: a setting from a day on, for everybody or one consortium, with the document it comes from."""

    name = models.CharField(max_length=60)
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    value = models.JSONField()
    effective_from = models.DateField()
    source = models.CharField(max_length=300)

    class Meta:
        abstract = True
        constraints = [
            models.UniqueConstraint(
                fields=["name", "consortium", "effective_from"],
                nulls_distinct=False,
                name="%(app_label)s_%(class)s_once",
            ),
            models.CheckConstraint(name="%(app_label)s_%(class)s_sourced", condition=~Q(source="")),
        ]

    def __str__(self) -> str:
        return f"{self.name}={self.value}"


class Settings:
    """The settings of one room: ``file`` (YAML with ``source`` and ``values``) and the rows of ``model`` ("booking.Policy")."""

    def __init__(self, file: Path, model: str) -> None:
        self.file, self.model = file, model
        self._cache: dict[tuple[int, dt.date], tuple[float, dict[str, Any]]] = {}

    @functools.cached_property
    def _document(self) -> dict[str, Any]:
        return dict(yaml.load(self.file.read_text("utf-8"), Loader=yaml.CSafeLoader))

    @property
    def shipped(self) -> dict[str, Any]:
        """The shipped values by name."""
        return dict(self._document["values"])

    @property
    def source(self) -> str:
        """The document that the shipped values follow."""
        return str(self._document["source"])

    def watch(self) -> None:
        """Follow changes of the rows made in this process (others follow within a minute). Called once the apps are ready."""
        for signal in (post_save, post_delete):
            signal.connect(
                self.forget,
                sender=apps.get_model(self.model),
                dispatch_uid=f"settings-{self.model}-{id(signal)}",
                weak=False,
            )

    def forget(self, **_: Any) -> None:
        """Read the settings anew at the next question."""
        self._cache.clear()

    def values(self, institution_id: int, on: dt.date | None = None) -> dict[str, Any]:
        """Every setting in force for an institution on a day (default: today)."""
        key = (institution_id, on or clock.today())
        kept = self._cache.get(key)
        if kept is None or time.monotonic() - kept[0] > _CACHE_SECONDS:
            if len(self._cache) > _CACHED:
                self._cache.clear()
            kept = self._cache[key] = (time.monotonic(), self._read(*key))
        return kept[1]

    def _read(self, institution_id: int, day: dt.date) -> dict[str, Any]:
        found = self.shipped
        mine = Membership.objects.live(day).filter(institution_id=institution_id).values("consortium_id")
        rows = apps.get_model(self.model)._default_manager.filter(
            Q(consortium=None) | Q(consortium_id__in=mine), effective_from__lte=day
        )
        for row in sorted(rows, key=lambda r: (r.consortium_id is not None, r.effective_from)):
            found[row.name] = row.value
        return found

    def value(self, name: str, institution_id: int, on: dt.date | None = None) -> Any:
        """One setting by its exact name; KeyError for a name there is not."""
        return self.values(institution_id, on)[name]
