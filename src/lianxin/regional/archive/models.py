"""Rows of the image archive: devices that may speak to it, studies with their series and instances, performed steps.

The files are the truth of what was received; these rows say where they are, what their headers claim and whose they are. The database
holds what must never break: a stored study belongs to one person, a study UID and a live instance UID are delivered once, the same bytes
under the same UID are one row.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from lianxin.access.scoped import ScopedModel
from lianxin.standards.text import T, Text

STATES: dict[str, Text] = {
    "stored": T("已归档", "Stored"),
    "quarantined": T("待核对", "To be reconciled"),
    "rejected": T("已退回", "Rejected"),
}
PROBLEMS: dict[str, Text] = {
    "no_accession": T("没有检查号", "No accession number"),
    "unknown_accession": T("检查号不存在", "Unknown accession number"),
    "wrong_person": T("患者信息与申请不符", "Patient differs from the order"),
    "foreign_device": T("由其他机构的设备发来", "Sent by another institution's device"),
    "study_conflict": T("检查UID已属于他人", "Study UID belongs to somebody else"),
    "sop_conflict": T("影像UID重复而内容不同", "Same image UID, different content"),
}
"""Why a study is not attached to anybody: shown on the reconcile page."""
SOURCES: dict[str, Text] = {
    "dicom": T("设备推送", "DICOM"),
    "web": T("网络接口", "DICOMweb"),
    "page": T("页面上传", "Page"),
    "move": T("数据导入", "Import"),
}
CLOCKS: dict[str, Text] = {
    "future": T("检查时间在将来", "Study time lies in the future"),
    "past": T("检查时间过早", "Study time lies far back"),
    "none": T("没有检查时间", "No study time"),
}


CHARSETS = ("GB18030", "ISO_IR 192", "ISO 2022 IR 58", "ISO_IR 100")
"""Character sets we answer in: GB18030, UTF-8, GB2312 by escapes, Latin 1 (pinyin)."""


class Device(models.Model):
    """A modality, workstation or PACS that may speak to us, known by its AE title and, when ``pinned``, by its address.

    ``may_store``, ``may_query`` (C-FIND, C-MOVE, C-GET) and ``worklist`` say what it may do. ``drift`` is how many seconds its clock was
    ahead of ours when it last stored something fresh. ``charset``: in which answers to it are written unless it asks in another.
    """

    ae_title = models.CharField(max_length=16, unique=True)
    name = models.CharField(max_length=80)
    name_en = models.CharField(max_length=120, blank=True)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+")
    modality = models.CharField(max_length=16, blank=True)
    address = models.CharField(max_length=100, blank=True)
    port = models.IntegerField(null=True, blank=True)
    pinned = models.BooleanField(default=False)
    may_store = models.BooleanField(default=True)
    may_query = models.BooleanField(default=False)
    worklist = models.BooleanField(default=True)
    charset = models.CharField(max_length=16, default="GB18030")
    active = models.BooleanField(default=True)
    created_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(null=True, blank=True)
    last_from = models.CharField(max_length=45, blank=True)
    last_stored_at = models.DateTimeField(null=True, blank=True)
    drift = models.IntegerField(null=True, blank=True)
    echoed_at = models.DateTimeField(null=True, blank=True)
    echo_ok = models.BooleanField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="archive_device_ae", condition=Q(ae_title__regex=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")),
            models.CheckConstraint(name="archive_device_port", condition=Q(port__isnull=True) | Q(port__gte=1, port__lte=65535)),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.ae_title

    @property
    def label(self) -> Text:
        """Name in both languages."""
        return Text(self.name, self.name_en or self.name)


class Knock(models.Model):
    """Somebody who was turned away at the DICOM door: counted per AE title, address and reason, so that a wrong set-up can be seen."""

    calling = models.CharField(max_length=16)
    called = models.CharField(max_length=16)
    address = models.CharField(max_length=45)
    reason = models.CharField(max_length=24)
    count = models.IntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["calling", "called", "address", "reason"], name="archive_knock_once")
        ]  # fmt: skip

    def __str__(self) -> str:
        return f"{self.calling} {self.reason}"


class Study(ScopedModel):
    """A study: of one person when stored, of nobody yet when quarantined or rejected.

    ``study_uid`` is the UID under which it is delivered, ``sent_uid`` the one it came with (they differ when that one belongs to somebody
    else). ``claim`` is a keyed digest of what the header says about whose it is: instances that say the same are one study.
    ``header`` is that claim, sealed (JSON: name, patient_id, birth, sex, accession). ``coerced``: the header of what is delivered is
    corrected to the person's; the file and its hash stay as received. ``settle_at``: when it is complete unless more comes;
    ``settled``: how many instances it had when it was last told to those who wait for it.
    """

    study_uid = models.CharField(max_length=64, db_index=True)
    sent_uid = models.CharField(max_length=64)
    claim = models.BinaryField(max_length=16)
    person = models.ForeignKey("index.Person", models.PROTECT, null=True, blank=True, related_name="+")
    accession = models.CharField(max_length=16, blank=True)
    order_number = models.CharField(max_length=32, blank=True)
    institution = models.ForeignKey("network.Institution", models.PROTECT, related_name="+", db_index=False)
    device = models.ForeignKey(
        Device, models.PROTECT, null=True, blank=True, related_name="+", db_index=False
    )
    source = models.CharField(max_length=8, default="dicom")
    modality = models.CharField(max_length=16, blank=True)
    modalities = ArrayField(models.CharField(max_length=16), default=list)
    description = models.CharField(max_length=120, blank=True)
    referrer = models.CharField(max_length=80, blank=True)
    study_id = models.CharField(max_length=16, blank=True)
    study_at = models.DateTimeField(null=True, blank=True)
    clock = models.CharField(max_length=8, blank=True)
    received_at = models.DateTimeField()
    last_at = models.DateTimeField()
    header = models.TextField(blank=True)
    coerced = models.BooleanField(default=False)
    instances = models.IntegerField(default=0)
    bytes = models.BigIntegerField(default=0)
    state = models.CharField(max_length=12)
    problem = models.CharField(max_length=20, blank=True)
    settle_at = models.DateTimeField(null=True, blank=True)
    settled = models.IntegerField(default=0)
    decided_by = models.BigIntegerField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=300, blank=True)

    scope_institutions = ("institution_id",)

    class Meta:
        constraints = [
            models.CheckConstraint(name="archive_study_state", condition=Q(state__in=list(STATES))),
            models.CheckConstraint(name="archive_study_whose", condition=Q(state="stored", person__isnull=False) | (~Q(state="stored") & Q(person__isnull=True))),
            models.CheckConstraint(name="archive_study_problem", condition=Q(state="stored") | ~Q(problem="")),
            models.CheckConstraint(name="archive_study_counts", condition=Q(instances__gte=0, bytes__gte=0, settled__gte=0)),
            models.UniqueConstraint(fields=["study_uid"], condition=Q(state="stored"), name="archive_study_delivered_once"),
            models.UniqueConstraint(fields=["sent_uid", "claim", "problem", "institution"], condition=~Q(state="stored"), name="archive_study_waiting_once"),
        ]  # fmt: skip
        indexes = [
            models.Index(fields=["person", "-study_at"], condition=Q(state="stored"), name="archive_study_person"),
            models.Index(fields=["institution", "-received_at"], name="archive_study_sent"),
            models.Index(fields=["accession"], condition=~Q(accession=""), name="archive_study_accession"),
            models.Index(fields=["-study_at", "-id"], condition=Q(state="stored"), name="archive_study_recent"),
            models.Index(fields=["institution", "received_at"], condition=Q(state="quarantined"), name="archive_study_waiting"),
            models.Index(fields=["settle_at"], condition=Q(settle_at__isnull=False), name="archive_study_settle"),
            models.Index(fields=["sent_uid"], name="archive_study_sent_uid"),
        ]  # fmt: skip

    def __str__(self) -> str:
        return self.study_uid

    @property
    def complete(self) -> bool:
        """Whether it was told as complete and nothing has come since."""
        return self.settle_at is None and self.settled == self.instances


class Series(models.Model):
    """A series of a study; ``uid`` as delivered, ``sent_uid`` as received."""

    study = models.ForeignKey(Study, models.CASCADE, related_name="series")
    uid = models.CharField(max_length=64)
    sent_uid = models.CharField(max_length=64)
    modality = models.CharField(max_length=16, blank=True)
    number = models.IntegerField(null=True, blank=True)
    description = models.CharField(max_length=120, blank=True)
    body_part = models.CharField(max_length=40, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    instances = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "sent_uid"], name="archive_series_once"),
            models.CheckConstraint(name="archive_series_counts", condition=Q(instances__gte=0)),
        ]
        indexes = [models.Index(fields=["uid"], name="archive_series_uid")]

    def __str__(self) -> str:
        return self.uid


class Instance(models.Model):
    """One SOP instance and where its file is.

    ``path`` is relative to the archive's folder (an Orthanc id behind ``orthanc:``); ``hash`` is SHA-256 of the data set's bytes as
    received, which begin ``offset`` bytes into the file and are ``size`` bytes long. ``live``: this is what is delivered under ``sop_uid``.
    """

    series = models.ForeignKey(Series, models.CASCADE, related_name="items")
    study = models.ForeignKey(Study, models.CASCADE, related_name="items")
    sop_uid = models.CharField(max_length=64)
    sent_uid = models.CharField(max_length=64)
    sop_class = models.CharField(max_length=64)
    transfer_syntax = models.CharField(max_length=64)
    number = models.IntegerField(null=True, blank=True)
    rows = models.IntegerField(null=True, blank=True)
    columns = models.IntegerField(null=True, blank=True)
    bits = models.SmallIntegerField(null=True, blank=True)
    frames = models.IntegerField(default=1)
    path = models.CharField(max_length=140)
    offset = models.IntegerField()
    size = models.BigIntegerField()
    hash = models.BinaryField(max_length=32)
    received_at = models.DateTimeField()
    live = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["sent_uid", "hash"], name="archive_instance_bytes_once"),
            models.UniqueConstraint(fields=["sop_uid"], condition=Q(live=True), name="archive_instance_once"),
            models.CheckConstraint(name="archive_instance_size", condition=Q(size__gt=0, offset__gte=0, frames__gte=0)),
        ]  # fmt: skip
        indexes = [models.Index(fields=["study", "series", "number"], name="archive_instance_order")]

    def __str__(self) -> str:
        return self.sop_uid


class Step(models.Model):
    """A performed procedure step that a modality reported (MPPS): begun, then completed or broken off."""

    uid = models.CharField(max_length=64, unique=True)
    device = models.ForeignKey(Device, models.PROTECT, related_name="+")
    accession = models.CharField(max_length=16, blank=True, db_index=True)
    study_uid = models.CharField(max_length=64, blank=True, db_index=True)
    state = models.CharField(max_length=12, default="IN PROGRESS")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=120, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="archive_step_state", condition=Q(state__in=["IN PROGRESS", "COMPLETED", "DISCONTINUED"])
            ),
            models.CheckConstraint(
                name="archive_step_ended",
                condition=Q(ended_at__isnull=True) | Q(ended_at__gte=F("started_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.uid} {self.state}"
