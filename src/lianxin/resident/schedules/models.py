"""What was done to schedules and sessions (one row per act of a page), and whom the desk has called."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from lianxin.standards import clock
from lianxin.standards.text import T, Text

KINDS: dict[str, Text] = {
    "template": T("保存模板", "Template saved"),
    "roster": T("单日调整", "Change of a day"),
    "make": T("生成场次", "Sessions made"),
    "copy": T("复制一周", "Week copied"),
    "extra": T("加号", "Extra numbers"),
    "quotas": T("调整预留", "Quotas changed"),
    "substitute": T("替诊", "Substitute doctor"),
    "fewer": T("减号", "Fewer numbers"),
    "stop": T("停诊", "Stopped"),
    "reopen": T("恢复出诊", "Opened again"),
    "withdraw": T("随模板撤下", "Withdrawn with its template"),
    "walk_in": T("现场给号", "Number given at the desk"),
    "call": T("叫号", "Number called"),
}
BY_HAND = ("extra", "quotas", "substitute", "fewer", "stop", "reopen", "walk_in")
"""Acts after which a session is no longer what its template made: a change of the template leaves it alone."""


class Act(models.Model):
    """One act on schedules: who, when, what, why. ``key`` is the form's, so the same form sent twice acts once.

    ``batch`` joins the acts of one form (several sessions stopped at once). ``detail`` of a stop: the places affected.
    """

    key = models.CharField(max_length=160, unique=True)
    kind = models.CharField(max_length=12)
    batch = models.CharField(max_length=64, blank=True, db_index=True)
    institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+"
    )
    session = models.ForeignKey("pool.Session", models.SET_NULL, null=True, blank=True, related_name="+")
    template = models.ForeignKey("pool.Template", models.SET_NULL, null=True, blank=True, related_name="+")
    account_id = models.BigIntegerField(null=True, blank=True)
    name = models.CharField(max_length=120, blank=True)
    at = models.DateTimeField(default=clock.now)
    reason = models.CharField(max_length=200, blank=True)
    detail = models.JSONField(default=dict)

    class Meta:
        constraints = [
            models.CheckConstraint(name="schedules_act_kind", condition=Q(kind__in=list(KINDS))),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.at:%Y-%m-%d %H:%M}"

    @property
    def label(self) -> Text:
        """What was done, in words."""
        return KINDS[self.kind]


class Call(models.Model):
    """A number called to the consulting room; ``times``: how often."""

    place = models.OneToOneField("pool.Place", models.PROTECT, related_name="+")
    at = models.DateTimeField(default=clock.now)
    times = models.IntegerField(default=1)
    account_id = models.BigIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"{self.place_id} ×{self.times}"
