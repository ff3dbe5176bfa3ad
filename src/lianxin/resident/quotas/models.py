"""Rows of this room: policy with its day and source, and quotas proposed, accepted or declined."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.db import models
from django.db.models import F, Q

from lianxin.standards import clock
from lianxin.standards.text import T, Text

STATES: dict[str, Text] = {
    "open": T("待决定", "To be decided"),
    "accepted": T("已采纳", "Accepted"),
    "declined": T("未采纳", "Declined"),
    "replaced": T("已由新建议取代", "Replaced by a newer one"),
}


class Policy(models.Model):
    """A part of the quota policy (``values``, ``floor``, ``history``) of a consortium (nobody: of all) from a day on, with its source."""

    name = models.CharField(max_length=20)
    consortium = models.ForeignKey(
        "network.Consortium", models.CASCADE, null=True, blank=True, related_name="+"
    )
    value = models.JSONField()
    effective_from = models.DateField()
    effective_to = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=300)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["name", "consortium", "effective_from"],
                nulls_distinct=False,
                name="quotas_policy_once",
            ),
            models.CheckConstraint(
                name="quotas_policy_name", condition=Q(name__in=["values", "floor", "history"])
            ),
            models.CheckConstraint(
                name="quotas_policy_days",
                condition=Q(effective_to__isnull=True) | Q(effective_to__gt=F("effective_from")),
            ),
            models.CheckConstraint(name="quotas_policy_source", condition=~Q(source="")),
        ]

    def __str__(self) -> str:
        return f"{self.name} {self.effective_from}"


class Proposal(models.Model):
    """Quotas for a department's sessions of one kind, clinic type and capacity, worked out from history, with its back-test.

    ``old``/``new``: county, township, village. ``content``: demand, floors, policy and back-test as they were when it was made.
    """

    institution = models.ForeignKey("network.Institution", models.CASCADE, related_name="+")
    department = models.ForeignKey("network.Department", models.CASCADE, related_name="+")
    kind = models.CharField(max_length=20)
    clinic_type = models.CharField(max_length=20)
    capacity = models.IntegerField()
    old = models.JSONField()
    new = models.JSONField()
    content = models.JSONField()
    state = models.CharField(max_length=10, default="open")
    made_at = models.DateTimeField(default=clock.now)
    decided_at = models.DateTimeField(null=True, blank=True)
    account_id = models.BigIntegerField(null=True, blank=True)
    name = models.CharField(max_length=120, blank=True)
    reason = models.CharField(max_length=200, blank=True)
    from_day = models.DateField(null=True, blank=True)
    changed = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["department", "kind", "clinic_type", "capacity"],
                condition=Q(state="open"),
                name="quotas_proposal_one_open",
            ),
            models.CheckConstraint(name="quotas_proposal_state", condition=Q(state__in=list(STATES))),
            models.CheckConstraint(
                name="quotas_proposal_decided",
                condition=~Q(state__in=["accepted", "declined"]) | Q(decided_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.department_id} {self.clinic_type} {self.old} → {self.new}"

    @property
    def state_label(self) -> Text:
        """State in words."""
        return STATES[self.state]


def in_force(on: dt.date, consortium_ids: list[int]) -> list[Any]:
    """Policy rows in force on a day for any of the consortia or for nobody in particular; the more particular last."""
    rows = (
        Policy.objects.filter(effective_from__lte=on)
        .filter(Q(effective_to=None) | Q(effective_to__gt=on))
        .filter(Q(consortium=None) | Q(consortium_id__in=consortium_ids))
    )
    return sorted(rows, key=lambda r: (r.consortium_id is not None, r.effective_from, r.pk))
