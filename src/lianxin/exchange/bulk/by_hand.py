"""The operator's own export: everything, into a folder, from the command line (``lianxin export``)."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lianxin.access.scope import Scope
from lianxin.exchange.bulk import files, jobs, runner
from lianxin.exchange.bulk.models import DONE, OPEN, BulkFile, BulkJob
from lianxin.exchange.fhir import handlers
from lianxin.record import definitions
from lianxin.standards.text import Text

Told = Callable[[Text], None]


class Refused(Exception):
    """The export cannot be made; ``text`` says why."""

    def __init__(self, text: Text) -> None:
        self.text = text
        super().__init__(text.en)


def export(
    folder: Path, types: Sequence[str] = (), since: dt.datetime | None = None, told: Told = lambda _: None
) -> dict[str, Any]:
    """Write NDJSON files and ``manifest.json`` into ``folder`` (empty or new); returns the manifest.

    Raises :class:`Refused` for an unknown type, a folder that holds something, or an export that failed.  Bulk workers of a
    running server help; without one the work is done here.
    """
    unknown = [t for t in types if t not in definitions.types()]
    if unknown:
        raise Refused(Text(f"没有资源类型 {unknown[0]}", f"there is no resource type {unknown[0]}"))
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Refused(Text(f"文件夹 {folder} 不是空的", f"the folder {folder} is not empty"))
    job = jobs.create(
        Scope.system("lianxin export"),
        "export",
        handlers.Request("GET", "", None, "export", [], {}, None),
        {
            "level": "system",
            "since": since.isoformat() if since else None,
            "until": None,
            "types": list(types) or sorted(definitions.types()),
            "elements": [],
            "filters": {},
        },
        "lianxin export",
    )
    try:
        job = _done(job, told)
        manifest = _copied(job, folder)
    finally:
        jobs.remove(Scope.system("lianxin export"), job)
    return manifest


def _done(job: BulkJob, told: Told) -> BulkJob:
    """The job at its end; a step at a time, here or by a server's worker."""
    last = 0.0
    while job.status in OPEN:
        if not runner.turn():
            time.sleep(0.2)
        job = BulkJob.objects.get(pk=job.pk)
        if time.monotonic() - last > 2:
            last = time.monotonic()
            told(jobs.progress(job))
    if job.status != DONE:
        raise Refused(Text(job.failure_zh or "已取消", job.failure_en or "cancelled"))
    return job


def _copied(job: BulkJob, folder: Path) -> dict[str, Any]:
    """The plain files with their manifest, readable by the operator alone."""
    names: dict[str, int] = {}
    manifest = jobs.manifest(job)
    for role in ("output", "deleted", "error"):
        for line in manifest.get(role, []):
            row = BulkFile.objects.get(pk=int(line["url"].rpartition("/")[2].removesuffix(".ndjson")))
            stem = line["type"] if role == "output" else role
            names[stem] = names.get(stem, 0) + 1
            target = folder / f"{stem}-{names[stem]:04d}.ndjson"
            with files.open_file(files.path_of(job.pk, row.stored)) as source, open(target, "xb") as out:
                target.chmod(0o600)
                for piece in files.lines(source):
                    out.write(piece)
            line["url"] = target.name
    manifest["requiresAccessToken"] = False
    (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False, indent=2))
    return manifest
