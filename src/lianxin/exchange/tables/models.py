"""Where tables come from, how they are understood, and every run with its figures."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

FILE, SQL = "file", "sql"
DRAFT, ACTIVE, RETIRED = "draft", "active", "retired"
WAITING, RUNNING, STOPPED, DONE, FAILED = "waiting", "running", "stopped", "done", "failed"
RUN_STATES = (WAITING, RUNNING, STOPPED, DONE, FAILED)
TIME, NUMBER = "time", "number"


class TableSource(models.Model):
    """One table that an institution feeds: files of one form, or a view of its database.

    ``url``: address of the database, sealed whole (``shown``: without the password).  ``system``: identifier domain of its local
    numbers ("" : the institution's own).  ``mark``: the newest value of ``mark_column`` that is stored; it moves with the commit of
    the rows.  ``overlap``: how far before it the next run begins again (seconds, or the number's unit).  ``every``: seconds
    between runs (0: by hand).
    """

    institution = models.ForeignKey("network.Institution", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120)
    target = models.CharField(max_length=40)
    kind = models.CharField(max_length=4, default=FILE)
    system = models.CharField(max_length=200, blank=True)
    url = models.TextField(blank=True)
    shown = models.CharField(max_length=300, blank=True)
    view = models.CharField(max_length=260, blank=True)
    mark_column = models.CharField(max_length=130, blank=True)
    mark_kind = models.CharField(max_length=6, blank=True)
    mark = models.CharField(max_length=60, blank=True)
    overlap = models.IntegerField(default=3600)
    every = models.IntegerField(default=0)
    active = models.BooleanField(default=True)
    failures = models.IntegerField(default=0)
    not_before = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True)
    last_run_at = models.DateTimeField(null=True)
    created_by = models.ForeignKey("access.Account", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["institution", "name"], name="tablesource_name"),
            models.CheckConstraint(
                condition=Q(kind=FILE) | (Q(kind=SQL) & ~Q(url="") & ~Q(view="")), name="tablesource_kind"
            ),
            models.CheckConstraint(
                condition=Q(overlap__gte=0, every__gte=0), name="tablesource_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class TableMapping(models.Model):
    """One version of how a source's columns are understood (``rules``: see :mod:`lianxin.exchange.tables.recognise`)."""

    source = models.ForeignKey(TableSource, on_delete=models.CASCADE, related_name="mappings")
    version = models.IntegerField()
    state = models.CharField(max_length=7, default=DRAFT)
    rules = models.JSONField()
    created_by = models.ForeignKey("access.Account", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    activated_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.UniqueConstraint(fields=["source", "version"], name="tablemapping_version"),
            models.UniqueConstraint(
                fields=["source"], condition=Q(state="active"), name="tablemapping_one_active"
            ),
            models.UniqueConstraint(
                fields=["source"], condition=Q(state="draft"), name="tablemapping_one_draft"
            ),
            models.CheckConstraint(
                condition=Q(state__in=(DRAFT, ACTIVE, RETIRED)), name="tablemapping_state"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source_id}@{self.version}"


class TableRun(models.Model):
    """One run over a file or view; ``dry``: only looked at. ``lanes``: how many processes may share it, each its own rows.

    ``stop``: somebody asked it to stop; it does so between two chunks and can be resumed.
    """

    source = models.ForeignKey(TableSource, on_delete=models.CASCADE, related_name="runs")
    mapping = models.ForeignKey(TableMapping, on_delete=models.PROTECT, related_name="+")
    dry = models.BooleanField(default=False)
    state = models.CharField(max_length=7, default=WAITING)
    stored = models.CharField(max_length=80, blank=True)
    filename = models.CharField(max_length=200, blank=True)
    size = models.BigIntegerField(default=0)
    lanes = models.IntegerField(default=1)
    stop = models.BooleanField(default=False)
    from_mark = models.CharField(max_length=60, blank=True)
    error_zh = models.TextField(blank=True)
    error_en = models.TextField(blank=True)
    account = models.ForeignKey("access.Account", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        app_label = "exchange"
        constraints = [
            models.CheckConstraint(condition=Q(state__in=RUN_STATES), name="tablerun_state"),
            models.UniqueConstraint(
                fields=["source"],
                condition=Q(state__in=("waiting", "running"), dry=False),
                name="tablerun_one_at_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["source", "-id"], name="tablerun_source"),
            models.Index(fields=["id"], condition=Q(state__in=("waiting", "running")), name="tablerun_open"),
        ]

    def __str__(self) -> str:
        return f"run {self.pk}"


class TableChunk(models.Model):
    """Rows that were taken in one transaction: this row is written in it, so what it says was done was done, once.

    Number -1 says that its lane came to the end.
    """

    run = models.ForeignKey(TableRun, on_delete=models.CASCADE, related_name="chunks")
    lane = models.IntegerField(default=0)
    number = models.IntegerField()
    first = models.BigIntegerField()
    last = models.BigIntegerField()
    rows = models.IntegerField()
    new = models.IntegerField(default=0)
    changed = models.IntegerField(default=0)
    same = models.IntegerField(default=0)
    refused = models.IntegerField(default=0)
    held = models.IntegerField(default=0)
    resources = models.IntegerField(default=0)
    at = models.DateTimeField()

    class Meta:
        app_label = "exchange"
        constraints = [models.UniqueConstraint(fields=["run", "lane", "number"], name="tablechunk_once")]

    def __str__(self) -> str:
        return f"{self.run_id}.{self.lane}.{self.number}"


class TableRefusal(models.Model):
    """A row that was not taken, and why; ``body``: its cells, sealed. ``arrival``: where it can be mended (not of a dry run)."""

    run = models.ForeignKey(TableRun, on_delete=models.CASCADE, related_name="refusals", db_index=False)
    row = models.BigIntegerField()
    column = models.CharField(max_length=60, blank=True)
    zh = models.TextField()
    en = models.TextField()
    body = models.BinaryField()
    arrival = models.ForeignKey(
        "exchange.Arrival", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )

    class Meta:
        app_label = "exchange"
        indexes = [
            models.Index(fields=["run", "row"], name="tablerefusal_run"),
            models.Index(fields=["arrival"], condition=Q(arrival__isnull=False), name="tablerefusal_arrival"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.row}"
