"""How far a scenario has been built, so that an interrupted build goes on where it stopped."""

from __future__ import annotations

from django.db import models


class Building(models.Model):
    """One scenario of this installation: the instant it is drawn for never changes, so that a second try draws the same people."""

    name = models.CharField(max_length=40, unique=True)
    seed = models.BigIntegerField()
    residents = models.IntegerField()
    as_of = models.DateTimeField()
    step = models.CharField(max_length=20, default="drawn")  # drawn → settled → living → whole
    finished_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.step}"
