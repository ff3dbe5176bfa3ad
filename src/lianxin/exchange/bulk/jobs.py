"""The life of a job: noted, started with its lanes, finished or failed, cancelled, expired; and its manifest."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum

from lianxin.access import audit
from lianxin.access.scope import Scope
from lianxin.exchange.bulk import authority, files, intake, slices
from lianxin.exchange.bulk.models import (
    CANCELLED,
    DONE,
    EXPIRED,
    FAILED,
    OPEN,
    RUNNING,
    WAITING,
    BulkBatch,
    BulkFile,
    BulkJob,
    BulkLane,
    BulkUpload,
)
from lianxin.exchange.fhir import handlers
from lianxin.record.problems import refuse
from lianxin.record.store import moment, stamp
from lianxin.standards import clock
from lianxin.standards.text import T, Text

OPEN_PER_CLIENT = 10
PEOPLE_PER_BATCH = 20


def lifetime() -> dt.timedelta:
    """How long files wait to be fetched, and uploads to be used."""
    return dt.timedelta(hours=settings.LIANXIN_BULK_HOURS)


def create(scope: Scope, kind: str, request: handlers.Request, spec: dict[str, Any], url: str) -> BulkJob:
    """Note a job; 429 when the client has too many under way.  ``spec["patients"]`` are reference keys of patients."""
    patients = spec.pop("patients", None)
    spec["patients"] = patients is not None
    spec["mark"] = slices.mark().isoformat()
    now = moment()
    with transaction.atomic(), connection.cursor() as cur:
        if scope.client_id is not None:
            cur.execute("SELECT pg_advisory_xact_lock(hashtext('bulk'), %s)", [scope.client_id])
            if BulkJob.objects.filter(client_id=scope.client_id, status__in=OPEN).count() >= OPEN_PER_CLIENT:
                problem = refuse(
                    429,
                    "throttled",
                    f"您已有 {OPEN_PER_CLIENT} 个批量任务未完成，请等待或取消后再提交",
                    f"{OPEN_PER_CLIENT} of your bulk jobs are still under way; wait for one, or cancel one",
                )
                problem.headers.append(("Retry-After", "60"))
                raise problem
        job = BulkJob.objects.create(
            kind=kind, client_id=scope.client_id, institution_id=scope.institution_id, scope=authority.noted(scope), spec=spec,
            request=url, base=request.base.removesuffix("/fhir"), as_of=now, created_at=now, served_at=now,
        )  # fmt: skip
        if patients is not None:
            BulkBatch.objects.bulk_create(
                BulkBatch(job=job, number=n, subjects=subjects, people=people)
                for n, (subjects, people) in enumerate(slices.batches(cur, patients, PEOPLE_PER_BATCH))
            )
        audit.write(
            scope,
            "export" if kind == "export" else "create",
            what=f"bulk {kind} {job.pk}",
            detail={k: v for k, v in spec.items() if k in ("level", "group", "types", "mode") and v},
        )
    return job


def start(job: BulkJob) -> bool:
    """Make the lanes of a waiting job (its row is locked); False while writes of before its instant are under way."""
    if job.kind == "export":
        if slices.pending(dt.datetime.fromisoformat(job.spec["mark"])):
            return False
        types = slices.present(job.spec["types"])
        lanes = [BulkLane(job=job, rtype=t, role="output") for t in types]
        if job.spec.get("since"):
            lanes += [BulkLane(job=job, rtype=t, role="deleted") for t in types]
        if job.spec.get("passed"):
            lanes.append(BulkLane(job=job, rtype="OperationOutcome", role="error"))
    else:
        lanes = intake.lanes(job)
    for number, lane in enumerate(lanes):
        lane.number = number
    BulkLane.objects.bulk_create(lanes)
    job.status, job.started_at = RUNNING, clock.now()
    job.save(update_fields=["status", "started_at"])
    if not lanes:
        finish(job)
    return True


def finish(job: BulkJob) -> None:
    """Close a job whose lanes have all ended."""
    with transaction.atomic():
        mine = BulkJob.objects.select_for_update().filter(pk=job.pk, status=RUNNING).first()
        if mine is None or BulkLane.objects.filter(job=job, status=WAITING).exists():
            return
        mine.status, mine.finished_at = DONE, clock.now()
        mine.expires_at = mine.finished_at + lifetime()
        mine.save(update_fields=["status", "finished_at", "expires_at"])


def fail(job: BulkJob, why: Text) -> None:
    """End a job that cannot go on; its files go."""
    now = clock.now()
    if BulkJob.objects.filter(pk=job.pk, status__in=OPEN).update(
        status=FAILED, finished_at=now, failure_zh=why.zh, failure_en=why.en,
        expires_at=now + lifetime(),
    ):  # fmt: skip
        files.remove(job.pk)


def remove(scope: Scope, job: BulkJob) -> None:
    """Cancel a job under way, or remove what a finished one made; afterwards its address answers 404."""
    with transaction.atomic():
        mine = BulkJob.objects.select_for_update().get(pk=job.pk)
        if mine.status in OPEN:
            mine.status, mine.finished_at = CANCELLED, clock.now()
        elif mine.status in (DONE, FAILED):
            mine.status = EXPIRED
        mine.save(update_fields=["status", "finished_at"])
        audit.write(scope, "delete", what=f"bulk {job.kind} {job.pk}", detail={"became": mine.status})
    files.remove(job.pk)


def tidy() -> None:
    """Chore: remove what has expired, what only jobs under way need, and folders that no job owns any more."""
    now = clock.now()
    with connection.cursor() as cur:
        for table in ("exchange_bulkperson", "exchange_bulkbatch"):
            cur.execute(
                f"DELETE FROM {table} t USING exchange_bulkjob j WHERE j.id = t.job_id AND j.status NOT IN ('waiting', 'running')"
            )
    for job in BulkJob.objects.filter(status__in=(DONE, FAILED), expires_at__lt=now):
        if BulkJob.objects.filter(pk=job.pk, status__in=(DONE, FAILED)).update(status=EXPIRED):
            files.remove(job.pk)
    for upload in BulkUpload.objects.filter(expires_at__lt=now):
        files.path_of("uploads", upload.stored).unlink(missing_ok=True)
        upload.delete()
    place = files.folder("uploads").parent
    if not place.is_dir():
        return
    kept = {
        "uploads",
        *map(str, BulkJob.objects.filter(status__in=(*OPEN, DONE)).values_list("pk", flat=True)),
    }
    for folder in place.iterdir():
        if folder.name not in kept and _is_uuid(folder.name):
            files.remove(folder.name)


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False


# ------------------------------------------------------------------------------------------------------------- telling


def progress(job: BulkJob) -> Text:
    """How far a job is, in fewer than 100 characters."""
    if job.status == WAITING:
        return T("等待开始", "waiting to start")
    lanes = BulkLane.objects.filter(job=job)
    total, ended = lanes.count(), lanes.exclude(status=WAITING).count()
    sums = lanes.aggregate(n=Sum("count"), r=Sum("refused"))
    return T("已完成 {a}/{b} 项，{n} 个资源", "{a} of {b} parts done, {n} resources").format(
        a=ended, b=total, n=sums["n"] or 0
    )


def percent(job: BulkJob) -> int:
    """Lanes ended, of a hundred."""
    if job.status in (DONE, EXPIRED):
        return 100
    lanes = BulkLane.objects.filter(job=job)
    total = lanes.count()
    return 100 * lanes.exclude(status=WAITING).count() // total if total else 0


def status_url(job: BulkJob) -> str:
    """Where a job is asked about, and cancelled."""
    return f"{job.base}/bulk/jobs/{job.pk}"


def file_url(job: BulkJob, file: BulkFile) -> str:
    """Where a finished file is fetched."""
    return f"{job.base}/bulk/files/{job.pk}/{file.pk}.ndjson"


def manifest(job: BulkJob) -> dict[str, Any]:
    """The completion manifest (Bulk Data Access 2.0, "Response - Complete Status"; $import: the manifest proposal's form)."""
    made: dict[str, Any] = {
        "transactionTime": stamp(job.as_of),
        "request": job.request,
        "requiresAccessToken": True,
        "output": [],
    }
    if job.kind == "export" and job.spec.get("since"):
        made["deleted"] = []
    made["error"] = []
    if job.kind == "import":
        for lane in BulkLane.objects.filter(job=job).order_by("number"):
            made["output"].append({"type": "OperationOutcome", "inputUrl": lane.name, "count": lane.count})
    inputs = {lane.pk: lane.name for lane in BulkLane.objects.filter(job=job)} if job.kind == "import" else {}
    for file in BulkFile.objects.filter(job=job).exclude(role="input").order_by("lane__number", "number"):
        line: dict[str, Any] = {"type": file.rtype, "url": file_url(job, file), "count": file.count}
        if file.lane_id in inputs:
            line["inputUrl"] = inputs[file.lane_id]
        made.setdefault(file.role, []).append(line)
    return made
