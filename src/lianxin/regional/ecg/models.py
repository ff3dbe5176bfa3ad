"""Rows of the ECG centre: recordings with their original bytes, what the machine proposes, what a person confirmed as critical."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
import pgtrigger
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from lianxin.access import seal
from lianxin.access.scoped import ScopedModel
from lianxin.regional.ecg.wave import Wave, unpacked
from lianxin.standards.text import T, Text

STATES: dict[str, Text] = {
    "attached": T("已归属", "Attached"),
    "review": T("待核对", "To be checked"),
    "refused": T("已拒收", "Set aside"),
}
PROBLEMS: dict[str, Text] = {
    "wrong_id": T("文件中的患者编号不是此人的", "The patient number in the file is not this person's"),
    "wrong_name": T("文件中的姓名与此人不同", "The name in the file differs from this person's"),
    "wrong_birth": T(
        "文件中的出生日期与此人不同", "The date of birth in the file differs from this person's"
    ),
    "wrong_sex": T("文件中的性别与此人不同", "The sex in the file differs from this person's"),
    "other_order": T("同一份记录已用于另一张申请", "The same recording was used for another order"),
}
"""Why a recording waits for somebody to check whose it is."""
FLAGS: dict[str, Text] = {
    "clock_future": T("设备时钟快了", "The device's clock is ahead"),
    "clock_past": T("设备时钟慢了或为旧记录", "The device's clock is behind, or the recording is old"),
    "no_clock": T("文件没有采集时间", "The file has no time"),
    "no_id": T("文件没有患者信息，由上传者确认", "The file names no patient; the uploader vouches for it"),
    "few_leads": T("导联不全", "Leads are missing"),
}
SOURCES: dict[str, Text] = {
    "page": T("页面上传", "Page"),
    "wire": T("接口上传", "Interface"),
    "archive": T("影像归档", "Archive"),
}


class Tracing(ScopedModel):
    """One recording as a device made it. ``original`` is the file as it came (deflated, sealed), ``sha256`` of its bytes.

    Samples are in ``samples`` (``wave.Wave.packed``), never filtered or changed. ``taken_at`` is when it was recorded by our clock,
    ``device_at`` what the device's said. A recording whose header names somebody else has no person until somebody has checked it.
    """

    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="tracings")
    person = models.ForeignKey("index.Person", models.PROTECT, null=True, blank=True, related_name="+", db_index=False)  # fmt: skip
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    state = models.CharField(max_length=10)
    problem = models.CharField(max_length=20, blank=True)
    source = models.CharField(max_length=8, default="page")
    format = models.CharField(max_length=24)
    file_name = models.CharField(max_length=120, blank=True)
    size = models.IntegerField()
    sha256 = models.CharField(max_length=64)
    original = models.BinaryField()
    samples = models.BinaryField()
    leads = ArrayField(models.CharField(max_length=6))
    gains = models.JSONField()
    hz = models.FloatField()
    seconds = models.FloatField()
    filters = models.JSONField(default=dict)
    device = models.JSONField(default=dict)
    header = models.TextField(blank=True)
    said = models.JSONField(default=list)
    device_measured = models.JSONField(default=dict)
    flags = models.JSONField(default=list)
    study_uid = models.CharField(max_length=64, blank=True)
    device_at = models.DateTimeField(null=True, blank=True)
    taken_at = models.DateTimeField()
    received_at = models.DateTimeField()
    account_id = models.BigIntegerField(null=True, blank=True)
    decided_by = models.BigIntegerField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    scope_institutions = ("institution_id", "reading__centre_of_id")

    class Meta:
        constraints = [
            models.CheckConstraint(name="ecg_tracing_state", condition=Q(state__in=list(STATES))),
            models.CheckConstraint(
                name="ecg_tracing_whose",
                condition=Q(state="attached", person__isnull=False) | (~Q(state="attached") & Q(person__isnull=True)),
            ),
            models.CheckConstraint(name="ecg_tracing_why", condition=Q(state="attached") | ~Q(problem="")),
            models.UniqueConstraint(fields=["reading", "sha256"], name="ecg_tracing_once"),
            models.UniqueConstraint(fields=["sha256"], condition=Q(state="attached"), name="ecg_tracing_one_owner"),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["person", "-taken_at"], name="ecg_tracing_person"),
            models.Index(fields=["institution"], condition=Q(state="review"), name="ecg_tracing_review"),
        ]
        triggers = [
            pgtrigger.Protect(
                name="bytes_stand",
                operation=pgtrigger.UpdateOf("original", "samples", "sha256", "gains", "leads", "hz"),
            ),
            pgtrigger.Protect(name="kept", operation=pgtrigger.Delete),
        ]

    def __str__(self) -> str:
        return f"{self.reading_id} {self.sha256[:8]}"

    @functools.cached_property
    def wave(self) -> Wave:
        """The samples."""
        counts = unpacked(bytes(self.samples), len(self.leads))
        return Wave(tuple(self.leads), self.hz, tuple(self.gains), counts.astype(np.int16), self.filters)

    def bytes_as_sent(self) -> bytes:
        """The file exactly as it came."""
        return zlib.decompress(seal.unseal_bytes(bytes(self.original)))

    @property
    def flag_words(self) -> list[Text]:
        """What is to be known of it, in words."""
        return [FLAGS.get(code, T(code, code)) for code in self.flags]

    @property
    def problem_words(self) -> Text:
        """Why it waits."""
        return PROBLEMS.get(self.problem, T(self.problem, self.problem))

    @property
    def device_words(self) -> str:
        """The device in a line."""
        return " ".join(str(self.device[n]) for n in ("manufacturer", "model", "serial_number") if self.device.get(n))  # fmt: skip


class Proposal(ScopedModel):
    """What the machine measured and proposes for a recording, with its version: beside the report, never part of it, never a signature."""

    tracing = models.OneToOneField(Tracing, models.PROTECT, primary_key=True, related_name="proposal")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    version = models.CharField(max_length=40)
    measured = models.JSONField()
    statements = models.JSONField(default=list)
    critical = models.BooleanField(default=False)
    at = models.DateTimeField()

    scope_institutions = ("institution_id",)

    def __str__(self) -> str:
        return f"{self.tracing_id} {self.version}"

    def lines(self) -> list[Any]:
        """The statements as ``rules.Statement``."""
        from lianxin.regional.ecg.rules import Statement

        return [Statement(row["code"], row.get("why", "")) for row in self.statements]


class Confirmation(ScopedModel):
    """A person of the centre confirmed a critical finding: from here it is reported and, for an infarction, opens the chest-pain channel.

    Never changed: a mistake is corrected in the report and by the channel's own moves.
    """

    reading = models.ForeignKey("reading.Reading", models.PROTECT, related_name="confirmations")
    person = models.ForeignKey("index.Person", models.PROTECT, related_name="+", db_index=False)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    tracing = models.ForeignKey(Tracing, models.PROTECT, related_name="+", db_index=False)
    code = models.CharField(max_length=20)
    note = models.CharField(max_length=300, blank=True)
    account_id = models.BigIntegerField()
    practitioner = models.ForeignKey("network.Practitioner", models.PROTECT, null=True, blank=True, related_name="+", db_index=False)  # fmt: skip
    at = models.DateTimeField()
    critical_number = models.CharField(max_length=32, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reading", "code"], name="ecg_confirmation_once"),
        ]

    def __str__(self) -> str:
        return f"{self.reading_id} {self.code}"

    @property
    def label(self) -> Text:
        """What was confirmed, in words."""
        from lianxin.regional.ecg import rules

        found = rules.criticals().get(self.code)
        return found.label if found else T(self.code, self.code)
