"""Rows of the imaging room: what the gate found when images arrived."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.text import T, Text

VERDICTS: dict[str, Text] = {
    "pass": T("合格", "Passed"),
    "flag": T("提示诊断医师", "Passed with a note"),
    "return": T("退回检查机构", "Returned to the performer"),
}
RATINGS: dict[str, Text] = {
    "good": T("甲级", "Good"),
    "fair": T("乙级", "Fair"),
    "poor": T("丙级", "Poor"),
}
"""How the technician grades their own images."""


class Quality(ScopedModel):
    """What the gate said of one study when it had ``images`` images (judged again when more come).

    ``attempt``: after how many retakes it came. ``codes``: the findings' codes, ``findings`` with their figures. ``anyway``: why a returned
    study was sent to be read all the same, by whom.
    """

    reading = models.ForeignKey("reading.Reading", models.CASCADE, related_name="quality")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    centre = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    study_uid = models.CharField(max_length=64, unique=True)
    modality = models.CharField(max_length=16)
    attempt = models.SmallIntegerField(default=0)
    images = models.IntegerField()
    verdict = models.CharField(max_length=6)
    codes = ArrayField(models.CharField(max_length=20), default=list)
    findings = models.JSONField(default=list)
    judged_at = models.DateTimeField()
    anyway = models.CharField(max_length=300, blank=True)
    anyway_by = models.BigIntegerField(null=True, blank=True)

    scope_institutions = ("institution_id", "centre_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="imaging_quality_verdict", condition=Q(verdict__in=list(VERDICTS))),
            models.CheckConstraint(name="imaging_quality_images", condition=Q(images__gte=0, attempt__gte=0)),
            models.CheckConstraint(
                name="imaging_quality_anyway", condition=Q(anyway="") | Q(anyway_by__isnull=False)
            ),
        ]
        indexes = [
            models.Index(fields=["institution", "-judged_at"], name="imaging_quality_sent"),
            models.Index(fields=["centre", "-judged_at"], name="imaging_quality_centre"),
        ]

    def __str__(self) -> str:
        return f"{self.study_uid} {self.verdict}"

    @property
    def verdict_label(self) -> Text:
        """The verdict in words."""
        return VERDICTS[self.verdict]

    @property
    def stands(self) -> bool:
        """Whether the study waits with its performer because the gate returned it."""
        return self.verdict == "return" and not self.anyway
