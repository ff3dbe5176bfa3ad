"""Rows of the chest-pain channel beside the case: who and where, every milestone with its corrections, the checklist, county settings."""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.network.policy import Setting
from lianxin.standards.text import T, Text

MILESTONES: dict[str, Text] = {
    "onset": T("症状发作", "Onset"),
    "fmc": T("首次医疗接触", "First medical contact"),
    "ecg": T("首份心电图", "First ECG"),
    "diagnosed": T("心电图诊断", "ECG diagnosis"),
    "decided": T("再灌注决策", "Way decided"),
    "activated": T("启动导管室", "Cath lab activated"),
    "departed": T("离开首诊机构", "Departed"),
    "needle": T("开始溶栓", "Thrombolysis begun"),
    "assessed": T("溶栓评估", "Thrombolysis judged"),
    "door": T("到达医院大门", "Door"),
    "lab_ready": T("导管室就绪", "Cath lab ready"),
    "wire": T("导丝通过", "Wire crossing"),
    "outcome": T("结局", "Outcome"),
}
"""In the order in which they happen. Times are when it happened, not when it was typed."""
STRATEGIES: dict[str, Text] = {
    "pci": T("直接 PCI", "Primary PCI"),
    "lysis": T("静脉溶栓", "Thrombolysis"),
}
OUTCOMES: dict[str, Text] = {
    "reperfused": T("血流恢复（TIMI 3 级）", "Flow restored (TIMI 3)"),
    "partial": T("血流部分恢复（TIMI 1–2 级）", "Flow partly restored (TIMI 1–2)"),
    "none": T("未能恢复血流", "Flow not restored"),
    "bypass": T("转外科搭桥", "Sent to bypass surgery"),
    "died": T("死亡", "Died"),
}
STOPS: dict[str, Text] = {
    "not_stemi": T("排除 STEMI", "No STEMI"),
    "dissection": T("主动脉夹层", "Aortic dissection"),
    "embolism": T("肺栓塞", "Pulmonary embolism"),
    "declined": T("患者或家属拒绝", "Declined by patient or family"),
    "late": T("超过再灌注时间窗", "Too late for reperfusion"),
    "died": T("途中或到达前死亡", "Died before arrival"),
    "elsewhere": T("转往医共体外", "Went elsewhere"),
    "mistake": T("误启动", "Opened by mistake"),
}


class Channel(ScopedModel):
    """One patient's green channel. Times stand in :class:`Milestone`; ``live`` until it is closed or stopped."""

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="chest_pain")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    first = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    centre = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    lab = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    reading = models.ForeignKey("reading.Reading", models.PROTECT, null=True, blank=True, related_name="+")
    finding = models.CharField(max_length=20, blank=True)
    complaint = models.CharField(max_length=300, blank=True)
    strategy = models.CharField(max_length=8, blank=True)
    travel = models.IntegerField(null=True, blank=True)
    transport = models.CharField(max_length=20, blank=True)
    bypassed = models.BooleanField(null=True, blank=True)
    checklist = models.JSONField(default=dict)
    lysis_worked = models.BooleanField(null=True, blank=True)
    outcome = models.CharField(max_length=12, blank=True)
    stopped = models.CharField(max_length=12, blank=True)
    live = models.BooleanField(default=True)
    opened_at = models.DateTimeField()

    scope_institutions = ("first_id", "centre_id", "lab_id")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["person"], condition=Q(live=True), name="emergency_channel_one_live"),
            models.CheckConstraint(name="emergency_channel_strategy", condition=Q(strategy__in=["", *STRATEGIES])),
            models.CheckConstraint(name="emergency_channel_outcome", condition=Q(outcome__in=["", *OUTCOMES])),
            models.CheckConstraint(name="emergency_channel_stopped", condition=Q(stopped__in=["", *STOPS])),
            models.CheckConstraint(name="emergency_channel_ended", condition=Q(live=True) | ~Q(outcome="") | ~Q(stopped="")),
        ]  # fmt: skip
        indexes = [models.Index(fields=["-opened_at"], name="emergency_channel_opened")]

    def __str__(self) -> str:
        return f"{self.case_id}"


class Milestone(models.Model):
    """When something happened (``at``), as somebody recorded it. A correction is a new row that names its reason; nothing is overwritten."""

    channel = models.ForeignKey(Channel, models.PROTECT, related_name="milestones")
    code = models.CharField(max_length=12)
    at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    account_id = models.BigIntegerField(null=True, blank=True)
    actor = models.CharField(max_length=80, blank=True)
    version = models.SmallIntegerField(default=1)
    reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="emergency_milestone_code", condition=Q(code__in=list(MILESTONES))),
            models.CheckConstraint(
                name="emergency_milestone_past", condition=Q(at__lte=models.F("recorded_at"))
            ),
            models.CheckConstraint(name="emergency_milestone_why", condition=Q(version=1) | ~Q(reason="")),
            models.UniqueConstraint(fields=["channel", "code", "version"], name="emergency_milestone_once"),
        ]
        triggers = [pgtrigger.Protect(name="stands", operation=pgtrigger.Update | pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"{self.channel_id} {self.code} {self.at:%H:%M}"

    @property
    def label(self) -> Text:
        """In words."""
        return MILESTONES[self.code]


class Policy(Setting):
    """A setting of the channel from a day on, for everybody or one consortium, with the document it comes from."""
