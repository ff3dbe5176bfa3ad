"""What bulk data remembers: jobs, the lanes workers do, the files made, and uploads.

A job's progress lives here only: a worker that dies loses at most the step it was in (one file of an export, one chunk of an
import), because a step is noted in the same transaction as its cursor.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models import Q

from lianxin.access.models import Client
from lianxin.network.models import Institution

WAITING, RUNNING, DONE, FAILED, CANCELLED, EXPIRED = (
    "waiting",
    "running",
    "done",
    "failed",
    "cancelled",
    "expired",
)
OPEN = (WAITING, RUNNING)


class BulkJob(models.Model):
    """One ``$export`` or ``$import``.

    ``scope`` is on whose behalf it runs (see :mod:`.authority`), ``spec`` what was asked, both as checked at the kick-off.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(max_length=10)
    status = models.CharField(max_length=10, default=WAITING)
    client = models.ForeignKey(Client, null=True, on_delete=models.PROTECT, related_name="+")
    institution = models.ForeignKey(Institution, null=True, on_delete=models.PROTECT, related_name="+")
    scope: models.JSONField[Any, Any] = models.JSONField()
    spec: models.JSONField[Any, Any] = models.JSONField()
    request = models.TextField()
    base = models.TextField()
    as_of = models.DateTimeField()
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    served_at = models.DateTimeField()
    failure_zh = models.TextField(blank=True)
    failure_en = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=("export", "import")), name="bulkjob_kind"),
            models.CheckConstraint(
                condition=Q(status__in=(WAITING, RUNNING, DONE, FAILED, CANCELLED, EXPIRED)),
                name="bulkjob_status",
            ),
            models.CheckConstraint(
                condition=Q(status__in=OPEN) | Q(finished_at__isnull=False), name="bulkjob_finished"
            ),
        ]
        indexes = [
            models.Index(fields=["served_at"], condition=Q(status__in=OPEN), name="bulkjob_open"),
            models.Index(fields=["-created_at"], name="bulkjob_recent"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id} {self.status}"


class BulkLane(models.Model):
    """A strand of a job that one worker at a time pulls forward: a resource type of an export, an input file of an import.

    ``cursor`` says how far it is; ``lease`` counts the claims, so that a worker which lost its lease cannot note anything.
    Lanes of a higher ``stage`` wait until those of the lower ones have ended.
    """

    job = models.ForeignKey(BulkJob, on_delete=models.CASCADE, related_name="lanes")
    number = models.IntegerField()
    stage = models.SmallIntegerField(default=0)
    rtype = models.CharField(max_length=60)
    name = models.TextField(blank=True)
    role = models.CharField(max_length=10)
    status = models.CharField(max_length=10, default=WAITING)
    cursor: models.JSONField[Any, Any] = models.JSONField(default=dict)
    count = models.BigIntegerField(default=0)
    unchanged = models.BigIntegerField(default=0)
    refused = models.BigIntegerField(default=0)
    lease = models.IntegerField(default=0)
    lease_until = models.DateTimeField(null=True)
    attempts = models.IntegerField(default=0)
    not_before = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="bulklane_number"),
            models.CheckConstraint(condition=Q(status__in=(WAITING, DONE, FAILED)), name="bulklane_status"),
        ]
        indexes = [
            models.Index(fields=["job", "stage", "number"], condition=Q(status=WAITING), name="bulklane_todo")
        ]

    def __str__(self) -> str:
        return f"{self.job_id}/{self.number} {self.rtype}"


class BulkFile(models.Model):
    """A finished file of a lane: complete, synced and under its final name before this row is committed."""

    job = models.ForeignKey(BulkJob, on_delete=models.CASCADE, related_name="files")
    lane = models.ForeignKey(BulkLane, on_delete=models.CASCADE, related_name="files")
    number = models.IntegerField()
    role = models.CharField(max_length=10)
    rtype = models.CharField(max_length=60)
    stored = models.CharField(max_length=80)
    count = models.BigIntegerField()
    size = models.BigIntegerField()
    crc = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["lane", "role", "number"], name="bulkfile_number"),
            models.CheckConstraint(
                condition=Q(role__in=("output", "deleted", "error", "input")), name="bulkfile_role"
            ),
        ]

    def __str__(self) -> str:
        return self.stored


class BulkBatch(models.Model):
    """A few of the patients that a Group export, or one with ``patient``, is about: their reference keys and their persons."""

    job = models.ForeignKey(BulkJob, on_delete=models.CASCADE, related_name="batches")
    number = models.IntegerField()
    subjects: models.JSONField[Any, Any] = models.JSONField()
    people: models.JSONField[Any, Any] = models.JSONField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="bulkbatch_number")]

    def __str__(self) -> str:
        return f"{self.job_id}/{self.number}"


class BulkPerson(models.Model):
    """Whose data a job has taken out or brought in: each is audited once per job."""

    pk = models.CompositePrimaryKey("job_id", "person_id")
    job = models.ForeignKey(BulkJob, on_delete=models.CASCADE, related_name="+")
    person_id = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.job_id}/{self.person_id}"


class BulkUpload(models.Model):
    """An NDJSON file a client sent ahead of ``$import``; only that client may name it, until it expires."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    client = models.ForeignKey(Client, null=True, on_delete=models.PROTECT, related_name="+")
    stored = models.CharField(max_length=80)
    count = models.BigIntegerField()
    size = models.BigIntegerField()
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.id)


class BulkRefusal(models.Model):
    """A line of an import that was not taken: where it stood, and its dead letter with the bytes and the reason."""

    lane = models.ForeignKey(BulkLane, on_delete=models.CASCADE, related_name="refusals")
    line = models.BigIntegerField()
    letter = models.ForeignKey("exchange.DeadLetter", on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["lane", "line"], name="bulkrefusal_line")]

    def __str__(self) -> str:
        return f"{self.lane_id}:{self.line}"
