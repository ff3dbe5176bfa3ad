"""Rows of critical values: the value as it was called (snapshot), every attempt to reach somebody, every later sighting or correction.

State, owner and due time live in ``duty.Case``. What was called never changes: a correction of the result is a row beside it, and the
database refuses to change or delete a snapshot, an attempt or a note.
"""

from __future__ import annotations

import pgtrigger
from django.db import models
from django.db.models import Q

from lianxin.access.scoped import ScopedModel
from lianxin.duty.models import APPEND_ONLY
from lianxin.network.policy import Setting
from lianxin.standards.text import T, Text

SOURCES: dict[str, Text] = {
    "reading": T("影像诊断", "Imaging"),
    "ecg": T("心电诊断", "ECG"),
    "laboratory": T("检验", "Laboratory"),
    "pathology": T("病理", "Pathology"),
}
SIDES: dict[str, Text] = {
    "low": T("低于下限", "Below the limit"),
    "high": T("高于上限", "Above the limit"),
    "finding": T("危急发现", "Critical finding"),
}
CHANNELS: dict[str, Text] = {
    "page": T("系统页面", "System page"),
    "sms": T("短信", "Text message"),
    "phone": T("电话", "Telephone"),
    "wire": T("接口", "Other system"),
}
OUTCOMES: dict[str, Text] = {
    "SENT": T("已发出", "Sent"),
    "CONFIRMED": T("已复述确认", "Read back"),
    "REACHED_NO_READBACK": T("已接通，未复述", "Reached, not read back"),
    "UNABLE_TO_REACH": T("未能联系上", "Not reached"),
    "WRONG_READBACK": T("复述不符", "Read back wrongly"),
}
ACTIONS: dict[str, Text] = {
    "treated": T("已处置", "Treated"),
    "recalled": T("已通知患者返诊", "Patient called back"),
    "referred": T("已安排转诊", "Referred"),
    "recheck": T("复查", "Repeat the test"),
    "known": T("已知情况，继续原方案", "Known; treatment goes on"),
    "corrected": T("结果已更正，无需处置", "Result corrected; nothing needed"),
    "unreachable": T("患者失联，已报告并持续联系", "Patient not found; reported, still trying"),
}
_SNAPSHOT = [
    "source", "source_case_id", "accession", "code", "side", "finding", "finding_en", "value", "number", "unit", "limit",
    "limit_en", "rule", "rule_source", "severity", "orderer", "centre_of", "found_at", "report_key",
]  # fmt: skip


class Critical(ScopedModel):
    """A critical value of a person: what was found against which limit, who asked, who found it, and when each thing happened.

    ``number`` is the value as a number (null for a finding in words), ``severity`` orders findings of one code, ``team`` and ``county``
    are who was brought in when the ordering institution had nobody to answer. ``level`` is how far the call has climbed (0 to 3).
    """

    case = models.OneToOneField("duty.Case", models.PROTECT, primary_key=True, related_name="critical")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+")
    source = models.CharField(max_length=12)
    source_case_id = models.BigIntegerField()
    accession = models.CharField(max_length=32, blank=True)
    code = models.CharField(max_length=40)
    side = models.CharField(max_length=8)
    finding = models.CharField(max_length=200)
    finding_en = models.CharField(max_length=300, blank=True)
    value = models.CharField(max_length=60)
    number = models.DecimalField(max_digits=18, decimal_places=6, null=True, blank=True)
    unit = models.CharField(max_length=30, blank=True)
    limit = models.CharField(max_length=120, blank=True)
    limit_en = models.CharField(max_length=160, blank=True)
    rule = models.CharField(max_length=80, blank=True)
    rule_source = models.CharField(max_length=300, blank=True)
    severity = models.SmallIntegerField(default=0)
    orderer = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    centre_of = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    team = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    county = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    finder = models.CharField(max_length=80, blank=True)
    report_key = models.CharField(max_length=120, unique=True)
    level = models.SmallIntegerField(default=0)
    live = models.BooleanField(default=True)
    found_at = models.DateTimeField()
    reported_at = models.DateTimeField()
    notified_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=80, blank=True)
    acknowledged_at_institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    readback = models.CharField(max_length=120, blank=True)
    acted_at = models.DateTimeField(null=True, blank=True)
    action = models.CharField(max_length=12, blank=True)
    action_note = models.CharField(max_length=600, blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)

    scope_institutions = ("orderer_id", "centre_of_id", "team_id", "county_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="critical_critical_source", condition=Q(source__in=list(SOURCES))),
            models.CheckConstraint(name="critical_critical_side", condition=Q(side__in=list(SIDES))),
            models.CheckConstraint(name="critical_critical_level", condition=Q(level__gte=0, level__lte=3)),
            models.CheckConstraint(
                name="critical_critical_acted",
                condition=Q(acted_at__isnull=True, action="")
                | (Q(acted_at__isnull=False, acknowledged_at__isnull=False) & Q(action__in=list(ACTIONS))),
            ),
            models.CheckConstraint(
                name="critical_critical_read_back",
                condition=Q(acknowledged_at__isnull=True) | (~Q(readback="") & ~Q(acknowledged_by="")),
            ),
            models.CheckConstraint(
                name="critical_critical_closed_only_when_acted",
                condition=Q(live=True, closed_at__isnull=True)
                | Q(live=False, closed_at__isnull=False, acted_at__isnull=False),
            ),
        ]
        indexes = [
            models.Index(
                fields=["person", "code"], condition=Q(live=True), name="critical_critical_standing"
            ),
            models.Index(fields=["person", "-found_at"], name="critical_critical_person"),
            models.Index(fields=["centre_of", "-reported_at"], name="critical_critical_centre"),
            models.Index(fields=["orderer", "-reported_at"], name="critical_critical_orderer"),
            models.Index(fields=["source", "source_case_id"], name="critical_critical_of"),
        ]
        triggers = [
            pgtrigger.ReadOnly(name="snapshot", fields=_SNAPSHOT),
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.code} {self.value}"

    @property
    def label(self) -> Text:
        """What was found, in both languages."""
        return Text(self.finding, self.finding_en or self.finding)

    @property
    def limit_label(self) -> Text:
        """Which limit it passed, in both languages."""
        return Text(self.limit, self.limit_en or self.limit)

    @property
    def shown(self) -> str:
        """The value with its unit."""
        return f"{self.value} {self.unit}".strip()

    @property
    def action_label(self) -> Text:
        """What was done, in words ("" when nothing yet)."""
        return ACTIONS.get(self.action, T("", ""))

    @property
    def source_label(self) -> Text:
        """Which kind of centre found it."""
        return SOURCES[self.source]


