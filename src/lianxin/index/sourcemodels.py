"""Tables of :mod:`lianxin.index.sources`: what sources sent day by day (counts only), and how far they have been read."""

from __future__ import annotations

from django.db import models

from lianxin.network.models import Institution


class SourceFlag(models.Model):
    """How many registrations of a conspicuous kind a system of an institution sent on a day; kind ``total``: of all kinds."""

    institution = models.ForeignKey(Institution, on_delete=models.PROTECT, db_index=False, related_name="+")
    day = models.DateField()
    system = models.CharField(max_length=200)
    kind = models.CharField(max_length=16)
    count = models.PositiveIntegerField()

    class Meta:
        app_label = "index"
        constraints = [
            models.UniqueConstraint(
                fields=["institution", "day", "system", "kind"], name="index_sourceflag_once"
            )
        ]
        indexes = [models.Index(fields=["day"], name="index_sourceflag_day")]

    def __str__(self) -> str:
        return f"{self.institution_id} {self.kind} {self.day}"


class SourceMark(models.Model):
    """One row: the last registration that :func:`lianxin.index.sources.refresh` has read."""

    source_id = models.BigIntegerField()
    read_at = models.DateTimeField()

    class Meta:
        app_label = "index"

    def __str__(self) -> str:
        return str(self.source_id)
