"""A real Orthanc behind the archive (``LIANXIN_ORTHANC_URL``): complete studies are handed to it over its REST door, and read back from it.

A file leaves our disk only when Orthanc has answered for it and gives back the same data set, byte for byte; one that it keeps otherwise
stays here. What is in quarantine is not handed on.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import logging
import tempfile
from collections.abc import Iterator
from typing import IO
from urllib.parse import unquote, urlsplit

import orjson
from django.conf import settings

from lianxin.regional.archive import header, store
from lianxin.regional.archive.models import Instance
from lianxin.regional.archive.store import Full
from lianxin.regional.archive.walk import Damaged

log = logging.getLogger(__name__)

TIMEOUT = 30.0
AT_ONCE = 200
CHUNK = 1024 * 1024


@contextlib.contextmanager
def _asked(method: str, path: str, body: object = None, size: int = 0) -> Iterator[http.client.HTTPResponse]:
    """Ask Orthanc. Raises Full when it cannot be reached or refuses."""
    where = urlsplit(settings.LIANXIN_ORTHANC_URL)
    kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
    connection = kind(where.hostname or "localhost", where.port, timeout=TIMEOUT)
    headers = {"Accept": "*/*"}
    if where.username:
        pair = f"{unquote(where.username)}:{unquote(where.password or '')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    if size:
        headers |= {"Content-Length": str(size), "Content-Type": "application/dicom"}
    try:
        connection.request(method, where.path.rstrip("/") + path, body, headers)  # type: ignore[arg-type]
        answer = connection.getresponse()
        if answer.status >= 400:
            raise Full(f"Orthanc answers {answer.status}")
        yield answer
    except (OSError, http.client.HTTPException) as error:
        raise Full(f"Orthanc: {error}") from error
    finally:
        connection.close()


@contextlib.contextmanager
def fetched(oid: str) -> Iterator[IO[bytes]]:
    """An instance's file from Orthanc, in a temporary file. Raises Full."""
    with tempfile.TemporaryFile() as file:
        with _asked("GET", f"/instances/{oid}/file") as answer:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
        file.flush()
        yield file


def put(instance: Instance) -> str | None:
    """Hand an instance to Orthanc; its id there, or None when what Orthanc gives back is not what was received. Raises Full."""
    path = store.local(instance.path)
    assert path is not None
    with path.open("rb") as file, _asked("POST", "/instances", file, path.stat().st_size) as answer:
        said = orjson.loads(answer.read(1024 * 1024))
    oid = str(said["ID"])
    with fetched(oid) as back:
        back.seek(0)
        data = back.read()
    try:
        _, at = header.meta(data, len(data))
    except Damaged:
        return None
    if hashlib.sha256(memoryview(data)[at:]).digest() != bytes(instance.hash):
        return None
    return oid


def move_on() -> int:
    """Hand complete studies' instances to Orthanc; returns how many. One that it does not keep byte for byte stays ours."""
    done = 0
    waiting = Instance.objects.filter(
        study__state="stored", study__settle_at__isnull=True, path__startswith="files/", live=True
    )
    for instance in waiting.order_by("pk")[:AT_ONCE]:
        try:
            oid = put(instance)
        except Full as error:
            log.warning("Orthanc takes nothing now: %s", error)
            return done
        path = store.local(instance.path)
        if oid is None:
            log.warning("Orthanc keeps instance %s otherwise; it stays here", instance.pk)
            Instance.objects.filter(pk=instance.pk).update(path=f"./{instance.path}")
            continue
        Instance.objects.filter(pk=instance.pk).update(path=f"orthanc:{oid}")
        if path is not None:
            path.unlink(missing_ok=True)
        done += 1
    return done
