"""Sending the files of runs: one sender for each export, runs and files in order, the manifest last, each until it is taken.

Every request carries the run's stable id and the file's number (``Idempotency-Key``), so that a receiver can tell a repetition; a file
that was taken is not sent again, and a sender that was killed goes on with the file it was at.  Into a folder a file is written
under another name and renamed when it is whole.
"""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
import tempfile
import threading
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F

from lianxin.access import seal
from lianxin.exchange.feeds import keeping
from lianxin.exchange.partners.models import (
    BASIC,
    BEARER,
    FOLDER,
    HELD,
    LIVE,
    MADE,
    MTLS,
    PUT,
    SENT,
    Export,
    ExportFile,
    ExportRun,
)
from lianxin.exchange.subscriptions import lifecycle, wire
from lianxin.exchange.subscriptions.sending import back_off
from lianxin.standards import clock
from lianxin.standards.text import T, Text

SECONDS = 60.0
_SPACE = 0x6578706F  # "expo"


class Failed(Exception):
    """A file was not taken."""

    def __init__(self, text: Text, status: int | None = None) -> None:
        super().__init__(text.en)
        self.text, self.status = text, status


def due() -> list[int]:
    """Exports that have a run to send and may be tried now."""
    now = clock.now()
    found = Export.objects.filter(active=True, partner__state=LIVE, runs__state=MADE).distinct()
    return [e.pk for e in found.order_by("failures", "pk") if e.not_before is None or e.not_before <= now]


def deliver(pk: int, stop: threading.Event | None = None) -> int:
    """Send what waits of one export, oldest run first; one sender at a time, whatever process. Returns how many runs were taken."""
    with connection.cursor() as cur:
        cur.execute("SELECT pg_try_advisory_lock(%s, %s)", [_SPACE, pk])
        if not cur.fetchone()[0]:
            return 0
        try:
            return _deliver(pk, stop)
        finally:
            cur.execute("SELECT pg_advisory_unlock(%s, %s)", [_SPACE, pk])


def _deliver(pk: int, stop: threading.Event | None) -> int:
    export = Export.objects.select_related("partner").get(pk=pk)
    taken = 0
    for run in ExportRun.objects.filter(export_id=pk, state=MADE).order_by("number"):
        if stop is not None and stop.is_set():
            break
        ExportRun.objects.filter(pk=run.pk).update(attempts=F("attempts") + 1)
        try:
            _send_run(export, run, stop)
        except Failed as failure:
            _failed(export, run, failure)
            return taken
        taken += 1
    Export.objects.filter(pk=pk).update(failures=0, not_before=None, last_error="")
    return taken


def _send_run(export: Export, run: ExportRun, stop: threading.Event | None) -> None:
    for file in ExportFile.objects.filter(run=run, taken_at=None).order_by("number"):
        if stop is not None and stop.is_set():
            raise Failed(STOPPED)
        body = body_of(file)
        if export.method == FOLDER:
            _into_folder(folder_of(export) / run.stable_id, file.name, body)
        else:
            _over_http(export, run, file, body)
        ExportFile.objects.filter(pk=file.pk).update(taken_at=clock.now())
    ExportRun.objects.filter(pk=run.pk, state=MADE).update(state=SENT, sent_at=clock.now(), error="")


def body_of(file: ExportFile) -> bytes:
    """The bytes of a file."""
    return keeping.unpacked(bytes(file.body))


def _over_http(export: Export, run: ExportRun, file: ExportFile, body: bytes) -> None:
    url = f"{export.url.rstrip('/')}/{run.stable_id}/{file.name}" if export.method == PUT else export.url
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    headers = {
        "Content-Type": file.media, "Idempotency-Key": f"{run.stable_id}/{file.number}", "X-Lianxin-Run": run.stable_id,
        "X-Lianxin-File": file.name, "Content-Digest": f"sha-256=:{digest}:",
    }  # fmt: skip
    secret = seal.unseal(export.secret)
    identity: wire.Identity | None = None
    if export.auth == BEARER:
        headers["Authorization"] = f"Bearer {secret}"
    elif export.auth == BASIC:
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    elif export.auth == MTLS:
        identity = wire.Identity(seal.blind(secret, "export-identity").hex(), lambda: context_of(secret))
    try:
        answer = wire.send(export.method, url, headers, body, SECONDS, identity=identity)
    except (ssl.SSLError, ValueError) as bad:
        raise Failed(BAD_IDENTITY.format(e=str(bad)[:200])) from None
    if answer.error is not None:
        raise Failed(answer.error, answer.status)


def context_of(pem: str) -> ssl.SSLContext:
    """A TLS context that shows the certificate of ``pem`` (certificate and key); ``ssl.SSLError`` when it is none."""
    made = ssl.create_default_context(cafile=settings.RECEIVERS_CA or None)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    handle, name = tempfile.mkstemp(
        prefix="lianxin-"
    )  # mode 0600; the library reads certificates from files only
    try:
        with os.fdopen(handle, "w") as file:
            file.write(pem)
        made.load_cert_chain(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    return made


def folder_of(export: Export) -> Path:
    """Where an export into a folder goes: below ``exports`` in LIANXIN_HOME, nowhere else."""
    base = (Path(settings.HOME) / "exports").resolve()
    wanted = (base / export.folder).resolve()
    if not wanted.is_relative_to(base) or wanted == base:
        raise Failed(OUTSIDE)
    return wanted


def _into_folder(folder: Path, name: str, body: bytes) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{name}.part"
        with part.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / name)
        where = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(where)
        finally:
            os.close(where)
    except OSError as failure:
        raise Failed(NO_FOLDER.format(e=failure.strerror or failure)) from None


def _failed(export: Export, run: ExportRun, failure: Failed) -> None:
    failures = export.failures + 1
    told = lifecycle.kept(failure.text)
    with transaction.atomic():
        ExportRun.objects.filter(pk=run.pk).update(error=told, http_status=failure.status)
        Export.objects.filter(pk=export.pk).update(
            failures=failures, not_before=clock.now() + back_off(failures), last_error=told
        )


def hold(pk: int) -> None:
    """Set a waiting run aside, so that the next ones can go."""
    ExportRun.objects.filter(pk=pk, state=MADE).update(state=HELD)


def again(pk: int) -> None:
    """Send a run once more from its first file, whatever became of it, with the same ids."""
    with transaction.atomic():
        ExportFile.objects.filter(run_id=pk).update(taken_at=None)
        ExportRun.objects.filter(pk=pk).update(state=MADE, sent_at=None, error="")
        Export.objects.filter(runs=pk).update(not_before=None)


STOPPED = T("发送进程停止，稍后继续", "The sender was stopped; it goes on later")
BAD_IDENTITY = T("客户端证书无法使用：{e}", "The client certificate cannot be used: {e}")
OUTSIDE = T("目录须在 LIANXIN_HOME 的 exports 之下。", "The folder must be below exports in LIANXIN_HOME.")
NO_FOLDER = T("写入目录失败：{e}", "The folder cannot be written: {e}")