class Attempt(models.Model):
    """One try to hand the value over: channel, to whom, what came of it, stamped by the server; never changed.

    ``by`` is who tried ("" when the system did), ``heard`` what was read back, ``key`` names the request so that a double click is one
    attempt. Telephone numbers are not kept here.
    """

    critical = models.ForeignKey(Critical, models.PROTECT, related_name="attempts")
    key = models.CharField(max_length=160, unique=True)
    at = models.DateTimeField()
    level = models.SmallIntegerField(default=0)
    channel = models.CharField(max_length=6)
    recipient = models.CharField(max_length=80)
    recipient_en = models.CharField(max_length=120, blank=True)
    recipient_account_id = models.BigIntegerField(null=True, blank=True)
    institution = models.ForeignKey(
        "network.Institution", models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    role = models.CharField(max_length=20, blank=True)
    outcome = models.CharField(max_length=20)
    heard = models.CharField(max_length=120, blank=True)
    note = models.CharField(max_length=300, blank=True)
    by = models.CharField(max_length=80, blank=True)
    by_account_id = models.BigIntegerField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="critical_attempt_channel", condition=Q(channel__in=list(CHANNELS))),
            models.CheckConstraint(name="critical_attempt_outcome", condition=Q(outcome__in=list(OUTCOMES))),
            models.CheckConstraint(
                name="critical_attempt_confirmed", condition=~Q(outcome="CONFIRMED") | ~Q(heard="")
            ),
        ]
        indexes = [models.Index(fields=["critical", "at"], name="critical_attempt_when")]
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.critical_id} {self.channel} {self.outcome}"

    @property
    def recipient_label(self) -> Text:
        """Whom it was meant for, in both languages."""
        return Text(self.recipient, self.recipient_en or self.recipient)

    @property
    def channel_label(self) -> Text:
        """By which way."""
        return CHANNELS[self.channel]

    @property
    def outcome_label(self) -> Text:
        """What came of it."""
        return OUTCOMES[self.outcome]


class Note(models.Model):
    """What became known of the result after the call: ``seen`` (the same again) or ``corrected`` (another value); never changed."""

    critical = models.ForeignKey(Critical, models.PROTECT, related_name="notes")
    key = models.CharField(max_length=160, unique=True)
    kind = models.CharField(max_length=10)
    value = models.CharField(max_length=60)
    unit = models.CharField(max_length=30, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    at = models.DateTimeField()
    by = models.CharField(max_length=80, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="critical_note_kind", condition=Q(kind__in=["seen", "corrected"]))
        ]
        triggers = APPEND_ONLY

    def __str__(self) -> str:
        return f"{self.critical_id} {self.kind} {self.value}"


class _Set(Setting):
    """Who set it, and when."""

    set_by = models.CharField(max_length=80, blank=True)
    set_at = models.DateTimeField(null=True, blank=True)

    class Meta(Setting.Meta):
        abstract = True

    def __str__(self) -> str:
        return f"{self.name} {self.effective_from}"


class Policy(_Set):
    """How critical values are handed over (see ``data/policy.yaml``)."""


class Limit(_Set):
    """The limits of one code (``name``) as a consortium set them (see ``data/limits.yaml`` for the form of ``value``)."""
